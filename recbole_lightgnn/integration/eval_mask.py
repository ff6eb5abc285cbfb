"""The setting ``eval_mask``: which items are masked (not ranked) in test rankings.

RecBole masks a user's training and validation items (``train+valid``). The LightGNN paper masks the
training items only (``train``), which makes the task harder. In validation, both values mask the
training items. A user's test items are never masked.
"""

import functools
from collections.abc import Callable
from typing import Any

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Make RecBole's evaluation loaders apply ``eval_mask``, also in runs by RecBole's own API."""
    from recbole.data.dataloader.general_dataloader import (
        FullSortEvalDataLoader,
        NegSampleEvalDataLoader,
    )

    # NegSampleEvalDataLoader masks nothing: it only rejects a value that it cannot apply.
    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        if not hasattr(loader.__init__, "__wrapped__"):
            loader.__init__ = _with_mask(loader.__init__)
            loader.update_config = _with_mask(loader.update_config)


def mask_in_force(config: RunConfig) -> str:
    """Return the value of ``eval_mask`` in force, for the run's record.

    Returns:
        ``train+valid`` or ``train``, or ``none`` if RecBole masks nothing. RecBole masks nothing in
        rankings of sampled or labelled items, for sequential models, and with the setting
        ``repeatable``.

    Raises:
        InputError: if ``eval_mask`` has no valid value, or is ``train`` where RecBole masks
            nothing.
    """
    from recbole.utils import ModelType

    # RecBole's own functions run its models without checking our settings.
    if config["eval_mask"] not in (None, "train+valid", "train"):
        raise InputError(f"eval_mask must be train+valid or train, got {config['eval_mask']!r}")
    # A refit trains on validation interactions, so that these are train interactions, too.
    wants_train = config["eval_mask"] == "train" and not config["refit"]
    full = config["eval_args"]["mode"]["test"] == "full"
    if full and not config["repeatable"] and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return "train" if wants_train else "train+valid"
    if wants_train:
        raise InputError(
            "eval_mask `train` needs a full ranking by a non-sequential model, of items that are "
            "not repeatable; set eval_mask to `train+valid`, or eval_args mode to `full` and "
            "repeatable to False"
        )
    return "none"


def _with_mask(original: Callable[..., None]) -> Callable[..., None]:
    """Extend a loader's method that receives a config, to set the masked items at its end."""

    @functools.wraps(original)
    def method(self: Any, config: RunConfig, *args: Any, **kwargs: Any) -> None:
        mask = mask_in_force(config)
        original(self, config, *args, **kwargs)
        phase = getattr(self._sampler, "phase", None)  # loaders of labelled items have no sampler
        # A loader that RecBole saved may have been made with the other value.
        if phase == "test" and mask not in ("none", getattr(self, "eval_mask", "train+valid")):
            _set_masked_items(self, mask)

    return method


def _set_masked_items(loader: Any, mask: str) -> None:
    """Set the masked items of every user of a loader (RecBole's name: the user's history)."""
    masked = _train_items(loader._sampler) if mask == "train" else loader._sampler.used_ids
    for user in loader.uid_list.tolist():
        test_items = set(loader.uid2positive_item[user].tolist())
        loader._set_user_property(user, masked[user], test_items)
    loader.eval_mask = mask


def _train_items(sampler: Any) -> list[set[int]]:
    """Collect every user's training items from RecBole's sampler, as one set for each user."""
    train = sampler.datasets[sampler.phases.index("train")].inter_feat
    items: list[set[int]] = [set() for _ in range(sampler.user_num)]
    user_column, item_column = train[sampler.uid_field], train[sampler.iid_field]
    for user, item in zip(user_column.tolist(), item_column.tolist(), strict=True):
        items[user].add(item)
    return items
