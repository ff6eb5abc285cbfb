"""Memory, multiply-adds and time of inference, relative to NGCF: Figure 3 of the LightGNN paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from recbole_lightgnn.comparison.layout import Run
from recbole_lightgnn.studies import ratios
from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import COLOURS, GREY
from recbole_lightgnn.studies.place import Place, Runs

BASE = "NGCF"  # all costs are shown relative to it
MODELS = (BASE, "LRGCCF", "HCCF", "UnKD", "LightGCN", "SimGCL")
PRUNED = "Mild"  # LightGNN, in the variant that the study of ratios trains
VARIANTS: dict[str, dict[str, Any]] = {PRUNED: ratios.VARIANTS[PRUNED]}
STUDENTS = tuple(f"student-{run:02}" for run in (1, 3, 5, 8, 11))  # .80 to .09 of the entries
USERS = 1000  # users to rank the top 20 for
SECONDS = 20.0  # time to measure each operation, shared by all models
ENERGY_SECONDS = 2.0  # time to measure the energy of each model, if it can be measured
_PARTS = ("parameters", "bytes", "multiply-adds", "time")  # of the figure
# Section 4.3: cost of LightGNN relative to NGCF.
PAPER = dict(zip(_PARTS, (0.30, 0.30, 0.10, 0.50), strict=True))
_SAME = 0.05  # relative difference up to which two models count as equally large


@dataclass(frozen=True)
class _Contender:
    """A model to measure: its row in the record, the model, and one inference without caches."""

    row: Mapping[str, Any]
    model: Any
    infer: Callable[[], Any]


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return (*MODELS, PRUNED), VARIANTS


def measure(place: Place) -> dict[str, Any]:
    """Train the models with the first seed; measure the cost of inference of each."""
    from recbole_lightgnn.bench.measure import conditions

    runs = place.with_first_seed().train(*shared_runs())
    contenders = _contenders({name: each[0] for name, each in runs.items()})
    before = conditions()
    seconds = _times(contenders)
    rows = [
        [name, *_costs(one, *(times[name]["median"] for times in seconds.values()))]
        for name, one in contenders.items()
    ]
    return {
        "seeds": place.seeds[:1],
        "tables": [_cost_table(rows, before["load"]), _relative_table(rows)],
        "seconds": seconds,
        "conditions": before,
    }


def inference_of(model: Any) -> Callable[[], Any]:
    """Return a function that computes a model's final embeddings, without caches and gradients.

    Args:
        model: one of our models, or one of RecBole's graph models, in evaluation mode.

    Returns:
        Function without arguments that returns the tables of users and items.
    """
    import torch

    # RecBole's `full_sort_predict` caches what `forward` computes.
    infer = model.infer if hasattr(model, "ranks_by_tables") else model.forward
    without_gradients: Callable[[], Any] = torch.no_grad()(infer)
    return without_gradients


def _contenders(runs: Mapping[str, Run]) -> dict[str, _Contender]:
    """All models to measure, by name; checked that inference computes what they rank by."""
    from recbole_lightgnn.bench.measure import deviation
    from recbole_lightgnn.models.scoring_tables import final_tables
    from recbole_lightgnn.studies.trained import model_of, record_of

    contenders = {}
    for name, run in runs.items():
        rows = record_of(run)["rows"]
        chosen = [row for row in rows if row["key"] in STUDENTS] if name == PRUNED else rows[-1:]
        for row in chosen:
            model = model_of(run, row["key"])
            infer = inference_of(model)
            tables = final_tables(model)
            assert tables is not None  # all these models rank by inner products
            deviation(name, infer(), [table.double() for table in tables])
            contenders[_student_name(row) if name == PRUNED else name] = _Contender(
                row, model, infer
            )
    return contenders


def _student_name(row: Mapping[str, Any]) -> str:
    """Name of a student by the shares of entries and interactions kept: LightGNN .33/.77"""
    kept = (f"{row[share]:.2f}" for share in ("entries_kept", "interactions_kept"))
    return "LightGNN " + "/".join(text.removeprefix("0") for text in kept)


def _times(contenders: Mapping[str, _Contender]) -> dict[str, dict[str, Any]]:
    """Median seconds and quartiles of each model: one inference, and the top 20 for 1000 users."""
    from recbole_lightgnn.bench.infer import recommend
    from recbole_lightgnn.bench.measure import measure as timed

    seen = next(
        one.model.observed.interactions.pattern
        for one in contenders.values()
        if hasattr(one.model, "observed")
    )
    last = min(1 + USERS, seen.shape[0])  # user 0 is RecBole's padding
    rankings = {}
    for name, one in contenders.items():
        user, item = one.infer()
        rankings[name] = partial(recommend, user, item, seen, 1, last)
    return {
        "inference": timed({name: one.infer for name, one in contenders.items()}, seconds=SECONDS),
        "ranking": timed(rankings, seconds=SECONDS),
    }


def _costs(one: _Contender, inference: float, ranking: float) -> list[Any]:
    """The row of a model in the table of costs, without its name."""
    from recbole_lightgnn.studies.cost import inference_multiply_adds, joules, working_bytes

    row = one.row
    return [
        one.infer()[0].shape[1],
        *(row["entries_kept"], row["interactions_kept"], row["test"].get("recall@20")),
        *(row["parameters"] / 1e3, row["bytes"] / 1e3),
        inference_multiply_adds(one.model) / 1e6,
        *(1e3 * inference, 1e3 * ranking),
        working_bytes(one.infer) / 1e3,
        joules(one.infer, seconds=ENERGY_SECONDS),
    ]


_COLUMNS = (
    *("model", "final width", "entries kept", "interactions kept", "R@20"),
    *("parameters (k)", "kB", "multiply-adds (M)", "ms per inference"),
    *(f"ms per top 20 of {USERS} users", "working kB", "J per inference"),
)
_FIRST_COST = _COLUMNS.index("parameters (k)")
_RELATIVE = (*_PARTS, "time of ranking", "working memory", "energy")


def _cost_table(rows: Sequence[Sequence[Any]], load: float) -> dict[str, Any]:
    energy = (
        "energy of the processor, other processes included"
        if rows[0][-1] is not None
        else "energy cannot be read on this machine"
    )
    return {
        "name": "cost",
        "title": "Cost of one inference (final embeddings of all users and items) with the first "
        "seed. Parameters and kB: what a checkpoint stores, of LightGNN with its edge weights, of "
        "no model with the interactions. Working kB: peak of the tensors that inference allocates. "
        f"Times are medians, with a load of {load:.1f} on the machine before; {energy}",
        "columns": list(_COLUMNS),
        "rows": [list(row) for row in rows],
    }


def _relative_table(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The costs divided by those of NGCF; a cost that was not measured stays empty."""
    (base,) = (row for row in rows if row[0] == BASE)
    relative = [
        [
            row[0],
            *(
                None if value is None or not unit else value / unit
                for value, unit in zip(row[_FIRST_COST:], base[_FIRST_COST:], strict=True)
            ),
        ]
        for row in rows
    ]
    return {
        "name": "relative",
        "title": f"Costs relative to {BASE}. The paper claims for LightGNN .30 of the parameters "
        "and of the bytes, less than .10 of the multiply-adds, and less than .50 of the time",
        "columns": ["model", *_RELATIVE],
        "rows": relative,
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw parameters, bytes, multiply-adds and time relative to NGCF."""
    return [_figure(content)]


def findings(content: Mapping[str, Any]) -> list[str]:
    """Compare the measured costs with the claims of Section 4.3; say what causes them."""
    relative = {row[0]: dict(zip(_RELATIVE, row[1:], strict=True)) for row in _table(content, 1)}
    cost = {row[0]: dict(zip(_COLUMNS[1:], row[1:], strict=True)) for row in _table(content, 0)}
    students = [name for name in relative if name not in MODELS]
    main = min(students, key=lambda name: abs(cost[name]["entries kept"] - 0.33))
    claims = {
        "parameters": "70 % fewer parameters",
        "bytes": "70 % fewer bytes",
        "multiply-adds": "over 90 % fewer multiply-adds",
        "time": "over 50 % less time of inference",
    }
    texts = [
        f"{part.capitalize()}: the paper claims {claims[part]} than {BASE}. Here "
        f"{_changes(relative, students, main, part)} {_reached(relative, students, part)}"
        for part in _PARTS
    ]
    texts.append(_others(relative))
    texts += _same_size(cost, main)
    return texts


def _changes(
    relative: Mapping[str, Mapping[str, float]], students: Sequence[str], main: str, part: str
) -> str:
    """How a cost of the main student and of the last student differs from NGCF's."""
    names = dict.fromkeys([main, students[-1]])
    return "it is " + " and ".join(f"{_change(relative[n][part])} for {n}" for n in names) + "."


def _change(share: float) -> str:
    """A cost relative to another one, in words: 70 % less, or 20 % more."""
    return f"{abs(1 - share):.0%} ".replace("%", " %") + ("less" if share <= 1 else "more")


def _reached(
    relative: Mapping[str, Mapping[str, float]], students: Sequence[str], part: str
) -> str:
    """Which students reach the paper's claim."""
    reached = [name for name in students if relative[name][part] <= PAPER[part]]
    if not reached:
        return "No student reaches the claim."
    if len(reached) == len(students):
        return "All students reach the claim."
    return f"The claim is reached by {', '.join(reached)}."


def _others(relative: Mapping[str, Mapping[str, float]]) -> str:
    """What the other models save, in multiply-adds and time."""
    parts = [
        f"{name} {relative[name]['multiply-adds']:.2f} and {relative[name]['time']:.2f}"
        for name in relative
        if name in MODELS and name != BASE
    ]
    return f"Multiply-adds and time of the other models, relative to {BASE}: {'; '.join(parts)}."


def _same_size(cost: Mapping[str, Mapping[str, float]], main: str) -> list[str]:
    """Compare the times of two codes, and the student with a model that is not pruned.

    UnKD infers as LightGCN does, but by the products of this package.
    """
    adds, time = "multiply-adds (M)", "ms per inference"
    theirs, ours, student = (cost[name] for name in ("LightGCN", "UnKD", main))
    texts = []
    if abs(theirs[adds] / ours[adds] - 1) <= _SAME:
        texts.append(
            f"The time depends on the code, too: LightGCN (RecBole's) takes {theirs[time]:.3g} "
            f"ms and UnKD (this package) {ours[time]:.3g} ms for equally many multiply-adds."
        )
    changes = [
        f"{_change(student[column] / ours[column])} {what}"
        for column, what in (("parameters (k)", "memory (parameters)"), (adds, "computation"))
    ]
    texts.append(
        "Compared with UnKD, which is LightGCN without pruning in the same code, "
        f"{main} needs {', '.join(changes)}, and {_change(student[time] / ours[time])} time."
    )
    return texts


def _table(content: Mapping[str, Any], nth: int) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = content["tables"][nth]["rows"]
    return rows


def _figure(content: Mapping[str, Any]) -> Figure:
    rows = _table(content, 1)
    names = [row[0] for row in rows]

    def draw(axes: Any) -> None:
        for nth, (panel, part) in enumerate(zip(axes[0], _PARTS, strict=True)):
            values = [row[1 + nth] for row in rows]
            for place, (name, value) in enumerate(zip(names, values, strict=True)):
                known = name in MODELS
                colour, marker = (COLOURS[0], "o") if known else (COLOURS[1], "s")
                panel.plot([1, value], [place, place], color=colour, linewidth=1.5)
                panel.plot([value], [place], color=colour, marker=marker, markersize=5)
                # The numbers are a column at the right edge of the panel.
                edge = panel.get_yaxis_transform()
                panel.text(
                    1, place, _short(value), transform=edge, ha="right", va="center", fontsize=8
                )
            panel.axvline(1, color=GREY, linewidth=0.8)
            panel.axvline(PAPER[part], color=GREY, linewidth=0.8, linestyle="--")
            panel.set_xscale("log")
            low, high = min(*values, PAPER[part]), max(values)
            span = max(high / low, 4.0)
            panel.set_xlim(low / span**0.08, high * span**0.6)  # with space for the numbers
            of = (0.001, 0.01, 0.1, 1, 10) if span > 15 else (0.1, 0.2, 0.5, 1, 2, 5, 10)
            ticks = [tick for tick in of if low / span**0.08 <= tick <= high * 1.1]
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
            panel.set_ylim(len(rows) - 0.5, -0.5)
            panel.set_yticks(range(len(rows)), names if nth == 0 else [""] * len(rows))
            panel.tick_params(axis="y", length=0)
            panel.grid(visible=False, axis="y")
            panel.set_title(part, fontsize=9)
        axes[0, 0].set_xlabel(f"relative to {BASE}", loc="left")

    values = "; ".join(
        f"{row[0]}: " + ", ".join(_short(value) for value in row[1 : 1 + len(_PARTS)])
        for row in rows
    )
    return Figure(
        "relative",
        draw,
        f"Costs of one inference on {content['dataset']}, relative to {BASE}, on logarithmic axes. "
        "The numbers of LightGNN are the shares of embedding entries and of interactions kept. "
        "Blue circles: other models; orange squares: LightGNN. Dashed lines: the paper's claims "
        "for LightGNN (Section 4.3).",
        f"{', '.join(_PARTS).capitalize()}, relative to {BASE}. {values}.",
        size=(7.2, 3.6),
        panels=(1, len(_PARTS)),
    )


def _short(value: float) -> str:
    """A relative cost with two or three digits."""
    return f"{value:.3f}" if value < 0.095 else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"
