"""A small world whose right answer is known: communities, with some interactions that are noise."""

from pathlib import Path

import numpy as np

N_USERS, N_ITEMS, N_GROUPS = 90, 60, 3
NOISE = 1  # interactions a user has outside the community


def write_planted(folder: Path, name: str = "planted", seed: int = 0) -> dict[str, set]:
    """Write ``name`` as RecBole benchmark files under ``folder``; returns the pairs of each part.

    User u likes items of community ``u % N_GROUPS``. Train holds 8 of them and the noise,
    validation and test 3 each.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, set] = {"train": set(), "valid": set(), "test": set(), "noise": set()}
    items = np.arange(N_ITEMS)
    for user in range(N_USERS):
        own = rng.permutation(items[items % N_GROUPS == user % N_GROUPS])
        other = rng.permutation(items[items % N_GROUPS != user % N_GROUPS])
        for part, chosen in (("train", own[:8]), ("valid", own[8:11]), ("test", own[11:14])):
            parts[part] |= {(user, int(item)) for item in chosen}
        parts["noise"] |= {(user, int(item)) for item in other[:NOISE]}
    parts["train"] |= parts["noise"]
    home = folder / name
    home.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        lines = ["user_id:token\titem_id:token"]
        lines += [f"u{user}\ti{item}" for user, item in sorted(parts[part])]
        (home / f"{name}.{part}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parts


# Enough to learn this world in about a second, through every stage.
QUICK = {
    "show_progress": False,
    "topk": [5, 20],
    "valid_metric": "Recall@5",
    "embedding_size": 16,
    "n_pruning_runs": 2,
    "epochs": 3,
    "train_batch_size": 256,
    "teacher_settings": {"embedding_size": 16, "epochs": 8, "learning_rate": 0.01},
    "intermediate_settings": {"embedding_size": 16, "epochs": 3, "augmentation_cap": 4},
}
