"""Reuse the dataset or loaders of an earlier run, but only if this run would make the same data.

RecBole compares only some settings, not the files and not ``split_seed``. So ``save_dataset`` and
``save_dataloaders`` may silently give a later run the interactions and the split of an earlier run.
The functions here compare everything that shapes the data: hashes and folder of the files, versions
of packages, and settings. If anything differs, the data are made anew, and the log says why. The
states of the random generators are saved, too, so a run gives the same result with saved data as
with new data.

A saved file has RecBole's own pickle, a second pickle of the random states, and one line of JSON.
The line has the hash of both pickles, and lists what the data were made of. It is checked before
anything is unpickled. Anyone who can write to the folder can still forge a file.
"""

import functools
import hashlib
import io
import json
import logging
import os
import pickle
import random
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_lightgnn.config.settings_diff import settings_of, shared_keys
from recbole_lightgnn.utils.files import whole_file

_OUTPUT = {"metrics", "topk", "valid_metric", "valid_metric_bigger", "metric_decimal_place"}
_OUTPUT |= {"save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"}
_VERSIONS = ("recbole", "recbole_lightgnn", "torch", "numpy", "pandas")


def extend_recbole() -> None:
    """Replace RecBole's functions that save and load data. A second call does nothing."""
    utils = import_module("recbole.data.utils")
    if hasattr(utils.create_dataset, "__wrapped__"):
        return
    new: dict[str, Callable[..., Any]] = {
        "create_dataset": create_dataset,
        "load_split_dataloaders": load_split_dataloaders,
        "save_split_dataloaders": save_split_dataloaders,
    }
    for module in (utils, import_module("recbole.data"), import_module("recbole.quick_start")):
        _replace_in(module, new)
    _replace_in(import_module("recbole.quick_start.quick_start"), new)


def _replace_in(module: Any, new: dict[str, Callable[..., Any]]) -> None:
    for name, function in new.items():
        if hasattr(module, name):
            setattr(module, name, functools.wraps(getattr(module, name))(function))


# --- in RecBole's place -----------------------------------------------------------------------


def create_dataset(config: Any) -> Any:
    """Load the saved dataset if it fits this run, else make a dataset.

    A new dataset is saved if the setting ``save_dataset`` is true.
    """
    cls = _dataset_class(config)
    name = f"{config['dataset']}-{cls.__name__}.pth"
    file = Path(config["dataset_save_path"] or Path(config["checkpoint_dir"], name))
    content = None
    if file.exists() or config["save_dataset"] or config["dataset_save_path"]:
        content = _content(config, cls.__name__, _read_by("recbole.data.dataset"))
        if (dataset := _load(file, content, config, "dataset_save_path")) is not None:
            dataset.config = config  # with the same data, but perhaps other metrics
            return dataset
    dataset = cls(config)
    if config["save_dataset"] and content is not None:
        _save(Path(config["checkpoint_dir"], name), content, dataset)
    return dataset


def load_split_dataloaders(config: Any) -> tuple[Any, ...] | None:
    """Load the saved loaders; return None if there are no saved loaders that fit this run."""
    file = Path(config["dataloaders_save_path"] or _loaders_file(config))
    if not (file.exists() or config["save_dataloaders"] or config["dataloaders_save_path"]):
        return None
    content = _content_of_loaders(config)
    if (saved := _load(file, content, config, "dataloaders_save_path")) is not None:
        return tuple(_revived(loader, states, config) for loader, states in saved)
    config.content_of_loaders = content  # for saving: making loaders changes some settings
    return None


def save_split_dataloaders(config: Any, dataloaders: tuple[Any, ...]) -> None:
    """Save loaders, and keep them usable; RecBole's own function removes their generators."""
    content = vars(config).pop("content_of_loaders", None) or _content_of_loaders(config)
    generators = [[part.generator for part in _parts(loader)] for loader in dataloaders]
    states = [[generator.get_state() for generator in group] for group in generators]
    try:
        for loader in dataloaders:
            _set_generators(loader, [None] * len(_parts(loader)))
        _save(_loaders_file(config), content, list(zip(dataloaders, states, strict=True)))
    finally:
        for loader, group in zip(dataloaders, generators, strict=True):
            _set_generators(loader, group)


def _revived(loader: Any, states: list[Any], config: Any) -> Any:
    """Give a loader from a file the saved random generators and the settings of this run."""
    from recbole.data.transform import construct_transform

    generators = [torch.Generator() for _ in states]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    _set_generators(loader, generators)
    for part in _parts(loader):
        part.config = part._dataset.config = config
        part.transform = construct_transform(config)
    return loader


def _parts(loader: Any) -> list[Any]:
    """Return the loaders that have a random generator of their own.

    For a knowledge model, these are the two loaders inside ``loader``; otherwise ``loader`` itself.
    """
    if hasattr(loader, "kg_dataloader"):
        return [loader.general_dataloader, loader.kg_dataloader]
    return [loader]


def _set_generators(loader: Any, generators: list[Any]) -> None:
    for part, generator in zip(_parts(loader), generators, strict=True):
        part.generator = part.sampler.generator = generator


def _content_of_loaders(config: Any) -> dict[str, Any]:
    return _content(config, config["model"], _read_by("recbole.data"))


def _loaders_file(config: Any) -> Path:
    name = f"{config['dataset']}-for-{config['model']}-dataloader.pth"
    return Path(config["checkpoint_dir"], name)


def _dataset_class(config: Any) -> Any:
    """Return the dataset class for a model, or else the class for the model's type."""
    from recbole.utils import ModelType

    of_type = {
        ModelType.SEQUENTIAL: "SequentialDataset",
        ModelType.KNOWLEDGE: "KnowledgeBasedDataset",
    }
    module, name = import_module("recbole.data.dataset"), f"{config['model']}Dataset"
    if hasattr(module, name):
        return getattr(module, name)
    return getattr(module, of_type.get(config["MODEL_TYPE"], "Dataset"))


# --- what data are made of --------------------------------------------------------------------


def _content(config: Any, kind: str, read: frozenset[str]) -> dict[str, Any]:
    """Describe, as JSON values, everything that shapes a run's data: files, settings, versions.

    Args:
        config: RecBole's ``Config``.
        kind: name of the dataset's class, or of the model that the loaders are for.
        read: names of the settings that RecBole's code uses to make the dataset or the loaders.
    """
    folder = Path(config["data_path"])
    files = sorted(file for file in folder.glob("*") if file.is_file())
    files = [file for file in files if file.name.startswith(f"{config['dataset']}.")]
    shaping = (shared_keys(config) - _OUTPUT) | read
    settings = {key: value for key, value in settings_of(config).items() if key in shaping}
    content = {
        "folder": {"data_path": str(folder.resolve())},
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "settings": settings | {"time-aware": bool(config["time-aware"])},
        "versions": {package: import_module(package).__version__ for package in _VERSIONS},
        "use": {"made for": kind},
    }
    loaded: dict[str, Any] = json.loads(json.dumps(content))
    return loaded


@functools.cache
def _read_by(package: str) -> frozenset[str]:
    """Find the names of the settings that a package of RecBole uses and does not set itself."""
    source = "".join(
        file.read_text(encoding="utf-8")
        for file in sorted(Path(str(import_module(package).__file__)).parent.rglob("*.py"))
    )
    key = r"config\[[\"'](\w+)[\"']\]"
    return frozenset(re.findall(key, source)) - set(re.findall(key + " = ", source)) - _OUTPUT


def _difference(content: dict[str, Any], other: Any) -> str:
    """Say how saved data differ from a run's: ``... other settings (seed)``; empty if equal."""
    if not isinstance(other, dict):
        return "what it was made of is not known"
    groups = []
    for group, values in content.items():
        others = other.get(group) or {}
        names = sorted(k for k in values.keys() | others.keys() if values.get(k) != others.get(k))
        if names:
            groups.append(f"other {group} ({', '.join(names)})")
    return f"it was made of {' and '.join(groups)}" if groups else ""


# --- files ------------------------------------------------------------------------------------


def _load(file: Path, content: dict[str, Any], config: Any, setting: str) -> Any:
    """Load a saved object and set the saved random states; return None if the file does not fit."""
    from recbole.utils import set_color

    log = logging.getLogger()
    if not file.is_file():
        if config[setting]:
            log.warning(f"{setting}: there is no file {file}; the data are made anew")
        return None
    data, _, trailer = file.read_bytes().rpartition(b"\n")
    reason = _why_unfit(data, trailer, content)
    if not reason:
        try:
            stream = io.BytesIO(data)
            saved, states = pickle.load(stream), pickle.load(stream)
        except Exception as error:  # for example, if a class is not known here
            reason = f"it cannot be read ({type(error).__name__}: {error})"
    if reason:
        log.warning(f"{file} is not used, the data are made anew: {reason}")
        return None
    _set_random_states(states)
    log.info(set_color("Saved data are used", "pink") + f": {file}")
    return saved


def _why_unfit(data: bytes, trailer: bytes, content: dict[str, Any]) -> str:
    try:
        made = json.loads(trailer)
        digest, other = made["sha256"], made["content"]
    except (ValueError, TypeError, KeyError):  # for example, a file that RecBole saved
        return "what it was made of is not known"
    if digest != hashlib.sha256(data).hexdigest():
        return "it is damaged"
    return _difference(content, other)


def _save(file: Path, content: dict[str, Any], saved: Any) -> None:
    from recbole.utils import set_color

    data = pickle.dumps(saved) + pickle.dumps(_random_states())
    made = {"sha256": hashlib.sha256(data).hexdigest(), "content": content}
    file.parent.mkdir(parents=True, exist_ok=True)
    own = file.with_name(f"{file.name}.{os.getpid()}")  # several runs may save at once
    with whole_file(own) as partial:
        partial.write_bytes(data + b"\n" + json.dumps(made).encode())
    own.replace(file)
    logging.getLogger().info(set_color("Data are saved", "pink") + f": {file}")


def _random_states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
