"""What carries a user's scores, as plain values and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_lightgnn.serving.recommender import Recommender


def explained_scores(
    recommender: Recommender, user: str, item: str | None, k: int
) -> list[dict[str, Any]]:
    """What carries the score of an item, or of the k best unseen ones (`Recommender.explain`).

    Returns:
        For each item its ``score``, what the user's ``own`` embedding gives, and what each kept
        interaction does: ``carried``, the most first.

    Raises:
        InputError: if the user or the item is not known, or the file has no edges.
    """
    best = recommender.recommend([user], k).items[0] if item is None else [item]
    found = []
    for name in (name for name in best if name is not None):
        why = recommender.explain(user, name)
        carried = zip(why.items, why.weights.tolist(), why.contributions.tolist(), strict=True)
        keys = ("item", "weight", "contribution")
        found.append(
            {
                "item": name,
                "score": why.score,
                "own": why.own,
                "carried": [dict(zip(keys, part, strict=True)) for part in carried],
            }
        )
    return found


def lines(explained: Mapping[str, Any], shown: int = 3) -> Iterator[str]:
    """An explanation for reading, columns parted by tabs.

    Args:
        explained: its ``scores``; and ``interactions``, where there are any to show.
        shown: how many parts of each of several scores.
    """
    if "interactions" in explained:
        yield "interaction\tweight\t"
        for one in explained["interactions"]:
            gone = one["pruned_in"]
            fate = "kept" if gone is None else f"pruned in run {gone}"
            yield f"{one['item']}\t{one['weight']:.3f}\t{fate}"
        yield ""
    yield "item\tscore\tthe user's own\tcarried by"
    scores: Sequence[Mapping[str, Any]] = explained["scores"]
    for one in scores:
        carried = one["carried"] if len(scores) == 1 else one["carried"][:shown]
        parts = [f"{part['contribution']:+.4g} {part['item']}" for part in carried]
        rest = len(one["carried"]) - len(carried)
        parts += [f"{rest} more"] if rest else []
        yield f"{one['item']}\t{one['score']:.5g}\t{one['own']:+.4g}\t{', '.join(parts)}"
