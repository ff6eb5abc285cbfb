"""All models of the paper's Tables 2, 7 and 8, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import COLOURS
from recbole_lightgnn.studies.place import Place, Runs

MODELS = (
    *("BiasMF", "NeuMF", "AutoRec", "PinSage", "STARGCN", "GCMC", "NGCF", "LRGCCF", "LightGCN"),
    *("DGCF", "SLRec", "NCL", "SGL", "HCCF", "SimGCL", "GLT", "UnKD", "SimRec"),
    *("AutoCF", "GraphDA", "XSimGCL", "LightGNN"),
)
_METRICS = ("recall@20", "ndcg@20", "recall@40", "ndcg@40")
_SHORT = ("R@20", "N@20", "R@40", "N@40")


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return MODELS, {}


def measure(place: Place) -> dict[str, Any]:
    """Train every model; put each beside the paper's result."""
    from recbole_lightgnn.comparison.results import Comparison

    place.train(*shared_runs())
    comparison = Comparison(place.shared)
    entries = [
        entry
        for entry in comparison.done()
        if entry.model in MODELS and not (entry.key or "").startswith(("teacher", "intermediate"))
    ]
    rows = []
    for entry in entries:
        paper = entry.paper.test if entry.paper else {}
        verdict = entry.paper.verdict(entry.means()) if entry.paper else None
        ours = [entry.mean(metric) for metric in _METRICS]
        rows.append(
            [entry.label, *ours, *(paper.get(metric) for metric in _METRICS), verdict, entry.bytes]
        )
    return {
        "tables": [
            {
                "name": "models",
                "title": "Test results, beside the paper's where it has them; its code chooses "
                "epochs by test scores",
                "columns": [
                    *("model", *_SHORT, *(f"paper {name}" for name in _SHORT)),
                    *("against the paper", "bytes"),
                ],
                "rows": rows,
            }
        ],
        "reference": comparison.reference and comparison.reference.label,
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw the Recall@20 of each model beside the paper's."""
    return [_figure(content)]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    rows = content["tables"][0]["rows"]
    ours = next(row for row in rows if row[0] == content["reference"])
    others = [row for row in rows if not row[0].startswith("LightGNN")]
    best = max(others, key=lambda row: row[1])
    texts = [
        f"{ours[0]}, chosen on validation, has Recall@20 {ours[1]:.4f}; the best other model, "
        f"{best[0]}, has {best[1]:.4f}."
    ]
    if verdicts := [row for row in rows if row[9] is not None]:
        below = [row[0] for row in verdicts if "below" in row[9]]
        reached = len(verdicts) - len(below)
        texts.append(f"{reached} of {len(verdicts)} rows reach the paper's R@20 and N@20.")
        texts += [f"Below the paper in a metric: {', '.join(below)}."] if below else []
    return texts


def _figure(content: Mapping[str, Any]) -> Figure:
    rows = sorted(content["tables"][0]["rows"], key=lambda row: row[1])
    has_paper = any(row[5] is not None for row in rows)

    def draw(axes: Any) -> None:
        places = range(len(rows))
        axes.hlines(places, 0, [row[1] for row in rows], color="#DDDDDD", linewidth=1)
        axes.plot([row[1] for row in rows], places, "o", color=COLOURS[0], label="measured here")
        if has_paper:
            axes.plot(
                [row[5] for row in rows if row[5] is not None],
                [place for place, row in zip(places, rows, strict=True) if row[5] is not None],
                "|",
                color=COLOURS[1],
                markersize=10,
                markeredgewidth=2,
                label="paper",
            )
            axes.legend(loc="lower right")
        axes.set_yticks(places, [row[0] for row in rows])
        axes.set_xlim(left=0)
        axes.set_xlabel("test Recall@20")
        axes.grid(visible=False, axis="y")

    values = "; ".join(f"{row[0]} {row[1]:.4f}" for row in reversed(rows))
    return Figure(
        "models",
        draw,
        f"Test Recall@20 of all models of the paper on {content['dataset']}"
        + (": measured here (dots) and printed in the paper (bars)." if has_paper else "."),
        f"Recall@20: {values}.",
        size=(5.2, 0.8 + 0.21 * len(rows)),
    )
