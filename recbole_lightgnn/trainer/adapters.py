"""One interface to train and test a model, with adapters for our models and for RecBole's."""

from __future__ import annotations

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.drawing import apply_draw_by
from recbole_lightgnn.data.fingerprint import fingerprints
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.evaluation import Ranked
from recbole_lightgnn.trainer.recbole_errors import explain_recbole_errors
from recbole_lightgnn.trainer.recbole_evaluation import has_epochs, rank_by_tables, ranked_by
from recbole_lightgnn.trainer.recbole_needs import check_fields, check_labels, check_size
from recbole_lightgnn.trainer.recbole_resume import RESUMABLE, RecBoleProgress, can_resume
from recbole_lightgnn.trainer.recbole_stages import pretrained
from recbole_lightgnn.trainer.recbole_trees import clear, prepare
from recbole_lightgnn.trainer.record_rows import epochs_of, refit_row, size_row

AfterValidation = Callable[[int, float], None]  # called with epoch (from 1) and validation score


class ModelTraining(ABC):
    """Interface to train and test the model of a run.

    Call :meth:`fit`, :meth:`test` and, once the record is written, :meth:`clear`.

    Args:
        config: settings of the run.
        train_data: RecBole's loader of training batches.

    Attributes:
        trainer: trainer of the model.
    """

    def __init__(self, config: RunConfig, train_data: Any) -> None:
        self.config, self.train_data = config, train_data
        self.trainer = build_trainer(config, train_data)

    @classmethod
    @abstractmethod
    def check_resumable(cls, config: RunConfig) -> None:
        """Raise InputError if a run with these settings cannot be resumed after an interruption."""

    @abstractmethod
    def fit(
        self,
        valid_data: Any,
        *,
        saved: bool,
        resume: Path | bool = False,
        after_validation: AfterValidation | None = None,
    ) -> dict[str, float]:
        """Train the model; return the validation metrics of the best epoch.

        Args:
            valid_data: RecBole's validation loader.
            saved: whether to keep on disk the best checkpoint and the state that a resume needs.
            resume: folder of the run to resume, or True for the newest run with the same settings.
            after_validation: function called after each validation, with epoch and score.

        Raises:
            InputError: if the run to resume does not exist or has other settings or data, or if the
                training diverges.
        """

    @abstractmethod
    def test(self, test_data: Any) -> tuple[list[dict[str, Any]], dict[str, Ranked]]:
        """Rank the items of the test split with each trained model, at the model's best epoch.

        Returns:
            First, one row of the record for each trained model; the last row is the final model's.
            Second, each model's ranking, by the ``key`` of the model's row.
        """

    @abstractmethod
    def refit(self, train_data: Any, valid_data: Any) -> ModelTraining:
        """Train a new model on more interactions, for the number of epochs that :meth:`fit` chose.

        Args:
            train_data: RecBole's loader of batches of train and validation interactions.
            valid_data: RecBole's validation loader; at most the hash of its interactions is used.

        Returns:
            The new training, to test and record instead of this one.
        """

    @property
    @abstractmethod
    def run_dir(self) -> Path | None:
        """Folder to resume the run from, or ``None`` if none was created."""

    @abstractmethod
    def record_file(self) -> Path:
        """Return the default path of the run's JSON record."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the files that only a resumed run would need."""


class OurTraining(ModelTraining):
    """Train one of this package's models by `StagedTrainer`."""

    @classmethod
    def check_resumable(cls, config: RunConfig) -> None:
        """Accept every run: all our models can be resumed."""

    def fit(
        self,
        valid_data: Any,
        *,
        saved: bool,
        resume: Path | bool = False,
        after_validation: AfterValidation | None = None,
    ) -> dict[str, float]:
        """Train every stage; see `ModelTraining.fit`."""
        if resume:
            self.trainer.resume(resume if isinstance(resume, Path) else None)

        def callback(index: int, score: float) -> None:
            if after_validation:
                after_validation(index + 1, float(score))

        _, valid = self.trainer.fit(
            self.train_data,
            valid_data,
            saved=saved,
            show_progress=self.config["show_progress"],
            callback_fn=callback,
        )
        metrics: dict[str, float] = valid
        return metrics

    def test(self, test_data: Any) -> tuple[list[dict[str, Any]], dict[str, Ranked]]:
        """Test every stage and pruning run; see `ModelTraining.test`."""
        rows = self.trainer.stage_rows(test_data)
        return rows, self.trainer.ranked

    def refit(self, train_data: Any, valid_data: Any) -> OurTraining:
        """Train every stage again; see `ModelTraining.refit`."""
        again = OurTraining(self.config, train_data)
        show_progress = self.config["show_progress"]
        again.trainer.refit(train_data, valid_data, self.trainer, show_progress=show_progress)
        return again

    @property
    def run_dir(self) -> Path | None:
        """The run folder; ``None`` before :meth:`fit`."""
        folder: RunFolder | None = self.trainer.folder
        return folder.path if folder else None

    def record_file(self) -> Path:
        """Return ``record.json`` in the run folder."""
        return Path(self.trainer.run_dir) / "record.json"

    def clear(self) -> None:
        """Remove nothing: the run folder stays."""


class RecBoleTraining(ModelTraining):
    """Train one of RecBole's own models by RecBole's trainer.

    The constructors of EASE and ItemKNN do the training, so the training time includes them.
    """

    def __init__(self, config: RunConfig, train_data: Any) -> None:
        started = time.perf_counter()
        check_size(config, train_data._dataset.item_num - 1)
        check_labels(config, train_data._dataset)
        check_fields(config, train_data._dataset)
        apply_draw_by(config, train_data)
        last_stage = pretrained(config, train_data, build_trainer)
        super().__init__(last_stage, train_data)
        self._made = last_stage["pre_model_path"] if last_stage is not config else None
        trainer = self.trainer
        # RecBole's file name has the time in seconds, which two runs could share.
        file = Path(trainer.saved_model_file)
        trainer.saved_model_file = str(file.with_stem(f"{file.stem}-{os.getpid()}"))
        prepare(trainer)
        rank_by_tables(trainer)
        self._build_seconds = time.perf_counter() - started
        self._progress: RecBoleProgress | None = None
        self._result: dict[str, Any] = {}
        self._chosen: dict[str, Any] = {}  # what an earlier training chose, see `refit`

    @classmethod
    def check_resumable(cls, config: RunConfig) -> None:
        """Check that the model is in `RESUMABLE`; see `ModelTraining.check_resumable`."""
        if not can_resume(config):
            raise InputError(
                f"{config['model']} is RecBole's own and cannot be resumed (these can, without "
                f"worker processes: {', '.join(RESUMABLE)}); run it again from start"
            )

    def fit(
        self,
        valid_data: Any,
        *,
        saved: bool,
        resume: Path | bool = False,
        after_validation: AfterValidation | None = None,
    ) -> dict[str, float]:
        """Train the model with RecBole's training loop; see `ModelTraining.fit`."""
        folder, make_folder = self._folder(valid_data, resume) if saved else (None, None)
        return self._train(
            valid_data,
            saved=saved,
            folder=folder,
            make_folder=make_folder,
            after_validation=after_validation,
        )

    def _train(
        self,
        valid_data: Any,
        *,
        saved: bool,
        folder: RunFolder | None,
        make_folder: Callable[[], RunFolder] | None,
        after_validation: AfterValidation | None,
    ) -> dict[str, float]:
        """Train; without ``valid_data``, train all epochs and keep the last weights."""
        self._progress = progress = RecBoleProgress(
            self.trainer,
            self.train_data,
            folder,
            self.config["model"],
            make_folder=make_folder,
            after_validation=after_validation,
            build_seconds=self._build_seconds,
        )
        options = {"saved": saved, "show_progress": self.config["show_progress"]}
        if isinstance(self.trainer, Trainer):  # trainers of tree models have no epochs
            options["callback_fn"] = progress.validated
        with explain_recbole_errors(self.config):
            _, valid = self.trainer.fit(self.train_data, valid_data, **options)
        clear(self.trainer)
        if self._made and not saved:
            Path(self._made).unlink()
        metrics: dict[str, float] = valid if valid_data is not None else {}
        self._result = {"seconds": progress.seconds, "valid": metrics, "curve": progress.curve}
        return metrics

    def _folder(
        self, valid_data: Any, resume: Path | bool
    ) -> tuple[RunFolder | None, Callable[[], RunFolder]]:
        """Return the folder to resume from (or ``None``), and a function to create one."""
        config, data = self.config, fingerprints(self.train_data, valid_data)
        path = resume if isinstance(resume, Path) else None
        folder = RunFolder.reopen(config, data, path) if resume else None
        return folder, partial(RunFolder.create, Path(config["checkpoint_dir"]), config, data)

    def test(self, test_data: Any) -> tuple[list[dict[str, Any]], dict[str, Ranked]]:
        """Test the best checkpoint, and return one row; see `ModelTraining.test`."""
        name = self.config["model"]
        ranked = ranked_by(
            self.trainer,
            test_data,
            load_best_model=has_epochs(self.config),
            show_progress=self.config["show_progress"],
        )
        row: dict[str, Any] = {
            **{"key": name, "stage": name, "run": None, "model": name},
            **size_row(self.trainer.model, self.train_data._dataset.inter_num),
            **epochs_of(self.trainer),
            **self._result,
            "test": ranked.metrics,
            "test_seconds": ranked.seconds,
        }
        return [refit_row(row, self._chosen) if self._chosen else row], {name: ranked}

    def refit(self, train_data: Any, valid_data: Any) -> RecBoleTraining:
        """Train the model again with RecBole's training loop; see `ModelTraining.refit`."""
        chosen = epochs_of(self.trainer) | self._result
        settings = dict(self.config.final_config_dict)
        if has_epochs(self.config):
            settings["epochs"] = chosen["best_epoch"]
        config = copy.copy(self.config)
        config.final_config_dict = settings
        again = RecBoleTraining(config, train_data)
        again._chosen = chosen
        file = Path(again.trainer.saved_model_file)
        again.trainer.saved_model_file = str(file.with_stem(f"{file.stem}-refit"))
        again._train(None, saved=True, folder=None, make_folder=None, after_validation=None)
        return again

    @property
    def run_dir(self) -> Path | None:
        """Folder of the saved state, or ``None`` before a state is saved."""
        folder = self._progress.folder if self._progress else None
        return folder.path if folder else None

    def record_file(self) -> Path:
        """Return a path in ``checkpoint_dir``, named after model, dataset, time and process."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"{self.config['model']}-{self.config['dataset']}-{stamp}-{os.getpid()}.json"
        return Path(self.config["checkpoint_dir"]) / name

    def clear(self) -> None:
        """Remove the saved state, and its folder if this is then empty."""
        if self._progress is not None:
            self._progress.clear()


def adapter_of(model: str) -> type[ModelTraining]:
    """Return the adapter class for a model, RecBole's or ours, by its name."""
    return OurTraining if model in our_models() else RecBoleTraining


def build_trainer(config: RunConfig, train_data: Any) -> Any:
    """Build the untrained model of a run and return its trainer.

    Args:
        config: settings of the run.
        train_data: RecBole's loader of training batches.
    """
    logger, name = getLogger(), config["model"]
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(name)(config, train_data._dataset).to(config["device"])
    if config["accelerate"] and not accelerate_model(model):
        logger.info(f"accelerate has no effect on {name}")
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    logger.info(model)
    return trainer
