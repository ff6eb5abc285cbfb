"""Put train and validation interactions together, to train the chosen model on both."""

from __future__ import annotations

from typing import Any

from recbole.data.interaction import cat_interactions
from recbole.data.utils import create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError

Loaders = tuple[Any, Any, Any]


def refit_loaders(config: RunConfig, loaders: Loaders) -> Loaders:
    """Make the loaders of a run's second training, on train and validation interactions together.

    In the test ranking, a user's validation items are masked, because the model is trained on them.

    Args:
        config: settings of the run.
        loaders: loaders of train, validation and test, from `load_data`. They are not changed.

    Returns:
        A training loader with the interactions of train and validation, the given validation
        loader, and a test loader with the same interactions as before.
    """
    train, valid, test = (loader._dataset for loader in loaders)
    both = train.copy(cat_interactions([train.inter_feat, valid.inter_feat]))
    samplers = create_samplers(config, both, [both, valid, test])
    train_data = train_loader(config, both, samplers[0])
    test_data = get_dataloader(config, "test")(config, test, samplers[2], shuffle=False)
    return train_data, loaders[1], test_data


def check_refit(config: RunConfig) -> None:
    """Check that a run with the setting ``refit`` can train all its stages again.

    Args:
        config: settings of the run.

    Raises:
        InputError: if a stage comes from a checkpoint, which has not seen the validation
            interactions; or if the model is one of RecBole's tree models, which choose the number
            of trees while they are trained.
    """
    if not config["refit"]:
        return
    for key in ("teacher_checkpoint", "intermediate_checkpoint"):
        if config[key]:
            raise InputError(
                f"refit trains every stage on train and validation interactions, and {key} was "
                f"trained without the latter: leave {key} or refit out"
            )
    if config["MODEL_TYPE"] is ModelType.DECISIONTREE:
        raise InputError(
            f"refit has no meaning for {config['model']}, which has no epochs to choose: leave "
            "refit out"
        )


def train_loader(config: RunConfig, dataset: Any, sampler: Any) -> Any:
    """Make RecBole's training loader for a dataset of training interactions."""
    loader = get_dataloader(config, "train")
    if config["MODEL_TYPE"] is not ModelType.KNOWLEDGE:
        return loader(config, dataset, sampler, shuffle=config["shuffle"])
    arguments = config["train_neg_sample_args"]
    kg_sampler = KGSampler(dataset, arguments["distribution"], arguments["alpha"])
    return loader(config, dataset, sampler, kg_sampler, shuffle=True)
