"""``recbole-lightgnn data generate``, and the dataset ``planted`` in the repository."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.paths import ROOT

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data.generate import World, generate, planted_pairs
from recbole_lightgnn.errors import InputError

COMMITTED = ROOT / "dataset" / "planted"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_reproduces_the_dataset_in_the_repository():
    assert main(["data", "generate", "planted"]) == 0
    assert files(Path("dataset/planted")) == files(COMMITTED)


def test_the_files_hold_the_pairs_and_the_noise():
    world = World(users=40, items=64, communities=4, noise=2, seed=3)
    flags = [f"--{key}={value}" for key, value in world._asdict().items()]
    assert main(["data", "generate", "other", "--data_path", "place", *flags]) == 0
    for part, pairs in planted_pairs(world).items():
        header, *lines = Path(f"place/other/other.{part}.inter").read_text().splitlines()
        assert header == "user_id:token\titem_id:token"
        assert [tuple(map(int, line.split("\t"))) for line in lines] == sorted(pairs)


def test_users_like_items_of_their_community_and_noise_is_outside():
    world = World(users=31, items=45, communities=3, noise=4, seed=9)
    parts = planted_pairs(world)
    assert parts["noise"] < parts["train"]
    for user, item in parts["noise"]:
        assert user % 3 != item % 3
    liked = [parts["train"] - parts["noise"], parts["valid"], parts["test"]]
    for pairs, count in zip([*liked, parts["noise"]], (8, 3, 3, 4), strict=True):
        assert set(Counter(user for user, _ in pairs).values()) == {count}
    for user, item in set().union(*liked):
        assert user % 3 == item % 3
    assert len(set().union(*liked)) == 31 * 14, "a pair is in two splits"


def test_another_seed_gives_other_pairs():
    assert planted_pairs(World(seed=1)) == planted_pairs(World(seed=1))
    assert planted_pairs(World(seed=1)) != planted_pairs(World(seed=2))


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(users=0), "--users must be at least 1, got 0"),
        (World(users=10**6, items=10**6), r"more than 1e\+08 cells"),
        (World(noise=-1), "--noise must be at least 0, got -1"),
        (World(communities=5), "60 items in 5 communities leave 12 .* at least 14"),
        (World(communities=1, noise=1), "--noise must be at most 0, .* got 1"),
        (World(noise=41), "--noise must be at most 40, .* got 41"),
    ],
)
def test_invalid_parameters(world, why):
    with pytest.raises(InputError, match=why):
        generate("x", world)
    assert not Path("dataset").exists()


def test_an_existing_dataset_is_replaced_only_with_overwrite(capsys):
    arguments = ["data", "generate", "twice"]
    assert main(arguments) == 0
    before = files(Path("dataset/twice"))
    assert main([*arguments, "--seed=1"]) == 2
    assert "already exists; give --overwrite" in capsys.readouterr().err
    assert files(Path("dataset/twice")) == before
    assert main([*arguments, "--seed=1", "--overwrite"]) == 0
    assert files(Path("dataset/twice")).keys() == before.keys()
    assert files(Path("dataset/twice")) != before
