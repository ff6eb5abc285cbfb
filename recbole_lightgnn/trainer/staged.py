"""The stages of LightGNN as one RecBole trainer: teacher, intermediate, student run by run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed, set_color

from recbole_lightgnn.config.settings_diff import model_settings, shared_settings
from recbole_lightgnn.data.fingerprint import fingerprints, pairs_fingerprint
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.ensemble import Ensemble
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.intermediate import LightGNNIntermediate
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import StoredModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer import memory
from recbole_lightgnn.trainer.evaluation import Ranked, Rankings
from recbole_lightgnn.trainer.loaders import TrainingLoaders
from recbole_lightgnn.trainer.recbole_evaluation import has_epochs, rank_by_tables, ranked_by
from recbole_lightgnn.trainer.recbole_resume import StockProgress
from recbole_lightgnn.trainer.record_rows import epochs_of, size_row
from recbole_lightgnn.trainer.training import Label, Training, stock_errors_explained

_STAGE = {"LightGNNTeacher": "teacher", "LightGNNIntermediate": "intermediate"}
_SEED = {"intermediate": 2, "student": 3}  # each training draws numbers of its own
_FIRST_SEED = 1  # of a teacher, or a model trained alone


class StagedTrainer(Trainer):
    """Trains ``LightGNN`` or ``LightGNNIntermediate`` with its earlier stages; other models alone.

    Validation alone chooses the epoch of every training. Test data is seen by
    :meth:`stage_rows` and :meth:`evaluate` only, after everything has been chosen.

    Args:
        config: the run's settings; its method ``stage`` gives those of an earlier stage
            (`recbole_lightgnn.config.recbole_config` puts it onto RecBole's ``Config``).
        model: the last stage's model.

    Attributes:
        run_dir: folder of the run, from :meth:`fit` on.
        rows: one a finished training, in order.
        ranked: by the key of its row, what its test ranking came to; from :meth:`stage_rows` on.
    """

    def __init__(self, config: Any, model: GraphRecommender) -> None:
        super().__init__(config, model)
        self.folder: RunFolder | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._rankings = Rankings(config, self.device)
        # A row each, and what measures the state that the row is of.
        self._trained: list[tuple[dict[str, Any], Callable[[Any], Ranked]]] = []
        self.ranked: dict[str, Ranked] = {}
        self._resume: tuple[Path | None] | None = None
        pattern = model.observed.interactions.pattern
        pairs = (pattern.row.cpu().numpy(), pattern.col.cpu().numpy())
        self._data = pairs_fingerprint(model.n_users, model.n_items, *pairs)

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        if self.folder is None:
            raise RuntimeError("the run has no folder before fit()")
        return self.folder.path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What every finished training came to."""
        return [row for row, _ in self._trained]

    def resume(self, path: Path | None = None) -> None:
        """Let :meth:`fit` go on with an interrupted run: this folder, or the newest that fits."""
        self._resume = (path,)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Train every stage that the model needs; arguments as RecBole's.

        Returns:
            The last training's best validation score and metrics.

        Raises:
            InputError: without validation data, by which every choice is made, or if a
                checkpoint to start from or a training step does not fit.
        """
        if self.folder is not None:
            raise RuntimeError("a trainer fits once: build the model and its trainer anew")
        if not valid_data:
            raise InputError(
                "no validation data: every stage is chosen on it; set eval_args.split so that "
                "the middle part is not empty"
            )
        memory.check_training(self.config, self.model)
        self.folder = self._open_folder(train_data, valid_data, saved)
        self._train_data, self._valid_data = train_data, valid_data
        self._loaders = TrainingLoaders(train_data, repeatable=self.config["repeatable"])
        self._show_progress, self._callback = show_progress, callback_fn
        self.eval_collector.data_collect(train_data)
        if isinstance(self.model, LightGNN):
            self._fit_student(self.model)
        else:
            label = Label(_STAGE.get(self.config["model"], self.config["model"]))
            learns = isinstance(self.model, LightGNNIntermediate)
            teacher = self._teacher() if learns else None
            self._seed(label)
            if learns:
                self._distill(self.config, self.model, teacher)
            self._fit(label, self.config, self.model)
        row = self.rows[-1]
        self.saved_model_file = str(self.folder.best_file(row["key"]))
        self.best_valid_result = row["valid"]
        self.best_valid_score = row["valid"][self.valid_metric]
        return self.best_valid_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> OrderedDict[str, float] | None:
        """Metrics of the model at full precision; arguments as RecBole's."""
        if not eval_data:
            return None
        if load_best_model:
            path = model_file or self.saved_model_file
            stored = StoredModel.read(path, self.config, self._data)
            stored.expect(self.config["model"], "model_file")
            stored.expect_encoding(self.config)
            stored.load_into(self.model)
        self.model.eval()
        return self._rank(self.model, eval_data).metrics

    def stage_rows(self, test_data: Any) -> list[dict[str, Any]]:
        """The rows with the test metrics of what validation chose; the last is the final model."""
        self.ranked = {row["key"]: measure(test_data) for row, measure in self._trained}
        rows = [(row, self.ranked[row["key"]]) for row in self.rows]
        return [row | {"test": one.metrics, "test_seconds": one.seconds} for row, one in rows]

    # --- stages ---------------------------------------------------------------------------------

    def _fit_student(self, model: LightGNN) -> None:
        source = self._intermediate() if self.config["use_intermediate"] else self._teacher()
        self._distill(self.config, model, source)
        last_run = self.config["n_pruning_runs"]
        for run in range(last_run + 1):
            label = Label("student", run, last_run)
            self._seed(label)
            if run:
                model.prune()
            model.begin_run(run)
            self._fit(label, self.config, model)

    def _distill(self, config: Any, model: LightGNNIntermediate, source: Any) -> None:
        """Make ``source`` the model to learn from, and to begin with where that is asked for."""
        frozen = FrozenTeacher(source, scale=config["teacher_scale"])
        prefix = "" if config is self.config else "intermediate_settings."
        model.distill_from(frozen, prefix=prefix)
        if config["initial_embedding"] == "teacher":
            tables = frozen.initial_embeddings()
            if tables is None:
                self.logger.warning(
                    f"{type(source).__name__} has no embeddings to begin with: using Xavier's"
                )
            else:
                model.start_from(*tables, target_std=frozen.score_std)

    def _intermediate(self) -> LightGNNIntermediate:
        """The trained intermediate, from a checkpoint or trained here after its teacher."""
        label = Label("intermediate")
        if path := self.config["intermediate_checkpoint"]:
            return self._from_checkpoint(label, path, "LightGNNIntermediate")
        # first, so that what is wrong with it is said before the teacher is trained
        config = self.config.stage("LightGNNIntermediate", self.config["intermediate_settings"])
        teacher = self._teacher()
        self._seed(label)
        model = self._build(config)
        self._distill(config, model, teacher)
        self._fit(label, config, model)
        return model

    def _teacher(self) -> Any:
        """The trained teacher: from checkpoints, or general recommenders trained here."""
        paths = self.config["teacher_checkpoint"]
        paths = [paths] if isinstance(paths, str) else paths
        last = len(paths or range(self.config["n_teachers"])) - 1
        if last and not paths:
            # refuses, before any is trained, a model that cannot be added to others
            stage = self.config.stage(self.config["teacher"], self.config["teacher_settings"])
            Ensemble([self._build(stage)])
        # the first is as where there is one
        labels = [Label("teacher", k or None, last) for k in range(last + 1)]
        if paths:
            name, named = self.config["teacher"], zip(labels, paths, strict=True)
            members = [self._from_checkpoint(label, path, name) for label, path in named]
        else:
            members = [self._train_teacher(label) for label in labels]
        return self._added(members) if last else members[0]

    def _added(self, members: list[Any]) -> Ensemble:
        """Several teachers as one, which has a row of its own: it is what the student sees."""
        ensemble = Ensemble(members)
        of_members = self.rows[-len(members) :]
        measure = partial(self._rank, ensemble)
        row = {"key": "teachers", "stage": "teacher", "run": None, "model": "Ensemble"}
        row |= {key: of_members[0][key] for key in ("interactions", "interactions_kept")}
        for key in ("entries", "parameters", "bytes"):  # an older version's have no parameters
            row[key] = sum(one.get(key, one["entries"]) for one in of_members)
        row |= {"entries_kept": 1.0, "seconds": 0.0, "epochs": 0, "best_epoch": 0}
        self._trained.append((row | {"valid": measure(self._valid_data).metrics}, measure))
        return ensemble

    def _train_teacher(self, label: Label) -> Any:
        self._seed(label)
        config = self.config.stage(self.config["teacher"], self.config["teacher_settings"])
        started = perf_counter()
        model = self._build(config)
        if isinstance(model, GraphRecommender):
            self._fit(label, config, model)
        else:
            self._fit_stock(label, config, model, built=perf_counter() - started)
        return model

    # --- one training ---------------------------------------------------------------------------

    def _fit(self, label: Label, config: Any, model: GraphRecommender) -> None:
        """Train, or load what an earlier process finished."""
        path = self.folder.best_file(label.key)
        row = self.folder.row(label.key)
        if row is not None:
            model.load_state_dict(checkpoint.load(path)[0])
        else:
            self.logger.info(set_color(f"{label}: {_size_text(model.sizes())}", "green"))
            training = Training(
                config,
                model,
                label,
                self.folder,
                self._optimizer(config, model),
                lambda model: self._rank(model, self._valid_data).metrics,
                meta=self._meta(label, config),
                tensorboard=self.tensorboard,
                show_progress=self._show_progress,
                callback=self._callback,
            )
            row = self._row(
                label, config, model, training.fit(self._loaders.of(config, self._seed_of(label)))
            )
            self.folder.finish(row)

        def measure(data: Any) -> Ranked:
            model.load_state_dict(checkpoint.load(path)[0])
            model.eval()
            return self._rank(model, data)

        self._trained.append((row, measure))

    def _fit_stock(self, label: Label, config: Any, model: Any, *, built: float) -> None:
        """Train one of RecBole's own models as RecBole does."""
        trainer = self._stock_trainer(config, model)
        trainer.saved_model_file = str(self.run_dir / f"{label.key}.pth")
        row = self.folder.row(label.key)
        if row is None:
            loader = self._loaders.of(config, self._seed_of(label))
            progress = StockProgress(trainer, loader, self.folder, label.key, built=built)
            with stock_errors_explained(config, prefix="teacher_settings."):
                trainer.fit(
                    loader,
                    self._valid_data,
                    show_progress=self._show_progress,
                    callback_fn=progress.validated,
                )
            seconds = progress.seconds
            best = has_epochs(config)
            valid = _floats(trainer.evaluate(self._valid_data, load_best_model=best))
            result = epochs_of(trainer) | {"seconds": seconds, "valid": valid}
            result |= {"curve": progress.curve}
            row = self._row(label, config, model, result)
            self.folder.finish(row)
            progress.clear()
        else:
            trainer.evaluate(self._valid_data, load_best_model=True)
        self._trained.append((row, partial(ranked_by, trainer)))

    def _from_checkpoint(self, label: Label, path: str, expected: str) -> Any:
        """The model of an earlier run's checkpoint, rebuilt with the settings it names."""
        stored = StoredModel.read(path, self.config, self._data)
        stored.expect(expected, f"{label.stage}_checkpoint")
        config = self.config.stage(stored.model, {})
        for key, value in stored.settings.items():
            config[key] = value
        model = self._build(config)
        stored.load_into(model)
        model.eval()
        if isinstance(model, GraphRecommender):
            measure = partial(self._rank, model)
        else:
            measure = partial(ranked_by, self._stock_trainer(config, model))
        result = {"epochs": 0, "best_epoch": stored.epoch, "seconds": 0.0}
        result |= {"valid": measure(self._valid_data).metrics, "checkpoint": path}
        self._trained.append((self._row(label, config, model, result), measure))
        return model

    def _stock_trainer(self, config: Any, model: Any) -> Trainer:
        """RecBole's own trainer of one of its models, which also evaluates it."""
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        rank_by_tables(trainer, prefix="teacher_settings.")
        trainer.eval_collector.data_collect(self._train_data)
        return trainer

    def _row(self, label: Label, config: Any, model: Any, result: dict[str, Any]) -> dict[str, Any]:
        """One line of the record: what was trained, how, what it holds and what it reached."""
        row = {"key": label.key, "stage": label.stage, "run": label.run, "model": config["model"]}
        if config is not self.config:  # the record has the run's own
            row["settings"] = model_settings(config)
        return row | size_row(model, self._train_data._dataset.inter_num) | result

    def _rank(self, model: Any, data: Any) -> Ranked:
        ranking, started = self._rankings.of(data), perf_counter()
        if ranking is not None:
            metrics, hits = ranking.rank(*model.final_embeddings())
            return Ranked(metrics, hits, perf_counter() - started)
        own, self.model = self.model, model
        try:
            metrics = _floats(super().evaluate(data, load_best_model=False))
            return Ranked(metrics, None, perf_counter() - started)
        finally:
            self.model = own

    # --- small parts ----------------------------------------------------------------------------

    def _build(self, config: Any) -> Any:
        try:
            model = get_model(config["model"])(config, self._train_data._dataset)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{config['model']} needs the package {error.name!r}, which is not installed"
            ) from error
        if config["accelerate"]:
            accelerate_model(model)
        return model.to(self.device)

    def _optimizer(self, config: Any, model: GraphRecommender) -> Any:
        optimizer = self._build_optimizer(
            params=model.parameters(),
            learner=config["learner"],
            learning_rate=config["learning_rate"],
            weight_decay=config["weight_decay"],
        )
        if type(optimizer) is not torch.optim.Adam:
            return optimizer
        # The same steps in one pass over each table, where torch's default takes several.
        return torch.optim.Adam(
            model.parameters(),
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )

    def _seed(self, label: Label) -> None:
        init_seed(self._seed_of(label), self.config["reproducibility"])

    def _seed_of(self, label: Label) -> int:
        """A seed of the training's own, far from those of other trainings and other seeds."""
        key = [self.config["seed"], _SEED.get(label.stage, _FIRST_SEED), label.run or 0]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def _meta(self, label: Label, config: Any) -> dict[str, Any]:
        return {
            "stage": label.stage,
            "run": label.run,
            "model": config["model"],
            "dataset": config["dataset"],
            "data": self._data,
            "data_path": config["data_path"],
            "settings": model_settings(config),
            "shared_settings": shared_settings(config),
        }

    def _open_folder(self, train_data: Any, valid_data: Any, saved: bool) -> RunFolder:
        data = fingerprints(train_data, valid_data)
        if self._resume is not None:
            return RunFolder.reopen(self.config, data, *self._resume)
        base = self.config["checkpoint_dir"]
        if not saved:
            self._temporary = TemporaryDirectory(prefix="lightgnn-")
            base = self._temporary.name
        return RunFolder.create(Path(base), self.config, data)


def _floats(metrics: dict[str, Any]) -> OrderedDict[str, float]:
    """RecBole's GAUC is a NumPy number, which JSON does not know."""
    return OrderedDict((name, float(value)) for name, value in metrics.items())


def _size_text(sizes: dict[str, float]) -> str:
    return ", ".join(f"{sizes[name]:,} {name}" for name in ("interactions", "entries", "bytes"))
