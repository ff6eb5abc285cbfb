"""``recbole-lightgnn import lightgcn``: LightGCN's text files, and reading text in blocks."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.imports import card_of, imported
from helpers.paths import SHARED

from recbole_lightgnn import quick_start
from recbole_lightgnn.data import text
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.lightgcn import import_lightgcn, read_lists
from recbole_lightgnn.data.pair_lines import pairs_hash
from recbole_lightgnn.data.split import cut_at_random, cut_in_order, part_sizes
from recbole_lightgnn.errors import InputError

TRAIN = b"0 3 1\n1 2\n10 0 7\n"
TEST = b"0 2\n1 0 1\n"
VALID = b"10 9\n"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for split, content in zip(SPLITS, (TRAIN, VALID, TEST), strict=True):
        (folder / f"{split}.txt").write_bytes(content)
    return folder


def test_the_lists_become_pairs_sorted_by_number(source):
    folder = import_lightgcn(source, "tiny")
    assert folder == Path("dataset/tiny")
    assert imported(folder) == {
        "train": [("0", "1"), ("0", "3"), ("1", "2"), ("10", "0"), ("10", "7")],
        "valid": [("10", "9")],
        "test": [("0", "2"), ("1", "0"), ("1", "1")],
    }
    card = card_of(folder)
    assert (card["format"], card["users"], card["items"]) == ("lightgcn", 11, 10)
    assert (card["users_with_pairs"], card["items_with_pairs"]) == (3, 6)
    assert card["how_split"] == "as published, one file per split"
    assert card["splits"]["test"] == {
        "pairs": 3,
        "users": 2,
        "items": 3,
        "duplicates_dropped": 0,
        "sha256": pairs_hash([0, 1, 1], [2, 0, 1]),
    }


@pytest.mark.parametrize(
    "same",
    [
        b"\xef\xbb\xbf" + TRAIN,
        TRAIN.replace(b"\n", b"\r\n"),
        TRAIN[:-1],
        TRAIN[:-1] + b"\r",
        TRAIN + b"\n\r\n\n",
        TRAIN.replace(b" ", b"\t").replace(b"\n", b" \n"),
        b"1 2\n0 1 3\n10 7\n10 0\n",
    ],
)
def test_equivalent_files_give_the_same_pairs(source, same):
    before = imported(import_lightgcn(source, "tiny"))
    (source / "train.txt").write_bytes(same)
    assert imported(import_lightgcn(source, "tiny", overwrite=True)) == before


def test_duplicates_are_dropped_and_counted(source):
    (source / "train.txt").write_bytes(TRAIN + b"0 3 3\n")
    folder = import_lightgcn(source, "tiny")
    assert len(imported(folder)["train"]) == 5
    assert card_of(folder)["splits"]["train"]["duplicates_dropped"] == 2


def test_without_a_validation_file_a_share_of_train_is_used(source):
    (source / "valid.txt").unlink()
    lists = {0: range(100, 140), 1: [5, 6], 2: [8]}
    lines = [f"{u} {' '.join(map(str, items))}\n" for u, items in lists.items()]
    (source / "train.txt").write_text("".join(lines))
    folder = import_lightgcn(source, "cut", valid_share=0.2, seed=1)
    splits = imported(folder)
    wanted = {(str(u), str(i)) for u, items in lists.items() for i in items}
    assert set(splits["train"]) | set(splits["valid"]) == wanted
    assert len(splits["train"]) + len(splits["valid"]) == len(wanted)
    assert Counter(user for user, _ in splits["valid"]) == {"0": 8, "1": 1}
    said = "0.2 of each user's train items, drawn at random with seed 1, became the validation"
    assert said in card_of(folder)["how_split"]
    again = imported(import_lightgcn(source, "again", valid_share=0.2, seed=1))
    other = imported(import_lightgcn(source, "other", valid_share=0.2, seed=2))
    assert again == splits
    assert other["valid"] != splits["valid"]


def test_the_largest_numbers_need_no_more_memory(source):
    (source / "valid.txt").unlink()
    last = 2**31 - 1
    (source / "train.txt").write_text(f"0 {last}\n{last} 0 1 2 {last}\n")
    splits = imported(import_lightgcn(source, "wide"))
    assert len(splits["train"]) == 4
    assert {user for user, _ in splits["valid"]} == {str(last)}


def test_part_sizes_are_those_of_recbole():
    from recbole.data.dataset import Dataset

    totals = np.arange(60)
    for ratios in ((0.8, 0.1, 0.1), (0.9, 0.1), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33)):
        sizes = part_sizes(totals, ratios)
        for total, size in zip(totals.tolist(), sizes.tolist(), strict=True):
            ends = Dataset._calcu_split_ids(None, total, ratios)
            assert np.cumsum(size)[:-1].tolist() == np.array(ends).tolist()
            assert sum(size) == total


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_takes_the_first_of_each_group(seed):
    draw = np.random.default_rng(seed)
    groups, order = draw.integers(0, 9, 200), draw.permutation(200)
    part = cut_in_order(groups, order, (0.7, 0.2, 0.1))
    for group in range(9):
        inside = order[groups[order] == group]
        sizes = part_sizes(np.array([len(inside)]), (0.7, 0.2, 0.1))[0]
        assert part[inside].tolist() == np.repeat([0, 1, 2], sizes).tolist()


def test_all_random_cuts_are_equally_likely():
    groups = np.repeat([0, 1], [5, 1])  # part sizes 3, 1, 1 and 1, 0, 0: 20 possible cuts
    generator, seen = np.random.default_rng(0), Counter()
    for _ in range(4000):
        part = cut_at_random(groups, generator, (0.5, 0.25, 0.25))
        assert np.bincount(part[:5]).tolist() == [3, 1, 1]
        assert part[5] == 0
        seen[tuple(part.tolist())] += 1
    assert len(seen) == 20
    assert (
        sum((n - 200) ** 2 / 200 for n in seen.values()) < 43.8
    )  # chi-square, 19 degrees of freedom, p = 0.001


LINES = "expected a user and its items"
BAD_LISTS = {
    "empty file": (b"", r"train\.txt has no interactions"),
    "only empty lines": (b"\n\n\n", "has no interactions"),
    "an empty line": (b"0 1\n\n1 2\n", "line 2: an empty line"),
    "a user alone": (b"0 1\n1\n2 3\n", "line 2: user '1' has no items.*--skip-empty"),
    "a user and a blank": (b"0 1\n1 \n", "line 2: user '1' has no items"),
    "a negative item": (b"0 1\n1 -2\n", "line 2: '-2' is not a number from 0 on"),
    "a negative user": (b"-1 2\n", "line 1: '-1' is not a number"),
    "a word": (b"0 1\n1 2\n2 x3\n", "line 3: 'x3' is not a number"),
    "a decimal point": (b"0 1.5\n", "line 1: '1.5' is not a number"),
    "commas": (b"0,1,2\n", "line 1: '0,1,2' is not a number"),
    "a leading zero": (b"0 1\n1 007\n", "line 2: '007' has leading zeros"),
    "2^31": (b"0 1\n1 2147483648\n", "line 2: number '2147483648' is above 2147483647"),
    "forty digits": (b"0 " + b"9" * 40 + b"\n", "line 1: number '9999"),
    "a NUL byte": (b"0 1\n1 2\0\n", "line 2: a NUL byte"),
    "a lone CR": (b"0 1\r1 2\n", "line 1: a CR without LF"),
    "Latin-1": (b"0 1\n1 \xe9\n", "line 2: byte 0xe9 is not UTF-8"),
    "UTF-8 letters": ("0 1\n1 é\n".encode(), "line 2: .* is not a number"),
    "UTF-16": ("0 1\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
    "UTF-16 without mark": ("0 1\n".encode("utf-16-le"), "line 1: a NUL byte"),
    "gzip": (b"\x1f\x8b\x08\0", r"is compressed \(gzip\)"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "foreign digits": ("0 ١\n".encode(), "is not a number"),
    "a form feed": (b"0 1\x0c2\n", "is not a number"),
    "a pair in two splits": (TRAIN + b"1 0\n", "1 interactions both in train and in test"),
}


@pytest.mark.parametrize(("content", "why"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_is_one_clear_line_and_nothing_is_written(source, content, why):
    (source / "train.txt").write_bytes(content)
    with pytest.raises(InputError, match=why) as error:
        import_lightgcn(source, "tiny")
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)
    assert not Path("dataset").exists()


@pytest.mark.parametrize("file", ["train.txt", "test.txt"])
def test_a_missing_file_or_folder(source, file):
    (source / file).unlink()
    with pytest.raises(InputError, match=rf"{file} cannot be read \(No such file"):
        import_lightgcn(source, "tiny")
    with pytest.raises(InputError, match="is not a folder; expected one with train"):
        import_lightgcn(source / "deeper", "tiny")
    with pytest.raises(InputError, match="--valid-share must be between 0 and 1, got 1"):
        import_lightgcn(source, "tiny", valid_share=1)


def test_users_without_items_can_be_skipped(source):
    (source / "test.txt").write_bytes(TEST + b"5 \n6\n")  # as in amazon-book
    before = imported(import_lightgcn(source, "tiny", skip_empty=True))
    assert before["test"] == [("0", "2"), ("1", "0"), ("1", "1")]


def test_an_invalid_name_and_an_existing_dataset(source):
    with pytest.raises(InputError, match="choose another --name"):
        import_lightgcn(source, "../tiny")
    import_lightgcn(source, "tiny")
    with pytest.raises(InputError, match="already exists; give --overwrite"):
        import_lightgcn(source, "tiny")


def test_a_run_records_the_card_and_the_same_hashes(source):
    folder = import_lightgcn(source, "tiny")
    settings = {"epochs": 1, "topk": [1], "valid_metric": "Recall@1", "show_progress": False}
    fingerprint = quick_start.run("Pop", "tiny", settings=settings)["dataset_fingerprint"]
    card = folder / "tiny.card.json"
    assert fingerprint["card_sha256"] == hashlib.sha256(card.read_bytes()).hexdigest()
    for split in SPLITS:
        assert fingerprint[split]["sha256"] == card_of(folder)["splits"][split]["sha256"]
    card.unlink()
    again = quick_start.run("Pop", "tiny", settings=settings)["dataset_fingerprint"]
    assert again == {**fingerprint, "card_sha256": None}


# --- blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_any_block_size_gives_the_same_pairs_and_line_numbers(tmp_path, monkeypatch, size):
    monkeypatch.setattr(text, "BLOCK", size)
    path = tmp_path / "lists.txt"
    path.write_bytes(b"10 1 2\r\n11 3\r\n\r\n\n")
    users, items = read_lists(path)
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(10, 1), (10, 2), (11, 3)]
    path.write_bytes(b"10 1 2\n11 3\r\n\r\n12 4")
    with pytest.raises(InputError, match="line 3: an empty line"):
        read_lists(path)
    path.write_bytes(b"10 1 2\n11 3\r\n12 4\n13 x")
    with pytest.raises(InputError, match="line 4: 'x' is not a number"):
        read_lists(path)


def test_a_file_of_10_gigabytes_without_line_ends_is_refused_early(tmp_path, monkeypatch):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # a sparse file: takes no disk space
    monkeypatch.setattr(text, "MAX_LINE", 2**22)
    with pytest.raises(InputError, match="line 1: more than 4194304 bytes without a line end"):
        read_lists(path)
    with path.open("r+b") as file:
        file.write(b"0 1\n1 2\n")
    with pytest.raises(InputError, match="line 3: more than 4194304 bytes without"):
        read_lists(path)


# --- the published split --------------------------------------------------------------------


@pytest.mark.data
def test_lightgcns_gowalla_is_imported_completely():
    published = SHARED / "gowalla_lightgcn"
    folder = import_lightgcn(published, "gowalla-lightgcn")
    splits, card = imported(folder), card_of(folder)
    assert (card["users"], card["items"]) == (29858, 40981)
    assert [card["splits"][s]["pairs"] for s in SPLITS] == [719081, 91047, 217242]
    for split in SPLITS:
        lines = (published / f"{split}.txt").read_text().splitlines()
        lists = [line.split() for line in lines]
        pairs = [(user, item) for user, *items in lists for item in items]
        assert len(splits[split]) == len(pairs)
        assert set(splits[split]) == set(pairs)
        assert card["splits"][split]["sha256"] == pairs_hash(*zip(*pairs, strict=True))
