"""Train the runs of a recorded comparison again, and compare their scores with the record.

``python tests/helpers/check_records.py results/comparison-yelp --seconds=60`` in a folder with the
dataset. Each training ends with the first validation after this time. With ``--whole=MINUTES``, the
runs that took less than this are trained to their end, and their tests are compared too. Scores
must be equal to the last digit, which needs a processor like the record's. The exit status is 1 if
one differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import torch

from recbole_lightgnn.comparison.variants import read_variants
from recbole_lightgnn.config.settings_diff import model_settings, shared_settings
from recbole_lightgnn.quick_start import choose, configure, run
from recbole_lightgnn.registry import model_names, our_models

VARIANTS = Path(__file__).parents[2] / "properties" / "study" / "variants.yaml"
# Earlier names of settings.
_RENAMED = {"our_products": "accelerate"}
# Keys that a user does not set, or that do not affect the result.
_LEFT_OUT = {"checkpoint_dir", "data_path", "show_progress", "state", "seed", "tuned"}


class Enough(Exception):
    """Exception that ends a training after enough validations."""


def recorded(record):
    """All validation scores of our models in a record, in the order of the training.

    A run of our stages does not report the validations of a teacher that is RecBole's.
    """
    ours, last = our_models(), record["model"]
    rows = [row for row in record["rows"] if row["model"] in ours or row["model"] == last]
    curves = [row.get("curve", {}).get("score", []) for row in rows]
    return list(chain.from_iterable(curves)) or [record["best_valid"][record["valid_metric"]]]


def differing(record, label):
    """Settings of a variant, and those of the record that a run with today's defaults lacks."""
    variants = read_variants(VARIANTS, model_names())
    variant = variants[label].settings if label in variants else {}
    config = configure(record["model"], record["dataset"], settings=variant)
    today = shared_settings(config) | model_settings(config)
    saved = {_RENAMED.get(key, key): value for key, value in record["settings"].items()}
    return variant | {
        key: saved[key]
        for key, value in today.items()
        if key not in _LEFT_OUT and key in saved and saved[key] != value
    }


def again(record, label):
    """Settings that train a recorded run again."""
    return differing(record, label) | {"seed": record["seed"], "show_progress": False}


def metrics_of(record):
    """Validation and test metrics of all rows; RecBole's records had 16 decimals."""
    splits = [row[split] for row in record["rows"] for split in ("valid", "test")]
    return [{name: round(value, 15) for name, value in split.items()} for split in splits]


def check_whole(record, label):
    """Train one recorded run to its end; print what is equal, and return whether all is."""
    with tempfile.TemporaryDirectory() as folder:
        settings = again(record, label) | {"checkpoint_dir": folder}
        result = run(record["model"], record["dataset"], settings=settings)
    expected, got = metrics_of(record), metrics_of(result)
    same = got == expected
    print(f"{label}: {len(got)} lists of metrics, tests included,", "equal" if same else "DIFFER")
    if not same:
        pairs = [pair for pair in zip(expected, got, strict=False) if pair[0] != pair[1]]
        print(f"  first recorded, then now: {pairs[:1]}")
    return same


def check(record, label, seconds):
    """Train one recorded run for some time; print what is equal, and return whether all is."""
    expected, got, started = recorded(record), [], time.monotonic()

    def after_validation(epoch, score):
        got.append(score)
        if got != expected[: len(got)] or time.monotonic() - started > seconds:
            raise Enough

    settings = again(record, label)
    whole = True
    try:
        result = choose(
            record["model"], record["dataset"], settings=settings, after_validation=after_validation
        )
        got = got or [result["score"]]
    except Enough:
        whole = False
    same = got == (expected if whole else expected[: len(got)])
    print(
        f"{label}: {len(got)} of {len(expected)} validations",
        "equal" if same else "DIFFER",
    )
    if not same:
        print(f"  recorded {expected[: len(got)][-3:]}, now {got[-3:]}; settings {settings}")
    return same


def main():
    """Check every run of a comparison, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--whole", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--only", help="names of runs, with commas")
    parser.add_argument("--one", action="store_true", help="the folder is that of one run")
    args = parser.parse_args()
    if args.one:
        record = json.loads((args.comparison / "record.json").read_text())
        torch.set_num_threads(record["environment"]["threads"])
        label = args.comparison.name.rpartition("-")[0]
        if record["seconds"] < 60 * args.whole:
            sys.exit(not check_whole(record, label))
        sys.exit(not check(record, label, args.seconds))
    runs = [path.parent for path in args.comparison.glob("runs/*/record.json")]
    runs.sort(key=lambda path: json.loads((path / "record.json").read_text())["seconds"])
    if args.only:
        runs = [path for path in runs if path.name in args.only.split(",")]
    options = [f"--seconds={args.seconds}", f"--whole={args.whole}"]
    command = [sys.executable, __file__, "--one", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for path in runs:
        done = subprocess.run(
            [*command, path.resolve()], env=environment, capture_output=True, text=True
        )
        lines = done.stdout.rpartition("\r")[2].strip().splitlines()
        print("\n".join(lines[-2 if done.returncode else -1 :]) or done.stderr[-300:])
        failed += [path.name] if done.returncode else []
        sys.stdout.flush()
    print(f"{len(runs) - len(failed)} of {len(runs)} runs as recorded; others: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
