"""How stable are the results: seeds, and changes of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import draw_line
from recbole_lightgnn.studies.place import Place, Runs
from recbole_lightgnn.studies.statistics import mean_and_interval

# Settings that are changed one at a time, and their values.
CHANGES: dict[str, tuple[float, ...]] = {
    "prediction_kd_temperature": (0.25, 0.5, 1.0, 2.0),
    "embedding_size": (16, 32, 64, 128),
    "n_layers": (1, 2, 3),
    "prediction_kd_items": (50, 200, 500, 1000),
}
TITLES = {
    "prediction_kd_temperature": "temperature of distillation",
    "embedding_size": "embedding size",
    "n_layers": "layers of the student",
    "prediction_kd_items": "items in the teacher's list",
}
_SHORT = {
    "prediction_kd_temperature": "Temperature",
    "embedding_size": "Width",
    "n_layers": "Layers",
    "prediction_kd_items": "List",
}
_METRICS = ("recall@20", "ndcg@20")


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    variants = {
        f"{_SHORT[key]}-{str(value).replace('.', '_')}": {"model": "LightGNN", key: value}
        for key, values in CHANGES.items()
        for value in values
    }
    return ("LightGNN", *variants), variants


def measure(place: Place) -> dict[str, Any]:
    """Train LightGNN with every change; collect the student with a third of the entries."""
    from recbole_lightgnn.studies.trained import chosen_row, record_of

    models, variants = shared_runs()
    runs = place.train(models, variants)
    seeds = []
    for run in runs["LightGNN"]:
        record = record_of(run)
        for row in _shown(record, chosen_row(record)):
            seeds.append([run.seed, row["key"], *(row["test"][metric] for metric in _METRICS)])
    points = []
    for name, variant in variants.items():
        ((key, value),) = ((k, v) for k, v in variant.items() if k != "model")
        rows = [chosen_row(record_of(run)) for run in runs[name]]
        recall, ndcg = (
            mean_and_interval([row["test"][metric] for row in rows]) for metric in _METRICS
        )
        points.append([TITLES[key], value, *recall, *ndcg])
    return {
        "tables": [
            {
                "name": "seeds",
                "title": "Test results of each seed",
                "columns": ["seed", "row", "R@20", "N@20"],
                "rows": seeds,
            },
            {
                "name": "mean",
                "title": "Mean over seeds, with 95 % confidence intervals",
                "columns": ["row", "R@20", "± (95 %)", "N@20", "± (95 %) of N"],
                "rows": _means(seeds),
            },
            {
                "name": "settings",
                "title": "Student with about a third of the entries, with one setting changed",
                "columns": ["setting", "value", "R@20", "± (95 %)", "N@20", "± (95 %) of N"],
                "rows": points,
            },
        ],
        "defaults": _defaults(record_of(runs["LightGNN"][0])["settings"]),
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw Recall@20 against each changed setting."""
    rows, defaults = content["tables"][2]["rows"], content["defaults"]

    def draw(axes: Any) -> None:
        for panel, (key, title) in zip(axes.flat, TITLES.items(), strict=True):
            points = [row for row in rows if row[0] == title]
            values = [row[1] for row in points]
            halves = [float("nan") if row[3] is None else row[3] for row in points]
            draw_line(panel, values, [row[2] for row in points], halves, 0, title)
            if defaults[key] is not None:
                panel.axvline(defaults[key], color="#777777", linestyle=":", linewidth=1)
            if key != "n_layers":
                panel.set_xscale("log")
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
            panel.set_xlabel(title)
        for row in axes:
            row[0].set_ylabel("test Recall@20")
        low, high = min(row[2] for row in rows), max(row[2] for row in rows)
        for panel in axes.flat:
            panel.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))

    text = "; ".join(f"{row[0]} {row[1]:g}: {row[2]:.4f}" for row in rows)
    return [
        Figure(
            "settings",
            draw,
            f"Test Recall@20 of the student with about a third of the entries on "
            f"{content['dataset']}, with one setting changed at a time. Dotted line: the value in "
            "use. With several seeds, bars are 95 % confidence intervals.",
            f"Recall@20. {text}.",
            size=(6.4, 5.0),
            panels=(2, 2),
        )
    ]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    _, means, points = content["tables"]
    texts = []
    for row, recall, half, *_ in means["rows"]:
        interval = "" if half is None or half != half else f" ± {half:.4f}"
        texts.append(f"{row}: Recall@20 {recall:.4f}{interval}.")
    for title in TITLES.values():
        values = [row for row in points["rows"] if row[0] == title]
        low, high = min(values, key=lambda r: r[2]), max(values, key=lambda r: r[2])
        texts.append(
            f"{title.capitalize()}: from {low[2]:.4f} at {low[1]:g} to {high[2]:.4f} at "
            f"{high[1]:g}."
        )
    return texts


def _shown(record: Mapping[str, Any], chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """The teacher, the chosen student and the last one, each once."""
    rows = (record["rows"][0], chosen, record["rows"][-1])
    return list({row["key"]: row for row in rows}.values())


def _means(seeds: list[list[Any]]) -> list[list[Any]]:
    keys = dict.fromkeys(row[1] for row in seeds)
    return [
        [key, *(x for n in (2, 3) for x in mean_and_interval([r[n] for r in seeds if r[1] == key]))]
        for key in keys
    ]


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings.get(key) for key in CHANGES}
