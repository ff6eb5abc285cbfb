"""Evaluate faster in RecBole's own trainers, if scores are inner products of two tables."""

from __future__ import annotations

from collections import OrderedDict
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import ModelType
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint, load_weights
from recbole_lightgnn.trainer.evaluation import Ranked, Rankings, is_full_ranking


def rank_by_tables(trainer: Any, *, prefix: str = "") -> None:
    """Replace ``evaluate`` of a RecBole trainer by a faster method with the same results.

    Metrics are rounded as in RecBole. RecBole's evaluator is still used for models without two
    scoring tables, metrics that `FullRanking` lacks, rankings of sampled items and sequential
    models. Distributed trainers and those of tree models are not changed. The new ``evaluate``
    raises InputError if the model has diverged, and stores its result in ``trainer.ranked`` for
    `ranked_by`.

    Args:
        trainer: the trainer; changed in place.
        prefix: text before the name of a setting in error messages, such as ``teacher_settings.``.
    """
    if isinstance(trainer, Trainer) and trainer.config["single_spec"]:
        trainer.evaluate = TableEvaluation(trainer, prefix).evaluate


def ranked_by(
    trainer: Any, eval_data: Any, *, load_best_model: bool = False, show_progress: bool = False
) -> Ranked:
    """Evaluate a split with one of RecBole's own trainers.

    Args:
        trainer: the trainer.
        eval_data: RecBole's validation or test loader.
        load_best_model: whether to load the best checkpoint first.
        show_progress: whether RecBole's evaluator draws a progress bar.

    Returns:
        The metrics, and the hits if `rank_by_tables` prepared the trainer and all items were
        ranked.
    """
    trainer.ranked, started = None, perf_counter()
    metrics = trainer.evaluate(
        eval_data, load_best_model=load_best_model, show_progress=show_progress
    )
    return trainer.ranked or Ranked(metrics, None, perf_counter() - started)


def has_epochs(config: RunConfig) -> bool:
    """Whether a model is trained in epochs, so that the best epoch must be loaded from a file.

    Models of RecBole's type TRADITIONAL have no epochs, and need no file. This saves time: EASE's
    file takes gigabytes.
    """
    return config["MODEL_TYPE"] is not ModelType.TRADITIONAL


class TableEvaluation:
    """Evaluate a split with one of RecBole's trainers, by `FullRanking` if possible.

    Args:
        trainer: the trainer; its evaluator and collector are changed in place, to see hits and
            scores.
        prefix: text before the name of a setting in error messages.
    """

    def __init__(self, trainer: Any, prefix: str) -> None:
        self._trainer = trainer
        self._recbole_evaluate = trainer.evaluate
        self._rankings = Rankings(trainer.config, trainer.device)
        self._hits = EvaluatorHits(trainer.evaluator)
        self._divergence = _DivergenceCheck(trainer, prefix)

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Any = None,
        show_progress: bool = False,
    ) -> Any:
        """Return a split's rounded metrics by name, as RecBole's ``Trainer.evaluate`` does.

        Raises:
            InputError: if the model has diverged, or the best checkpoint cannot be read.
        """
        if not eval_data:
            return None
        trainer = self._trainer
        if load_best_model:
            file = model_file or trainer.saved_model_file
            load_weights(trainer.model, load_recbole_checkpoint(file, trainer.device))
            trainer.logger.info(f"Loading model structure and parameters from {file}")
        trainer.model.eval()
        ranking, started = self._rankings.of(eval_data), perf_counter()
        tables = None if ranking is None else final_tables(trainer.model)
        if ranking is None or tables is None:
            return self._by_recbole(eval_data, show_progress, started)
        metrics, hits = ranking.rank(*tables)
        seconds = perf_counter() - started
        result = self._rounded(metrics)
        trainer.wandblogger.log_eval_metrics(result, head="eval")
        trainer.ranked = Ranked(result, hits, seconds)
        return result

    def _by_recbole(self, eval_data: Any, show_progress: bool, started: float) -> Any:
        result = self._recbole_evaluate(
            eval_data, load_best_model=False, show_progress=show_progress
        )
        self._divergence.check()
        hits = self._hits.of(eval_data)
        self._trainer.ranked = Ranked(result, hits, perf_counter() - started)
        return result

    def _rounded(self, metrics: dict[str, float]) -> OrderedDict[str, float]:
        """Round metrics as RecBole does: NumPy rounds halves differently from Python."""
        places = self._trainer.config["metric_decimal_place"]
        return OrderedDict((name, round(np.float64(v), places)) for name, v in metrics.items())


class EvaluatorHits:
    """Store the hits of a RecBole evaluator's last evaluation; the evaluator is changed in place.

    Attributes:
        last: the hits, as in `Ranked`; ``None`` if the evaluation had no ranked lists.
    """

    def __init__(self, evaluator: Any) -> None:
        self.last: np.ndarray | None = None
        self._recbole_evaluate = evaluator.evaluate
        evaluator.evaluate = self._evaluate

    def of(self, eval_data: Any) -> np.ndarray | None:
        """Return the hits of the split that was just evaluated; ``None`` if items were sampled."""
        return self.last if is_full_ranking(eval_data) else None

    def _evaluate(self, collected: Any) -> Any:
        self.last = None
        if "rec.topk" in collected:  # hits by rank; last column: number of relevant items
            self.last = collected.get("rec.topk")[:, :-1].bool().numpy()
        return self._recbole_evaluate(collected)


class _DivergenceCheck:
    """Check that a model evaluated by RecBole has finite scores and parameters.

    One user with finite scores is enough, because a model may give NaN for users without
    interactions. The trainer's collector is changed in place, to see the scores.
    """

    def __init__(self, trainer: Any, prefix: str) -> None:
        self._trainer, self._prefix = trainer, prefix
        self._found_finite = False
        self._recbole_collect = trainer.eval_collector.eval_batch_collect
        trainer.eval_collector.eval_batch_collect = self._collect

    def _collect(self, scores: Tensor, *rest: Any) -> None:
        if not self._found_finite:  # masked scores are -inf
            self._found_finite = bool((scores < torch.inf).all(dim=-1).any())
        self._recbole_collect(scores, *rest)

    def check(self) -> None:
        """Raise InputError unless a user had finite scores and all parameters are finite."""
        trainer, parameters = self._trainer, self._trainer.model.parameters()
        finite = self._found_finite and all(bool(torch.isfinite(p).all()) for p in parameters)
        self._found_finite = False
        if not finite:
            raise InputError(
                f"{trainer.config['model']} cannot be ranked, scores must be finite: the training "
                f"has diverged; lower {self._prefix}learning_rate "
                f"(now {trainer.config['learning_rate']})"
            )
