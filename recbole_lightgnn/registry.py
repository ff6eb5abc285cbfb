"""Find our models and RecBole's models by name, and let unmodified RecBole find our models.

RecBole looks up a model as ``recbole.model.general_recommender.<lowercase name>``, and its trainer
as ``recbole.trainer.<Name>Trainer``. `install` adds an import finder that answers for our models.
`offer_trainers` adds our trainers. `during_import` runs code around the import of a module.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

# The stages of LightGNN, first to last.
TEACHER, INTERMEDIATE, STUDENT = "LightGNNTeacher", "LightGNNIntermediate", "LightGNN"
STAGES = (TEACHER, INTERMEDIATE, STUDENT)
# RecBole's graph models that can compute through our sparse products (integration.accelerate).
ACCELERATED = ("LightGCN", "SGL", "NCL", "NGCF", "GCMC", "DGCF")

_CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {}
_GENERAL = "recbole.model.general_recommender"
_TRAINER = "recbole_lightgnn.trainer.staged:StagedTrainer"


def properties_dir() -> Path:
    """Return the folder of our yaml files: in the package (wheel) or beside it (checkout)."""
    package = Path(__file__).resolve().parent
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no properties folder in {package} or beside it: install again")


def space_of(model: str) -> Path:
    """Return the path of a model's default search space, a yaml file that only some models have."""
    return properties_dir() / "space" / f"{model}.yaml"


@cache
def our_models() -> dict[str, str]:
    """Return ``module:class`` of each of our models, by name, from the yaml file's line ``class:``.

    Raises:
        ValueError: if a model's yaml file has no such line.
    """
    classes = {}
    for file in sorted((properties_dir() / "model").glob("*.yaml")):
        line = re.search(
            r"^class: *([\w.]+:\w+) *$", file.read_text(encoding="utf-8"), re.MULTILINE
        )
        if line is None:
            raise ValueError(f"{file} needs a line `class: MODULE:CLASS`")
        classes[file.stem] = line[1]
    return classes


def install(ready: str) -> None:
    """Let Python and RecBole find our models: put the finder on ``sys.meta_path``.

    Args:
        ready: ``module:function`` to call after the import of ``recbole``, or at once if
            ``recbole`` is already imported.
    """

    @contextmanager
    def then_ready() -> Iterator[None]:
        yield
        resolve(ready)()

    sys.meta_path.insert(0, _Finder())
    sys.meta_path.append(_MovedModules())
    if "recbole" in sys.modules:
        resolve(ready)()
    else:
        during_import("recbole", then_ready)


def during_import(module: str, context: Callable[[], AbstractContextManager[Any]]) -> None:
    """Make the later import of a module run inside the context manager ``context()``."""
    _CONTEXTS[module] = context


def offer_trainers() -> None:
    """Add our models' trainers to ``recbole.trainer``; each is imported at its first use."""
    vars(import_module("recbole.trainer"))["__getattr__"] = _trainer


def resolve(path: str) -> Any:
    """Import and return the object at ``path``, written ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def model_names() -> list[str]:
    """List the names of our models and, if RecBole is installed, of its general recommenders."""
    names = list(our_models())
    spec = find_spec("recbole")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(root, "model", "general_recommender").glob("*.py")):
            classes = re.findall(r"^class (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
            names += [name for name in classes if name.lower() == file.stem]
    return names


def _trainer(name: str) -> Any:
    """Return the trainer of one of our models; serves as ``recbole.trainer.__getattr__``."""
    if name.removesuffix("Trainer") not in our_models() or not name.endswith("Trainer"):
        raise AttributeError(f"module 'recbole.trainer' has no attribute {name!r}")
    return resolve(_TRAINER)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.startswith(f"{_GENERAL}."):
            for name, path_to_class in our_models().items():
                if fullname == f"{_GENERAL}.{name.lower()}":
                    return spec_from_loader(fullname, _Alias(path_to_class.partition(":")[0]))
        if fullname not in _CONTEXTS:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)):
                _execute_within(spec, _CONTEXTS[fullname])
                return spec
        return None


def _execute_within(spec: ModuleSpec, context: Callable[[], AbstractContextManager[Any]]) -> None:
    """Make the import of the module of ``spec`` run inside the context manager ``context()``.

    The loader object is kept, so that Python still finds the module's resources and source.
    """
    loader: Any = spec.loader
    execute = loader.exec_module

    def execute_within(module: ModuleType) -> None:
        with context():
            execute(module)

    loader.exec_module = execute_within


class _MovedModules(MetaPathFinder):
    """Last finder on ``sys.meta_path``: refuse old names of our modules, and say the new names."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, module = fullname.partition(".")
        if package != "recbole_lightgnn":
            return
        moved = resolve("recbole_lightgnn.config.aliases:MODULES")
        if module in moved:
            raise ImportError(f"{fullname} has moved: it is {package}.{moved[module]} now")


class _Alias(Loader):
    """Loader that makes a module name in RecBole an alias of one of our modules."""

    def __init__(self, target: str) -> None:
        self.target = target

    def exec_module(self, module: ModuleType) -> None:
        # The import system returns the entry of sys.modules, not `module`.
        sys.modules[module.__name__] = import_module(self.target)
