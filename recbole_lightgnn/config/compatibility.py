"""Check that a run's metrics, ranking mode and sampling fit the model and each other.

RecBole notices a conflict in the middle of a training, or never. Each ``check_`` function raises an
InputError of one line, with flags that resolve the conflict.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.notations import as_list
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.utils.text import did_you_mean, must_be_one_of

# --- metrics ----------------------------------------------------------------------------------


def check_metrics(settings: Mapping[str, Any], model_class: type[Any]) -> None:
    """Check that ``metrics``, ``valid_metric``, the ranking mode and the model fit each other.

    Raises:
        InputError: if a metric does not exist, if ``valid_metric`` is none of the metrics, or if a
            metric does not fit the ranking mode or the model.
    """
    from recbole.evaluator import metrics_dict

    metrics, topk = as_list(settings["metrics"]), as_list(settings["topk"])
    names = sorted(cls.__name__ for cls in metrics_dict.values())
    for metric in metrics:
        if metric.lower() not in metrics_dict:
            must_be_one_of("metrics", metric, names)
    _check_kinds(metrics, topk, settings, model_class)
    measured = [name for metric in metrics for name in _measured(metric, topk)]
    chosen = settings["valid_metric"]
    if chosen.lower() not in map(str.lower, measured):
        raise InputError(
            f"valid_metric must be METRIC@K with K one of topk, that is one of "
            f"{', '.join(measured)}, got {chosen!r}{did_you_mean(chosen, measured)}"
        )


def _judges_scores(metric: str) -> bool:
    """Whether a metric compares single scores with labels, as AUC does, and not rankings."""
    from recbole.evaluator import metric_types
    from recbole.utils import EvaluatorType

    return bool(metric_types[metric.lower()] == EvaluatorType.VALUE)


def _measured(metric: str, topk: list[int]) -> list[str]:
    # RecBole's GAUC is a ranking metric of the whole list.
    if _judges_scores(metric) or metric.lower() == "gauc":
        return [metric]
    return [f"{metric}@{k}" for k in topk]


def _check_kinds(
    metrics: list[str], topk: list[int], settings: Mapping[str, Any], model_class: type[Any]
) -> None:
    of_scores = [metric for metric in metrics if _judges_scores(metric)]
    of_rankings = [metric for metric in metrics if not _judges_scores(metric)]
    modes = _modes(settings)
    if of_scores and of_rankings:
        kept = of_scores if "labeled" in modes else of_rankings
        raise InputError(
            "Ranking metrics and value metrics can not be used at the same time, got "
            f"{', '.join(of_rankings)} and {', '.join(of_scores)}: write "
            f'--metrics="[{", ".join(kept)}]" '
            f"--valid_metric={_measured(kept[0], topk)[0]}"
        )
    if of_scores and "full" in modes:
        raise InputError(
            f"metrics {', '.join(of_scores)} need labels, and eval_args.mode full has none: write "
            "--eval_args.mode=uni100, which samples items of label 0"
        )
    if of_scores and "labeled" in modes and model_class.__name__ in our_models():
        raise InputError(
            f"eval_args.mode labeled has no meaning for {model_class.__name__}, which takes every "
            "interaction for one of label 1: write --eval_args.mode=uni100"
        )
    if of_rankings and "labeled" in modes:
        sampling = " --train_neg_sample_args.distribution=uniform"
        sampled = not learns_from_labels(model_class) or _distribution(settings)
        raise InputError(
            f"metrics {', '.join(of_rankings)} need rankings, and eval_args.mode labeled has none: "
            f"write --eval_args.mode=full{'' if sampled else sampling}"
        )
    if "logloss" in map(str.lower, metrics) and not _gives_probabilities(model_class):
        raise InputError(
            f"LogLoss needs probabilities, and the scores of {model_class.__name__} are none: "
            f'write --metrics="[AUC]" --valid_metric=AUC'
        )


def _modes(settings: Mapping[str, Any]) -> set[str]:
    mode = (settings["eval_args"] or {}).get("mode", "full")
    return set(mode.values()) if isinstance(mode, dict) else {mode}


def short_list_warning(settings: Mapping[str, Any]) -> str:
    """Warn if Recall or Hit is always 1 because a ranked list is not longer than the cutoff.

    In the modes ``uniN`` and ``popN``, the list of a user with one test item has only this item and
    N sampled items.

    Returns:
        The warning in one line, with a remedy; empty if there is nothing to warn of.
    """
    most, ranked = max(as_list(settings["topk"])), as_list(settings["metrics"])
    ranked = [metric for metric in ranked if metric.lower() in ("recall", "hit")]
    sampled = [mode for mode in sorted(_modes(settings)) if mode[:3] in ("uni", "pop")]
    for mode in sampled if ranked else ():
        if most > int(mode[3:]):
            return (
                f"with eval_args.mode {mode} a list has {int(mode[3:]) + 1} items for each test "
                f"item, so {' and '.join(f'{metric}@{most}' for metric in ranked)} of users with "
                f"one test item are 1 by construction: write --eval_args.mode={mode[:3]}"
                f"{max(100, 10 * most)} or smaller values of topk"
            )
    return ""


def _gives_probabilities(model_class: type[Any]) -> bool:
    """Whether scores are probabilities: in context-aware and tree models, and after a sigmoid."""
    from recbole.utils import ModelType

    if model_class.type in (ModelType.CONTEXT, ModelType.DECISIONTREE):
        return True
    return "sigmoid" in inspect.getsource(model_class.predict).lower()


def check_mask(settings: Mapping[str, Any]) -> None:
    """Check that the test ranks all items if the setting ``eval_mask`` is ``train``.

    With sampled items, RecBole masks no items, so ``eval_mask`` would have no effect.

    Raises:
        InputError: if the test does not rank all items.
    """
    ranking = settings["eval_args"]
    mode = ranking.get("mode", "full") if isinstance(ranking, dict) else "full"
    if isinstance(mode, dict):  # a split without a mode has the other split's mode
        mode = mode.get("test", mode.get("valid", "full"))
    if settings.get("eval_mask") == "train" and mode != "full":
        raise InputError(
            f"eval_mask `train` needs a full ranking, got eval_args mode {mode!r}, where nothing "
            "is left out: set eval_mask to `train+valid`, or eval_args mode to `full`"
        )


# --- sampling ---------------------------------------------------------------------------------


def check_sampling(settings: Mapping[str, Any], model_class: type[Any], prefix: str = "") -> None:
    """Check that ``train_neg_sample_args`` (sampling of negative items) fits the model's loss.

    Args:
        settings: settings of a run or of a stage.
        model_class: class of the model.
        prefix: text before the names of settings in messages, such as ``teacher_settings.``.

    Raises:
        InputError: if negative items are sampled but the loss does not use them; or if the loss
            needs negative items and none are sampled.
    """
    if "train_neg_sample_args" not in settings:
        return
    sampling, name = settings["train_neg_sample_args"], model_class.__name__
    key = f"{prefix}train_neg_sample_args"
    by_loss = model_class.__name__ not in our_models() and not hasattr(model_class, "input_type")
    if by_loss and "loss_type" in settings:
        must_be_one_of(f"{prefix}loss_type", settings["loss_type"], ("BPR", "CE"))
    compares_with_all = by_loss and settings.get("loss_type") == "CE"
    if _distribution(settings) and compares_with_all:
        raise InputError(
            f"{key} must be empty with loss_type CE, where {name} compares with all items, got "
            f"{sampling!r}: write --{key}=None or --{prefix}loss_type=BPR"
        )
    if not _distribution(settings) and not compares_with_all and _learns_from_pairs(model_class):
        raise InputError(
            f"{key} must name a distribution, uniform or popularity, "
            f"got {sampling!r}: {name} samples items; leave the setting out"
        )
    _check_dynamic(sampling, name, key)


def _check_dynamic(sampling: Any, model: str, key: str) -> None:
    if not isinstance(sampling, dict) or not sampling.get("dynamic"):
        return
    if model in our_models():
        raise InputError(
            f"{key}.dynamic must be False for {model}, got {sampling['dynamic']!r}: its batches "
            "are made before their scores are known"
        )
    if sampling.get("candidate_num", 0) == 0:
        raise InputError(
            f"{key}.dynamic chooses among candidates, and there are none: add "
            f"--{key}.candidate_num=5"
        )


def _distribution(settings: Mapping[str, Any]) -> str:
    """Name of the distribution from which negative items are sampled; empty if none are sampled."""
    sampling = settings.get("train_neg_sample_args")
    kind = sampling.get("distribution", "uniform") if isinstance(sampling, dict) else sampling
    return "" if str(kind).lower() == "none" else str(kind)


def _learns_from_pairs(model_class: type[Any]) -> bool:
    """Whether the model's loss compares a positive item with a sampled negative item.

    For RecBole's models, the source is searched: ``input_type`` may be wrong, as in MultiVAE.
    """
    if model_class.__name__ in our_models():
        samples: bool = model_class.samples_items
        return samples
    return "interaction[self.NEG_ITEM_ID]" in recbole_source(model_class)


def learns_from_labels(model_class: type[Any]) -> bool:
    """Whether the loss compares scores with labels: those in the files, or 0 for sampled items."""
    ours = model_class.__name__ in our_models()
    return not ours and "interaction[self.LABEL]" in recbole_source(model_class)


def needs_labels(settings: Mapping[str, Any], model_class: type[Any]) -> bool:
    """Whether a run needs labels in the dataset's files.

    It does if the loss compares scores with labels and no negative items are sampled, or if the
    evaluation has the mode ``labeled``.
    """
    trains = learns_from_labels(model_class) and not _distribution(settings)
    return trains or "labeled" in _modes(settings)


def recbole_source(model_class: type[Any]) -> str:
    """Source code of a model's class and base classes, as far as they are RecBole's classes."""
    classes = [cls for cls in model_class.__mro__ if cls.__module__.startswith("recbole.model")]
    return "\n".join(inspect.getsource(cls) for cls in classes)
