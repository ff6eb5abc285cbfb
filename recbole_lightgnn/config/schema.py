"""Every setting of the plugin: its type, what it may be, what it means and whose it is.

Defaults are not in the table: they live in ``properties/`` alone, which is found and read here,
and a test holds that the keys are the same. ``recbole-lightgnn settings MODEL`` prints both.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import defaults_of
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import must_be_one_of

TEACHER, INTERMEDIATE, STUDENT = "LightGNNTeacher", "LightGNNIntermediate", "LightGNN"
STAGES = (TEACHER, INTERMEDIATE, STUDENT)
# Whose a row of the table is. T: our teacher, and the baselines that are it by another name.
T_LAYERS, T_MF = (TEACHER, "SoftmaxLightGCN"), ("SoftmaxMF",)
T, M, S = T_LAYERS + T_MF, (INTERMEDIATE,), (STUDENT,)
X, LR, AU, MF, AUTO = ("XSimGCL",), ("LRGCCF",), ("DirectAU",), ("BiasMF",), ("AutoRec",)
SIM = ("SimGCL", *X)
DECAYED = T + M + S + SIM + LR + MF
OURS = DECAYED + AU + AUTO
ANY: tuple[str, ...] = ()  # of every model, RecBole's own too


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        key: its name in yaml and on the command line.
        type: ``int``, ``float``, ``bool``, ``str``, ``dict``, ``ints``, ``strs`` and ``paths`` (one
            or a list), ``model`` (a recommender's name), ``path`` (of a file, or nothing).
        allowed: an interval such as ``(0, 1]``, with `` or nothing`` where it may be unset; or the
            values themselves, parted by ``|``.
        meaning: what it does, in a few words.
        models: whose setting it is; empty for every model.
    """

    key: str
    type: str
    allowed: str
    meaning: str
    models: tuple[str, ...]


_POSITIVE = "(0, inf)"
_FROM_0 = "[0, inf)"
_FROM_1 = "[1, inf)"
_RATIO = "(0, 1]"

# Table 3 of the paper: what each ablation changes. `apply_ablation` adds to -BiAln what depends on
# the other settings; with -IntKD the student starts from the teacher and learns from it directly.
ABLATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "~EmbP": {"entry_pruning": "random"},
    "~EdgeP": {"edge_pruning": "random"},
    "~BothP": {"entry_pruning": "random", "edge_pruning": "random"},
    "BnEdge": {"edge_weights": "binary"},
    "-BiAln": {"prediction_kd_weight": 0.0, "embedding_kd_weight": 0.0},
    "-IntKD": {"use_intermediate": False},
    "-ImpD": {"weight_importance": 0.0, "score_importance": 0.0},
}

# fmt: off
TABLE: tuple[Setting, ...] = tuple(Setting(*row) for row in (
    # key, type, allowed, meaning, models
    ("recipe", "str", "", "whose settings to start from: ours (default) or the paper's", S),
    ("ablation", "str", " | ".join(ABLATIONS), "one row of the paper's Table 3", S),
    ("teacher", "model", "", "any general recommender; only its scores are needed", M + S),
    ("teacher_settings", "dict", "", "changes to the teacher's own settings", M + S),
    ("n_teachers", "int", _FROM_1, "trained with other draws, their scores averaged", M + S),
    ("teacher_checkpoint", "paths", "", "take these files, train no teacher", M + S),
    ("use_intermediate", "bool", "", "False: from the teacher straight to the student", S),
    ("intermediate_settings", "dict", "", "changes to the intermediate's own settings", S),
    ("intermediate_checkpoint", "path", "", "start from this file instead of training it", S),

    ("embedding_size", "int", _FROM_1, "length of an embedding", OURS),
    ("n_layers", "int", _FROM_0, "propagation layers", T_LAYERS + M + S + LR + AU),
    ("n_layers", "int", _FROM_1, "propagation layers", SIM),
    ("n_layers", "int", "[0, 0]", "propagation layers: none", T_MF),
    ("initial_embedding", "str", "xavier | teacher", "where the first embeddings come from", M + S),
    ("teacher_scale", "str", "spread | none", "what a frozen model's scores are divided by", M + S),
    ("edge_weights", "str", "learned | binary", "edge weights in propagation", S),
    ("rotation", "str", "none | pca | varimax", "of the embeddings, before entries go", S),
    ("augmentation", "str", "hops | same_side | none", "Eq. 7, the published code's, or none", M),
    ("augmentation_hops", "int", _FROM_1, "how far an augmented pair may be apart", M),
    ("augmentation_cap", "int", _FROM_1, "augmented pairs a node may have, strongest first", M),
    ("augmentation_memory", "int", _FROM_1, "MB at a time, or what one node's paths take", M),

    ("interaction_loss", "str", "bpr | softmax", "Eq. 3, or softmax over items", T + M + S),
    ("interaction_weight", "float", _FROM_0, "lambda_0: weight of the interaction loss", M + S),
    ("interaction_runs", "int", _FROM_0, "pruning runs in which the interaction loss is on", S),
    ("batches", "str", "interactions | users", "of training; users: against all items", T + M + S),
    ("batches", "str", "users", "of training: users, whose every interaction counts", AUTO),
    ("similarity", "str", "inner | cosine", "of the softmax", T + M + S),
    ("ranking_norm", "float", "[0, 1]", "exponent of an item's norm; 1: inner, 0: cosine", T),
    ("ranking_prior", "float", _FROM_0, "weight of log-popularity added to the ranking", T),
    ("ranking_own", "float", _FROM_0, "weight of a node's own embedding in the ranking", T),
    ("temperature", "float", _POSITIVE, "of the softmax", T + M + S),
    ("popularity_correction", "float", _FROM_0, "weight of log-popularity taken off", T + M + S),
    ("popularity_prior", "float", _FROM_0, "weight of log-popularity added, by users", T + M + S),
    ("negatives", "str", "batch | sampled", "candidates of the softmax", T + M + S),
    ("n_negatives", "int", _FROM_1, "how many candidates, where sampled", T + M + S),
    ("prediction_kd", "str", "pairwise | listwise", "Eq. 5, or a list of items a user", M + S),
    ("prediction_kd_weight", "float", _FROM_0, "lambda_1: weight of Eq. 5", M + S),
    ("prediction_kd_temperature", "float", _POSITIVE, "of Eq. 5", M + S),
    ("prediction_kd_items", "int", _FROM_1, "the teacher's best items that count, by users", M + S),
    ("embedding_kd_weight", "float", _FROM_0, "lambda_2: weight of Eq. 6", M + S),
    ("embedding_kd_temperature", "float", _POSITIVE, "of Eq. 6", M + S),
    ("uniformity_weight", "float", _FROM_0, "lambda_3: weight of Eq. 9", S),
    ("uniformity_weight", "float", _FROM_0, "gamma: weight of uniformity", AU),
    ("uniformity_temperature", "float", _POSITIVE, "of Eq. 9", S),
    ("uniformity_slack", "int", _FROM_0, "delta of Eq. 10", S),
    ("contrast_nodes", "int", _FROM_1, "nodes a side in Eq. 6 and 9, drawn from the batch", M + S),
    ("contrast_candidates", "int", _FROM_1, "nodes a side they are compared with, drawn", M + S),
    ("contrast_weight", "float", _FROM_0, "lambda: weight of the contrast of views", SIM),
    ("contrast_temperature", "float", _POSITIVE, "tau of the contrast of views", SIM),
    ("contrast_layer", "int", _FROM_1, "l*: the layer contrasted with all", X),
    ("noise", "float", _FROM_0, "epsilon: length of a layer's noise in a view", SIM),
    ("reg_weight", "float", _FROM_0, "weight decay on the batch's embeddings", DECAYED),
    ("reg_weight", "float", _FROM_0, "lambda: weight decay on the weights", AUTO),
    ("weight_decay", "float", _FROM_0, "of the optimizer, on every parameter", ANY),

    ("learning_rate_end", "float", _RATIO, "the last epoch's, of the first's", OURS),
    ("n_pruning_runs", "int", _FROM_0, "how often to train and prune", S),
    ("entry_ratio", "float", _RATIO, "entries kept by each run, of those still alive", S),
    ("edge_ratio", "float", _RATIO, "interactions kept by each run, of those still alive", S),
    ("entry_pruning", "str", "magnitude | random | none", "which embedding entries go", S),
    ("edge_pruning", "str", "importance | random | none", "which interactions go", S),
    ("entry_floor", "int", _FROM_0, "entries that every user and item keeps", S),
    ("edge_floor", "int", _FROM_0, "interactions that every user and item keeps", S),
    ("weight_importance", "float", _FROM_0, "beta_1: the intermediate's weight in Eq. 8", S),
    ("score_importance", "float", _FROM_0, "beta_2: the intermediate's score in Eq. 8", S),

    ("learning_rate", "float", _POSITIVE, "step size of the optimizer", ANY),
    ("epochs", "int", _FROM_1, "epochs at most (LightGNN: in each pruning run)", ANY),
    ("stopping_step", "int", _FROM_0, "validations without a new best before stopping", ANY),
    ("train_batch_size", "int", _FROM_1, "interactions a batch (users, by users)", ANY),
    ("eval_step", "int", _FROM_1, "epochs from one validation to the next", ANY),

    ("metrics", "strs", "", "what is measured", ANY),
    ("topk", "ints", _FROM_1, "the lengths of list it is measured at", ANY),
    ("valid_metric", "str", "", "what chooses the epoch, as METRIC@K", ANY),
    ("eval_batch_size", "int", _FROM_1, "scores an evaluation batch (users x items)", ANY),
    ("metric_decimal_place", "int", _FROM_0, "decimals that metrics are rounded to", ANY),
    ("eval_mask", "str", "train+valid | train", "what a test ranking leaves out", ANY),
    ("our_products", "bool", "", "RecBole's graph models by our sparse products: sooner", ANY),
    ("seed", "int", "[0, 4294967295]", "of every random number", ANY),
    ("split_seed", "int", "[0, 4294967295] or nothing", "of the splits' cut, if not the seed", ANY),
    ("show_progress", "bool", "", "progress bars", ANY),
    ("checkpoint_dir", "str", "", "folder of checkpoints, run folders and records", ANY),
))
# fmt: on


def table_of(model: str) -> dict[str, Setting]:
    """The rows of one model: its own and everybody's. Shape: key -> row."""
    return {row.key: row for row in TABLE if not row.models or model in row.models}


def check_value(row: Setting, value: Any, prefix: str = "") -> None:
    """Raise InputError if ``value`` is not of the row's type or not in its range.

    Args:
        row: the table's row.
        value: what the setting is.
        prefix: put before the key in messages, such as ``teacher_settings.``.
    """
    key = prefix + row.key
    if row.type in ("ints", "strs", "paths"):
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise InputError(f"{key} must name at least one, got an empty list")
        single = Setting(key, row.type.rstrip("s"), row.allowed, row.meaning, row.models)
        for item in values:
            check_value(single, item)
        return
    if row.type == "path":
        if value is not None and not isinstance(value, str):
            raise InputError(f"{key} must be the path of a file, or nothing, got {value!r}")
        if value is not None and not Path(value).is_file():
            raise InputError(f"{key}: there is no file {value}")
    elif row.type == "dict":
        if value is not None and not isinstance(value, dict):
            raise InputError(
                f"{key} must be a mapping, got {value!r}; write --{key}.epochs=3, "
                f"or {{epochs: 3}} in a config file"
            )
    elif row.type == "bool":
        if not isinstance(value, bool):
            raise InputError(f"{key} must be True or False, got {value!r}")
    elif row.type in ("int", "float"):
        _check_number(key, row, value)
    elif not isinstance(value, str):
        raise InputError(f"{key} must be a name, got {value!r}")
    elif row.allowed:
        must_be_one_of(key, value, row.allowed.split(" | "))


def _check_number(key: str, row: Setting, value: Any) -> None:
    interval, _, nothing = row.allowed.partition(" or ")
    if value is None and nothing:
        return
    kind = "an integer" if row.type == "int" else "a number"
    types = int if row.type == "int" else (int, float)
    ok = isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not _within(float(value), interval):
        raise InputError(f"{key} must be {kind} in {row.allowed}, got {value!r}")


def _within(value: float, interval: str) -> bool:
    left, low, high, right = re.fullmatch(r"([\[(])(.+), (.+)([\])])", interval).groups()
    above = value >= float(low) if left == "[" else value > float(low)
    below = value <= float(high) if right == "]" else value < float(high)
    return above and below


def apply_ablation(settings: dict[str, Any], intermediate: dict[str, Any]) -> None:
    """Change a student's settings in place to those of its ``ablation``.

    Without alignment (``-BiAln``) the interaction loss is all that is left to learn from, so it is
    turned on in every run, with weight 1 where it had none.

    Args:
        settings: the student's settings, ``ablation`` among them; an unknown one changes nothing.
        intermediate: the intermediate's own defaults.
    """
    name = settings.get("ablation")
    changes = ABLATIONS.get(name, {}) if isinstance(name, str) else {}
    settings.update(changes)
    if name == "-BiAln":
        settings["interaction_weight"] = settings.get("interaction_weight") or 1.0
        settings["interaction_runs"] = defaults_of(STUDENT)["interaction_runs"]
        stage = {**(settings.get("intermediate_settings") or {}), **changes}
        weight = {**intermediate, **stage}.get("interaction_weight")
        settings["intermediate_settings"] = {**stage, "interaction_weight": weight or 1.0}
