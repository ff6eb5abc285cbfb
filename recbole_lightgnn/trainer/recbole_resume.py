"""Resume trainings of RecBole's own models: save and restore their state between epochs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.utils import set_color

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RUN_FILE, RunFolder
from recbole_lightgnn.trainer.record_rows import add_point, epochs_of, new_curve
from recbole_lightgnn.utils.files import whole_file

# Models that resume to the same result, each with the attributes that must be saved besides what
# `checkpoint.capture` returns. Each model is tested.
RESUMABLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("BPR", "NeuMF", "NGCF", "GCMC", "DGCF", "LightGCN", "SGL", "NCL"), ()),
    "MultiVAE": ("update",),  # number of steps; the weight of the KL term grows with it
}
SECONDS_APART = 20.0  # minimum time between two saved states


def can_resume(config: RunConfig) -> bool:
    """Whether a killed run of a RecBole model can be resumed with the same result.

    False if the data loader has worker processes: the workers' random states are not saved.
    """
    return config["model"] in RESUMABLE and not config["worker"]


class RecBoleProgress:
    """Record the validation scores of a RecBole model's training, and save its state.

    Construct it before the training: the constructor restores a state in the folder. Without a
    folder, or if the model cannot be resumed (`can_resume`), only scores are recorded.

    Args:
        trainer: RecBole's trainer, not yet fitted, with ``saved_model_file`` set.
        train_data: RecBole's loader of training batches.
        folder: folder of the saved state, or ``None``.
        key: name of the training, used in file names.
        make_folder: function that creates a folder for the first state if ``folder`` is ``None``.
        after_validation: function called after each validation, with epoch (from 1) and score.
        build_seconds: seconds that building the model took. Building trains EASE and ItemKNN.

    Attributes:
        curve: epoch, seconds and score of each validation so far.
        folder: folder of the state, or ``None`` if nothing was saved.

    Raises:
        InputError: if the folder has a state that cannot be restored.
    """

    def __init__(
        self,
        trainer: Any,
        train_data: Any,
        folder: RunFolder | None,
        key: str,
        *,
        make_folder: Callable[[], RunFolder] | None = None,
        after_validation: Callable[[int, float], None] | None = None,
        build_seconds: float = 0.0,
    ) -> None:
        self.trainer, self.train_data, self.folder, self.key = trainer, train_data, folder, key
        self.curve = new_curve()
        self._after_validation, self._make_folder = after_validation, make_folder
        has_folder = folder is not None or make_folder is not None
        self._saves = has_folder and can_resume(trainer.config)
        self._earlier_seconds = build_seconds
        self._best: Path | None = None  # copy of the training's best state
        if self._saves and folder is not None and folder.progress_file.exists():
            self._restore(folder)
        self._started = self._saved = perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of building, training and validation so far, including earlier processes."""
        return self._earlier_seconds + perf_counter() - self._started

    def validated(self, index: int, score: float) -> None:
        """Record a validation, and save the state if due; RecBole's ``fit`` calls this method.

        Args:
            index: the epoch, counted from 0.
            score: validation score.
        """
        epoch = index + 1
        add_point(self.curve, epoch, self.seconds, score)
        if self._after_validation:
            self._after_validation(epoch, float(score))
        if self._saves and self._worth_saving(epoch):
            if self.folder is None and self._make_folder is not None:
                self.folder = self._make_folder()
            if self.folder is not None:
                self._save(self.folder)
            self._saved = perf_counter()

    def _worth_saving(self, epoch: int) -> bool:
        """Whether to save the state after an epoch: at most one save in `SECONDS_APART` seconds.

        The state after the last epoch is not saved: RecBole would train one epoch too many. NCL's
        state is saved only before an E-step, because the E-step's prototypes are not saved.
        """
        trainer = self.trainer
        ends = trainer.cur_step > trainer.stopping_step or epoch >= trainer.epochs
        before_e_step = epoch % getattr(trainer, "num_m_step", 1) == 0
        return before_e_step and not ends and perf_counter() - self._saved >= SECONDS_APART

    def clear(self) -> None:
        """Remove the saved state and a folder created for it, once the result is recorded."""
        if self.folder is None:
            return
        self.folder.progress_file.unlink(missing_ok=True)
        self._remove_best()
        if self._make_folder is not None:
            (self.folder.path / RUN_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # the folder has other files
                self.folder.path.rmdir()

    def _save(self, folder: RunFolder) -> None:
        trainer = self.trainer
        best = self._best_file(folder, epochs_of(trainer)["best_epoch"])
        if best != self._best:  # copy it, because RecBole overwrites its file in place
            with whole_file(best) as partial:
                shutil.copyfile(trainer.saved_model_file, partial)
            self._best = best
        state = checkpoint.capture(trainer.model, trainer.optimizer, self.train_data.generator)
        numbers = RESUMABLE[trainer.config["model"]]
        meta = {
            "key": self.key,
            "epoch": epochs_of(trainer)["epochs"],
            "curve": self.curve,
            "seconds": self.seconds,
            "losses": {str(epoch): float(loss) for epoch, loss in trainer.train_loss_dict.items()},
            "epochs_without_improvement": trainer.cur_step,
            "best_score": float(trainer.best_valid_score),
            "best_valid": {k: float(v) for k, v in trainer.best_valid_result.items()},
            "best_file": best.name,
            "best_name": Path(trainer.saved_model_file).name,
            "numbers": {name: getattr(trainer.model, name) for name in numbers},
        }
        checkpoint.save(folder.progress_file, state, meta)
        self._remove_best(but=best)

    def _restore(self, folder: RunFolder) -> None:
        """Restore the state in the folder, if it belongs to this training."""
        trainer, file = self.trainer, folder.progress_file
        try:
            state, meta = checkpoint.load(file)
            best = folder.path / meta["best_file"] if meta["key"] == self.key else None
        except (InputError, KeyError) as error:
            raise InputError(
                f"{file} is damaged or of an older version: remove it and resume, which then "
                "begins this training anew"
            ) from error
        if best is None:
            return
        if not best.is_file():
            raise InputError(
                f"{file} goes with {best}, the best state until then, which is not there: put it "
                f"back, or remove {file.name} and resume, which then begins this training anew"
            )
        self._best = best
        trainer.saved_model_file = str(Path(trainer.saved_model_file).with_name(meta["best_name"]))
        with whole_file(Path(trainer.saved_model_file)) as partial:
            shutil.copyfile(best, partial)
        trainer.train_loss_dict = {int(epoch): loss for epoch, loss in meta["losses"].items()}
        trainer.start_epoch = meta["epoch"]
        trainer.cur_step = meta["epochs_without_improvement"]
        trainer.best_valid_score = meta["best_score"]
        trainer.best_valid_result = meta["best_valid"]
        for name, number in meta["numbers"].items():
            setattr(trainer.model, name, number)
        self.curve, self._earlier_seconds = meta["curve"], meta["seconds"]
        checkpoint.restore(state, trainer.model, trainer.optimizer, self.train_data.generator)
        text = f"{self.key}: resuming after epoch {meta['epoch']}"
        getLogger().info(set_color(text, "yellow"))

    def _best_file(self, folder: RunFolder, epoch: int) -> Path:
        return folder.path / f"{self.key}.best-{epoch}.pth"

    def _remove_best(self, but: Path | None = None) -> None:
        for file in self.folder.path.glob(f"{self.key}.best-*.pth*") if self.folder else ():
            if file != but:
                file.unlink()
