"""A training step of RecBole's own graph models: as they come, and by our products.

Settings and sizes are RecBole's (batches of 2048, width 64). Both start from the same weights and
draws and see the same batches, and their losses must be the same before anything is measured.
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

CHECKED = 3  # steps whose losses are compared
SECONDS = 30.0  # of each model
OURS, THEIRS = "by our products", "RecBole's"


def run(dataset: str, models: tuple[str, ...] = ACCELERATED) -> dict[str, Any]:
    """Check that the losses are the same, then measure the steps.

    Args:
        dataset: one that RecBole or an import has put under ``dataset/``, or ml-100k.
        models: of RecBole's, those to measure.

    Returns:
        The result, of plain values: ``deviation`` of the losses, and a row for each model.

    Raises:
        InputError: if the dataset cannot be read.
        WrongResult: if a loss differs from RecBole's by more than 1e-5.
    """
    before, deviations, rows = conditions(), [], []
    for name in models:
        config = build_config(name, dataset, (), {"train_batch_size": BATCH})
        init_seed(config["seed"], config["reproducibility"])
        train = load_data(config)[0]
        worst, seconds = _measured(name, config, train)
        deviations.append(worst)
        rows.append(row(f"a step of {name}", seconds))
    data = train.dataset
    return {
        "bench": "stock",
        "graph": dataset,
        "users": data.user_num - 1,  # without RecBole's padding
        "items": data.item_num - 1,
        "interactions": data.inter_num,
        "width": WIDTH,
        "deviation": max(deviations),
        "conditions": before,
        "rows": rows,
    }


def _measured(name: str, config: Any, train: Any) -> tuple[float, dict[str, dict[str, Any]]]:
    """How far a model's losses are from RecBole's, and what `measure` finds."""
    batches = list(islice(cycle(train), CHECKED))
    losses, contenders = {}, {}
    for contender in (OURS, THEIRS):
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(name)(config, train.dataset)
        if contender == OURS:
            accelerate_model(model)
        if name == "NCL":
            model.e_step()  # its trainer's: the prototypes
        step = step_of(model, fused=False)
        losses[contender] = [step(batch) for batch in batches]
        turns = cycle(batches)
        contenders[contender] = lambda step=step, turns=turns: step(next(turns))
    worst = loss_deviation(name, losses[OURS], losses[THEIRS])
    return worst, measure(contenders, seconds=SECONDS)
