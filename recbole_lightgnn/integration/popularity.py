"""Fix RecBole's model ``Pop``, which ranks items by popularity."""

import functools
from typing import Any


def extend_recbole() -> None:
    """Make ``Pop`` rank items by the number of training interactions of each item.

    RecBole's own ``calculate_loss`` adds 1 to each item that occurs in a batch, however often it
    occurs, and even if it is a sampled negative item. So RecBole's ranking depends on
    ``train_batch_size`` and on the seed.
    """
    from recbole.model.general_recommender import Pop

    if hasattr(Pop.__init__, "__wrapped__"):
        return
    Pop.__init__ = _counting(Pop.__init__)
    Pop.calculate_loss = functools.wraps(Pop.calculate_loss)(_no_loss)


def _counting(original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, config: Any, dataset: Any) -> None:
        import torch

        original(self, config, dataset)
        items = dataset.inter_feat[self.ITEM_ID].to(self.device)
        self.item_cnt = torch.bincount(items, minlength=self.n_items)[:, None]
        self.max_cnt = self.item_cnt.max(dim=0).values

    return __init__


def _no_loss(self: Any, interaction: Any) -> Any:
    import torch

    return torch.nn.Parameter(torch.zeros(1, device=self.device))
