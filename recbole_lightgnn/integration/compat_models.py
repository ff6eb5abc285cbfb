"""Patches of single models of RecBole, one function for each fault.

The patches follow the rules of `integration.compat`, which lists and applies them.
"""

import functools
import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from recbole_lightgnn.registry import during_import


def patch_ngcf_dropout() -> bool:
    """RecBole 1.2.0: NGCF uses message dropout in evaluation, too.

    ``forward`` makes a new ``nn.Dropout`` at every call, and a new module is in training mode.
    Symptom: two calls of ``full_sort_predict`` give different scores, and so different metrics.
    This patch sets ``message_dropout`` to 0 during evaluation; training is unchanged.
    """
    if import_module("recbole").__version__ != "1.2.0":
        return False
    model = import_module("recbole.model.general_recommender.ngcf").NGCF
    replace(model, "forward", training_only(model.forward, "message_dropout"))
    return True


def patch_gru4reckg_dropout() -> bool:
    """RecBole 1.2.0: GRU4RecKG uses dropout in evaluation, too; see `patch_ngcf_dropout`."""
    if import_module("recbole").__version__ != "1.2.0":
        return False

    def change(module: ModuleType) -> None:
        model = module.GRU4RecKG
        replace(model, "forward", training_only(model.forward, "dropout"))

    once_imported("sequential_recommender.gru4reckg", change)
    return True


def patch_dgcf_samples() -> bool:
    """RecBole 1.2.1: DGCF samples as many users as items, even if fewer users or items exist.

    Symptom: ``ValueError: Sample larger than population or is negative`` in the first training
    step, if the dataset has few batches, and many more users than items or the reverse. With this
    patch, DGCF uses all users (or all items) if there are fewer than the sample size.
    """

    def sample(n_users: int, n_items: int, size: int) -> tuple[list[int], ...]:
        return tuple(random.sample(range(n), min(size, n)) for n in (n_users, n_items))

    once_imported(
        "general_recommender.dgcf", lambda dgcf: replace(dgcf, "sample_cor_samples", sample)
    )
    return True


def patch_ease_memory() -> bool:
    """numpy: EASE inverts a float32 matrix by way of float64 copies, about 26 GB for Yelp.

    EASE calls ``np.linalg.inv``, and pickles the result, which copies it, too. Symptom:
    ``MemoryError``, or the operating system kills the process. The functions of `integration.ease`
    compute and save the same matrix in a fraction of the memory.
    """

    def change(module: ModuleType) -> None:
        ours = import_module("recbole_lightgnn.integration.ease")

        # Functions of their own, because `replace` changes their names and docstrings.
        def learn(model: Any, config: Any, dataset: Any) -> None:
            ours.learn(model, config, dataset)

        def other_parameter(model: Any) -> dict[str, Any]:
            saved: dict[str, Any] = ours.other_parameter(model)
            return saved

        def load_other_parameter(model: Any, saved: Any) -> None:
            ours.load_other_parameter(model, saved)

        replace(module.EASE, "__init__", learn)
        replace(module.EASE, "other_parameter", other_parameter)
        replace(module.EASE, "load_other_parameter", load_other_parameter)

    once_imported("general_recommender.ease", change)
    return True


def patch_layers_in_checkpoints() -> bool:
    """RecBole 1.2.1: ``other_parameter`` of some models adds whole layers to the checkpoint.

    The layers are pickled with the dataset's features; the layers' tensors are in the
    ``state_dict`` already. Symptom: a checkpoint of DIN, DIEN, GRU4RecF, FDSA or SASRecF cannot be
    loaded, because the pickle contains classes that the loader refuses. With this patch,
    ``other_parameter`` leaves layers out.
    """
    from torch import nn

    model = import_module("recbole.model.abstract_recommender").AbstractRecommender
    original = model.other_parameter

    def other_parameter(self: Any) -> dict[str, Any]:
        parts: dict[str, Any] = original(self)
        return {key: part for key, part in parts.items() if not isinstance(part, nn.Module)}

    replace(model, "other_parameter", other_parameter)
    return True


def patch_pretrained_loading() -> bool:
    """torch >= 2.6: some models read a pre-trained file by ``torch.load``, which refuses the file.

    Symptom: ``UnpicklingError: Weights only load failed`` in S3Rec, RaCT, ConvNCF, NeuMF, NAIS and
    KD_DAGFM, because RecBole's checkpoints hold a ``Config``. These models now read through
    `load_recbole_checkpoint`. RaCT has a second fault: it logs the file's name as an argument of a
    message without a placeholder. Symptom: ``--- Logging error ---`` and a traceback on standard
    error.
    """
    import torch

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        return False
    from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint

    patched = ModuleType("torch", "torch with a load that reads RecBole's checkpoints")
    vars(patched).update(vars(torch), load=load_recbole_checkpoint)

    def change(module: ModuleType) -> None:
        vars(module)["torch"] = patched
        if hasattr(module, "RaCT"):
            replace(module.RaCT, "__init__", _init_with_whole_messages(module.RaCT.__init__))

    for model in _PRETRAINED:
        once_imported(model, change)
    return True


_PRETRAINED = (
    *(f"general_recommender.{name}" for name in ("convncf", "nais", "neumf", "ract")),
    "sequential_recommender.s3rec",
    "context_aware_recommender.kd_dagfm",
)


def _init_with_whole_messages(original: Callable[..., None]) -> Callable[..., None]:
    """Extend a constructor: append the arguments of log messages without a placeholder."""

    def whole(record: logging.LogRecord) -> bool:
        if record.args and "%" not in str(record.msg):
            record.msg, record.args = " ".join(map(str, (record.msg, *record.args))), ()
        return True

    def init(self: Any, config: Any, dataset: Any) -> None:
        logger = logging.getLogger()
        logger.addFilter(whole)
        try:
            original(self, config, dataset)
        finally:
            logger.removeFilter(whole)

    return init


def patch_dssm_features() -> bool:
    """RecBole 1.2.1: DSSM's first layers are too wide if a float column is not embedded.

    Symptom: ``RuntimeError: mat1 and mat2 shapes cannot be multiplied`` in the first step, if a
    loaded ``float`` column of ``.user`` or ``.item`` is not in ``numerical_features``.
    """
    model = import_module("recbole.model.abstract_recommender").ContextRecommender
    original = model.__init__

    def init(self: Any, config: Any, dataset: Any) -> None:
        original(self, config, dataset)
        if self.double_tower:
            embedded = {*self.float_field_names, *self.float_seq_field_names}
            self.user_float_field_num = len(embedded.intersection(self.user_field_names))
            self.item_float_field_num = len(embedded.intersection(self.item_field_names))

    replace(model, "__init__", init)
    return True


def patch_ksr_precision() -> bool:
    """RecBole 1.2.1: KSR multiplies float32 weights by float64 vectors of relations.

    Symptom: ``RuntimeError: expected m1 and m2 to have the same dtype`` in the first training step.
    """

    def change(module: ModuleType) -> None:
        original = module.KSR.__init__

        def init(self: Any, config: Any, dataset: Any) -> None:
            original(self, config, dataset)
            self.relation_Matrix = self.relation_Matrix.float()

        replace(module.KSR, "__init__", init)

    once_imported("sequential_recommender.ksr", change)
    return True


def patch_lightgbm_loading() -> bool:
    """RecBole 1.2.1: ``LightGBM.load_state_dict`` reads the file, but does not set the model.

    Symptom: ``load_data_and_model`` returns a model without trees.
    """

    def change(module: ModuleType) -> None:
        def load_state_dict(self: Any, model_file: str) -> None:
            module.lgb.Booster.__init__(self, model_file=model_file)

        replace(module.LightGBM, "load_state_dict", load_state_dict)

    once_imported("exlib_recommender.lightgbm", change)
    return True


def patch_tree_sequences() -> bool:
    """RecBole 1.2.1: tree models replace each sequence in a column by one wrong number.

    ``np.resize`` flattens the sequences and keeps the first numbers, one for each row, so a row
    gets a number from some other row. With this patch, columns of sequences are left out, as
    RecBole itself does with ``convert_token_to_onehot``.
    """
    module = import_module("recbole.data.dataset.decisiontree_dataset")
    types = module.FeatureType
    original = module.DecisionTreeDataset._convert_token_to_hash

    def convert(self: Any) -> None:
        for name in self.feat_name_list:
            table = getattr(self, name)
            kinds = {column: self.field2type[column] for column in table}
            sequences = [c for c in kinds if kinds[c] in (types.TOKEN_SEQ, types.FLOAT_SEQ)]
            setattr(self, name, table.drop(columns=sequences))
        original(self)

    replace(module.DecisionTreeDataset, "_convert_token_to_hash", convert)
    return True


def patch_edge_sampling() -> bool:
    """RecBole 1.2.1: KGIN and MCCLK drop random edges of the knowledge graph in evaluation.

    Symptom: two tests of one model give different metrics. With this patch, only training drops
    edges.
    """

    def change(module: ModuleType) -> None:
        graph = module.GraphConv
        replace(graph, "forward", training_only(graph.forward, "node_dropout_rate"))

    for model in ("kgin", "mcclk"):
        once_imported(f"knowledge_aware_recommender.{model}", change)
    return True


def patch_kgat_graph() -> bool:
    """dgl >= 1: ``edge_subgraph`` and ``adjacency_matrix`` refuse the arguments that KGAT passes.

    Symptom: ``TypeError: edge_subgraph() got an unexpected keyword argument 'preserve_nodes'`` when
    KGAT is built. With this patch, dgl only holds the edges; the attention is computed without dgl.
    """

    def change(module: ModuleType) -> None:
        replace(module.KGAT, "init_graph", _attention_by_degree)

    once_imported("knowledge_aware_recommender.kgat", change)
    return True


def _attention_by_degree(self: Any) -> Any:
    """Compute KGAT's initial attention matrix: the sum over relations of :math:`D^{-1} A`.

    A is the adjacency matrix of a relation's edges, and D the diagonal matrix of the edges leaving
    each node.
    """
    import numpy as np
    import torch
    from scipy import sparse

    sources, targets = (ends.numpy() for ends in self.ckg.edges())
    relations, shape = self.ckg.edata["relation_id"].numpy(), self.matrix_size
    attention = sparse.csr_matrix(shape)
    for relation in range(1, self.n_relations):
        edges = sources[relations == relation], targets[relations == relation]
        degree = np.bincount(edges[0], minlength=shape[0])
        weights = 1.0 / degree[edges[0]]
        attention = attention + sparse.csr_matrix((weights, edges), shape)
    entries = attention.tocoo()
    places = torch.from_numpy(np.stack([entries.row, entries.col])).long()
    values = torch.from_numpy(entries.data).float()
    matrix = torch.sparse_coo_tensor(places, values, shape, check_invariants=True)
    return matrix.to(self.device)


def training_only(forward: Callable[..., Any], rate: str) -> Callable[..., Any]:
    """Wrap ``forward`` to set the module's dropout rate, attribute ``rate``, to 0 in evaluation."""

    def changed(self: Any, *inputs: Any) -> Any:
        given = getattr(self, rate)
        setattr(self, rate, given if self.training else 0.0)
        try:
            return forward(self, *inputs)
        finally:
            setattr(self, rate, given)

    return changed


def replace(owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by ``new``; the original function becomes ``new.__wrapped__``."""
    setattr(owner, name, functools.wraps(getattr(owner, name))(new))


def once_imported(model: str, change: Callable[[ModuleType], None]) -> None:
    """Call ``change`` with the module ``recbole.model.MODEL``, now or right after its import."""
    module = f"recbole.model.{model}"

    @contextmanager
    def then_change() -> Iterator[None]:
        yield
        change(sys.modules[module])

    if module in sys.modules:
        change(sys.modules[module])
    during_import(module, then_change)


PATCHES: tuple[Callable[[], bool], ...] = (
    patch_ngcf_dropout,
    patch_gru4reckg_dropout,
    patch_dgcf_samples,
    patch_ease_memory,
    patch_layers_in_checkpoints,
    patch_pretrained_loading,
    patch_dssm_features,
    patch_ksr_precision,
    patch_lightgbm_loading,
    patch_tree_sequences,
    patch_edge_sampling,
    patch_kgat_graph,
)
