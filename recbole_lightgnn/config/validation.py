"""Check the settings of a run before the run uses them.

`check_settings` checks each setting by itself. `check_run` checks that every stage has a loss, and
fits the earlier stage from which it learns.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.compatibility import (
    check_mask,
    check_metrics,
    check_sampling,
    recbole_source,
)
from recbole_lightgnn.config.data_settings import (
    check_columns_agree,
    check_loaded,
    check_sequences,
    check_split_exists,
)
from recbole_lightgnn.config.files import defaults_of, nested, recbole_yaml, recipes
from recbole_lightgnn.config.recbole_models import check_own
from recbole_lightgnn.config.recbole_relations import check_relations
from recbole_lightgnn.config.schema import check_value, describe, owners, unlisted
from recbole_lightgnn.config.teachers import distinct_teachers, searches_teachers, teachers_of
from recbole_lightgnn.config.unheeded import check_heeded, check_stage_heeded
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import INTERMEDIATE, STUDENT, our_models
from recbole_lightgnn.utils.files import check_folder
from recbole_lightgnn.utils.text import did_you_mean, must_be_one_of

# Settings that RecBole's trainers support and ours does not.
_UNSUPPORTED = {
    "enable_amp": "does not use mixed precision",
    "enable_scaler": "does not use mixed precision",
    "log_wandb": "writes TensorBoard logs and a JSON record",
}

# Models of RecBole with final embeddings as wide as the initial ones: means of layers.
_KEEP_WIDTH = ("LightGCN", "SGL", "NCL")

# Names that are not settings: given beside them, or passed by RecBole to a run's processes.
_OF_PROCESSES = {"nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank"}
_NO_SETTINGS = {"model", "dataset", "config_files", *_OF_PROCESSES}


def check_settings(config: Any) -> None:
    """Check each setting of a ``Config``; `check_run` checks that the run's stages fit together.

    Settings in config files and ``config_dict`` must be known to RecBole or to us. Unknown names on
    the command line are accepted, because RecBole reads the command line of any program that makes
    a ``Config``. Settings that our yaml files describe, also those of earlier stages, must have the
    right type and range.

    Raises:
        InputError: if a setting is wrong. The message says what is expected, or which known name is
            the most similar.
    """
    settings = config.final_config_dict
    given = set(nested(config.file_config_dict)) | set(nested(config.variable_config_dict))
    _check_known(given, config.model, config.model_class, set(config.internal_config_dict))
    check_sampling(settings, config.model_class)
    _check_values(settings, config.model)
    if config.model in our_models():
        _check_batches(settings)
        config.model_class.check_settings(settings)
    check_metrics(settings, config.model_class)
    check_mask(settings)
    check_split_exists(settings)
    check_sequences(settings, config.model_class)
    check_columns_agree(settings)
    check_loaded(settings)
    if config.model == STUDENT:
        must_be_one_of("recipe", settings["recipe"], recipes())
    if _learns_from_teacher(config.model_class):
        for teacher in distinct_teachers(settings):
            _check_stage(config, teacher.prefix, teacher.model, teacher.settings)
    if config.model == STUDENT:
        own = settings.get("intermediate_settings") or {}
        _check_stage(config, "intermediate_settings.", INTERMEDIATE, own)


def _check_stage(config: Any, prefix: str, model: str, own: Mapping[str, Any]) -> None:
    from recbole_lightgnn.config.settings_diff import shared_keys

    run_only = {"teacher", "teacher_settings", "teacher_checkpoint", "intermediate_checkpoint"}
    run_only |= {"teachers", "n_teachers"}
    # eval_batch_size changes no result, and _check_values refuses log_wandb.
    run_only |= shared_keys(config) - {"eval_batch_size", "log_wandb"}
    for name in sorted(run_only & own.keys()):
        raise InputError(
            f"{prefix}{name} is not a stage's own setting: give --{name} at the top level"
        )
    model_class = _recommender(prefix, model)
    check_sampling(own, model_class, prefix=prefix)
    if model in our_models():
        internal = set(defaults_of(model))
    else:
        internal = set(recbole_yaml(f"model/{model}"))
    _check_known(own, model, model_class, internal, prefix=prefix)
    _check_values(own, model, prefix=prefix)


def _recommender(prefix: str, model: str) -> type[Any]:
    """Return the class of a stage's model; ``prefix`` is that of the stage's settings."""
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.utils import get_model

    from recbole_lightgnn.registry import model_names

    key = f"{prefix}model" if prefix.startswith("teachers[") else prefix.removesuffix("_settings.")
    if model not in (names := model_names()):
        raise InputError(f"{key}: no model is named {model!r}{did_you_mean(model, names)}")
    model_class: type[Any] = get_model(model)
    later_stage = key != "intermediate" and _learns_from_teacher(model_class)
    if later_stage or not issubclass(model_class, GeneralRecommender):
        raise InputError(
            f"{key} must be a general recommender that needs no teacher itself, got {model!r}"
        )
    return model_class


def _learns_from_teacher(model_class: type[Any]) -> bool:
    return getattr(model_class, "learns_from_teacher", False)


def _check_known(
    given: Iterable[str],
    model: str,
    model_class: type,
    internal: set[str],
    prefix: str = "",
) -> None:
    from recbole.utils import argument_list

    known = internal | set(recbole_yaml("overall")) | set(recbole_yaml("dataset/sample"))
    known |= set(describe(model)) | set(unlisted()) | set(_keys_read_by(model_class))
    known |= _NO_SETTINGS
    for group in ("general", "training", "evaluation", "dataset"):
        known |= set(getattr(argument_list, f"{group}_arguments"))
    known -= {"config_file"}  # RecBole lists this name but never reads it
    for key in given:
        if key == "device":
            raise InputError(
                "device is no setting: write --use_gpu=False, or choose a GPU by --gpu_id=0"
            )
        if key in known:
            continue
        if models := owners(key):
            raise InputError(
                f"{prefix}{key} is a setting of {' and '.join(models)}, not of {model}"
            )
        raise InputError(
            f"unknown setting {prefix}{key}{did_you_mean(key, known - _OF_PROCESSES)}; "
            f"`recbole-lightgnn settings {model}` lists them"
        )


def _check_values(settings: Mapping[str, Any], model: str, prefix: str = "") -> None:
    for key, setting in {**describe(model), **unlisted()}.items():
        if key in settings:
            check_value(setting, settings[key], prefix)
    if model not in our_models():
        check_own(settings, model, prefix)
        check_relations(settings, model, prefix)
        return
    for key, reason in _UNSUPPORTED.items():
        if settings.get(key):
            raise InputError(
                f"{prefix}{key} must be False for {model}, got {settings[key]!r}: LightGNN's "
                f"trainer {reason}"
            )


def _check_batches(settings: Mapping[str, Any], prefix: str = "") -> None:
    """Check that the settings for losses and negative items fit the setting ``batch_by``."""
    by_user = settings.get("batch_by") == "user"
    others = {"interaction_loss": "softmax", "prediction_kd": "listwise", "negatives": "batch"}
    for key, value in others.items():
        if by_user and settings.get(key, value) != value:
            raise InputError(
                f"{prefix}{key} must be {value} with batch_by=user, where users are compared with "
                f"all items, got {settings[key]}: set {prefix}batch_by=interaction or "
                f"{prefix}{key}={value}"
            )
    if settings.get("candidates", "auto") != "auto" and not by_user:
        raise InputError(
            f"{prefix}candidates ({settings['candidates']}) has no effect with "
            f"batch_by=interaction: set {prefix}batch_by=user, or negatives in its place"
        )
    if 0 < settings.get("max_epoch_steps", 0) < settings.get("epoch_steps", 1):
        raise InputError(
            f"{prefix}max_epoch_steps ({settings['max_epoch_steps']}) is below {prefix}epoch_steps "
            f"({settings['epoch_steps']}): lower the second"
        )
    if settings.get("popularity_prior") and not by_user:
        raise InputError(
            f"{prefix}popularity_prior ({settings['popularity_prior']}) has no effect with "
            f"batch_by=interaction: set {prefix}batch_by=user, or popularity_correction in its "
            "place"
        )
    if settings.get("prediction_kd_temperature", 1) is None and not by_user:
        raise InputError(
            f"{prefix}prediction_kd_temperature is empty (as recipe=auto sets it), which needs "
            f"batch_by=user: set {prefix}prediction_kd_temperature=0.5 or {prefix}batch_by=user"
        )


@cache
def _keys_read_by(model_class: type) -> frozenset[str]:
    """Names of the settings in a RecBole model's source code; some names are in no yaml file."""
    return frozenset(re.findall(r"config\[[\"'](\w+)[\"']\]", recbole_source(model_class)))


# --- the stages of a run -----------------------------------------------------------------


def check_run(config: Any, stage_defaults: Callable[[str], dict[str, Any]]) -> None:
    """Check that each stage of a run has a loss, fits the earlier stage, and can be saved.

    Args:
        config: the ``Config`` of the whole run, which `check_settings` has accepted.
        stage_defaults: function that returns a stage's default settings, from its model's name.

    Raises:
        InputError: if a stage would have no loss; if the embedding size of a stage does not fit the
            earlier stage from which it learns; if a setting would be ignored; or if
            ``checkpoint_dir`` cannot be written to.
    """
    settings = config.final_config_dict
    check_heeded(config)
    if _learns_from_teacher(config.model_class):
        for one in distinct_teachers(settings):
            _check_stage_run(config, one.prefix, one.model, one.settings, stage_defaults)
    if config.model == STUDENT:
        own = settings.get("intermediate_settings") or {}
        _check_stage_run(config, "intermediate_settings.", INTERMEDIATE, own, stage_defaults)
    folder = Path(settings["checkpoint_dir"])
    check_folder("checkpoint_dir", folder, folder)
    if not _learns_from_teacher(config.model_class):
        return
    if searches_teachers(settings) and settings["embedding_kd_weight"]:
        raise InputError(
            "embedding_kd_weight compares embeddings of one width, and recipe=auto finds teachers "
            "of any width: set embedding_kd_weight=0 or recipe=default"
        )
    teacher = _teacher_widths(settings, stage_defaults)
    if config.model != STUDENT:
        _check_learner(settings, "", "teacher", teacher)
        _check_teacher_tables(config.model_class, settings, teacher[1])
        return
    if not settings["use_intermediate"]:
        _check_learner(settings, "", "teacher", teacher)
    elif settings["intermediate_checkpoint"]:
        _check_learner(settings, "", "intermediate", (None, None))
    else:
        stage = {**stage_defaults(INTERMEDIATE), **(settings["intermediate_settings"] or {})}
        width = stage["embedding_size"]
        _check_learner(stage, "intermediate_settings.", "teacher", teacher)
        _check_learner(settings, "", "intermediate", (width, width))


def _check_stage_run(
    config: Any,
    prefix: str,
    model: str,
    own: Mapping[str, Any],
    stage_defaults: Callable[[str], dict[str, Any]],
) -> None:
    """Check an earlier stage's settings as `check_run` checks the settings of the run itself."""
    from recbole_lightgnn.config.settings_diff import shared_keys

    default, run = stage_defaults(model), config.final_config_dict
    shared = {key: run[key] for key in shared_keys(config) & run.keys()}
    settings = {**default, **shared, **own}
    model_class = _recommender(prefix, model)
    if model in our_models():
        _check_batches(settings, prefix)
        try:
            model_class.check_settings(settings)
        except InputError as error:
            raise InputError(f"{prefix}{error}") from error
    external = config.external_config_dict
    given = external.get(prefix.removesuffix(".")) or {}
    if prefix.startswith("teachers["):
        given = own if external.get("teachers") else {}
    given = {key: value for key, value in given.items() if value != default.get(key)}
    check_stage_heeded(given, settings, model_class, prefix)


def _teacher_widths(
    settings: Mapping[str, Any], stage_defaults: Callable[[str], dict[str, Any]]
) -> tuple[int | None, int | None]:
    """Return the widths (numbers per user) of the teacher's initial and of its final embeddings.

    The second is 0 if the teacher (for example BPR) stores no separate final embeddings. A width
    that is known only during the run is ``None``.
    """
    given = settings["teacher_checkpoint"] or settings["teachers"]
    if given or searches_teachers(settings):
        return None, None
    (model, _, own, prefix), *_ = teachers_of(settings)
    if model in our_models():
        widths = _recommender(prefix, model).widths({**stage_defaults(model), **own})
        return widths[0], widths[1] * settings["n_teachers"]
    width = {**recbole_yaml(f"model/{model}"), **own}.get("embedding_size")
    source = recbole_source(_recommender(prefix, model))
    tables = re.findall(r"self\.user_embedding = (?:torch\.)?(nn\.Embedding\()?", source)
    known = isinstance(width, int) and tables and all(tables)
    initial = width if known else None
    if "restore_user_e" not in source:  # RecBole's models store final embeddings under this name
        return initial, 0
    # Other models may concatenate layers.
    known = initial is not None and model in _KEEP_WIDTH
    return initial, (width * settings["n_teachers"] if known else None)


def _check_teacher_tables(
    model_class: type[Any], settings: Mapping[str, Any], width: int | None
) -> None:
    """Check, before the teacher is built, that it has the final embeddings that a model needs.

    Args:
        model_class: class of the model that learns from the teacher.
        settings: settings of this model.
        width: width of the teacher's final embeddings; ``None`` or 0 if it is not known.
    """
    if model_class.needs_teacher_tables:
        for one in distinct_teachers(settings):
            teacher = _recommender(one.prefix, one.model)
            source = recbole_source(teacher)
            named = "restore_user_e" in source or "self.user_embedding =" in source
            if not getattr(teacher, "ranks_by_tables", named):
                raise model_class.refusal(one.model)
    if width:
        model_class.check_teacher_width(settings, width)


def _check_learner(
    own: Mapping[str, Any], prefix: str, source: str, widths: tuple[int | None, int | None]
) -> None:
    """Check the losses and the embedding size of a model that learns from an earlier stage.

    Args:
        own: settings of the model that learns from the earlier stage.
        prefix: text before the names of settings in messages, such as ``intermediate_settings.``.
        source: the earlier stage: ``teacher`` or ``intermediate``.
        widths: widths of the earlier stage's initial and final embeddings; ``None`` if unknown.
    """
    _check_objective(own, prefix)
    (initial, final), width = widths, own.get("embedding_size", 0)
    if own.get("initial_embedding") == "teacher" and initial is not None and initial < width:
        raise InputError(
            f"{prefix}initial_embedding=teacher needs embeddings at least as wide as the model's "
            f"own (got embedding_size {initial} of the {source}, own {width}): set "
            f"{prefix}initial_embedding=xavier or {source}_settings.embedding_size={width}"
        )
    compares_embeddings = own.get("embedding_kd_weight")
    if compares_embeddings and final == 0:
        raise InputError(
            f"{prefix}embedding_kd_weight needs final embeddings, and the {source} gives only "
            f"scores: set {prefix}embedding_kd_weight=0 or choose a graph model as {source}"
        )
    if compares_embeddings and final is not None and final != width:
        raise InputError(
            f"{prefix}embedding_kd_weight compares embeddings of one width (got embedding_size "
            f"{final} of the {source}, own {width}): set {prefix}embedding_kd_weight=0 or "
            f"{source}_settings.embedding_size={width}"
        )


def _check_objective(own: Mapping[str, Any], prefix: str) -> None:
    """Refuse a model without a loss, or with only an interaction loss that ends too early.

    An interaction loss that is the only loss must last until the end of the last pruning run.
    """
    lasting = ["prediction_kd_weight", "embedding_kd_weight", "uniformity_weight"]
    lasting = [key for key in lasting if key in own]
    if any(own[key] for key in lasting):
        return
    names = ", ".join(prefix + key for key in lasting)
    if own.get("interaction_weight") == 0:
        raise InputError(
            f"there is no loss to learn from, as {prefix}interaction_weight, {names} are all 0: "
            "give one of them a positive weight"
        )
    runs, last = own.get("interaction_runs"), own.get("n_pruning_runs")
    if runs is not None and last is not None and runs <= last:
        raise InputError(
            f"interaction_runs must be more than n_pruning_runs ({last}) where the interaction "
            f"loss is the only one, got {runs}: raise it, or give one of {names} a positive weight"
        )
