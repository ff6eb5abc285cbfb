"""Explain why items are recommended to a user: parts of each score, as values and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_lightgnn.serving.recommender import Recommender


def explain_scores(
    recommender: Recommender, user: str, item: str | None, k: int
) -> list[dict[str, Any]]:
    """Explain a user's score of one item, or the scores of the user's top-k unseen items.

    Args:
        recommender: the exported model, with edges (form ``graph``).
        user: name of the user.
        item: name of the item; ``None`` explains the top-k items.
        k: number of items to explain if ``item`` is ``None``.

    Returns:
        A mapping for each explained item, with ``item``; ``score``; ``own``, the part of the score
        from the user's own embedding; and ``carried``, a list with ``item``, ``weight`` and
        ``contribution`` of each kept interaction of the user, largest contribution first.

    Raises:
        InputError: if the user or the item is unknown, or the file has no edges.
    """
    names = recommender.recommend([user], k).items[0] if item is None else [item]
    entries = []
    for name in (name for name in names if name is not None):
        explanation = recommender.explain(user, name)
        interactions = zip(
            explanation.items,
            explanation.weights.tolist(),
            explanation.contributions.tolist(),
            strict=True,
        )
        keys = ("item", "weight", "contribution")
        entries.append(
            {
                "item": name,
                "score": explanation.score,
                "own": explanation.own,
                "carried": [dict(zip(keys, values, strict=True)) for values in interactions],
            }
        )
    return entries


def explanation_lines(explained: Mapping[str, Any], shown: int = 3) -> Iterator[str]:
    """Format explained scores as lines with columns separated by tabs.

    Args:
        explained: ``scores``, the result of `explain_scores`; and optionally ``interactions``, the
            result of `runs.history.history`.
        shown: number of contributions to show per score; ignored if there is only one score.
    """
    if "interactions" in explained:
        yield "interaction\tweight\t"
        for interaction in explained["interactions"]:
            run = interaction["pruned_in"]
            state = "kept" if run is None else f"pruned in run {run}"
            yield f"{interaction['item']}\t{interaction['weight']:.3f}\t{state}"
        yield ""
    yield "item\tscore\tuser's embedding\tinteractions"
    scores: Sequence[Mapping[str, Any]] = explained["scores"]
    for entry in scores:
        carried = entry["carried"] if len(scores) == 1 else entry["carried"][:shown]
        parts = [f"{part['contribution']:+.4g} {part['item']}" for part in carried]
        rest = len(entry["carried"]) - len(carried)
        parts += [f"{rest} more"] if rest else []
        yield f"{entry['item']}\t{entry['score']:.5g}\t{entry['own']:+.4g}\t{', '.join(parts)}"
