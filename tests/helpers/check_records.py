"""Train recorded runs again, and compare their scores with the records.

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
from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.settings_diff import model_settings, shared_settings
from recbole_lightgnn.quick_start import choose, configure, run
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
    return list(chain.from_iterable(curves))


def differing(record, label):
    """Settings of a variant, and those of the record that a run with today's defaults lacks."""
    variants = read_variants(VARIANTS, model_names())
    variant = variants[label].settings if label in variants else {}
    if record["settings"].get("recipe") == "auto":
        variant = variant | {"recipe": "auto"}
    config = configure(record["model"], record["dataset"], settings=variant)
    today = shared_settings(config) | model_settings(config)
    saved = renamed(record["settings"])
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
    if not expected and record["rows"][-1].get("epochs", 0) > 1:
        print(f"{label}: the record has no validation of each epoch: give --whole")
        return False
    expected = expected or [record["best_valid"][record["valid_metric"]]]

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


def records_of(path):
    """The records of a comparison's folder, or of a JSON file, with their names; short ones first.

    The names in a folder are those of its runs.
    """
    if path.is_dir():
        files = path.glob("runs/*/record.json")
        named = [(file.parent.name, json.loads(file.read_text())) for file in files]
    else:
        content = json.loads(path.read_text())
        every = content if isinstance(content, list) else [content]
        named = [(f"{one.get('name', one['model'])}-{one['seed']}", one) for one in every]
    return sorted(named, key=lambda pair: pair[1]["seconds"])


def check_one(name, record, args):
    """Check one run in this process; return whether it is as recorded."""
    torch.set_num_threads(record["environment"]["threads"])
    label = name.rpartition("-")[0]
    if any("search" in row for row in record["rows"]):
        print(f"{label}: its teachers were found in limited time; train it by its recipe.yaml")
        return False
    if record["seconds"] < 60 * args.whole:
        return check_whole(record, label)
    return check(record, label, args.seconds)


def main():
    """Check every record, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder of a comparison, or file of records")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--whole", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--only", help="names of runs, with commas")
    parser.add_argument("--one", help="name of the run to check in this process")
    args = parser.parse_args()
    named = dict(records_of(args.records))
    if args.one:
        sys.exit(not check_one(args.one, named[args.one], args))
    names = args.only.split(",") if args.only else list(named)
    if unknown := set(names) - named.keys():
        parser.error(f"there is no run {', '.join(sorted(unknown))} among {', '.join(named)}")
    options = [f"--seconds={args.seconds}", f"--whole={args.whole}"]
    command = [sys.executable, __file__, *options, str(args.records.resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for name in names:
        done = subprocess.run(
            [*command, f"--one={name}"], env=environment, capture_output=True, text=True
        )
        lines = done.stdout.rpartition("\r")[2].strip().splitlines()
        print("\n".join(lines[-2 if done.returncode else -1 :]) or done.stderr[-300:])
        failed += [name] if done.returncode else []
        sys.stdout.flush()
    print(f"{len(names) - len(failed)} of {len(names)} runs as recorded; others: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
