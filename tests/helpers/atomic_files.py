"""Write atomic files, and read them in every way that a user has: import, data check, run, RecBole.

Each way returns the pairs (user, item) that it reads from dataset ``d``, or raises InputError.
"""

import contextlib
import io
import json
from pathlib import Path

import pytest
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.check import check
from recbole_lightgnn.data.dataset_files import find_dataset, read_dataset
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import configure

QUIET = {"show_progress": False, "state": "ERROR", "use_gpu": False, "topk": [1]}
QUIET |= {"valid_metric": "NDCG@1", "metrics": ["NDCG"]}


def write(folder, files, name="d", encoding="utf-8"):
    """Write files of a dataset; each is text, bytes or a list of lines."""
    path = Path(folder, name)
    path.mkdir(exist_ok=True)
    for suffix, content in files.items():
        if isinstance(content, list):
            content = "".join(f"{line}\n" for line in content)
        data = content if isinstance(content, bytes) else content.encode(encoding)
        (path / f"{name}.{suffix}").write_bytes(data)


def loaded(folder, **more):
    """RecBole's own dataset, by its own API."""
    config_dict = {"data_path": str(folder), "load_col": None, **more}
    return Dataset(Config("BPR", dataset="d", config_dict=config_dict))


def as_checked(folder):
    """Return the dataset as ``data check`` sees it, and its errors."""
    files = find_dataset("d", Path(folder))
    content = read_dataset(files)
    findings = check(files, content)
    return content, [finding.message for finding in findings if finding.level == "error"]


def by_import(folder, min_rating=None, **settings):
    """The pairs that ``import pairs`` writes; it reads the ratings if ``min_rating`` is given."""
    out = import_pairs(
        Path(folder, "d", "d.inter"),
        "new",
        Path(folder, "out"),
        True,
        Selection(
            delimiter=settings.get("field_separator"),
            user=settings.get("USER_ID_FIELD"),
            item=settings.get("ITEM_ID_FIELD"),
            min_rating=min_rating,
        ),
    )
    lines = [
        line
        for split in SPLITS
        for line in (out / f"new.{split}.inter").read_text(encoding="utf-8").split("\n")[1:-1]
    ]
    return sorted(tuple(line.split("\t")) for line in lines)


def by_check(folder, model="LightGNN", **settings):
    """The pairs that ``data check`` counts, if it finds no error."""
    flags = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    command = ["data", "check", "d", f"--data_path={folder}", "--json", "-m", model, *flags]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    if status == 2:
        raise InputError(err.getvalue().splitlines()[-1].removeprefix("error: "))
    if errors := [x for x in json.loads(out.getvalue())["findings"] if x["level"] == "error"]:
        raise InputError(errors[0]["message"])
    config = build_config(model, "d", (), {"data_path": str(folder), "load_col": None, **settings})
    content = read_dataset(find_dataset("d", Path(folder), config))
    return sorted(
        (content.users[user], content.items[item])
        for pairs in content.splits.values()
        for user, item in zip(pairs.users, pairs.items, strict=True)
    )


def _pairs_of(dataset):
    inter = dataset.inter_feat
    users = dataset.id2token(dataset.uid_field, inter[dataset.uid_field])
    items = dataset.id2token(dataset.iid_field, inter[dataset.iid_field])
    return sorted(zip(users.tolist(), items.tolist(), strict=True))


def by_run(model):
    """Return a function that loads pairs as a run of a model does, RecBole's or ours."""

    def read(folder, **settings):
        given = {**QUIET, "data_path": str(folder), "load_col": None, **settings}
        return _pairs_of(create_dataset(configure(model, "d", settings=given)))

    return read


def by_recbole(folder, **settings):
    """The pairs that RecBole's own API loads."""
    return _pairs_of(loaded(folder, **settings))


WAYS = {
    "import": by_import,
    "data check": by_check,
    "run of our model": by_run("LightGNNTeacher"),
    "run of RecBole's model": by_run("BPR"),
    "RecBole's API": by_recbole,
}
_SLOW = "run of RecBole's model"  # differs from the API only in the check of settings
_MARKED = [pytest.param(way, marks=pytest.mark.slow) if way == _SLOW else way for way in WAYS]
every_way = pytest.mark.parametrize("way", _MARKED)
but_import = pytest.mark.parametrize("way", _MARKED[1:])
