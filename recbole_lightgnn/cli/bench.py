"""The command ``recbole-lightgnn bench PART``.

The command line calls `add_parsers` and `run`; nothing heavy is imported before the latter.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``bench`` to the command line's subparsers; returns the parsers of its parts."""
    bench = commands.add_parser("bench", help="check and measure a part, beside what it beats")
    parts = bench.add_subparsers(dest="part", required=True, metavar="PART")

    ops = parts.add_parser("ops", help="the sparse products, beside torch's")
    graph = ops.add_mutually_exclusive_group()
    graph.add_argument("--dataset", metavar="NAME", help="its graph, from the folder dataset/")
    graph.add_argument(
        "--interactions",
        type=int,
        metavar="N",
        help="size of a generated graph (default: as the paper's Yelp split)",
    )
    step = parts.add_parser("step", help="a training step, beside RecBole's")
    stock = parts.add_parser("stock", help="a step of RecBole's graph models, by our products")
    evaluate = parts.add_parser("evaluate", help="full ranking, beside RecBole's evaluator")
    infer = parts.add_parser("infer", help="models in use: exported ones, or students before that")
    trained = infer.add_mutually_exclusive_group()
    trained.add_argument(
        "files",
        nargs="*",
        default=[],
        type=Path,
        metavar="FILE",
        help="a model's file: cold start, one user, all users and memory are measured",
    )
    trained.add_argument(
        "--run", type=Path, metavar="FOLDER", help="a run whose students are taken"
    )
    export = parts.add_parser("export", help="every form of an exported model: bytes and accuracy")
    export.add_argument("run", type=Path, metavar="RUN", help="folder of a run of LightGNN")
    export.add_argument(
        "--row", action="append", metavar="KEY", help="a student; may be given several times"
    )
    export.add_argument(
        "--split",
        choices=("valid", "test"),
        default="valid",
        help="what is ranked (default: valid)",
    )
    approximate = parts.add_parser("approximate", help="approximate search: what it misses")
    searched = approximate.add_mutually_exclusive_group()
    searched.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a model's file")
    searched.add_argument(
        "--items",
        type=count,
        default=10**6,
        metavar="N",
        help="random items instead (default: 1e6)",
    )
    load = parts.add_parser("load", help="the service under load: errors, seconds, memory")
    load.add_argument("file", type=Path, metavar="FILE", help="a model's file")
    load.add_argument(
        "--rate", type=float, default=300, metavar="N", help="requests a second (default: 300)"
    )
    load.add_argument(
        "--seconds", type=float, default=60, metavar="N", help="how long (default: 60)"
    )
    imports = parts.add_parser("import", help="a table's import, beside pandas.read_csv")
    imports.add_argument(
        "--interactions", type=int, metavar="N", help="lines of the table (default: 1000000)"
    )
    scale = parts.add_parser("scale", help="a training step's time and memory as graphs grow")
    scale.add_argument(
        "--largest",
        type=count,
        metavar="N",
        help="interactions of the largest graph, such as 1e9 (default: 1e8)",
    )
    for part, what in (
        (step, "learnt"),
        (stock, "learnt"),
        (evaluate, "ranked"),
        (trained, "pruned"),
    ):
        part.add_argument(
            "--dataset",
            metavar="NAME",
            default="ml-100k",
            help=f"what is {what} (default: ml-100k)",
        )
    for name, part in parts.choices.items():
        part.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
        part.set_defaults(plot=None)
        if name != "export":  # its rows are no times
            part.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the result")
    return list(parts.choices.values())


def run(
    options: argparse.Namespace,
    *,
    import_table: Callable[[Path, str, Path, bool], Path],
    environment: Callable[[], dict[str, Any]],
) -> int:
    """Measure what was asked, print it, and write and draw it where that is asked for.

    Args:
        options: of a parser of `add_parsers`.
        import_table: turns a table into a dataset (side rooms do not import each other).
        environment: what a time depends on besides the settings.

    Returns:
        0, the exit status.

    Raises:
        InputError: if a file cannot be written, or as the part's own module says.
        WrongResult: if what was to be measured computes something else.
    """
    from recbole_lightgnn.utils.allocator import keep_freed_memory
    from recbole_lightgnn.utils.files import check_can_draw, check_writable, plain, write_json

    if options.json is not None:
        check_writable("--json", options.json)
    if options.plot is not None:
        check_can_draw(options.plot)
    keep_freed_memory()  # as a run does
    shown = rows_text
    if options.part == "ops":
        from recbole_lightgnn.bench import ops

        result = ops.run(options.dataset, options.interactions)
    elif options.part == "step":
        from recbole_lightgnn.bench import step

        result = step.run(options.dataset)
    elif options.part == "stock":
        from recbole_lightgnn.bench import stock

        result = stock.run(options.dataset)
    elif options.part == "evaluate":
        from recbole_lightgnn.bench import evaluate

        result = evaluate.run(options.dataset)
    elif options.part == "scale":
        from recbole_lightgnn.bench import scale

        result, shown = scale.run(options.largest), scale.text
    elif options.part == "export":
        from recbole_lightgnn.bench import export

        result, shown = export.run(options.run, options.row or (), options.split), export.text
    elif options.part == "approximate":
        from recbole_lightgnn.bench import approximate

        result, shown = approximate.run(options.file, options.items), approximate.text
    elif options.part == "load":
        from recbole_lightgnn.bench import load

        result, shown = load.run(options.file, options.rate, options.seconds), load.text
    elif options.part == "infer" and options.files:
        from recbole_lightgnn.bench import exported

        result, shown = exported.run(options.files), exported.text
    elif options.part == "infer":
        from recbole_lightgnn.bench import infer

        result, shown = infer.run(options.dataset, options.run), infer.text
    else:
        from recbole_lightgnn.bench import imports

        result, shown = imports.run(import_table, options.interactions), imports.text
    result["environment"] = environment()
    print(shown(result))
    if options.json is not None:
        write_json(options.json, plain(result))
        print(f"\nresult: {options.json}")
    if options.plot is not None:
        from recbole_lightgnn.bench import picture

        picture.draw(result, options.plot)
        print(f"picture: {options.plot}")
    return 0


def rows_text(result: Mapping[str, Any]) -> str:
    """A benchmark's result for reading: one line per operation, ours first."""
    from tabulate import tabulate

    names = list(dict.fromkeys(name for row in result["rows"] for name in row["seconds"]))
    lines = [["", *(cell for name in names for cell in (name, ""))]]
    for row in result["rows"]:
        cells = [row["operation"]]
        for name in names:
            taken = row["seconds"].get(name)
            times = row["times_ours"].get(name)
            cells += [milliseconds(taken), "" if times is None else f"x {short(times)}"]
        lines.append(cells)
    return "\n".join(
        [
            *head_text(result),
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            "median (quartiles) in milliseconds; x: times ours",
            *result.get("notes", []),
            conditions_text(result),
        ]
    )


def head_text(result: Mapping[str, Any]) -> list[str]:
    """What was measured, and that it is right."""
    return [
        f"{result['graph']}: {result['users']} users, {result['items']} items, "
        f"{result['interactions']} interactions; width {result['width']}",
        f"all results are right, to {result['deviation']:.1g} of their largest entry",
    ]


def conditions_text(result: Mapping[str, Any]) -> str:
    """One line on the machine, its libraries, and what else it was doing."""
    where = result["environment"]
    libraries = (f"{name} {where['libraries'][name]}" for name in ("torch", "numpy", "scipy"))
    return (
        f"{where['threads']} threads of {where['processor']}, {where['cores']} cores; "
        f"{', '.join(libraries)}; load before: {result['conditions']['load']:.1f}"
    )


def count(text: str) -> int:
    """A whole number, also as ``1e9``.

    Raises:
        ValueError: if it is none.
    """
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text} is no whole number")
    return int(number)


def milliseconds(taken: Mapping[str, float] | None) -> str:
    """Median and quartiles of what `measure` found."""
    if taken is None:
        return "-"
    median, lower, upper = (short(1e3 * taken[k]) for k in ("median", "lower", "upper"))
    return f"{median} ({lower}-{upper})"


def short(number: float) -> str:
    """Three digits, or all of a whole number's."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
