"""Fuzz the settings of ``recbole-lightgnn run``: ``make fuzz ARGS="--minutes=5"``.

Hypothesis draws a model, RecBole's or ours, and a few of its settings, or single keys of mappings
such as ``eval_args``. Values are valid, nearly valid, or of other types. Each run is one epoch on a
small dataset.

A run must end with status 0, or with status 2 and one line of error. A finding is any other end, or
a run of more than `SECONDS_PER_RUN`. Hypothesis minimizes it.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from recbole.utils import argument_list

from helpers.planted import QUICK, write_planted
from helpers.recbole_world import recbole_models, write_world
from recbole_lightgnn.cli.main import main as command
from recbole_lightgnn.config.files import defaults_of, recbole_yaml
from recbole_lightgnn.config.schema import describe, unlisted
from recbole_lightgnn.registry import our_models

SECONDS_PER_RUN = 60
_ROUND = 25  # runs between two checks of the time
# Settings that choose folders and files, or use the network, a GPU or other processes.
_LEFT_OUT = {
    *("data_path", "checkpoint_dir", "dataset", "model", "config_files", "log_wandb", "nproc"),
    *("wandb_project", "local_rank", "worker", "state", "result_file", "resume", "url"),
    *("dataset_save_path", "dataloaders_save_path", "save_dataset", "save_dataloaders"),
}
# Models that are slow, or need libraries that are not installed.
_MODELS_LEFT_OUT = {"RippleNet", "DIEN", "DIN", "NNCF", "S3Rec", "RaCT", "ConvNCF", "Caser"}

_NEED_LABELS = {name for kind, name in recbole_models() if kind == "context_aware"}

# Parts of mappings; each also occurs misspelt.
_NESTED: dict[str, dict[str, list[Any]]] = {
    "eval_args": {
        "split": [{"RS": [0.8, 0.1, 0.1]}, {"LS": "valid_and_test"}, {"LS": "test"}, {"RS": [8, 1]},
                  {"LS": "valid"}, {"RS": [0.8, 0.2]}, {"RS": [1, 0, 0]}, {"TS": [0.8, 0.1, 0.1]},
                  {"RS": [0.8, 0.1, 0.1], "LS": "test"}, "RS", None, {"RS": "0.8"}, {"XS": 1}],
        "order": ["RO", "TO", "ro", None, 1],
        "group_by": ["user", None, "item", "none"],
        "mode": ["full", "uni100", "pop5", "labeled", "uni-5", "uniform100", "uni", None, 3,
                 {"valid": "uni10", "test": "full"}, {"test": "pop3"}, {"valid": "labeled"}],
    },
    "train_neg_sample_args": {
        "distribution": ["uniform", "popularity", "none", None, "unifrom", 1],
        "sample_num": [1, 2, 0, -1, "3", 50],
        "alpha": [1.0, 0, -1, "x"],
        "dynamic": [False, True, "yes"],
        "candidate_num": [0, 3, -1],
    },
    "load_col": {
        "inter": [["user_id", "item_id"], ["user_id", "item_id", "rating", "timestamp"],
                  ["item_id"], ["user_id", "item_id", "stars"], None, "*", []],
        "user": [["user_id", "age"], "*", ["age"], []],
        "item": [["item_id", "class"], "*", ["item_id", "genre"]],
        "kg": [["head_id", "relation_id", "tail_id"], []],
        "net": [["a"]],
    },
    "val_interval": {
        "rating": ["[3,inf)", "3,inf", 5, "[5,1]", "(0,2];[4,5]", None, ["3"]],
        "timestamp": ["[0,inf)", "x"],
        "stars": ["[0,1]"],
    },
    "threshold": {"rating": [4, "4", 0, None], "stars": [1]},
    "clip_grad_norm": {"max_norm": [5, -1, "x"], "norm_type": [2, 0, "inf"], "norm": [1]},
    "discretization": {
        "rating": [{"method": "ED", "bucket": 3}, {"method": "LD"}, {"method": 3}, "ED",
                   {"method": "ED"}, {"method": "ED", "bucket": 0}, {"bucket": 3}],
        "year": [{"method": "LD", "bucket": 3}, {"method": "ED", "bucket": 3, "buckets": 4}],
    },
    "seq_len": {"class": [1, 0, -1, "2"], "genre": [2], "year": [3]},
    "preload_weight": {"item_id": ["year", "class"], "x": ["y"]},
    "unload_col": {"inter": [["rating"], ["user_id"], "*"]},
    "unused_col": {"inter": [["rating"], ["user_id"]]},
}  # fmt: skip
_INTERVALS = ["[0,inf)", "[5,inf)", "5", 5, "[5", "(,)", ",", "[3,1]", "[a,b]", None, [1, 2]]
_TYPED: dict[str, list[Any]] = {
    "metrics": [["Recall"], ["NDCG", "GAUC"], ["AUC"], ["AUC", "Recall"], "MRR", ["LogLoss", "AUC"],
                ["ItemCoverage", "GiniIndex"], ["Recal"], [], None, ["RMSE"], [1]],
    "valid_metric": ["Recall@10", "NDCG@5", "AUC", "recall", "Recall@", "Recall@0", None, 3],
    "topk": [[5, 10], 5, [0], [-1], [100], [], "5", [1.5], None],
    "teachers": [[{"model": "Spectral", "embedding_size": 8}, {"model": "BPR", "epochs": 1}],
                 [{"model": "EASE", "weight": 2}, {"model": "Pop", "weight": 0.5}],
                 [{"model": "NeuMF", "epochs": 1}], [{"model": "EASE", "weight": 0}], [],
                 [{"model": "BPR", "weight": 1}, {"model": "EASE"}], [{"model": "Easy"}], [{}],
                 [{"model": "LightGNNTeacher", "topk": [3]}], "EASE", ["EASE"], None],
    "recipe": ["auto", "default", "paper", "x", None],
    "search_trials": [1, 2, 0, -1, "x", None],
    "learner": ["adam", "sgd", "adagrad", "rmsprop", "sparse_adam", "foo", None],
    "loss_type": ["CE", "BPR", "ce", None],
    "user_inter_num_interval": _INTERVALS,
    "item_inter_num_interval": _INTERVALS,
    "entity_kg_num_interval": _INTERVALS,
    "relation_kg_num_interval": _INTERVALS,
    "benchmark_filename": [None, ["a", "b", "c"], ["train"], "train"],
    "additional_feat_suffix": [None, "ent", ["ent", "rel"], ["x"], 3],
    "alias_of_user_id": [None, ["x"], "item_id"],
    "alias_of_item_id": [None, ["user_id"], ["ent_id"]],
    "numerical_features": [[], ["rating"], ["age", "year"], ["class"], "rating", None],
    "normalize_field": [None, ["rating"], ["class"], "rating"],
    "field_separator": ["\t", ",", "", None, "ab"],
    "seq_separator": [" ", ",", "", None],
    "gpu_id": ["0", 0, "", "0,1", "0;1", [0, 1], "cuda:0", -1, True, None],
    "tail_ratio": [0.1, 5, None, 0, -1, "x"],
    "encoding": ["utf-8", "utf8", "latin1", "utf-9", None],
    "rm_dup_inter": [None, "first", "last", "middle"],
    "transform": [None, "mask_itemseq", "crop_itemseq", "flip_itemseq", "x"],
}  # fmt: skip
_ANYTHING = [0, 1, -1, 2, 3, 0.5, -0.5, 1e-9, 1e9, "", "x", "3", "0.1", True, False, None, [], [0],
             [1, 2], ["x"], {}, {"x": 1}, float("nan"), float("inf")]  # fmt: skip


def near(value: Any) -> list[Any]:
    """Values like the default of a setting, and values nearly like it."""
    if isinstance(value, bool):
        return [value, not value, str(value), int(value)]
    if isinstance(value, int):
        return [value if abs(value) <= 256 else 64, 1, 2, 3, 7, 0, -1, "2", 1.5, [value]]
    if isinstance(value, float):
        return [value, value / 2, value * 10, 0.0, -value, 1, str(value), [value]]
    if isinstance(value, list):
        return [
            value,
            value[:1],
            value * 2,
            [],
            value[0] if value else None,
            [str(v) for v in value],
        ]
    if isinstance(value, str):
        return [value, value.upper(), value[:-1], value + "x", [value], None, ""]
    return [value]


def keys_of(model: str) -> dict[str, list[Any]]:
    """The settings of a model, each with values to draw from."""
    ours = model in our_models()
    defaults = {**recbole_yaml("overall"), **recbole_yaml("dataset/sample")}
    defaults |= defaults_of(model) if ours else recbole_yaml(f"model/{model}")
    names = {*defaults, *describe(model), *unlisted()}
    for group in ("general", "training", "evaluation", "dataset"):
        names |= set(getattr(argument_list, f"{group}_arguments"))
    return {
        key: _mostly_first(_TYPED[key])
        if key in _TYPED
        else _mostly_first(near(defaults.get(key))) + _ANYTHING
        for key in sorted(names - _LEFT_OUT)
    }


def _mostly_first(values: list[Any]) -> list[Any]:
    """Repeat the first two values, which are the most likely to be valid."""
    return values[:2] * 2 * len(values) + values


@st.composite
def runs(draw: st.DrawFn, models: list[str]) -> tuple[str, dict[str, Any]]:
    """Draw a model and up to three settings, by flag."""
    model = draw(st.sampled_from(models))
    known = keys_of(model)
    flags: dict[str, Any] = {}
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from([*known, *[*_NESTED] * 3, *[*_TYPED]]))
        if key in _NESTED and draw(st.integers(0, 5)):
            parts = _NESTED[key]
            inner = draw(st.sampled_from(sorted(parts)))
            value = draw(st.sampled_from(_mostly_first(parts[inner])))
            inner = draw(st.sampled_from([inner] * 19 + [inner[:-1]]))
            if draw(st.booleans()):
                flags[f"{key}.{inner}"] = value
            else:
                flags[key] = {
                    **(flags[key] if isinstance(flags.get(key), dict) else {}),
                    inner: value,
                }
        elif key in known or key in _TYPED:
            flags[key] = draw(st.sampled_from(known.get(key) or _TYPED[key]))
        else:
            flags[key] = draw(st.sampled_from(_ANYTHING))
    if draw(st.integers(0, 19)) == 0:
        key = draw(st.sampled_from(sorted(known)))
        flags[key[:-1] + draw(st.sampled_from(["", "s", "_"]))] = 1
    return model, flags


def arguments(model: str, flags: dict[str, Any]) -> list[str]:
    """Arguments of the command of a run."""
    quick = {"epochs": 1, "train_batch_size": 256, "show_progress": False, "state": "ERROR"}
    data = {"dataset": "world", "data_path": "dataset", "checkpoint_dir": "saved"}
    if model in our_models():
        quick |= {**QUICK, "epochs": 1, "topk": [5, 10], "n_pruning_runs": 1}
        quick = {key: value for key, value in quick.items() if key in {*keys_of(model), "state"}}
        if model != "LightGNN":
            quick.pop("intermediate_settings", None)
        if flags.get("teachers") or flags.get("recipe") == "auto":
            quick.pop("teacher_settings", None)
        if flags.get("recipe") == "auto":
            quick["search_trials"] = 2
    if model in _NEED_LABELS:
        columns = {"inter": ["user_id", "item_id", "rating"], "user": ["user_id", "age"]}
        data |= {"load_col": columns, "threshold": {"rating": 4}}
    given = {**quick, **data, **flags}
    return ["run", f"--model={model}", *(f"--{k}={_yaml(value)}" for k, value in given.items())]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value.isalnum() else json.dumps(value)


def ends(model: str, flags: dict[str, Any]) -> tuple[int, str]:
    """Run the command; return the status, and what was wrong with the end (empty if nothing)."""
    out, err = io.StringIO(), io.StringIO()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command(arguments(model, flags))
    logging.disable(logging.NOTSET)
    lines = [
        line for line in err.getvalue().splitlines() if line.startswith(("error:", "internal"))
    ]
    if status not in (0, 2):
        return status, f"status {status}: {' '.join(lines) or err.getvalue()[-300:]}"
    if status == 2 and len(lines) != 1:
        return status, f"{len(lines)} lines of error: {err.getvalue()[-300:]}"
    return status, ""


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def main() -> int:
    """Fuzz until the time is over, or until the first finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--all", action="store_true", help="go on after a finding")
    options = parser.parse_args()
    number = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    until, ended = time.monotonic() + 60 * options.minutes, Counter[str]()
    names = [name for kind, name in recbole_models() if kind != "exlib"]
    names = sorted({*names, *our_models()} - _MODELS_LEFT_OUT)
    warnings.simplefilter("ignore")
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_world(Path("dataset"))
        write_planted(Path("dataset"))
        print(f"seed {number}", flush=True)

        @settings(
            max_examples=_ROUND, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if options.all else [Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(run=runs(names))
        def a_run_ends_well(run: tuple[str, dict[str, Any]]) -> None:
            with _at_most(SECONDS_PER_RUN):
                status, wrong = ends(*run)
            ended["ran" if status == 0 else "refused"] += 1
            if wrong and options.all:
                print(wrong, " ".join(arguments(*run)[1:]), flush=True)
                found.add(wrong)
                return
            assert not wrong, f"{wrong}\n{' '.join(arguments(*run))}"

        for nth in itertools.count(number):
            try:
                seed(nth)(a_run_ends_well)()
            except (AssertionError, TimeoutError) as finding:
                print(f"{finding}, seed {nth}")
                return 1
            if time.monotonic() > until:
                break
    many = f"{len(found) or 'no'} finding in {ended['ran']} runs and {ended['refused']} refusals"
    print(f"{many}; seed {number}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
