"""Does pruning find noise, and what does noise cost? Figures 6a and 7 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import COLOURS, GREY, draw_line
from recbole_lightgnn.studies.place import Place, Runs
from recbole_lightgnn.studies.statistics import lowest, mean_and_interval, noise_found

MODELS = ("LightGNN", "LightGCN", "UnKD", "SimRec")
LEVELS = (0.0, 0.1, 0.2, 0.35)  # shares of the training interactions that are replaced
FOUND_AT = 0.2  # level at which the noise found is measured
_METRIC = "recall@20"


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return MODELS, {}


def measure(place: Place) -> dict[str, Any]:
    """Train each model at each level of noise; compare what LightGNN prunes with the noise."""
    from recbole_lightgnn.studies.trained import chosen_row, record_of

    accuracy: dict[str, list[list[float]]] = {name: [] for name in MODELS}
    found: list[list[Any]] = []
    for level in LEVELS:
        runs = place.train(
            MODELS,
            folder=None if level == 0 else f"noise-{level:g}",
            settings={"train_noise": level} if level else {},
        )
        for name in MODELS:
            rows = [chosen_row(record_of(run)) for run in runs[name]]
            accuracy[name].append([row["test"][_METRIC] for row in rows])
        if level == FOUND_AT:
            seeds = [_found_by(run) for run in runs["LightGNN"]]
            found = np.mean(seeds, axis=0).tolist()
    heads = [f"{level:.0%}" for level in LEVELS]

    def means(name: str) -> list[float]:
        return [mean_and_interval(values)[0] for values in accuracy[name]]

    def halves(name: str) -> list[float]:
        return [mean_and_interval(values)[1] for values in accuracy[name]]

    return {
        "tables": [
            {
                "name": "accuracy",
                "title": f"Test {_METRIC} with a share of the training interactions replaced by "
                "random ones, the same for all seeds; LightGNN is the student with about a third "
                "of the entries",
                "columns": ["model", *heads, *(f"± of {head} (95 %)" for head in heads)],
                "rows": [[name, *means(name), *halves(name)] for name in MODELS],
            },
            {
                "name": "found",
                "title": f"Noise among the pruned interactions, {FOUND_AT:.0%} noise: share of the "
                "pruned interactions that are noise (precision) and share of the noise that is "
                "pruned (recall); for random pruning, the precision is the share of noise",
                "columns": [
                    "pruned",
                    *("precision", "recall"),
                    *("precision of low-degree pruning", "recall of low-degree pruning"),
                    "precision of random pruning",
                ],
                "rows": found,
            },
        ],
        "accuracy": accuracy,
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw accuracy against noise, and the precision of pruning against the share pruned."""
    return [_accuracy(content), _precision(content)]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    accuracy, found = content["tables"]
    lost = {row[0]: 1 - row[len(LEVELS)] / row[1] for row in accuracy["rows"]}
    texts = [
        f"From no noise to {LEVELS[-1]:.0%}, "
        + ", ".join(f"{name} loses {share:.0%}" for name, share in lost.items())
        + f" of its {_METRIC}."
    ]
    if found["rows"] and found["rows"][0][1] is not None:
        pruned, precision, recall, low, _, share = found["rows"][0]
        texts.append(
            f"LightGNN first prunes {pruned:.0%} of the interactions. Of these, {precision:.0%} "
            f"are noise ({recall:.0%} of all noise); of as many with the lowest degrees {low:.0%}, "
            f"and of as many at random {share:.0%}."
        )
    return texts


def degree_score(users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float64]:
    """Product of the degrees of an interaction's user and item. Shape: (interactions,)"""
    return np.asarray(np.bincount(users)[users].astype(np.float64) * np.bincount(items)[items])


def _found_by(run: Any) -> list[list[float]]:
    """Precision and recall of the noise found after each pruning run of one seed."""
    from recbole_lightgnn.studies.pruned import pruned_students

    trained, students = pruned_students(run)
    noise = _noise_of(trained, students[0].users, students[0].items)
    score = degree_score(students[0].users, students[0].items)
    rows = []
    for student in students:
        removed = student.removed
        low = lowest(score, int(removed.sum()))
        rows.append(
            [removed.mean(), *noise_found(removed, noise), *noise_found(low, noise), noise.mean()]
        )
    return rows


def _noise_of(
    trained: Any, users: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which of a run's training interactions are noise: those that are not in the data without."""
    from recbole.utils import init_seed

    from recbole_lightgnn.data.loaders import load_data

    config = trained.config(trained.rows[-1]["key"])
    config["train_noise"] = 0.0
    init_seed(config["seed"], config["reproducibility"])
    plain = load_data(config)[0]._dataset
    known = plain.inter_feat[plain.uid_field].numpy() * plain.item_num
    known = known + plain.inter_feat[plain.iid_field].numpy()
    return ~np.isin(users * plain.item_num + items, known)


def _accuracy(content: Mapping[str, Any]) -> Figure:
    accuracy: dict[str, list[list[float]]] = content["accuracy"]

    def draw(axes: Any) -> None:
        for nth, name in enumerate(MODELS):
            points = [mean_and_interval(values) for values in accuracy[name]]
            means, halves = zip(*points, strict=True)
            draw_line(axes, [100 * level for level in LEVELS], means, halves, nth, name)
        axes.set_xlabel("training interactions replaced at random (%)")
        axes.set_ylabel("test Recall@20")
        axes.set_ylim(bottom=0)
        axes.legend()

    (table, _) = content["tables"]
    values = "; ".join(
        f"{row[0]}: " + ", ".join(f"{value:.4f}" for value in row[1 : 1 + len(LEVELS)])
        for row in table["rows"]
    )
    return Figure(
        "accuracy",
        draw,
        f"Accuracy on {content['dataset']} against the share of the training interactions that are "
        "replaced by random ones. With several seeds, bars are 95 % confidence intervals.",
        f"Test Recall@20 at {', '.join(f'{level:.0%}' for level in LEVELS)} noise. {values}.",
    )


def _precision(content: Mapping[str, Any]) -> Figure:
    rows = np.array(content["tables"][1]["rows"], dtype=float).reshape(-1, 6)

    def draw(axes: Any) -> None:
        lines = (
            (rows[:, 1], "LightGNN", COLOURS[0], "-", "o"),
            (rows[:, 3], "lowest degrees", COLOURS[1], "--", "s"),
            (rows[:, 5], "random", GREY, ":", None),
        )
        for values, name, colour, style, marker in lines:
            axes.plot(
                *(100 * rows[:, 0], 100 * values, style),
                color=colour, marker=marker, markersize=4, linewidth=1.2, label=name,
            )  # fmt: skip
        axes.set_xlabel("interactions pruned (%)")
        axes.set_ylabel("noise among the pruned (%)")
        axes.set_ylim(bottom=0)
        axes.legend()

    values = "; ".join(f"{row[1]:.0%} of {row[0]:.0%}" for row in rows)
    return Figure(
        "found",
        draw,
        f"Share of noise among the pruned interactions of {content['dataset']}, of which "
        f"{FOUND_AT:.0%} are replaced by random ones. Above the dotted line, pruning finds more "
        "noise than chance.",
        f"Noise among the interactions that LightGNN prunes: {values}.",
    )
