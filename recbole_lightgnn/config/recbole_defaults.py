"""Our defaults for RecBole's models that cannot run with RecBole's own defaults."""

from typing import Any

from recbole_lightgnn.config.files import recbole_yaml

# RecBole 1.2.1's defaults lack the order of time and the knowledge graph for these sequential
# models, and the vectors of relations for KSR.
_SEQUENTIAL: dict[str, Any] = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "load_col": {
        "inter": ["user_id", "item_id", "timestamp"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
        "ent": ["ent_id", "ent_emb"],
    },
    "additional_feat_suffix": ["ent"],
    "alias_of_entity_id": ["ent_id"],
    "preload_weight": {"ent_id": "ent_emb"},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "GRU4RecKG": _SEQUENTIAL,
    "KSR": {
        **_SEQUENTIAL,
        "load_col": {**_SEQUENTIAL["load_col"], "rel": ["rel_id", "rel_emb"]},
        "additional_feat_suffix": ["ent", "rel"],
        "alias_of_relation_id": ["rel_id"],
        "preload_weight": {"ent_id": "ent_emb", "rel_id": "rel_emb"},
    },
}


def own_defaults(model: str) -> dict[str, Any]:
    """Defaults to add for a RecBole model; empty if RecBole's own defaults are enough.

    RecBole does not find its yaml files of XGBoost and LightGBM, which also misspell a setting.
    """
    if model in ("XGBoost", "LightGBM"):
        own = recbole_yaml(f"model/{model}")
        return {**own, "token_num_threshold": own["token_num_threhold"]}
    return _DEFAULTS.get(model, {})
