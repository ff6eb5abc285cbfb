"""Losses over many candidates, computed in chunks of rows, with hand-written gradients.

The logits of a chunk stay in the CPU's cache until its gradient is computed. Autograd would go
through all rows for every operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = 1 << 18  # logits in a chunk, 1 MiB in float32; affects speed, not the loss
_FULL_CHUNK = 1 << 21  # the same for the full softmax; large enough for a fast matrix product


@dataclass(frozen=True)
class RaggedIndices:
    """A list of column numbers for each row of a matrix, such as each user's items, in CSR form.

    Attributes:
        pointers: the list of row r is ``col[pointers[r] : pointers[r + 1]]``. Shape: (rows + 1,)
        col: the lists, one after another. Shape: (entries,)
    """

    pointers: Tensor
    col: Tensor

    @property
    def row(self) -> Tensor:
        """Row number of each entry of ``col``, in ascending order. Shape: (entries,)"""
        number = torch.arange(len(self.pointers) - 1, device=self.col.device)
        return number.repeat_interleave(self.pointers.diff(), output_size=len(self.col))

    def within(self, rows: slice) -> tuple[Tensor, Tensor, slice]:
        """Select the entries of ``col`` in a chunk of rows.

        Args:
            rows: slice of the rows, with ``start`` and ``stop``.

        Returns:
            Row (from 0 at ``rows.start``) and column of each entry, and the slice of the entries in
            ``col``. Shapes: (selected,), (selected,)
        """
        pointers = self.pointers[rows.start : rows.stop + 1]
        entries = slice(int(pointers[0]), int(pointers[-1]))
        part = RaggedIndices(pointers - pointers[0], self.col[entries])
        return part.row, part.col, entries


class PrecomputedGradients(torch.autograd.Function):
    """Base class of losses that compute the gradients together with the loss.

    ``forward`` saves the gradients of its first arguments, in order; later arguments have none.
    """

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the saved gradients by the upstream gradient ``grad``."""
        gradients = [saved * grad for saved in ctx.saved_tensors]
        return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))


class SampledSoftmax(PrecomputedGradients):
    """Autograd function behind :func:`recbole_lightgnn.losses.sampled_softmax`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        log_probability: Tensor | None,
        accidental: Tensor | None,
    ) -> Tensor:
        """Return the loss; save the gradient of ``logits``."""
        total, grad = logits.new_zeros(()), torch.empty_like(logits)
        for rows in _chunks(logits):
            part = logits[rows] if log_probability is None else logits[rows] - log_probability
            if accidental is not None:
                part = part.masked_fill(accidental[rows], -torch.inf)
            loss, part_grad = _cross_entropy(part, target[rows])
            total += loss
            torch.div(part_grad, len(logits), out=grad[rows])
        ctx.save_for_backward(grad)
        return total / len(logits)


class FullSoftmax(PrecomputedGradients):
    """Autograd function behind :func:`recbole_lightgnn.losses.full_softmax`."""

    @staticmethod
    def forward(
        ctx: Any,
        user: Tensor,
        item: Tensor,
        target: RaggedIndices,
        weight: Tensor,
        bias: Tensor | None,
        left_out: RaggedIndices | None,
    ) -> Tensor:
        """Return the loss; save the gradients of ``user`` and ``item``."""
        total = user.new_zeros(())
        user_grad, item_grad = torch.empty_like(user), torch.zeros_like(item)
        step = max(1, _FULL_CHUNK // max(1, len(item)))
        for start in range(0, len(user), step):
            rows = slice(start, min(start + step, len(user)))
            logits = user[rows] @ item.T
            if bias is not None:
                logits += bias
            if left_out is not None:
                row, col, _ = left_out.within(rows)
                logits[row, col] = -torch.inf
            row, col, entries = target.within(rows)
            share = weight[entries]
            mass = logits.new_zeros(len(logits)).index_add_(0, row, share)  # total weight of a row
            top = logits.amax(dim=-1, keepdim=True)
            total -= share @ (logits[row, col] - top[row, 0])
            logits.sub_(top).exp_()
            sums = logits.sum(dim=-1)
            total += mass @ sums.log()
            # Gradient of a row's logits: exponentials * mass / sums - weights of its targets.
            scale = mass / sums
            logits.view(-1).index_add_(0, row * logits.shape[1] + col, -share / scale[row])
            torch.mm(logits, item, out=user_grad[rows])
            user_grad[rows] *= scale[:, None]
            item_grad.addmm_(logits.T, user[rows] * scale[:, None])
        ctx.save_for_backward(user_grad, item_grad)
        return total


class ListwiseAlignment(PrecomputedGradients):
    """Autograd function behind :func:`recbole_lightgnn.losses.listwise_alignment`."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the loss; save the gradient of ``student``."""
        total, grad = student.new_zeros(()), torch.empty_like(student)
        for rows in _chunks(student):
            log_target = (teacher[rows] / temperature).log_softmax(dim=-1)
            log_student = (student[rows] / temperature).log_softmax(dim=-1)
            target = log_target.exp()
            total += (log_target.sub_(log_student).mul_(target)).sum()
            torch.sub(log_student.exp_(), target, out=grad[rows])
            grad[rows] /= len(student) * temperature
        ctx.save_for_backward(grad)
        return total / len(student)


class EmbeddingAlignment(PrecomputedGradients):
    """Autograd function behind :func:`recbole_lightgnn.losses.embedding_alignment`."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, anchors: Tensor, temperature: float
    ) -> Tensor:
        """Return the loss; save the gradient of ``student``."""
        vectors = F.normalize(teacher.detach(), dim=-1) / temperature  # (anchors, width)
        scale = 1 / student.norm(dim=-1).clamp_min(1e-12)  # (candidates,)
        logits = vectors @ student.T  # (anchors, candidates)
        total, radial = student.new_zeros(()), torch.zeros_like(scale)
        for rows in _chunks(logits):
            part = logits[rows]
            part *= scale
            loss, part_grad = _cross_entropy(part, anchors[rows])
            total += loss
            radial += (part_grad * part).sum(dim=0)
            torch.mul(part_grad, scale, out=part)
        if ctx.needs_input_grad[0]:
            grad = logits.T @ vectors
            # A candidate's length does not change the cosine: remove the gradient along it.
            grad.addcmul_(student, (radial * scale.square())[:, None], value=-1)
            ctx.save_for_backward(grad / max(1, len(anchors)))
        return total / max(1, len(anchors))


class Uniformity(PrecomputedGradients):
    """Autograd function behind :func:`recbole_lightgnn.losses.uniformity`."""

    @staticmethod
    def forward(
        ctx: Any, embedding: Tensor, anchors: Tensor, alike: Tensor, temperature: float
    ) -> Tensor:
        """Return the loss; save the gradient of ``embedding``."""
        vectors = embedding.index_select(0, anchors) / temperature  # (anchors, width)
        logits = vectors @ embedding.T  # (anchors, nodes)
        total = embedding.new_zeros(())
        for rows in _chunks(logits):
            part = logits[rows]
            similar = part.masked_fill(~alike[rows], -torch.inf)
            all_softmax, similar_softmax = part.softmax(dim=-1), similar.softmax(dim=-1)
            total += (_logsumexp(part, all_softmax) - _logsumexp(similar, similar_softmax)).sum()
            torch.sub(all_softmax, similar_softmax, out=part)
        if ctx.needs_input_grad[0]:
            grad = logits.T @ vectors
            grad.index_add_(0, anchors, logits @ embedding / temperature)
            ctx.save_for_backward(grad / max(1, len(anchors)))
        return total / max(1, len(anchors))


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Yield slices of rows that cut the logits into chunks of about ``_CHUNK`` numbers."""
    step = max(1, _CHUNK // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        yield slice(start, start + step)


def _cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and its gradient, softmax minus one-hot target."""
    column = target[:, None]
    probability = logits.softmax(dim=-1)
    loss = (_logsumexp(logits, probability) - logits.gather(1, column).squeeze(1)).sum()
    return loss, probability.scatter_add_(1, column, probability.new_full(column.shape, -1.0))


def _logsumexp(logits: Tensor, probability: Tensor) -> Tensor:
    """Compute each row's logsumexp: largest logit minus its log-probability. Shape: (rows,)"""
    return logits.amax(dim=-1) - probability.amax(dim=-1).log()
