"""Parts of a row in a run's record: sizes of a model, and validation scores of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor, nn

from recbole_lightgnn.models.base import GraphRecommender, entries_of
from recbole_lightgnn.trainer.recbole_trees import leaves_and_bytes

_CHOICE = (
    "epochs",
    "planned_epochs",
    "best_epoch",
    "valid",
    "curve",
)  # what a validated training tells
# Caches computed from other values: scores of all users (ItemKNN, AsymKNN), item vectors (DMF).
_CACHED = {"pred_mat", "i_embedding"}


def size_row(model: Any, n_pairs: int) -> dict[str, Any]:
    """Count the interactions, entries, parameters and bytes of a trained model.

    For our models, see `GraphRecommender.sizes`. For RecBole's, the entries are the numbers in all
    parameters without padding rows, and the bytes are the size of the state dict. Shared weights,
    as in GCMC, count once. Arrays that are not parameters, as in EASE, are included, but caches are
    not. The entries of a tree model are its leaves.

    Args:
        model: the trained model, ours or RecBole's.
        n_pairs: number of interactions in the training data.

    Returns:
        ``interactions``, ``entries``, ``parameters`` and ``bytes``; ``interactions_kept`` and
        ``entries_kept``, the fractions left by pruning.
    """
    if not isinstance(model, GraphRecommender):
        entries, n_bytes = _sizes(model)
        return {
            "interactions": n_pairs,
            "interactions_kept": 1.0,
            "entries": entries,
            "entries_kept": 1.0,
            "parameters": entries,
            "bytes": n_bytes,
        }
    sizes = model.sizes()
    return sizes | {"interactions_kept": sizes["interactions"] / n_pairs}


# Validation scores of a training: ``epoch`` (from 1), ``seconds`` since the start, ``score``.
Curve = dict[str, list[float]]


def new_curve() -> Curve:
    """Return a curve without scores."""
    return {"epoch": [], "seconds": [], "score": []}


def add_point(curve: Curve, epoch: int, seconds: float, score: float) -> None:
    """Add an epoch (from 1), its seconds since the start and its validation score to a curve."""
    for name, value in (("epoch", epoch), ("seconds", seconds), ("score", float(score))):
        curve[name].append(value)


def refit_row(row: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Make the row of a model that was trained again on train and validation interactions.

    Args:
        row: row of the second training.
        chosen: row of the first training, which chose the epoch by validation.

    Returns:
        ``row`` with the epochs and validation of ``chosen``. ``seconds`` is the time of both
        trainings together, ``refit_seconds`` the time of the second training.
    """
    copied = {key: chosen[key] for key in _CHOICE if key in chosen}
    seconds = row["seconds"]
    times = {"seconds": chosen["seconds"] + seconds, "refit_seconds": seconds}
    return {**row, **copied, **times}


def epochs_of(trainer: Any) -> dict[str, int]:
    """Return the ``epochs`` so far and the ``best_epoch`` of a RecBole trainer."""
    epochs = len(trainer.train_loss_dict)
    return {"epochs": epochs, "best_epoch": epochs - trainer.cur_step * trainer.eval_step}


def _sizes(model: Any) -> tuple[int, int]:
    """Count the entries and bytes of one of RecBole's own models."""
    if not isinstance(model, nn.Module):
        return leaves_and_bytes(model)
    other = _other_values(model)
    entries = entries_of(model) + sum(map(_numbers, other))
    return entries, sum(map(_bytes, [*_state(model), *other]))


def _state(model: Any) -> list[Tensor]:
    """Return the tensors of a model's ``state_dict``, a shared tensor once."""
    return list({tensor.data_ptr(): tensor for tensor in model.state_dict().values()}.values())


def _other_values(model: Any) -> list[Any]:
    """Return a RecBole model's values outside its state dict, without caches."""
    other = model.other_parameter() or {}
    if not other and hasattr(model, "dummy_param"):  # ADMMSLIM and NCEPLRec do not list theirs
        other = vars(model)
    return [v for k, v in other.items() if not k.startswith("restore_") and k not in _CACHED]


def _numbers(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    if issparse(value):
        return int(value.nnz)
    return value.size if isinstance(value, np.ndarray) else 0


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes
    if issparse(value):
        csr = value.tocsr()
        return int(csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes)
    return 0
