"""Training loaders for the stages of a run."""

from __future__ import annotations

import math
from copy import copy
from logging import getLogger
from typing import Any

from recbole.data.dataloader import UserDataLoader
from recbole.data.utils import get_dataloader
from recbole.sampler import Sampler

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.drawing import apply_draw_by


class TrainingLoaders:
    """Make each stage's training loader, always with the same interactions.

    Args:
        train_data: RecBole's loader of the run's training batches.
        repeatable: RecBole's setting: whether a user may interact with an item several times.
    """

    def __init__(self, train_data: Any, *, repeatable: bool) -> None:
        self._train_data, self._repeatable = train_data, repeatable
        self._samplers: dict[tuple[str, float], Any] = {}

    def of(self, config: RunConfig, seed: int) -> Any:
        """Make a loader with batches of interactions, or of users (``batch_by: user``).

        Args:
            config: settings of the stage: ``batch_by``, ``train_batch_size``,
                ``train_neg_sample_args``, ``shuffle``, ``draw_by``, ``max_epoch_steps``.
            seed: random seed for the order of the interactions or users.
        """
        dataset = self._train_data._dataset
        if config["batch_by"] == "user":
            config = _with_larger_batches(config, dataset.user_num)
            loader = UserDataLoader(config, dataset, None, shuffle=True)
        else:
            sampler = self._sampler(config["train_neg_sample_args"])
            kind = get_dataloader(config, "train")
            loader = kind(config, dataset, sampler, shuffle=config["shuffle"])
            apply_draw_by(config, loader)
        loader.generator.manual_seed(seed)
        return loader

    def _sampler(self, arguments: dict[str, Any]) -> Any:
        """Return the sampler of negative items for a stage's ``train_neg_sample_args``.

        Popularity counts training interactions only; RecBole's own sampler would count all.
        """
        distribution = arguments["distribution"]
        if self._repeatable or distribution not in ("uniform", "popularity"):
            return self._train_data._sampler
        kind = (distribution, arguments["alpha"])
        if kind not in self._samplers:
            dataset = self._train_data._dataset
            self._samplers[kind] = Sampler("train", dataset, *kind).set_phase("train")
        return self._samplers[kind]


def _with_larger_batches(config: RunConfig, size: int) -> RunConfig:
    """Return settings with which an epoch has at most ``max_epoch_steps`` batches.

    Args:
        config: settings of the stage.
        size: number of users that RecBole draws in an epoch, with its padding user.
    """
    most = config["max_epoch_steps"]
    if not most or size <= most * config["train_batch_size"]:
        return config
    changed = copy(config)
    larger = {"train_batch_size": math.ceil(size / most)}
    getLogger().info(f"batches of {larger['train_batch_size']} users, as max_epoch_steps asks for")
    changed.final_config_dict = {**config.final_config_dict, **larger}
    return changed
