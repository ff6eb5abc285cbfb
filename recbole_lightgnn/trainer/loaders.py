"""A run's training data, as each of its stages wants it in batches."""

from __future__ import annotations

from typing import Any

from recbole.data.dataloader import UserDataLoader
from recbole.data.utils import get_dataloader
from recbole.sampler import Sampler


class TrainingLoaders:
    """Loaders of the same interactions with other batch sizes, sampling and seeds.

    Args:
        train_data: the run's own loader.
        repeatable: RecBole's setting: a user may have an item several times.
    """

    def __init__(self, train_data: Any, *, repeatable: bool) -> None:
        self._train_data, self._repeatable = train_data, repeatable
        self._samplers: dict[tuple[str, float], Any] = {}

    def of(self, config: Any, seed: int) -> Any:
        """A fresh loader, of rows or of users.

        Args:
            config: the stage's settings: ``batch_by``, ``train_batch_size``,
                ``train_neg_sample_args``, ``shuffle``.
            seed: of the order.
        """
        dataset = self._train_data._dataset
        if config["batch_by"] == "user":
            loader = UserDataLoader(config, dataset, None, shuffle=True)
        else:
            sampler = self._sampler(config["train_neg_sample_args"])
            kind = get_dataloader(config, "train")
            loader = kind(config, dataset, sampler, shuffle=config["shuffle"])
        loader.generator.manual_seed(seed)
        return loader

    def _sampler(self, drawn: dict[str, Any]) -> Any:
        """Draws negatives as a stage's own settings say.

        Popularity is counted on the training interactions; RecBole counts the other splits too.
        """
        distribution = drawn["distribution"]
        if self._repeatable or distribution not in ("uniform", "popularity"):
            return self._train_data._sampler
        kind = (distribution, drawn["alpha"])
        if kind not in self._samplers:
            dataset = self._train_data._dataset
            self._samplers[kind] = Sampler("train", dataset, *kind).set_phase("train")
        return self._samplers[kind]
