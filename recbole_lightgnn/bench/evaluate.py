"""Our full ranking of a test split, from final embeddings to metrics, against RecBole's ranking.

RecBole's trainer evaluates RecBole's LightGCN (64 columns) with either ranking. The embeddings are
random, but each user's embedding is moved towards the user's test items. This gives about as many
hits as after training.
"""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import Tensor

from recbole_lightgnn.bench.measure import WrongResult, conditions, measure, row
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.trainer.evaluation import METRICS
from recbole_lightgnn.trainer.recbole_evaluation import rank_by_tables

SECONDS = 60.0  # measuring time
LEAN = 0.3  # on Yelp, 15 % of the users then have a hit in the top 40, as after training
CUT_OFFS = [10, 20, 40]
SETTINGS = {
    "embedding_size": 64,
    "n_layers": 3,
    "require_pow": True,
    "metrics": ["Recall", "NDCG", "Hit", "Precision", "MRR", "MAP"],
    "topk": CUT_OFFS,
    "valid_metric": "NDCG@20",
    "metric_decimal_place": 17,
    "show_progress": False,
}
# Tolerances of a metric. In double precision, the order of summation does not change the ranking.
# In single precision, items with nearly equal scores may change places, and so may metrics.
EXACT, ROUNDED = 1e-9, 1e-4
OURS, PLAIN, LARGE, DEFAULT = (
    "ours",
    "product and torch.topk",
    "RecBole's, 40960000 scores a batch",
    "RecBole's, 4096",
)
Metrics = Mapping[str, float]


def run(dataset: str) -> dict[str, Any]:
    """Check that every evaluation gives RecBole's metrics, then measure its time and its memory.

    Args:
        dataset: name of a dataset in ``dataset/``, or ``ml-100k``.

    Returns:
        The result, for a JSON file. ``deviation``: largest relative error of a metric in double
        precision. ``extra_memory_mb``: additional peak memory of each evaluation (see
        `_with_memory`). ``rows``: seconds of each evaluation.

    Raises:
        InputError: if the dataset cannot be read.
        WrongResult: if a metric differs from RecBole's metric by more than 1e-9 in double
            precision, or by more than 1e-4 in single precision.
    """
    before = conditions()
    config = build_config("LightGCN", dataset, (), SETTINGS)
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = load_data(config)
    model = LightGCN(config, train.dataset).to(config["device"])
    user, item = _drawn_tables(model, test)
    contenders = {
        OURS: _ours(config, model, test),
        PLAIN: _plain(model, test),
        LARGE: _recboles(dataset, model, test, 40_960_000),
        DEFAULT: _recboles(dataset, model, test, 4096),
    }
    model.restore_user_e, model.restore_item_e = user.double(), item.double()
    deviation = _compare({name: contenders[name]() for name in (OURS, PLAIN, LARGE)}, EXACT)
    model.restore_user_e, model.restore_item_e = user, item
    metrics, memory = _with_memory(contenders)
    _compare(metrics, ROUNDED)
    if final_tables(model) is None:
        raise WrongResult(f"{OURS}: LightGCN was not recognized as a model with scoring tables")
    seconds = measure(contenders, seconds=SECONDS)
    return {
        "bench": "evaluate",
        "graph": dataset,
        "users": model.n_users - 1,  # without RecBole's padding
        "items": model.n_items - 1,
        "interactions": train.dataset.inter_num,
        "width": SETTINGS["embedding_size"],
        "ranked_users": len(test.uid_list),
        "deviation": deviation,
        "extra_memory_mb": memory,
        "conditions": before,
        "rows": [row("metrics", seconds)],
        "notes": [
            f"{len(test.uid_list)} users ranked, {metrics[OURS]['hit@40']:.0%} of them with a hit "
            "in 40; from final embeddings to metrics, without propagation",
            f"peak memory above the memory in use before, MB: {_listed(memory)}",
        ],
    }


def _drawn_tables(model: LightGCN, loader: FullSortEvalDataLoader) -> tuple[Tensor, Tensor]:
    """Random embeddings that rank some test items high. Shapes: (users, width), (items, width)"""
    user, item = (torch.randn(n, model.latent_dim) for n in (model.n_users, model.n_items))
    for number in loader.uid_list.tolist():
        user[number] += LEAN * item[loader.uid2positive_item[number]].mean(dim=0)
    return user.to(model.device), item.to(model.device)


def _ours(config: Any, model: LightGCN, loader: FullSortEvalDataLoader) -> Callable[[], Metrics]:
    """Function that evaluates with our ranking in RecBole's trainer."""
    trainer = Trainer(config, model)
    rank_by_tables(trainer)
    return partial(trainer.evaluate, loader, load_best_model=False)


def _recboles(
    dataset: str, model: LightGCN, loader: FullSortEvalDataLoader, batch: int
) -> Callable[[], Metrics]:
    """Function that evaluates with RecBole's unmodified trainer, ``batch`` scores at a time."""
    config = build_config("LightGCN", dataset, (), {**SETTINGS, "eval_batch_size": batch})
    batched = FullSortEvalDataLoader(config, loader._dataset, loader._sampler)
    return partial(Trainer(config, model).evaluate, batched, load_best_model=False)


@torch.no_grad()
def _plain(model: LightGCN, loader: FullSortEvalDataLoader) -> Callable[[], Metrics]:
    """Function that evaluates 64 MB of scores at once by matrix product, mask and ``torch.topk``.

    The indices of masked and relevant items are not part of the measured time.
    """
    chunks = []
    for users in loader.uid_list.split(max(1, (1 << 24) // model.n_items)):
        lists = (loader.uid2history_item, loader.uid2positive_item)
        chunks.append((users, *(_indices(items[users.numpy()]) for items in lists)))
    n_relevant = loader.uid2items_num[loader.uid_list.numpy()]

    def evaluate() -> Metrics:
        parts = []
        for users, masked, relevant in chunks:
            scores = model.restore_user_e[users] @ model.restore_item_e.T  # (users, items)
            scores[:, 0] = -torch.inf
            scores[masked] = -torch.inf
            wanted = torch.zeros_like(scores, dtype=torch.bool)
            wanted[relevant] = True
            parts.append(wanted.gather(1, scores.topk(max(CUT_OFFS)).indices).cpu())
        hits = torch.cat(parts).numpy()
        by_cut_off = {m.lower(): METRICS[m.lower()](hits, n_relevant) for m in SETTINGS["metrics"]}
        return {
            f"{metric}@{k}": float(values[:, k - 1].mean())
            for metric, values in by_cut_off.items()
            for k in CUT_OFFS
        }

    return evaluate


def _indices(lists: np.ndarray) -> tuple[Tensor, Tensor]:
    """Row and column numbers; ``lists`` holds a tensor of column numbers for each row."""
    sizes = torch.tensor([len(part) for part in lists])
    return torch.arange(len(lists)).repeat_interleave(sizes), torch.cat(list(lists))


def _compare(metrics: Mapping[str, Metrics], tolerance: float) -> float:
    """Largest error of a metric, divided by the largest of RecBole's metrics.

    Raises:
        WrongResult: if a metric is missing, or is wrong by more than ``tolerance``.
    """
    truth, worst = metrics[LARGE], 0.0
    for name, values in metrics.items():
        if values.keys() != truth.keys():
            raise WrongResult(f"{name}: metrics {', '.join(values)}, not {', '.join(truth)}")
        for metric, expected in truth.items():
            error = float(abs(values[metric] - expected))
            if not error <= tolerance:  # also true for NaN
                raise WrongResult(f"{name}: {metric} is {values[metric]}, not {expected}")
            worst = max(worst, error)
    return worst / max(truth.values())


def _with_memory(
    contenders: Mapping[str, Callable[[], Metrics]],
) -> tuple[dict[str, Metrics], dict[str, float | None]]:
    """Run each evaluation; return its metrics and its memory.

    Returns:
        First, the metrics of each evaluation, by name. Second, the peak memory of each evaluation
        minus the memory in use before it, in 10^6 bytes; ``None`` if the system does not report the
        memory (any system but Linux).
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    metrics: dict[str, Metrics] = {}
    memory: dict[str, float | None] = {}
    for name, contender in contenders.items():
        before = None
        with contextlib.suppress(OSError):
            reset.write_text("5")  # resets the peak
            before = _megabytes(status, "VmRSS")
        metrics[name] = contender()
        memory[name] = None if before is None else _megabytes(status, "VmHWM") - before
    return metrics, memory


def _megabytes(status: Path, name: str) -> float:
    """Read the amount of memory ``name`` from ``/proc/self/status``, in 10^6 bytes."""
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def _listed(memory: Mapping[str, float | None]) -> str:
    return "; ".join(f"{name} {'?' if mb is None else f'{mb:.0f}'}" for name, mb in memory.items())
