"""The losses of LightGNN, one function an equation.

Sums over users, items or tuples in the paper are means here, so that a weight means the same at
every batch size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.losses.chunked import (
    EmbeddingAlignment,
    FullSoftmax,
    ListwiseAlignment,
    Places,
    SampledSoftmax,
    Uniformity,
)

__all__ = [
    "Places",
    "alignment",
    "bpr",
    "embedding_alignment",
    "full_softmax",
    "gaussian_potential",
    "info_nce",
    "listwise_alignment",
    "pairwise_alignment",
    "sampled_softmax",
    "similar_masks",
    "uniformity",
    "weight_decay",
]


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalized ranking (Eq. 3): :math:`-\log\sigma(\hat y_{ui^+} - \hat y_{ui^-})`.

    Args:
        positive: scores of observed pairs. Shape: (batch,)
        negative: scores of sampled pairs of the same users. Shape: (batch,)

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
    r"""Softmax cross-entropy of each user's item against the candidates it is ranked with.

    .. math:: -\log\frac{\exp(z_{ut} - \log q_t)}{\sum_c \exp(z_{uc} - \log q_c)}

    Candidates that come with the batch are drawn by popularity q; taking its logarithm off makes
    the loss estimate the softmax over all items (Bengio and Senecal, 2008; Yi et al., RecSys'19).

    Args:
        logits: scores over temperature, z. Shape: (batch, candidates)
        target: column of each row's own item. Shape: (batch,)
        log_probability: log q of each candidate, or ``None`` where all are alike.
            Shape: (candidates,)
        accidental: true where a candidate is another interaction of the row's user, and so no
            negative; never its target. Shape: (batch, candidates)
    """
    loss: Tensor = SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        logits, target, log_probability, accidental
    )
    return loss


def full_softmax(
    user: Tensor,
    item: Tensor,
    target: Places,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    left_out: Places | None = None,
) -> Tensor:
    r"""Softmax cross-entropy over all items.

    .. math:: -\sum_u \sum_{k \in T_u} q_{uk}\,\log
              \frac{\exp(z_{uk})}{\sum_{c \notin O_u} \exp(z_{uc})},
              \qquad z_{uc} = e_u\cdot e_c + b_c

    With a user's interactions as targets, the multinomial likelihood (Liang et al., WWW'18); with a
    teacher's softmax as q and the interactions left out, :func:`listwise_alignment` over all that
    is ranked, up to the teacher's own entropy. Logits and their gradient are made some rows at a
    time, and never stored.

    Args:
        user: embeddings over temperature. Shape: (batch, width)
        item: embeddings of all items. Shape: (items, width)
        target: T, the items with a weight.
        weight: q of these. Shape: (targets,)
        bias: b, or ``None``. Shape: (items,)
        left_out: O, items that a user is not ranked with; never among its targets.
    """
    loss: Tensor = FullSoftmax.apply(user, item, target, weight, bias, left_out)  # type: ignore[no-untyped-call]
    return loss


def info_nce(view: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    r"""Two views of the same nodes against each other (InfoNCE; van den Oord et al., 2018).

    .. math:: -\frac1B\sum_i\log\frac{\exp(\cos(z_i, z'_i)/\tau)}{\sum_j\exp(\cos(z_i, z'_j)/\tau)}

    Args:
        view: z, a row a node; receives gradients. Shape: (nodes, width)
        other: z', the same nodes; receives gradients. Shape: (nodes, width)
        temperature: tau > 0.

    Raises:
        ValueError: if the shapes differ or ``temperature`` is not positive.
    """
    _same_shape(view=view, other=other)
    _positive(temperature=temperature)
    logits = (F.normalize(view, dim=-1) / temperature) @ F.normalize(other, dim=-1).T
    return sampled_softmax(logits, torch.arange(len(view), device=view.device))


def alignment(user: Tensor, item: Tensor) -> Tensor:
    r"""Squared distance of interacting pairs on the unit sphere (Wang and Isola, ICML'20).

    .. math:: \frac1B\sum_{(u,i)}\Big\|\frac{e_u}{\|e_u\|} - \frac{e_i}{\|e_i\|}\Big\|^2

    Args:
        user: embeddings. Shape: (pairs, width)
        item: embeddings of what each interacted with. Shape: (pairs, width)

    Raises:
        ValueError: if the shapes differ.
    """
    _same_shape(user=user, item=item)
    distance = F.normalize(user, dim=-1) - F.normalize(item, dim=-1)
    return distance.square().sum(dim=-1).mean()


def gaussian_potential(embedding: Tensor) -> Tensor:
    r"""Uniformity on the unit sphere, as Wang and Isola (ICML'20) have it: the logarithm of the
    mean Gaussian potential of two rows.

    .. math:: \log\frac{2}{B(B-1)}\sum_{i<j}\exp(-2\|x_i - x_j\|^2),\qquad
              x = \frac{e}{\|e\|},\quad \|x_i - x_j\|^2 = 2 - 2\,x_i\cdot x_j

    Args:
        embedding: e. A single row has no other, and the value 0. Shape: (rows, width)
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
              \epsilon = \hat y_{uj_1} - \hat y_{uj_2}

    Args:
        student: differences of the student's scores; receives gradients. Shape: (batch,)
        teacher: the teacher's; treated as constant. Shape: (batch,)
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

    Generalizes Eq. 5, which is the case of two items a list (up to the teacher's own entropy, a
    constant).

    Args:
        student: scores s; receives gradients. Shape: (batch, items)
        teacher: scores t; treated as constant. Shape: (batch, items)
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
    r"""Embedding-level distillation, the student's and teacher's nodes as two views (Eq. 6).

    .. math:: -\frac{1}{|B|}\sum_{i\in B}\log
              \frac{\exp(\cos(s_i, t_i)/\tau)}{\sum_{i'}\exp(\cos(s_{i'}, t_i)/\tau)}

    Called once for users and once for items. The temperature is the published code's; Eq. 6 has
    none, which is tau = 1. Differs from that code in aligning final embeddings, not the sum of
    the teacher's layers from the second on.

    Args:
        student: final embeddings of all candidates i' of a side; receives gradients.
            Shape: (candidates, width)
        teacher: final embeddings of the anchors; treated as constant. Shape: (anchors, width)
        anchors: the candidate that each anchor is. Shape: (anchors,)
        temperature: tau > 0.

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
    r"""Adaptive uniformity constraint (Eq. 9) on one side, users or items.

    .. math:: -\frac{1}{|B|}\sum_{i\in B}\log
              \frac{\sum_{i_1\in S_i}\exp(e_{i_1}\!\cdot e_i/\tau)}
                   {\sum_{i_2}\exp(e_i\!\cdot e_{i_2}/\tau)}

    :math:`S_i` are the nodes of similar pruning masks (Eq. 10), i itself always among them.
    Differs from the published code, which weighs the two sums apart and takes pairs across sides
    into the denominators.

    Args:
        embedding: final embeddings of all nodes of the side. Shape: (nodes, width)
        anchors: the nodes i that the loss is averaged over. Shape: (anchors,)
        entry_mask: which initial entries are left, bool. Shape: (nodes, width)
        slack: delta of Eq. 10, a number of entries.
        temperature: tau > 0.

    Raises:
        ValueError: if ``temperature`` is not positive or ``slack`` negative.
    """
    _positive(temperature=temperature)
    alike = similar_masks(entry_mask, anchors, slack=slack)
    loss: Tensor = Uniformity.apply(embedding, anchors, alike, temperature)  # type: ignore[no-untyped-call]
    return loss


def similar_masks(entry_mask: Tensor, anchors: Tensor, *, slack: int) -> Tensor:
    r"""The nodes pruned like each anchor (Eq. 10), the anchor itself included.

    .. math:: S_i = \{i_1 : \|m_i\odot m_{i_1}\|_0 \ge
              \max(\|m_i\|_0, \|m_{i_1}\|_0) - \delta\}

    Args:
        entry_mask: m, bool. Shape: (nodes, width)
        anchors: the nodes i. Shape: (anchors,)
        slack: delta, a number of entries, at least 0.

    Returns:
        bool. Shape: (anchors, nodes)

    Raises:
        ValueError: if ``slack`` is negative.
    """
    if slack < 0:
        raise ValueError(f"slack must be at least 0 entries (got {slack})")
    # Whole numbers up to 256 are exact in bfloat16, and its product is the fastest.
    mask = entry_mask.to(torch.bfloat16 if entry_mask.shape[1] <= 256 else torch.float32)
    size = mask.sum(dim=-1)
    shared = mask[anchors] @ mask.T  # (anchors, nodes)
    return (shared >= size[anchors, None] - slack) & (shared >= size - slack)


def weight_decay(*parameters: Tensor, batch_size: int) -> Tensor:
    r"""Half the squared norm of the rows in use, by row of a batch:
    :math:`\frac{1}{2B}\sum_k\|\theta_k\|^2`.

    The term :math:`\|\Theta\|_F^2` of Eq. 11 over the embeddings that the batch touches, as
    LightGCN counts it; RecBole does so with ``require_pow``, and otherwise does not square.

    Args:
        parameters: embeddings. Shape of each: (rows, width)
        batch_size: B.
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
