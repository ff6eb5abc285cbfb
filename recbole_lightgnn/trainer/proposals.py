"""Settings that the search for a teacher tries, from the results so far.

The order is fixed, and each proposal depends on earlier scores alone. So the same scores give the
same proposals, and a search with more trials begins as one with fewer. Only the end of the first
part may depend on time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

Values = dict[str, Any]

# Settings of every trial of a teacher, unless the trial says otherwise. Only the last epoch is
# validated, so that the ranking, which is fitted later, cannot change which epoch is taken.
_COMMON: Values = {
    "batch_by": "user",
    "similarity": "cosine",
    "temperature": 0.15,
    "popularity_prior": 0.5,
    "n_layers": 2,
    "user_degree_exponent": 0.5,
    "item_degree_exponent": 0.5,
    "embedding_size": 64,
    "reg_weight": 0.0,
    "learning_rate": 5.0e-3,
    "learning_rate_end": 0.1,
    "epochs": 8,
    "epoch_steps": 16,
    "max_epoch_steps": 96,
    "max_edge_visits": 6.0e8,
    "train_batch_size": 512,
}
# First part: narrow models and short trainings show which kind of model suits the data.
_SCREENED: tuple[Values, ...] = (
    {},
    {"temperature": 0.25, "popularity_prior": 1.0, "n_layers": 3},
    {"user_degree_exponent": 0.4, "item_degree_exponent": 0.4},
    {"temperature": 0.1},
    {"popularity_prior": 1.0, "n_layers": 3},
    {"n_layers": 1},
    {"temperature": 0.2, "popularity_prior": 0.25},
    {
        **{"batch_by": "interaction", "similarity": "inner", "temperature": 0.2, "n_layers": 3},
        **{"learning_rate": 1.0e-3, "train_batch_size": 2048, "popularity_prior": None},
        # It has a batch for every 2048 interactions, so many more.
        **{"epochs": 2, "max_epoch_steps": None},
    },
)
_MOST_INTERACTIONS = 1_000_000  # for the last of them, which takes long on large data
_EXPONENTS = ("user_degree_exponent", "item_degree_exponent")
# Second part: the best kind again, wider; then one change at a time is tried.
_FULL: Values = {"embedding_size": 128}
_LIMITS = {
    "embedding_size": (16, 256),
    "epochs": (2, 128),
    "n_layers": (0, 5),
    "user_degree_exponent": (0.0, 1.0),
    "item_degree_exponent": (0.0, 1.0),
    "temperature": (0.02, 2.0),
    "popularity_prior": (0.0, 1.5),
    "learning_rate": (1.0e-4, 3.0e-2),
}
_CHANGES: tuple[tuple[str, str, float], ...] = (
    ("epochs", "*", 2.0),
    ("temperature", "*", 0.77),
    ("n_layers", "+", 1),
    ("item_degree_exponent", "+", -0.1),
    ("learning_rate", "*", 0.5),
    ("reg_weight", "=", 1.0),
    ("embedding_size", "*", 2.0),
    ("temperature", "*", 1.3),
    ("popularity_prior", "+", 0.25),
    ("user_degree_exponent", "+", -0.1),
    ("epochs", "*", 0.5),
    ("learning_rate", "*", 2.0),
    ("n_layers", "+", -1),
    ("popularity_prior", "+", -0.25),
)


class Tried(NamedTuple):
    """A trial that has ended.

    Attributes:
        settings: the trial's settings of the teacher.
        score: validation score, larger is better; ``None`` if the training failed.
        planned_epochs: number of epochs, if ``max_edge_visits`` allowed fewer than ``epochs``.
        seconds: time of the trial.
    """

    settings: Mapping[str, Any]
    score: float | None
    planned_epochs: int | None = None
    seconds: float = 0.0


def propose(
    tried: Sequence[Tried], n_interactions: int = 0, most_seconds: float = math.inf
) -> Values | None:
    """Return the settings of the next trial; ``None`` if no change is left to try.

    Args:
        tried: all trials that have ended, in their order.
        n_interactions: number of training interactions.
        most_seconds: time of the whole search. The first part ends when half of it is over.
    """
    screened = _SCREENED[:-1] if n_interactions > _MOST_INTERACTIONS else _SCREENED
    used = accumulate(one.seconds for one in tried)
    in_time = sum(seconds < most_seconds / 2 for seconds in used) + 1
    screened = screened[:in_time]
    if len(tried) < len(screened):
        return _whole(screened[len(tried)])
    best = _best(tried)
    if best is None:
        return None
    if len(tried) == len(screened):
        return {**best.settings, **_FULL}
    # After an improvement, the other changes are tried from the new best.
    known = [one.settings for one in tried]
    start = _position(tried, len(screened) + 1)
    for number in range(len(_CHANGES)):
        changed = _change(best.settings, *_CHANGES[(start + number) % len(_CHANGES)])
        if changed not in known and not _has_no_effect(changed, best):
            return changed
    return None


def _has_no_effect(changed: Mapping[str, Any], best: Tried) -> bool:
    """Whether a change of the best trial gives the same model."""
    no_graph = changed["n_layers"] == best.settings["n_layers"] == 0
    if no_graph and any(changed[key] != best.settings[key] for key in _EXPONENTS):
        return True
    other_epochs = changed["epochs"] != best.settings["epochs"]
    most = best.planned_epochs
    return other_epochs and most is not None and bool(changed["epochs"] >= most)


def _whole(values: Values) -> Values:
    """Complete a screened trial; a setting that is ``None`` is left out."""
    return {key: value for key, value in {**_COMMON, **values}.items() if value is not None}


def _best(tried: Sequence[Tried]) -> Tried | None:
    """Return the best trial; the first of equal ones; ``None`` if all failed."""
    scored = [one for one in tried if one.score is not None]
    return max(scored, key=lambda one: one.score or 0.0, default=None)


def _position(tried: Sequence[Tried], first: int) -> int:
    """Return the number of the change after the one that was tried last.

    Args:
        tried: all trials that have ended, in their order.
        first: number of trials before the first change.
    """
    best_before = _best(tried[:-1])
    if len(tried) <= first or best_before is None:
        return 0
    for number, change in enumerate(_CHANGES):
        if _change(best_before.settings, *change) == tried[-1].settings:
            return number + 1
    return 0


def _change(settings: Mapping[str, Any], key: str, how: str, by: float) -> Values:
    """Apply one change, within the limits; a setting that a model does not have stays absent."""
    if key not in settings:
        return dict(settings)
    value = {"*": settings[key] * by, "+": settings[key] + by, "=": by}[how]
    low, high = _LIMITS.get(key, (value, value))
    value = min(max(value, low), high)
    integral = isinstance(settings[key], int)
    return {**settings, key: round(value) if integral else float(f"{value:.4g}")}
