"""RecBole's own trainers, ranking by `FullRanking` what scores by an inner product."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from recbole.utils import ModelType
from torch import Tensor

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.runs.recbole_pickle import load_stock_checkpoint, load_weights
from recbole_lightgnn.trainer.evaluation import Ranked, Rankings


def rank_by_tables(trainer: Any, *, prefix: str = "") -> None:
    """Let a trainer of RecBole's evaluate sooner, and say the same.

    Its ``evaluate`` is replaced, which its ``fit`` validates by. Metrics, rounded as RecBole rounds
    them, are those of RecBole's evaluator, which goes on doing what cannot be done here: models
    that do not score by the inner product of two tables, other metrics, lists and sequences, and
    work shared by several processes. What an evaluation came to, whoever ranked, is left as the
    trainer's ``ranked`` (see `ranked_by`). A model that has diverged is refused, by an InputError.

    Args:
        trainer: the trainer.
        prefix: put before the name of a setting, such as ``teacher_settings.``.
    """
    if not isinstance(trainer, Trainer) or not trainer.config["single_spec"]:
        return
    rankings, original = Rankings(trainer.config, trainer.device), trainer.evaluate
    places, lists = trainer.config["metric_decimal_place"], _keep_lists(trainer)
    check_finite = _watch_scores(trainer, prefix)

    def evaluate(
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Any = None,
        show_progress: bool = False,
    ) -> Any:
        if not eval_data:
            return None
        if load_best_model:
            file = model_file or trainer.saved_model_file
            load_weights(trainer.model, load_stock_checkpoint(file, trainer.device))
            trainer.logger.info(f"Loading model structure and parameters from {file}")
        trainer.model.eval()
        ranking, started = rankings.of(eval_data), perf_counter()
        tables = None if ranking is None else final_tables(trainer.model)
        if ranking is None or tables is None:
            result = original(eval_data, load_best_model=False, show_progress=show_progress)
            check_finite()
            trainer.ranked = Ranked(result, lists(eval_data), perf_counter() - started)
            return result
        metrics, hits = ranking.rank(*tables)
        seconds = perf_counter() - started
        # As RecBole rounds: NumPy's numbers, which go another way to halves than Python's.
        result = OrderedDict((k, round(np.float64(v), places)) for k, v in metrics.items())
        trainer.wandblogger.log_eval_metrics(result, head="eval")
        trainer.ranked = Ranked(result, hits, seconds)
        return result

    trainer.evaluate = evaluate


def has_epochs(config: Any) -> bool:
    """Whether a model has a best epoch to read back once it is trained.

    Of the others there is one state, which is in memory already: EASE's takes gigabytes.
    """
    return config["MODEL_TYPE"] is not ModelType.TRADITIONAL


def ranked_by(
    trainer: Any, eval_data: Any, *, load_best_model: bool = False, show_progress: bool = False
) -> Ranked:
    """What one of RecBole's trainers says of a split; hits where `rank_by_tables` has been."""
    trainer.ranked, started = None, perf_counter()
    metrics = trainer.evaluate(
        eval_data, load_best_model=load_best_model, show_progress=show_progress
    )
    return trainer.ranked or Ranked(metrics, None, perf_counter() - started)


def _watch_scores(trainer: Any, prefix: str) -> Callable[[], None]:
    """Let RecBole's evaluator look for a user whose scores are all numbers.

    One is enough: a model may have none for users without interactions.

    Returns:
        What raises InputError after an evaluation where there was none, or where a parameter is no
        number.
    """
    collect, found = trainer.eval_collector.eval_batch_collect, []

    def collected(scores: Tensor, *rest: Any) -> None:
        if not found and bool((scores < torch.inf).all(dim=-1).any()):  # what is masked is -inf
            found.append(True)
        collect(scores, *rest)

    def check() -> None:
        parameters = trainer.model.parameters()
        finite = found and all(bool(torch.isfinite(one).all()) for one in parameters)
        found.clear()
        if not finite:
            raise InputError(
                f"{trainer.config['model']} cannot be ranked, scores must be finite: the training "
                f"has diverged; lower {prefix}learning_rate (now {trainer.config['learning_rate']})"
            )

    trainer.eval_collector.eval_batch_collect = collected
    return check


def _keep_lists(trainer: Any) -> Callable[[Any], np.ndarray | None]:
    """Let RecBole's evaluator keep the lists that it judges, and get their hits by the loader."""
    judge, judged = trainer.evaluator.evaluate, {}

    def evaluate(collected: Any) -> Any:
        judged.pop("lists", None)
        if "rec.topk" in collected:  # hits by rank, and how many there are to find
            judged["lists"] = collected.get("rec.topk")[:, :-1].bool().numpy()
        return judge(collected)

    def hits(eval_data: Any) -> np.ndarray | None:
        full = isinstance(eval_data, FullSortEvalDataLoader) and not eval_data.is_sequential
        return judged.get("lists") if full else None

    trainer.evaluator.evaluate = evaluate
    return hits
