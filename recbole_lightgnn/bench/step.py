"""A training step of our LightGCN and of RecBole's, and of a student with all of Eq. 11.

LightGCN is trained with BPR, 64 columns, 3 layers and batches of 2048 interactions, in three forms:
our model, RecBole's model, and RecBole's model with our sparse kernels. All three start with the
same embeddings and train on the same batches.
"""

from itertools import cycle
from typing import Any

from recbole.model.general_recommender import LightGCN as RecBoleLightGCN
from recbole.utils import init_seed

from recbole_lightgnn.bench.lightgcn import BATCH, DECAY, N_LAYERS, WIDTH, LightGCN, step_of
from recbole_lightgnn.bench.measure import conditions, loss_deviation, measure, row
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.models.teacher import LightGNNTeacher

CHECKED = 20  # steps with compared losses
SECONDS = 30.0  # measuring time
SETTINGS = {"embedding_size": WIDTH, "n_layers": N_LAYERS, "train_batch_size": BATCH}
OURS, THEIRS, MIXED, STUDENT = (
    "ours",
    "RecBole's",
    "RecBole's, accelerated",
    "a student, all of Eq. 11",
)


def run(dataset: str) -> dict[str, Any]:
    """Check that the three forms have equal losses, then measure their training steps.

    Args:
        dataset: name of a dataset in ``dataset/``, or ``ml-100k``.

    Returns:
        The result, for a JSON file. ``deviation``: largest relative difference of two losses.
        ``rows``: times of a step of each model (see `measure.row`).

    Raises:
        InputError: if the dataset cannot be read.
        WrongResult: if the relative difference of a loss is above 1e-5.
    """
    before = conditions()
    config = build_config(
        "LightGCN", dataset, (), {**SETTINGS, "reg_weight": DECAY, "require_pow": True}
    )
    init_seed(config["seed"], config["reproducibility"])
    train = load_data(config)[0]
    batches = [batch for batch, _ in zip(train, range(CHECKED), strict=False)]

    def recboles() -> RecBoleLightGCN:
        init_seed(config["seed"], config["reproducibility"])
        return RecBoleLightGCN(config, train.dataset)

    theirs, mixed = recboles(), recboles()
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
            f"the student contrasts {student.alignment.sample.n_anchors} users, and as many items, "
            f"with {student.alignment.sample.n_candidates} others each (Eq. 6 and 9)"
        ],
        "rows": [row("a step", seconds)],
    }


def _student(dataset: str, train: Any) -> LightGNN:
    """A student after one pruning run, with every term of Eq. 11 and an untrained teacher."""
    common = {"embedding_size": WIDTH, "interaction_loss": "bpr"}
    teacher = LightGNNTeacher(build_config("LightGNNTeacher", dataset, (), common), train)
    terms = ("interaction", "prediction_kd", "embedding_kd", "uniformity", "reg")
    weights = {f"{term}_weight": 1e-3 for term in terms}
    settings = {**common, **weights, "prediction_kd": "pairwise"}
    student = LightGNN(build_config("LightGNN", dataset, (), settings), train)
    student.distill_from(FrozenTeacher(teacher))
    student.prune()  # before, all masks are similar (Eq. 10), and Eq. 9 is zero
    return student
