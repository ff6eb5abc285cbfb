"""Make RecBole order interactions by their exact times.

RecBole keeps the time column as float32, which rounds a present-day time in seconds to steps of
128 s, and a time in milliseconds to steps of 131 s. RecBole sorts a column of type ``token`` by
first appearance, and it does not read dates. Here `recbole_lightgnn.data.features` parses the
column, which stays float64 (int64 where float64 would round) in sorts and splits. The column is
always loaded if rows are ordered by time.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_lightgnn.data.features import why_ordered


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


# --- reading ----------------------------------------------------------------------------------


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
    """Sort stably by time before duplicates are removed; RecBole's own sort is not stable."""

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
    """Sort the rows by time, as RecBole expects, and split by the ranks of the times.

    RecBole's boundary is an interpolated percentile. The percentile of the ranks splits the rows as
    the percentile of the times does.
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
    """Convert times that a model embeds to float32, as RecBole does, after rows are ordered."""

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
