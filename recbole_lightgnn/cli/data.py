"""The command ``recbole-lightgnn data list | show | check | download | generate``.

Heavy libraries are imported only in the functions that need them.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_config_files_flag, add_model_flag
from recbole_lightgnn.cli.text import aligned

# The keys of download.BLOB_IDS, repeated here because importing `download` is slow.
PAPER_DATASETS = ("amazon", "gowalla", "yelp")


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``data`` to the subparsers ``commands``; return the parsers of its actions."""
    data = commands.add_parser("data", help="list, inspect, check, download and generate datasets")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the datasets")
    show = actions.add_parser("show", help="show counts, degrees and overlaps of a dataset")
    check = actions.add_parser("check", help="check a dataset; exit with status 1 if it has errors")
    download = actions.add_parser("download", help="download and import a split of the paper")
    generate = actions.add_parser(
        "generate", help="generate a small dataset with known communities and noise"
    )
    parsers = [listing, show, check, download, generate]
    for parser in (show, check):
        parser.set_defaults(takes_settings=True)
        parser.epilog = (
            "Settings of a run that say how its files are read are given as --key=value, such as "
            "--field_separator=, --USER_ID_FIELD=uid --encoding=latin-1."
        )
        add_model_flag(parser)
        add_config_files_flag(parser)
    for parser in (show, check, generate):
        parser.add_argument("name", metavar="NAME", help="the dataset's name, as for --dataset")
    download.add_argument(
        "name", metavar="NAME", choices=PAPER_DATASETS, help=f"a split: {', '.join(PAPER_DATASETS)}"
    )
    for parser in parsers:
        parser.add_argument(
            "--data_path",
            type=Path,
            default=None if parser in (show, check) else Path("dataset"),
            help="folder of datasets (default: dataset)",
        )
    for parser in (listing, show, check):
        parser.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the degrees to a file")
    for parser in (download, generate):
        parser.add_argument(
            "--overwrite", action="store_true", help="replace an existing dataset of this name"
        )
    _add_download_flags(download)
    for key, meaning in {
        "users": "number of users (default: 90)",
        "items": "number of items (default: 60)",
        "communities": "number of communities of users and items (default: 3)",
        "noise": "train interactions per user outside the community (default: 1)",
        "seed": "seed of the random choices (default: 0)",
    }.items():
        generate.add_argument(f"--{key}", type=int, metavar="N", help=meaning)
    listing.set_defaults(handler=_list)
    show.set_defaults(handler=_show)
    check.set_defaults(handler=_check)
    download.set_defaults(handler=_download)
    generate.set_defaults(handler=_generate)
    return parsers


def _add_download_flags(download: argparse.ArgumentParser) -> None:
    download.add_argument("--url", help="web address of a copy of the paper's folder Datasets")
    download.add_argument("--cache", type=Path, metavar="FOLDER", help="folder of downloaded files")
    download.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="give up after S seconds without data (default: 30)",
    )
    download.add_argument(
        "--no-import", action="store_true", help="download the files without importing them"
    )


# --- list, show, check ----------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from recbole_lightgnn.data.dataset_files import find_datasets
    from recbole_lightgnn.data.inspect import summary

    rows = [summary(dataset) for dataset in find_datasets(options.data_path)]
    if options.json:
        _print_json(rows)
        return 0
    lines = [["dataset", "pairs", "splits", "format", "folder"]]
    for row in rows:
        splits = " / ".join(row["pairs"]) if len(row["pairs"]) > 1 else "one file"
        pairs = " / ".join(map(str, row["pairs"].values()))
        lines.append([row["name"], pairs, splits, row["format"] or "-", row["folder"]])
    print(aligned(lines))
    return 0


def _find(options: argparse.Namespace, settings: Mapping[str, Any]) -> Any:
    """Find the dataset, by the settings that the command ``run`` would use here."""
    from recbole_lightgnn.config.recbole_config import build_config
    from recbole_lightgnn.data.dataset_files import find_dataset
    from recbole_lightgnn.quick_start import names

    given = {"load_col": None, **settings}  # read every column, because a run may read any
    if options.data_path is not None:
        given["data_path"] = str(options.data_path)
    files = options.config_files.split()
    model, _ = names(options.model, options.name, files)
    config = build_config(model, options.name, files, given)
    return find_dataset(options.name, Path(config["data_path"]).parent, config)


def _show(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    from recbole_lightgnn.data.dataset_files import read_dataset
    from recbole_lightgnn.data.inspect import statistics

    if options.plot is not None:
        from recbole_lightgnn.data import picture
        from recbole_lightgnn.utils.files import check_can_draw

        check_can_draw(options.plot)
    dataset = _find(options, settings)
    content = read_dataset(dataset)
    facts = statistics(dataset, content)
    if options.json:
        _print_json(facts)
    else:
        print(statistics_text(facts))
    if options.plot is not None:
        picture.draw_degrees(options.name, content, options.plot)
        print(f"picture: {options.plot}", file=sys.stderr if options.json else sys.stdout)
    return 0


def _check(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    from recbole_lightgnn.data.check import check
    from recbole_lightgnn.data.dataset_files import read_dataset
    from recbole_lightgnn.data.inspect import count_text

    dataset = _find(options, settings)
    findings = check(dataset, read_dataset(dataset))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    if options.json:
        rows = [finding._asdict() for finding in findings]
        _print_json({"name": options.name, "ok": not errors, "findings": rows})
    else:
        for finding in findings:
            print(f"{finding.level}: {finding.message}")
        print(f"{options.name}: {count_text(errors, 'error')}, {count_text(warnings, 'warning')}")
    return 1 if errors else 0


def statistics_text(facts: dict[str, Any]) -> str:
    """Format the statistics of a dataset (``inspect.statistics``) as text for the terminal."""
    origin = f", {facts['format']} from {facts['source']}" if facts["format"] else ""
    splits = facts["splits"]
    counts = [["", "pairs", "users", "items", "density"]]
    counts += [
        [split, *(str(row[key]) for key in ("pairs", "users", "items")), f"{row['density']:.4%}"]
        for split, row in splits.items()
    ]
    lines = [
        f"{facts['name']}: {facts['folder']}{origin}",
        f"{facts['users']} users, {facts['items']} items, {facts['pairs']} pairs, "
        f"density {facts['density']:.4%}",
        "",
        aligned(counts, numbers=True),
        "",
        aligned(_degree_table(splits), numbers=True),
    ]
    if "without_train" in facts:
        lines += ["", _without_train_line(facts), *_overlap_lines(facts["overlap"])]
    return "\n".join(lines)


def _degree_table(splits: dict[str, Any]) -> list[list[str]]:
    rows = {
        f"{what}, {split}": row[f"{what}_degree"]
        for what in ("user", "item")
        for split, row in splits.items()
        if row["pairs"]
    }
    columns = list(next(iter(rows.values()), {}))
    table = [
        [f"{name} degree", *(f"{degree[key]:.4g}" for key in columns)]
        for name, degree in rows.items()
    ]
    return [["", *columns], *table]


def _without_train_line(facts: dict[str, Any]) -> str:
    without, splits = facts["without_train"], facts["splits"]
    shares = (
        f"{count} of {split} ({count / max(1, splits[split]['pairs']):.1%})"
        for split, count in without["pairs"].items()
    )
    return (
        f"without a train pair: {without['users']} users, {without['items']} items; pairs of them: "
        f"{', '.join(shares)}"
    )


def _overlap_lines(overlap: dict[str, Any]) -> list[str]:
    return [
        f"in {both.replace('-', ' and ')}: {row['pairs']} pairs, {row['users']} users, "
        f"{row['items']} items"
        for both, row in overlap.items()
    ]


# --- download, generate ---------------------------------------------------------------------


def _download(options: argparse.Namespace) -> int:
    from recbole_lightgnn.data.download import URL, download, download_and_import

    how = {
        "url": URL if options.url is None else options.url,
        "cache": options.cache,
        "timeout": options.timeout,
    }
    if options.no_import:
        print(f"downloaded {download(options.name, **how)}")
        return 0
    folder = download_and_import(
        options.name, options.data_path, overwrite=options.overwrite, **how
    )
    _print_written(folder, options)
    return 0


def _generate(options: argparse.Namespace) -> int:
    from recbole_lightgnn.data.generate import World, generate

    given = {key: getattr(options, key) for key in World._fields}
    world = World(**{key: value for key, value in given.items() if value is not None})
    folder = generate(options.name, world, options.data_path, options.overwrite)
    _print_written(folder, options)
    return 0


def _print_written(folder: Path, options: argparse.Namespace) -> None:
    flag = "" if options.data_path == Path("dataset") else f" --data_path={options.data_path}"
    print(f"wrote {folder}; run it with --dataset={options.name}{flag}")


# --- printing -------------------------------------------------------------------------------


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
