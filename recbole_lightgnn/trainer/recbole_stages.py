"""Train the first stages of the RecBole models that have several stages: S3Rec and RaCT.

RecBole trains one stage per call. For the next stage, the user must set ``pre_model_path`` to the
checkpoint of the stage before. Here one run trains all stages.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.utils import set_color

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import must_be_one_of

# Values of the setting train_stage, in order. Only the last stage is validated and tested.
STAGES: dict[str, tuple[str, ...]] = {
    "S3Rec": ("pretrain", "finetune"),
    "RaCT": ("actor_pretrain", "critic_pretrain", "finetune"),
}


def pretrained(
    config: RunConfig, train_data: Any, build: Callable[[RunConfig, Any], Any]
) -> RunConfig:
    """Train the stages before the last one, from ``train_stage`` on.

    Args:
        config: settings of the run.
        train_data: RecBole's training loader.
        build: function that builds a model from settings and loader, and returns its trainer.

    Returns:
        The settings of the last stage, with ``pre_model_path``; for a model without several
        stages, ``config`` itself.

    Raises:
        InputError: if the model has no such stage, or the checkpoint to begin with is missing.
    """
    stages = STAGES.get(config["model"], ())
    if not stages:
        return config
    first = config["train_stage"]
    must_be_one_of("train_stage", first, stages)
    _check_file(config, stages)
    for stage in stages[stages.index(first) : -1]:
        earlier, config = config["pre_model_path"], _with(config, train_stage=stage)
        getLogger().info(set_color(f"stage {stage}", "yellow"))
        trainer = build(config, train_data)
        trainer.save_step = trainer.pretrain_epochs + 1  # so that RecBole itself saves nothing
        trainer.pretrain(train_data, show_progress=config["show_progress"])
        file = Path(config["checkpoint_dir"]) / _file_name(config["model"], stage)
        trainer.save_pretrained_model(trainer.pretrain_epochs - 1, str(file))
        config = _with(config, pre_model_path=str(file))
        if stage != first:
            Path(earlier).unlink()
    return _with(config, train_stage=stages[-1])


def _check_file(config: RunConfig, stages: tuple[str, ...]) -> None:
    stage, file = config["train_stage"], config["pre_model_path"]
    if stage != stages[0] and not (file and Path(file).is_file()):
        raise InputError(
            f"train_stage {stage} begins with the weights of stage "
            f"{stages[stages.index(stage) - 1]}, and pre_model_path ({file!r}) is no file: leave "
            "train_stage out, which trains all stages"
        )


def _with(config: RunConfig, **settings: Any) -> RunConfig:
    changed = copy.copy(config)
    changed.final_config_dict = {**config.final_config_dict, **settings}
    return changed


def _file_name(model: str, stage: str) -> str:
    return f"{model}-{stage}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.pth"
