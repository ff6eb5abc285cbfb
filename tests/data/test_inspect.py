"""``recbole-lightgnn data list | show | check`` on small datasets and on the published splits."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import SHARED

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data import dataset_files, picture
from recbole_lightgnn.data.atomic import SPLITS, Interactions, write_benchmark
from recbole_lightgnn.data.generate import generate
from recbole_lightgnn.data.lightgcn import import_lightgcn
from recbole_lightgnn.data.paper import import_paper

HEADER = "user_id:token\titem_id:token"

# Users 0-3, items 0-4. User 3 and item 4 have no train pair.
TINY = {
    "train": [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 3)],
    "valid": [(1, 1), (3, 1)],
    "test": [(0, 3), (1, 4), (2, 1)],
}


@pytest.fixture
def tiny():
    splits = {}
    for split, pairs in TINY.items():
        users, items = np.array(pairs, dtype=np.int64).T
        splits[split] = Interactions(users, items, (4, 5))
    origin = {"format": "made", "source": "here", "how_split": "by hand"}
    return write_benchmark(Path("dataset"), "tiny", splits, origin)


def make_file(name, *lines, header=HEADER):
    folder = Path("dataset", name.split(".")[0])
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in (header, *lines))
    (folder / f"{name}.inter").write_text(text, encoding="utf-8")


def change(split, edit):
    """Apply ``edit`` to the lines of a split of ``tiny``, including the header."""
    file = Path(f"dataset/tiny/tiny.{split}.inter")
    lines = file.read_text().splitlines()
    edit(lines)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")


def as_json(capsys, *arguments):
    status = main(["data", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def findings(capsys, name="tiny"):
    """Check a dataset; returns the exit status, the errors and the warnings."""
    status, result = as_json(capsys, "check", name)
    by_level = {"error": [], "warning": []}
    for finding in result["findings"]:
        by_level[finding["level"]].append(finding["message"])
    assert result["ok"] == (not by_level["error"]) == (status == 0)
    return status, by_level["error"], by_level["warning"]


# --- list -----------------------------------------------------------------------------------


def test_list_shows_all_datasets_and_that_of_recbole(capsys, tiny):
    make_file("whole", "a\tb", "a\tc")
    make_file("half.train", "a\tb")
    Path("dataset/empty").mkdir()
    _, rows = as_json(capsys, "list")
    assert [(row["name"], row["pairs"], row["format"]) for row in rows] == [
        ("half", {"train": 1}, None),
        ("ml-100k", {"all": 100_000}, None),
        ("tiny", {"train": 6, "valid": 2, "test": 3}, "made"),
        ("whole", {"all": 2}, None),
    ]
    assert main(["data", "list"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["dataset", "half", "ml-100k", "tiny", "whole"]
    assert "6 / 2 / 3" in table[3]


def test_list_without_a_folder_shows_that_of_recbole(capsys):
    _, rows = as_json(capsys, "list", "--data_path=nowhere")
    assert [row["name"] for row in rows] == ["ml-100k"]


def test_lines_are_counted_with_or_without_a_last_line_feed(tmp_path):
    for text, count in (("h\na\nb\n", 2), ("h\na\nb", 2), ("h\n", 0), ("h", 0), ("", 0)):
        (tmp_path / "x").write_text(text)
        assert dataset_files.count_lines(tmp_path / "x") == count


# --- show -----------------------------------------------------------------------------------


def test_statistics_by_hand(capsys, tiny):
    _, facts = as_json(capsys, "show", "tiny")
    assert (facts["users"], facts["items"], facts["pairs"]) == (4, 5, 11)
    assert facts["density"] == 11 / 20
    assert facts["format"] == "made"
    train = facts["splits"]["train"]
    assert (train["pairs"], train["users"], train["items"]) == (6, 3, 4)
    assert train["density"] == 6 / 12
    # users have 3, 1, 2 train pairs; items 3, 1, 1, 1
    degree = train["user_degree"]
    assert (degree["min"], degree["median"], degree["max"], degree["mean"]) == (1, 2, 3, 2)
    assert (degree["25%"], degree["75%"], degree["90%"]) == pytest.approx((1.5, 2.5, 2.8))
    assert train["item_degree"]["median"] == 1
    assert train["item_degree"]["mean"] == 1.5
    # pairs without train: (3, 1) of valid because of its user, (1, 4) of test because of its item
    assert facts["without_train"] == {"users": 1, "items": 1, "pairs": {"valid": 1, "test": 1}}
    assert facts["overlap"] == {
        "train-valid": {"pairs": 0, "users": 1, "items": 1},
        "train-test": {"pairs": 0, "users": 3, "items": 2},
        "valid-test": {"pairs": 0, "users": 1, "items": 1},
    }


def test_the_text_of_show(capsys, tiny):
    assert main(["data", "show", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert "4 users, 5 items, 11 pairs, density 55.0000%" in printed
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()}
    assert rows["train"] == ["train", "6", "3", "4", "50.0000%"]
    assert rows["user, train degree"][3:] == ["1", "1.5", "2", "2.5", "2.8", "2.98", "3", "2"]
    assert (
        "without a train pair: 1 users, 1 items; pairs of them: 1 of valid (50.0%), "
        "1 of test (33.3%)"
    ) in printed
    assert "in train and test: 0 pairs, 3 users, 2 items" in printed


def test_one_file_with_more_columns_in_another_order(capsys):
    header = "rating:float\titem_id:token\tuser_id:token"
    make_file("whole", "1\ti1\tu1", "2\ti1\tu2", "3\ti2\tu1", header=header)
    _, facts = as_json(capsys, "show", "whole")
    assert (facts["users"], facts["items"], facts["pairs"]) == (2, 2, 3)
    assert facts["splits"]["all"]["user_degree"]["max"] == 2
    assert "overlap" not in facts
    assert main(["data", "show", "whole"]) == 0


def test_ml_100k_is_read_from_recbole(capsys):
    _, facts = as_json(capsys, "show", "ml-100k")
    assert (facts["users"], facts["items"], facts["pairs"]) == (943, 1682, 100_000)
    assert facts["splits"]["all"]["user_degree"]["min"] == 20
    status, errors, warnings = findings(capsys, "ml-100k")
    assert (status, errors, len(warnings)) == (0, [], 1)


def test_a_dataset_both_whole_and_split_is_read_as_a_run_reads_it(capsys):
    for name, splits in (("both", {"all"}), ("yelp", {"train", "valid", "test"})):
        for part in ("", ".train", ".valid", ".test"):
            make_file(f"{name}{part}", f"u{part}\ti")
        assert as_json(capsys, "show", name)[1]["splits"].keys() == splits


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: None, "'x' not found: looked for dataset/x/x.inter, dataset/x/x.train.inter;"),
        (lambda: make_file("xx", "a\tb"), "'x' not found (did you mean 'xx'?)"),
        (lambda: make_file("x", header="user_id:token item_id:token"), "x.inter, line 1: expected"),
        (lambda: make_file("x", header="u:token\titem_id:token"), "got 'u', 'item_id'"),
        (lambda: Path("dataset/x/x.inter").mkdir(parents=True), "'x' not found"),
    ],
)
@pytest.mark.parametrize("action", ["show", "check"])
def test_an_unreadable_dataset_is_an_error_of_one_line(capsys, action, make, why):
    make()
    assert main(["data", action, "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert why in line


# --- the plot -------------------------------------------------------------------------------


def test_the_picture_is_drawn(capsys, tiny):
    assert main(["data", "show", "tiny", "--plot", "tiny.png"]) == 0
    assert capsys.readouterr().out.endswith("picture: tiny.png\n")
    assert Path("tiny.png").read_bytes().startswith(b"\x89PNG")
    assert as_json(capsys, "show", "tiny", "--plot=tiny.svg")[0] == 0, "JSON alone on stdout"
    drawn = Path("tiny.svg").read_text()
    assert drawn.count("<!-- train (median") == drawn.count("<!-- test (median") == 2


def test_the_curve_counts_the_nodes_with_at_least_each_degree():
    degree, at_least = picture.survival(np.array([1, 5, 1, 2, 5, 1]))
    assert degree.tolist() == [1, 2, 5]
    assert at_least.tolist() == [6, 3, 2]


@pytest.mark.parametrize(
    ("file", "why"),
    [("x.txt", "ends in .png"), ("no/x.png", "in an existing folder"), ("d.png", "folder")],
)
def test_a_picture_that_cannot_be_written(capsys, tiny, file, why):
    Path("d.png").mkdir()
    assert main(["data", "show", "tiny", "--plot", file]) == 2
    assert why in capsys.readouterr().err


def test_without_matplotlib_there_is_a_clear_error(capsys, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["data", "show", "tiny", "--plot=tiny.png"]) == 2
    assert "pip install 'recbole-lightgnn[plot]'" in capsys.readouterr().err
    assert main(["data", "show", "tiny"]) == 0


# --- check ----------------------------------------------------------------------------------


def test_with_only_warnings_the_status_is_0(capsys, tiny):
    assert findings(capsys) == (
        0,
        [],
        ["1 user without a train pair", "1 item without a train pair"],
    )
    assert main(["data", "check", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "warning: 1 user without a train pair",
        "warning: 1 item without a train pair",
        "tiny: 0 errors, 2 warnings",
    ]


def test_a_valid_dataset_has_no_findings(capsys):
    generate("planted")
    assert findings(capsys, "planted") == (0, [], [])


FAULTS = {
    "repeated": ("train", lambda x: x.append("0\t1"), "1 repeated pair (e.g. user '0', "),
    "leakage": ("test", lambda x: x.append("2\t3"), "leakage: 1 pair of test also in train"),
    "another pair": ("test", lambda x: x.__setitem__(1, "0\t4"), "was changed after import"),
    "one less": ("train", lambda x: x.pop(), "5 pairs with another hash, its card says 6"),
    "empty": ("valid", lambda x: x.__delitem__(slice(1, None)), "valid.inter has no pairs"),
    "too long": ("valid", lambda x: x.append("1\t2\t3"), "line 4: expected 2 columns, got 3"),
    "too short": ("valid", lambda x: x.insert(1, "1"), "line 2: expected 2 columns, got 1"),
    "no item": ("valid", lambda x: x.append("1\t"), "line 4: the item is empty"),
    "no user": ("valid", lambda x: x.append("\t1"), "line 4: the user is empty"),
    "bytes": ("valid", lambda x: x.append("1\t\udcff"), "line 4: not UTF-8"),
    "renamed": ("train", lambda x: x.__setitem__(1, "00\t0"), "was changed after import"),
}


@pytest.mark.parametrize(("split", "edit", "why"), FAULTS.values(), ids=FAULTS)
def test_faults_are_found_and_status_is_1(capsys, tiny, split, edit, why):
    change(split, edit)
    status, errors, _ = findings(capsys)
    assert status == 1
    assert sum(why in error for error in errors) == 1
    assert main(["data", "check", "tiny"]) == 1
    assert f"error: {next(e for e in errors if why in e)}\n" in capsys.readouterr().out


def test_the_order_of_lines_and_a_last_empty_one_change_nothing(capsys, tiny):
    change("train", lambda lines: lines.__setitem__(slice(1, None), [*lines[:0:-1], ""]))
    assert findings(capsys)[:2] == (0, [])


def test_many_malformed_lines_are_counted_and_a_few_described(capsys, tiny):
    change("train", lambda lines: lines.extend(["x"] * 1000))
    (error,) = findings(capsys)[1]
    assert "1000 malformed lines (line 8: expected 2 columns, got 1; line 9:" in error
    assert "line 10: expected 2 columns, got 1, ...)" in error


def test_repeated_pairs_in_one_file_and_a_missing_split(capsys):
    make_file("whole", "a\tb", "a\tb", "a\tb")
    assert "1 repeated pair (e.g. user 'a', item 'b')" in findings(capsys, "whole")[1][0]
    make_file("half.train", "a\tb")
    errors = findings(capsys, "half")[1]
    assert ["valid.inter is missing" in errors[0], "test.inter is missing" in errors[1]] == [1, 1]


@pytest.mark.parametrize("card", ["", "[]", '{"splits": 3}', '{"splits": {"train": {}}}'])
def test_an_invalid_card_is_an_error(capsys, tiny, card):
    Path("dataset/tiny/tiny.card.json").write_text(card)
    status, errors, _ = findings(capsys)
    assert status == 1
    assert all("tiny.card.json" in error for error in errors)
    assert main(["data", "show", "tiny"]) == 0
    assert main(["data", "list"]) == 0


# --- published splits -----------------------------------------------------------------------

PUBLISHED = {  # README.md of the shared data
    "yelp": {"test_users": 30627, "without": (538, 332), "median": 3, "cold": 0.033},
    "gowalla": {"test_users": 22242, "without": (106, 0), "median": 6, "cold": 0.003},
}


@pytest.mark.data
def test_the_statistics_of_lightgcns_gowalla(capsys):
    import_lightgcn(SHARED / "gowalla_lightgcn", "gowalla_lightgcn")
    capsys.readouterr()
    _, facts = as_json(capsys, "show", "gowalla_lightgcn")
    assert (facts["users"], facts["items"]) == (29858, 40981)
    assert [row["pairs"] for row in facts["splits"].values()] == [719081, 91047, 217242]
    # not in that README: counted by a script that reads the lines of the source into sets
    assert facts["without_train"] == {"users": 0, "items": 2, "pairs": {"valid": 4, "test": 21}}
    expected = (0, [], ["2 items without a train pair"])
    assert findings(capsys, "gowalla_lightgcn") == expected


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_statistics_of_the_papers_splits(capsys, name):
    import_paper(SHARED / f"sparse_{name}", name)
    capsys.readouterr()
    expected = PUBLISHED[name]
    _, facts = as_json(capsys, "show", name)
    assert facts["splits"]["test"]["users"] == expected["test_users"]
    without = facts["without_train"]
    assert (without["users"], without["items"]) == expected["without"]
    assert facts["splits"]["train"]["user_degree"]["median"] == expected["median"]
    cold = without["pairs"]["test"] / facts["splits"]["test"]["pairs"]
    assert round(cold, 3) == expected["cold"]
    assert [both["pairs"] for both in facts["overlap"].values()] == [0, 0, 0]
    status, errors, warnings = findings(capsys, name)
    assert (status, errors) == (0, [])
    counts = dict(zip(("users", "items"), expected["without"], strict=True))
    assert warnings == [f"{n} {what} without a train pair" for what, n in counts.items() if n]
    assert set(facts["splits"]) == set(SPLITS)
