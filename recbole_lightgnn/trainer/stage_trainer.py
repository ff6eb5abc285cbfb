"""Build, train, load and evaluate the model of one stage of a run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed, set_color

from recbole_lightgnn.config.settings_diff import model_settings, shared_settings
from recbole_lightgnn.config.teachers import searches_teachers
from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.data.fingerprint import pairs_fingerprint
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.models.solved import SolvedRecommender
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import CheckpointModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.evaluation import Ranked, Rankings
from recbole_lightgnn.trainer.loaders import TrainingLoaders
from recbole_lightgnn.trainer.recbole_errors import explain_recbole_errors, missing_package
from recbole_lightgnn.trainer.recbole_evaluation import (
    EvaluatorHits,
    has_epochs,
    rank_by_tables,
    ranked_by,
)
from recbole_lightgnn.trainer.recbole_needs import check_precision
from recbole_lightgnn.trainer.recbole_resume import RecBoleProgress
from recbole_lightgnn.trainer.record_rows import epochs_of, size_row
from recbole_lightgnn.trainer.training import Label, Training

# Number of a stage in the seeds of its trainings; other stages have `_FIRST_SEED`.
_SEED = {"intermediate": 2, "student": 3}
_FIRST_SEED = 1

Row = dict[str, Any]  # row of the record


class StageTrainer(Trainer):
    """Train one stage at a time: our models by `Training`, RecBole's models by RecBole's trainers.

    Args:
        config: settings of the run.
        model: model of the last stage.

    Attributes:
        rows: one row (name, settings, sizes, validation) for each finished training, in order.
    """

    config: RunConfig
    model: GraphRecommender

    def __init__(self, config: RunConfig, model: GraphRecommender) -> None:
        super().__init__(config, model)
        self.settings = Settings(config)
        self.folder: RunFolder | None = None
        self._rankings = Rankings(config, self.device)
        self._hits = EvaluatorHits(self.evaluator)
        # Row of each finished training, and function that ranks a split with its best epoch.
        self._trained: list[tuple[Row, Callable[[Any], Ranked]]] = []
        # By key, rows of an earlier fit, of which this one takes the epochs (`StagedTrainer.refit`)
        self._chosen: dict[str, Row] = {}
        pattern = model.observed.interactions.pattern
        pairs = (pattern.row.cpu().numpy(), pattern.col.cpu().numpy())
        self._data = pairs_fingerprint(model.n_users, model.n_items, *pairs)

    @property
    def _run_folder(self) -> RunFolder:
        if self.folder is None:
            raise RuntimeError("the run has no folder before fit()")
        return self.folder

    @property
    def rows(self) -> list[Row]:
        """One row of the record for each finished training, without test metrics."""
        return [row for row, _ in self._trained]

    def _open(
        self,
        folder: RunFolder,
        train_data: Any,
        valid_data: Any,
        show_progress: bool,
        callback: Callable[[int, float], None] | None,
    ) -> None:
        """Set the run folder, data, progress bars and callback for all stages."""
        self.folder = folder
        self._train_data, self._valid_data = train_data, valid_data
        self._loaders = TrainingLoaders(train_data, repeatable=self.settings.flag("repeatable"))
        self._show_progress, self._callback = show_progress, callback
        self.eval_collector.data_collect(train_data)

    # --- one training ---------------------------------------------------------------------------

    def _fit(self, label: Label, config: RunConfig, model: GraphRecommender) -> None:
        """Train one of our models, or load the best checkpoint of a finished training."""
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

    def _training(
        self, label: Label, config: RunConfig, model: GraphRecommender, data: Any = None
    ) -> Training:
        """Prepare a training, with validation on ``data``, by default the whole validation."""
        chosen = self._chosen.get(label.key)
        return Training(
            config,
            model,
            label,
            self._run_folder,
            self._optimizer(config, model),
            None if chosen else partial(self.validation, data=data),
            last_epoch=chosen["best_epoch"] if chosen else None,
            planned_epochs=chosen.get("planned_epochs") if chosen else None,
            meta=self._meta(label, config),
            tensorboard=self.tensorboard,
            show_progress=self._show_progress,
            callback=self._callback,
        )

    def validation(self, model: Any, data: Any = None) -> dict[str, float]:
        """Compute the metrics of a model with its present weights, on validation by default."""
        return self._rank(model, self._valid_data if data is None else data).metrics

    def _fit_recbole(
        self, label: Label, config: RunConfig, model: Any, *, build_seconds: float
    ) -> None:
        """Train a RecBole model, or load the best checkpoint of a finished training."""
        folder, best = self._run_folder, has_epochs(config)
        trainer = self._recbole_trainer(config, model)
        trainer.saved_model_file = str(folder.path / f"{label.key}.pth")
        row = folder.row(label.key)
        if row is None:
            chosen = self._chosen.get(label.key)
            if chosen and best:
                trainer.epochs = chosen["best_epoch"]
            loader = self._loaders.of(config, self._seed_of(label))
            progress = RecBoleProgress(
                trainer, loader, folder, label.key, build_seconds=build_seconds
            )
            with explain_recbole_errors(config, prefix="teacher_settings."):
                trainer.fit(
                    loader,
                    None if chosen else self._valid_data,
                    show_progress=self._show_progress,
                    callback_fn=progress.validated,
                )
            seconds = progress.seconds
            valid = {} if chosen else trainer.evaluate(self._valid_data, load_best_model=best)
            result = epochs_of(trainer) | {"seconds": seconds, "valid": _floats(valid)}
            row = self._row(label, config, model, result | {"curve": progress.curve})
            folder.finish(row)
            progress.clear()
        else:
            trainer.evaluate(self._valid_data, load_best_model=True)
        self._trained.append((row, partial(ranked_by, trainer)))

    def _from_checkpoint(self, label: Label, path: str, expected: str) -> Any:
        """Rebuild a model from an earlier run's checkpoint, with the checkpoint's settings."""
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
        """Build RecBole's own trainer, to train or evaluate a RecBole model."""
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        rank_by_tables(trainer, prefix="teacher_settings.")
        trainer.eval_collector.data_collect(self._train_data)
        return trainer

    def _row(self, label: Label, config: RunConfig, model: Any, result: Mapping[str, Any]) -> Row:
        """Make a training's row of the record: name, settings, sizes and validation metrics."""
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
        """Rank a split by a model's current weights."""
        ranking, started = self._rankings.of(data), perf_counter()
        if ranking is not None and (tables := final_tables(model)) is not None:
            metrics, hits = ranking.rank(*tables)
            return Ranked(metrics, hits, perf_counter() - started)
        self._check_list(model, data)
        last_model, self.model = self.model, model
        try:
            metrics = _floats(super().evaluate(data, load_best_model=False))
            return Ranked(metrics, self._hits.of(data), perf_counter() - started)
        finally:
            self.model = last_model

    def _check_list(self, model: Any, data: Any) -> None:
        """Raise InputError if RecBole's evaluator must rank more items than there are."""
        by_tables = getattr(model, "ranks_by_tables", False)
        n_items, longest = data._dataset.item_num - 1, max(self.config["topk"])
        if longest > n_items and not (by_tables and self._rankings.of(data)):
            raise InputError(
                f"topk is {longest}, but {self.config['dataset']!r} has only {n_items} items; "
                f"{self.config['model']} cannot rank more items than there are: lower topk"
            )

    # --- small parts ----------------------------------------------------------------------------

    def _build(self, config: RunConfig) -> Any:
        """Build an untrained model on the run's device; speed it up if ``accelerate`` is set."""
        check_precision(config, "teacher_settings.")
        try:
            model = get_model(config["model"])(config, self._train_data._dataset)
        except ModuleNotFoundError as error:
            raise missing_package(config, error) from error
        if config["accelerate"]:
            accelerate_model(model)
        return model.to(self.device)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """Build RecBole's optimizer, also for a `SolvedRecommender` without parameters."""
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
        # The same steps in one pass over each table instead of several.
        return torch.optim.Adam(
            model.parameters(),
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )

    def _seed(self, label: Label) -> None:
        init_seed(self._seed_of(label), self.config["reproducibility"])

    def _seed_of(self, label: Label) -> int:
        """Derive a training's random seed from the setting ``seed`` and its label."""
        stage, number = _SEED.get(label.stage, _FIRST_SEED), label.run or 0
        # Different teachers have one seed, so that a search trains them as a run that lists them.
        different = self.settings.get("teachers") or searches_teachers(self.settings)
        if label.stage == "trial" or (label.stage == "teacher" and different):
            number = 0
        key = [self.settings.integer("seed"), stage, number]
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


def _floats(metrics: Mapping[str, Any]) -> OrderedDict[str, float]:
    """Convert metrics to Python floats, because JSON cannot hold NumPy's (RecBole's GAUC)."""
    return OrderedDict((name, float(value)) for name, value in metrics.items())


def _size_text(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{sizes[name]:,} {name}" for name in ("interactions", "entries", "bytes"))
