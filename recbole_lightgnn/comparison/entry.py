"""A line of a comparison's table, called entry: a model, or one stage of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recbole_lightgnn.comparison.paper_numbers import Point
from recbole_lightgnn.comparison.significance import Difference


@dataclass
class Entry:
    """A line of the table: a model, or one stage of a model with several stages.

    Numbers are means over the seeds that are done (have a finished run), unless said otherwise.

    Attributes:
        label: text in the first column of the table.
        model: name of the model or of the variant.
        key: key of the record's row that the line shows, such as ``student-03``; ``None`` if no
            seed is done.
        settings_source: where the settings come from, as in `Plan.settings_source`.
        family: family of the model or stage, one of `FAMILIES`; empty if not known.
        seeds: seeds that are done.
        problems: sentences that say why results of the other seeds are missing.
        valid: validation score by which epochs are chosen.
        warning: which settings to try if the validation score is not above the score of a ranking
            by popularity; else ``None``.
        test: list of test scores, one for each done seed, by name of the metric.
        epochs: limit on the number of epochs (for LightGNN's student, in each pruning run);
            ``None`` for a model that is not trained in epochs.
        patience: number of validations without a new best score after which training stops.
        parameters: number of trained values left after pruning, edge weights included.
        entries_kept: share of the embedding tables' entries that are left after pruning.
        interactions_kept: share of the interactions that are left after pruning.
        bytes: bytes of the model's arrays, indices included.
        seconds: time of training and validation in seconds, earlier stages included.
        ranking_ms: milliseconds to rank all items for one test user.
        users: the metrics of each test user, by name of the metric. Shape of each: (users,)
        paired_seeds: seeds that are done both for this entry and for the entry with which it is
            compared (`Comparison.reference`).
        differences: differences from the reference entry over ``paired_seeds``, by name of the
            metric.
        paper: result of the LightGNN paper for the same model on the same data; ``None`` if the
            paper has none.
    """

    label: str
    model: str
    key: str | None
    settings_source: str
    family: str
    seeds: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    valid: float = 0.0
    warning: str | None = None
    test: dict[str, list[float]] = field(default_factory=dict)
    epochs: int | None = None
    patience: int | None = None
    parameters: float = 0.0
    entries_kept: float = 1.0
    interactions_kept: float = 1.0
    bytes: float = 0.0
    seconds: float = 0.0
    ranking_ms: float = 0.0
    users: dict[str, np.ndarray] | None = None
    paired_seeds: list[int] = field(default_factory=list)
    differences: dict[str, Difference] = field(default_factory=dict)
    paper: Point | None = None

    def mean(self, metric: str) -> float:
        """Mean of a test metric over the seeds that are done."""
        return float(np.mean(self.test[metric]))

    def means(self) -> dict[str, float]:
        """Mean of each test metric over the seeds that are done, by name of the metric."""
        return {metric: self.mean(metric) for metric in self.test}

    def deviation(self, metric: str) -> float | None:
        """Sample standard deviation of a test metric over seeds; ``None`` if one seed is done."""
        return float(np.std(self.test[metric], ddof=1)) if len(self.seeds) > 1 else None
