"""What RecBole's own trainer needs on disk so that, killed, it goes on to the same result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.trainer import NCLTrainer, Trainer
from recbole.utils import set_color

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.trainer import checkpoint
from recbole_lightgnn.trainer.rows import add_point, epochs_of, new_curve
from recbole_lightgnn.trainer.run_folder import RunFolder

# Models that between two epochs are what `checkpoint.capture` and `_numbers` take: each is tested.
RESUMABLE = ("BPR", "NeuMF", "MultiVAE", "NGCF", "GCMC", "DGCF", "LightGCN", "SGL", "NCL")
SECONDS_APART = 20.0  # between two states, where epochs are shorter


class StockProgress:
    """The training of one of RecBole's models, saved between epochs and gone on with.

    Where no state is kept (see `can_resume`) it only draws the curve.

    Args:
        trainer: RecBole's, not yet fitted, its ``saved_model_file`` set.
        train_data: what it is going to be fitted to.
        folder: where the state goes; where it is a function, what makes it, once there is a
            state; none to keep none.
        key: which training of the folder this is.
        told: called with epoch (from 1) and score after each validation.

    Attributes:
        curve: validation scores so far.
        folder: where the state is, if there is any.

    Raises:
        InputError: if the state cannot be used.
    """

    def __init__(
        self,
        trainer: Any,
        train_data: Any,
        folder: RunFolder | Callable[[], RunFolder] | None,
        key: str,
        told: Callable[[int, float], None] | None = None,
    ) -> None:
        self.trainer, self.train_data, self.key = trainer, train_data, key
        self.told, self.curve = told, new_curve()
        self._before = 0.0
        self._keeps = folder is not None and can_resume(trainer)
        self.folder = folder if self._keeps and isinstance(folder, RunFolder) else None
        self._make = folder
        if self.folder is not None and self.folder.progress_file.exists():
            self._restore(self.folder.progress_file)
        self._started = self._saved = perf_counter()

    @property
    def seconds(self) -> float:
        """Of training and validation, those before a kill included."""
        return self._before + perf_counter() - self._started

    def validated(self, index: int, score: float) -> None:
        """RecBole's ``callback_fn``: after the validation of an epoch, counted from 0."""
        trainer, done = self.trainer, index + 1
        add_point(self.curve, done, self.seconds, score)
        if self.told:
            self.told(done, float(score))
        if not self._keeps:
            return
        # What is not saved: a state from which RecBole would train on though it had stopped, and
        # of NCL one that its E-step does not come after, as its prototypes are no part of it.
        ends = trainer.cur_step > trainer.stopping_step or done >= trainer.epochs
        whole = done % getattr(trainer, "num_m_step", 1) == 0
        if whole and not ends and perf_counter() - self._saved >= SECONDS_APART:
            if self.folder is None:
                self.folder = self._make()
            self._save(self.folder.progress_file)
            self._saved = perf_counter()

    def close(self) -> None:
        """Remove the folder of a run that is done, and has its record."""
        if self.folder is not None:
            shutil.rmtree(self.folder.path, ignore_errors=True)

    def _save(self, file: Path) -> None:
        trainer = self.trainer
        state = checkpoint.capture(trainer.model, trainer.optimizer, self.train_data.generator)
        meta = {
            "key": self.key,
            "curve": self.curve,
            "seconds": self.seconds,
            "losses": {str(epoch): float(loss) for epoch, loss in trainer.train_loss_dict.items()},
            "fruitless": trainer.cur_step,
            "best_score": float(trainer.best_valid_score),
            "best_valid": {k: float(v) for k, v in (trainer.best_valid_result or {}).items()},
            "best_file": Path(trainer.saved_model_file).name,
            "numbers": _numbers(trainer.model),
        }
        checkpoint.save(file, state, meta)

    def _restore(self, file: Path) -> None:
        trainer = self.trainer
        state, meta = checkpoint.load(file)
        if meta["key"] != self.key:
            return
        best = Path(trainer.saved_model_file).with_name(meta["best_file"])
        if not best.is_file():
            raise InputError(
                f"{file} goes with {best}, the best state until then, which is not there: put it "
                "back, or start the run anew"
            )
        trainer.saved_model_file = str(best)
        trainer.train_loss_dict = {int(epoch): loss for epoch, loss in meta["losses"].items()}
        trainer.start_epoch = len(trainer.train_loss_dict)
        trainer.cur_step, trainer.best_valid_score = meta["fruitless"], meta["best_score"]
        trainer.best_valid_result = meta["best_valid"]
        vars(trainer.model).update(meta["numbers"])
        self.curve, self._before = meta["curve"], meta["seconds"]
        checkpoint.restore(state, trainer.model, trainer.optimizer, self.train_data.generator)
        text = f"{self.key}: going on after epoch {epochs_of(trainer)['epochs']}"
        getLogger().info(set_color(text, "yellow"))


def can_resume(trainer: Any) -> bool:
    """Whether a training of RecBole's can go on between two epochs to the same result."""
    known = type(trainer) in (Trainer, NCLTrainer)
    return known and trainer.config["model"] in RESUMABLE


def _numbers(model: Any) -> dict[str, int | float]:
    """What a model counts beside its tensors: MultiVAE its steps."""
    return {name: value for name, value in vars(model).items() if type(value) in (int, float)}
