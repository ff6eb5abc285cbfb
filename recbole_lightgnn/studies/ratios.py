"""Accuracy and cost at every pruning ratio: Figures 4 and 8 of the LightGNN paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import GREY, draw_line
from recbole_lightgnn.studies.place import Place, Runs
from recbole_lightgnn.studies.statistics import mean_and_interval

# Pruning runs keep .8 of the entries each, and this share of the interactions.
MILD, AGGRESSIVE = 0.95, 0.85
N_RUNS = 11  # twelve ratios, with the unpruned student
VARIANTS: dict[str, dict[str, Any]] = {
    f"{name}{suffix}": {
        "model": "LightGNN",
        "edge_ratio": ratio,
        "n_pruning_runs": N_RUNS,
        **({"edge_weights": "binary"} if suffix else {}),
    }
    for name, ratio in (("Mild", MILD), ("Aggressive", AGGRESSIVE))
    for suffix in ("", "Binary")
}
LINES = ("LightGCN", "SimGCL")
TITLES = {
    "Mild": "mild pruning",
    "MildBinary": "mild, binary edge weights",
    "Aggressive": "aggressive pruning",
    "AggressiveBinary": "aggressive, binary edge weights",
}
_METRICS = ("recall@20", "ndcg@20")
_CALLS = 5  # measured inferences of each student; the median counts


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return (*VARIANTS, *LINES), VARIANTS


def measure(place: Place) -> dict[str, Any]:
    """Train the variants; collect accuracy and cost after each pruning run."""
    from recbole_lightgnn.studies.cost import inference_multiply_adds, student_cost
    from recbole_lightgnn.studies.trained import model_of, record_of, trained_run

    runs = place.train(*shared_runs())
    rows = []
    for name in VARIANTS:
        records = [record_of(run) for run in runs[name]]
        trained = trained_run(runs[name][0])
        for key in [row["key"] for row in records[0]["rows"] if row["stage"] == "student"]:
            of_key = [_row(record, key) for record in records]
            cost = student_cost(trained.model(key), calls=_CALLS)
            accuracy = [mean_and_interval([row["test"][m] for row in of_key]) for m in _METRICS]
            rows.append(
                [
                    TITLES[name],
                    *(fmean(r[k] for r in of_key) for k in ("entries_kept", "interactions_kept")),
                    *(accuracy[0]),
                    accuracy[1][0],
                    cost["multiply_adds"] / 1e6,
                    fmean(row["bytes"] for row in of_key) / 1e3,
                    1e3 * cost["seconds"],
                ]
            )
    for name in LINES:
        records = [record_of(run) for run in runs[name]]
        last = [record["rows"][-1] for record in records]
        accuracy = [mean_and_interval([row["test"][m] for row in last]) for m in _METRICS]
        adds = inference_multiply_adds(model_of(runs[name][0], last[0]["key"]))
        size = fmean(row["bytes"] for row in last) / 1e3
        rows.append([name, 1.0, 1.0, *accuracy[0], accuracy[1][0], adds / 1e6, size, None])
    return {
        "tables": [
            {
                "name": "ratios",
                "title": f"Test accuracy and cost after each pruning run. Each run keeps .8 of the "
                f"entries, and {MILD:g} (mild) or {AGGRESSIVE:g} (aggressive) of the interactions. "
                "Costs are of the first seed",
                "columns": [
                    *("model", "entries kept", "interactions kept"),
                    *("R@20", "± (95 %)", "N@20"),
                    *("multiply-adds (M)", "kB", "ms per inference"),
                ],
                "rows": rows,
            }
        ],
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw accuracy, and multiply-adds, against the share of entries kept."""
    return [_figure(content)]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    rows = content["tables"][0]["rows"]
    texts = []
    for name in LINES:
        (line,) = (row for row in rows if row[0] == name)
        mild = [row for row in rows if row[0] == TITLES["Mild"] and row[3] >= line[3]]
        if not mild:
            texts.append(f"No student with mild pruning reaches the Recall@20 of {name}.")
            continue
        last = min(mild, key=lambda row: row[6])
        texts.append(
            f"With mild pruning, the student reaches the Recall@20 of {name} ({line[3]:.4f}) down "
            f"to {last[1]:.2f} of the entries and {last[2]:.2f} of the interactions, with "
            f"{last[6] / line[6]:.0%} of the multiply-adds of {name}."
        )
    for name in ("Mild", "Aggressive"):
        learned, binary = (
            {row[1]: row[3] for row in rows if row[0] == TITLES[key]}
            for key in (name, f"{name}Binary")
        )
        differences = [learned[share] - binary[share] for share in learned if share in binary]
        if differences:
            texts.append(
                f"{TITLES[name].capitalize()}: learned edge weights change Recall@20 by "
                f"{fmean(differences):+.4f} on average over the ratios, compared with binary ones."
            )
    return texts


def _row(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in record["rows"] if row["key"] == key)
    return row


def _figure(content: Mapping[str, Any]) -> Figure:
    rows: Sequence[Sequence[Any]] = content["tables"][0]["rows"]

    def draw(axes: Any) -> None:
        for nth, title in enumerate(TITLES.values()):
            points = [row for row in rows if row[0] == title]
            kept = [row[1] for row in points]
            dashed = "binary" in title
            draw_line(
                *(axes[0, 0], kept, [row[3] for row in points]),
                *([row[4] if row[4] is not None else float("nan") for row in points], nth, title),
                dashed=dashed,
            )
            if not dashed:
                adds = [row[6] for row in points]
                draw_line(axes[0, 1], kept, adds, [0.0] * len(kept), nth, title)
        for name, style in zip(LINES, ("--", ":"), strict=True):
            (line,) = (row for row in rows if row[0] == name)
            for panel, value in zip(axes[0], (line[3], line[6]), strict=True):
                panel.axhline(value, color=GREY, linestyle=style, linewidth=1, label=name)
        for panel, label in zip(
            axes[0], ("test Recall@20", "multiply-adds (millions)"), strict=True
        ):
            panel.set_xscale("log")
            panel.invert_xaxis()
            panel.set_xticks([1, 0.5, 0.3, 0.2, 0.1], ["1", ".5", ".3", ".2", ".1"])
            panel.minorticks_off()
            panel.set_xlabel("embedding entries kept")
            panel.set_ylabel(label)
        axes[0, 1].set_ylim(bottom=0)
        axes[0, 0].legend(fontsize=7)

    values = "; ".join(
        f"{row[0]} at {row[1]:.2f}/{row[2]:.2f}: {row[3]:.4f}"
        for row in rows
        if row[0] not in LINES
    )
    return Figure(
        "cost",
        draw,
        f"Accuracy (left) and multiply-adds of one inference (right) on {content['dataset']}, "
        "against the share of embedding entries that pruning keeps. Grey lines: models that are "
        "not pruned. With several seeds, bars are 95 % confidence intervals.",
        f"Test Recall@20. {values}.",
        size=(7.2, 3.6),
        panels=(1, 2),
    )
