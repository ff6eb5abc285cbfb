"""Check that settings of a RecBole model fit each other, such as ``hidden_size`` and ``n_heads``.

RecBole notices the conflict while it builds the model, after the data is loaded, and names neither
setting.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.files import recbole_yaml
from recbole_lightgnn.config.notations import one_line_yaml
from recbole_lightgnn.errors import InputError

# The first setting must divide the first of the others that the model has.
_DIVIDES = (
    ("n_heads", "hidden_size", "embedding_size"),
    ("num_heads", "attention_size"),
    ("n_factors", "embedding_size"),
)
# The first setting must be at most the second setting.
_AT_MOST = (
    ("sampling_steps", "steps"),
    ("short_item_length", "MAX_ITEM_LIST_LENGTH"),
    ("high_order", "MAX_ITEM_LIST_LENGTH"),
    ("order_len", "MAX_ITEM_LIST_LENGTH"),
)
_LAYERS = (
    "cnn_channels",
    "cnn_kernels",
    "cnn_strides",
)  # ConvNCF: input and layers, layers, layers
_COUNTS = re.compile(r"\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*)*")  # numbers separated by commas
_TOWERS = ("user_hidden_size_list", "item_hidden_size_list")  # DMF


def check_relations(settings: Mapping[str, Any], model: str, prefix: str = "") -> None:
    """Check that the settings of a RecBole model fit each other.

    Args:
        settings: settings of a run or of a stage, each of the right type. A setting that is missing
            has RecBole's default.
        model: name of the model.
        prefix: text put before the names of settings in messages, such as ``teacher_settings.``.

    Raises:
        InputError: if two settings do not fit. The message gives values that do.
    """
    own = recbole_yaml(f"model/{model}")
    every = {**recbole_yaml("dataset/sample"), **own, **settings}
    for part, *wholes in _DIVIDES:
        whole = next((key for key in wholes if key in own), part)
        if part in own and every[whole] % every[part]:
            raise InputError(
                f"{prefix}{part} of {model} must divide {whole}, {every[whole]}, got "
                f"{every[part]}: write --{prefix}{part}={math.gcd(every[part], every[whole])}"
            )
    for less, more in _AT_MOST:
        if less in own and every[less] > every[more]:
            raise InputError(
                f"{prefix}{less} of {model} must be at most {more}, {every[more]}, got "
                f"{every[less]}: write --{prefix}{less}={every[more]}"
            )
    if own.keys() >= {*_LAYERS}:
        _check_layers(every, model, prefix)
    if own.keys() >= {*_TOWERS}:
        _check_towers(every, model, prefix)
    if model == "NeuMF":
        _check_neumf(every, prefix)
    if model == "BERT4Rec" and int(every["mask_ratio"] * every["MAX_ITEM_LIST_LENGTH"]) < 1:
        least = math.ceil(1e4 / every["MAX_ITEM_LIST_LENGTH"]) / 1e4
        raise InputError(
            f"{prefix}mask_ratio of BERT4Rec must mask at least one of MAX_ITEM_LIST_LENGTH items, "
            f"{every['MAX_ITEM_LIST_LENGTH']}, got {every['mask_ratio']}: write "
            f"--{prefix}mask_ratio={max(0.2, least)}"
        )
    if "n_facet_all" in own:
        _check_facets(every, model, prefix)


def _check_layers(settings: Mapping[str, Any], model: str, prefix: str) -> None:
    channels, kernels, strides = (settings[key] for key in _LAYERS)
    if not channels or channels[0] != 1:
        raise InputError(
            f"{prefix}cnn_channels of {model} must begin with 1, the channel of its input, got "
            f"{channels}: write --{prefix}cnn_channels={_quoted([1, *channels])}"
        )
    if not len(channels) - 1 == len(kernels) == len(strides):
        raise InputError(
            f"{prefix}cnn_kernels and cnn_strides of {model} must have one number for each of "
            f"cnn_channels after the first, {len(channels) - 1}, got {kernels} and {strides}: make "
            "them equally long"
        )


def _check_towers(settings: Mapping[str, Any], model: str, prefix: str) -> None:
    user, item = (settings[key] for key in _TOWERS)
    if not user or not item or user[-1] != item[-1]:
        key, changed, last = (_TOWERS[1], item, user) if user else (_TOWERS[0], user, item)
        wanted = _quoted([*changed[:-1], *(last[-1:] or [64])])
        raise InputError(
            f"the last of {prefix}{_TOWERS[0]} and of {_TOWERS[1]} of {model} must be equal, got "
            f"{user} and {item}: write --{prefix}{key}={wanted}"
        )


def _check_neumf(settings: Mapping[str, Any], prefix: str) -> None:
    if not settings["mlp_hidden_size"]:
        raise InputError(
            f"{prefix}mlp_hidden_size of NeuMF must have at least one number, got []: write "
            f'--{prefix}mlp_hidden_size="[64]", or leave it out'
        )
    if not settings["mf_train"] and not settings["mlp_train"]:
        raise InputError(
            f"{prefix}mf_train and mlp_train of NeuMF must not both be False: write "
            f"--{prefix}mf_train=True"
        )


def _check_facets(settings: Mapping[str, Any], model: str, prefix: str) -> None:
    sizes, emb = str(settings["reranker_CAN_NUM"]), settings["n_facet_emb"]
    if not _COUNTS.fullmatch(sizes):
        raise InputError(
            f"{prefix}reranker_CAN_NUM of {model} must be numbers of items, such as 500,100,20, "
            f"got {settings['reranker_CAN_NUM']!r}: write --{prefix}reranker_CAN_NUM=100"
        )
    if emb not in (0, 2):
        raise InputError(
            f"{prefix}n_facet_emb of {model} must be 0 or 2, got {emb}: write "
            f"--{prefix}n_facet_emb=2"
        )
    partitions = settings["n_facet_reranker"] * len(sizes.split(","))
    needed = settings["n_facet"] + settings["n_facet_context"] + partitions + emb
    if settings["n_facet_all"] != needed:
        raise InputError(
            f"{prefix}n_facet_all of {model} must be {needed}, the sum of n_facet, "
            "n_facet_context, n_facet_reranker for each number in reranker_CAN_NUM, and "
            f"n_facet_emb, got {settings['n_facet_all']}: write --{prefix}n_facet_all={needed}"
        )


def _quoted(numbers: list[int]) -> str:
    return f'"{one_line_yaml(numbers)}"'
