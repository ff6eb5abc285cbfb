"""An exported model as NumPy arrays; write the model to a file and read the file."""

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
from recbole_lightgnn.serving.coding import ArrayReader, Pairs
from recbole_lightgnn.serving.container import Arrays, Damaged
from recbole_lightgnn.serving.ids import KINDS, Ids, derive_key, key_check, read_ids
from recbole_lightgnn.utils.edge_norm import SYMMETRIC, Exponents, edge_norm

FORMS = ("graph", "final")
NO_PAIRS = Pairs(np.empty(0, np.int32), np.empty(0, np.int32))  # an empty set of pairs
_NO_WEIGHTS = np.empty(0, np.float32)
_MAX_LAYERS = 64
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_BOUNDS = (("users", 0, 2**31 - 1), ("items", 0, 2**31 - 1), ("width", 1, 2**16))


@dataclass(frozen=True)
class Graph:
    r"""Edges for the propagation :math:`\bar E = \sum_k c_k \hat A^k E` (LightGNN, Eq. 4 and 2).

    Attributes:
        pairs: the edges, as user-item pairs.
        weight: learned weight of each edge, W of Eq. 4, float32. Shape: (edges,)
        user_degree: number of interactions of each user before pruning, d_u in
            `normalized_weights`. Shape: (users,)
        item_degree: number of interactions of each item before pruning, d_i in
            `normalized_weights`. Shape: (items,)
        coefficients: c_0, c_1, ..., the factor of each power of :math:`\hat A`.
        exponents: exponents of the degrees in `edge_norm`.
    """

    pairs: Pairs
    weight: np.ndarray
    user_degree: np.ndarray
    item_degree: np.ndarray
    coefficients: list[float]
    exponents: Exponents = SYMMETRIC

    def normalized_weights(self) -> np.ndarray:
        r"""Entries of :math:`\hat A`: weight times `edge_norm`, float32. Shape: (edges,)"""
        user, item = self.user_degree[self.pairs.user], self.item_degree[self.pairs.item]
        norm = edge_norm(user, item, self.exponents)
        values: np.ndarray = norm.astype(np.float32) * self.weight
        return values


@dataclass(frozen=True)
class Model:
    """An exported model: names, embeddings, edges and seen interactions.

    Attributes:
        users: names of the users.
        items: names of the items.
        user: embeddings of the users, float32; initial ones with a graph, final ones without.
            Shape: (users, width)
        item: embeddings of the items, likewise. Shape: (items, width)
        graph: the edges, or ``None``.
        seen: further interactions, which are not edges. Their items are not recommended again.
        card: origin, settings and metrics of the model; plain JSON.
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
        """``graph``: initial embeddings and edges; or ``final``: final embeddings without edges."""
        return "final" if self.graph is None else "graph"


def to_bytes(
    model: Model, values: str, secret: bytes | None = None
) -> tuple[bytes, dict[str, int]]:
    """Encode a model as the bytes of a file.

    Args:
        model: the model.
        values: number type of entries and edge weights, one of `coding.VALUES`.
        secret: secret that the names were hashed with, or ``None``.

    Returns:
        First, the content of the file. Second, the number of bytes of each array in the file, by
        name.

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
        "key_check": key_check(derive_key(secret)) if secret else None,
        "coefficients": model.graph.coefficients if model.graph else None,
        "card": model.card,
    }
    version = container.FIRST_VERSION
    if model.graph and model.graph.exponents != SYMMETRIC:
        version, meta["exponents"] = container.VERSION, model.graph.exponents
    tables = {"user": model.user, "item": model.item}
    weight = model.graph.weight if model.graph else _NO_WEIGHTS
    _check_finite({**tables, "edge weights": weight}, ": the training has diverged")
    arrays: Arrays = {}
    encode = coding.encode_table if model.graph else coding.encode_dense
    with np.errstate(over="ignore"):  # float16 overflow is reported below
        for name, table in tables.items():
            arrays |= encode(name, table, values)
        if model.graph:
            arrays |= _encode_graph(model.graph, values)
    if len(model.seen.user):
        arrays |= coding.encode_pairs("seen", model.seen, len(model.users))
    arrays |= model.users.arrays() | model.items.arrays()
    _check_finite(arrays, f" as {values}: export with --values float32")
    mapped = ("user.values", "item.values") if model.graph is None and values == "float32" else ()
    return container.pack(meta, arrays, mapped, version)


def read(path: Path, secret: bytes | None = None, mapped: bool = True) -> Model:
    """Read an exported model from a file.

    Args:
        path: the file.
        secret: secret that the names were hashed with, or ``None``.
        mapped: whether to memory-map the file (`container.read`).

    Raises:
        InputError: if the file is missing, is another kind of file, has a newer format version or
            is damaged, or if the secret is wrong.
    """
    meta, arrays = container.read(path, mapped)
    # Overflow gives values that are not finite; `Recommender` reports them.
    with container.reading(str(path)), np.errstate(over="ignore", invalid="ignore"):
        return _decode(meta, ArrayReader(arrays), None if secret is None else derive_key(secret))


def _check_finite(arrays: Mapping[str, np.ndarray], advice: str) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"{name} of the model cannot be exported: it has values that are not finite{advice}"
            )


def _encode_graph(graph: Graph, values: str) -> Arrays:
    pairs = graph.pairs
    kept = np.bincount(pairs.user, minlength=len(graph.user_degree))
    return {
        **coding.encode_pairs("edge", pairs, len(graph.user_degree)),
        **coding.encode_weights("edge", graph.weight, values),
        "user.pruned": coding.to_smallest_unsigned(graph.user_degree - kept),
        "item.degree": coding.to_smallest_unsigned(graph.item_degree),
    }


def _decode(meta: Mapping[str, Any], reader: ArrayReader, key: bytes | None) -> Model:
    n_users, n_items, width = (_read_integer(meta, *bounds) for bounds in _BOUNDS)
    form, values, kind = (
        _read_choice(meta, *allowed)
        for allowed in (("form", FORMS), ("values", coding.VALUES), ("ids", KINDS))
    )
    card = meta.get("card")
    if not isinstance(card, dict):
        raise Damaged("its card is missing")
    if key and meta.get("key_check") != key_check(key):
        reason = "were hashed with another key" if kind == "hashed" else "are not hashed"
        raise InputError(f"--key does not fit: the names in this model {reason}")
    # Names come first: they confirm the header's counts before tables of that size are allocated.
    users = read_ids("user", kind, n_users, reader, key)
    items = read_ids("item", kind, n_items, reader, key)
    graph = _decode_graph(meta, reader, n_users, n_items, values) if form == "graph" else None
    seen = NO_PAIRS
    if "seen.count" in reader:
        seen = coding.decode_pairs("seen", reader, n_users, n_items)
    _check_memory((n_users + n_items) * width)
    decode = coding.decode_table if form == "graph" else coding.decode_dense
    user = decode("user", reader, (n_users, width), values)
    item = decode("item", reader, (n_items, width), values)
    reader.check_all_taken()
    return Model(users, items, user, item, graph, seen, card)


def _check_memory(entries: int) -> None:
    """Raise MemoryError if the initial and final embeddings would exceed the machine's memory.

    Pruned entries take almost no space in a file, so a small file can need much memory.
    """
    with suppress(ValueError, AttributeError, OSError):  # some systems do not report their memory
        if 2 * 4 * entries > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError


def _decode_graph(
    meta: Mapping[str, Any], reader: ArrayReader, n_users: int, n_items: int, values: str
) -> Graph:
    pairs = coding.decode_pairs("edge", reader, n_users, n_items)
    weight = coding.decode_weights("edge", reader, len(pairs.user), values)
    kept_user = np.bincount(pairs.user, minlength=n_users)
    kept_item = np.bincount(pairs.item, minlength=n_items)
    user_degree = kept_user + reader.take("user.pruned", "u", n_users).astype(np.float64)
    item_degree = reader.take("item.degree", "u", n_items).astype(np.float64)
    if (item_degree < kept_item).any():
        raise Damaged("an item has more edges than interactions")
    coefficients = meta.get("coefficients")
    if not isinstance(coefficients, list) or not 1 <= len(coefficients) <= _MAX_LAYERS + 1:
        raise Damaged("its coefficients are missing")
    if not all(type(c) in (int, float) and abs(c) < _FLOAT32_MAX for c in coefficients):
        raise Damaged("its coefficients are not numbers")
    exponents = meta.get("exponents", list(SYMMETRIC))
    if not isinstance(exponents, list) or len(exponents) != 2:
        raise Damaged("its exponents are missing")
    if not all(type(e) in (int, float) and 0 <= e <= 1 for e in exponents):
        raise Damaged("its exponents are not from 0 to 1")
    return Graph(
        pairs=pairs,
        weight=weight,
        user_degree=user_degree,
        item_degree=item_degree,
        coefficients=[float(c) for c in coefficients],
        exponents=(float(exponents[0]), float(exponents[1])),
    )


def _read_integer(meta: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = meta.get(key)
    if type(value) is not int or not least <= value <= most:
        raise Damaged(f"{key} is {value!r}")
    return value


def _read_choice(meta: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = meta.get(key)
    if value not in allowed:
        raise Damaged(f"{key} is {value!r}")
    return str(value)
