"""Train the stages of LightGNN as one RecBole trainer: teacher, intermediate, student runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
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
from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.data.fingerprint import fingerprints, pairs_fingerprint
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.ensemble import Ensemble
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.intermediate import LightGNNIntermediate
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.models.solved import SolvedRecommender
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.registry import INTERMEDIATE, TEACHER
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import CheckpointModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer import memory
from recbole_lightgnn.trainer.evaluation import Ranked, Rankings
from recbole_lightgnn.trainer.loaders import TrainingLoaders
from recbole_lightgnn.trainer.recbole_errors import explain_recbole_errors, missing_package
from recbole_lightgnn.trainer.recbole_evaluation import has_epochs, rank_by_tables, ranked_by
from recbole_lightgnn.trainer.recbole_resume import RecBoleProgress
from recbole_lightgnn.trainer.record_rows import epochs_of, size_row
from recbole_lightgnn.trainer.training import Label, Training

_STAGE = {TEACHER: "teacher", INTERMEDIATE: "intermediate"}
# Number of a stage in the seeds of its trainings; other stages have `_FIRST_SEED`.
_SEED = {"intermediate": 2, "student": 3}
_FIRST_SEED = 1

Row = dict[str, Any]  # row of the record


class StagedTrainer(Trainer):
    """Train ``LightGNN`` or ``LightGNNIntermediate`` with their earlier stages, or a model alone.

    Each training's best epoch is chosen on validation data. Test data is used only by
    :meth:`stage_rows` and :meth:`evaluate`, after all epochs are chosen.

    Args:
        config: settings of the run. Its method ``stage`` returns the settings of an earlier stage
            (`recbole_config.extend_recbole` adds the method to RecBole's ``Config``).
        model: model of the last stage.

    Attributes:
        run_dir: path of the run folder, which :meth:`fit` creates.
        rows: one row for each finished training, in order.
        ranked: result of ranking the test split, by key of the row; empty before
            :meth:`stage_rows`.
    """

    config: RunConfig
    model: GraphRecommender

    def __init__(self, config: RunConfig, model: GraphRecommender) -> None:
        super().__init__(config, model)
        self.settings = Settings(config)
        self.folder: RunFolder | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._rankings = Rankings(config, self.device)
        # Row of each finished training, with a function that ranks a split with its best state.
        self._trained: list[tuple[Row, Callable[[Any], Ranked]]] = []
        self.ranked: dict[str, Ranked] = {}
        self._resume: tuple[Path | None] | None = None
        pattern = model.observed.interactions.pattern
        pairs = (pattern.row.cpu().numpy(), pattern.col.cpu().numpy())
        self._data = pairs_fingerprint(model.n_users, model.n_items, *pairs)

    @property
    def run_dir(self) -> Path:
        """Path of the run folder.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        return self._run_folder.path

    @property
    def _run_folder(self) -> RunFolder:
        if self.folder is None:
            raise RuntimeError("the run has no folder before fit()")
        return self.folder

    @property
    def rows(self) -> list[Row]:
        """Rows of the finished trainings, in order, without test metrics."""
        return [row for row, _ in self._trained]

    def resume(self, path: Path | None = None) -> None:
        """Let :meth:`fit` resume an interrupted run.

        Args:
            path: the run folder; by default that of the newest run with the same settings.
        """
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
        """Train every stage that the model needs.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's validation loader.
            verbose: has no effect; an argument of RecBole's.
            saved: whether the run folder stays; otherwise it is temporary.
            show_progress: whether to draw a progress bar for each epoch.
            callback_fn: function called with epoch (from 0) and score after each validation.

        Returns:
            Best validation score of the last training, and all validation metrics of that epoch.

        Raises:
            InputError: if there is no validation data, a checkpoint to start from does not fit, or
                a training step does not fit into memory.
            RuntimeError: if the trainer was fitted before.
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
        self._loaders = TrainingLoaders(train_data, repeatable=self.settings.flag("repeatable"))
        self._show_progress, self._callback = show_progress, callback_fn
        self.eval_collector.data_collect(train_data)
        if isinstance(self.model, LightGNN):
            self._fit_student(self.model)
        else:
            self._fit_alone(self.model)
        row = self.rows[-1]
        self.saved_model_file = str(self.folder.best_file(row["key"]))
        self.best_valid_result: dict[str, float] = row["valid"]
        self.best_valid_score: float = row["valid"][self.valid_metric]
        return self.best_valid_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """Evaluate the model on a split, at full precision.

        Args:
            eval_data: RecBole's loader of the split.
            load_best_model: whether to load a checkpoint first.
            model_file: the checkpoint; by default the best state of the last training.
            show_progress: has no effect; an argument of RecBole's.

        Returns:
            Metrics by name, or ``None`` if there is no data.

        Raises:
            InputError: if the checkpoint does not fit the model.
        """
        if not eval_data:
            return None
        if load_best_model:
            path = model_file or self.saved_model_file
            saved = CheckpointModel.read(path, self.config, self._data)
            saved.expect(self.config["model"], "model_file")
            saved.expect_encoding(self.config)
            saved.load_into(self.model)
        self.model.eval()
        return self._rank(self.model, eval_data).metrics

    def stage_rows(self, test_data: Any) -> list[Row]:
        """Test the best state of every training; return the rows with their test metrics.

        Args:
            test_data: RecBole's test loader.

        Returns:
            The rows in order; the last is the final model's.
        """
        self.ranked = {row["key"]: rank(test_data) for row, rank in self._trained}
        rows = [(row, self.ranked[row["key"]]) for row in self.rows]
        return [row | {"test": r.metrics, "test_seconds": r.seconds} for row, r in rows]

    # --- stages ---------------------------------------------------------------------------------

    def _fit_student(self, model: LightGNN) -> None:
        """Train the earlier stages, then the student: once unpruned, and after each pruning."""
        source = self._intermediate() if self.settings.flag("use_intermediate") else self._teacher()
        self._distill(self.config, model, source)
        last_run = self.settings.integer("n_pruning_runs")
        for run in range(last_run + 1):
            label = Label("student", run, last_run)
            self._seed(label)
            if run:
                model.prune()
            model.begin_run(run)
            self._fit(label, self.config, model)

    def _fit_alone(self, model: GraphRecommender) -> None:
        """Train a model other than the student; the intermediate model needs a teacher first."""
        name = self.settings.text("model")
        label = Label(_STAGE.get(name, name))
        if isinstance(model, LightGNNIntermediate):
            teacher = self._teacher()
            self._seed(label)
            self._distill(self.config, model, teacher)
        else:
            self._seed(label)
        self._fit(label, self.config, model)

    def _distill(self, config: RunConfig, model: LightGNNIntermediate, source: Any) -> None:
        """Set the model's teacher, and initialize from its embeddings if the settings say so."""
        teacher = FrozenTeacher(source, scale=config["teacher_scale"])
        prefix = "" if config is self.config else "intermediate_settings."
        model.distill_from(teacher, prefix=prefix)
        if config["initial_embedding"] == "teacher":
            tables = teacher.initial_embeddings()
            if tables is None:
                self.logger.warning(
                    f"{type(source).__name__} has no embeddings to begin with: using Xavier's"
                )
            else:
                model.start_from(*tables, target_std=teacher.score_std)

    def _intermediate(self) -> LightGNNIntermediate:
        """Load the intermediate model from a checkpoint, or train it after its teacher."""
        label = Label("intermediate")
        if path := self.settings.optional_text("intermediate_checkpoint"):
            loaded: LightGNNIntermediate = self._from_checkpoint(label, path, INTERMEDIATE)
            return loaded
        # Built before the teacher is trained, so that an error in the settings is raised first.
        config = self.config.stage(INTERMEDIATE, self.settings.section("intermediate_settings"))
        teacher = self._teacher()
        self._seed(label)
        model: LightGNNIntermediate = self._build(config)
        self._distill(config, model, teacher)
        self._fit(label, config, model)
        return model

    def _teacher(self) -> Any:
        """Load the teacher from a checkpoint, or train it; several teachers become an ensemble."""
        paths = self.settings.texts("teacher_checkpoint")
        last = (len(paths) or self.settings.integer("n_teachers")) - 1
        if last and not paths:
            # Raises an error before the training if the scores of such teachers cannot be added.
            Ensemble([self._build(self._teacher_config())])
        # The first teacher has no number, so that its key is the same with one teacher or several.
        labels = [Label("teacher", number or None, last) for number in range(last + 1)]
        if paths:
            name, files = self.settings.text("teacher"), zip(labels, paths, strict=True)
            members = [self._from_checkpoint(label, path, name) for label, path in files]
        else:
            members = [self._train_teacher(label) for label in labels]
        return self._ensemble(members) if last else members[0]

    def _teacher_config(self) -> RunConfig:
        teacher = self.settings.text("teacher")
        return self.config.stage(teacher, self.settings.section("teacher_settings"))

    def _ensemble(self, members: list[Any]) -> Ensemble:
        """Combine several teachers into an ensemble, and add a row for it.

        The student learns from the sum of the teachers' scores.
        """
        ensemble = Ensemble(members)
        member_rows = self.rows[-len(members) :]
        rank = partial(self._rank, ensemble)
        row: Row = {"key": "teachers", "stage": "teacher", "run": None, "model": "Ensemble"}
        row |= {key: member_rows[0][key] for key in ("interactions", "interactions_kept")}
        for key in ("entries", "parameters", "bytes"):  # earlier versions had no parameters
            row[key] = sum(member.get(key, member["entries"]) for member in member_rows)
        row |= {"entries_kept": 1.0, "seconds": 0.0, "epochs": 0, "best_epoch": 0}
        self._trained.append((row | {"valid": rank(self._valid_data).metrics}, rank))
        return ensemble

    def _train_teacher(self, label: Label) -> Any:
        self._seed(label)
        config = self._teacher_config()
        started = perf_counter()
        model = self._build(config)
        if isinstance(model, GraphRecommender):
            self._fit(label, config, model)
        else:
            self._fit_recbole(label, config, model, build_seconds=perf_counter() - started)
        return model

    # --- one training ---------------------------------------------------------------------------

    def _fit(self, label: Label, config: RunConfig, model: GraphRecommender) -> None:
        """Train one of our models; if an earlier process did, only load the best state."""
        folder = self._run_folder
        path = folder.best_file(label.key)
        row = folder.row(label.key)
        if row is not None:
            model.load_state_dict(checkpoint.load(path)[0])
        else:
            self.logger.info(set_color(f"{label}: {_size_text(model.sizes())}", "green"))
            result = self._training(label, config, model).fit(
                self._loaders.of(config, self._seed_of(label))
            )
            row = self._row(label, config, model, result)
            folder.finish(row)

        def rank(data: Any) -> Ranked:
            model.load_state_dict(checkpoint.load(path)[0])
            model.eval()
            return self._rank(model, data)

        self._trained.append((row, rank))

    def _training(self, label: Label, config: RunConfig, model: GraphRecommender) -> Training:
        return Training(
            config,
            model,
            label,
            self._run_folder,
            self._optimizer(config, model),
            lambda model: self._rank(model, self._valid_data).metrics,
            meta=self._meta(label, config),
            tensorboard=self.tensorboard,
            show_progress=self._show_progress,
            callback=self._callback,
        )

    def _fit_recbole(
        self, label: Label, config: RunConfig, model: Any, *, build_seconds: float
    ) -> None:
        """Train one of RecBole's models; if an earlier process did, only load the best state."""
        folder, best = self._run_folder, has_epochs(config)
        trainer = self._recbole_trainer(config, model)
        trainer.saved_model_file = str(self.run_dir / f"{label.key}.pth")
        row = folder.row(label.key)
        if row is None:
            loader = self._loaders.of(config, self._seed_of(label))
            progress = RecBoleProgress(
                trainer, loader, folder, label.key, build_seconds=build_seconds
            )
            with explain_recbole_errors(config, prefix="teacher_settings."):
                trainer.fit(
                    loader,
                    self._valid_data,
                    show_progress=self._show_progress,
                    callback_fn=progress.validated,
                )
            seconds = progress.seconds
            valid = _floats(trainer.evaluate(self._valid_data, load_best_model=best))
            result = epochs_of(trainer) | {"seconds": seconds, "valid": valid}
            row = self._row(label, config, model, result | {"curve": progress.curve})
            folder.finish(row)
            progress.clear()
        else:
            trainer.evaluate(self._valid_data, load_best_model=True)
        self._trained.append((row, partial(ranked_by, trainer)))

    def _from_checkpoint(self, label: Label, path: str, expected: str) -> Any:
        """Rebuild a model from an earlier run's checkpoint, with the settings in the checkpoint."""
        saved = CheckpointModel.read(path, self.config, self._data)
        saved.expect(expected, f"{label.stage}_checkpoint")
        config = self.config.stage(saved.model, {})
        for key, value in saved.settings.items():
            config[key] = value
        model = self._build(config)
        saved.load_into(model)
        model.eval()
        rank: Callable[[Any], Ranked]
        if isinstance(model, GraphRecommender):
            rank = partial(self._rank, model)
        else:
            rank = partial(ranked_by, self._recbole_trainer(config, model))
        result: dict[str, Any] = {"epochs": 0, "best_epoch": saved.epoch, "seconds": 0.0}
        result |= {"valid": rank(self._valid_data).metrics, "checkpoint": path}
        self._trained.append((self._row(label, config, model, result), rank))
        return model

    def _recbole_trainer(self, config: RunConfig, model: Any) -> Any:
        """Return RecBole's own trainer of one of its models, to train or to evaluate it."""
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        rank_by_tables(trainer, prefix="teacher_settings.")
        trainer.eval_collector.data_collect(self._train_data)
        return trainer

    def _row(self, label: Label, config: RunConfig, model: Any, result: Mapping[str, Any]) -> Row:
        """Make a row of the record: name, settings, size and result of a training."""
        row: Row = {
            "key": label.key,
            "stage": label.stage,
            "run": label.run,
            "model": config["model"],
        }
        if config is not self.config:  # the record has the settings of the run itself
            row["settings"] = model_settings(config)
        return row | size_row(model, self._train_data._dataset.inter_num) | dict(result)

    def _rank(self, model: Any, data: Any) -> Ranked:
        """Rank a split with a model's current weights, by `FullRanking` or RecBole's evaluator."""
        ranking, started = self._rankings.of(data), perf_counter()
        if ranking is not None and (tables := final_tables(model)) is not None:
            metrics, hits = ranking.rank(*tables)
            return Ranked(metrics, hits, perf_counter() - started)
        last_model, self.model = self.model, model
        try:
            metrics = _floats(super().evaluate(data, load_best_model=False))
            return Ranked(metrics, None, perf_counter() - started)
        finally:
            self.model = last_model

    # --- small parts ----------------------------------------------------------------------------

    def _build(self, config: RunConfig) -> Any:
        """Build an untrained model on the run's device; accelerate it if ``accelerate`` is set."""
        try:
            model = get_model(config["model"])(config, self._train_data._dataset)
        except ModuleNotFoundError as error:
            raise missing_package(config, error) from error
        if config["accelerate"]:
            accelerate_model(model)
        return model.to(self.device)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """Build RecBole's optimizer, also for a solved model, which has no parameters."""
        params = list(kwargs.pop("params", self.model.parameters()))
        return super()._build_optimizer(params=params or [torch.zeros(1)], **kwargs)

    def _optimizer(self, config: RunConfig, model: GraphRecommender) -> Any:
        optimizer = self._build_optimizer(
            params=model.parameters(),
            learner=config["learner"],
            learning_rate=config["learning_rate"],
            weight_decay=config["weight_decay"],
        )
        if type(optimizer) is not torch.optim.Adam or isinstance(model, SolvedRecommender):
            return optimizer
        # The same steps in one pass over each table; torch's default takes several passes.
        return torch.optim.Adam(
            model.parameters(),
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )

    def _seed(self, label: Label) -> None:
        init_seed(self._seed_of(label), self.config["reproducibility"])

    def _seed_of(self, label: Label) -> int:
        """Derive the seed of a training from the run's seed, the stage and the run number."""
        stage = _SEED.get(label.stage, _FIRST_SEED)
        key = [self.settings.integer("seed"), stage, label.run or 0]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def _meta(self, label: Label, config: RunConfig) -> dict[str, Any]:
        """Make the metadata of a training's checkpoints."""
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
        """Open the folder to resume, or create a new one: a temporary one unless ``saved``."""
        data = fingerprints(train_data, valid_data)
        if self._resume is not None:
            return RunFolder.reopen(self.config, data, *self._resume)
        base = self.config["checkpoint_dir"]
        if not saved:
            self._temporary = TemporaryDirectory(prefix="lightgnn-")
            base = self._temporary.name
        return RunFolder.create(Path(base), self.config, data)


def _floats(metrics: Mapping[str, Any]) -> OrderedDict[str, float]:
    """Convert metrics to Python's floats: JSON cannot hold RecBole's GAUC, a NumPy number."""
    return OrderedDict((name, float(value)) for name, value in metrics.items())


def _size_text(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{sizes[name]:,} {name}" for name in ("interactions", "entries", "bytes"))
