"""Train the runs of a recorded comparison again, and compare each validation with the record.

``python tests/helpers/check_records.py results/comparison-yelp --seconds=60`` in a folder with the
dataset. Each training ends with the first validation after this time. Scores must be equal to
the last digit, which needs a processor like the record's. The exit status is 1 if one differs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import torch

from recbole_lightgnn.comparison.variants import read_variants
from recbole_lightgnn.config.settings_diff import model_settings, shared_settings
from recbole_lightgnn.quick_start import choose, configure
from recbole_lightgnn.registry import model_names, our_models

VARIANTS = Path(__file__).parents[2] / "properties" / "study" / "variants.yaml"
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
    saved = record["settings"]
    return variant | {
        key: saved[key]
        for key, value in today.items()
        if key not in _LEFT_OUT and key in saved and saved[key] != value
    }


def check(path, seconds):
    """Train one recorded run again; print what is equal, and return whether all is."""
    record = json.loads(Path(path, "record.json").read_text())
    torch.set_num_threads(record["environment"]["threads"])
    expected, got, started = recorded(record), [], time.monotonic()

    def after_validation(epoch, score):
        got.append(score)
        if got != expected[: len(got)] or time.monotonic() - started > seconds:
            raise Enough

    settings = {
        **differing(record, Path(path).name.rpartition("-")[0]),
        "seed": record["seed"],
        "show_progress": False,
    }
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
        f"{Path(path).name}: {len(got)} of {len(expected)} validations",
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
    parser.add_argument("--only", help="names of runs, with commas")
    parser.add_argument("--one", action="store_true", help="the folder is that of one run")
    args = parser.parse_args()
    if args.one:
        sys.exit(not check(args.comparison, args.seconds))
    runs = sorted(path.parent for path in args.comparison.glob("runs/*/record.json"))
    if args.only:
        runs = [run for run in runs if run.name in args.only.split(",")]
    command = [sys.executable, __file__, "--one", f"--seconds={args.seconds}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for run in runs:
        done = subprocess.run(
            [*command, run.resolve()], env=environment, capture_output=True, text=True
        )
        print(done.stdout.rpartition("\r")[2].strip().splitlines()[-1:] or done.stderr[-300:])
        failed += [run.name] if done.returncode else []
        sys.stdout.flush()
    print(f"{len(runs) - len(failed)} of {len(runs)} runs as recorded; others: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
