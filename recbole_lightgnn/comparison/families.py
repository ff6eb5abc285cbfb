"""Families of models, by which a comparison's table and page group their rows.

The family of one of our models is the line ``family`` of the model's yaml file. RecBole's models
have no such line, so their families are listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.registry import STUDENT, model_names, our_models, properties_dir

# What the models of a family have in common, in the order in which tables and pages list families.
FAMILIES = {
    "training-free": "computed from the interactions in one step, without epochs",
    "matrix factorization": "trained embeddings or similarities of low rank, no graph",
    "graph": "the loss or the final embeddings depend on the graph of interactions",
    "contrastive": "a loss draws two views of a node, or a user and an item, together, and spreads "
    "all others",
    "distilled": "learns the scores of a trained teacher",
    "pruned": "loses edges or embedding entries during training",
    "compressed": "a trained model, made smaller without further training",
    "autoencoder": "computes scores from all interactions of a user by a trained network",
}
_OF_RECBOLE = {
    "training-free": "ADMMSLIM AsymKNN EASE ItemKNN NCEPLRec Pop Random SLIMElastic",
    "matrix factorization": "BPR ConvNCF DMF ENMF FISM NAIS NNCF NeuMF SimpleX",
    "graph": "DGCF GCMC LINE LightGCN NGCF SpectralCF",
    "contrastive": "NCL SGL",
    "autoencoder": "CDAE DiffRec LDiffRec MacridVAE MultiDAE MultiVAE RaCT RecVAE",
}


@cache
def family_of(model: str) -> str:
    """Return the family of a model; empty for a model that is neither ours nor RecBole's."""
    if model in our_models():
        family: str = read_yaml(properties_dir() / "model" / f"{model}.yaml").get("family", "")
        return family
    return next((name for name, models in _OF_RECBOLE.items() if model in models.split()), "")


def family_of_row(record: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return the family of a record's row, which may be for a teacher or an intermediate model.

    - An ensemble of teachers has the family of its teachers.
    - The family of LightGNN's student is ``distilled`` before the first pruning, then ``pruned``.

    Args:
        record: the record.
        row: one of the record's rows.
    """
    if row["stage"] == "teacher":
        row = record["rows"][0]
    model = row.get("model", record["model"])
    whole = row["entries_kept"] == row["interactions_kept"] == 1
    return "distilled" if model == STUDENT and whole else family_of(model)


def models_by_family() -> dict[str, list[str]]:
    """List our models and RecBole's general recommenders by family."""
    models = sorted(model_names(), key=str.lower)
    return {name: [model for model in models if family_of(model) == name] for name in FAMILIES}
