"""Where a study works: dataset, seeds, folder, and the training of the models that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_lightgnn.errors import InputError

if TYPE_CHECKING:
    from recbole_lightgnn.comparison.layout import Run
    from recbole_lightgnn.comparison.plan import Plan

COMPARED = "comparison"  # folder of the comparison that the studies share
ABLATION = "ablation"  # folder of the study of this name
CUTOFFS = (20, 40)  # of Recall and NDCG, as in the paper
_REFUSED = {
    "train_noise": "the study noise sets it",
    "refit": "studies read the models that were chosen on validation",
}


# Names of models and variants to train, and each variant's model and settings.
Runs = tuple[Sequence[str], Mapping[str, Mapping[str, Any]]]


class Unsuitable(InputError):
    """The dataset or a setting lacks what a study needs; ``study all`` leaves the study out."""


class Unfinished(InputError):
    """A run that a study needs has failed; ``study all`` goes on with the next study."""


@dataclass(frozen=True)
class Place:
    """Where and with what a study works.

    Attributes:
        dataset: name of the dataset.
        seeds: seeds of the runs.
        out: folder of the studies.
        jobs: number of runs at a time.
        given: settings given for every model, and as ``MODEL.KEY`` for one model. The latter hold
            for the variants of the model, too. What a study changes has precedence.
        shared: folder of the comparison that the studies use and continue.
    """

    dataset: str
    seeds: list[int]
    out: Path
    jobs: int
    given: dict[str, Any]
    shared: Path

    def check(self) -> None:
        """Check the given settings.

        Raises:
            InputError: if a setting is for an unknown model, or is not for studies.
        """
        from recbole_lightgnn.registry import model_names
        from recbole_lightgnn.utils.text import must_be_one_of

        for key in self.given:
            model, name = _owner(key)
            if model:
                must_be_one_of(f"--{key}: the model", model, model_names())
            if name in _REFUSED:
                raise InputError(f"--{key} is not for studies: {_REFUSED[name]}")

    def with_first_seed(self) -> Place:
        """This place with the first of its seeds alone."""
        return replace(self, seeds=self.seeds[:1])

    def train(
        self,
        models: Sequence[str],
        variants: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        folder: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, list[Run]]:
        """Train models with all seeds, as ``compare`` does; finished runs are not repeated.

        Where LightGNN searches for its teachers (``recipe: auto``), its variants and its runs on
        other data have the teachers that the first seed has found.

        Args:
            models: names of models, or of variants.
            variants: for each variant its ``model`` and the settings that it changes.
            folder: name of a folder in ``out`` for runs on other data; by default the shared one.
            settings: settings of data for all models, on other data.

        Returns:
            The finished runs by name of the model or variant, one for each seed.

        Raises:
            InputError: if a setting cannot be used.
            Unfinished: if a run failed.
        """
        from recbole_lightgnn.comparison.execution import execute, exit_status

        changed = {name: dict(one) for name, one in (variants or {}).items() if name in models}
        given = {key: value for key, value in self.given.items() if not _owner(key)[0]}
        given |= settings or {}
        for name in models:
            own = changed.get(name, {})
            model = own.get("model", name)
            found = self._found_recipe() if model == "LightGNN" and (own or folder) else {}
            owned = ((_owner(key), value) for key, value in self.given.items())
            wanted = found | {key: value for (owner, key), value in owned if owner == model}
            given |= {f"{name}.{key}": value for key, value in wanted.items() if key not in own}
        shared = self.shared if folder is None else self.out / folder
        plan = execute(lambda: self._planned(models, changed, given, shared), self.jobs)
        if exit_status(plan):
            raise Unfinished("the study needs all its runs: see the line above")
        runs: dict[str, list[Run]] = {name: [] for name in models}
        for run in plan.runs:
            runs[run.name].append(run)
        return runs

    def config(self, model: str) -> Any:
        """The checked ``Config`` of a run of a model with the given settings and the first seed."""
        from recbole_lightgnn.quick_start import configure

        settings = {"seed": self.seeds[0], "show_progress": False}
        return configure(model, self.dataset, settings=self.given_to(model) | settings)

    def split(self) -> dict[str, Any]:
        """The seed of RecBole's split for runs outside of a comparison; empty for given splits."""
        from recbole_lightgnn.comparison.plan import SPLIT_SEED
        from recbole_lightgnn.comparison.protocol import seeds_split_the_data

        free = seeds_split_the_data({"LightGNN": self.config("LightGNN")})
        return {"split_seed": SPLIT_SEED} if free else {}

    def given_to(self, model: str) -> dict[str, Any]:
        """The settings given for a model, its own and those for every model."""
        owned = [(_owner(key), value) for key, value in self.given.items()]
        return {key: value for who in ("", model) for (owner, key), value in owned if owner == who}

    def _planned(
        self,
        models: Sequence[str],
        variants: Mapping[str, Mapping[str, Any]],
        given: Mapping[str, Any],
        folder: Path,
    ) -> Plan:
        """Plan the runs of a study as a part of the comparison in a folder."""
        from recbole_lightgnn.comparison.layout import read_comparison
        from recbole_lightgnn.comparison.plan import make_plan

        before = read_comparison(folder) or {}
        if before.get("search"):
            raise InputError(
                f"--comparison {folder} has searched the settings of its models, which a study "
                "cannot continue: name another folder"
            )
        plan = make_plan(
            self.dataset,
            models,
            self.seeds,
            folder,
            given=given,
            rows=None,
            variants={name: _variant(one) for name, one in variants.items()},
        )
        _check_metrics(plan.protocol)
        # What is there already stays in comparison.json, and in the tables made from it.
        others = {name: _variant(one) for name, one in before.get("variants", {}).items()}
        return replace(
            plan,
            models=list(dict.fromkeys([*before.get("models", []), *plan.models])),
            seeds=list(dict.fromkeys([*before.get("seeds", []), *plan.seeds])),
            variants={**others, **plan.variants},
            rows=before.get("rows"),
            given={**before.get("given", {}), **plan.given},
            settings_source={**before.get("settings", {}), **plan.settings_source},
        )

    def _found_recipe(self) -> dict[str, Any]:
        """The teachers that LightGNN finds with the first seed, as settings.

        LightGNN is trained if it is not yet. Empty if LightGNN does not search for its teachers.
        """
        from recbole_lightgnn.config.files import read_yaml
        from recbole_lightgnn.config.teachers import searches_teachers
        from recbole_lightgnn.trainer.teacher_search import RECIPE_FILE

        if not searches_teachers(self.config("LightGNN").final_config_dict):
            return {}
        (run,) = self.with_first_seed().train(["LightGNN"])["LightGNN"]
        file = next(iter(run.folder.checkpoints.glob(f"*/{RECIPE_FILE}")), None)
        if file is None:
            raise InputError(
                f"{run.folder.path} lacks the {RECIPE_FILE} with the teachers that were found: "
                "remove that folder to run it anew"
            )
        return read_yaml(file)


def paper_split(fingerprint: Mapping[str, Any]) -> str:
    """Name of the paper's dataset with these interactions; empty if the paper has none."""
    from recbole_lightgnn.comparison.paper_numbers import SPLITS, split_of

    found = split_of(fingerprint)
    return next((name for name, split in SPLITS.items() if split is found), "")


def _owner(key: str) -> tuple[str, str]:
    """Model and setting of ``MODEL.KEY``; an empty model for any other setting."""
    head, dot, rest = key.partition(".")
    return (head, rest) if dot and head[:1].isupper() else ("", key)


def _variant(one: Mapping[str, Any]) -> Any:
    from recbole_lightgnn.comparison.variants import Variant

    return Variant(one["model"], {key: value for key, value in one.items() if key != "model"})


def _check_metrics(protocol: Mapping[str, Any]) -> None:
    """Raise InputError unless Recall and NDCG are computed at all `CUTOFFS`."""
    metrics = {str(name).lower() for name in protocol["metrics"]}
    if not {"recall", "ndcg"} <= metrics or not {*CUTOFFS} <= {*protocol["topk"]}:
        raise InputError(
            'studies need Recall and NDCG at 20 and 40: write --metrics="[Recall, NDCG]" '
            '--topk="[10, 20, 40]", or leave both out'
        )
