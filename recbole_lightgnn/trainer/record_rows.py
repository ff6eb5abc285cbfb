"""Parts of a row in a run's record: sizes of a model, and validation scores of its training."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor, nn

from recbole_lightgnn.models.base import GraphRecommender, entries_of
from recbole_lightgnn.trainer.recbole_trees import leaves_and_bytes

# Caches computed from other values: scores of all users (ItemKNN, AsymKNN), item vectors (DMF).
_CACHED = {"pred_mat", "i_embedding"}


def size_row(model: Any, n_pairs: int) -> dict[str, Any]:
    """Return the numbers of interactions, entries, parameters and bytes of a trained model.

    Entries are single numbers of the embedding tables. `GraphRecommender.sizes` describes the sizes
    of our models. For RecBole's own models, the entries are the numbers in all parameters, and the
    bytes are the size of the state dict. Shared weights, as in GCMC, are counted once. Arrays and
    matrices that are not parameters, as in EASE, are included in entries and bytes, but caches are
    not. RecBole's padding rows are not counted as entries. The entries of a tree model are its
    leaves.

    Args:
        model: the trained model, ours or RecBole's.
        n_pairs: number of interactions in the training data.

    Returns:
        ``interactions``, ``entries``, ``parameters`` and ``bytes``, the numbers;
        ``interactions_kept`` and ``entries_kept``, the fractions that remain after pruning.
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
    """Return a curve (the validation scores of a training) without scores."""
    return {"epoch": [], "seconds": [], "score": []}


def add_point(curve: Curve, epoch: int, seconds: float, score: float) -> None:
    """Add the score of a validation to a curve.

    Args:
        curve: the curve; changed in place.
        epoch: the epoch, from 1.
        seconds: seconds since the start of the training.
        score: validation score.
    """
    for name, value in (("epoch", epoch), ("seconds", seconds), ("score", float(score))):
        curve[name].append(value)


def epochs_of(trainer: Any) -> dict[str, int]:
    """Return a RecBole trainer's number of epochs so far, ``epochs``, and ``best_epoch``.

    Args:
        trainer: RecBole's own trainer, after or during a training.
    """
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
    """Return the tensors of a model's ``state_dict``; a shared tensor is returned once."""
    return list({tensor.data_ptr(): tensor for tensor in model.state_dict().values()}.values())


def _other_values(model: Any) -> list[Any]:
    """Return the values that a RecBole model keeps outside its state dict, without its caches."""
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
