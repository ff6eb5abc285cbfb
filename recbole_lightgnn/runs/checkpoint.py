"""Save and load checkpoints: tensors and JSON metadata in one safetensors file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recbole_lightgnn.config.aliases import renamed, renamed_keys
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import whole_file

SUFFIX = ".safetensors"
_FORMAT = "recbole_lightgnn checkpoint 1"


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write a checkpoint atomically: tensors by name, and metadata that JSON can express."""
    header = {"format": _FORMAT, "meta": json.dumps(meta)}
    with whole_file(path) as partial:
        save_file(_without_sharing(tensors), partial, header)


def _without_sharing(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, as in GCMC: safetensors does not save shared memory."""
    result, seen = {}, set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        result[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return result


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint that :func:`save` wrote, in this or an earlier version; execute nothing.

    Returns:
        The tensors by name, and the metadata with the present names of settings.

    Raises:
        InputError: if the file is missing, damaged, or not written by :func:`save`.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is damaged or no checkpoint of recbole_lightgnn ({error}): "
            "train the stage again"
        ) from error
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is no checkpoint of recbole_lightgnn (expected format '{_FORMAT}', "
            f"got '{header.get('format')}')"
        )
    return tensors, renamed_keys(renamed(json.loads(header["meta"])))


def epoch_of(path: Path) -> int | None:
    """Read the epoch in a checkpoint; return ``None`` if the file has no epoch or is unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            epoch: int | None = json.loads((file.metadata() or {})["meta"]).get("epoch")
            return epoch
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def capture(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Tensor]:
    """Collect everything needed to resume a training after an epoch, as tensors by name.

    These are the weights, the optimizer's state, and the state of every random generator;
    ``generator`` belongs to the training loader.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": value for slot, value in slots.items()}
    return tensors | capture_rng(generator)


def restore(
    state: dict[str, Tensor],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Set model, optimizer and random generators, in place, to a state from :func:`capture`."""
    model.load_state_dict(_part(state, "model."))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(state, "optimizer.").items():
        number, slot = name.split(".", 1)
        slots.setdefault(int(number), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    restore_rng(state, generator)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def capture_rng(generator: torch.Generator) -> dict[str, Tensor]:
    """Collect the states of all random generators; ``generator`` belongs to the training loader."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    _, python_keys, python_gauss = random.getstate()
    state = {
        "rng.torch": torch.get_rng_state(),
        "rng.loader": generator.get_state(),
        "rng.numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "rng.numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        "rng.python": torch.tensor(python_keys, dtype=torch.int64),
        "rng.python_gauss": torch.tensor(
            [] if python_gauss is None else [python_gauss], dtype=torch.float64
        ),
    }
    if torch.cuda.is_available():
        state["rng.cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: dict[str, Tensor], generator: torch.Generator) -> None:
    """Restore the random generators from the state that :func:`capture_rng` collected."""
    torch.set_rng_state(state["rng.torch"])
    generator.set_state(state["rng.loader"])
    position, has_gauss, gauss = state["rng.numpy_rest"].tolist()
    keys = state["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    python_gauss = state["rng.python_gauss"].tolist()
    random.setstate(
        (3, tuple(state["rng.python"].tolist()), python_gauss[0] if python_gauss else None)
    )
    if "rng.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng.cuda"])
