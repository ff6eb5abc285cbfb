"""Check the settings that only single RecBole models have, such as ``k`` of ItemKNN.

RecBole checks few of these settings. With ``n_layers=-1``, RecBole trains a model without layers;
with ``k=-1``, ItemKNN finds no neighbor. Here, a setting must have the same type as its default in
RecBole's yaml file of the model. The tables below add a range, or the texts that RecBole's code
accepts. Their keys are names of settings. A key ``MODEL.setting`` is for one model, and takes
precedence over the key ``setting``.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from recbole_lightgnn.config.files import recbole_yaml
from recbole_lightgnn.config.schema import Setting, check_value
from recbole_lightgnn.errors import InputError

_COUNTS = """
    embedding_size hidden_size inner_size attention_size hidden_dimension latent_dimension
    gcn_output_dim weight_size low_rank rank prototype_size user_embedding_size item_embedding_size
    mf_embedding_size mlp_embedding_size kg_embedding_size ui_embedding_size neigh_embedding_size
    mlp_hidden_size hidden_size_list user_hidden_size_list item_hidden_size_list encoder_hidden_size
    critic_layers dims_dnn in_dims out_dims layers order_list t_cin cin_layer_size
    cnn_channels cnn_kernels cnn_strides dilations
    conv_kernel_size pool_kernel_size kernel_size num_conv_kernel block_num
    n_layers num_layers n_heads num_heads n_factors n_iterations n_hop context_hops n_hops
    cross_layer_num hyper_layers expert_num class_num num_basis_functions
    k k_interests kfac interest_size num_clusters n_cate n_memory neigh_num neighbor_sample_size
    order_len high_order history_len short_item_length history_num_per_term metrics_k nh nv
    steps save_step m_step kge_interval n_enc_epochs n_dec_epochs
    n_facet n_facet_all n_facet_hidden
    lgb_num_boost_round xgb_num_boost_round token_num_threhold
"""
_COUNTS_FROM_0 = """
    AutoInt.n_layers DGCF.n_layers FiGNN.n_layers LightGCN.n_layers NCL.n_layers
    SGL.n_layers SpectralCF.n_layers
    depth t_depth step n_iter lightgcn_layer item_agg_layer low_layers_num high_layers_num
    pretrain_epochs warm_up_step train_rec_step train_kg_step sampling_steps
    anneal_steps vae_anneal_steps total_anneal_steps n_facet_context n_facet_reranker n_facet_emb
"""
_INTEGERS = "split_to"
_INTEGERS_TO_0 = "n_facet_window n_facet_MLP"
_SHARES_BELOW_1 = """
    dropout_prob dropout_probs dropout hidden_dropout_prob attn_dropout_prob sess_dropout
    item_dropout mess_dropout mess_dropout_rate message_dropout node_dropout node_dropout_rate
    drop_ratio drop_ex drop_im corruption_ratio
"""
_SHARES_ABOVE_0 = "mask_ratio"
_SHARES = "ft_ratio l1_ratio GCSAN.weight SimpleX.gamma spatial_ratio global_ratio"
_POSITIVE = """
    temperature tau ssl_tau ssl_temp tau_ratio layer_norm_eps rho topk_factor resolution
"""
_NOT_NEGATIVE = """
    reg_weight reg_weights reg_weight_1 reg_weight_2 lambda1 lambda2 reg_loss_ratio ssl_weight
    ssl_reg proto_reg kg_weight ls_weight cor_weight sim_regularity align_weight aap_weight
    mip_weight map_weight sp_weight second_order_loss_weight negative_weight lmd lmd_sem lamda
    mixture_weights anneal_cap vae_anneal_cap initializer_range noise_scale noise_min noise_max
    shrink NCL.alpha SLIMElastic.alpha RecVAE.gamma
"""
_RANGES = {
    **dict.fromkeys(_COUNTS.split(), ("int", ">= 1")),
    **dict.fromkeys(_COUNTS_FROM_0.split(), ("int", ">= 0")),
    **dict.fromkeys(_INTEGERS.split(), ("int", "")),
    **dict.fromkeys(_INTEGERS_TO_0.split(), ("int", "-inf <= x <= 0")),
    "LINE.order": ("int", "1 <= x <= 2"),
    **dict.fromkeys(_SHARES_BELOW_1.split(), ("float", "0 <= x < 1")),
    **dict.fromkeys(_SHARES.split(), ("float", "0 <= x <= 1")),
    **dict.fromkeys(_SHARES_ABOVE_0.split(), ("float", "0 < x <= 1")),
    **dict.fromkeys(_POSITIVE.split(), ("float", "> 0")),
    **dict.fromkeys(_NOT_NEGATIVE.split(), ("float", ">= 0")),
}
_ACTIVATIONS = "any case sigmoid | tanh | relu | leakyrelu | dice | none"
_CHOICES = {
    "KGCN.aggregator": "sum | neighbor | concat",
    "KGNNLS.aggregator": "sum | neighbor | concat",
    "SimpleX.aggregator": "mean | user_attention | self_attention",
    "KD_DAGFM.type": "inner | outer",
    "KD_DAGFM.teacher": "CrossNet | CIN",
    "SGL.type": "ED | ND | RW",
    "CDAE.loss_type": "BCE | MSE",
    "MCCLK.loss_type": "any case bpr | bce",
    "CORE.loss_type": "CE",
    "FPMC.loss_type": "BPR",
    "RaCT.train_stage": "actor_pretrain | critic_pretrain | finetune",
    "S3Rec.train_stage": "pretrain | finetune",
    "accum": "stack | sum",
    "aggregator_type": "gcn | graphsage | bi",
    "ae_act_func": _ACTIVATIONS,
    "algorithm": "concat | prod",
    "dnn_type": "trm | ave",
    "fredom_type": "us | un | su | us_x",
    "gru_type": "GRU | AIGRU | AGRU | AUGRU",
    "hid_activation": "sigmoid | relu | tanh",
    "hidden_act": "gelu | relu | swish | tanh | sigmoid",
    "ind": "mi | distance | cosine",
    "inter_matrix_type": "01 | rating",
    "knn_method": "item | user",
    "loss_function": "inner_product | transe",
    "mean_type": "x0 | eps",
    "mlp_act_func": _ACTIVATIONS,
    "neigh_info_method": "random | knn | louvain",
    "noise_schedule": "linear | linear-var | cosine | binomial",
    "out_activation": "sigmoid | relu",
    "partition_merging_mode": "replace | add | half",
    "phase": "teacher_training | distillation | finetuning",
    "pooling_mode": "mean | max | sum",
    "pooling_type": "max | average",
    "pooling_type_layer_1": "max | average | mean",
    "pooling_type_layer_2": "max | average | mean",
    "reranker_merging_mode": "replace | add",
    "structure": "stacked | parallel",
    "train_method": "after_pretrain | no_pretrain",
    "weight_mode": "dynamic | static | max_logits",
}
# Not checked here: numbers with commas, which `recbole_relations` checks; a number or True.
_UNCHECKED = {"reranker_CAN_NUM", "xgb_verbose_eval"}
# Lists in which each place has its own meaning.
_OF_FIXED_LENGTH = {"reg_weight", "reg_weights", "mixture_weights", "dropout_probs"}
# Switches with the default 0 or 1 instead of False or True.
_SWITCHES = {"use_proj_bias", "context_norm", "post_remove_context"}


@cache
def own_setting(model: str, key: str) -> Setting | None:
    """Type and range of one setting of a RecBole model; of one element if the setting is a list.

    Args:
        model: name of the model.
        key: name of the setting in RecBole's yaml file of the model.

    Returns:
        Type, range and allowed texts; ``None`` if every value is accepted.
    """
    default = recbole_yaml(f"model/{model}")[key]
    first = default[0] if isinstance(default, list) and default else default
    names = [name for name in (f"{model}.{key}", key) if name in _RANGES or name in _CHOICES]
    if names and names[0] in _RANGES:
        return Setting(key, *_RANGES[names[0]])
    if names:
        choices = _CHOICES[names[0]]
        any_case = choices.startswith("any case ")
        choices = choices.removeprefix("any case ")
        return Setting(key, "str", choices=tuple(choices.split(" | ")), any_case=any_case)
    if isinstance(first, bool) or key in _SWITCHES:
        return Setting(key, "bool")
    if isinstance(first, int | float):
        return Setting(key, "float")
    return Setting(key, "str") if isinstance(first, str) else None


def check_own(settings: Mapping[str, Any], model: str, prefix: str = "") -> None:
    """Check the settings that are in RecBole's yaml file of a model.

    Raises:
        InputError: if a setting does not have the type of its default, or is not in its range.
    """
    for key, default in recbole_yaml(f"model/{model}").items():
        if key in settings and key not in _UNCHECKED:
            _check(settings[key], default, own_setting(model, key), f"{prefix}{key}", prefix)


def _check(value: Any, default: Any, setting: Setting | None, key: str, prefix: str) -> None:
    if setting is None or (type(value) is type(default) and value == default):
        return
    if isinstance(value, bool) and setting.type != "bool" and isinstance(default, int | float):
        raise InputError(f"{key} must be a number, as {default}, got {value}")
    if not isinstance(default, list):
        # RecBole takes 0 for False and 1 for True.
        if setting.type != "bool" or type(value) is not int or value not in (0, 1):
            check_value(setting, value, prefix)
        return
    if not isinstance(value, list | tuple):
        raise InputError(f"{key} must be a list, as {default}, got {value!r}")
    if setting.key in _OF_FIXED_LENGTH and len(value) != len(default):
        raise InputError(f"{key} must be a list of {len(default)}, as {default}, got {value!r}")
    for one in value:
        check_value(setting, one, prefix)
