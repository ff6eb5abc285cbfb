"""Compute the validation score of a ranking by popularity, once for each comparison."""

from __future__ import annotations

from dataclasses import replace

from recbole_lightgnn.comparison.layout import read_comparison
from recbole_lightgnn.comparison.plan import Plan
from recbole_lightgnn.comparison.protocol import protocol_of
from recbole_lightgnn.config.settings_diff import other_settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import choose, configure
from recbole_lightgnn.utils.files import plain

_QUIET = {"state": "warning", "show_progress": False}


def with_popularity(plan: Plan) -> Plan:
    """Return the plan with the validation score of RecBole's ``Pop``, which needs no training.

    If ``comparison.json`` has the score, it is read from there.
    """
    begun = read_comparison(plan.out) or {}
    score = begun.get("popularity")
    return replace(plan, popularity=_score(plan) if score is None else score)


def _score(plan: Plan) -> float | None:
    """Compute the score of ``Pop``; ``None`` if ``Pop`` cannot use the comparison's protocol."""
    settings = plan.given_of_data | _QUIET
    try:
        config = configure("Pop", plan.dataset, settings=settings)
        if other_settings(plain(protocol_of(config)), plain(plan.protocol)):
            return None
        score: float = choose("Pop", plan.dataset, settings=settings)["score"]
    except InputError:
        return None
    return score
