"""Where a study works: dataset, seeds, folder, and the training of the models that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError

RUNS = "runs"  # folder of the comparison that the studies share


class Unsuitable(InputError):
    """The dataset lacks what a study needs; ``study all`` leaves the study out."""


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
        given: settings given for every model, and as ``NAME.KEY`` for one model or variant.
        shared: folder of the comparison whose runs the studies use and continue.
    """

    dataset: str
    seeds: list[int]
    out: Path
    jobs: int
    given: dict[str, Any]
    shared: Path

    def train(
        self,
        models: Sequence[str],
        variants: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        folder: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, list[Any]]:
        """Train models with all seeds, as ``compare`` does; finished runs are not repeated.

        Args:
            models: names of models, or of variants.
            variants: for each variant its ``model`` and the settings that it changes.
            folder: name of a folder in ``out`` for runs on other data; by default the shared one.
            settings: settings of data for all models, on other data.

        Returns:
            The finished runs (`comparison.layout.Run`) by name of the model or variant, one for
            each seed.

        Raises:
            InputError: if a setting cannot be used.
            Unfinished: if a run failed.
        """
        from recbole_lightgnn.comparison.execution import execute, exit_status
        from recbole_lightgnn.comparison.plan import make_plan
        from recbole_lightgnn.comparison.variants import Variant

        variants = variants or {}
        known = {*models} | {variants[name]["model"] for name in models if name in variants}
        given = {
            key: value
            for key, value in self.given.items()
            if key.partition(".")[0] in known or key.partition(".")[0] not in self._owners()
        }
        planned = partial(
            make_plan,
            self.dataset,
            list(models),
            self.seeds,
            self.shared if folder is None else self.out / folder,
            given={**given, **(settings or {})},
            rows=None,
            variants={
                name: Variant(one["model"], {k: v for k, v in one.items() if k != "model"})
                for name, one in variants.items()
            },
        )
        plan = execute(planned, self.jobs)
        if exit_status(plan):
            raise Unfinished("the study needs all its runs: see the line above")
        runs: dict[str, list[Any]] = {name: [] for name in models}
        for run in plan.runs:
            runs[run.name].append(run)
        return runs

    def _owners(self) -> set[str]:
        from recbole_lightgnn.registry import model_names

        return {*model_names()}
