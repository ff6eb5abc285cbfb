"""One line of the record: what a model holds, whoever's it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor

from recbole_lightgnn.models.base import GraphRecommender, entries_of

# All users' scores (ItemKNN, AsymKNN) and all items' vectors (DMF), made of the rest.
_CACHED = {"pred_mat", "i_embedding"}


def size_row(model: Any, n_pairs: int) -> dict[str, Any]:
    """Interactions, embedding entries and bytes, and what share of the unpruned ones they are.

    ``parameters`` are all numbers trained that are stored, of ours the edge weights too. RecBole's
    padding rows are left out. For RecBole's own models every parameter is an entry, and the bytes
    are those of its state, weights that it shares (GCMC's) once; arrays and matrices beside the
    parameters (EASE's) are included in both, but for what it has cached of them.

    Args:
        model: the trained model.
        n_pairs: interactions in the training data.
    """
    if not isinstance(model, GraphRecommender):
        entries = entries_of(model) + sum(map(_numbers, _beside(model)))
        return {
            "interactions": n_pairs,
            "interactions_kept": 1.0,
            "entries": entries,
            "entries_kept": 1.0,
            "parameters": entries,
            "bytes": sum(map(_bytes, [*_state(model), *_beside(model)])),
        }
    sizes = model.sizes()
    return sizes | {"interactions_kept": sizes["interactions"] / n_pairs}


Curve = dict[str, list[float]]


def new_curve() -> Curve:
    """Validation scores of a training: ``epoch`` (from 1), ``seconds`` in training, ``score``."""
    return {"epoch": [], "seconds": [], "score": []}


def add_point(curve: Curve, epoch: int, seconds: float, score: float) -> None:
    """One more validation."""
    for name, value in (("epoch", epoch), ("seconds", seconds), ("score", float(score))):
        curve[name].append(value)


def epochs_of(trainer: Any) -> dict[str, int]:
    """How long one of RecBole's own trainers has trained, and which epoch was best."""
    epochs = len(trainer.train_loss_dict)
    return {"epochs": epochs, "best_epoch": epochs - trainer.cur_step * trainer.eval_step}


def _state(model: Any) -> list[Tensor]:
    """The tensors of its state, each once."""
    return list({tensor.data_ptr(): tensor for tensor in model.state_dict().values()}.values())


def _beside(model: Any) -> list[Any]:
    """What a model of RecBole's keeps beside its state, but for what it has cached."""
    other = model.other_parameter() or {}
    if not other and hasattr(model, "dummy_param"):  # ADMMSLIM, NCEPLRec: named nowhere
        other = vars(model)
    return [v for k, v in other.items() if not k.startswith("restore_") and k not in _CACHED]


def _numbers(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    if issparse(value):
        return value.nnz
    return value.size if isinstance(value, np.ndarray) else 0


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes
    if issparse(value):
        csr = value.tocsr()
        return csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    return 0
