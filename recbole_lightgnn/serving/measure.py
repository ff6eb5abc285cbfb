"""How soon and in how much memory a model answers: ``python -m ... FILE`` prints it as JSON.

To be run in a process of its own, which imports what a service would and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

K = 20
_USERS = 1000  # asked about one at a time
_AT_ONCE = 1024  # of all users, asked about together
_ROUNDS = 3
_CHECKED = 50  # users


def first_answer(path: str) -> dict[str, float]:
    """From nothing to the first recommendations.

    Returns:
        ``load``, seconds from the import on; ``ready``, when the answer was there, by the clock
        that counts from the machine's start, which whoever started the process may read too.
    """
    from recbole_lightgnn.serving.recommender import Recommender

    begun = time.perf_counter()
    recommender = Recommender.load(path)
    recommender.recommend(recommender.users.names([0]), min(K, len(recommender.items)))
    return {"load": time.perf_counter() - begun, "ready": time.monotonic()}


def answers(path: str) -> dict[str, Any]:
    """Seconds for some users, one at a time, and for all users; and the memory that this took.

    Returns:
        ``one_user`` and ``all_users`` (lists), ``peak_mb`` (10^6 bytes), ``dataset``, ``users``,
        ``items``, and ``deviation``: by how much of the largest score what is recommended to some
        users falls short of the best there is.
    """
    import numpy as np

    from recbole_lightgnn.serving.recommender import Recommender

    recommender = Recommender.load(path)
    users = recommender.users.names(np.arange(len(recommender.users)))
    k = min(K, len(recommender.items))
    some = np.linspace(0, len(users) - 1, _USERS).astype(int)
    one_user, all_users = [], []
    for user in users[some]:
        begun = time.perf_counter()
        recommender.recommend([user], k)
        one_user.append(time.perf_counter() - begun)
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for start in range(0, len(users), _AT_ONCE):
            recommender.recommend(users[start : start + _AT_ONCE], k)
        all_users.append(time.perf_counter() - begun)
    peak = _peak_mb()
    checked = some[:: _USERS // _CHECKED]
    best = np.sort(recommender.user[checked] @ recommender.item.T, axis=1)[:, : -k - 1 : -1]
    got = recommender.recommend(users[checked], k, exclude_seen=False).scores
    return {
        "one_user": one_user[1:],  # what is made on first use is no user's
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
    """Print what ``first_answer`` or ``answers`` of a file comes to."""
    what, path = arguments
    print(json.dumps({"first_answer": first_answer, "answers": answers}[what](path)))


if __name__ == "__main__":
    main(sys.argv[1:])
