"""The command ``recbole-lightgnn bench PART``.

Heavy libraries are imported only in the functions that run.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.text import rows_text


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
        "--run", dest="folder", type=Path, metavar="FOLDER", help="a run whose students are taken"
    )
    export = parts.add_parser("export", help="every form of an exported model: bytes and accuracy")
    export.add_argument("folder", type=Path, metavar="RUN", help="folder of a run of LightGNN")
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
        part.set_defaults(handler=run, plot=None)
        if name != "export":  # its rows are no times
            part.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the result")
    return list(parts.choices.values())


def run(options: argparse.Namespace) -> int:
    """Measure a part, print the result, and write and draw it if files for that are given.

    Returns:
        0, the exit status.

    Raises:
        InputError: if a file cannot be written, or as the part's own module says.
        WrongResult: if what was to be measured computes something else.
    """
    import torch

    from recbole_lightgnn.runs.record import environment
    from recbole_lightgnn.utils.allocator import keep_freed_memory
    from recbole_lightgnn.utils.files import check_can_draw, check_writable, plain, write_json

    if options.json is not None:
        check_writable("--json", options.json)
    if options.plot is not None:
        check_can_draw(options.plot)
    keep_freed_memory()  # as a run does
    name, arguments = _BENCHMARKS[options.part]
    if options.part == "infer" and options.files:
        name, arguments = "exported", lambda options: (options.files,)
    module = import_module(f"recbole_lightgnn.bench.{name}")
    result = module.run(*arguments(options))
    result["environment"] = environment(threads=torch.get_num_threads(), device="cpu")
    print(getattr(module, "text", rows_text)(result))
    if options.json is not None:
        write_json(options.json, plain(result))
        print(f"\nresult: {options.json}")
    if options.plot is not None:
        from recbole_lightgnn.bench import picture

        picture.draw(result, options.plot)
        print(f"picture: {options.plot}")
    return 0


# Of each part: its module in `recbole_lightgnn.bench`, and what the module's `run` is called with.
_BENCHMARKS: dict[str, tuple[str, Callable[[argparse.Namespace], tuple[Any, ...]]]] = {
    "ops": ("ops", lambda options: (options.dataset, options.interactions)),
    "step": ("step", lambda options: (options.dataset,)),
    "stock": ("stock", lambda options: (options.dataset,)),
    "evaluate": ("evaluate", lambda options: (options.dataset,)),
    "infer": ("infer", lambda options: (options.dataset, options.folder)),
    "export": ("export", lambda options: (options.folder, options.row or (), options.split)),
    "approximate": ("approximate", lambda options: (options.file, options.items)),
    "load": ("load", lambda options: (options.file, options.rate, options.seconds)),
    "import": ("imports", lambda options: (options.interactions,)),
    "scale": ("scale", lambda options: (options.largest,)),
}


def count(text: str) -> int:
    """A whole number, also as ``1e9``.

    Raises:
        ValueError: if it is none.
    """
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text} is no whole number")
    return int(number)
