"""The planted dataset: communities of users and items, with known noise interactions."""

from pathlib import Path

import torch

from recbole_lightgnn.data import loaders as splits
from recbole_lightgnn.data.generate import Pairs, World, generate, planted_pairs

N_USERS, N_ITEMS = World().users, World().items


def write_planted(folder: Path, name: str = "planted", seed: int = 0) -> dict[str, Pairs]:
    """Write the dataset as benchmark files under ``folder``; return the pairs of each split."""
    world = World(seed=seed)
    generate(name, world, folder)
    return planted_pairs(world)


# Settings that train every stage on this dataset in about a second.
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


def quick_settings(**changes):
    """QUICK with changes, without the settings of stages that are then not trained."""
    unused = set()
    if changes.get("teacher_checkpoint"):
        unused.add("teacher_settings")
    if changes.get("use_intermediate") is False or changes.get("ablation") == "-IntKD":
        unused.add("intermediate_settings")
    if changes.get("intermediate_checkpoint"):
        unused |= {"teacher_settings", "intermediate_settings"}
    return {key: value for key, value in {**QUICK, **changes}.items() if key not in unused}


WIDTH = 4  # embedding size of the models that the fixture `build` makes


def columns(model, rows=24):
    """Users, items and sampled items of the model's batch. Shape of each: (rows,)"""
    batch = model.batch
    names = (model.USER_ID, model.ITEM_ID, model.NEG_ITEM_ID)
    return tuple(batch[name][:rows] for name in names)


def tables(model):
    """Random user and item embeddings. Shapes: (users, WIDTH) and (items, WIDTH)"""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(model.n_users, WIDTH, generator=generator),
        torch.randn(model.n_items, WIDTH, generator=generator),
    )


def interactions(model):
    """The model's training interactions as a set of (user, item) pairs."""
    pattern = model.observed.interactions.pattern
    return set(zip(pattern.row.tolist(), pattern.col.tolist(), strict=True))


class Sealed:
    """A test loader that fails if anything but its dataset is used."""

    def __init__(self, loader):
        self._dataset = loader._dataset

    def _broken(self, *_):
        raise AssertionError("the test split was opened")

    __iter__ = __len__ = __bool__ = __getattr__ = _broken


def seal_test_split(monkeypatch):
    """Make every later use of a test loader fail, within the test."""
    prepare = splits.data_preparation

    def sealed(config, dataset):
        train, valid, test = prepare(config, dataset)
        return train, valid, Sealed(test)

    monkeypatch.setattr(splits, "data_preparation", sealed)
