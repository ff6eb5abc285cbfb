"""Additions to RecBole's trainer of tree models (XGBoost, LightGBM), and size of a tree model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from recbole.trainer.trainer import DecisionTreeTrainer


def prepare(trainer: Any) -> None:
    """Let a trainer of tree models count epochs and use file names that no other process uses.

    Args:
        trainer: any trainer of RecBole; changed in place if it trains tree models.
    """
    if not isinstance(trainer, DecisionTreeTrainer):
        return
    for key in ("temp_file", "temp_best_file"):
        file = Path(getattr(trainer, key))
        setattr(trainer, key, str(file.with_stem(f"{file.stem}-{os.getpid()}")))
    trainer.train_loss_dict = {}
    train = trainer._train_at_once

    def counted(*data: Any) -> None:
        train(*data)
        trainer.train_loss_dict[len(trainer.train_loss_dict)] = None

    trainer._train_at_once = counted


def clear(trainer: Any) -> None:
    """Remove the temporary file of a trainer of tree models.

    Args:
        trainer: any trainer of RecBole.
    """
    if isinstance(trainer, DecisionTreeTrainer):
        Path(trainer.temp_file).unlink(missing_ok=True)


def leaves_and_bytes(model: Any) -> tuple[int, int]:
    """Return the numbers of leaves (one value each) and bytes of a ``Booster``."""
    if hasattr(model, "get_dump"):  # xgboost
        return sum(tree.count("leaf=") for tree in model.get_dump()), len(model.save_raw())
    trees = model.dump_model()["tree_info"]
    return sum(tree["num_leaves"] for tree in trees), len(model.model_to_string())
