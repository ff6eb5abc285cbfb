"""Export a trained model as one small file that serves without torch and RecBole.

``docs/reference/file-format.md`` describes the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_lightgnn import __version__
from recbole_lightgnn.config.settings_diff import model_settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.eval_mask import mask_in_force
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.nn.propagation import binomials
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.coding import Pairs
from recbole_lightgnn.serving.ids import (
    Hashes,
    Ids,
    Tokens,
    derive_key,
    hash_tokens,
    keyed_digest,
    token_order,
)
from recbole_lightgnn.serving.model import Graph, Model, to_bytes
from recbole_lightgnn.serving.recommender import Recommender
from recbole_lightgnn.trainer.evaluation import FullRanking, Rankings
from recbole_lightgnn.utils.files import check_writable, plain, whole_file

SEEN = ("kept", "all", "none")  # training interactions that a file may hold
_DENSE_WIDTH = 64  # columns of the float32 tables that a file's size is compared to


def export(
    run: TrainedRun,
    out: Path,
    *,
    row: str | None = None,
    values: str = "float32",
    ids: str = "tokens",
    secret: bytes | None = None,
    form: str | None = None,
    seen: str = "kept",
) -> dict[str, Any]:
    """Write one trained model of a run to a file, and evaluate the file on the validation split.

    Args:
        run: the finished run.
        out: the file to write.
        row: key of the model's row in the run's record, such as ``student-01``; by default the
            last row, the final model.
        values: number type of embedding entries and edge weights: ``float32``, ``float16`` or
            ``int8``.
        ids: names of users and items in the file: ``tokens``, as in the dataset; ``hashed``, hashes
            of the tokens with a secret; or ``none``, only numbers in the order of sorted tokens.
        secret: secret of the hashes, with ``ids="hashed"``.
        form: ``graph`` stores pruned embeddings and edges, which are propagated at loading;
            ``final`` stores final embeddings. By default the smaller of the two files.
        seen: training interactions to store; their items are not recommended to the user again:
            ``kept`` (those that pruning kept), ``all``, or ``none`` (only with the form ``final``).

    Returns:
        ``row``, ``form`` and ``values``, as chosen; ``bytes``, the size of the file; ``arrays``,
        the bytes of each array; ``of_dense``, ``bytes`` divided by the size of float32 embeddings
        with 64 columns; ``valid``, validation metrics of the file (`metrics_of`); and
        ``run_valid``, the validation metrics in the run's record.

    Raises:
        InputError: if the run kept no model for the row, the options contradict each other or do
            not fit the model, or the file cannot be written.
    """
    check_writable("--out", out)
    if (ids == "hashed") != (secret is not None):
        raise InputError("--ids hashed needs a --key, and --key needs --ids hashed: give both")
    result = run.row(row)
    model = run.model(result["key"])
    names = _names(run.dataset, ids, secret)
    card = _card(run, result, secret)
    forms = {
        kind: to_bytes(_served(model, names, card, kind, seen), values, secret)
        for kind in _forms(model, form, seen)
    }
    chosen = min(forms, key=lambda kind: len(forms[kind][0]))
    content, arrays = forms[chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        partial.write_bytes(content)
    n_rows = sum(len(side.ids) for side in names)
    return {
        "row": result["key"],
        "form": chosen,
        "values": values,
        "bytes": len(content),
        "arrays": arrays,
        "of_dense": len(content) / (4 * _DENSE_WIDTH * n_rows),
        "valid": metrics_of(Recommender.load(out, secret), run, result["key"]),
        "run_valid": result["valid"],
    }


def served_model(run: TrainedRun, row: str, *, form: str, seen: str = "all") -> Model:
    """Build the model that `export` would write with float32 values and the dataset's tokens.

    ``row`` is the key of the model's row in the record; ``form`` and ``seen`` are as for `export`.
    Raises InputError if the run kept no model for the row, or the form is impossible.
    """
    model = run.model(row)
    _forms(model, form, seen)
    return _served(model, _names(run.dataset, "tokens", None), {}, form, seen)


def metrics_of(
    recommender: Recommender, run: TrainedRun, row: str, split: str = "valid"
) -> Mapping[str, float] | None:
    """Evaluate an exported model as the run evaluated the trained model.

    Args:
        recommender: the exported model. If its names are hashed, load it with the secret.
        run: the run that the model was exported from.
        row: key of the model's row in the run's record.
        split: ``valid`` or ``test``.

    Returns:
        Metrics by name; ``None`` if a metric of the run needs RecBole's evaluator, or if
        ``split`` is ``valid`` and the model was trained on the validation split.
    """
    if (ranking := _ranking(run, row, split)) is None:
        return None
    tables = (recommender.user, recommender.item)
    ids = (recommender.users, recommender.items)
    return ranking.evaluate(*map(_in_recbole_order, tables, ids, _tokens(run.dataset)))


def metrics_of_row(run: TrainedRun, row: str, split: str) -> Mapping[str, float] | None:
    """Evaluate a trained model as the run did, on the split ``valid`` or ``test``.

    ``row`` is the key of the model's row in the run's record. Returns ``None`` in the same
    cases as `metrics_of`.
    """
    ranking = _ranking(run, row, split)
    return None if ranking is None else ranking.evaluate(*run.model(row).final_embeddings())


def _ranking(run: TrainedRun, row: str, split: str) -> FullRanking | None:
    if split == "valid" and run.folder.is_refit:
        return None
    loader = run.loaders[("train", "valid", "test").index(split)]
    return Rankings(run.config(row), torch.device("cpu")).of(loader)


# --- from a trained model to an exported one ------------------------------------------------


class _Names(NamedTuple):
    """Names of the users or items in an exported file, in the order of the file.

    Attributes:
        ids: the names: tokens, hashes, or only numbers.
        order: number in RecBole, minus one, of each user or item of the file. Shape: (size,)
    """

    ids: Ids
    order: np.ndarray

    def numbers(self, index: Tensor) -> np.ndarray:
        """Convert RecBole's user or item numbers to the file's numbers. Shape: as ``index``"""
        number = np.empty(len(self.order), np.int64)
        number[self.order] = np.arange(len(self.order))
        result: np.ndarray = number[index.numpy() - 1]
        return result

    def rows(self, table: Tensor) -> np.ndarray:
        """Reorder a table for the file, without RecBole's padding row. Shape: (size, width)"""
        result: np.ndarray = table.detach().numpy()[1:][self.order]
        return result


def _tokens(dataset: Any) -> tuple[list[str], list[str]]:
    """Return the tokens (names) of users and of items, in RecBole's order, without padding."""
    users, items = (
        dataset.field2id_token[field][1:].tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    return users, items


def _names(dataset: Any, kind: str, secret: bytes | None) -> tuple[_Names, _Names]:
    users, items = _tokens(dataset)
    return _names_of("user", users, kind, secret), _names_of("item", items, kind, secret)


def _names_of(what: str, tokens: list[str], kind: str, secret: bytes | None) -> _Names:
    if secret is not None:
        hashes = hash_tokens(what, tokens, derive_key(secret))
        order = np.argsort(hashes)
        return _Names(Hashes(what, hashes[order]), order)
    order = token_order(tokens)
    if kind == "none":
        return _Names(Ids(what, len(tokens)), order)
    return _Names(Tokens(what, [tokens[place] for place in order]), order)


def _forms(model: Any, form: str | None, seen: str) -> list[str]:
    """Return the possible forms of a file; raise InputError if ``form`` is impossible."""
    forms = [form] if form else ["graph", "final"]
    excludes_graph = {
        f"a {type(model).__name__}": not isinstance(model, LightGNN),
        "--seen none": seen == "none",
    }
    for what, is_so in excludes_graph.items():
        if is_so and form == "graph":
            raise InputError(
                f"{what} has no form graph (its edges are the interactions that a student kept): "
                "choose another, or --form final"
            )
        if is_so:
            forms = ["final"]
    return forms


def _served(
    model: Any, names: tuple[_Names, _Names], card: Mapping[str, Any], form: str, seen: str
) -> Model:
    user_names, item_names = names
    pattern = model.observed.interactions.pattern
    observed = user_names.numbers(pattern.row), item_names.numbers(pattern.col)
    kept = np.ones(pattern.nnz, np.bool_)
    if isinstance(model, LightGNN):
        kept = model.edge_mask.numpy()
    listed = {"kept": kept, "all": np.ones_like(kept), "none": np.zeros_like(kept)}[seen]
    if form == "graph":
        graph = _graph(model, observed, kept, len(user_names.ids), len(item_names.ids))
        tables = model.initial()
        listed = listed & ~kept  # kept interactions are in the file as edges
    else:
        graph, tables = None, model.final_embeddings()
    return Model(
        users=user_names.ids,
        items=item_names.ids,
        user=user_names.rows(tables[0]),
        item=item_names.rows(tables[1]),
        graph=graph,
        seen=_pairs(*observed, listed)[0],
        card={**card, "seen": seen},
    )


def _graph(
    model: LightGNN,
    observed: tuple[np.ndarray, np.ndarray],
    kept: np.ndarray,
    n_users: int,
    n_items: int,
) -> Graph:
    pairs, order = _pairs(*observed, kept)
    weight = model.edge_weight.detach().numpy()
    return Graph(
        pairs=pairs,
        weight=np.ones_like(weight) if model.binary_edges else weight[order],
        user_degree=np.bincount(observed[0], minlength=n_users),
        item_degree=np.bincount(observed[1], minlength=n_items),
        coefficients=binomials(model.n_layers),
        exponents=model.exponents,
    )


def _pairs(user: np.ndarray, item: np.ndarray, mask: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Sort the pairs where the mask is true; return the sorted pairs, and their order."""
    user, item = user[mask], item[mask]
    order = np.lexsort((item, user))
    return Pairs(user[order].astype(np.int32), item[order].astype(np.int32)), order


def _card(run: TrainedRun, row: Mapping[str, Any], secret: bytes | None) -> dict[str, Any]:
    """Describe a model for the file: origin, settings and metrics, without paths and times.

    With the hash of a split, anyone could verify a guess of the pruned interactions. If ``secret``
    is given, the hash depends on it, so that only holders of the secret can do so.
    """
    config, data = run.config(row["key"]), run.folder.content["data"]
    if secret is not None:
        key = derive_key(secret)
        data = {split: keyed_digest(digest, key) for split, digest in data.items()}
    copied = ("interactions", "interactions_kept", "entries", "entries_kept", "valid", "test")
    card: dict[str, Any] = plain(
        {
            "made_by": f"recbole-lightgnn {__version__}",
            "model": config["model"],
            "dataset": config["dataset"],
            "data": data,
            "seed": config["seed"],
            "row": row["key"],
            **{key: row.get(key) for key in copied},
            "masking": mask_in_force(config),
            "settings": model_settings(config),
        },
        text=_without_folders,
    )
    return card


def _without_folders(text: str) -> str:
    return Path(text).name if os.path.isabs(text) else text


# --- from an exported model to an evaluation ------------------------------------------------


def _in_recbole_order(table: np.ndarray, ids: Ids, tokens: list[str]) -> Tensor:
    """Put a file's table in RecBole's order, after a padding row. Shape: (size + 1, width)"""
    numbers = np.argsort(token_order(tokens)) if ids.kind == "none" else ids.numbers(tokens)
    padding = np.zeros((1, table.shape[1]), np.float32)
    return torch.from_numpy(np.concatenate([padding, table[numbers]]))


# --- size of a file -------------------------------------------------------------------------

_PARTS = {"names": ("users.", "items."), "edges": ("edge.", "user.pruned", "item.degree")}


def bytes_by_part(result: Mapping[str, Any]) -> dict[str, int]:
    """Split a file's size into embeddings, names, edges, seen and header; see `export`."""
    sizes = {"embeddings": 0, **dict.fromkeys(_PARTS, 0), "seen": 0, "header": result["bytes"]}
    for name, size in result["arrays"].items():
        part = "seen" if name.startswith("seen.") else "embeddings"
        part = next((p for p, starts in _PARTS.items() if name.startswith(starts)), part)
        sizes[part] += size
        sizes["header"] -= size
    return sizes
