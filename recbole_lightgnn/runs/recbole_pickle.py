"""Read the checkpoints that RecBole pickles, without running code that a file may contain.

RecBole saves its ``Config`` object beside the weights, with pickle protocol 4. Since torch 2.6,
``torch.load`` cannot read RecBole's checkpoints by default: torch's weights-only reader knows only
protocol 2, and none of RecBole's classes. Here the pickle is rewritten to protocol 2 without being
run. Every global name in the pickle is checked against a list. Then torch's weights-only reader
reads the rewritten pickle.

What is trusted, and why:

- Tensors and plain containers, as torch itself reads them.
- NumPy arrays, scalars and dtypes, SciPy's sparse matrices, and RecBole's enums. Constructing these
  objects runs no other code.
- ``defaultdict(list)``, which RippleNet saves: only with the argument ``list``. A plain dictionary
  is read in its place.
- RecBole's ``Config``, yaml's ``FullLoader``, and model classes under ``recbole.model.``,
  ``recbole_lightgnn.models.`` or ``recbole_lightgnn.baselines.``: **as names only**. Nothing in the
  file can call these classes. Calls would be dangerous: ``Config(...)`` evaluates strings as
  Python. The ``Config`` object is assembled after reading.
- Layers of torch and of RecBole, and RecBole's datasets, samplers and loggers: **not read**. DIN,
  DIEN, GRU4RecF, FDSA and SASRecF put a whole layer, with its dataset, into ``other_parameter``. An
  empty object takes the place of each layer, and is left out of the result. The layer's weights are
  in ``state_dict`` anyway.

Every other name is refused. The *settings* in a checkpoint are not checked: `load_data_and_model`
builds the dataset that the settings describe. It also unpickles the files ``dataset_save_path`` and
``dataloaders_save_path``, if the last line of each file says that the file fits the run
(`integration.saved_data`).
"""

import io
import pickle
import pickletools
import zipfile
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import scipy.sparse
import torch
import yaml
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.errors import InputError

_CONFIG = "recbole.config.configurator.Config"
_YAML_LOADER = "yaml.loader.FullLoader"
_LIST, _DEFAULTDICT = "builtins.list", "collections.defaultdict"
_GETATTR = "builtins.getattr"  # Python 3.11.0 to 3.11.3 pickles a member of an enum by it
_ENUM_MODULE = "recbole.utils.enum_type"
_ENUMS = (
    "ModelType",
    "KGDataLoaderState",
    "EvaluatorType",
    "InputType",
    "FeatureType",
    "FeatureSource",
)
_NOT_READ = (
    *("torch.nn.modules.", "recbole.model.layers.", "recbole.data.dataset."),
    *("recbole.data.interaction.Interaction", "recbole.sampler.", "logging.getLogger"),
)
_TREES = (
    "recbole.model.exlib_recommender.lightgbm.LightGBM",
    "recbole.model.exlib_recommender.xgboost.XGBoost",
)
_MODEL_PACKAGES = ("recbole.model.", "recbole_lightgnn.models.", "recbole_lightgnn.baselines.")


def load_recbole_checkpoint(path: str | Path, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint that RecBole's trainer wrote.

    Args:
        path: the file, of any pickle protocol.
        map_location: device of the tensors, as for ``torch.load``.

    Returns:
        RecBole's dictionary, with ``config``, ``state_dict``, ``optimizer``, ``epoch``,
        ``other_parameter`` (without layers) and more. Old names of settings are replaced by the
        present names.

    Raises:
        InputError: if the file is missing, is not a checkpoint of RecBole's trainer, or holds
            anything that the module's docstring does not list.
    """
    try:
        file = _at_protocol_2(Path(path))
        names = get_unsafe_globals_in_checkpoint(file)
        file.seek(0)
        # torch needs the types of NumPy's dtypes in the list, though no pickle names them.
        with safe_globals(_DTYPES + [(_trusted(name, path), name) for name in names]):
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path} does not exist") from error
    except Exception as error:  # a damaged pickle can raise any exception
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is not a checkpoint as RecBole writes it, or is damaged: {reason}"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), _ConfigState):
        raise InputError(f"{path} is not a checkpoint as RecBole writes it: it holds no settings")
    checkpoint["config"] = checkpoint["config"].restore()
    if isinstance(parts := checkpoint.get("other_parameter"), dict):
        read = {name: part for name, part in parts.items() if not isinstance(part, _NotRead)}
        checkpoint["other_parameter"] = read
    return checkpoint


def load_weights(model: Any, checkpoint: dict[str, Any]) -> None:
    """Load the weights of a checkpoint from `load_recbole_checkpoint` into a RecBole model."""
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))


class _ConfigState:
    """Object in place of RecBole's ``Config`` while the attributes of the ``Config`` are read."""

    def restore(self) -> Any:
        """Build the ``Config`` from the attributes, without running its constructor."""
        config_class = import_module("recbole.config").Config
        config = config_class.__new__(config_class)
        for key, value in vars(self).items():
            config.__dict__[key] = value.named if isinstance(value, _Name) else value
        config.final_config_dict = renamed(config.final_config_dict)
        return config


@dataclass(frozen=True, eq=False)
class _Name:
    """Object in place of a class that a checkpoint may mention but must not call."""

    named: Any


class _NotRead:
    """Empty object in place of an object that is not read; ignores all arguments and state."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _trusted(name: str, path: str | Path) -> Any:
    """Return the class or function to use for a global name in a checkpoint's pickle.

    Raises:
        InputError: if the name is not in the list of trusted names.
    """
    if name == _CONFIG:
        return _ConfigState
    if name in _DATA:
        return _DATA[name]
    if name == _GETATTR:
        return _member
    if name == _LIST:
        return _Name(list)
    if name == _DEFAULTDICT:
        return _dict_of_lists
    if name.startswith(_NOT_READ):
        return _NotRead
    module, _, attribute = name.rpartition(".")
    if name in _TREES:
        return _Name(getattr(import_module(module), attribute))
    if name == _YAML_LOADER:
        return _Name(yaml.FullLoader)
    if module == _ENUM_MODULE and attribute in _ENUMS:
        return getattr(import_module(module), attribute)
    if module.startswith(_MODEL_PACKAGES):
        from recbole.model.abstract_recommender import AbstractRecommender

        named = getattr(import_module(module), attribute)
        if isinstance(named, type) and issubclass(named, AbstractRecommender):
            return _Name(named)
    raise InputError(
        f"checkpoint {path} is refused: it names {name}, which is neither data nor a recommender "
        "that is known here. Nothing in it was run"
    )


def _member(owner: Any, member: Any) -> Any:
    """Return a member of a RecBole enum; refuse attributes of any other object."""
    if not (isinstance(owner, type) and issubclass(owner, Enum) and owner.__name__ in _ENUMS):
        raise pickle.UnpicklingError(f"an attribute of {owner!r} is asked for")
    return owner[member]


def _dict_of_lists(factory: Any) -> dict[Any, Any]:
    """Return an empty dictionary where the pickle has ``defaultdict(list)``."""
    if not (isinstance(factory, _Name) and factory.named is list):
        raise pickle.UnpicklingError(f"a defaultdict of {factory!r} is asked for")
    return {}


def _data_names() -> dict[str, Any]:
    """Return NumPy's and SciPy's containers by global name, in old and new versions."""
    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.zeros(1).__reduce__()[0]
    names: dict[str, Any] = {f"numpy.{cls.__name__}": cls for cls in (np.dtype, np.ndarray)}
    names["numpy.matrix"] = np.matrix  # EASE saves one
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray.scalar"] = scalar
        names[f"{core}.multiarray._reconstruct"] = reconstruct
    for layout in ("csr", "csc", "coo", "lil"):
        matrix = getattr(scipy.sparse, f"{layout}_matrix")
        for package in ("scipy.sparse._", "scipy.sparse."):
            names[f"{package}{layout}.{layout}_matrix"] = matrix
    return names


_DATA = _data_names()
_DTYPES: list[Any] = [
    (type(np.dtype(code)), f"numpy.dtypes.{type(np.dtype(code)).__name__}")
    for code in "?bhilqBHILQefdUO"  # U: tokens; O: the rows of a lil matrix are lists
]


def _at_protocol_2(path: Path) -> io.BytesIO:
    """Copy the checkpoint's zip archive, and rewrite the pickle in the copy to protocol 2."""
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            target.writestr(name, _rewrite(content) if name.endswith("/data.pkl") else content)
    copy.seek(0)
    return copy


def _rewrite(stream: bytes) -> bytes:
    """Rewrite a pickle so that only operations of protocol 2 remain. Nothing is executed.

    Only operations that RecBole's checkpoints use are rewritten. torch's reader refuses all
    operations that it does not know.

    Raises:
        pickle.UnpicklingError: if the pickle uses a global without pushing the name right before.
    """
    pieces: list[tuple[bytes, str | None]] = []  # operation, and the text that it pushes or None
    texts: dict[int, str] = {}  # memoized texts; a text is pushed again instead of recalled
    memoized = 0
    operations: list[tuple[pickletools.OpcodeInfo, Any, Any]] = list(pickletools.genops(stream))
    ends = [start for _, _, start in operations[1:]] + [len(stream)]
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        match operation.name:
            case "PROTO":
                pieces.append((pickle.PROTO + b"\x02", None))
            case "FRAME":
                pass
            case "BINUNICODE" | "SHORT_BINUNICODE":
                pieces.append((_push(argument), argument))
            case "MEMOIZE" | "BINPUT" | "LONG_BINPUT":
                index = memoized if operation.name == "MEMOIZE" else argument
                memoized += 1
                text = pieces[-1][1]
                if text is None:
                    pieces.append((pickle.LONG_BINPUT + pack("<I", index), None))
                else:
                    texts[index] = text
            case "BINGET" | "LONG_BINGET" if argument in texts:
                pieces.append((_push(texts[argument]), texts[argument]))
            case "STACK_GLOBAL":
                (_, module), (_, name) = pieces.pop(-2), pieces.pop()
                if module is None or name is None or "\n" in module + name:
                    raise pickle.UnpicklingError(f"unreadable name at byte {start}")
                pieces.append((pickle.GLOBAL + f"{module}\n{name}\n".encode(), None))
            case "BINBYTES" | "SHORT_BINBYTES":
                encode = pickle.GLOBAL + b"_codecs\nencode\n"
                arguments = _push(argument.decode("latin1")) + _push("latin1") + pickle.TUPLE2
                pieces.append((encode + arguments + pickle.REDUCE, None))
            case _:
                pieces.append((stream[start:end], None))
    return b"".join(piece for piece, _ in pieces)


def _push(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + pack("<I", len(encoded)) + encoded
