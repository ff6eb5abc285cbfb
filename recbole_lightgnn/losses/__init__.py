"""Loss functions of LightGNN and its baselines, one for each equation.

Equation numbers are from the LightGNN paper. The paper sums over users, items or tuples. The
functions here return scalar means, so that a loss weight has the same effect at every batch size.
Only :func:`full_softmax` returns a sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.losses.chunked import (
    EmbeddingAlignment,
    FullSoftmax,
    ListwiseAlignment,
    RaggedIndices,
    SampledSoftmax,
    Uniformity,
)

__all__ = [
    "RaggedIndices",
    "alignment",
    "bpr",
    "embedding_alignment",
    "full_softmax",
    "gaussian_potential",
    "info_nce",
    "listwise_alignment",
    "node_contrast",
    "pairwise_alignment",
    "sampled_softmax",
    "similar_masks",
    "uniformity",
    "weight_decay",
]


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalized ranking loss (Eq. 3).

    .. math:: -\frac1B\sum\log\sigma(\hat y_{ui^+} - \hat y_{ui^-})

    Args:
        positive: :math:`\hat y_{ui^+}`, scores of observed user-item pairs. Shape: (batch,)
        negative: :math:`\hat y_{ui^-}`, scores of the same users for sampled items. Shape: (batch,)

    Raises:
        ValueError: if the shapes differ.
    """
    _same_shape(positive=positive, negative=negative)
    return F.softplus(negative - positive).mean()


def sampled_softmax(
    logits: Tensor,
    target: Tensor,
    *,
    log_probability: Tensor | None = None,
    accidental: Tensor | None = None,
) -> Tensor:
    r"""Softmax cross-entropy over a sample of candidate items.

    .. math:: -\frac1B\sum_u\log\frac{\exp(z_{ut} - \log q_t)}{\sum_c \exp(z_{uc} - \log q_c)}

    t is the user's positive item, and q the probability that an item is a candidate. Subtracting
    log q makes the loss an estimate of the softmax over all items, although popular items are more
    often candidates (Bengio and Senecal, 2008; Yi et al., RecSys'19).

    Args:
        logits: z, scores of users for candidates, divided by the temperature.
            Shape: (batch, candidates)
        target: column in ``logits`` of each row's positive item. Shape: (batch,)
        log_probability: log q of each candidate, or ``None`` for no correction.
            Shape: (candidates,)
        accidental: bool, true where a candidate is another positive item of the user, and is left
            out of the denominator; false at t. Shape: (batch, candidates)
    """
    loss: Tensor = SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        logits, target, log_probability, accidental
    )
    return loss


def full_softmax(
    user: Tensor,
    item: Tensor,
    target: RaggedIndices,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    left_out: RaggedIndices | None = None,
) -> Tensor:
    r"""Softmax cross-entropy over all items, summed over users.

    .. math:: -\sum_u \sum_{k \in T_u} q_{uk}\,\log
              \frac{\exp(z_{uk})}{\sum_{c \notin O_u} \exp(z_{uc})},
              \qquad z_{uc} = e_u\cdot e_c + b_c

    If the targets T are the user's positive items, this loss is the negative log-likelihood of a
    multinomial (Liang et al., WWW'18). If the weights q are a teacher's softmax divided by the
    batch size, and the positive items O are left out, this loss is :func:`listwise_alignment` over
    all other items, plus a constant (the teacher's entropy). Logits and gradients are computed in
    chunks of users.

    Args:
        user: user embeddings divided by the temperature; receive gradients. Shape: (batch, width)
        item: embeddings of all items; receive gradients. Shape: (items, width)
        target: T, the target items of each user.
        weight: q, the weight of each target item, in the order of ``target.col``. Shape: (targets,)
        bias: b, a constant added to all logits of an item, or ``None`` for 0. Shape: (items,)
        left_out: O, items left out of each user's denominator, or ``None``. O must not contain
            targets of the user.
    """
    loss: Tensor = FullSoftmax.apply(user, item, target, weight, bias, left_out)  # type: ignore[no-untyped-call]
    return loss


def info_nce(view: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    r"""InfoNCE (van den Oord et al., 2018): contrastive loss of two views of the same nodes.

    .. math:: -\frac1B\sum_i\log\frac{\exp(\cos(z_i, z'_i)/\tau)}{\sum_j\exp(\cos(z_i, z'_j)/\tau)}

    Args:
        view: z, the first view; receives gradients. Shape: (nodes, width)
        other: z', the second view, in the same order; receives gradients. Shape: (nodes, width)
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if the shapes differ or ``temperature`` is not positive.
    """
    _same_shape(view=view, other=other)
    _positive(temperature=temperature)
    logits = (F.normalize(view, dim=-1) / temperature) @ F.normalize(other, dim=-1).T
    return sampled_softmax(logits, torch.arange(len(view), device=view.device))


def node_contrast(
    anchor: Tensor, candidate: Tensor, target: Tensor, *, temperature: float
) -> Tensor:
    r"""Contrastive loss of nodes against many candidates, by inner product.

    .. math:: -\frac1B\sum_i\log\frac{\exp(a_i\cdot c_{t_i}/\tau)}{\sum_j\exp(a_i\cdot c_j/\tau)}

    With rows of length 1 and the nodes as candidates, this is :func:`info_nce`. Logits are computed
    in chunks, so every node of the graph may be a candidate. Without nodes, the loss is 0.

    Args:
        anchor: a, the first view of the nodes; receives gradients. Shape: (nodes, width)
        candidate: c, second view of the candidates; receives gradients. Shape: (candidates, width)
        target: t, the row of each node in ``candidate``. Shape: (nodes,)
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if ``temperature`` is not positive.
    """
    _positive(temperature=temperature)
    one_each = RaggedIndices(torch.arange(len(target) + 1, device=target.device), target)
    weight = anchor.new_full((len(target),), 1 / max(1, len(target)))
    return full_softmax(anchor / temperature, candidate, one_each, weight)


def alignment(user: Tensor, item: Tensor) -> Tensor:
    r"""Alignment loss: squared distance between the normalized embeddings of a user and an item.

    .. math:: \frac1B\sum_{(u,i)}\Big\|\frac{e_u}{\|e_u\|} - \frac{e_i}{\|e_i\|}\Big\|^2

    Source: Wang and Isola, ICML'20.

    Args:
        user: embedding of each interaction's user. Shape: (pairs, width)
        item: embedding of each interaction's item. Shape: (pairs, width)

    Raises:
        ValueError: if the shapes differ.
    """
    _same_shape(user=user, item=item)
    distance = F.normalize(user, dim=-1) - F.normalize(item, dim=-1)
    return distance.square().sum(dim=-1).mean()


def gaussian_potential(embedding: Tensor) -> Tensor:
    r"""Uniformity loss: logarithm of the mean Gaussian potential over pairs of embeddings.

    .. math:: \log\frac{2}{B(B-1)}\sum_{i<j}\exp(-2\|x_i - x_j\|^2),\qquad
              x = \frac{e}{\|e\|},\quad \|x_i - x_j\|^2 = 2 - 2\,x_i\cdot x_j

    Source: Wang and Isola, ICML'20. :func:`uniformity` is another loss, LightGNN's Eq. 9. With
    fewer than two rows, the loss is 0.

    Args:
        embedding: e of a batch's users or items; receives gradients. Shape: (rows, width)
    """
    n = len(embedding)
    if n < 2:
        return embedding.sum() * 0
    x = F.normalize(embedding, dim=-1)
    potential = (4 * (x @ x.T) - 4).exp()
    return ((potential.sum() - potential.diagonal().sum()) / (n * (n - 1))).log()


def pairwise_alignment(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    r"""Prediction-level distillation over pairs of items (Eq. 5).

    .. math:: -\sigma(\epsilon^t/\tau)\log\sigma(\epsilon^s/\tau)
              -\bar\sigma(\epsilon^t/\tau)\log\bar\sigma(\epsilon^s/\tau),\qquad
              \epsilon = \hat y_{uj_1} - \hat y_{uj_2},\quad \bar\sigma = 1 - \sigma

    Args:
        student: epsilon^s, the student's score of j_1 minus that of j_2; receives gradients.
            Shape: (batch,)
        teacher: epsilon^t, the same difference for the teacher; treated as constant.
            Shape: (batch,)
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if the shapes differ or ``temperature`` is not positive.
    """
    _same_shape(student=student, teacher=teacher)
    _positive(temperature=temperature)
    target = torch.sigmoid(teacher.detach() / temperature)
    return F.binary_cross_entropy_with_logits(student / temperature, target)


def listwise_alignment(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    r"""Prediction-level distillation over a list of items.

    .. math:: \frac{1}{B}\sum_u \mathrm{KL}\big(\mathrm{softmax}(t_u/\tau)\,\|\,
              \mathrm{softmax}(s_u/\tau)\big)

    For two items, the loss is Eq. 5 minus a constant, the teacher's entropy.

    Args:
        student: s, the student's scores of users for items; receives gradients.
            Shape: (batch, items)
        teacher: t, the teacher's scores of the same pairs; treated as constant.
            Shape: (batch, items)
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if the shapes differ or ``temperature`` is not positive.
    """
    _same_shape(student=student, teacher=teacher)
    _positive(temperature=temperature)
    loss: Tensor = ListwiseAlignment.apply(student, teacher, temperature)  # type: ignore[no-untyped-call]
    return loss


def embedding_alignment(
    student: Tensor, teacher: Tensor, anchors: Tensor, *, temperature: float
) -> Tensor:
    r"""Embedding-level distillation: student and teacher embeddings as two views (Eq. 6).

    .. math:: -\frac{1}{|B|}\sum_{i\in B}\log
              \frac{\exp(\cos(s_i, t_i)/\tau)}{\sum_{i'}\exp(\cos(s_{i'}, t_i)/\tau)}

    Anchors i are nodes of the batch, users or items; candidates i' are the nodes to compare them
    with. Eq. 6 has no temperature (tau = 1), but the published code has one. The code aligns with
    the sum of the teacher's layers from the second on, not with the teacher's final embeddings.

    Args:
        student: s, the student's final embeddings; receives gradients. Shape: (candidates, width)
        teacher: t, the teacher's final embeddings; treated as constant. Shape: (anchors, width)
        anchors: row number of each anchor in ``student``. Shape: (anchors,)
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if the widths differ or ``temperature`` is not positive.
    """
    _positive(temperature=temperature)
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            "embedding-level distillation compares embeddings of one width "
            f"(got student {student.shape[-1]}, teacher {teacher.shape[-1]})"
        )
    loss: Tensor = EmbeddingAlignment.apply(student, teacher, anchors, temperature)  # type: ignore[no-untyped-call]
    return loss


def uniformity(
    embedding: Tensor,
    anchors: Tensor,
    entry_mask: Tensor,
    *,
    slack: int,
    temperature: float,
) -> Tensor:
    r"""Adaptive uniformity constraint (Eq. 9), on users or on items.

    .. math:: -\frac{1}{|B|}\sum_{i\in B}\log
              \frac{\sum_{i_1\in S_i}\exp(e_{i_1}\!\cdot e_i/\tau)}
                   {\sum_{i_2}\exp(e_i\!\cdot e_{i_2}/\tau)}

    :math:`S_i` are the nodes with an entry mask similar to that of i, i included (Eq. 10,
    :func:`similar_masks`). In the published code, numerator and denominator have separate weights,
    and the denominator includes user-item pairs.

    Args:
        embedding: final embeddings e of users or items; receives gradients. Shape: (nodes, width)
        anchors: row number in ``embedding`` of each node i of the batch. Shape: (anchors,)
        entry_mask: true where an entry of the initial embeddings is not pruned.
            Shape: (nodes, width)
        slack: delta of Eq. 10, a number of entries, at least 0.
        temperature: tau > 0; smaller is sharper.

    Raises:
        ValueError: if ``temperature`` is not positive or ``slack`` negative.
    """
    _positive(temperature=temperature)
    alike = similar_masks(entry_mask, anchors, slack=slack)
    loss: Tensor = Uniformity.apply(embedding, anchors, alike, temperature)  # type: ignore[no-untyped-call]
    return loss


def similar_masks(entry_mask: Tensor, anchors: Tensor, *, slack: int) -> Tensor:
    r"""Find the nodes with an entry mask similar to each anchor's. Shape: (anchors, nodes)

    .. math:: S_i = \{i_1 : \|m_i\odot m_{i_1}\|_0 \ge \max(\|m_i\|_0, \|m_{i_1}\|_0) - \delta\}

    True where a node is in the anchor's set :math:`S_i` of Eq. 10, which includes the anchor.

    Args:
        entry_mask: m, true where an embedding entry is not pruned. Shape: (nodes, width)
        anchors: row number in ``entry_mask`` of each anchor i. Shape: (anchors,)
        slack: delta, a number of entries, at least 0.

    Raises:
        ValueError: if ``slack`` is negative.
    """
    if slack < 0:
        raise ValueError(f"slack must be at least 0 entries (got {slack})")
    # bfloat16 has the fastest product, exact for whole numbers up to 256.
    mask = entry_mask.to(torch.bfloat16 if entry_mask.shape[1] <= 256 else torch.float32)
    size = mask.sum(dim=-1)
    shared = mask[anchors] @ mask.T  # (anchors, nodes)
    return (shared >= size[anchors, None] - slack) & (shared >= size - slack)


def weight_decay(*parameters: Tensor, batch_size: int) -> Tensor:
    r"""Weight decay: half the squared norm of the embeddings in a batch.

    .. math:: \frac{1}{2B}\sum_k\|\theta_k\|^2

    This is :math:`\|\Theta\|_F^2` of Eq. 11 on the embeddings of a batch, with LightGCN's factor
    1/2B. RecBole computes the same value with ``require_pow``.

    Args:
        parameters: theta, tables of embeddings. Shape of each: (rows, width)
        batch_size: B, the number of interactions in the batch, or of users with ``batch_by: user``.
    """
    squares = torch.stack([p.square().sum() for p in parameters])
    return squares.sum() / (2 * batch_size)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive (got {value})")


def _same_shape(**tensors: Tensor) -> None:
    (first, a), (second, b) = tensors.items()
    if a.shape != b.shape:
        raise ValueError(
            f"{first} and {second} must have one shape (got {tuple(a.shape)}, {tuple(b.shape)})"
        )
