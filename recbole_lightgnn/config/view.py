"""Give typed, read-only access to a run's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class RunConfig(Protocol):
    """The parts of RecBole's ``Config`` that our code uses.

    Attributes:
        final_config_dict: all settings of the run, by name.
        parameters: names of RecBole's settings in each group, such as ``Dataset``.
    """

    final_config_dict: dict[str, Any]
    parameters: dict[str, list[str]]

    def __getitem__(self, key: str) -> Any:
        """Return the setting with the name ``key``, or ``None`` if there is no such setting."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Set the setting with the name ``key`` to a new value."""

    def stage(self, model: str, overrides: Mapping[str, Any]) -> RunConfig:
        """Build the ``Config`` of an earlier stage of the run (`recbole_config.stage_config`)."""


class Settings(Mapping[str, Any]):
    """Read-only settings of a run, with one method for each type of value.

    For an unknown name, RecBole's ``Config`` gives ``None``; this class raises an error.

    Args:
        config: RecBole's ``Config``, or the settings by name.

    Raises:
        KeyError: if a method or ``settings[key]`` is called for a setting that does not exist.
        TypeError: if the value of the setting does not have the type of the called method.
    """

    def __init__(self, config: RunConfig | Mapping[str, Any]) -> None:
        values: Any = getattr(config, "final_config_dict", config)
        self._values: Mapping[str, Any] = values

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise KeyError(f"there is no setting {key}")
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def integer(self, key: str) -> int:
        """The setting with the name ``key``, which must be an integer."""
        value = self[key]
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no integer but {value!r}")
        return value

    def number(self, key: str) -> float:
        """The setting with the name ``key``, which must be a float or an integer."""
        value = self[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no number but {value!r}")
        return value

    def text(self, key: str) -> str:
        """The setting with the name ``key``, which must be a text."""
        value = self[key]
        if not isinstance(value, str):
            raise TypeError(f"the setting {key} is no text but {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """The setting with the name ``key``, which must be True or False."""
        value = self[key]
        if not isinstance(value, bool):
            raise TypeError(f"the setting {key} is neither True nor False but {value!r}")
        return value

    def optional_text(self, key: str) -> str | None:
        """The setting with the name ``key``, which must be a text or ``None``."""
        return None if self[key] is None else self.text(key)

    def optional_number(self, key: str) -> float | None:
        """The setting with the name ``key``, which must be a number or ``None``."""
        return None if self[key] is None else self.number(key)

    def texts(self, key: str) -> list[str]:
        """The setting with the name ``key``, as a list of texts; ``None`` gives an empty list."""
        value = self[key]
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise TypeError(f"the setting {key} is no list of texts but {value!r}")
        return list(texts)

    def section(self, key: str) -> Mapping[str, Any]:
        """The setting with the name ``key``, which must be a mapping, as a stage's settings are."""
        value = self[key]
        if not isinstance(value, Mapping):
            raise TypeError(f"the setting {key} is no mapping but {value!r}")
        return value
