"""What the user asks of a comparison: models, seeds and settings."""

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
    """Models, seeds and settings that the user asks for.

    Attributes:
        dataset, models, seeds, given, variants: as for `make_plan`.
        chosen: settings that a search has chosen, by name of the model or variant.
        limits: limits of the searches that are a part of a model's runs, by name.
    """

    dataset: str
    models: list[str]
    seeds: list[int]
    given: dict[str, Any]
    variants: Mapping[str, Variant]
    chosen: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def model_of(self, name: str) -> str:
        """Return the name of a variant's model; if ``name`` is a model, return ``name``."""
        return self.variants[name].model if name in self.variants else name

    def given_to(self, name: str) -> dict[str, Any]:
        """Collect the settings that are given for one model or variant.

        The variant's settings override the settings given for all models. Settings given for this
        model or variant override all others. A search sets only settings that are not given.
        """
        settings = dict(self.limits.get(name, {}))
        settings |= {key: value for key, value in self.given.items() if not self._owner(key)}
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
        """The model or variant NAME of a setting ``NAME.KEY``; ``None`` for any other setting."""
        head, dot, _ = key.partition(".")
        return head if dot and head in {*model_names(), *self.variants} else None

    def check(self) -> None:
        """Check that this comparison can use the given settings and the settings of the variants.

        Raises:
            InputError: if a setting is given for a model that is not compared, or if a flag of the
                command decides the setting (such as ``--seeds`` for ``seed``).
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
