"""The pictures of a comparison, drawn from its records, with captions and alternative texts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from recbole_lightgnn.comparison.drawing import byte_ticks, place_labels, svg_of, time_ticks
from recbole_lightgnn.comparison.entry import Entry
from recbole_lightgnn.comparison.pareto import pareto_front
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import duration, short, size

# Okabe and Ito's colours, which colour-blind readers can tell apart, without the pale yellow.
# LightGNN is blue. The best other models have the other colours. All further models are grey,
# because more colours could not be told apart.
_OURS = "#0072B2"
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("s", "^", "D", "v", "P", "X", "p")
_GREY = "#777777"
_FRONT, _PALE = "#444444", 0.4  # colour of the Pareto front; opacity of the models off the front
_GROUPS = 5


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        name: identifier of the picture on the page.
        svg: drawing as SVG.
        caption: what the picture shows and how to read it.
        alt: the picture's content in words and numbers, for readers who cannot see it.
    """

    name: str
    svg: str
    caption: str
    alt: str


def pictures(comparison: Comparison) -> list[Picture]:
    """Draw every picture for which the comparison has data."""
    drawn = [
        _scatter(
            comparison,
            "size",
            lambda entry: entry.bytes,
            "stored size",
            size,
            byte_ticks,
            with_front=True,
        ),
        _scatter(
            comparison,
            "time",
            lambda entry: entry.seconds,
            "training time, earlier stages and validation included",
            duration,
            time_ticks,
        ),
        _curves(comparison),
        _groups(comparison),
    ]
    return [picture for picture in drawn if picture is not None]


# --- accuracy against size and time -----------------------------------------------------------


def _scatter(
    comparison: Comparison,
    name: str,
    value: Callable[[Entry], float],
    what: str,
    text: Callable[[float], str],
    ticks: Callable[[Any], None],
    *,
    with_front: bool = False,
) -> Picture | None:
    """Draw accuracy against a cost, such as model size; return ``None`` if no model is done.

    Args:
        comparison: comparison to draw.
        name: name of the picture.
        value: function that returns the cost of a line of the table (`Entry`).
        what: name of the cost, for the axis and the caption.
        text: function that formats a cost.
        ticks: function that sets the ticks of the axis of costs.
        with_front: whether to draw a line through the models on the `pareto_front`, and to draw the
            other models paler.
    """
    metric, entries = comparison.tested_metrics[0], comparison.done()
    if not entries:
        return None
    students = comparison.students
    means = [entry.mean(metric) for entry in entries]
    lowest = _lowest(means)
    places = pareto_front([value(entry) for entry in entries], means) if with_front else []
    front = [entries[place] for place in places]

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        drawn_front = [(value(e), e.mean(metric)) for e in front if e.mean(metric) >= lowest]
        if len(drawn_front) > 1:
            axes.plot(*zip(*drawn_front, strict=True), "--", color=_FRONT, linewidth=1, zorder=1)
        curve = [(value(entry), entry.mean(metric)) for entry in students]
        if len(curve) > 1:
            axes.plot(
                *zip(*curve, strict=True), "-o", color=_OURS, markersize=2.5, linewidth=1, alpha=0.6
            )
        labels = []
        for place, entry in enumerate(entries):
            cost, mean, look = value(entry), entry.mean(metric), _look(comparison, entry)
            if mean >= lowest:
                pale = with_front and place not in places
                _draw_entry(axes, entry, cost, metric, look, pale=pale)
                labels.append((cost, mean, entry.label, look[0]))
        below = [
            f"{entry.label} {short(entry.mean(metric))}"
            for entry in entries
            if entry.mean(metric) < lowest
        ]
        least = min(mean for _, mean, *_ in labels)
        notes = [_note_below(axes, below, least)] if below else []
        axes.margins(x=0.16, y=0.12)
        ticks(axes)
        axes.set_xlabel(f"{what} (log scale)")
        axes.set_ylabel(f"test {_title(metric)}")
        labels.sort(key=lambda label: label[-1] == _GREY)
        place_labels(axes, labels, [curve, drawn_front], notes)

    values_text = "; ".join(
        f"{entry.label} {short(entry.mean(metric))} at {text(value(entry))}" for entry in entries
    )
    bars = " Bars are the standard deviation over seeds." if len(comparison.seeds) > 1 else ""
    line = (
        " The line is LightGNN's student, pruning run by pruning run." if len(students) > 1 else ""
    )
    return Picture(
        name,
        svg_of(draw),
        f"Accuracy against {what}: up and to the left is better.{bars}{line}"
        + (f" {_front_text(front, metric, lowest)}" if front else ""),
        f"{_title(metric)} against {what}. {values_text}."
        + (f" Pareto front: {_labels(front)}." if front else ""),
    )


def _front_text(front: Sequence[Entry], metric: str, lowest: float) -> str:
    """Say in a caption which models are on the front, and which of them are not in the picture."""
    text = (
        "A dashed line joins the Pareto front, the models that no other model of the table beats "
        f"in both bytes and test {_title(metric)}: {_labels(front)}. The other models are paler."
    )
    below = [entry for entry in front if entry.mean(metric) < lowest]
    return f"{text} Too low for the picture: {_labels(below)}." if below else text


def _labels(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.label for entry in entries)


def _draw_entry(
    axes: Any, entry: Entry, cost: float, metric: str, look: tuple[str, str], *, pale: bool
) -> None:
    colour, marker = look
    axes.errorbar(
        cost,
        entry.mean(metric),
        yerr=entry.deviation(metric),
        fmt=marker,
        color=colour,
        markerfacecolor="white" if _is_teacher(entry) else colour,
        markersize=6,
        capsize=2,
        linewidth=1,
        alpha=_PALE if pale else 1,
    )


def _note_below(axes: Any, names: Sequence[str], least: float) -> Any:
    """Write a note on the models that score too low to be drawn, and make space for it.

    Args:
        axes: matplotlib's ``Axes``.
        names: name and score of each model that is not drawn.
        least: lowest score that is drawn.
    """
    listed = ", ".join(name.replace(" ", "\N{NO-BREAK SPACE}") for name in names)
    text = textwrap.fill(f"below: {listed}", 68)
    share = 0.03 + 0.04 * (1 + text.count("\n"))  # of the picture's height
    top = axes.get_ylim()[1]
    axes.set_ylim(bottom=least - share / (1 - share) * (top - least))
    place = {"transform": axes.transAxes, "ha": "left", "va": "bottom"}
    note = axes.text(0.01, 0.01, text, fontsize=7.5, color=_GREY, **place)
    note.set_in_layout(False)  # a long note would squeeze the picture
    return note


def _lowest(means: Sequence[float]) -> float:
    """Lower end of the axis of scores, chosen so that the median score is in the middle."""
    best, middle = max(means), float(np.median(means))
    lowest = best - 2 * (best - middle)
    return min(means) if lowest <= min(means) or best == middle else lowest


def _margins(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis, a little beyond the lowest and highest value shown."""
    margin = 0.05 * (high - low)
    return (low - margin, high + margin) if margin else (low - 0.01, high + 0.01)


# --- learning curves --------------------------------------------------------------------------


def _curves(comparison: Comparison) -> Picture | None:
    """Validation score by training time, for the first seed of each model."""
    drawn: list[tuple[Entry, list[tuple[list[float], list[float]]]]] = []
    for model in comparison.content["models"]:
        entries = [entry for entry in comparison.done() if entry.model == model]
        if entries and (parts := comparison.curve(model, entries[0].seeds[0])):
            drawn.append((entries[-1], parts))
    if not drawn:
        return None
    ends = [max(score for _, scores in parts for score in scores) for _, parts in drawn]
    lowest = _lowest(ends)
    name = _title(comparison.selection)

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        for entry, parts in drawn:
            colour, marker = _look(comparison, entry)
            for number, (seconds, scores) in enumerate(parts):
                label = None if number else entry.model
                wide = 1.8 if entry.model == "LightGNN" else 1.1
                look = {"color": colour, "linewidth": wide}
                if len(scores) == 1:
                    look |= {"marker": marker, "markersize": 4}
                axes.plot(seconds, scores, **look, **_line_look(colour, label))
        axes.set_ylim(*_margins(lowest, max(ends)))
        time_ticks(axes)
        axes.set_xlabel("training time, validation included (log scale)")
        axes.set_ylabel(f"validation {name}")
        _legend(axes)

    values_text = "; ".join(
        f"{entry.model} reaches {short(end)} after {duration(parts[-1][0][-1])}"
        for (entry, parts), end in zip(drawn, ends, strict=True)
    )
    several = any(len(parts) > 1 for _, parts in drawn)
    stages = " LightGNN's stages and pruning runs follow one another." if several else ""
    return Picture(
        "curves",
        svg_of(draw),
        f"Learning curves: validation {name} by training time, first seed of each model.{stages}",
        f"Validation {name} by training time. {values_text}.",
    )


# --- groups of users --------------------------------------------------------------------------


def degree_groups(degree: np.ndarray, n_groups: int = _GROUPS) -> list[tuple[str, np.ndarray]]:
    """Group users by their number of train interactions, into groups of about equal size.

    Users with the same number of interactions are in the same group.

    Args:
        degree: number of train interactions of each user. Shape: (users,)
        n_groups: largest number of groups.

    Returns:
        For each group, a label such as ``3–5`` interactions, and a mask of the group's users. Shape
        of the mask: (users,), bool
    """
    shares = np.arange(n_groups) / n_groups
    edges = np.unique(np.quantile(degree, shares, method="inverted_cdf")).astype(int)
    groups = []
    for low, high in zip(edges, [*edges[1:], degree.max() + 1], strict=True):
        label = str(low) if high == low + 1 else f"{low}–{high - 1}"
        groups.append((label, (degree >= low) & (degree < high)))
    return groups


def _groups(comparison: Comparison) -> Picture | None:
    metric = comparison.tested_metrics[0]
    entries = [entry for entry in comparison.done() if entry.users is not None]
    if comparison.degree is None or not entries:
        return None
    groups = degree_groups(comparison.degree)
    recall = {
        entry.label: [float(users[metric][members].mean()) for _, members in groups]
        for entry in entries
        if (users := entry.users) is not None
    }
    base = next((entry for entry in entries if entry is comparison.reference), entries[0])
    base_recall = recall[base.label]

    def draw(axes: Any) -> None:
        shown = [0.0]  # the base's difference from itself, in case all other lines are grey
        for entry in entries:
            colour, marker = _look(comparison, entry)
            difference = np.subtract(recall[entry.label], base_recall)
            if colour != _GREY:
                shown += [difference.min(), difference.max()]
            axes.plot(
                difference,
                marker=marker,
                color=colour,
                markerfacecolor="white" if _is_teacher(entry) else colour,
                linestyle=":" if _is_teacher(entry) else "-",
                markersize=2 if colour == _GREY else 4.5,
                linewidth=2 if entry is comparison.reference else 1,
                **_line_look(colour, entry.label),
            )
        labels = [
            f"{label}\n{members.sum():,} users\n{short(value)}"
            for (label, members), value in zip(groups, base_recall, strict=True)
        ]
        axes.set_xticks(range(len(groups)), labels)
        axes.margins(x=0.08)
        axes.set_ylim(*_margins(min(shown), max(shown)))
        axes.set_xlabel(f"train interactions of a user, users, {base.label}'s {_title(metric)}")
        axes.set_ylabel(f"test {_title(metric)} − {base.label}'s")
        _legend(axes)

    values_text = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{short(value)} for {label}" for value, (label, _) in zip(values, groups, strict=True)
        )
        for name, values in recall.items()
    )
    return Picture(
        "groups",
        svg_of(draw),
        f"{_title(metric)} minus {base.label}'s, for users grouped by their number of train "
        "interactions; all groups have about the same number of test users. Grey lines may leave "
        "the picture.",
        f"{_title(metric)} by train interactions of a user. {values_text}.",
    )


# --- drawing ----------------------------------------------------------------------------------


def _look(comparison: Comparison, entry: Entry) -> tuple[str, str]:
    """Colour and marker of a model, the same in every picture."""
    if entry.model == "LightGNN":
        return _OURS, "o"
    best = sorted(comparison.done(), key=lambda one: -one.mean(comparison.tested_metrics[0]))
    others = dict.fromkeys(one.model for one in best if one.model != "LightGNN")
    place = list(others).index(entry.model)
    colour = _COLOURS[place] if place < len(_COLOURS) else _GREY
    return colour, _MARKERS[place % len(_MARKERS)]


def _line_look(colour: str, label: str | None) -> dict[str, Any]:
    """Style of a line: grey lines are faint, behind the others and not in the legend."""
    return {"alpha": 0.35, "zorder": 1} if colour == _GREY else {"label": label, "zorder": 2}


def _is_teacher(entry: Entry) -> bool:
    return entry.model == "LightGNN" and not (entry.key or "").startswith("student")


def _title(metric: str) -> str:
    return metric.replace("recall", "Recall").replace("ndcg", "NDCG")


def _legend(axes: Any) -> None:
    if any(line.get_color() == _GREY for line in axes.lines):
        axes.plot([], [], color=_GREY, alpha=0.35, label="the others")
    axes.figure.legend(loc="outside lower center", ncols=3, handlelength=2.2, columnspacing=1.2)
