"""Write a made-up folder of a comparison: records, user metrics and failures, without training.

Every model has the same test users. A user's NDCG is .75 of its Recall, and a metric at 40 is 1.5
times the metric at 20, so that a test can compute every cell.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.runs.user_metrics import write_users

METRICS = ("recall@20", "ndcg@20", "recall@40", "ndcg@40")
FACTORS = dict(zip(METRICS, (1.0, 0.75, 1.5, 1.125), strict=True))
# Model -> rows of key, recall@20, embedding entries, bytes, seconds; the final model's row is last.
MODELS = {
    "LightGNN": [
        ("teacher", 0.095, 1.78e7, 7.12e7, 400),
        *(
            (f"student-{run:02d}", 0.0935 - 0.00001 * run**2, 4.45e6 * 0.8**run,
             1.85e7 * 0.83**run, 80)
            for run in range(12)
        ),
    ],
    "LightGCN": [("LightGCN", 0.0762, 4.45e6, 1.78e7, 2400)],
    "SGL": [("SGL", 0.0806, 4.45e6, 1.78e7, 3900)],
    "NCL": [("NCL", 0.0812, 4.45e6, 1.78e7, 5200)],
    "SimGCL": [("SimGCL", 0.0809, 4.45e6, 1.78e7, 4400)],
    "XSimGCL": [("XSimGCL", 0.0817, 4.45e6, 1.78e7, 1500)],
    "DirectAU": [("DirectAU", 0.0801, 4.45e6, 1.78e7, 1100)],
    "BPR": [("BPR", 0.0623, 4.45e6, 1.78e7, 700)],
    "NeuMF": [("NeuMF", 0.041, 8.9e6, 3.56e7, 2600)],
    "EASE": [("EASE", 0.079, 7.2e8, 2.88e9, 240)],
    "Pop": [("Pop", 0.0118, 2.7e4, 2.14e5, 0.6)],
}  # fmt: skip
FAILURE = "internal error: RuntimeError: not enough memory: you tried to allocate 18 GB"


def write_compared(
    folder: Path,
    models: tuple[str, ...] = tuple(MODELS),
    seeds: tuple[int, ...] = (1, 2, 3),
    *,
    n_users: int = 400,
    without: tuple[tuple[str, int], ...] = (),
    failed: tuple[tuple[str, int], ...] = (),
    without_users: tuple[str, ...] = (),
    data: Mapping[str, Any] = {},
    **changes: object,
) -> Path:
    """Write a comparison of some of `MODELS`.

    Args:
        folder: folder to write.
        models: models that were compared.
        seeds: seeds of the runs.
        n_users: number of test users.
        without: runs that are not done yet.
        failed: runs that failed.
        without_users: models without user metrics.
        data: counts and hashes of the data that are not the usual ones.
        changes: other content of ``comparison.json``.

    Returns:
        ``folder``.
    """
    test = {"pairs": 3 * n_users, "users": n_users, "items": 200, "sha256": "3" * 64}
    usual = {"users": n_users + 9, "items": 300, "train": test | {"pairs": 9 * n_users}}
    data = {**usual, "valid": test, "test": test, **data}
    content = {
        "schema_version": 1,
        "dataset": "madeup",
        "dataset_fingerprint": data,
        "protocol": {
            "valid_metric": "Recall@20",
            "valid_metric_bigger": True,
            "topk": [10, 20, 40],
        },
        "models": list(models),
        "seeds": list(seeds),
        "variants": {},
        "rows": None,
        "given": {},
        "settings": {model: "tuned" if model == "LightGNN" else "default" for model in models},
    }
    write(folder / "comparison.json", content | changes)
    degree = np.random.default_rng(0).geometric(0.2, n_users)
    for model in models:
        for seed in seeds:
            place = folder / "runs" / f"{model}-{seed}"
            if (model, seed) in failed:
                write(place / "failed.json", {"reason": FAILURE, "status": 1})
            elif (model, seed) not in without:
                _write_run(place, model, seed, data, degree, users=model not in without_users)
    return folder


def write(file: Path, content: object) -> None:
    """Write JSON; the folder is made if it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def _write_run(place, model, seed, data, degree, *, users):
    draws = np.random.default_rng([sum(map(ord, model)), seed])
    rows, of_users = [], {}
    for number, (key, recall, entries, n_bytes, seconds) in enumerate(MODELS[model]):
        # The first draw is the same for all models: some users are easier than others.
        found = np.random.default_rng(1).gamma(0.5, 2 * recall, len(degree)) * (0.8 + degree / 25)
        found = np.clip(found * draws.normal(1, 0.3, len(degree)), 0, 0.6)
        of_users[key] = {metric: factor * found for metric, factor in FACTORS.items()}
        test = {metric: float(values.mean()) for metric, values in of_users[key].items()}
        n_epochs = 1 if model in ("Pop", "EASE") else 5 if key.startswith("student") else 40
        at = np.arange(1, n_epochs + 1)
        scores = recall * (1.02 - (0.3 if number < 2 else 0.02) * np.exp(-4 * at / n_epochs))
        rows.append(
            {
                "key": key,
                "stage": key.partition("-")[0],
                "model": "LightGNNTeacher" if key == "teacher" else model,
                "entries": entries,
                "parameters": entries + (1e5 if key.startswith("student") else 0),
                "entries_kept": 0.8 ** int(key[-2:]) if key.startswith("student") else 1.0,
                "interactions_kept": 0.95 ** int(key[-2:]) if key.startswith("student") else 1.0,
                "bytes": n_bytes,
                "seconds": seconds * (1 + seed / 10),
                "test_seconds": 0.001 * seed,
                "valid": {metric: value + 0.004 for metric, value in test.items()},
                "test": test,
                "curve": {
                    "epoch": at.tolist(),
                    "seconds": (seconds * (1 + seed / 10) * at / n_epochs).tolist(),
                    "score": scores.tolist(),
                },
            }
        )
    if model == "LightGNN":
        rows[0]["settings"] = {"epochs": 9, "stopping_step": 2}
    if users:
        names = [str(user) for user in range(len(degree))]
        write_users(place / "record.users.npz", names, degree, of_users)
    record = {"model": model, "dataset": "madeup", "seed": seed, "masking": "train"}
    record |= {"valid_metric": "recall@20", "rows": rows, "dataset_fingerprint": data}
    record["settings"] = {"epochs": 300, "stopping_step": 10, "accelerate": True}
    record["settings"]["MODEL_TYPE"] = "TRADITIONAL" if model in ("Pop", "EASE") else "GENERAL"
    record["environment"] = {"processor": "Abacus 5", "cores": 2, "threads": 1, "device": "cpu"}
    write(place / "record.json", record)


def change(file, *gone, **changes):
    """Change a JSON file: remove the keys ``gone``, set ``changes``; return its new content."""
    content = {k: v for k, v in json.loads(file.read_text()).items() if k not in gone} | changes
    write(file, content)
    return content
