"""A model as it is exported: plain arrays, and the file that holds them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import coding, container
from recbole_lightgnn.serving.coding import Pairs, Take
from recbole_lightgnn.serving.container import Arrays, Damaged
from recbole_lightgnn.serving.ids import KINDS, Ids, key_check, key_of, take_ids

FORMS = ("graph", "final")
NO_PAIRS = Pairs(np.empty(0, np.int32), np.empty(0, np.int32))
_NO_WEIGHTS = np.empty(0, np.float32)
_MOST_LAYERS = 64
_FLOAT32 = float(np.finfo(np.float32).max)
_BOUNDS = (("users", 0, 2**31 - 1), ("items", 0, 2**31 - 1), ("width", 1, 2**16))


@dataclass(frozen=True)
class Graph:
    r"""What final embeddings are propagated over: :math:`\bar E = \sum_k c_k \hat A^k E`.

    Attributes:
        pairs: the edges.
        weight: of each edge, W of Eq. 4. Shape: (edges,)
        user_degree: interactions that each user had before pruning, by which an edge is
            normalized. Shape: (users,)
        item_degree: likewise. Shape: (items,)
        coefficients: c_0, c_1, ...
    """

    pairs: Pairs
    weight: np.ndarray
    user_degree: np.ndarray
    item_degree: np.ndarray
    coefficients: list[float]

    def values(self) -> np.ndarray:
        r"""What each edge multiplies by, :math:`w_{ui} / \sqrt{d_u d_i}`. Shape: (edges,)"""
        user, item = self.user_degree[self.pairs.user], self.item_degree[self.pairs.item]
        norm = 1.0 / np.sqrt(user.astype(np.float64) * item)
        values: np.ndarray = norm.astype(np.float32) * self.weight
        return values


@dataclass(frozen=True)
class Model:
    """What a `Recommender` recommends by.

    Attributes:
        users, items: their names.
        user: embeddings of the users, float32: initial ones where there is a graph, else final
            ones. Shape: (users, width)
        item: likewise. Shape: (items, width)
        graph: the edges, or ``None``.
        seen: interactions not to recommend again, beside the graph's edges.
        card: where the model comes from and what it reached; plain JSON.
    """

    users: Ids
    items: Ids
    user: np.ndarray
    item: np.ndarray
    graph: Graph | None
    seen: Pairs
    card: Mapping[str, Any]

    @property
    def form(self) -> str:
        """One of `FORMS`."""
        return "final" if self.graph is None else "graph"


def to_bytes(
    model: Model, values: str, secret: bytes | None = None
) -> tuple[bytes, dict[str, int]]:
    """The file of a model.

    Args:
        model: the model.
        values: of entries and edge weights, one of `coding.VALUES`.
        secret: what names were hashed with, if they were.

    Returns:
        Its bytes, and how many each array takes.

    Raises:
        InputError: if an embedding or a weight is not finite, or too large for float16.
    """
    meta = {
        "users": len(model.users),
        "items": len(model.items),
        "width": model.user.shape[1],
        "form": model.form,
        "values": values,
        "ids": model.users.kind,
        "key_check": key_check(key_of(secret)) if secret else None,
        "coefficients": model.graph.coefficients if model.graph else None,
        "card": model.card,
    }
    tables = {"user": model.user, "item": model.item}
    _check_finite({**tables, "edge weights": model.graph.weight if model.graph else _NO_WEIGHTS})
    arrays: Arrays = {}
    encode = coding.encode_table if model.graph else coding.encode_dense
    with np.errstate(over="ignore"):
        for name, table in tables.items():
            arrays |= encode(name, table, values)
        if model.graph:
            arrays |= _encode_graph(model.graph, values)
    if len(model.seen.user):
        arrays |= coding.encode_pairs("seen", model.seen, len(model.users))
    arrays |= model.users.arrays() | model.items.arrays()
    _check_finite(arrays, f" as {values}: export it with --values float32")
    mapped = ("user.values", "item.values") if model.graph is None and values == "float32" else ()
    return container.pack(meta, arrays, mapped)


def read(path: Path, secret: bytes | None = None, mapped: bool = True) -> Model:
    """The model in a file.

    Args:
        path: of the file.
        secret: what names were hashed with, if they were.
        mapped: as of `container.read`.

    Raises:
        InputError: if the file is missing, foreign, of a newer version or damaged, or the secret
            is another.
    """
    meta, arrays = container.read(path, mapped)
    # What overflows is not finite then, which whoever scores by it sees to.
    with container.reading(str(path)), np.errstate(over="ignore", invalid="ignore"):
        return _decode(meta, Take(arrays), None if secret is None else key_of(secret))


def _check_finite(
    arrays: Mapping[str, np.ndarray], why: str = ": the training has diverged"
) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{name} of the model cannot be exported, not all is finite{why}")


def _encode_graph(graph: Graph, values: str) -> Arrays:
    pairs = graph.pairs
    kept = np.bincount(pairs.user, minlength=len(graph.user_degree))
    return {
        **coding.encode_pairs("edge", pairs, len(graph.user_degree)),
        **coding.encode_weights("edge", graph.weight, values),
        "user.pruned": coding.narrow(graph.user_degree - kept),
        "item.degree": coding.narrow(graph.item_degree),
    }


def _decode(meta: Mapping[str, Any], take: Take, key: bytes | None) -> Model:
    n_users, n_items, width = (_whole(meta, *bounds) for bounds in _BOUNDS)
    form, values, kind = (
        _one_of(meta, *allowed)
        for allowed in (("form", FORMS), ("values", coding.VALUES), ("ids", KINDS))
    )
    card = meta.get("card")
    if not isinstance(card, dict):
        raise Damaged("its card is missing")
    if key and meta.get("key_check") != key_check(key):
        reason = "hashed with another one" if kind == "hashed" else "not hashed"
        raise InputError(f"--key does not fit: the names in this model are {reason}")
    # What is as long as there are users and items comes first: the tables' size is but said.
    users = take_ids("user", kind, n_users, take, key)
    items = take_ids("item", kind, n_items, take, key)
    graph = _decode_graph(meta, take, n_users, n_items, values) if form == "graph" else None
    seen = NO_PAIRS
    if "seen.count" in take:
        seen = coding.decode_pairs("seen", take, n_users, n_items)
    _check_memory((n_users + n_items) * width)
    decode = coding.decode_table if form == "graph" else coding.decode_dense
    user = decode("user", take, (n_users, width), values)
    item = decode("item", take, (n_items, width), values)
    take.done()
    return Model(users, items, user, item, graph, seen, card)


def _check_memory(entries: int) -> None:
    """Raise MemoryError if tables of so many entries cannot be held: initial ones and final ones.

    Pruned entries take hardly a bit in a file, so that its size does not bound what it asks for.
    """
    with suppress(ValueError, AttributeError, OSError):  # where the system does not say
        if 2 * 4 * entries > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError


def _decode_graph(
    meta: Mapping[str, Any], take: Take, n_users: int, n_items: int, values: str
) -> Graph:
    pairs = coding.decode_pairs("edge", take, n_users, n_items)
    weight = coding.decode_weights("edge", take, len(pairs.user), values)
    kept_user = np.bincount(pairs.user, minlength=n_users)
    kept_item = np.bincount(pairs.item, minlength=n_items)
    user_degree = kept_user + take("user.pruned", "u", n_users).astype(np.float64)
    item_degree = take("item.degree", "u", n_items).astype(np.float64)
    if (item_degree < kept_item).any():
        raise Damaged("an item has more edges than it had interactions")
    coefficients = meta.get("coefficients")
    if not isinstance(coefficients, list) or not 1 <= len(coefficients) <= _MOST_LAYERS + 1:
        raise Damaged("its coefficients are missing")
    if not all(type(c) in (int, float) and abs(c) < _FLOAT32 for c in coefficients):
        raise Damaged("its coefficients are no numbers")
    return Graph(pairs, weight, user_degree, item_degree, [float(c) for c in coefficients])


def _whole(meta: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = meta.get(key)
    if type(value) is not int or not least <= value <= most:
        raise Damaged(f"{key} is {value!r}")
    return value


def _one_of(meta: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = meta.get(key)
    if value not in allowed:
        raise Damaged(f"{key} is {value!r}")
    return str(value)
