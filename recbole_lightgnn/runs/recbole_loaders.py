"""Replacements for RecBole's three loaders of checkpoints, which fail on current torch.

The replacements read checkpoints that RecBole or this package wrote. `recbole_pickle` lists what is
trusted in RecBole's checkpoints. `integration.compat` puts the replacements into RecBole.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_lightgnn.runs import checkpoint as our_checkpoint
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint, load_weights


def evaluate_with(original: Callable[..., Any]) -> Callable[..., Any]:
    """Make a ``Trainer.evaluate`` that can load the best model from RecBole's or our checkpoint.

    RecBole's own method, ``original``, then evaluates the loaded model.
    """

    def evaluate(
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Any = None,
        show_progress: bool = False,
    ) -> Any:
        if eval_data and load_best_model:
            file = model_file or self.saved_model_file
            load_weights(self.model, _read(file, self.device))
            self.logger.info(f"Loading model structure and parameters from {file}")
        return original(self, eval_data, load_best_model=False, show_progress=show_progress)

    return evaluate


def resume_checkpoint(self: Any, resume_file: Any) -> None:
    """Do what RecBole's ``Trainer.resume_checkpoint`` does, but read the checkpoint safely."""
    self.saved_model_file = str(resume_file)
    checkpoint = _read(resume_file, self.device)
    self.start_epoch = checkpoint["epoch"] + 1
    self.cur_step = checkpoint["cur_step"]
    self.best_valid_score = checkpoint["best_valid_score"]
    if checkpoint["config"]["model"].lower() != self.config["model"].lower():
        self.logger.warning(
            f"{resume_file} is a checkpoint of {checkpoint['config']['model']}, "
            f"not of {self.config['model']}: its weights may not fit"
        )
    load_weights(self.model, checkpoint)
    self.optimizer.load_state_dict(checkpoint["optimizer"])
    self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")


def load_data_and_model(model_file: Any) -> tuple[Any, ...]:
    """Do what RecBole's ``load_data_and_model`` does, for RecBole's and our checkpoints.

    Returns:
        Config, model, dataset, training loader, validation loader, test loader.
    """
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_logger, init_seed

    from recbole_lightgnn.data.noise import noisy_loaders

    checkpoint = _read(model_file)
    config = checkpoint["config"]
    split_seed = config["seed"] if config["split_seed"] is None else config["split_seed"]
    init_seed(split_seed, config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    if config["train_noise"]:
        loaders = noisy_loaders(config, loaders)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    load_weights(model, checkpoint)
    return config, model, dataset, *loaders


def _read(file: Any, map_location: Any = None) -> dict[str, Any]:
    from recbole_lightgnn.config.recbole_config import rebuild_config

    if str(file).endswith(our_checkpoint.SUFFIX):
        tensors, meta = our_checkpoint.load(Path(file))
        return {"config": rebuild_config(meta), "state_dict": tensors}
    return load_recbole_checkpoint(file, map_location)
