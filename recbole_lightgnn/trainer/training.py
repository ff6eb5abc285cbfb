"""One training: epochs, validation, early stopping, and a state on disk after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from time import perf_counter
from typing import Any

import torch
from recbole.utils import set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.record_rows import add_point, new_curve

# What a training remembers from epoch to epoch, besides tensors.
_STATE = ("epoch", "best_epoch", "best_score", "best_valid", "epochs_without_improvement", "seconds", "curve")


@dataclass(frozen=True)
class Label:
    """Which training of a run this is.

    Attributes:
        stage: ``teacher``, ``intermediate``, ``student``, or the name of a model trained alone.
        run: pruning run of the student, 0 before the first pruning; ``None`` for other stages.
        last_run: number of the last pruning run.
    """

    stage: str
    run: int | None = None
    last_run: int = 0

    @property
    def key(self) -> str:
        """Name of its files."""
        return self.stage if self.run is None else f"{self.stage}-{self.run:02d}"

    def __str__(self) -> str:
        return self.stage if self.run is None else f"{self.stage} {self.run}/{self.last_run}"


class Training:
    """Trains one model until validation stops improving, and leaves it in its best state.

    Unlike RecBole's own loop it compares validation at full precision, does not take a tie for
    progress, and can go on after a kill to the same result: weights, optimizer and every random
    generator are saved after each epoch.

    Args:
        config: the stage's settings.
        model: the model.
        label: which training this is.
        folder: where its state goes.
        optimizer: over the model's parameters.
        validate: validation metrics of the model as it is.
        meta: what a checkpoint says besides its training.
        tensorboard: RecBole's writer.
        show_progress: whether to draw a progress bar an epoch.
        callback: called with epoch and score after each validation, or ``None``.
    """

    def __init__(
        self,
        config: Any,
        model: GraphRecommender,
        label: Label,
        folder: RunFolder,
        optimizer: torch.optim.Optimizer,
        validate: Callable[[GraphRecommender], dict[str, float]],
        *,
        meta: dict[str, Any],
        tensorboard: Any,
        show_progress: bool,
        callback: Callable[[int, float], None] | None,
    ) -> None:
        self.config, self.model, self.label, self.folder = config, model, label, folder
        self.optimizer, self.validate, self.meta = optimizer, validate, meta
        self.tensorboard, self.show_progress, self.callback = tensorboard, show_progress, callback
        self.logger = getLogger()
        self.metric = config["valid_metric"].lower()
        self.clip_grad_norm = config["clip_grad_norm"]
        self.sign = 1.0 if config["valid_metric_bigger"] else -1.0
        self.epoch = 0  # epochs done
        self.best_epoch, self.best_score = 0, -float("inf")
        self.best_valid: dict[str, float] = {}
        self.epochs_without_improvement = 0
        self.seconds = 0.0
        self.curve = new_curve()

    def fit(self, train_data: Any) -> dict[str, Any]:
        """Train; returns epochs, best epoch, seconds, the best validation metrics and the curve.

        Raises:
            InputError: if the loss is no number any more; the best state so far stays on disk.
        """
        self._restore(train_data)
        patience = self.config["stopping_step"]
        while self.epoch < self.config["epochs"] and self.epochs_without_improvement <= patience:
            started = perf_counter()
            self._set_learning_rate()
            losses = self._train_epoch(train_data)
            self.epoch += 1
            due = self.epoch % self.config["eval_step"] == 0
            result = self._validate() if due or self.epoch == self.config["epochs"] else None
            self.seconds += perf_counter() - started
            if result:
                add_point(self.curve, self.epoch, self.seconds, result[self.metric])
            self._report(losses, result, perf_counter() - started)
            self._save(train_data)
        tensors, _ = checkpoint.load(self.folder.best_file(self.label.key))
        self.model.load_state_dict(tensors)
        self.model.eval()
        return {
            "epochs": self.epoch,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "valid": self.best_valid,
            "curve": self.curve,
        }

    def _set_learning_rate(self) -> None:
        """Along a line from the first epoch's to that of the last there may be."""
        done = self.epoch / max(1, self.config["epochs"] - 1)
        share = 1 - done * (1 - self.config["learning_rate_end"])
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.config["learning_rate"]

    def _train_epoch(self, train_data: Any) -> dict[str, float]:
        self.model.train()
        batches = train_data
        if self.show_progress:
            text = f"{self.label} epoch {self.epoch + 1:>3}"
            batches = tqdm(train_data, ncols=100, desc=set_color(text, "pink"), leave=False)
        sums: dict[str, float] = {}
        for batch in batches:
            terms = self.model.loss_terms(batch.to(self.model.device))
            loss = torch.stack(list(terms.values())).sum()
            if not bool(torch.isfinite(loss)):
                self._diverged(terms)
            self.optimizer.zero_grad()
            loss.backward()
            if self.clip_grad_norm:
                clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
            self.optimizer.step()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        # The last step's update has no loss after it that would tell.
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self._diverged({})
        return {name: value / len(train_data) for name, value in sums.items()}

    def _diverged(self, terms: dict[str, Tensor]) -> None:
        bad = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        best = self.folder.best_file(self.label.key)
        kept = f"the best state so far is kept in {best}" if best.exists() else "no epoch was done"
        raise InputError(
            f"{self.label}: the loss is not a number in epoch {self.epoch + 1} "
            f"({', '.join(bad) or 'weights'}); {kept}. "
            "Lower learning_rate or raise the temperatures"
        )

    def _validate(self) -> dict[str, float]:
        self.model.eval()
        result = self.validate(self.model)
        score = self.sign * result[self.metric]
        self.epochs_without_improvement += 1
        if score > self.best_score:
            self.best_epoch, self.best_score, self.best_valid = self.epoch, score, result
            self.epochs_without_improvement = 0
            meta = self.meta | {"epoch": self.epoch, "valid": result}
            path = self.folder.best_file(self.label.key)
            checkpoint.save(path, self.model.state_dict(), meta)
        self.tensorboard.add_scalar(
            f"{self.label.key}/valid_score", result[self.metric], self.epoch
        )
        if self.callback:
            self.callback(self.epoch - 1, result[self.metric])
        return result

    def _report(
        self, losses: dict[str, float], result: dict[str, float] | None, seconds: float
    ) -> None:
        for name, value in losses.items():
            self.tensorboard.add_scalar(f"{self.label.key}/loss/{name}", value, self.epoch)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        text = f" [{seconds:.1f}s, loss: {parts}"
        if result:
            mark = " *" if self.best_epoch == self.epoch else ""
            text += f", {set_color(self.metric, 'blue')}: {result[self.metric]:.4f}{mark}"
        self.logger.info(set_color(f"{self.label} epoch {self.epoch}", "green") + text + "]")

    def _save(self, train_data: Any) -> None:
        tensors = checkpoint.capture(self.model, self.optimizer, train_data.generator)
        meta = {"key": self.label.key} | {name: getattr(self, name) for name in _STATE}
        checkpoint.save(self.folder.progress_file, tensors, meta)

    def _restore(self, train_data: Any) -> None:
        """Go on from the last epoch of this training, if it is the one under way."""
        if not self.folder.progress_file.exists():
            return
        tensors, meta = checkpoint.load(self.folder.progress_file)
        if meta["key"] != self.label.key:
            return
        for name in _STATE:
            setattr(self, name, meta.get(name, getattr(self, name)))  # an older version had fewer
        checkpoint.restore(tensors, self.model, self.optimizer, train_data.generator)
        self.logger.info(set_color(f"{self.label}: going on after epoch {self.epoch}", "yellow"))


@contextmanager
def stock_errors_explained(config: Any, prefix: str = "") -> Iterator[None]:
    """Say of RecBole's own trainers what their errors do not: a loss that is NaN, NCL's clusters.

    Args:
        config: settings of the model that is trained.
        prefix: put before the name of a setting, such as ``teacher_settings.``.
    """
    try:
        yield
    except ValueError as error:
        if "loss is nan" not in str(error):
            raise
        raise InputError(
            f"the training loss of {config['model']} became NaN: lower {prefix}learning_rate (now "
            f"{config['learning_rate']})"
        ) from error
    except RuntimeError as error:  # faiss's
        if "as large as number of clusters" not in str(error):
            raise
        raise InputError(
            f"{prefix}num_clusters must be at most the number of users, and of items, got "
            f"{config['num_clusters']}: lower it"
        ) from error
