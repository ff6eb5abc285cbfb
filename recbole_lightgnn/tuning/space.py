"""Search space: ranges and choices of the searched settings, from a yaml file."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import STAGE_SETTINGS, read_yaml, recbole_yaml
from recbole_lightgnn.config.schema import describe
from recbole_lightgnn.config.settings_diff import shared_keys
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import INTERMEDIATE, space_of
from recbole_lightgnn.utils.text import did_you_mean

_WORDS = ("low", "high", "log", "step", "choices")
_FORM = "{low: , high: } with log: true or step: where wanted, or {choices: [...]}"


@dataclass(frozen=True)
class Range:
    """Range of a searched setting: numbers from ``low`` to ``high``, both included.

    Attributes:
        low: smallest value. If ``low`` and ``high`` are integers, only integers are drawn.
        high: largest value.
        log: whether the logarithm of the value is drawn uniformly, rather than the value.
        step: difference between neighbouring values; ``None`` allows every number (or integer).
    """

    low: float
    high: float
    log: bool
    step: float | None

    @property
    def ends(self) -> tuple[Any, ...]:
        """Both ends of the range, which are checked instead of all values."""
        return self.low, self.high

    def suggest(self, trial: Any, key: str) -> float:
        """Let Optuna draw a value of the setting ``key`` for a trial."""
        value: float
        if isinstance(self.low, int):
            step = 1 if self.step is None else self.step
            value = trial.suggest_int(key, self.low, self.high, log=self.log, step=step)
        else:
            value = trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)
        return value

    def parameter(self, value: Any) -> float:
        """Return a value as Optuna stores it; raise ValueError if the value is not in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.low <= value <= self.high:
            kind, step = type(self.low), self.step or (1 if isinstance(self.low, int) else None)
            steps = 0.0 if step is None else (value - self.low) / step
            if math.isclose(steps, round(steps), abs_tol=1e-9):
                return kind(value)
        raise ValueError(f"{value!r} is not in the range")

    def described(self) -> dict[str, Any]:
        """Return the range as a mapping, as in the yaml file of a search space."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Choices:
    """Choices of a searched setting.

    Attributes:
        values: the choices: any values that yaml can hold.
    """

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All choices, each of which is checked."""
        return self.values

    def suggest(self, trial: Any, key: str) -> Any:
        """Let Optuna draw a value of the setting ``key`` for a trial."""
        names = [_name(value) for value in self.values]
        return self.values[names.index(trial.suggest_categorical(key, names))]

    def parameter(self, value: Any) -> Any:
        """Return a value as Optuna stores it; raise ValueError if the value is not a choice."""
        return _name(self.values[self.values.index(value)])

    def described(self) -> dict[str, Any]:
        """Return the choices as a mapping, as in the yaml file of a search space."""
        return {"choices": list(self.values)}


Space = dict[str, Range | Choices]  # name of the setting, flat (see `flat`) -> its values


def _name(value: Any) -> Any:
    """Return a choice as it is in Optuna's journal: a list or a mapping becomes JSON text."""
    return value if isinstance(value, bool | int | float | str | None) else json.dumps(value)


def space_file(model: str, given: Path | None) -> Path:
    """Return the yaml file of a search space: the given file, or the package's file for the model.

    Raises:
        InputError: if no file is given and the package has no file for the model.
    """
    if given is not None:
        return given
    file = space_of(model)
    if not file.is_file():
        shipped = ", ".join(sorted(f.stem for f in file.parent.glob("*.yaml")))
        raise InputError(
            f"no search space comes with {model} (only with {shipped}): write one and give it as "
            "--space=FILE.yaml"
        )
    return file


def read_space(file: Path, fixed: Mapping[str, Any]) -> Space:
    """Read a search space from a yaml file, without the settings that have a fixed value.

    Names and values of the settings are checked later: see `samples` and `settle`.

    Args:
        file: yaml file with lines ``key: {low: , high: , log: , step: }`` or
            ``key: {choices: [...]}``.
        fixed: settings with a fixed value, by flat name (see `flat`).

    Raises:
        InputError: if a line does not have one of these forms, or if no setting is left to search.
    """
    entries: dict[str, Any] = {}
    for key, entry in read_yaml(file).items():
        if key in STAGE_SETTINGS and isinstance(entry, dict):
            entries |= {f"{key}.{name}": value for name, value in entry.items()}
        else:
            entries[str(key)] = entry
    space = {key: _read(f"{file}: {key}", entry) for key, entry in entries.items()}
    for key in ("model", "dataset"):
        if key in space:
            raise InputError(f"{file}: {key} cannot be searched: give --{key}=NAME")
    searched = {key: values for key, values in space.items() if key not in fixed}
    if not searched:
        held = " that is not held fixed by --key=VALUE" if space else ""
        raise InputError(f"{file}: expected at least one `key: {_FORM}`{held}")
    return searched


def _read(where: str, entry: Any) -> Range | Choices:
    if not isinstance(entry, dict) or not entry:
        raise InputError(f"{where}: expected {_FORM}, got {entry!r}")
    for word in entry:
        if word not in _WORDS:
            raise InputError(f"{where}: unknown {word!r}{did_you_mean(word, _WORDS)}; {_FORM}")
    if "choices" not in entry:
        return _read_range(where, entry)
    choices = entry["choices"]
    if len(entry) > 1:
        raise InputError(f"{where}: expected choices alone or a range, got {', '.join(entry)}")
    if not isinstance(choices, list) or not choices:
        raise InputError(f"{where}: choices must be a list of at least one value, got {choices!r}")
    for n, choice in enumerate(choices):
        if choice in choices[:n]:
            raise InputError(f"{where}: choices has {choice!r} twice")
    return Choices(tuple(choices))


def _read_range(where: str, entry: Mapping[str, Any]) -> Range:
    for word in ("low", "high"):
        if word not in entry:
            raise InputError(f"{where}: {word} is missing; expected {_FORM}")
    for word in ("low", "high", "step"):
        value = entry.get(word)
        if value is None and word == "step":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(entry[word]):
            raise InputError(f"{where}: {word} must be a number, got {value!r}")
    low, high, step = entry["low"], entry["high"], entry.get("step")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{where}: log must be true or false, got {log!r}")
    if low > high:
        raise InputError(f"{where}: low must be at most high, got low {low} and high {high}")
    if log and low <= 0:
        raise InputError(f"{where}: low must be more than 0 where log is true, got {low}")
    if log and step is not None:
        raise InputError(f"{where}: expected log or step, got both")
    # In floating-point numbers, 0.3 - 0.1 is a little less than 0.2.
    if step is not None and not 0 < step <= (high - low) * (1 + 1e-9):
        raise InputError(
            f"{where}: step must be more than 0 and at most high - low, that is {high - low:g}, "
            f"got {step}"
        )
    return Range(low, high, log, step)


def samples(space: Space) -> Iterator[dict[str, Any]]:
    """Yield a few samples of the space, to check them instead of all possible settings.

    Yields:
        A value for each searched setting. Together, the samples contain both ends of every range
        and every choice.
    """
    for n in range(max(len(values.ends) for values in space.values())):
        yield {key: values.ends[min(n, len(values.ends) - 1)] for key, values in space.items()}


def settle(space: Space, file: Path, config: RunConfig) -> Space:
    """Convert the ends of each range to the type of the setting: integer or floating-point number.

    Args:
        space: the space that `read_space` returned.
        file: file of the space, for error messages.
        config: a checked ``Config`` with values of the space.

    Raises:
        InputError: if a range is given for a setting that is not a number, or if a setting of the
            space must not be searched.
    """
    unsearched = shared_keys(config)
    settled: Space = {}
    for key, values in space.items():
        if key in unsearched:
            raise InputError(
                f"{file}: {key} is a setting of data or evaluation, by which trials are compared: "
                f"leave it out, and give --{key}=VALUE to all of them"
            )
        settled[key] = values
        if isinstance(values, Range):
            settled[key] = _typed(values, f"{file}: {key}", _type(key, config))
    return settled


def owner_of(key: str, config: RunConfig) -> tuple[str, str, str]:
    """Find the stage and the model of a searched setting, and the setting's name in the stage.

    Args:
        key: flat name, such as ``teacher_settings.epochs``.
        config: the ``Config`` of the run.

    Returns:
        First, the stage (``teacher_settings`` or ``intermediate_settings``; empty for the run's
        last stage). Second, the name of the stage's model. Third, the name of the setting without
        the stage.

    Raises:
        InputError: if the setting is a part of another mapping, such as ``eval_args``.
    """
    stage, _, name = key.rpartition(".")
    models = {"teacher_settings": config["teacher"], "intermediate_settings": INTERMEDIATE}
    if stage and stage not in models:
        raise InputError(
            f"{key} is a part of {stage}: a search changes whole settings of model and training"
        )
    return stage, models[stage] if stage else config["model"], name


def _type(key: str, config: RunConfig) -> str:
    """Return the name of a setting's type; empty if the type is not known."""
    _, owner, name = owner_of(key, config)
    setting = describe(owner).get(name)
    if setting is not None:
        return setting.type
    default = {**recbole_yaml("overall"), **recbole_yaml(f"model/{owner}")}.get(name)
    return "" if default is None else type(default).__name__


def _typed(values: Range, where: str, kind: str) -> Range:
    numbers = [n for n in (values.low, values.high, values.step) if n is not None]
    whole = all(isinstance(n, int) for n in numbers)
    if kind not in ("int", "float", ""):
        raise InputError(f"{where} is not a number: expected {{choices: [...]}}")
    if kind == "int" and not whole:
        raise InputError(f"{where} is an integer: expected integers, got {numbers}")
    if whole and kind != "float":
        return values
    step = None if values.step is None else float(values.step)
    return Range(float(values.low), float(values.high), values.log, step)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the mapping of a stage's settings by flat names: ``teacher_settings.epochs``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in STAGE_SETTINGS and isinstance(value, Mapping) and value:
            found |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            found[key] = value
    return found
