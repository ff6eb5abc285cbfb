"""A small world whose right answer is known: communities of taste, and interactions that are noise.

User u belongs to community ``u % communities`` and likes items i of the same remainder alone. What
is planted outside the community is written to ``NAME.noise.inter`` beside the splits: it is in
train as well, and what a pruning run should remove first.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.data.atomic import SPLITS, Interactions, write_benchmark
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import write_json

MAX_CELLS = 10**8  # users x items: some seconds
LIKED = {"train": 8, "valid": 3, "test": 3}  # items of the own community, a user
Pairs = set[tuple[int, int]]


class World(NamedTuple):
    """What is planted; the defaults are the dataset ``planted`` that comes with the checkout."""

    users: int = 90
    items: int = 60
    communities: int = 3
    noise: int = 1  # train interactions outside the community, a user
    seed: int = 0


def planted_pairs(world: World) -> dict[str, Pairs]:
    """The pairs of each split, and under ``noise`` those of train that are noise.

    Time grows with users x items: a world for tests and examples.

    Raises:
        InputError: if the communities have too few items, or a number is out of range.
    """
    _check(world)
    rng = np.random.default_rng(world.seed)
    parts: dict[str, Pairs] = {"train": set(), "valid": set(), "test": set(), "noise": set()}
    items = np.arange(world.items)
    for user in range(world.users):
        home = items % world.communities == user % world.communities
        own = iter(rng.permutation(items[home]).tolist())
        other = rng.permutation(items[~home]).tolist()
        for split, count in LIKED.items():
            parts[split] |= {(user, next(own)) for _ in range(count)}
        parts["noise"] |= {(user, item) for item in other[: world.noise]}
    parts["train"] |= parts["noise"]
    return parts


def generate(
    name: str, world: World | None = None, out: Path = Path("dataset"), overwrite: bool = False
) -> Path:
    """Write a planted world as benchmark files ``out/name``; the same bytes for the same world.

    Beside the three splits and the card there is ``NAME.noise.inter``, which no run reads.

    Returns:
        The dataset's folder.

    Raises:
        InputError: as `planted_pairs`, and if the dataset cannot be written (see ``atomic``).
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
    splits = {split: _table(parts[split], world) for split in SPLITS}
    folder = write_benchmark(out, name, splits, origin, overwrite=overwrite)
    _complete(folder, name, parts["noise"])
    return folder


def _complete(folder: Path, name: str, noise: Pairs) -> None:
    """Write the noise, and take the moment out of the card: the same world has the same bytes."""
    lines = ["user_id:token\titem_id:token", *(f"{u}\t{i}" for u, i in sorted(noise))]
    card = folder / f"{name}.card.json"
    told = {key: value for key, value in json.loads(card.read_bytes()).items() if key != "imported"}
    try:
        (folder / f"{name}.noise.inter").write_bytes("".join(f"{x}\n" for x in lines).encode())
        write_json(card, told)
    except OSError as error:
        raise InputError(
            f"{folder} could not be completed ({error.strerror or error}): check room and "
            "permissions, then generate it again with --overwrite"
        ) from error


def _check(world: World) -> None:
    for key, low in {"users": 1, "items": 1, "communities": 1, "noise": 0, "seed": 0}.items():
        if getattr(world, key) < low:
            raise InputError(f"--{key} must be at least {low}, got {getattr(world, key)}")
    if world.users * world.items > MAX_CELLS:
        raise InputError(
            f"{world.users} users x {world.items} items are more than {MAX_CELLS:.0e} cells; this "
            "makes small worlds: give fewer --users or --items"
        )
    smallest, needed = world.items // world.communities, sum(LIKED.values())
    if smallest < needed:
        raise InputError(
            f"{world.items} items in {world.communities} communities leave {smallest} to the "
            f"smallest; expected at least {needed}: give more --items or fewer --communities"
        )
    outside = world.items - -(-world.items // world.communities)
    if world.noise > outside:
        raise InputError(
            f"--noise {world.noise}: the largest community leaves {outside} items outside it; "
            "give less --noise or more --items"
        )


def _table(pairs: Pairs, world: World) -> Interactions:
    users, items = np.array(sorted(pairs), dtype=np.int64).T
    return Interactions(users, items, (world.users, world.items))
