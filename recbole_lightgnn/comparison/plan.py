"""What a comparison runs: models by seeds on one footing, checked before any of it begins."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole.utils import get_model

from recbole_lightgnn.comparison.layout import FILE, LOCK, SCHEMA_VERSION, Run
from recbole_lightgnn.comparison.variants import Rival
from recbole_lightgnn.config.files import our_models
from recbole_lightgnn.config.settings_diff import (
    WITHOUT_EFFECT,
    model_settings,
    other_settings,
    settings_of,
    shared_settings,
)
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import configure, fingerprint_of, names
from recbole_lightgnn.registry import model_names
from recbole_lightgnn.utils.files import check_folder, plain, read_json, write_json
from recbole_lightgnn.utils.text import did_you_mean

# What the grid says, and not a setting for all of it.
_OF_THE_GRID = {
    "model": "--models",
    "dataset": "--dataset",
    "seed": "--seeds",
    "config_files": "--KEY=VALUE",
    **dict.fromkeys(("checkpoint_dir", "result_file", "resume"), "--out"),
}
_COMPARED = {"dataset", "dataset_fingerprint", "footing"}
_SPLIT_SEED = 2020  # for all seeds, where RecBole cuts the splits


class Grid:
    """A comparison: every model with every seed.

    Args:
        dataset: its name.
        models: names of general recommenders, or of rivals.
        seeds: of the runs.
        out: the comparison's folder.
        given: settings for every model, and as ``MODEL.KEY`` for one.
        rows: keys of the rows to show of a record that has several, or ``None``.
        rivals: what other names stand for.

    Raises:
        InputError: if anything of it cannot be run, cannot be compared with the rest, or if
            ``out`` is of another comparison.
    """

    def __init__(
        self,
        dataset: str,
        models: Sequence[str],
        seeds: Sequence[int],
        out: Path,
        *,
        given: Mapping[str, Any],
        rows: Sequence[str] | None,
        rivals: Mapping[str, Rival],
    ) -> None:
        self.dataset, self.models, self.seeds, self.out = dataset, list(models), list(seeds), out
        self.given, self.rows = {"our_products": True, **given}, rows
        _check_names(self.models, rivals)
        self._names = {*model_names(), *rivals}
        self.rivals = {name: rivals[name] for name in self.models if name in rivals}
        self._check_given()
        configs = self._configs()
        if _cut_anew(configs) and "split_seed" not in self.given:
            self.given["split_seed"] = _SPLIT_SEED
            configs = self._configs()
        self.footing = _footing(configs)
        _check_rows(rows, configs)
        self.whose = {name: self._whose(name, config) for name, config in configs.items()}
        self.fingerprint = plain(_fingerprint(configs))
        self.runs = [
            Run(
                name,
                self._model(name),
                dataset,
                seed,
                self._given_to(name),
                settings_of(configs[name]) | {"seed": seed},
                out / "runs" / f"{name}-{seed}",
                self.fingerprint,
            )
            for seed in self.seeds  # outside: every model has its first result soon
            for name in self.models
        ]
        self._check_out()
        self._check_begun()

    def begin(self) -> None:
        """Make the folder, or write anew what it compares.

        Raises:
            InputError: if another comparison has begun there since the checks.
        """
        self._check_out()
        self._check_begun()
        write_json(self.out / FILE, plain(self._described()))

    def _described(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "dataset_fingerprint": self.fingerprint,
            "footing": self.footing,
            "models": self.models,
            "rivals": {
                name: {"model": rival.model, **rival.settings}
                for name, rival in self.rivals.items()
            },
            "seeds": self.seeds,
            "rows": self.rows,
            "given": self.given,
            "settings": self.whose,
        }

    def _model(self, name: str) -> str:
        return self.rivals[name].model if name in self.rivals else name

    def _given_to(self, name: str) -> dict[str, Any]:
        """Settings for one model: those for all, a rival's own, and those given to its name."""
        given = {key: value for key, value in self.given.items() if self._owner(key) is None}
        if name in self.rivals:
            given |= self.rivals[name].settings
        prefix = f"{name}."
        given |= {
            key.removeprefix(prefix): value
            for key, value in self.given.items()
            if key.startswith(prefix)
        }
        return given

    def _owner(self, key: str) -> str | None:
        """The name before a setting ``NAME.KEY``, where it is one."""
        head, dot, _ = key.partition(".")
        return head if dot and head in self._names else None

    def _check_given(self) -> None:
        for key in self.given:
            owner = self._owner(key)
            if owner is not None and owner not in self.models:
                raise InputError(f"--{key}: {owner} is not one of --models {','.join(self.models)}")
            name = key.partition(".")[2] if owner else key
            if name in _OF_THE_GRID:
                raise InputError(
                    f"--{key} is no setting for a comparison: see {_OF_THE_GRID[name]}"
                )
        for name, rival in self.rivals.items():
            if taken := sorted(rival.settings.keys() & _OF_THE_GRID):
                raise InputError(
                    f"the rival {name} cannot have {taken[0]}, which is the comparison's: see "
                    f"{_OF_THE_GRID[taken[0]]}"
                )

    def _configs(self) -> dict[str, Any]:
        """The checked ``Config`` of each model."""
        return {name: self._config(name) for name in self.models}

    def _config(self, name: str) -> Any:
        model, _ = names(self._model(name), self.dataset, ())
        _check_class(model, get_model(model))
        settings = {"show_progress": False, **self._given_to(name), "seed": self.seeds[0]}
        return configure(model, self.dataset, settings=settings)

    def _whose(self, name: str, config: Any) -> str:
        """Whose a model's settings are: ``by hand`` if one of its own was given, is a rival's or is
        the dataset's after few trials or none, ``tuned`` if many or a search chose them there, else
        ``default``."""
        own = model_settings(config).keys() - {"our_products"}
        if any(key.partition(".")[0] in own for key in self._given_to(name)):
            return "by hand"
        if config.tuned:
            return "tuned"
        return "by hand" if config.of_dataset.get(config["model"]) else "default"

    def _check_out(self) -> None:
        check_folder("--out", self.out, self.out)
        files = {file.name for file in self.out.iterdir()} if self.out.is_dir() else set()
        # The lock comes first, and what takes the file's place is beside it.
        if files - {LOCK, f"{FILE}.partial"} and FILE not in files:
            raise InputError(
                f"--out {self.out} has files, but no {FILE} of a comparison: name a new folder"
            )

    def _check_begun(self) -> None:
        begun = read_json(self.out / FILE)
        if begun is None:
            if (self.out / FILE).is_file():
                raise InputError(f"{self.out / FILE} is no JSON: restore it, or name another --out")
            return
        if not isinstance(begun, dict) or not begun.keys() >= _COMPARED:
            raise InputError(
                f"{self.out / FILE} is damaged (it must have {', '.join(sorted(_COMPARED))}): "
                "restore it, or name another --out"
            )
        where, remedy = f"--out {self.out} has a comparison", "name another --out"
        if begun["dataset"] != self.dataset:
            raise InputError(f"{where} on {begun['dataset']}, not on {self.dataset}: {remedy}")
        if begun["dataset_fingerprint"] != self.fingerprint:
            raise InputError(
                f"{where} on other interactions than {self.dataset} has now: put the files back, "
                f"or {remedy}"
            )
        if other := other_settings(begun["footing"], plain(self.footing)):
            raise InputError(
                f"{where} with other settings of data or evaluation ({', '.join(other)}): go on "
                f"with those, or {remedy}"
            )
        for run in self.runs:
            run.check_begun()


# --- checks -----------------------------------------------------------------------------------


def _check_names(models: Sequence[str], rivals: Mapping[str, Rival]) -> None:
    """Raise InputError for a rival's name misspelt; a model's is seen to with its settings."""
    known = (*model_names(), *rivals)
    for name in models:
        hint = did_you_mean(name, known)
        if name not in known and hint and hint == did_you_mean(name, rivals):  # nearest of all
            raise InputError(f"--models: no model or rival is named {name!r}{hint}")


def _check_class(model: str, model_class: type) -> None:
    """Raise InputError unless a model ranks all items for a user, and its packages are there."""
    from recbole.model.abstract_recommender import GeneralRecommender

    if not issubclass(model_class, GeneralRecommender):
        raise InputError(
            f"{model} is no general recommender (it needs sequences, features or knowledge), and "
            f"cannot be ranked beside the others{did_you_mean(model, model_names())}"
        )
    if missing := _missing_package(model_class):
        raise InputError(f"{model} needs the package {missing!r}, which is not installed")


def _missing_package(model_class: type) -> str | None:
    """A package that the model's module imports, now or when trained, and that is not there."""
    tree = ast.parse(Path(inspect.getfile(model_class)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [node.module]
        for name in imported:
            if find_spec(package := name.partition(".")[0]) is None:
                return package
    return None


def _footing(configs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of data and evaluation, which all must have in common."""
    shared = {
        model: {k: v for k, v in shared_settings(one).items() if k not in WITHOUT_EFFECT | {"seed"}}
        for model, one in configs.items()
    }
    first, *others = shared
    for model in others:
        if differing := other_settings(shared[first], shared[model]):
            raise InputError(
                f"{model} and {first} would not be on one footing, with other settings of data or "
                f"evaluation ({', '.join(differing)}): give them for all, as --KEY=VALUE"
            )
    if not re.search(r"@\d+$", chosen := shared[first]["valid_metric"]):
        raise InputError(
            f"a comparison is cut off where models are chosen: valid_metric must say where, as "
            f"Recall@20 does, got {chosen}"
        )
    metrics = {metric.lower() for metric in shared[first]["metrics"]}
    if not {"recall", "ndcg"} <= metrics:
        raise InputError(
            f"a comparison is by Recall and NDCG: metrics must have both, got "
            f"{', '.join(shared[first]['metrics'])}"
        )
    return shared[first]


def _cut_anew(configs: Mapping[str, Any]) -> bool:
    """Whether each seed would have a split of its own, as the dataset's files say none."""
    return any(
        config["benchmark_filename"] is None and config["split_seed"] is None
        for config in configs.values()
    )


def _check_rows(rows: Sequence[str] | None, configs: Mapping[str, Any]) -> None:
    """Raise InputError for a row that no record of these models will have."""
    runs = [one["n_pruning_runs"] for one in configs.values() if one["model"] == "LightGNN"]
    for key in rows or ():
        match = re.fullmatch(r"teachers?|teacher-\d\d|intermediate|student-(\d\d)", key)
        if match is None:
            raise InputError(
                f"--rows: {key!r} is no row of a record; expected teacher, teachers, intermediate "
                "or student-NN, parted by commas"
            )
        if not runs or (match[1] and int(match[1]) > max(runs)):
            has = f"has {max(runs)} pruning runs" if runs else "is not among --models"
            raise InputError(f"--rows: there is no {key}, as LightGNN {has}")


def _fingerprint(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and hashes of the data, read once as ours must be and once as RecBole's."""
    kinds = {config["model"] in our_models(): config for config in configs.values()}
    *_, last = [fingerprint_of(config) for config in kinds.values()]
    return last
