"""A training step of RecBole's own graph models: unmodified, and accelerated by our sparse kernels.

Batches have 2048 interactions, and embeddings have 64 columns, as in RecBole. Both forms of a
model start with the same weights and random state and train on the same batches.
"""

from itertools import cycle, islice
from typing import Any

from recbole.utils import get_model, init_seed

from recbole_lightgnn.bench.lightgcn import BATCH, WIDTH, step_of
from recbole_lightgnn.bench.measure import conditions, loss_deviation, measure, row
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.registry import ACCELERATED

CHECKED = 3  # steps with compared losses
SECONDS = 30.0  # measuring time of each model
OURS, THEIRS = "accelerated", "RecBole's"


def run(dataset: str, models: tuple[str, ...] = ACCELERATED) -> dict[str, Any]:
    """Check that both forms of each model have equal losses, then measure the training steps.

    Args:
        dataset: name of a dataset in ``dataset/``, or ``ml-100k``.
        models: names of RecBole's models to measure.

    Returns:
        The result, for a JSON file. ``deviation``: largest relative difference of two losses.
        ``rows``: times of both forms, one row per model (see `measure.row`).

    Raises:
        InputError: if the dataset cannot be read.
        WrongResult: if the relative difference of a loss is above 1e-5.
    """
    before, deviations, rows = conditions(), [], []
    for name in models:
        config = build_config(name, dataset, (), {"train_batch_size": BATCH})
        init_seed(config["seed"], config["reproducibility"])
        train = load_data(config)[0]
        worst, seconds = _checked_and_measured(name, config, train)
        deviations.append(worst)
        rows.append(row(f"a step of {name}", seconds))
    data = train.dataset
    return {
        "bench": "recbole",
        "graph": dataset,
        "users": data.user_num - 1,  # without RecBole's padding
        "items": data.item_num - 1,
        "interactions": data.inter_num,
        "width": WIDTH,
        "deviation": max(deviations),
        "conditions": before,
        "rows": rows,
    }


def _checked_and_measured(
    name: str, config: Any, train: Any
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Check and measure one model.

    Returns:
        First, the largest relative difference of its losses. Second, the times of its two forms.
    """
    batches = list(islice(cycle(train), CHECKED))
    losses, contenders = {}, {}
    for contender in (OURS, THEIRS):
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(name)(config, train.dataset)
        if contender == OURS:
            accelerate_model(model)
        if name == "NCL":
            model.e_step()  # NCL's trainer calls it: it makes the prototypes
        step = step_of(model, fused=False)
        losses[contender] = [step(batch) for batch in batches]
        turns = cycle(batches)
        contenders[contender] = lambda step=step, turns=turns: step(next(turns))
    worst = loss_deviation(name, losses[OURS], losses[THEIRS])
    return worst, measure(contenders, seconds=SECONDS)
