"""A trained model as one small file that serves without torch and RecBole (``docs/FORMAT.md``)."""

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
from recbole_lightgnn.serving.ids import Hashes, Ids, Tokens, hashed, in_order, key_of, keyed
from recbole_lightgnn.serving.model import Graph, Model, to_bytes
from recbole_lightgnn.serving.recommender import Recommender
from recbole_lightgnn.trainer.evaluation import FullRanking, Rankings
from recbole_lightgnn.utils.files import check_writable, plain, whole_file

SEEN = ("kept", "all", "none")


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
    """Write the model of a row into a file, and rank with what was written.

    Args:
        run: the run.
        out: where to.
        row: key of the row, by default the last student's.
        values: what entries and edge weights are stored as: ``float32``, ``float16`` or ``int8``.
        ids: what users and items are called: ``tokens``, as the dataset calls them; ``hashed``
            with a secret; or ``none``, numbers in the order of their tokens.
        secret: for ``hashed``.
        form: ``graph``, entries and edges, which are propagated when the file is loaded;
            ``final``, the final embeddings; by default whichever is smaller.
        seen: which interactions are in the file: those ``kept`` by pruning; ``all``; or, with the
            form ``final``, ``none``.

    Returns:
        ``row``, ``form``, ``bytes``, ``arrays`` (bytes of each), ``of_dense`` (bytes over those of
        float32 tables of 64 columns), ``valid`` (metrics of the file, or ``None``) and
        ``run_valid`` (of the run).

    Raises:
        InputError: if the row has no model, or cannot be exported so.
    """
    check_writable("--out", out)
    if (ids == "hashed") != (secret is not None):
        raise InputError("--ids hashed needs a --key, and nothing else does")
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
    return {
        "row": result["key"],
        "form": chosen,
        "values": values,
        "bytes": len(content),
        "arrays": arrays,
        "of_dense": len(content) / (4 * 64 * sum(len(side.ids) for side in names)),
        "valid": metrics_of(Recommender.load(out, secret), run, result["key"]),
        "run_valid": result["valid"],
    }


def served_model(run: TrainedRun, row: str, *, form: str, seen: str = "all") -> Model:
    """The model of a row as `export` would write it, exactly, with the dataset's names.

    Raises:
        InputError: if the row has no model, or not this form.
    """
    model = run.model(row)
    _forms(model, form, seen)
    return _served(model, _names(run.dataset, "tokens", None), {}, form, seen)


def metrics_of(
    recommender: Recommender, run: TrainedRun, row: str, split: str = "valid"
) -> Mapping[str, float] | None:
    """What the run's own evaluation says of an exported model.

    Args:
        recommender: with the model; if its names are hashed, with the key.
        run: the run that it comes from.
        row: key of its row.
        split: ``valid`` or ``test``.

    Returns:
        Metrics by name, or ``None`` where only RecBole's evaluator knows one of them.
    """
    if (ranking := _ranking(run, row, split)) is None:
        return None
    tables = (recommender.user, recommender.item)
    ids = (recommender.users, recommender.items)
    return ranking.evaluate(*map(_in_recboles_order, tables, ids, _tokens(run.dataset)))


def metrics_of_row(run: TrainedRun, row: str, split: str) -> Mapping[str, float] | None:
    """As `metrics_of`, of the row's model as it was trained."""
    ranking = _ranking(run, row, split)
    return None if ranking is None else ranking.evaluate(*run.model(row).final_embeddings())


def _ranking(run: TrainedRun, row: str, split: str) -> FullRanking | None:
    loader = run.loaders[("train", "valid", "test").index(split)]
    return Rankings(run.config(row), torch.device("cpu")).of(loader)


# --- what the file is made of ---------------------------------------------------------------


class _Names(NamedTuple):
    """What one side is called in a file, and in which order.

    Attributes:
        ids: the names.
        order: RecBole's number, less one, of each. Shape: (size,)
    """

    ids: Ids
    order: np.ndarray

    def numbers(self, index: Tensor) -> np.ndarray:
        """The file's numbers of RecBole's. Shape: as ``index``"""
        number = np.empty(len(self.order), np.int64)
        number[self.order] = np.arange(len(self.order))
        return number[index.numpy() - 1]

    def rows(self, table: Tensor) -> np.ndarray:
        """A table without RecBole's padding row, in the file's order. Shape: (size, width)"""
        return table.detach().numpy()[1:][self.order]


def _tokens(dataset: Any) -> tuple[list[str], list[str]]:
    """What users and items are called, without padding, in RecBole's order."""
    users, items = (
        dataset.field2id_token[field][1:].tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    return users, items


def _names(dataset: Any, kind: str, secret: bytes | None) -> tuple[_Names, _Names]:
    users, items = _tokens(dataset)
    return _name("user", users, kind, secret), _name("item", items, kind, secret)


def _name(what: str, tokens: list[str], kind: str, secret: bytes | None) -> _Names:
    if secret is not None:
        hashes = hashed(what, tokens, key_of(secret))
        order = np.argsort(hashes)
        return _Names(Hashes(what, hashes[order]), order)
    order = in_order(tokens)
    if kind == "none":
        return _Names(Ids(what, len(tokens)), order)
    return _Names(Tokens(what, [tokens[place] for place in order]), order)


def _forms(model: Any, form: str | None, seen: str) -> list[str]:
    """The forms to choose from."""
    forms = [form] if form else ["graph", "final"]
    no_graph = {
        f"a {type(model).__name__}": not isinstance(model, LightGNN),
        "--seen none": seen == "none",
    }
    for what, is_so in no_graph.items():
        if is_so and form == "graph":
            raise InputError(
                f"{what} has no form graph, whose edges are the interactions that a student kept: "
                "choose another, or the form final"
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
        listed = listed & ~kept
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
    )


def _pairs(user: np.ndarray, item: np.ndarray, listed: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Those of some pairs that are listed, in order, and that order of theirs."""
    user, item = user[listed], item[listed]
    order = np.lexsort((item, user))
    return Pairs(user[order].astype(np.int32), item[order].astype(np.int32)), order


def _card(run: TrainedRun, row: Mapping[str, Any], secret: bytes | None) -> dict[str, Any]:
    """Where a model comes from and what it reached: nothing that differs from time to time.

    By the hash of a split a guess of what was pruned can be tested: with a secret, who has it can.
    """
    config, data = run.config(row["key"]), run.folder.content["data"]
    if secret is not None:
        data = {split: keyed(hash_, key_of(secret)) for split, hash_ in data.items()}
    kept = ("interactions", "interactions_kept", "entries", "entries_kept", "valid", "test")
    return plain(
        {
            "made_by": f"recbole-lightgnn {__version__}",
            "model": config["model"],
            "dataset": config["dataset"],
            "data": data,
            "seed": config["seed"],
            "row": row["key"],
            **{key: row.get(key) for key in kept},
            "masking": mask_in_force(config),
            "settings": model_settings(config),
        },
        text=_without_folders,
    )


def _without_folders(text: str) -> str:
    return Path(text).name if os.path.isabs(text) else text


# --- what the file ranks like ---------------------------------------------------------------


def _in_recboles_order(table: np.ndarray, ids: Ids, tokens: list[str]) -> Tensor:
    """A table of a file with a padding row, by RecBole's numbers. Shape: (size + 1, width)"""
    without_names = ids.kind == "none"
    numbers = np.argsort(in_order(tokens)) if without_names else ids.numbers(tokens)
    padding = np.zeros((1, table.shape[1]), np.float32)
    return torch.from_numpy(np.concatenate([padding, table[numbers]]))


_PARTS = {"names": ("users.", "items."), "edges": ("edge.", "user.pruned", "item.degree")}


def parts(result: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of embeddings, edges, names and the rest, which are all of the file."""
    sizes = {"embeddings": 0, **dict.fromkeys(_PARTS, 0), "seen": 0, "header": result["bytes"]}
    for name, size in result["arrays"].items():
        part = "seen" if name.startswith("seen.") else "embeddings"
        part = next((p for p, starts in _PARTS.items() if name.startswith(starts)), part)
        sizes[part] += size
        sizes["header"] -= size
    return sizes
