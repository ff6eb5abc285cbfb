"""All studies: what each asks, needs and costs. The module of a study has its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.place import Place, Runs


class StudyModule(Protocol):
    """What the module of every study has."""

    def shared_runs(self) -> Runs:
        """Return the models and variants that it trains in the shared comparison."""

    def measure(self, place: Place) -> dict[str, Any]:
        """Train the models and compute the numbers."""

    def figures(self, content: Mapping[str, Any]) -> list[Figure]:
        """Make the figures from the numbers."""

    def findings(self, content: Mapping[str, Any]) -> list[str]:
        """Say in sentences what the numbers show."""


@dataclass(frozen=True)
class Study:
    """One study, an experiment of the LightGNN paper.

    Attributes:
        name: name of the study and of its module.
        paper: tables and figures of the paper that it makes again.
        question: what it asks.
        needs: models that it trains, and what the dataset must have.
        runs: number of runs for each seed; studies in one folder share those with equal settings.
    """

    name: str
    paper: str
    question: str
    needs: str
    runs: int

    @property
    def module(self) -> StudyModule:
        """The module of the study, which is imported only when it is needed."""
        return cast(StudyModule, import_module(f"recbole_lightgnn.studies.{self.name}"))


STUDIES = {
    study.name: study
    for study in (
        Study(
            "overall",
            "Tables 2, 7 and 8",
            "How accurate are all models, and what did the paper print?",
            "22 models",
            22,
        ),
        Study(
            "ablation",
            "Table 3",
            "Which ingredients of LightGNN matter?",
            "LightGNN in two recipes, each with eight variants",
            16,
        ),
        Study(
            "ratios",
            "Figures 4 and 8",
            "What do accuracy and cost become as more is pruned?",
            "LightGNN with mild and aggressive pruning, learned and binary edge weights; LightGCN, "
            "SimGCL",
            6,
        ),
        Study(
            "efficiency",
            "Figure 3",
            "What do memory, computation and time of inference cost, relative to NGCF?",
            "NGCF, LRGCCF, HCCF, UnKD, LightGCN, SimGCL, LightGNN with mild pruning; the first "
            "seed alone",
            7,
        ),
        Study(
            "oversmoothing",
            "Figure 5, Table 4",
            "Do the embeddings of users and items lose their differences?",
            "LRGCCF, LightGCN, NCL, SGL, SimGCL, SimRec, LightGNN",
            7,
        ),
        Study(
            "noise",
            "Figures 6a and 7",
            "Does pruning remove noise first, and how do models bear noise?",
            "LightGNN, LightGCN, UnKD, SimRec, each at four levels of noise",
            16,
        ),
        Study(
            "redundancy",
            "Figure 6",
            "Are pruned interactions alike in genre, or rated low?",
            "LightGNN; a dataset with genres and ratings, such as ml-100k",
            1,
        ),
        Study(
            "stability",
            "no figure of the paper",
            "How much do seeds and single settings change the results?",
            "LightGNN, and LightGNN with one of four settings changed",
            16,
        ),
    )
}
