"""Let RecBole's ``Dataset`` read atomic files by our reader (`data.atomic_reader`).

Once `recbole_lightgnn` is imported, our reader serves every model and RecBole's own API. From a
file without faults, our reader gives the same columns, types and values as RecBole's reader.
"""

import functools
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_lightgnn.config.compatibility import needs_labels
from recbole_lightgnn.data.atomic_header import AtomicFile, check_new_columns, open_atomic
from recbole_lightgnn.data.atomic_reader import split_sequences
from recbole_lightgnn.data.features import check_header, read_features, why_ordered, with_times
from recbole_lightgnn.data.file_kinds import owned_ids
from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Replace ``Dataset._load_feat``, the method that reads one atomic file."""
    dataset = import_module("recbole.data.dataset.dataset").Dataset
    dataset._load_feat = functools.wraps(dataset._load_feat)(load_feat)


def load_feat(dataset: Any, filepath: str, source: Any) -> pd.DataFrame | None:
    """Read an atomic file, in place of ``Dataset._load_feat``; register the columns in ``dataset``.

    Args:
        dataset: RecBole's dataset.
        filepath: path of the file.
        source: what the file holds: RecBole's ``FeatureSource``, or the file's suffix.

    Returns:
        The columns to load, or None if the settings select no column.

    Raises:
        InputError: if the file cannot be used; the message names file, line and remedy.
    """
    wanted, unwanted = dataset._get_load_and_unload_col(source)
    if wanted == set():
        return None
    config, kind = dataset.config, getattr(source, "value", source)
    file = open_atomic(Path(filepath), config["field_separator"], config["encoding"])
    loaded = set(file.types if wanted is None else wanted) - set(unwanted or ())
    reason = why_ordered(config) or ("rm_dup_inter" if config["rm_dup_inter"] else "")
    if kind == "inter" and reason and config["TIME_FIELD"] in file.types.keys() - loaded:
        dataset.logger.info(f"Column {config['TIME_FIELD']} is loaded too: {reason} needs it")
        loaded |= {config["TIME_FIELD"]}
    columns = [name for name in file.types if name in loaded]
    if absent := sorted(set(filter(None, wanted or ())) - set(file.types)):
        dataset.logger.warning(
            f"{file.path} has no column {', '.join(absent)}, which load_col names; it has "
            f"{', '.join(file.types)}"
        )
    if not columns:
        dataset.logger.warning(f"No columns has been loaded from [{kind}]")
        return None
    check_header(file, columns, kind, config)
    file, time = with_times(file, columns, kind, config)
    if kind != "link":  # its two columns are those of other files
        _note_columns(dataset, file, columns, source)
    dated = vars(dataset).setdefault("dated_times", {})  # of the three files of a split
    frame = read_features(file, columns, config, time, dated)
    if kind == "inter":
        _check_labels(config, file, frame)
    if kind == "link":
        _check_links(config, file, frame, dataset.inter_feat[config["ITEM_ID_FIELD"]])
    if (owned := owned_ids(config).get(kind)) in frame:
        vars(dataset).setdefault("ids_read", {})[kind] = set(frame[owned])
    _report_missing(dataset, file, frame)
    _report_repeated(dataset, file, frame, kind)
    for name in columns:
        if file.types[name].endswith("_seq"):
            _split(dataset, file, frame, name)
    return frame


def _note_columns(dataset: Any, file: AtomicFile, columns: Collection[str], source: Any) -> None:
    from recbole.utils import FeatureType

    kinds = {n: getattr(other, "value", other) for n, other in dataset.field2source.items()}
    known = {  # RecBole calls the sources of the ids user_id and item_id; the .inter file has both
        name: (
            "inter" if other in ("user_id", "item_id") else other,
            dataset.field2type[name].value,
        )
        for name, other in kinds.items()
    }
    kind = getattr(source, "value", source)
    check_new_columns(file, columns, kind, known, owned_ids(dataset.config))
    for name in columns:
        dataset.field2source[name] = source
        dataset.field2type[name] = FeatureType(file.types[name])
        if not file.types[name].endswith("_seq"):
            dataset.field2seqlen[name] = 1
        if file.types[name].startswith("float"):
            dataset.field2bucketnum[name] = 2


def _check_labels(config: Any, file: AtomicFile, frame: pd.DataFrame) -> None:
    """Raise InputError if a run needs labels and one is neither 1 nor 0, or is missing.

    RecBole would compute losses and metrics without a meaning. With ``val_interval``, which may
    remove such labels, `loaders.load_data` checks what is left.
    """
    label, settings = config["LABEL_FIELD"], config.final_config_dict
    if label not in frame or config["threshold"] or config["val_interval"]:
        return
    if not needs_labels(settings, config.model_class):
        return
    wrong = ~frame[label].isin((0, 1)).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        value = frame[label].iloc[row]
        what = f"{label} has no value" if pd.isna(value) else f"{label} {value:g} is no label"
        middle = (frame[label].min() + frame[label].max()) / 2
        raise file.fault(
            row,
            what,
            f"expected 1 or 0, as {config['model']} needs labels: correct the column, or make "
            f'labels of numbers: --threshold="{{{label}: {middle:g}}}" gives 1 from there on',
        )


def _check_links(config: Any, file: AtomicFile, frame: pd.DataFrame, items: pd.Series) -> None:
    """Raise InputError if an item or an entity has two links; RecBole would keep a part of one.

    A repeated line does no harm, nor do links of items that are not in the interactions, ``items``.
    """
    item, entity = config["ITEM_ID_FIELD"], config["ENTITY_ID_FIELD"]
    links = frame[[item, entity]].drop_duplicates()
    used = links[item].isin(items)
    for name in (item, entity):
        concerned = links[name].isin(links[name][used])
        repeated = frame.index.isin(links.index[links[name].duplicated() & concerned])
        if repeated.any():
            row = int(repeated.argmax())
            raise file.fault(
                row,
                f"{name} {str(frame[name].iloc[row])!r} has a second link",
                "expected one item for each entity: remove one of the links",
            )


def _report_missing(dataset: Any, file: AtomicFile, frame: pd.DataFrame) -> None:
    """Warn of missing floats, which RecBole replaces by the mean of their column.

    Raises:
        InputError: if a column has no number at all, and so no mean.
    """
    for name in frame:
        if file.types[name] == "float" and (missing := int(frame[name].isna().sum())):
            if missing == len(frame):
                raise InputError(
                    f"{file.path}, line 1: all fields of {name}:float are empty; expected numbers: "
                    "fill them, or remove the column"
                )
            dataset.logger.warning(
                f"{file.path}: {missing} of {len(frame)} fields of {name} are empty; unless a "
                "filter removes their lines, they get the mean of the others"
            )


def _report_repeated(dataset: Any, file: AtomicFile, frame: pd.DataFrame, kind: str) -> None:
    """Warn if users or items have several lines of features; the first line is used."""
    name = owned_ids(dataset.config).get(kind)
    if name in frame and (repeated := int(frame[name].duplicated().sum())):
        dataset.logger.warning(
            f"{file.path}: {repeated} of {len(frame)} lines repeat their {name}; the first is used"
        )


def _split(dataset: Any, file: AtomicFile, frame: pd.DataFrame, name: str) -> None:
    """Split each text of a column into an array, and note the length of the longest array."""
    limit = (dataset.config["seq_len"] or {}).get(name)
    rows = split_sequences(file, name, frame[name], dataset.config["seq_separator"])
    longest = max(map(len, rows), default=0)
    frame[name] = pd.Series([row[:limit] for row in rows], index=frame.index, dtype=object)
    dataset.field2seqlen[name] = longest if limit is None else min(limit, longest)
