"""A training step of LightGCN, ours beside RecBole's, and a student's with all of Eq. 11.

LightGCN with BPR, d=64, 3 layers, batches of 2048: from the same start and on the same batches the
losses must be the same before anything is measured.
"""

from itertools import cycle
from typing import Any

from recbole.model.general_recommender import LightGCN as StockLightGCN
from recbole.utils import init_seed

from recbole_lightgnn.bench.lightgcn import BATCH, DECAY, N_LAYERS, WIDTH, LightGCN, step_of
from recbole_lightgnn.bench.measure import conditions, loss_deviation, measure
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.models.frozen_teacher import Frozen
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.models.teacher import LightGNNTeacher

CHECKED = 20  # steps whose losses are compared
SECONDS = 30.0
SETTINGS = {"embedding_size": WIDTH, "n_layers": N_LAYERS, "train_batch_size": BATCH}
OURS, THEIRS, MIXED, STUDENT = (
    "ours",
    "RecBole's",
    "RecBole's, by our products",
    "a student, all of Eq. 11",
)


def run(dataset: str) -> dict[str, Any]:
    """Check that the losses are the same, then measure the steps.

    Args:
        dataset: one that RecBole or an import has put under ``dataset/``, or ml-100k.

    Returns:
        The result, of plain values: ``deviation`` of the losses, ``seconds`` of a step by who takes
        it, ``times_ours``, their medians over ours.

    Raises:
        InputError: if the dataset cannot be read.
        WrongResult: if a loss differs from RecBole's by more than 1e-5.
    """
    before = conditions()
    config = build_config(
        "LightGCN", dataset, (), {**SETTINGS, "reg_weight": DECAY, "require_pow": True}
    )
    init_seed(config["seed"], config["reproducibility"])
    train = load_data(config)[0]
    batches = [batch for batch, _ in zip(train, range(CHECKED), strict=False)]

    def stock() -> StockLightGCN:
        init_seed(config["seed"], config["reproducibility"])
        return StockLightGCN(config, train.dataset)

    theirs, mixed = stock(), stock()
    accelerate_model(mixed)
    student = _student(dataset, train.dataset)
    ours = LightGCN(
        student.observed,
        theirs.user_embedding.weight.detach().clone(),
        theirs.item_embedding.weight.detach().clone(),
        n_layers=N_LAYERS,
        decay=DECAY,
    )
    steps = {
        OURS: step_of(ours, fused=True),
        MIXED: step_of(mixed, fused=False),
        THEIRS: step_of(theirs, fused=False),
        STUDENT: step_of(student, fused=True),
    }
    losses = {name: [step(batch) for batch in batches] for name, step in steps.items()}
    worst = max(loss_deviation(name, losses[name], losses[THEIRS]) for name in (OURS, MIXED))
    rounds = {name: cycle(batches) for name in steps}
    seconds = measure(
        {name: lambda name=name: steps[name](next(rounds[name])) for name in steps},
        seconds=SECONDS,
    )
    median = seconds[OURS]["median"]
    return {
        "bench": "step",
        "graph": dataset,
        "users": student.observed.n_users - 1,  # without RecBole's padding
        "items": student.observed.n_items - 1,
        "interactions": student.observed.n_edges,
        "width": WIDTH,
        "deviation": worst,
        "conditions": before,
        "notes": [
            f"the student compares {student.alignment.contrast_nodes} users and as many items with "
            f"{student.alignment.contrast_candidates} others (Eq. 6 and 9)"
        ],
        "rows": [
            {
                "operation": "a step",
                "seconds": seconds,
                "times_ours": {
                    name: taken["median"] / median
                    for name, taken in seconds.items()
                    if name != OURS
                },
            }
        ],
    }


def _student(dataset: str, train: Any) -> LightGNN:
    """A student pruned once, with every term of Eq. 11, taught by a new teacher."""
    common = {"embedding_size": WIDTH, "interaction_loss": "bpr"}
    teacher = LightGNNTeacher(build_config("LightGNNTeacher", dataset, (), common), train)
    terms = ("interaction", "prediction_kd", "embedding_kd", "uniformity", "reg")
    weights = {f"{term}_weight": 1e-3 for term in terms}
    settings = {**common, **weights, "prediction_kd": "pairwise"}
    student = LightGNN(build_config("LightGNN", dataset, (), settings), train)
    student.distill_from(Frozen(teacher))
    student.prune()  # before, Eq. 10 finds all nodes alike, and Eq. 9 is zero
    return student
