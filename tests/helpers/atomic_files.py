"""Write atomic files, and read them in every way that a user has: import, data check, run, RecBole.

Each way returns the pairs (user, item) that it sees in dataset ``d``, or raises InputError.
"""

from pathlib import Path

import recbole_lightgnn  # noqa: F401  RecBole's Dataset then reads by our reader
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.check import check
from recbole_lightgnn.data.dataset_files import find_dataset, read_dataset
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError

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
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    config_dict = {"data_path": str(folder), "load_col": None, **more}
    return Dataset(Config("BPR", dataset="d", config_dict=config_dict))


def as_checked(folder):
    """Return the dataset as ``data check`` sees it, and its errors."""
    files = find_dataset("d", Path(folder))
    content = read_dataset(files)
    findings = check(files, content)
    return content, [finding.message for finding in findings if finding.level == "error"]


def by_import(folder):
    """The pairs that ``import pairs`` writes."""
    source = Path(folder, "d", "d.inter")
    out = import_pairs(source, "new", Path(folder, "out"), True, Selection())
    lines = [
        line
        for split in SPLITS
        for line in (out / f"new.{split}.inter").read_text(encoding="utf-8").split("\n")[1:-1]
    ]
    return sorted(tuple(line.split("\t")) for line in lines)


def by_check(folder):
    """The pairs that ``data check`` counts, if it finds no error."""
    content, errors = as_checked(folder)
    if errors:
        raise InputError(errors[0])
    (pairs,) = content.splits.values()
    return sorted(
        (content.users[user], content.items[item])
        for user, item in zip(pairs.users, pairs.items, strict=True)
    )


def _pairs_of(dataset):
    inter = dataset.inter_feat
    columns = (inter[dataset.uid_field], inter[dataset.iid_field])
    fields = (dataset.uid_field, dataset.iid_field)
    tokens = [dataset.id2token(field, c).tolist() for field, c in zip(fields, columns, strict=True)]
    return sorted(zip(*tokens, strict=True))


def by_run(model):
    """Return the way of a run with a model, RecBole's or ours: the pairs that it loads."""

    def read(folder):
        from recbole.data import create_dataset

        from recbole_lightgnn.quick_start import configure

        settings = {**QUIET, "data_path": str(folder), "load_col": None}
        return _pairs_of(create_dataset(configure(model, "d", settings=settings)))

    return read


def by_recbole(folder):
    """The pairs that RecBole's own API loads."""
    return _pairs_of(loaded(folder))


WAYS = {
    "import": by_import,
    "data check": by_check,
    "run of our model": by_run("LightGNNTeacher"),
    "run of RecBole's model": by_run("BPR"),
    "RecBole's API": by_recbole,
}
