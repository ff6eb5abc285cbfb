"""What RecBole's own trainer needs on disk so that, killed, it goes on to the same result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.utils import set_color

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RUN_FILE, RunFolder
from recbole_lightgnn.trainer.record_rows import add_point, epochs_of, new_curve
from recbole_lightgnn.utils.files import whole_file

# Models that are, between epochs, what `checkpoint.capture` takes and these numbers: tested, each.
RESUMABLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("BPR", "NeuMF", "NGCF", "GCMC", "DGCF", "LightGCN", "SGL", "NCL"), ()),
    "MultiVAE": ("update",),  # steps, by which the weight of its KL term grows
}
SECONDS_APART = 20.0  # between two states, where epochs are shorter


def can_resume(config: Any) -> bool:
    """Whether a run of RecBole's can go on between two epochs to the same result.

    With worker processes, loaders draw what is not saved.
    """
    return config["model"] in RESUMABLE and not config["worker"]


class StockProgress:
    """The training of one of RecBole's models, saved between epochs and gone on with.

    Without a folder, and where a run cannot be resumed (see `can_resume`), it only draws the curve.

    Args:
        trainer: RecBole's, not yet fitted, its ``saved_model_file`` set.
        train_data: what it is going to be fitted to.
        folder: where the state goes, and perhaps is.
        key: which training of the folder this is.
        make: makes the folder, where there is none, for the first state.
        told: called with epoch (from 1) and score after each validation.
        built: seconds that making the model took, in which EASE and ItemKNN learn.

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
        folder: RunFolder | None,
        key: str,
        *,
        make: Callable[[], RunFolder] | None = None,
        told: Callable[[int, float], None] | None = None,
        built: float = 0.0,
    ) -> None:
        self.trainer, self.train_data, self.folder, self.key = trainer, train_data, folder, key
        self.told, self.curve, self._make = told, new_curve(), make
        self._keeps = (folder or make) is not None and can_resume(trainer.config)
        self._before = built
        self._best: Path | None = None  # of this training, its copy
        if self._keeps and folder is not None and folder.progress_file.exists():
            self._restore(folder)
        self._started = self._saved = perf_counter()

    @property
    def seconds(self) -> float:
        """Of making the model, training and validation, those before a kill included."""
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
            if self.folder is None and self._make is not None:
                self.folder = self._make()
            if self.folder is not None:
                self._save(self.folder)
            self._saved = perf_counter()

    def clear(self) -> None:
        """Remove the state, once what it led to is recorded; a folder of its own as well."""
        if self.folder is None:
            return
        self.folder.progress_file.unlink(missing_ok=True)
        self._remove_best()
        if self._make is not None:
            (self.folder.path / RUN_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                self.folder.path.rmdir()

    def _save(self, folder: RunFolder) -> None:
        trainer = self.trainer
        best = self._best_file(folder, epochs_of(trainer)["best_epoch"])
        if best != self._best:  # of this training; RecBole writes over its own
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
        trainer.cur_step, trainer.best_valid_score = meta["epochs_without_improvement"], meta["best_score"]
        trainer.best_valid_result = meta["best_valid"]
        for name, number in meta["numbers"].items():
            setattr(trainer.model, name, number)
        self.curve, self._before = meta["curve"], meta["seconds"]
        checkpoint.restore(state, trainer.model, trainer.optimizer, self.train_data.generator)
        getLogger().info(set_color(f"{self.key}: going on after epoch {meta['epoch']}", "yellow"))

    def _best_file(self, folder: RunFolder, epoch: int) -> Path:
        return folder.path / f"{self.key}.best-{epoch}.pth"

    def _remove_best(self, but: Path | None = None) -> None:
        for file in self.folder.path.glob(f"{self.key}.best-*.pth*") if self.folder else ():
            if file != but:
                file.unlink()
