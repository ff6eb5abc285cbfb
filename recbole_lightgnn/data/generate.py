"""Generate a small dataset with known communities and known noise interactions.

User u belongs to community ``u % communities`` and likes only items i with the same remainder
``i % communities``. Noise interactions are with items of other communities. They are in train and
are also listed in ``NAME.noise.inter``. Pruning should remove the noise interactions first.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.data.atomic import SPLITS, Interactions, write_benchmark
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import write_json

MAX_CELLS = 10**8  # limit of users x items; generating that many takes some seconds
LIKED = {"train": 8, "valid": 3, "test": 3}  # items per user inside the user's community
Pairs = set[tuple[int, int]]


class World(NamedTuple):
    """Parameters of a generated dataset; the defaults are those of the dataset ``planted``.

    Attributes:
        users: number of users.
        items: number of items.
        communities: number of communities.
        noise: number of train interactions per user outside the user's community.
        seed: seed of the random choices.
    """

    users: int = 90
    items: int = 60
    communities: int = 3
    noise: int = 1
    seed: int = 0


def planted_pairs(world: World) -> dict[str, Pairs]:
    """Generate the pairs (user number, item number) of each split.

    The time is proportional to users x items, so the function is for tests and examples.

    Returns:
        The pairs by split, with the keys ``train``, ``valid``, ``test`` and ``noise``. The noise
        pairs are also in ``train``.

    Raises:
        InputError: if the communities have too few items, or a number is out of range.
    """
    _check(world)
    rng = np.random.default_rng(world.seed)
    parts: dict[str, Pairs] = {"train": set(), "valid": set(), "test": set(), "noise": set()}
    items = np.arange(world.items)
    for user in range(world.users):
        home = items % world.communities == user % world.communities
        liked = iter(rng.permutation(items[home]).tolist())
        others = rng.permutation(items[~home]).tolist()
        for split, count in LIKED.items():
            parts[split] |= {(user, next(liked)) for _ in range(count)}
        parts["noise"] |= {(user, item) for item in others[: world.noise]}
    parts["train"] |= parts["noise"]
    return parts


def generate(
    name: str, world: World | None = None, out: Path = Path("dataset"), overwrite: bool = False
) -> Path:
    """Generate a dataset; write it as RecBole benchmark files to ``out/name``; return this folder.

    The same parameters always give the same bytes. Besides the three splits and the card, the file
    ``NAME.noise.inter`` lists the noise pairs; no run reads this file.

    Args:
        name: name of the dataset.
        world: parameters of the dataset; the default is ``World()``.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.

    Raises:
        InputError: as `planted_pairs` and `atomic.write_benchmark`.
    """
    world = world or World()
    parts = planted_pairs(world)
    flags = " ".join(f"--{key} {value}" for key, value in world._asdict().items())
    origin = {
        "format": "generated",
        "source": f"recbole-lightgnn data generate {name} {flags}",
        "how_split": f"{', '.join(f'{n} {split}' for split, n in LIKED.items())} interactions of a "
        f"user inside the community; {world.noise} outside it in train, as NAME.noise.inter lists",
    }
    splits = {split: _interactions(parts[split], world) for split in SPLITS}
    folder = write_benchmark(out, name, splits, origin, overwrite=overwrite)
    _complete(folder, name, parts["noise"])
    return folder


def _complete(folder: Path, name: str, noise: Pairs) -> None:
    """Write the file of noise pairs; make the card reproducible by removing the import time."""
    lines = ["user_id:token\titem_id:token", *(f"{u}\t{i}" for u, i in sorted(noise))]
    card = folder / f"{name}.card.json"
    content = json.loads(card.read_bytes())
    del content["imported"]
    try:
        (folder / f"{name}.noise.inter").write_bytes("".join(f"{x}\n" for x in lines).encode())
        write_json(card, content)
    except OSError as error:
        raise InputError(
            f"{folder} could not be completed ({error.strerror or error}): check disk space and "
            "permissions, then generate it again with --overwrite"
        ) from error


def _check(world: World) -> None:
    for key, low in {"users": 1, "items": 1, "communities": 1, "noise": 0, "seed": 0}.items():
        if getattr(world, key) < low:
            raise InputError(f"--{key} must be at least {low}, got {getattr(world, key)}")
    if world.users * world.items > MAX_CELLS:
        raise InputError(
            f"{world.users} users x {world.items} items are more than {MAX_CELLS:.0e} cells; this "
            "command makes small datasets: give fewer --users or --items"
        )
    smallest, needed = world.items // world.communities, sum(LIKED.values())
    if smallest < needed:
        raise InputError(
            f"{world.items} items in {world.communities} communities leave {smallest} in the "
            f"smallest; expected at least {needed}: give more --items or fewer --communities"
        )
    outside = world.items - -(-world.items // world.communities)
    if world.noise > outside:
        raise InputError(
            f"--noise must be at most {outside}, the number of items outside the largest "
            f"community, got {world.noise}; give less --noise or more --items"
        )


def _interactions(pairs: Pairs, world: World) -> Interactions:
    users, items = np.array(sorted(pairs), dtype=np.int64).T
    return Interactions(users, items, (world.users, world.items))
