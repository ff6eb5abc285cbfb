"""Report interactions that RecBole leaves out because another file lacks their user or item."""

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.data.file_kinds import owned_ids
from recbole_lightgnn.data.inspect import count_text
from recbole_lightgnn.errors import InputError


def extend_recbole() -> None:
    """Extend two methods of RecBole's datasets that filter in silence. A second call is ignored."""
    datasets = import_module("recbole.data.dataset")
    changes = (
        (datasets.Dataset, "_filter_inter_by_user_or_item", _by_features),
        (datasets.KnowledgeBasedDataset, "_filter_link", _by_links),
    )
    for owner, name, change in changes:
        original = vars(owner)[name]
        if original.__module__ != __name__:
            extended = functools.wraps(original)(change(original))
            extended.__module__ = __name__
            setattr(owner, name, extended)


def _by_features(original: Callable[..., None]) -> Callable[..., None]:
    """Extend the filter by the users and items that have features."""

    def filter_by_features(self: Any) -> None:
        if self.config["filter_inter_by_user_or_item"] is True:
            left = self.inter_feat
            for kind, field in owned_ids(self.config).items():
                # As in the file: val_interval may have removed more users and items.
                ids = vars(self).get("ids_read", {}).get(kind)
                if ids is not None:
                    there = left[field].isin(ids)
                    lacks = f"{kind} not in {_file(self, kind)}"
                    remedy = "add the lines, or write --filter_inter_by_user_or_item=False"
                    _warn(self, left[field][~there], len(self.inter_feat), lacks, remedy)
                    left = left[there]
        original(self)

    return filter_by_features


def _by_links(original: Callable[..., None]) -> Callable[..., None]:
    """Extend the filter by the items that are linked to the knowledge graph."""

    def filter_by_links(self: Any) -> None:
        before = self.inter_feat[self.iid_field]
        original(self)
        lost = before[~before.index.isin(self.inter_feat.index)]
        if len(before) and len(lost) == len(before):
            raise InputError(
                f"{_file(self, 'link')}: no item of the interactions is linked to an entity of "
                f"{_file(self, 'kg')}; expected ids of both files: correct the links"
            )
        lacks = "item not linked to an entity of the .kg file"
        _warn(self, lost, len(before), lacks, "add the links and entities")

    return filter_by_links


def _warn(dataset: Any, lost: Any, n_all: int, lacks: str, remedy: str) -> None:
    """Warn of interactions that are left out, if there are any.

    Args:
        dataset: RecBole's dataset.
        lost: user or item of each interaction left out.
        n_all: number of interactions before.
        lacks: what these users or items lack, with their noun first.
        remedy: what to do.
    """
    if not len(lost):
        return
    ids = np.unique(lost.astype(str))
    noun, _, rest = lacks.partition(" ")
    dataset.logger.warning(
        f"{len(lost)} of {n_all} interactions are left out: {count_text(len(ids), noun)} {rest}, "
        f"such as {str(ids[0])!r}; {remedy}"
    )


def _file(dataset: Any, kind: str) -> Path:
    return Path(dataset.dataset_path) / f"{dataset.dataset_name}.{kind}"
