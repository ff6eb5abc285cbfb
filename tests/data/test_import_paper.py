"""``recbole-lightgnn import paper``: files, card, bad input, and a RecBole run on the result."""

import hashlib
import json
import pickle
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from helpers.imports import TINY, Sabotage, matrix
from helpers.paths import ROOT, SHARED

import recbole_lightgnn  # noqa: F401  (patches RecBole)
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.pair_lines import pairs_hash
from recbole_lightgnn.data.paper import FILES, import_paper
from recbole_lightgnn.errors import InputError


def dump(folder: Path, naming: int = 0, **matrices: sp.spmatrix) -> Path:
    """Write a source folder with one of the two sets of file names; splits default to ``TINY``."""
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        content = pickle.dumps(matrices.get(split, matrix(TINY[split])), protocol=4)
        (folder / FILES[split][naming]).write_bytes(content)
    return folder


@pytest.fixture
def source(tmp_path):
    return dump(tmp_path / "source")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("naming", [0, 1])
def test_writes_benchmark_files_under_either_naming(tmp_path, naming):
    folder = import_paper(dump(tmp_path / "source", naming), "tiny", tmp_path / "out")
    assert folder == tmp_path / "out" / "tiny"
    assert files(tmp_path / "out").keys() == {
        "tiny/tiny.train.inter",
        "tiny/tiny.valid.inter",
        "tiny/tiny.test.inter",
        "tiny/tiny.card.json",
    }
    header = b"user_id:token\titem_id:token\n"
    assert (folder / "tiny.train.inter").read_bytes() == header + b"0\t0\n1\t1\n2\t2\n3\t3\n"
    assert (folder / "tiny.valid.inter").read_bytes() == header + b"0\t1\n1\t2\n2\t3\n3\t0\n"
    assert (folder / "tiny.test.inter").read_bytes() == header + b"0\t2\n1\t3\n2\t0\n3\t1\n"
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_card_has_source_counts_and_hashes(tmp_path):
    doubled = matrix([(4, 1), (0, 0), (4, 1)], (6, 5))  # users 1..3, 5 and items 2..4 occur nowhere
    small, other = matrix([(0, 1)], (6, 5)), matrix([(4, 0)], (6, 5))
    source = dump(tmp_path / "source", train=doubled, valid=small, test=other)
    folder = import_paper(source, "card", tmp_path / "out")
    card = json.loads((folder / "card.card.json").read_text())
    assert card.pop("imported").endswith("Z")
    one = {"pairs": 1, "users": 1, "items": 1, "duplicates_dropped": 0}
    assert card == {
        "name": "card",
        "format": "paper",
        "source": str(source),
        "how_split": "as published, one matrix per split",
        "users": 6,
        "items": 5,
        "users_with_pairs": 2,
        "items_with_pairs": 2,
        "splits": {
            "train": {
                "pairs": 2,
                "users": 2,
                "items": 2,
                "duplicates_dropped": 1,
                "sha256": hashlib.sha256(b"0\t0\n4\t1").hexdigest(),
            },
            "valid": {**one, "sha256": hashlib.sha256(b"0\t1").hexdigest()},
            "test": {**one, "sha256": hashlib.sha256(b"4\t0").hexdigest()},
        },
    }


def test_the_hash_is_of_the_set_of_pairs():
    expected = hashlib.sha256(b"0\t9\n1\t2\n1\t3\n10\t1").hexdigest()  # sorted as text
    assert pairs_hash([1, 10, 0, 1], [3, 1, 9, 2]) == expected
    assert pairs_hash(np.array([10, 1, 1, 0], ">i4"), np.array([1, 2, 3, 9], "u2")) == expected
    assert pairs_hash(["1", "10", "0", "1"], ["3", "1", "9", "2"]) == expected
    assert pairs_hash([3, 1, 9, 2], [1, 10, 0, 1]) != expected, "users and items are not alike"
    assert pairs_hash([], []) == hashlib.sha256(b"").hexdigest()


def _remove(file):
    return lambda source: (source / file).unlink()


def _write(file, content):
    return lambda source: (source / file).write_bytes(content)


def _dump(**matrices):
    return lambda source: dump(source, **matrices)


BAD_SOURCES = {
    "no folder": (lambda source: source.rename(source.with_name("moved")), "is not a folder"),
    "missing file": (_remove("valMat.pkl"), r"no valid split; expected a file valMat\.pkl or"),
    "empty file": (_write("tstMat.pkl", b""), r"tstMat\.pkl is empty"),
    "truncated": (_write("trnMat.pkl", pickle.dumps(matrix(TINY["train"]))[:-40]), "truncated"),
    "execution": (_write("tstMat.pkl", pickle.dumps(Sabotage())), r"asks for builtins\.exec"),
    "no matrix": (
        _write("valMat.pkl", pickle.dumps({"a": 1})),
        "contains a dict, not a sparse matrix",
    ),
    "shapes": (_dump(test=matrix([(0, 1)], (4, 5))), "train 4 x 4, valid 4 x 4, test 4 x 5"),
    "empty split": (_dump(valid=matrix([])), "the valid split of .* has no interactions"),
    "a pair in two splits": (
        _dump(test=matrix([(0, 2), (3, 3)])),
        r"1 interactions both in train and in test, e\.g\. user 3 with item 3",
    ),
    "only zeros": (_dump(test=matrix([(0, 1)]) * 0), "the test split of .* has no interactions"),
}


@pytest.mark.parametrize(("spoil", "why"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_a_bad_source_is_one_clear_line_and_nothing_is_written(tmp_path, source, spoil, why):
    spoil(source)
    with pytest.raises(InputError, match=why) as error:
        import_paper(source, "tiny", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../tiny", "a/b", "/tiny", ".hidden", "a\n", "-o"])
def test_a_name_cannot_leave_the_output_folder(tmp_path, source, name):
    before = files(tmp_path)
    with pytest.raises(InputError, match="choose another --name"):
        import_paper(source, name, tmp_path / "out")
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_an_existing_dataset_is_replaced_only_with_overwrite(tmp_path, source):
    out = tmp_path / "out"
    import_paper(source, "tiny", out)
    before = files(out)
    other = dump(tmp_path / "other", train=matrix([(2, 1)]))
    with pytest.raises(InputError, match="already exists; give --overwrite"):
        import_paper(other, "tiny", out)
    assert files(out) == before

    _write("tstMat.pkl", b"")(other)
    with pytest.raises(InputError, match="is empty"):
        import_paper(other, "tiny", out, overwrite=True)
    assert files(out) == before, "a bad source must not cost the old dataset"

    import_paper(dump(other, train=matrix([(2, 1)])), "tiny", out, overwrite=True)
    assert files(out)["tiny/tiny.train.inter"] == b"user_id:token\titem_id:token\n2\t1\n"
    assert [p.name for p in out.iterdir()] == ["tiny"], "a temporary folder was left"


def test_overwrite_never_deletes_other_files(tmp_path, source):
    with pytest.raises(InputError, match=r"also contains trnMat\.pkl.*not replaced"):
        import_paper(source, "source", tmp_path, overwrite=True)
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to(source)
    for name in ("file", "link"):
        with pytest.raises(InputError, match="exists and is not a folder"):
            import_paper(source, name, tmp_path, overwrite=True)
    assert len(files(source)) == 3
    assert (tmp_path / "file").read_text() == "content"


def test_a_failed_write_leaves_the_old_dataset_and_nothing_else(tmp_path, source):
    out = tmp_path / "out"
    import_paper(source, "tiny", out)
    before = files(out)
    rest = [(u, i) for u in range(9) for i in range(4, 9)]
    wide = {split: matrix(pairs, (9, 9)) for split, pairs in {**TINY, "train": rest}.items()}
    big = dump(tmp_path / "big", **wide)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (50, limits[1])
    )  # bytes per file; acts like a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written .*nothing was changed") as error:
            import_paper(big, "tiny", out, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert files(out) == before
    assert [p.name for p in out.iterdir()] == ["tiny"]


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """An empty folder to work in: RecBole reads ``sys.argv`` and writes logs where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test"])
    return tmp_path


def test_recbole_runs_on_the_result(in_empty_folder, source):
    from recbole.quick_start import run_recbole

    import_paper(source, "tiny")
    result = run_recbole(
        model="BPR",
        dataset="tiny",
        config_file_list=[ROOT / "properties" / "dataset" / "yelp.yaml"],
        config_dict={
            "data_path": "dataset",
            "eval_mask": "train+valid",
            "epochs": 1,
            "metrics": ["Recall"],
            "topk": [2, 3],
            "valid_metric": "Recall@3",
            "show_progress": False,
        },
        saved=False,
    )
    assert result["best_valid_result"]["recall@3"] == 1.0  # all 3 items that are not in train
    assert (
        result["test_result"]["recall@2"] == 1.0
    )  # both items that are in neither train nor valid


PUBLISHED = {  # README.md of the shared data
    "yelp": {"shape": (42712, 26822), "pairs": [182357, 13025, 65128], "cold": (538, 332)},
    "gowalla": {"shape": (25557, 19747), "pairs": [294983, 21070, 105352], "cold": (106, 0)},
}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_splits_are_imported_completely(in_empty_folder, name):
    from recbole.config import Config
    from recbole.data import create_dataset

    facts = PUBLISHED[name]
    published = SHARED / f"sparse_{name}"
    folder = import_paper(published, name)
    card = json.loads((folder / f"{name}.card.json").read_text())
    assert (card["users"], card["items"]) == facts["shape"]
    assert [card["splits"][split]["pairs"] for split in SPLITS] == facts["pairs"]
    train = card["splits"]["train"]
    cold = (card["users"] - train["users"], card["items"] - train["items"])
    assert cold == facts["cold"]

    config = Config(
        model="BPR",
        dataset=name,
        config_file_list=[ROOT / "properties" / "dataset" / f"{name}.yaml"],
        config_dict={"data_path": "dataset"},
    )
    dataset = create_dataset(config)
    assert (dataset.user_num - 1, dataset.item_num - 1) == facts["shape"]  # 0 is padding
    for split, loaded in zip(SPLITS, dataset.build(), strict=True):
        users = dataset.id2token("user_id", loaded.inter_feat["user_id"].numpy()).astype(int)
        items = dataset.id2token("item_id", loaded.inter_feat["item_id"].numpy()).astype(int)
        # pickle.load is safe here: these are the authors' own files
        with (published / FILES[split][0]).open("rb") as file:
            source = pickle.load(file).tocoo()
        assert set(zip(users, items, strict=True)) == set(zip(source.row, source.col, strict=True))
        assert len(users) == source.nnz
        assert pairs_hash(users, items) == card["splits"][split]["sha256"]
