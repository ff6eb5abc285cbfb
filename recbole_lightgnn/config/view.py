"""A typed, read-only view of a run's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class RunConfig(Protocol):
    """RecBole's ``Config`` as our code uses it.

    Attributes:
        final_config_dict: every setting in force.
        parameters: RecBole's lists of setting names, by group.
    """

    final_config_dict: dict[str, Any]
    parameters: dict[str, list[str]]

    def __getitem__(self, key: str) -> Any:
        """The setting of this name, or ``None`` if there is none."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Change a setting."""

    def stage(self, model: str, overrides: Mapping[str, Any]) -> RunConfig:
        """The settings of an earlier stage of the same run (`recbole_config.stage_config`)."""


class Settings(Mapping[str, Any]):
    """Read-only settings, with a method for each type of value.

    Unlike RecBole's ``Config``, it raises an error for an unknown name.

    Args:
        config: RecBole's ``Config``, or a mapping of settings.

    Raises:
        KeyError: on reading a setting that does not exist.
        TypeError: on reading a setting that does not have the type of the method.
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
        """The setting ``key``, which is an integer."""
        value = self[key]
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no integer but {value!r}")
        return value

    def number(self, key: str) -> float:
        """The setting ``key``, which is a float or an integer."""
        value = self[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no number but {value!r}")
        return value

    def text(self, key: str) -> str:
        """The setting ``key``, which is a text."""
        value = self[key]
        if not isinstance(value, str):
            raise TypeError(f"the setting {key} is no text but {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """The setting ``key``, which is True or False."""
        value = self[key]
        if not isinstance(value, bool):
            raise TypeError(f"the setting {key} is neither True nor False but {value!r}")
        return value

    def optional_text(self, key: str) -> str | None:
        """The setting ``key``, which is a text or ``None``."""
        return None if self[key] is None else self.text(key)

    def texts(self, key: str) -> list[str]:
        """The setting ``key`` as a list of texts: one text as a list of one, ``None`` as empty."""
        value = self[key]
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise TypeError(f"the setting {key} is no list of texts but {value!r}")
        return list(texts)

    def section(self, key: str) -> Mapping[str, Any]:
        """The setting ``key``, which is a mapping with the settings of an earlier stage."""
        value = self[key]
        if not isinstance(value, Mapping):
            raise TypeError(f"the setting {key} is no mapping but {value!r}")
        return value
