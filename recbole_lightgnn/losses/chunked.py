"""Losses over many candidates with gradients of their own, some rows of logits at a time.

Rows stay in the cache from the logits to the gradient, where autograd would pass over all of them
at every step; and of a softmax over all items, logits are never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 18  # logits looked at at once, a megabyte: bounds memory traffic, not the result
_FULL_BLOCK = 1 << 21  # the same of all items: large enough for a product of matrices


@dataclass(frozen=True)
class Places:
    """Places in a matrix of users and items, in the order of rows.

    Attributes:
        pointers: where each row's places begin, and where the last one's end. Shape: (rows + 1,)
        col: Shape: (places,)
    """

    pointers: Tensor
    col: Tensor

    @property
    def row(self) -> Tensor:
        """Shape: (places,)"""
        number = torch.arange(len(self.pointers) - 1, device=self.col.device)
        return number.repeat_interleave(self.pointers.diff(), output_size=len(self.col))

    def within(self, rows: slice) -> tuple[Tensor, Tensor, slice]:
        """Rows, counted from the first of ``rows``, and columns of the places in them; and which
        places these are."""
        pointers = self.pointers[rows.start : rows.stop + 1]
        entries = slice(int(pointers[0]), int(pointers[-1]))
        part = Places(pointers - pointers[0], self.col[entries])
        return part.row, part.col, entries


class Prepared(torch.autograd.Function):
    """A loss whose first arguments get gradients, which `forward` has saved in their order."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inward = [saved * grad for saved in ctx.saved_tensors]
        return *inward, *[None] * (len(ctx.needs_input_grad) - len(inward))


class SampledSoftmax(Prepared):
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


class FullSoftmax(Prepared):
    @staticmethod
    def forward(
        ctx: Any,
        user: Tensor,
        item: Tensor,
        target: Places,
        weight: Tensor,
        bias: Tensor | None,
        left_out: Places | None,
    ) -> Tensor:
        total = user.new_zeros(())
        user_grad, item_grad = torch.empty_like(user), torch.zeros_like(item)
        step = max(1, _FULL_BLOCK // max(1, len(item)))
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
            mass = logits.new_zeros(len(logits)).index_add_(0, row, share)
            top = logits.amax(dim=-1, keepdim=True)
            total -= share @ (logits[row, col] - top[row, 0])
            logits.sub_(top).exp_()
            sums = logits.sum(dim=-1)
            total += mass @ sums.log()
            # The gradient of a row's logits is mass / sums times what `logits` holds now.
            scale = mass / sums
            logits.view(-1).index_add_(0, row * logits.shape[1] + col, -share / scale[row])
            torch.mm(logits, item, out=user_grad[rows])
            user_grad[rows] *= scale[:, None]
            item_grad.addmm_(logits.T, user[rows] * scale[:, None])
        ctx.save_for_backward(user_grad, item_grad)
        return total


class ListwiseAlignment(Prepared):
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


class EmbeddingAlignment(Prepared):
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
            ctx.save_for_backward(grad / max(1, len(anchors)))
        return total / max(1, len(anchors))


class Uniformity(Prepared):
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
            ctx.save_for_backward(grad / max(1, len(anchors)))
        return total / max(1, len(anchors))


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
