"""What a comparison was asked for: models, seeds and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_lightgnn.comparison.variants import Variant
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import model_names

# Settings that a flag of the comparison determines, and that flag.
_FLAG_OF = {
    "model": "--models",
    "dataset": "--dataset",
    "seed": "--seeds",
    "config_files": "--KEY=VALUE",
    **dict.fromkeys(("checkpoint_dir", "result_file", "resume"), "--out"),
}


@dataclass(frozen=True)
class Request:
    """Models, seeds and settings as they were asked for.

    Attributes:
        dataset, models, seeds, given, variants: as for `make_plan`.
        chosen: settings that a search has chosen, by name of model or variant.
    """

    dataset: str
    models: list[str]
    seeds: list[int]
    given: dict[str, Any]
    variants: Mapping[str, Variant]
    chosen: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def model_of(self, name: str) -> str:
        """Return the model of a variant; return the name of a model unchanged."""
        return self.variants[name].model if name in self.variants else name

    def given_to(self, name: str) -> dict[str, Any]:
        """The settings of one model or variant.

        Settings given for this name override the variant's settings. The variant's settings
        override settings given for all models. A search adds settings and changes none of these.
        """
        settings = {key: value for key, value in self.given.items() if not self._owner(key)}
        if name in self.variants:
            settings |= self.variants[name].settings
        prefix = f"{name}."
        settings |= {
            key.removeprefix(prefix): value
            for key, value in self.given.items()
            if key.startswith(prefix)
        }
        return settings | self.chosen.get(name, {})

    def _owner(self, key: str) -> str | None:
        """NAME of a setting ``NAME.KEY``, if it names a model or variant; else ``None``."""
        head, dot, _ = key.partition(".")
        return head if dot and head in {*model_names(), *self.variants} else None

    def check(self) -> None:
        """Check the settings that were given, and the settings of the variants.

        Raises:
            InputError: if a setting is for a model that is not compared, or if a flag sets it.
        """
        for key in self.given:
            owner = self._owner(key)
            if owner is not None and owner not in self.models:
                raise InputError(f"--{key}: {owner} is not one of --models {','.join(self.models)}")
            name = key.partition(".")[2] if owner else key
            if name in _FLAG_OF:
                raise InputError(f"--{key} is no setting for a comparison: see {_FLAG_OF[name]}")
        for name in self.models:
            settings = self.variants[name].settings if name in self.variants else {}
            if decided := sorted(settings.keys() & _FLAG_OF):
                raise InputError(
                    f"the variant {name} cannot have {decided[0]}, which the comparison decides: "
                    f"see {_FLAG_OF[decided[0]]}"
                )
