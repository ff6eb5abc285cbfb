"""The teachers that a run trains, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recbole_lightgnn.errors import InputError


class Teacher(NamedTuple):
    """One of a run's teachers.

    Attributes:
        model: name of the teacher's model.
        weight: weight of the teacher's scores in the sum; ``None`` if validation chooses it.
        settings: changes to the model's default settings.
        prefix: text before the names of these settings in messages: ``teacher_settings.``.
    """

    model: str
    weight: float | None
    settings: dict[str, Any]
    prefix: str


def teachers_of(settings: Mapping[str, Any]) -> list[Teacher]:
    """List the teachers that the settings describe, whether or not they are given as checkpoints.

    The setting ``teachers`` lists different teachers. If it is empty, there are ``n_teachers``
    teachers by the settings ``teacher`` and ``teacher_settings``, each with weight 1.
    """
    if mixed := settings.get("teachers"):
        return [_member(number, dict(one)) for number, one in enumerate(mixed)]
    own = dict(settings["teacher_settings"] or {})
    single = Teacher(settings["teacher"], 1.0, own, "teacher_settings.")
    return [single] * settings["n_teachers"]


def _member(number: int, given: dict[str, Any]) -> Teacher:
    model, weight = given.pop("model"), given.pop("weight", None)
    return Teacher(model, weight, given, f"teachers[{number}].")


def searches_teachers(settings: Mapping[str, Any]) -> bool:
    """Whether a run searches for its teachers: ``recipe: auto``, and no teachers are given."""
    given = settings.get("teachers") or settings.get("teacher_checkpoint")
    return settings.get("recipe") == "auto" and not given


def distinct_teachers(settings: Mapping[str, Any]) -> list[Teacher]:
    """List the teachers as `teachers_of`, but those that differ only by their seed once."""
    return teachers_of(settings) if settings.get("teachers") else teachers_of(settings)[:1]


def check_teachers(key: str, value: Any) -> None:
    """Check the form of the setting ``teachers``, without the members' own settings.

    Raises InputError unless ``value`` is a list of mappings with a ``model``, perhaps a ``weight``,
    and settings of this model. Either all mappings have a weight, or none.
    """
    example = f'--{key}="[{{model: LightGNNTeacher}}, {{model: Spectral}}]"'
    if not isinstance(value, list | tuple):
        raise InputError(f"{key} must be a list of mappings, got {value!r}: write {example}")
    for number, one in enumerate(value):
        name = f"{key}[{number}]"
        if not isinstance(one, Mapping) or not isinstance(one.get("model"), str):
            raise InputError(f"{name} must be a mapping with a model, got {one!r}: write {example}")
        weight = one.get("weight", 1)
        number_given = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number_given or not 0 < weight < float("inf"):
            raise InputError(f"{name}.weight must be a number > 0, got {weight!r}")
    for number, one in enumerate(value):
        if one in value[:number]:
            raise InputError(
                f"{key}[{number}] is equal to an earlier teacher, and would be the same model: "
                "give it other settings, or use n_teachers for several seeds"
            )
    if 0 < sum("weight" in one for one in value) < len(value):
        raise InputError(
            f"{key}: either every teacher has a weight, or none, and then validation chooses the "
            "weights: give all, or leave all out"
        )
