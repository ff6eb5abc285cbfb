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
        """A setting, or ``None`` where there is none of that name."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Change a setting."""

    def stage(self, model: str, overrides: Mapping[str, Any]) -> RunConfig:
        """The settings of an earlier stage of the same run (`recbole_config.stage_config`)."""


class Settings(Mapping[str, Any]):
    """Settings by name and type; nothing can be changed through it.

    Unlike RecBole's ``Config``, it has no value for a name that is no setting.

    Args:
        config: RecBole's ``Config``, or a mapping of settings.

    Raises:
        KeyError: when a setting is read that does not exist.
        TypeError: when a setting is read that is of another type than the one asked for.
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
        """A whole number."""
        value = self[key]
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no integer but {value!r}")
        return value

    def number(self, key: str) -> float:
        """A number; an integer stays one."""
        value = self[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"the setting {key} is no number but {value!r}")
        return value

    def text(self, key: str) -> str:
        """A name or another text."""
        value = self[key]
        if not isinstance(value, str):
            raise TypeError(f"the setting {key} is no text but {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """True or False."""
        value = self[key]
        if not isinstance(value, bool):
            raise TypeError(f"the setting {key} is neither True nor False but {value!r}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A name or another text, or ``None``."""
        return None if self[key] is None else self.text(key)

    def texts(self, key: str) -> list[str]:
        """A list of texts; one text is a list of one, and ``None`` an empty list."""
        value = self[key]
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise TypeError(f"the setting {key} is no list of texts but {value!r}")
        return list(texts)

    def section(self, key: str) -> Mapping[str, Any]:
        """Settings of an earlier stage, by name."""
        value = self[key]
        if not isinstance(value, Mapping):
            raise TypeError(f"the setting {key} is no mapping but {value!r}")
        return value
