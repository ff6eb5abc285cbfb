"""Plan a comparison: each model with each seed under one protocol, checked before any run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recbole.utils import get_model

from recbole_lightgnn.comparison.layout import (
    COMPARISON,
    IDENTITY,
    SCHEMA_VERSION,
    Run,
    is_other_folder,
    read_comparison,
    run_folder,
    study_folder,
    write_comparison,
)
from recbole_lightgnn.comparison.protocol import seeds_split_the_data, shared_protocol
from recbole_lightgnn.comparison.request import Request
from recbole_lightgnn.comparison.settings_source import searches_itself, sources, sources_after
from recbole_lightgnn.comparison.shared_teacher import trained_teachers
from recbole_lightgnn.comparison.study import Budget, Study, Task, budget_of
from recbole_lightgnn.comparison.variants import Variant
from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.config.settings_diff import other_settings, settings_of, shared_keys
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import configure, fingerprint_of, names
from recbole_lightgnn.registry import model_names, our_models, space_of
from recbole_lightgnn.utils.files import check_folder, plain
from recbole_lightgnn.utils.text import did_you_mean

_UNLIMITED = 1_000_000  # trials, or minutes
SPLIT_SEED = 2020  # if RecBole splits the data, all runs share this seed's split


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison, and the content of ``comparison.json``; see `make_plan`.

    Attributes:
        dataset: name of the dataset.
        models: names of models and variants, in the order of the table.
        seeds: seeds of the runs.
        out: folder of the comparison.
        rows: if a record has several rows (stages, pruning runs), keys of the rows that the table
            shows; ``None`` for the default.
        variants: the variants among ``models``, by name.
        given: settings given for every model, and as ``NAME.KEY`` for one model or variant.
        protocol: settings of data and evaluation, the same for all runs.
        settings_source: where the settings of each model or variant come from: ``tuned``,
            ``default`` or ``by hand``; with a search, ``tuned, N trials`` or ``not tuned``, but
            ``tuned`` for a model with a search for its teachers in each run.
        given_of_data: settings of data and evaluation among ``given``.
        fingerprint: counts and hashes of the data.
        budget: limits of each model's search; ``None`` without a search.
        searches: one search for each model that has a setting to search.
        runs: every model with the first seed, then every model with the second seed, and so on.
            If a model's search is finished, its runs have the best settings found.
        popularity: validation score of ranking items by popularity; ``None`` if not known.
    """

    dataset: str
    models: list[str]
    seeds: list[int]
    out: Path
    rows: Sequence[str] | None
    variants: dict[str, Variant]
    given: dict[str, Any]
    protocol: dict[str, Any]
    settings_source: dict[str, str]
    given_of_data: dict[str, Any]
    fingerprint: dict[str, Any]
    budget: Budget | None
    searches: list[Study]
    runs: list[Run]
    popularity: float | None = None

    @property
    def ready(self) -> list[Run]:
        """The runs that need not wait for a search of settings."""
        waiting = {study.name for study in self.searches if study.record() is None}
        return [run for run in self.runs if run.name not in waiting]

    def begin(self) -> None:
        """Write ``comparison.json``; create the folder if it is missing.

        Raises:
            InputError: if another comparison has begun in the folder since the plan was made.
        """
        self.check_folder()
        write_comparison(self.out, plain(self.content()))

    def content(self) -> dict[str, Any]:
        """What ``comparison.json`` will contain."""
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "dataset_fingerprint": self.fingerprint,
            "protocol": self.protocol,
            "models": self.models,
            "variants": {
                name: {"model": variant.model, **variant.settings}
                for name, variant in self.variants.items()
            },
            "seeds": self.seeds,
            "rows": self.rows,
            "given": self.given,
            "settings": self.settings_source,
            "search": None if self.budget is None else asdict(self.budget),
            "popularity": self.popularity,
        }

    def check_folder(self) -> None:
        """Check that the folder is new, or that the comparison in it can continue as planned.

        Raises:
            InputError: if the folder holds other files, another comparison, or runs with other
                settings.
        """
        check_folder("--out", self.out, self.out)
        if is_other_folder(self.out):
            raise InputError(
                f"--out {self.out} has files, but no {COMPARISON} of a comparison: name a new "
                "folder"
            )
        begun = read_comparison(self.out)
        if begun is not None:
            self._check_same_comparison(begun)
            tasks: list[Task] = [*self.searches, *self.ready]
            for task in tasks:
                task.check_begun()
        elif (file := self.out / COMPARISON).is_file():
            raise InputError(f"{file} is no JSON: restore it, or name another --out")

    def _check_same_comparison(self, begun: Any) -> None:
        if not isinstance(begun, dict) or not begun.keys() >= set(IDENTITY):
            raise InputError(
                f"{self.out / COMPARISON} is damaged (it must have {', '.join(IDENTITY)}): "
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
        if other := other_settings(begun["protocol"], plain(self.protocol)):
            raise InputError(
                f"{where} with other settings of data or evaluation ({', '.join(other)}): go on "
                f"with those, or {remedy}"
            )
        if (search := budget_of(begun)) != self.budget:
            old, new = (
                f"with {one}" if one else "without a search" for one in (search, self.budget)
            )
            raise InputError(
                f"{where} that was begun {old}, not {new}: give the command as it was begun, or "
                f"{remedy}"
            )


def make_plan(
    dataset: str,
    models: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    given: Mapping[str, Any],
    rows: Sequence[str] | None,
    variants: Mapping[str, Variant],
    budget: Budget | None = None,
) -> Plan:
    """Check a comparison and plan its runs.

    Args:
        dataset: name of the dataset.
        models: names of general recommenders or of variants.
        seeds: seeds of the runs.
        out: folder of the comparison.
        given: settings for every model, and as ``NAME.KEY`` for one model or variant.
        rows: if a record has several rows (stages, pruning runs), keys of the rows that the table
            shows; ``None`` for the default.
        variants: all variants that ``models`` may contain, by name.
        budget: limits of a search of each model's settings; ``None`` for no search.

    Raises:
        InputError: if a name or setting is wrong, if the runs have no common protocol, or if
            ``out`` holds another comparison.
    """
    _check_names(models, variants)
    given = {"accelerate": True, **given}
    request = Request(dataset, list(models), list(seeds), given, variants)
    request.check()
    request, configs = _with_one_split(request)
    if budget is not None and (limits := _limits(configs, budget)):
        request = replace(request, limits=limits)
        configs = _configure(request)
    protocol = shared_protocol(configs)
    _check_rows(rows, configs)
    fingerprint = plain(_fingerprint(configs))
    searches = _searches(request, configs, out, budget)
    source = (
        sources(request, configs) if budget is None else sources_after(searches, request, configs)
    )
    if searches:
        chosen = {one.name: record["settings"] for one in searches if (record := one.record())}
        request = replace(request, chosen=chosen)
        configs = _configure(request)
    plan = Plan(
        dataset=dataset,
        models=request.models,
        seeds=request.seeds,
        out=out,
        rows=rows,
        variants={name: variants[name] for name in models if name in variants},
        given=request.given,
        protocol=protocol,
        settings_source=source,
        given_of_data=_given_of_data(request, configs),
        fingerprint=fingerprint,
        budget=budget,
        searches=searches,
        runs=_runs(request, configs, fingerprint, out),
    )
    plan.check_folder()
    return plan


def _check_names(models: Sequence[str], variants: Mapping[str, Variant]) -> None:
    """Raise InputError if a variant's name is misspelt; `_configure` checks names of models."""
    known = (*model_names(), *variants)
    for name in models:
        hint = did_you_mean(name, known)
        nearest_is_variant = hint and hint == did_you_mean(name, variants)
        if name not in known and nearest_is_variant:
            raise InputError(f"--models: no model or variant is named {name!r}{hint}")


# --- settings ---------------------------------------------------------------------------------


def _with_one_split(request: Request) -> tuple[Request, dict[str, Any]]:
    """Configure the request's models, with one split of the data for all seeds.

    The request gets a ``split_seed`` if runs with different seeds would have different splits.
    """
    configs = _configure(request)
    if seeds_split_the_data(configs) and "split_seed" not in request.given:
        request = replace(request, given=request.given | {"split_seed": SPLIT_SEED})
        configs = _configure(request)
    return request, configs


def _configure(request: Request) -> dict[str, Any]:
    """The checked ``Config`` of each model and variant by name, with the first seed."""
    return {name: _config(request, name) for name in request.models}


def _config(request: Request, name: str) -> Any:
    model, _ = names(request.model_of(name), request.dataset, ())
    _check_class(model, get_model(model))
    settings = {"show_progress": False, **request.given_to(name), "seed": request.seeds[0]}
    return configure(model, request.dataset, settings=settings)


def _check_class(model: str, model_class: type) -> None:
    """Raise InputError unless a model can rank all items for a user from interactions alone."""
    from recbole.model.abstract_recommender import GeneralRecommender

    if not issubclass(model_class, GeneralRecommender):
        raise InputError(
            f"{model} is no general recommender (it needs sequences, features or knowledge), and "
            f"cannot be ranked beside the others{did_you_mean(model, model_names())}"
        )


def _given_of_data(request: Request, configs: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings of data and evaluation; they are the same for all models."""
    name, config = next(iter(configs.items()))
    shared = shared_keys(config)
    return {key: value for key, value in request.given_to(name).items() if key in shared}


def _check_rows(rows: Sequence[str] | None, configs: Mapping[str, Any]) -> None:
    """Raise InputError for a key in ``--rows`` that no record of these models will have."""
    runs = [one["n_pruning_runs"] for one in configs.values() if one["model"] == "LightGNN"]
    taught = any(one["teacher"] is not None for one in configs.values())
    for key in rows or ():
        match = re.fullmatch(r"teachers?|teacher-\d\d|intermediate|student-(\d\d)", key)
        if match is None:
            raise InputError(
                f"--rows: {key!r} is no row of a record; expected teacher, teachers, intermediate "
                "or student-NN, separated by commas"
            )
        if taught and key.startswith("teacher"):
            continue
        if not runs or (match[1] and int(match[1]) > max(runs)):
            reason = f"has {max(runs)} pruning runs" if runs else "is not among --models"
            raise InputError(f"--rows: there is no {key}, as LightGNN {reason}")


def _fingerprint(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Counts and hashes of the dataset's interactions.

    Our models and RecBole's read the files with different readers. Each reader in use reads the
    files once, to report the faults that it finds.
    """
    kinds = {config["model"] in our_models(): config for config in configs.values()}
    *_, last = [fingerprint_of(config) for config in kinds.values()]
    return last


# --- searches and runs ------------------------------------------------------------------------


def _limits(configs: Mapping[str, Any], budget: Budget) -> dict[str, dict[str, Any]]:
    """The budget as settings of each model that searches for its teachers in each run.

    As in the other models' searches, a limit that is not given does not end the search.
    """
    limits = {
        "search_trials": _UNLIMITED if budget.trials is None else budget.trials,
        "search_minutes": float(_UNLIMITED) if budget.minutes is None else budget.minutes,
    }
    return {name: limits for name, config in configs.items() if searches_itself(config)}


def _searches(
    request: Request, configs: Mapping[str, Any], out: Path, budget: Budget | None
) -> list[Study]:
    """The searches to run: one per model with a setting in its search space that is not given.

    A model that searches for its teachers in each run has none.
    """
    if budget is None:
        return []
    return [
        Study(
            name=name,
            model=request.model_of(name),
            dataset=request.dataset,
            given=request.given_to(name),
            settings=settings_of(configs[name]) | {"seed": None},
            folder=study_folder(out, name),
            budget=budget,
        )
        for name in request.models
        if not searches_itself(configs[name])
        and _space(request.model_of(name)) - request.given_to(name).keys()
    ]


def _space(model: str) -> set[str]:
    """Names of the settings in a model's search space; empty if the model has no search space."""
    file = space_of(model)
    return set(read_yaml(file)) if file.is_file() else set()


def _runs(
    request: Request, configs: Mapping[str, Any], fingerprint: dict[str, Any], out: Path
) -> list[Run]:
    return [
        Run(
            name=name,
            model=request.model_of(name),
            dataset=request.dataset,
            seed=seed,
            given=request.given_to(name),
            settings=settings_of(configs[name]) | {"seed": seed},
            folder=run_folder(out, name, seed),
            fingerprint=fingerprint,
            teachers=trained_teachers(configs[name]),
        )
        for seed in request.seeds  # the outer loop: every model soon has a first result
        for name in request.models
    ]
