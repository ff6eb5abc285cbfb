"""Compare validation scores with a ranking by popularity, which is the same for all users.

If a model's score is not above the score of this ranking, the model's settings do not suit the
dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.registry import space_of

_WITHOUT_SETTINGS = ("Pop", "Random")  # models that have no settings to try
_MOST_NAMED = 4  # settings that the advice names


@dataclass(frozen=True)
class Popularity:
    """The validation score of RecBole's ``Pop`` (ranking by popularity) on a comparison's data.

    Attributes:
        score: the validation score.
        metric: name of the score's metric.
        bigger: whether a larger score is better.
        searched: whether the comparison searches settings for its models.
    """

    score: float
    metric: str
    bigger: bool
    searched: bool

    def is_below(self, score: float) -> bool:
        """Whether the score of ``Pop`` is worse than the validation score ``score``."""
        return score > self.score if self.bigger else score < self.score

    def warning(self, model: str, scores: Mapping[int, float]) -> str | None:
        """Advise which settings to change if a model's score is not above the score of ``Pop``.

        Args:
            model: name of the model, not of a variant.
            scores: the model's validation score, by seed.

        Returns:
            The advice as text; ``None`` if all scores are above the score of ``Pop``.
        """
        low = {seed: score for seed, score in scores.items() if not self.is_below(score)}
        if not low or model in _WITHOUT_SETTINGS:
            return None
        seeds = ""
        if len(low) < len(scores):
            seeds = f" with seed{'s' * (len(low) > 1)} {', '.join(map(str, low))}"
        return (
            f"not above popularity{seeds} (validation {self.metric} {mean(low.values()):.4f}, "
            f"popularity {self.score:.4f}): try {self._advice(model)}"
        )

    def _advice(self, model: str) -> str:
        file = space_of(model)
        if not file.is_file():
            return "other settings, such as learning_rate if the model has one"
        names = sorted(read_yaml(file), key=_importance)[:_MOST_NAMED]
        search = "more trials" if self.searched else "a search"
        return f"{search} (--tune-trials), or other values of {', '.join(names)}"


def popularity_of(comparison: Mapping[str, Any]) -> Popularity | None:
    """Read the score of ``Pop`` from the content of ``comparison.json``; ``None`` if missing."""
    score = comparison.get("popularity")
    if not isinstance(score, int | float):
        return None
    protocol = comparison["protocol"]
    return Popularity(
        score=score,
        metric=protocol["valid_metric"].lower(),
        bigger=protocol["valid_metric_bigger"],
        searched=comparison.get("search") is not None,
    )


def _importance(setting: str) -> tuple[bool, bool]:
    """Sort key for names of settings, in the order in which to try them.

    First the learning rate, then settings of a contrastive loss, then the rest.
    """
    contrastive = re.search("temperature|contrast|ssl_", setting)
    return setting != "learning_rate", contrastive is None
