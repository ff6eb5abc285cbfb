"""Make RecBole order interactions by their exact times.

RecBole keeps the time column as float32, which has steps of 128 s for today's seconds and of 131 s
for milliseconds. It sorts a column of type ``token`` by first appearance, and it does not read
dates. Here the column is parsed as `recbole_lightgnn.data.times` does, and stays float64 (int64
where float64 would round) in sorts and splits. The column is loaded wherever an order needs it.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic_reader import AtomicFile, read_times
from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Extend RecBole's ``Dataset``, method by method. A second call does nothing."""
    from importlib import import_module

    module = import_module("recbole.data.dataset.dataset")
    changes = {
        "_get_load_and_unload_col": _get_load_and_unload_col,
        "_remove_duplication": _remove_duplication,
        "_dataframe_to_interaction": _dataframe_to_interaction,
        "time_based_split": _time_based_split,
        "build": _build,
    }
    if hasattr(module, "_orders_by_time"):
        return
    vars(module)["_orders_by_time"] = True
    for name, change in changes.items():
        if original := getattr(module.Dataset, name, None):  # RecBole 1.2.0 lacks the split by time
            setattr(module.Dataset, name, functools.wraps(original)(change(original)))


def why_ordered(config: Any) -> str:
    """Say which setting or model orders the interactions by time; empty if nothing does.

    Args:
        config: RecBole's ``Config``.
    """
    from recbole.utils import ModelType

    if config["time-aware"]:
        return f"time-aware {config['model']}"
    if config["benchmark_filename"] is not None:  # already split, and sequences already made
        return ""
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return f"the sequential model {config['model']}"
    eval_args = config["eval_args"]
    if eval_args["order"] == "TO":
        return "eval_args.order=TO"
    return "eval_args.split=TS" if "TS" in (eval_args["split"] or ()) else ""


# --- reading ----------------------------------------------------------------------------------


class TimeColumn:
    """The time column of a file of interactions that RecBole reads now.

    Args:
        dataset: RecBole's dataset, which is being loaded.
        file: the file.

    Raises:
        InputError: if the column is needed and missing, or changed by a setting.
    """

    def __init__(self, dataset: Any, file: AtomicFile) -> None:
        self.config, self.field, self.file = dataset.config, dataset.time_field, file
        self.reason = why_ordered(self.config)
        self.type = file.types.get(self.field, "")
        if self.reason:
            self._check(list(file.types))

    def _check(self, fields: list[str]) -> None:
        if self.field not in fields:
            raise InputError(
                f"{self.file.path}, line 1: no column {self.field!r} (setting TIME_FIELD), which "
                f"{self.reason} needs; it has {', '.join(fields)}: name the column of times by "
                "TIME_FIELD, or choose an order without times (eval_args order RO, split RS)"
            )
        if self.field in (self.config["discretization"] or ()):
            raise InputError(
                f"discretization must not name {self.field!r}, the column of times, which "
                f"{self.reason} needs as they are: leave it out, or use a copy of the column"
            )

    @property
    def parsed(self) -> bool:
        """Whether the column is parsed: if it is a number, and a token that orders rows."""
        ordered = self.reason or self.config["rm_dup_inter"]
        return self.type == "float" or (self.type == "token" and bool(ordered))

    def parse(self, texts: Any) -> NDArray[Any]:
        """Parse the column; a missing time becomes NaN, which an order does not accept.

        Args:
            texts: pandas series of strings.

        Raises:
            InputError: if a time is malformed or missing where it is needed.
        """
        if self.reason and (missing := texts.isna()).any():
            raise self.file.fault(
                int(missing.to_numpy().argmax()),
                f"{self.field} has no time",
                f"expected a time ({self.reason} needs it): correct the line, or name another "
                "column by TIME_FIELD",
            )
        return read_times(self.file, self.field, texts)


def _get_load_and_unload_col(original: Callable[..., Any]) -> Callable[..., Any]:
    def columns(self: Any, source: Any) -> tuple[set[str] | None, set[str] | None]:
        from recbole.utils import FeatureSource

        load, unload = original(self, source)
        reason = why_ordered(self.config) if source == FeatureSource.INTERACTION else ""
        if reason and load and self.time_field not in load:
            self.logger.info(f"Column {self.time_field} is loaded too: {reason} needs it")
            load = load | {self.time_field}
        if reason and unload and self.time_field in unload:
            self.logger.info(f"Column {self.time_field} is loaded after all: {reason} needs it")
            unload = unload - {self.time_field}
        return load, unload

    return columns


# --- ordering ---------------------------------------------------------------------------------


def _remove_duplication(original: Callable[..., Any]) -> Callable[..., Any]:
    """RecBole's sort by time is not stable: of equal times, any may come first."""

    def remove_duplication(self: Any) -> None:
        keep = self.config["rm_dup_inter"]
        if keep is None or self.time_field not in self.inter_feat:
            original(self)
            return
        self._check_field("uid_field", "iid_field")
        by_time = self.inter_feat.sort_values(self.time_field, kind="stable")
        self.logger.info(f"Interactions are sorted by {self.time_field}, to keep the {keep} ones")
        self.inter_feat = by_time.drop_duplicates([self.uid_field, self.iid_field], keep=keep)

    return remove_duplication


def _dataframe_to_interaction(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the times of interactions exact; RecBole makes float32 of all floats."""

    def convert(self: Any, data: Any) -> Any:
        import torch
        from recbole.utils import FeatureType

        interaction, field = original(self, data), self.time_field
        if data is self.inter_feat and self.field2type.get(field) == FeatureType.FLOAT:
            values = np.array(data[field].to_list())  # pairs of numbers if the time is a feature
            interaction[field] = torch.from_numpy(values)
        return interaction

    return convert


def _time_based_split(original: Callable[..., Any]) -> Callable[..., Any]:
    """Split by the ranks of times, of rows in the order of time, which RecBole takes for granted.

    The boundary that RecBole interpolates between two times splits their ranks in the same way.
    """

    def split(self: Any, ratios: list[float], group_by: str) -> list[Any]:
        import torch

        field = self.time_field
        self.sort(by=field)
        times, ranks = torch.unique(self.inter_feat[field], dim=0, return_inverse=True)
        self.inter_feat[field] = ranks
        parts: list[Any] = original(self, ratios, group_by)
        for part in parts:
            if field in part.inter_feat:  # unless it is in unused_col
                part.inter_feat[field] = times[part.inter_feat[field]]
        return parts

    return split


def _build(original: Callable[..., Any]) -> Callable[..., Any]:
    """Give models float32 where they embed times, as RecBole does; orders are made by then."""

    def build(self: Any) -> list[Any]:
        parts: list[Any] = original(self)
        if self.time_field not in (self.config["numerical_features"] or ()):
            return parts
        for part in parts:
            for field in (self.time_field, f"{self.time_field}{self.config['LIST_SUFFIX']}"):
                if field in part.inter_feat:
                    part.inter_feat[field] = part.inter_feat[field].float()
        return parts

    return build
