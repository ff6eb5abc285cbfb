"""Base classes of our models, with graph, batches, weight decay and ranking by inner product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import RaggedIndices, weight_decay
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.utils.edge_norm import SYMMETRIC


class Batch(NamedTuple):
    """One training batch: interactions, or users and all their interactions (``batch_by: user``).

    Attributes:
        user: user of each interaction, or distinct users with ``batch_by: user``. Shape: (batch,)
        item: positive item of each interaction; with ``batch_by: user``, sorted by user.
            Shape: (interactions,)
        negative: an item sampled for each interaction; empty with ``batch_by: user``.
            Shape: (batch,) or (0,)
    """

    user: Tensor
    item: Tensor
    negative: Tensor


class PositiveItems:
    """Look-up of users' positive items: the items they have interacted with.

    Args:
        graph: the observed interactions.

    Attributes:
        n_items: number of items, including RecBole's padding item.
        degree: number of interactions of each user. Shape: (users,)
    """

    def __init__(self, graph: InteractionGraph) -> None:
        pattern = graph.interactions.pattern
        self.n_items = graph.n_items
        self._item = pattern.col.int()  # half the bytes of int64, for every interaction
        self.degree = torch.bincount(pattern.row, minlength=graph.n_users)
        self._start = self.degree.cumsum(0) - self.degree

    def __call__(self, user: Tensor) -> RaggedIndices:
        """Return the positive items of the given users, in the users' order."""
        degree = self.degree[user]
        pointers = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        shift = (self._start[user] - pointers[:-1]).repeat_interleave(degree)
        positions = torch.arange(len(shift), device=user.device) + shift
        return RaggedIndices(pointers, self._item[positions].long())


class GraphRecommender(GeneralRecommender):
    """Recommender that scores by inner products of final embeddings, computed from a graph.

    In evaluation mode the final embeddings are computed once and cached.

    Args:
        config: settings of the run.
        dataset: RecBole's training dataset; its interactions are the graph's edges.

    Attributes:
        exponents: exponents of the degrees of users and of items in the norm of an edge.
        observed: the graph of the training interactions.
        positive_items: look-up of each user's training items.
        by_user: whether ``batch_by`` is ``user``; see `Batch`.
        samples_items: class attribute; whether RecBole's loader samples an item for each
            interaction.
        ranks_by_tables: class attribute; whether scores are inner products of final embeddings.
    """

    input_type = InputType.PAIRWISE
    samples_items = True
    ranks_by_tables = True

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Check settings that depend on one another; models override this method.

        Args:
            settings: all settings in force, each of the right type and range.

        Raises:
            InputError: if two settings contradict each other.
        """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.exponents = SYMMETRIC
        if settings.get("item_degree_exponent") is not None:
            by_user = settings.number("user_degree_exponent")
            self.exponents = by_user, settings.number("item_degree_exponent")
        self.observed = InteractionGraph.from_pairs(
            dataset.inter_feat[self.USER_ID].numpy(),
            dataset.inter_feat[self.ITEM_ID].numpy(),
            self.n_users,
            self.n_items,
            self.exponents,
        ).to(self.device)
        self.interaction_loss = settings.get("interaction_loss")
        self.by_user = settings.get("batch_by") == "user"
        self.positive_items = PositiveItems(self.observed)
        self._final: tuple[Tensor, Tensor] | None = None

    def initial(self) -> tuple[Tensor, Tensor]:
        """Return the initial embeddings. Shapes: (users, width), (items, width)"""
        raise NotImplementedError

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Compute final embeddings from initial embeddings. Shapes: (users, width), (items, width)

        Args:
            user: initial embeddings. Shape: (users, width)
            item: initial embeddings. Shape: (items, width)
        """
        raise NotImplementedError

    def encode(self) -> tuple[Tensor, Tensor]:
        """Compute final embeddings, with gradients. Shapes: (users, width), (items, width)"""
        return self.propagate(*self.initial())

    def infer(self) -> tuple[Tensor, Tensor]:
        """Compute the embeddings to rank by, without gradients. Shapes as for :meth:`encode`.

        A model overrides this method to rank by other embeddings, or to compute them faster.
        """
        return self.encode()

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the weighted loss terms (Eq. 11) on a batch of RecBole's loader, by name."""
        raise NotImplementedError

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare the epoch ``epoch`` (from 0) of at most ``epochs``; models may override this.

        Returns:
            Whether the epoch may be validated and chosen as the best; always true for the last
            epoch.
        """
        return True

    def batch_of(self, interaction: Any) -> Batch:
        """Convert a batch of RecBole's loader to a `Batch`.

        With ``batch_by: user``, users without interactions, such as RecBole's padding user, are
        left out. If no user is left, every loss term is 0.
        """
        if self.by_user:
            user = interaction[self.USER_ID].unique()
            user = user[self.positive_items.degree[user] > 0]
            item = self.positive_items(user).col
            return Batch(user, item, item[:0])
        return Batch(*(interaction[key] for key in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID)))

    def decay(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        r"""Compute weight decay, :math:`\|\Theta\|_F^2` of Eq. 11, on the embeddings of a batch.

        It covers the batch's users and items, and with BPR also the sampled items. Edge weights
        have no decay: it would pull even important edges from 1 towards 0.

        Args:
            user: embeddings of all users. Shape: (users, width)
            item: embeddings of all items. Shape: (items, width)
            batch: the batch.
        """
        items = batch.item
        if self.interaction_loss != "softmax":
            items = torch.cat([items, batch.negative])
        rows = user.index_select(0, batch.user), item.index_select(0, items)
        return weight_decay(*rows, batch_size=max(1, len(batch.user)))

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Sum the terms of the loss (Eq. 11) on a batch of RecBole's loader. Shape: ()"""
        return torch.stack(list(self.loss_terms(interaction).values())).sum()

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return two widths: of initial embeddings (``None`` without them) and of final embeddings.

        Args:
            settings: settings of the model, by name.
        """
        return settings["embedding_size"], settings["embedding_size"]

    def sizes(self) -> dict[str, float]:
        """Count the model's interactions (edges), embedding entries, parameters and bytes.

        Returns:
            ``interactions``: edges of the graph. ``entries``: parameters without RecBole's padding
            rows and edge weights. ``entries_kept``: ``entries`` divided by the entries
            before pruning. ``parameters``: ``entries`` plus edge weights. ``bytes``: size of the
            state dict.
        """
        entries = entries_of(self)
        return {
            "interactions": self.observed.n_edges,
            "entries": entries,
            "entries_kept": 1.0,
            "parameters": entries,
            "bytes": sum(tensor.nbytes for tensor in self.state_dict().values()),
        }

    def train(self, mode: bool = True) -> GraphRecommender:
        """Set the mode; training mode drops the cached final embeddings."""
        if mode:
            self._final = None
        super().train(mode)
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict as PyTorch does, and drop the cached final embeddings."""
        self._final = None
        return super().load_state_dict(*args, **kwargs)

    @torch.no_grad()
    def final_embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings to rank by, cached in evaluation mode; see :meth:`infer`."""
        if self.training:
            return self.infer()
        if self._final is None:
            self._final = self.infer()
        return self._final

    def predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of user-item pairs (Eq. 2). Shape: (batch,)"""
        user, item = self.final_embeddings()
        return (user[interaction[self.USER_ID]] * item[interaction[self.ITEM_ID]]).sum(dim=-1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of users for all items. Shape: (batch * items,)"""
        user, item = self.final_embeddings()
        return (user[interaction[self.USER_ID]] @ item.T).flatten()


class EmbeddingRecommender(GraphRecommender):
    """Graph recommender that learns an embedding of every user and of every item.

    Attributes:
        user_embedding: parameter with Xavier initialization. Shape: (users, width)
        item_embedding: parameter with Xavier initialization. Shape: (items, width)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        width = settings.integer("embedding_size")
        self.user_embedding = nn.Parameter(torch.empty(self.n_users, width))
        self.item_embedding = nn.Parameter(torch.empty(self.n_items, width))
        nn.init.xavier_uniform_(self.user_embedding)
        nn.init.xavier_uniform_(self.item_embedding)

    def initial(self) -> tuple[Tensor, Tensor]:
        """Return the two parameters. Shapes: (users, width), (items, width)"""
        return self.user_embedding, self.item_embedding


def entries_of(model: Any) -> int:
    """Count the numbers in a model's parameters, without RecBole's padding rows.

    A table of users, or of items, has one padding row; a table of both has two.
    """
    return sum(_without_padding(parameter, model) for parameter in model.parameters())


def _without_padding(parameter: nn.Parameter, model: Any) -> int:
    n_users, n_items = getattr(model, "n_users", 0), getattr(model, "n_items", 0)
    padding = {n_users: 1, n_items: 1, n_users + n_items: 2}
    if parameter.ndim != 2 or len(parameter) not in padding:
        return parameter.numel()
    return (len(parameter) - padding[len(parameter)]) * parameter.shape[1]
