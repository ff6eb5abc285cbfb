"""Train one model: epochs, validation, early stopping, and a saved state after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from logging import getLogger
from time import perf_counter
from typing import Any

import torch
from recbole.utils import set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.solved import SolvedRecommender
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.record_rows import add_point, new_curve

# Attributes of `Training` that are saved besides the tensors.
_STATE = (
    "epoch",
    "best_epoch",
    "best_score",
    "best_valid",
    "epochs_without_improvement",
    "seconds",
    "curve",
)


@dataclass(frozen=True)
class Label:
    """Name of a training within a run: stage and number.

    Attributes:
        stage: ``teacher``, ``intermediate``, ``student``, or the name of a model trained alone.
        run: for a student, the number of prunings before the training, from 0; for the second and
            later teachers, a number from 1; ``None`` otherwise.
        last_run: largest value of ``run`` in the stage.
    """

    stage: str
    run: int | None = None
    last_run: int = 0

    @property
    def key(self) -> str:
        """Name of the training's files and of its row in the record: ``student-02``."""
        return self.stage if self.run is None else f"{self.stage}-{self.run:02d}"

    def __str__(self) -> str:
        return self.stage if self.run is None else f"{self.stage} {self.run}/{self.last_run}"


class Training:
    """Train one model until validation stops improving; the model then has its best weights.

    Unlike in RecBole's training loop, validation scores are compared without rounding, and an equal
    score is no improvement. Weights, optimizer state and all random states are saved after each
    epoch, so that a killed training can be resumed with the same result.

    Args:
        config: settings of the stage.
        model: the model.
        label: name of the training.
        folder: run folder for the training's files.
        optimizer: optimizer of the model's parameters.
        validate: function that returns the model's validation metrics; or ``None`` to train until
            ``last_epoch`` and keep the weights of that epoch.
        last_epoch: epoch after which the training stops; ``None`` to use the setting ``epochs``.
            The schedule of the learning rate always ends with the last planned epoch.
        planned_epochs: number of epochs of the schedule, from an earlier fit; by default, the
            setting ``epochs``, or fewer as ``max_edge_visits`` allows.
        meta: metadata of the checkpoints.
        tensorboard: RecBole's TensorBoard writer.
        show_progress: whether to draw a progress bar for each epoch.
        callback: function called after each validation, with epoch (from 0) and score; or ``None``.

    Attributes:
        epoch: number of finished epochs.
        best_epoch: epoch with the best validation score so far.
        best_score: validation score of the best epoch, negated if smaller is better.
        best_valid: validation metrics of the best epoch.
        epochs_without_improvement: number of validations since the best epoch.
        seconds: seconds of training so far, including earlier processes.
        curve: epoch, seconds and score of each validation so far.
    """

    def __init__(
        self,
        config: RunConfig,
        model: GraphRecommender,
        label: Label,
        folder: RunFolder,
        optimizer: torch.optim.Optimizer,
        validate: Callable[[GraphRecommender], dict[str, float]] | None,
        *,
        last_epoch: int | None = None,
        planned_epochs: int | None = None,
        meta: dict[str, Any],
        tensorboard: Any,
        show_progress: bool,
        callback: Callable[[int, float], None] | None,
    ) -> None:
        settings = Settings(config)
        self.epochs, self.eval_step = settings.integer("epochs"), settings.integer("eval_step")
        self.patience = settings.integer("stopping_step")
        self.learning_rate = settings.number("learning_rate")
        # Solved models have no such setting.
        self.learning_rate_end = settings.get("learning_rate_end", 1.0)
        self.epoch_steps: int = settings.get("epoch_steps", 1)
        self.max_edge_visits = settings.get("max_edge_visits", 0)
        self.clip_grad_norm = settings["clip_grad_norm"]
        self.metric = settings.text("valid_metric").lower()
        self.sign = 1.0 if settings.flag("valid_metric_bigger") else -1.0
        self.last_epoch, self.planned_epochs = last_epoch, planned_epochs
        self.model, self.label, self.folder = model, label, folder
        self.optimizer, self.validate, self.meta = optimizer, validate, meta
        self.tensorboard, self.show_progress, self.callback = tensorboard, show_progress, callback
        self.logger = getLogger()
        self.epoch = 0
        self.best_epoch, self.best_score = 0, -float("inf")
        self.best_valid: dict[str, float] = {}
        self.epochs_without_improvement = 0
        self.seconds = 0.0
        self.curve = new_curve()

    def fit(self, train_data: Any) -> dict[str, Any]:
        """Train the model, from the saved state if the folder has one.

        Args:
            train_data: RecBole's loader of training batches.

        Returns:
            ``epochs`` (number), ``best_epoch``, ``seconds``, ``valid`` (metrics of the best epoch)
            and ``curve`` (all validation scores), by name; and ``planned_epochs``, if
            ``max_edge_visits`` allows fewer epochs than the setting ``epochs``.

        Raises:
            InputError: if the training diverges; the best checkpoint so far stays on disk.
        """
        self._restore(train_data)
        self._plan(train_data)
        last_epoch = self.epochs if self.last_epoch is None else self.last_epoch
        while self.epoch < last_epoch and self.epochs_without_improvement <= self.patience:
            started = perf_counter()
            self._set_learning_rate()
            candidate = self.model.begin_epoch(self.epoch, self.epochs)
            losses = self._train_epoch(train_data)
            self.epoch += 1
            result = self._validate() if candidate and self._due() else None
            self.seconds += perf_counter() - started
            if result:
                add_point(self.curve, self.epoch, self.seconds, result[self.metric])
            self._report(losses, result, perf_counter() - started)
            self._save(train_data)
        if self.validate is None:
            self._keep({})
        tensors, _ = checkpoint.load(self.folder.best_file(self.label.key))
        self.model.load_state_dict(tensors)
        self.model.eval()
        planned = {} if self.planned_epochs is None else {"planned_epochs": self.planned_epochs}
        return planned | {
            "epochs": self.epoch,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "valid": self.best_valid,
            "curve": self.curve,
        }

    def _passes(self, train_data: Any) -> int:
        """Number of passes over the data in an epoch."""
        return math.ceil(self.epoch_steps / max(1, len(train_data)))

    def _plan(self, train_data: Any) -> None:
        """Set the number of epochs of the schedule: fewer if ``max_edge_visits`` allows fewer."""
        if self.max_edge_visits and self.planned_epochs is None and self.last_epoch is None:
            steps = self._passes(train_data) * len(train_data)
            affordable = max(1, int(self.max_edge_visits / (steps * self._visited())))
            if affordable < self.epochs:
                self.planned_epochs = affordable
                self.logger.info(f"{self.label}: {affordable} epochs, as max_edge_visits allows")
        self.epochs = self.planned_epochs or self.epochs

    def _visited(self) -> int:
        """Number of edges that a batch propagates over, before pruning."""
        graph = getattr(self.model, "graph", self.model.observed)  # the intermediate's is larger
        return max(graph.n_edges, self.model.observed.n_edges)

    def _due(self) -> bool:
        """Whether the epoch that has just ended is validated."""
        last = self.epoch == self.epochs
        return self.validate is not None and (last or self.epoch % self.eval_step == 0)

    def _set_learning_rate(self) -> None:
        """Lower the learning rate linearly, to ``learning_rate_end`` times the initial rate."""
        done = self.epoch / max(1, self.epochs - 1)
        fraction = 1 - done * (1 - self.learning_rate_end)
        for group in self.optimizer.param_groups:
            group["lr"] = fraction * self.learning_rate

    def _train_epoch(self, train_data: Any) -> dict[str, float]:
        """Train one epoch; return each loss term's mean over the batches."""
        self.model.train()
        if isinstance(self.model, SolvedRecommender):
            self.model.solve()
            return {}
        passes = self._passes(train_data)
        steps = passes * len(train_data)
        batches: Iterable[Any] = chain.from_iterable(repeat(train_data, passes))
        if self.show_progress:
            text = set_color(f"{self.label} epoch {self.epoch + 1:>3}", "pink")
            batches = tqdm(batches, total=steps, ncols=100, desc=text, leave=False)
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
        # The loss does not show whether the last update diverged.
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self._diverged({})
        return {name: value / steps for name, value in sums.items()}

    def _diverged(self, terms: dict[str, Tensor]) -> None:
        """Raise InputError with the names of the loss terms that are not finite."""
        bad = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        best = self.folder.best_file(self.label.key)
        saved = f"the best state so far is kept in {best}" if best.exists() else "no epoch was done"
        raise InputError(
            f"{self.label}: the loss is not a number in epoch {self.epoch + 1} "
            f"({', '.join(bad) or 'weights'}); {saved}. "
            "Lower learning_rate or raise the temperatures"
        )

    def _validate(self) -> dict[str, float]:
        """Validate the model; write the checkpoint if this epoch is the best so far."""
        assert self.validate is not None
        self.model.eval()
        result = self.validate(self.model)
        score = self.sign * result[self.metric]
        self.epochs_without_improvement += 1
        if score > self.best_score:
            self.best_epoch, self.best_score, self.best_valid = self.epoch, score, result
            self.epochs_without_improvement = 0
            self._keep(result)
        self.tensorboard.add_scalar(
            f"{self.label.key}/valid_score", result[self.metric], self.epoch
        )
        if self.callback:
            self.callback(self.epoch - 1, result[self.metric])
        return result

    def _keep(self, valid: dict[str, float]) -> None:
        """Write the model's weights to the checkpoint of the best epoch."""
        meta = self.meta | {"epoch": self.epoch, "valid": valid}
        checkpoint.save(self.folder.best_file(self.label.key), self.model.state_dict(), meta)

    def _report(
        self, losses: dict[str, float], result: dict[str, float] | None, seconds: float
    ) -> None:
        """Write an epoch's losses, score and time to the log and to TensorBoard."""
        for name, value in losses.items():
            self.tensorboard.add_scalar(f"{self.label.key}/loss/{name}", value, self.epoch)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        text = f" [{seconds:.1f}s" + (f", loss: {parts}" if losses else "")
        if result:
            mark = " *" if self.best_epoch == self.epoch else ""
            text += f", {set_color(self.metric, 'blue')}: {result[self.metric]:.4f}{mark}"
        self.logger.info(set_color(f"{self.label} epoch {self.epoch}", "green") + text + "]")

    def _save(self, train_data: Any) -> None:
        tensors = checkpoint.capture(self.model, self.optimizer, train_data.generator)
        meta = {"key": self.label.key} | {name: getattr(self, name) for name in _STATE}
        checkpoint.save(self.folder.progress_file, tensors, meta)

    def _restore(self, train_data: Any) -> None:
        """Restore the saved state, if it belongs to this training."""
        if not self.folder.progress_file.exists():
            return
        tensors, meta = checkpoint.load(self.folder.progress_file)
        if meta["key"] != self.label.key:
            return
        for name in _STATE:
            setattr(self, name, meta.get(name, getattr(self, name)))  # earlier versions saved fewer
        checkpoint.restore(tensors, self.model, self.optimizer, train_data.generator)
        self.logger.info(set_color(f"{self.label}: resuming after epoch {self.epoch}", "yellow"))
