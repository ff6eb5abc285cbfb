"""The losses of LightGNN, one function an equation.

Sums over users, items or tuples in the paper are means here, so that a weight means the same at
every batch size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 18  # logits looked at at once, a megabyte: bounds memory traffic, not the result


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
    loss: Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        logits, target, log_probability, accidental
    )
    return loss


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
    loss: Tensor = _ListwiseAlignment.apply(student, teacher, temperature)  # type: ignore[no-untyped-call]
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
    loss: Tensor = _EmbeddingAlignment.apply(student, teacher, anchors, temperature)  # type: ignore[no-untyped-call]
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
    loss: Tensor = _Uniformity.apply(embedding, anchors, alike, temperature)  # type: ignore[no-untyped-call]
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


# Below, losses over many candidates with their gradients, some rows at a time: rows stay in the
# cache from the logits to the gradient, where autograd would pass over all of them at every step.


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        log_probability: Tensor | None,
        accidental: Tensor | None,
    ) -> Tensor:
        total, grad = logits.new_zeros(()), torch.empty_like(logits)
        for rows in _blocks(logits):
            part = logits[rows] if log_probability is None else logits[rows] - log_probability
            if accidental is not None:
                part = part.masked_fill(accidental[rows], -torch.inf)
            loss, inward = _cross_entropy(part, target[rows])
            total += loss
            torch.div(inward, len(logits), out=grad[rows])
        ctx.save_for_backward(grad)
        return total / len(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (logits,) = ctx.saved_tensors
        return logits * grad, None, None, None


class _ListwiseAlignment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        total, grad = student.new_zeros(()), torch.empty_like(student)
        for rows in _blocks(student):
            goal = (teacher[rows] / temperature).log_softmax(dim=-1)
            own = (student[rows] / temperature).log_softmax(dim=-1)
            weight = goal.exp()
            total += (goal.sub_(own).mul_(weight)).sum()
            torch.sub(own.exp_(), weight, out=grad[rows])
            grad[rows] /= len(student) * temperature
        ctx.save_for_backward(grad)
        return total / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (student,) = ctx.saved_tensors
        return student * grad, None, None


class _EmbeddingAlignment(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, anchors: Tensor, temperature: float
    ) -> Tensor:
        vectors = F.normalize(teacher.detach(), dim=-1) / temperature  # (anchors, width)
        scale = 1 / student.norm(dim=-1).clamp_min(1e-12)  # (candidates,)
        logits = vectors @ student.T  # (anchors, candidates)
        total, radial = student.new_zeros(()), torch.zeros_like(scale)
        for rows in _blocks(logits):
            part = logits[rows]
            part *= scale
            loss, inward = _cross_entropy(part, anchors[rows])
            total += loss
            radial += (inward * part).sum(dim=0)
            torch.mul(inward, scale, out=part)
        if ctx.needs_input_grad[0]:
            grad = logits.T @ vectors
            grad.addcmul_(student, (radial * scale.square())[:, None], value=-1)
            ctx.save_for_backward(grad / len(anchors))
        return total / len(anchors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (student,) = ctx.saved_tensors
        return student * grad, None, None, None


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embedding: Tensor, anchors: Tensor, alike: Tensor, temperature: float
    ) -> Tensor:
        vectors = embedding.index_select(0, anchors) / temperature  # (anchors, width)
        logits = vectors @ embedding.T  # (anchors, nodes)
        total = embedding.new_zeros(())
        for rows in _blocks(logits):
            part = logits[rows]
            among = part.masked_fill(~alike[rows], -torch.inf)
            whole, chosen = part.softmax(dim=-1), among.softmax(dim=-1)
            total += (_logsumexp(part, whole) - _logsumexp(among, chosen)).sum()
            torch.sub(whole, chosen, out=part)
        if ctx.needs_input_grad[0]:
            grad = logits.T @ vectors
            grad.index_add_(0, anchors, logits @ embedding / temperature)
            ctx.save_for_backward(grad / len(anchors))
        return total / len(anchors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (embedding,) = ctx.saved_tensors
        return embedding * grad, None, None, None


def _blocks(logits: Tensor) -> Iterator[slice]:
    """Slices of rows that together cover all, each of about ``_BLOCK`` logits."""
    step = max(1, _BLOCK // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        yield slice(start, start + step)


def _cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the rows' cross-entropies, and its gradient: softmax less one at the target."""
    own = target[:, None]
    probability = logits.softmax(dim=-1)
    loss = (_logsumexp(logits, probability) - logits.gather(1, own).squeeze(1)).sum()
    return loss, probability.scatter_add_(1, own, probability.new_full(own.shape, -1.0))


def _logsumexp(logits: Tensor, probability: Tensor) -> Tensor:
    """Of each row, by its softmax: the largest logit, less the logarithm of its probability."""
    return logits.amax(dim=-1) - probability.amax(dim=-1).log()


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
