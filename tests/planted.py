"""A small world whose right answer is known: communities, with some interactions that are noise."""

from pathlib import Path

from recbole_lightgnn.data.generate import Pairs, World, generate, planted_pairs

N_USERS, N_ITEMS = World().users, World().items


def write_planted(folder: Path, name: str = "planted", seed: int = 0) -> dict[str, Pairs]:
    """Write ``name`` as benchmark files under ``folder``; returns the pairs of each part."""
    world = World(seed=seed)
    generate(name, world, folder)
    return planted_pairs(world)


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
