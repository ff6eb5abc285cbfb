"""The eight variants of the paper's Table 3, in the paper's recipe and in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import COLOURS, GREY, MARKERS
from recbole_lightgnn.studies.place import ABLATION, Place, Runs, Unfinished, paper_split
from recbole_lightgnn.studies.statistics import mean_and_interval

RECIPES = {"default": "our recipe", "paper": "the paper's recipe"}
# Pruning runs of the paper's four ratios (.33, .26, .11 and .08 of the entries).
STUDENTS = ("student-05", "student-06", "student-10", "student-11")
WHOLE = "LightGNN"
_METRIC = "recall@20"
# Table 3 of the paper: Recall@20 at the four ratios.
PAPER = {
    "gowalla": {
        "~EmbP": (0.2197, 0.1946, 0.0741, 0.0586),
        "~EdgeP": (0.2418, 0.2255, 0.1341, 0.1133),
        "~BothP": (0.1800, 0.1434, 0.0556, 0.0421),
        "BnEdge": (0.2210, 0.2021, 0.1280, 0.1165),
        "-BiAln": (0.2350, 0.2281, 0.1934, 0.1812),
        "-IntKD": (0.2607, 0.2571, 0.2100, 0.1890),
        "-ImpD": (0.2593, 0.2564, 0.2135, 0.1923),
        WHOLE: (0.2610, 0.2578, 0.2162, 0.1966),
    },
    "yelp": {
        "~EmbP": (0.0809, 0.0737, 0.0434, 0.0357),
        "~EdgeP": (0.0867, 0.0850, 0.0745, 0.0709),
        "~BothP": (0.0736, 0.0661, 0.0311, 0.0231),
        "BnEdge": (0.0872, 0.0858, 0.0775, 0.0754),
        "-BiAln": (0.0810, 0.0801, 0.0666, 0.0650),
        "-IntKD": (0.0822, 0.0825, 0.0788, 0.0769),
        "-ImpD": (0.0862, 0.0861, 0.0808, 0.0797),
        WHOLE: (0.0879, 0.0877, 0.0856, 0.0842),
    },
}
# Shares of entries and interactions kept in its columns.
PAPER_SHARES = {
    "gowalla": (".33/.44", ".26/.37", ".11/.19", ".08/.16"),
    "yelp": (".33/.77", ".26/.74", ".11/.60", ".08/.57"),
}
VARIANTS = tuple(PAPER["yelp"])


def shared_runs() -> Runs:
    """None: the variants have runs of their own."""
    return (), {}


def measure(place: Place) -> dict[str, Any]:
    """Train the variants in both recipes with every seed."""
    return {"tables": [_table(place, recipe) for recipe in RECIPES]}


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw the Recall@20 that each variant loses at each ratio."""
    return [_figure(content, table) for table in content["tables"]]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words which of the paper's ingredients matter here."""
    texts = []
    for table in content["tables"]:
        rows = {row[0]: row[1 : 1 + len(STUDENTS)] for row in table["rows"]}
        whole, last = rows[WHOLE], len(STUDENTS) - 1
        losses = {
            name: [1 - value / best for value, best in zip(row, whole, strict=False)]
            for name, row in rows.items()
            if name != WHOLE and row[0] is not None
        }
        parts = [f"{name} {loss[0]:+.1%} / {loss[last]:+.1%}" for name, loss in losses.items()]
        same = [name for name, row in rows.items() if row[0] is None]
        text = (
            f"In {RECIPES[table['name']]}, the share of Recall@20 that is lost at the first and at "
            f"the last ratio: {', '.join(parts)}."
        )
        text += f" Without effect on this recipe: {', '.join(same)}." if same else ""
        texts.append(text)
    return texts


def _table(place: Place, recipe: str) -> dict[str, Any]:
    results = [_results(place, recipe, seed) for seed in place.seeds]
    split = paper_split(results[0]["fingerprint"])
    paper, rows = PAPER.get(split, {}), []
    for name in VARIANTS:
        found = [result[name] for result in results if name in result]
        cells = [
            mean_and_interval([one[key] for one in found]) if found else (None, None)
            for key in STUDENTS
        ]
        means, halves = zip(*cells, strict=True)
        rows.append([name, *means, *halves, *paper.get(name, ())])
    shares = results[0]["shares"]
    heads = [f"{entries:.2f}/{edges:.2f}" for entries, edges in (shares[key] for key in STUDENTS)]
    return {
        "name": recipe,
        "title": f"Test Recall@20 in {RECIPES[recipe]}, with one ingredient changed (Table 3): "
        "columns are the shares of entries and interactions kept; empty: the variant changes "
        "nothing in this recipe",
        "columns": [
            *("variant", *heads, *(f"± of {head} (95 %)" for head in heads)),
            *(f"paper {share}" for share in PAPER_SHARES.get(split, ())),
        ],
        "rows": rows,
    }


def _results(place: Place, recipe: str, seed: int) -> dict[str, Any]:
    """Recall@20 of each variant's students with one seed, and the shares that they keep."""
    from recbole_lightgnn.config.ablations import ablations
    from recbole_lightgnn.quick_start import configure
    from recbole_lightgnn.tuning.ablation import WHOLE as ALL
    from recbole_lightgnn.tuning.ablation import Ablation, Variant

    n_runs = max(int(key.rpartition("-")[2]) for key in STUDENTS)
    given = place.split() | place.given_to("LightGNN")
    settings = {**given, "recipe": recipe, "seed": seed, "n_pruning_runs": n_runs}
    config = configure("LightGNN", place.dataset, settings={**settings, "show_progress": False})
    names = [
        name
        for name, changes in ablations().items()
        if any(config[key] != value for key, value in changes.items())
    ]
    variants = [Variant(ALL, {}), *(Variant(name, {"ablation": name}) for name in names)]
    study = Ablation(
        place.dataset,
        config_files=(),
        settings=settings,
        variants=variants,
        out=_folder(place, recipe, seed),
    )
    failed = study.run(lambda line: print(f"{RECIPES[recipe]}, seed {seed}: {line}", flush=True))
    if failed:
        name, reason = next(iter(failed.items()))
        raise Unfinished(f"the variant {name} failed: {reason}; the same command tries it again")
    found: dict[str, Any] = {"fingerprint": study.fingerprint}
    for result in study.results():
        rows = {row["key"]: row for row in result["record"]["rows"]}
        name = WHOLE if result["variant"] == ALL else result["variant"]
        found[name] = {key: rows[key]["test"][_METRIC] for key in STUDENTS}
        if name == WHOLE:
            found["shares"] = {
                key: (rows[key]["entries_kept"], rows[key]["interactions_kept"]) for key in STUDENTS
            }
    return found


def _folder(place: Place, recipe: str, seed: int) -> Path:
    return place.out / ABLATION / f"{recipe}-{seed}"


def _figure(content: Mapping[str, Any], table: Mapping[str, Any]) -> Figure:
    heads: Sequence[str] = table["columns"][1 : 1 + len(STUDENTS)]
    rows = [row for row in table["rows"] if row[1] is not None]

    colours = (*COLOURS[:-1], GREY)  # black is for the whole recipe

    def draw(axes: Any) -> None:
        for nth, row in enumerate(rows):
            ours = row[0] == WHOLE
            axes.plot(
                *(range(len(heads)), row[1 : 1 + len(heads)]),
                marker=MARKERS[nth % len(MARKERS)],
                color="#000000" if ours else colours[nth % len(colours)],
                linewidth=2 if ours else 1.1,
                markersize=4,
                label=row[0],
            )
        axes.set_xticks(range(len(heads)), heads)
        axes.set_xlabel("entries kept / interactions kept")
        axes.set_ylabel("test Recall@20")
        axes.set_ylim(bottom=0)
        axes.legend(ncols=2)

    values = "; ".join(
        f"{row[0]}: " + ", ".join(f"{value:.4f}" for value in row[1 : 1 + len(heads)])
        for row in rows
    )
    return Figure(
        table["name"],
        draw,
        f"Test Recall@20 on {content['dataset']} in {RECIPES[table['name']]}, with one ingredient "
        "of LightGNN changed at a time, at four pruning ratios.",
        f"Recall@20 at {', '.join(heads)}. {values}.",
    )
