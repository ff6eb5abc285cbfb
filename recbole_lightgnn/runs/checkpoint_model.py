"""Read a trained model from our or RecBole's checkpoint, and check that the model fits a run."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

from torch import Tensor

from recbole_lightgnn.config.settings_diff import model_settings
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint
from recbole_lightgnn.runs.run_folder import RUN_FILE, RunFolder
from recbole_lightgnn.utils.files import plain

# Settings that change what a model computes from the same weights, and the value that they had
# before they were settings.
_ENCODING = {
    **dict.fromkeys(("n_layers", "edge_weights"), None),
    **dict.fromkeys(("augmentation", "augmentation_hops", "augmentation_cap"), None),
    **dict.fromkeys(("user_degree_exponent", "item_degree_exponent"), 0.5),
}


@dataclass(frozen=True)
class CheckpointModel:
    """Content of a checkpoint: everything needed to rebuild its trained model.

    Attributes:
        path: the checkpoint file.
        model: name of the model's class.
        settings: settings of the model and of its training.
        tensors: the model's ``state_dict``.
        other: RecBole's ``other_parameter`` (for example EASE's matrix), or ``None``.
        epoch: epoch after which the tensors were saved, or ``None`` if the file has no epoch.
    """

    path: str
    model: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    other: Any
    epoch: int | None

    @classmethod
    def read(cls, path: str, config: RunConfig, data: str) -> CheckpointModel:
        """Read a checkpoint that this package or RecBole's trainer (``.pth``) wrote.

        Args:
            path: the checkpoint file.
            config: settings of the run that uses the model.
            data: hash of the training interactions of that run (`pairs_fingerprint`).

        Raises:
            InputError: if the file is missing or damaged, or if the training that wrote the file is
                not finished or used other interactions than ``data``.
        """
        if Path(path).suffix != checkpoint.SUFFIX:
            return cls._of_recbole(path, config, data)
        tensors, meta = checkpoint.load(Path(path))
        if "model" not in meta:
            raise InputError(
                f"{path} is the state of a training under way: give the checkpoint of a finished "
                "stage (teacher.safetensors, intermediate.safetensors, ...)"
            )
        if meta["data"] != data:
            raise InputError(
                f"{path} was trained on other interactions than these "
                f"(dataset {meta['dataset']}, here {config['dataset']}): use the checkpoint "
                "with the dataset, split and seed that it comes from"
            )
        return cls(path, meta["model"], meta["settings"], tensors, None, meta["epoch"])

    @classmethod
    def _of_recbole(cls, path: str, config: RunConfig, data: str) -> CheckpointModel:
        content = load_recbole_checkpoint(path, map_location=config["device"])
        saved = content["config"]
        # RecBole's checkpoints have no hash of the data, only the settings that it was made with.
        # Benchmark files do not depend on the seed and the ratios of the split.
        keys = ["dataset", *config.parameters["Dataset"]]
        if not config["benchmark_filename"]:
            keys += ["eval_args", "split_seed"]
            keys += ["seed"] if config["split_seed"] is None else []
        differing = [key for key in keys if _data_setting(saved, key) != _data_setting(config, key)]
        if differing:
            raise InputError(
                f"{path} was trained on data made with other settings ({', '.join(differing)}): "
                "use the checkpoint with the dataset, split and seed that it comes from"
            )
        run = Path(path).with_name(RUN_FILE)
        if not run.is_file():
            getLogger().warning(f"{path} does not say which interactions it was trained on")
        elif RunFolder(run.parent).content["data"]["train"] != data:
            raise InputError(
                f"{path} was trained on other interactions than {config['dataset']} has now: put "
                "the files back, or train the stage again"
            )
        settings = model_settings(saved)
        state, other = content["state_dict"], content.get("other_parameter")
        return cls(path, saved["model"], settings, state, other, content["epoch"] + 1)

    def expect(self, model: str, setting: str) -> None:
        """Raise InputError if the model's class is not ``model``; the message names ``setting``."""
        if self.model != model:
            raise InputError(
                f"{setting} {self.path} holds a {self.model}, expected a {model}: "
                "give the checkpoint of that stage"
            )

    def expect_encoding(self, config: RunConfig) -> None:
        """Raise InputError if a run's settings of the propagation differ from the checkpoint's."""
        for key, before in _ENCODING.items():
            here = before if config[key] is None else config[key]
            if (there := self.settings.get(key, before)) != here:
                raise InputError(
                    f"{self.path} was trained with {key} {there}, and here it is {here}: evaluate "
                    "it with the settings it was trained with"
                )

    def load_into(self, model: Any) -> None:
        """Load the checkpoint's tensors into a model that was built with the checkpoint's settings.

        Raises:
            InputError: if the tensors do not fit the model.
        """
        try:
            model.load_state_dict(self.tensors)
            if self.other is not None:
                model.load_other_parameter(self.other)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path} does not fit the {type(model).__name__} it is wanted for ({reason}): "
                "give a checkpoint with this run's settings, or train the stage again"
            ) from error


def _data_setting(config: RunConfig, key: str) -> Any:
    value = config[key]
    if key == "eval_args":
        value = {part: value.get(part) for part in ("split", "group_by", "order")}
    return plain(value)
