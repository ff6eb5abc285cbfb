"""Which items a user's test ranking leaves out: the setting ``eval_mask``.

RecBole leaves out a user's training and validation items (``train+valid``); the LightGNN paper the
training items only (``train``), which makes the task harder. Validation leaves out the training
items in both. An item to be found is never left out.
"""

import functools
from collections.abc import Callable
from typing import Any

from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Let RecBole's evaluation loaders heed ``eval_mask``, whoever makes them.

    Does nothing the second time.
    """
    from recbole.data.dataloader.general_dataloader import (
        FullSortEvalDataLoader,
        NegSampleEvalDataLoader,
    )

    # The second has no mask: it only refuses a setting that it cannot heed.
    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        if not hasattr(loader.__init__, "__wrapped__"):
            loader.__init__ = _then_mask(loader.__init__)
            loader.update_config = _then_mask(loader.update_config)


def mask_in_force(config: Any) -> str:
    """What a user's test ranking leaves out, for the record.

    Args:
        config: RecBole's ``Config``.

    Returns:
        ``train+valid``, ``train`` or, where RecBole leaves out nothing (lists of sampled or
        labelled items, sequences, ``repeatable``), ``none``.

    Raises:
        InputError: if ``train`` is asked for where RecBole leaves out nothing.
    """
    from recbole.utils import ModelType

    # Settings of RecBole's own models are not checked where RecBole's own functions run them.
    if config["eval_mask"] not in (None, "train+valid", "train"):
        raise InputError(f"eval_mask must be train+valid or train, got {config['eval_mask']!r}")
    wants_train = config["eval_mask"] == "train"
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


def _then_mask(original: Callable[..., None]) -> Callable[..., None]:
    """A loader's method that takes a config; then the history is as that config says."""

    @functools.wraps(original)
    def method(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        mask = mask_in_force(config)
        original(self, config, *args, **kwargs)
        phase = getattr(self._sampler, "phase", None)  # labelled lists have no sampler
        # A loader that RecBole saved may have been made under the other setting.
        if phase == "test" and mask not in ("none", getattr(self, "eval_mask", "train+valid")):
            _set_history(self, mask)

    return method


def _set_history(loader: Any, mask: str) -> None:
    """Let the history of each of the loader's users be what ``mask`` says."""
    seen = _train_items(loader._sampler) if mask == "train" else loader._sampler.used_ids
    for user in loader.uid_list.tolist():
        to_find = set(loader.uid2positive_item[user].tolist())
        loader._set_user_property(user, seen[user], to_find)
    loader.eval_mask = mask


def _train_items(sampler: Any) -> list[set[int]]:
    """The items of every user in the train split, which RecBole's sampler keeps."""
    train = sampler.datasets[sampler.phases.index("train")].inter_feat
    items: list[set[int]] = [set() for _ in range(sampler.user_num)]
    users_of, items_of = train[sampler.uid_field].tolist(), train[sampler.iid_field].tolist()
    for user, item in zip(users_of, items_of, strict=True):
        items[user].add(item)
    return items
