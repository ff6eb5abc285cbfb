"""What the three models share: the graph from RecBole's dataset, and ranking by inner product."""

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


class Batch(NamedTuple):
    """Rows of RecBole's pairwise loader; or users, with all their interactions.

    Attributes:
        user: users; distinct in a batch of users. Shape: (batch,)
        item: their observed items. Shape: (batch,), or (interactions,) in a batch of users
        negative: an item sampled for each, used by BPR and Eq. 5. Shape: (batch,), or empty in a
            batch of users
    """

    user: Tensor
    item: Tensor
    negative: Tensor


class OwnItems:
    """The items that users have interactions with, for any users at once.

    Args:
        graph: the observed interactions.

    Attributes:
        degree: interactions of each user. Shape: (users,)
    """

    def __init__(self, graph: InteractionGraph) -> None:
        pattern = graph.interactions.pattern
        self._item = pattern.col.int()  # as many as interactions: half the bytes
        self.degree = torch.bincount(pattern.row, minlength=graph.n_users)
        self._start = self.degree.cumsum(0) - self.degree

    def __call__(self, user: Tensor) -> RaggedIndices:
        """The items of each given user: a row each."""
        degree = self.degree[user]
        pointers = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        shift = (self._start[user] - pointers[:-1]).repeat_interleave(degree)
        places = torch.arange(len(shift), device=user.device) + shift
        return RaggedIndices(pointers, self._item[places].long())


class GraphRecommender(GeneralRecommender):
    """A recommender that encodes a graph into embeddings and scores by their inner product.

    Final embeddings are computed once while the model is in evaluation mode.

    Args:
        config: RecBole's configuration.
        dataset: RecBole's training dataset; its interactions are the graph.
    """

    input_type = InputType.PAIRWISE

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Check the settings that depend on one another; a model may override this.

        Args:
            settings: all settings in force. Each has been checked by itself.

        Raises:
            InputError: if two settings contradict each other.
        """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.observed = InteractionGraph.from_pairs(
            dataset.inter_feat[self.USER_ID].numpy(),
            dataset.inter_feat[self.ITEM_ID].numpy(),
            self.n_users,
            self.n_items,
        ).to(self.device)
        self.interaction_loss = settings.get("interaction_loss")
        self.by_user = settings.get("batch_by") == "user"
        self.own_items = OwnItems(self.observed)
        self._final: tuple[Tensor, Tensor] | None = None

    def initial(self) -> tuple[Tensor, Tensor]:
        """Initial embeddings of users and of items. Shapes: (users, width), (items, width)"""
        raise NotImplementedError

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Final embeddings from initial ones. Shapes: (users, width), (items, width)"""
        raise NotImplementedError

    def encode(self) -> tuple[Tensor, Tensor]:
        """Final embeddings of users and of items. Shapes: (users, width), (items, width)"""
        return self.propagate(*self.initial())

    def infer(self) -> tuple[Tensor, Tensor]:
        """As :meth:`encode`, where no gradient is wanted: sooner in a model that knows how."""
        return self.encode()

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """The weighted terms of Eq. 11 on a batch, by name."""
        raise NotImplementedError

    def batch_of(self, interaction: Any) -> Batch:
        """The columns of RecBole's batch that the losses look at, or its users with all theirs.

        RecBole's padding user, and others without interactions, are left out; where a batch holds
        none but these, every term is 0.
        """
        if self.by_user:
            user = interaction[self.USER_ID].unique()
            user = user[self.own_items.degree[user] > 0]
            item = self.own_items(user).col
            return Batch(user, item, item[:0])
        return Batch(*(interaction[key] for key in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID)))

    def decay(self, user: Tensor, item: Tensor, batch: Batch) -> Tensor:
        r"""The term :math:`\|\Theta\|_F^2` of Eq. 11, over the initial embeddings of a batch.

        Those of its users and items, and with BPR of its sampled items too. Edge weights, which
        begin at one, are left out: to draw them to zero would be to prune all alike.

        Args:
            user: initial embeddings. Shape: (users, width)
            item: initial embeddings. Shape: (items, width)
            batch: whose embeddings are in use.
        """
        items = batch.item
        if self.interaction_loss != "softmax":
            items = torch.cat([items, batch.negative])
        rows = user.index_select(0, batch.user), item.index_select(0, items)
        return weight_decay(*rows, batch_size=max(1, len(batch.user)))

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Eq. 11 on a batch of RecBole's pairwise loader (users, items, sampled items), or of its
        users alone."""
        return torch.stack(list(self.loss_terms(interaction).values())).sum()

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Widths of initial and final embeddings with these settings; ``None``: has no initial."""
        return settings["embedding_size"], settings["embedding_size"]

    def sizes(self) -> dict[str, float]:
        """What it holds: interactions; entries, that is numbers trained but for RecBole's padding
        rows, and their share of the unpruned ones; parameters, edge weights too; bytes."""
        entries = entries_of(self)
        return {
            "interactions": self.observed.n_edges,
            "entries": entries,
            "entries_kept": 1.0,
            "parameters": entries,
            "bytes": sum(tensor.nbytes for tensor in self.state_dict().values()),
        }

    def train(self, mode: bool = True) -> GraphRecommender:
        """Switch mode; training outdates the embeddings computed before it."""
        if mode:
            self._final = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As PyTorch's; other weights outdate the embeddings too."""
        self._final = None
        return super().load_state_dict(*args, **kwargs)

    @torch.no_grad()
    def final_embeddings(self) -> tuple[Tensor, Tensor]:
        """As :meth:`encode`, without gradients, once while evaluated with the same weights."""
        if self.training:
            return self.infer()
        if self._final is None:
            self._final = self.infer()
        return self._final

    def predict(self, interaction: Any) -> Tensor:
        """Scores of the given user-item pairs (Eq. 2). Shape: (batch,)"""
        user, item = self.final_embeddings()
        return (user[interaction[self.USER_ID]] * item[interaction[self.ITEM_ID]]).sum(dim=-1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of the given users for all items. Shape: (batch * items,)"""
        user, item = self.final_embeddings()
        return (user[interaction[self.USER_ID]] @ item.T).flatten()


class EmbeddingRecommender(GraphRecommender):
    """One that learns an embedding of every user and of every item.

    Attributes:
        user_embedding: drawn by Xavier's rule. Shape: (users, width)
        item_embedding: likewise. Shape: (items, width)
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
        """The parameters."""
        return self.user_embedding, self.item_embedding


def entries_of(model: Any) -> int:
    """Numbers in a model's parameters; tables with a row a user, an item or both have padding."""
    return sum(_without_padding(parameter, model) for parameter in model.parameters())


def _without_padding(parameter: nn.Parameter, model: Any) -> int:
    n_users, n_items = getattr(model, "n_users", 0), getattr(model, "n_items", 0)
    padding = {n_users: 1, n_items: 1, n_users + n_items: 2}
    if parameter.ndim != 2 or len(parameter) not in padding:
        return parameter.numel()
    return (len(parameter) - padding[len(parameter)]) * parameter.shape[1]
