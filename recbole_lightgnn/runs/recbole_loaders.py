"""What RecBole gets in place of its own three loaders of checkpoints, which current torch refuses.

They read RecBole's checkpoints by `load_stock_checkpoint`, which says what is trusted and why, and
those of ours as well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_lightgnn.runs import checkpoint as own
from recbole_lightgnn.runs.recbole_pickle import load_stock_checkpoint, load_weights


def evaluate_with(original: Callable[..., Any]) -> Callable[..., Any]:
    """``Trainer.evaluate`` that loads the best model by `load_stock_checkpoint`."""

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
    """``Trainer.resume_checkpoint``, reading by `load_stock_checkpoint`."""
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
    """``recbole.quick_start.load_data_and_model`` of a checkpoint of RecBole's or of ours."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_logger, init_seed

    checkpoint = _read(model_file)
    config = checkpoint["config"]
    cut_by = config["seed"] if config["split_seed"] is None else config["split_seed"]
    init_seed(cut_by, config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    load_weights(model, checkpoint)
    return config, model, dataset, *loaders


def _read(file: Any, map_location: Any = None) -> dict[str, Any]:
    from recbole_lightgnn.config.recbole_config import rebuild_config

    if str(file).endswith(own.SUFFIX):
        tensors, meta = own.load(Path(file))
        return {"config": rebuild_config(meta), "state_dict": tensors}
    return load_stock_checkpoint(file, map_location)
