"""The command ``recbole-lightgnn bench PART``.

The benchmarks and their flags are listed in ``_BENCHMARKS`` below.
Heavy libraries, such as torch, are imported only in `run`.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from recbole_lightgnn.bench.text import rows_text
from recbole_lightgnn.cli.options import add_dataset_flag, names, whole_number


class Benchmark(NamedTuple):
    """One benchmark: a part of the command ``bench``.

    Attributes:
        help: one line that says what is measured.
        add_flags: function that adds the benchmark's flags to its parser.
        call: function of the parsed flags. It returns the name of a module in
            `recbole_lightgnn.bench`, and the arguments of the module's function ``run``.
        aliases: alternative names of the benchmark.
        has_times: whether the benchmark's result has times, which ``--plot`` can draw.
    """

    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    call: Callable[[argparse.Namespace], tuple[str, tuple[Any, ...]]]
    aliases: tuple[str, ...] = ()
    has_times: bool = True


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``bench`` to the subparsers ``commands``; return the parsers of all benchmarks."""
    bench = commands.add_parser(
        "bench", help="check a part of the package, then measure it and its alternatives"
    )
    parts = bench.add_subparsers(dest="part", required=True, metavar="PART")
    return [_add_part(parts, name, benchmark) for name, benchmark in _BENCHMARKS.items()]


def _add_part(parts: Any, name: str, benchmark: Benchmark) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parts.add_parser(
        name, help=benchmark.help, aliases=benchmark.aliases
    )
    benchmark.add_flags(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to this file")
    if benchmark.has_times:
        parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the result")
    parser.set_defaults(handler=run, benchmark=benchmark, plot=None)
    return parser


def run(options: argparse.Namespace) -> int:
    """Run one benchmark and print its result; write and draw the result if files are given.

    Returns:
        0, the exit status.

    Raises:
        InputError: if a file cannot be written, or if the benchmark cannot use a flag.
        WrongResult: if a measured function computes a wrong result.
    """
    import torch

    from recbole_lightgnn.runs.record import environment
    from recbole_lightgnn.utils.allocator import keep_freed_memory
    from recbole_lightgnn.utils.files import check_can_draw, check_writable, plain, write_json

    if options.json is not None:
        check_writable("--json", options.json)
    if options.plot is not None:
        check_can_draw(options.plot)
    keep_freed_memory()  # as in a run
    name, arguments = options.benchmark.call(options)
    module = import_module(f"recbole_lightgnn.bench.{name}")
    result = module.run(*arguments)
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


# --- flags of the parts -------------------------------------------------------------------------


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    add_dataset_flag(parser)
    parser.set_defaults(dataset="ml-100k")


def _add_graph(parser: argparse.ArgumentParser) -> None:
    graph = parser.add_mutually_exclusive_group()
    graph.add_argument("--dataset", metavar="NAME", help="use the graph of a dataset in dataset/")
    graph.add_argument(
        "--interactions",
        type=int,
        metavar="N",
        help="number of interactions of a generated graph (default: as the paper's Yelp split)",
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "files",
        nargs="*",
        default=[],
        type=Path,
        metavar="FILE",
        help="exported models: measures cold start, one user, all users and memory",
    )
    models.add_argument(
        "--run", dest="folder", type=Path, metavar="FOLDER", help="run folder of trained students"
    )
    add_dataset_flag(models)
    parser.set_defaults(dataset="ml-100k")


def _add_forms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder of LightGNN")
    parser.add_argument(
        "--row",
        action="append",
        metavar="KEY",
        help="key of a student, such as student-05; may be given several times (default: the last)",
    )
    parser.add_argument(
        "--split",
        choices=("valid", "test"),
        default="valid",
        help="split to evaluate on (default: valid)",
    )


def _add_searched(parser: argparse.ArgumentParser) -> None:
    searched = parser.add_mutually_exclusive_group()
    searched.add_argument("file", nargs="?", type=Path, metavar="FILE", help="an exported model")
    searched.add_argument(
        "--items",
        type=whole_number,
        default=10**6,
        metavar="N",
        help="number of random items, without a file (default: 1e6)",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="an exported model")
    parser.add_argument(
        "--rate", type=float, default=300, metavar="N", help="requests per second (default: 300)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, metavar="N", help="duration in seconds (default: 60)"
    )


def _add_epochs(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument(
        "--models",
        type=names,
        default=[],
        metavar="A,B,...",
        help="names of models (default: every baseline)",
    )


def _add_lines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interactions", type=int, metavar="N", help="number of lines (default: 1000000)"
    )


def _add_largest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--largest",
        type=whole_number,
        metavar="N",
        help="number of interactions of the largest graph, such as 1e9 (default: 1e8)",
    )


def _add_largest_catalogue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--largest",
        type=whole_number,
        metavar="N",
        help="number of items of the largest catalogue, such as 1e5 (default: 1e6)",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--trials", type=int, default=24, metavar="N", help="search_trials")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="search_minutes")


_BENCHMARKS = {
    "ops": Benchmark(
        "sparse products, compared with torch's",
        _add_graph,
        lambda options: ("ops", (options.dataset, options.interactions)),
    ),
    "step": Benchmark(
        "a training step of LightGCN, compared with RecBole's",
        _add_dataset,
        lambda options: ("step", (options.dataset,)),
    ),
    "recbole": Benchmark(
        "a training step of RecBole's graph models, accelerated and unmodified",
        _add_dataset,
        lambda options: ("recbole_models", (options.dataset,)),
        aliases=("stock",),
    ),
    "epochs": Benchmark(
        "an epoch of every baseline, and its memory",
        _add_epochs,
        lambda options: ("epochs", (options.dataset, options.models)),
        has_times=False,
    ),
    "search": Benchmark(
        "the search for teachers (recipe auto), beside the runs without it",
        _add_search,
        lambda options: ("search", (options.dataset, options.trials, options.minutes)),
        has_times=False,
    ),
    "evaluate": Benchmark(
        "full ranking, compared with RecBole's evaluator",
        _add_dataset,
        lambda options: ("evaluate", (options.dataset,)),
    ),
    "infer": Benchmark(
        "inference: exported models, or students before export",
        _add_models,
        lambda options: (
            ("exported", (options.files,))
            if options.files
            else ("infer", (options.dataset, options.folder))
        ),
    ),
    "export": Benchmark(
        "every form of an exported model: bytes and accuracy",
        _add_forms,
        lambda options: ("export", (options.folder, options.row or (), options.split)),
        has_times=False,
    ),
    "approximate": Benchmark(
        "approximate search: recall and time",
        _add_searched,
        lambda options: ("approximate", (options.file, options.items)),
    ),
    "load": Benchmark(
        "the service under load: errors, seconds and memory",
        _add_load,
        lambda options: ("load", (options.file, options.rate, options.seconds)),
    ),
    "import": Benchmark(
        "import of a table, compared with pandas.read_csv",
        _add_lines,
        lambda options: ("imports", (options.interactions,)),
        has_times=False,
    ),
    "read": Benchmark(
        "reading an atomic file, compared with RecBole's reader",
        _add_lines,
        lambda options: ("read", (options.interactions,)),
    ),
    "catalogue": Benchmark(
        "a step of the softmax by users as the catalogue grows: all items and a sample",
        _add_largest_catalogue,
        lambda options: ("catalogue", (options.largest,)),
    ),
    "scale": Benchmark(
        "time and memory of a training step as graphs grow",
        _add_largest,
        lambda options: ("scale", (options.largest,)),
    ),
}
