"""Make RecBole order interactions by their exact times.

RecBole keeps the time column as float32, which rounds a present-day time in seconds to steps of 128
s, and a time in milliseconds to steps of 131 s. RecBole sorts a column of type ``token`` by first
appearance, and does not parse dates. Here `recbole_lightgnn.data.features` parses the column. The
times stay float64 in sorts and splits, or int64 where float64 would round. If a setting orders
interactions by time, `reading` always loads the column.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_lightgnn.config.intervals import change_ends
from recbole_lightgnn.data.times import is_date, parse_dates
from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Make RecBole's ``Dataset`` sort and split by exact times. A second call does nothing."""
    from importlib import import_module

    module = import_module("recbole.data.dataset.dataset")
    changes = {
        "_remove_duplication": _remove_duplication,
        "_filter_by_field_value": _filter_by_field_value,
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


# --- ordering ---------------------------------------------------------------------------------


def _remove_duplication(original: Callable[..., Any]) -> Callable[..., Any]:
    """Replace ``_remove_duplication``: sort stably by time; RecBole's own sort is not stable."""

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


def _filter_by_field_value(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend ``_filter_by_field_value``: an interval of times may have dates as its ends."""

    def filter_by_value(self: Any) -> None:
        from recbole.utils import FeatureType

        given, field = self.config["val_interval"], self.time_field
        if field not in (given or {}) or self.field2type.get(field) != FeatureType.FLOAT:
            original(self)
            return
        dated = vars(self).get("dated_times", {}).get(field, False)
        self.config["val_interval"] = {**given, field: in_numbers(field, given[field], dated)}
        try:
            original(self)
        finally:
            self.config["val_interval"] = given

    return filter_by_value


def in_numbers(field: str, wanted: Any, dated: bool) -> str:
    """Convert the dates in an interval of times to microseconds, as dates in the files are read.

    Args:
        field: name of the column of times.
        wanted: the interval in the setting ``val_interval``.
        dated: whether the column has dates, and not numbers.

    Raises:
        InputError: if the interval has numbers and the column dates, or the reverse; or if a list
            of tokens is given.
    """
    if isinstance(wanted, list) and any(isinstance(one, str) for one in wanted):
        ends = [wanted[0], *wanted[1:][-1:]]
        like = f"[{ends[0]},{ends[1]}]" if len(ends) > 1 else f"[{ends[0]},inf)"
        raise InputError(
            f"val_interval.{field} must be an interval, as the column has times, got {wanted!r}: "
            f"write --val_interval=\"{{{field}: '{like.replace(' ', 'T')}'}}\""
        )

    def changed(end: str) -> str:
        if end.strip("+-").lower() in ("inf", "infinity"):
            return end
        if is_date(end.encode()) != dated:
            kinds, like = ("dates", "[2014-12-31,inf)") if dated else ("numbers", "[0,inf)")
            raise InputError(
                f"val_interval.{field} must be an interval of {kinds}, as the column has {kinds}, "
                f"got {wanted!r}: write --val_interval=\"{{{field}: '{like}'}}\", with your ends"
            )
        return str(parse_dates([end.encode()])[0]) if dated else end

    return change_ends(str(wanted), changed)


def _dataframe_to_interaction(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend ``_dataframe_to_interaction``: keep times exact; RecBole makes them float32."""

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
    """Extend ``time_based_split``: sort interactions by time, and split by the ranks of the times.

    RecBole splits at an interpolated percentile of the times. The same percentile of the ranks
    splits the interactions at the same place.
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
    """Extend ``build``: after the split, convert times that are features of a model to float32."""

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
