"""A small world whose right answer is known: communities, with some interactions that are noise."""

from pathlib import Path

import torch

from recbole_lightgnn.data import loaders as splits
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

WIDTH = 4  # of the embeddings of a model that the fixture `build` makes


def columns(model, rows=24):
    """Users, items and sampled items of a batch. Shape of each: (rows,)"""
    batch = model.batch
    names = (model.USER_ID, model.ITEM_ID, model.NEG_ITEM_ID)
    return tuple(batch[name][:rows] for name in names)


def tables(model):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(model.n_users, WIDTH, generator=generator),
        torch.randn(model.n_items, WIDTH, generator=generator),
    )


def interactions(model):
    pattern = model.observed.interactions.pattern
    return set(zip(pattern.row.tolist(), pattern.col.tolist(), strict=True))


class Sealed:
    """A loader that only the checks of a dataset may look at."""

    def __init__(self, loader):
        self._dataset = loader._dataset

    def _broken(self, *_):
        raise AssertionError("the test split was opened")

    __iter__ = __len__ = __bool__ = __getattr__ = _broken


def seal_test_split(monkeypatch):
    """From now on, whoever looks at a test loader breaks."""
    prepare = splits.data_preparation

    def sealed(config, dataset):
        train, valid, test = prepare(config, dataset)
        return train, valid, Sealed(test)

    monkeypatch.setattr(splits, "data_preparation", sealed)
