"""Measure speed and memory of an exported model: ``python -m ... MEASUREMENT FILE`` prints JSON.

The measurement runs in a process of its own, which loads only the libraries needed to serve.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

K = 20  # items per recommendation
_SINGLE_USERS = 1000  # calls for a single user
_BATCH = 1024  # users per call in a pass over all users
_ROUNDS = 3  # passes over all users
_CHECKED = 50  # users with scores compared to a full sort


def first_answer(path: str) -> dict[str, float]:
    """Measure the time from the end of the import to the first recommendations.

    Returns:
        ``load``, this time in seconds; ``ready``, the moment of the recommendations on the clock
        ``time.monotonic``, which all processes of a machine share.
    """
    from recbole_lightgnn.serving.recommender import Recommender

    begun = time.perf_counter()
    recommender = Recommender.load(path)
    recommender.recommend(recommender.users.names([0]), min(K, len(recommender.items)))
    return {"load": time.perf_counter() - begun, "ready": time.monotonic()}


def answers(path: str) -> dict[str, Any]:
    """Measure time and memory of recommendations for single users and for all users.

    Args:
        path: the exported model.

    Returns:
        ``one_user``, seconds of each call for a single user; ``all_users``, seconds of each pass
        over all users; ``peak_mb``, peak memory in 10^6 bytes; ``dataset``, ``users`` and
        ``items``; and ``deviation``, the largest difference between the top-k scores and those of a
        full sort, divided by the largest score. It is computed for some users.
    """
    import numpy as np

    from recbole_lightgnn.serving.recommender import Recommender

    recommender = Recommender.load(path)
    users = recommender.users.names(np.arange(len(recommender.users)))
    k = min(K, len(recommender.items))
    sample = np.linspace(0, len(users) - 1, _SINGLE_USERS).astype(int)
    one_user, all_users = [], []
    for user in users[sample]:
        begun = time.perf_counter()
        recommender.recommend([user], k)
        one_user.append(time.perf_counter() - begun)
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for start in range(0, len(users), _BATCH):
            recommender.recommend(users[start : start + _BATCH], k)
        all_users.append(time.perf_counter() - begun)
    peak = _peak_mb()
    checked = sample[:: _SINGLE_USERS // _CHECKED]
    best = np.sort(recommender.user[checked] @ recommender.item.T, axis=1)[:, : -k - 1 : -1]
    got = recommender.recommend(users[checked], k, exclude_seen=False).scores
    return {
        "one_user": one_user[1:],  # the first call builds the lazy tables of names
        "all_users": all_users,
        "peak_mb": peak,
        "dataset": recommender.card.get("dataset"),
        "users": len(users),
        "items": len(recommender.items),
        "deviation": float(np.abs(got - best).max() / np.abs(best).max()),
    }


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no line VmHWM")


def main(arguments: Sequence[str]) -> None:
    """Run the measurement named on the command line, and print the result as JSON.

    Args:
        arguments: ``first_answer`` or ``answers``, and the path of an exported model.
    """
    measurement, path = arguments
    print(json.dumps({"first_answer": first_answer, "answers": answers}[measurement](path)))


if __name__ == "__main__":
    main(sys.argv[1:])
