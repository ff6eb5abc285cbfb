"""RecBole's own trainers, ranking by `FullRanking` what scores by an inner product."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from recbole.trainer import Trainer

from recbole_lightgnn.models.tables import final_tables
from recbole_lightgnn.trainer.evaluation import Rankings
from recbole_lightgnn.trainer.stock_pickle import load_stock_checkpoint, load_weights


def rank_by_tables(trainer: Any) -> None:
    """Let a trainer of RecBole's evaluate sooner, and say the same.

    Its ``evaluate`` is replaced, which its ``fit`` validates by. Metrics, rounded as RecBole rounds
    them, are those of RecBole's evaluator, which goes on doing what cannot be done here: models
    that do not score by the inner product of two tables, other metrics, lists and sequences, and
    work shared by several processes.
    """
    if not isinstance(trainer, Trainer) or not trainer.config["single_spec"]:
        return
    rankings, original = Rankings(trainer.config, trainer.device), trainer.evaluate
    places = trainer.config["metric_decimal_place"]

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
        ranking = rankings.of(eval_data)
        tables = None if ranking is None else final_tables(trainer.model)
        if ranking is None or tables is None:
            return original(eval_data, load_best_model=False, show_progress=show_progress)
        metrics = ranking.evaluate(*tables)
        # As RecBole rounds: NumPy's numbers, which go another way to halves than Python's.
        result = OrderedDict((k, round(np.float64(v), places)) for k, v in metrics.items())
        trainer.wandblogger.log_eval_metrics(result, head="eval")
        return result

    trainer.evaluate = evaluate
