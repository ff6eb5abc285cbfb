r"""Our sparse products beside torch's.

Every product is of a matrix S (users x items) with dense matrices X (items x width) and
Y (users x width). The rivals:

- COO: ``torch.sparse.mm`` on a coalesced COO tensor, what RecBole's models use;
- CSR: the same on a CSR tensor with 32-bit indices, its fastest form;
- gather: rows gathered, multiplied and added by index, as without sparse tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.bench.graphs import dataset_graph, power_law_graph
from recbole_lightgnn.bench.measure import conditions, deviation, measure
from recbole_lightgnn.ops import SparsePattern, product, sddmm, spmm
from recbole_lightgnn.ops.reference import sddmm_reference, spmm_reference

WIDTH = 64
SECONDS = 4.0  # about how long each product is measured
COPIED = 1 << 28  # bytes

Product = Callable[[Tensor, Tensor], Tensor]  # of values and dense
Results = tuple[Tensor, ...]
Entered = dict[str, dict[str, Callable[[], Results]]]  # product -> who computes it -> call

FORWARD, TRANSPOSED, TO_DENSE, TO_BOTH, SAMPLED = (
    "S X",
    "S^T Y",
    "S X and gradient to X",
    "S X and both gradients",
    "<Y_i, X_j> at S",
)


@dataclass(frozen=True)
class Case:
    """What is multiplied.

    Attributes:
        pattern: places of S.
        values: S at these places. Shape: (nnz,)
        x: X. Shape: (items, width)
        y: Y, also the gradient that arrives at S X. Shape: (users, width)
    """

    pattern: SparsePattern
    values: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def random(cls, pattern: SparsePattern, width: int) -> "Case":
        """Standard normal numbers at the pattern's places and in the dense matrices."""
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
        rows, cols = pattern.shape
        return cls(pattern, draw(pattern.nnz), draw(cols, width), draw(rows, width))

    def double(self) -> "Case":
        """The same numbers in float64."""
        return Case(self.pattern, self.values.double(), self.x.double(), self.y.double())


def run(dataset: str | None = None, interactions: int | None = None) -> dict[str, Any]:
    """Check all products, then measure them.

    Args:
        dataset: an imported dataset; none for a generated graph.
        interactions: the size of the generated graph, by default Yelp's.

    Returns:
        The result, of plain values: what was measured, ``deviation`` from the truth, the
        ``conditions``, and ``rows``, one a product, with the ``seconds`` of each contender (ours
        first) and ``times_ours``, the medians of the others over ours; of the plain products also
        ``bytes_per_second``, beside ``copy_bytes_per_second``.

    Raises:
        InputError: if the dataset cannot be read or the size is too small.
        WrongResult: if any product, of ours or of a rival, is wrong.
    """
    before = conditions()
    if dataset is not None:
        graph = dataset_graph(dataset)
    else:
        graph = power_law_graph() if interactions is None else power_law_graph(interactions)
    case = Case.random(graph.interactions.pattern, WIDTH)
    small = Case.random(power_law_graph(200).interactions.pattern, 8)
    _check(contenders(small), by_reference(small.double()), "on a small graph")
    entered, left_out = _that_fit(contenders(case), case, before["free_memory_gb"])
    worst = _check(entered, by_coo(case.double()), "on the graph")
    rows = [_row(operation, who, case) for operation, who in entered.items()]
    copied = _copy_rate()
    return {
        "bench": "ops",
        "graph": "generated, power law" if dataset is None else dataset,
        "users": graph.n_users,
        "items": graph.n_items,
        "interactions": graph.n_edges,
        "width": WIDTH,
        "deviation": worst,
        "conditions": before,
        "notes": [_rates_text(rows, copied), *(f"left out: {line}" for line in left_out)],
        "copy_bytes_per_second": copied,
        "rows": rows,
    }


def _row(operation: str, who: dict[str, Callable[[], Results]], case: Case) -> dict[str, Any]:
    seconds = measure(who, seconds=SECONDS)
    ours = seconds["ours"]["median"]
    rivals = {name: taken["median"] / ours for name, taken in seconds.items() if name != "ours"}
    row = {"operation": operation, "seconds": seconds, "times_ours": rivals}
    if operation in (FORWARD, TRANSPOSED):
        row["bytes_per_second"] = _bytes_moved(case, operation) / ours
    return row


def _bytes_moved(case: Case, operation: str) -> int:
    """Of a product: a row of the dense matrix, a value and an index a nonzero; the result once."""
    rows, cols = case.pattern.shape
    row_bytes = case.x.shape[1] * case.x.element_size()
    return case.pattern.nnz * (row_bytes + 8) + (rows if operation == FORWARD else cols) * row_bytes


def _copy_rate() -> float:
    """Bytes read and written a second by a copy too large for any cache."""
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    taken = measure({"copy": lambda: target.copy_(source)}, seconds=SECONDS / 4)
    return 2 * COPIED / taken["copy"]["median"]


def _rates_text(rows: list[dict[str, Any]], copied: float) -> str:
    rates = [
        f"{row['operation']} {row['bytes_per_second'] / 1e9:.3g}"
        for row in rows
        if "bytes_per_second" in row
    ]
    return (
        f"ours moves, in GB a second: {', '.join(rates)} (rows of the dense matrix may come from "
        f"the cache); a plain copy of {COPIED >> 20} MB {copied / 1e9:.3g}"
    )


def _check(entered: Entered, truth: dict[str, Results], where: str) -> float:
    return max(
        deviation(f"{operation} by {name} {where}", contender(), truth[operation])
        for operation, who in entered.items()
        for name, contender in who.items()
    )


def _that_fit(entered: Entered, case: Case, free_gb: float) -> tuple[Entered, list[str]]:
    """Without what would exhaust the memory; and a line on what that was."""
    rows, cols = case.pattern.shape
    needed_gb = 2 * 4 * rows * cols / 1e9  # measured: 1.4 dense matrices of float32
    if needed_gb < free_gb:
        return entered, []
    kept = {name: who for name, who in entered[TO_BOTH].items() if name not in ("COO", "CSR")}
    line = (
        f"{TO_BOTH} by COO and CSR: torch builds a dense matrix of {rows} x {cols} for it, which "
        f"takes up to {needed_gb:.1f} GB; {free_gb:.1f} GB are free"
    )
    return {**entered, TO_BOTH: kept}, [line]


# --- who competes ---------------------------------------------------------------------------


def contenders(case: Case) -> Entered:
    """Every product, and all who compute it.

    What does not change from step to step, as the order of the nonzeros, is ready before the call;
    where values get a gradient, every call builds its matrix anew, since they change.
    """
    pattern, values, x, y = case.pattern, case.values, case.x, case.y
    place = torch.stack([pattern.row, pattern.col])

    def coo(values: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(
            place, values, pattern.shape, is_coalesced=True, check_invariants=False
        )

    fixed_coo, turned_coo = coo(values), coo(values).t().coalesce()
    fixed_csr, turned_csr = pattern.matrix(values), pattern.matrix(values, transpose=True)
    ours = partial(spmm, pattern)
    products: dict[str, Product] = {  # with values that change
        "ours": ours,
        "COO": lambda values, dense: torch.sparse.mm(coo(values), dense),
        "CSR": lambda values, dense: torch.sparse.mm(pattern.matrix(values), dense),
        "gather": partial(_gather, pattern.row, pattern.col, pattern.shape[0]),
    }
    fixed: dict[str, Product] = {  # with values that stay
        **products,
        "COO": lambda _, dense: torch.sparse.mm(fixed_coo, dense),
        "CSR": lambda _, dense: torch.sparse.mm(fixed_csr, dense),
    }
    forward: dict[str, Product] = {**fixed, "ours": lambda _, dense: product(fixed_csr, dense)}
    turned: dict[str, Product] = {
        "ours": lambda _, dense: product(turned_csr, dense),
        "COO": lambda _, dense: torch.sparse.mm(turned_coo, dense),
        "CSR": lambda _, dense: torch.sparse.mm(turned_csr, dense),
        "gather": partial(_gather, pattern.col, pattern.row, pattern.shape[1]),
    }
    at_places = pattern.matrix(torch.zeros_like(values))
    sampled: dict[str, Callable[[], Results]] = {
        "ours": lambda: (sddmm(pattern, y, x),),
        "CSR": lambda: (torch.sparse.sampled_addmm(at_places, y, x.t(), beta=0.0).values(),),
        "gather": lambda: ((y[pattern.row] * x[pattern.col]).sum(dim=1),),
    }
    return {
        FORWARD: {name: partial(_forward, f, values, x) for name, f in forward.items()},
        TRANSPOSED: {name: partial(_forward, f, values, y) for name, f in turned.items()},
        TO_DENSE: {name: partial(_to_dense, f, values, x, y) for name, f in fixed.items()},
        TO_BOTH: {name: partial(_to_both, f, values, x, y) for name, f in products.items()},
        SAMPLED: sampled,
    }


def _gather(to: Tensor, source: Tensor, size: int, values: Tensor, dense: Tensor) -> Tensor:
    rows = dense.new_zeros(size, dense.shape[1])
    return rows.index_add(0, to, values[:, None] * dense[source])


def _forward(product: Product, values: Tensor, dense: Tensor) -> Results:
    return (product(values, dense),)


def _to_dense(product: Product, values: Tensor, x: Tensor, gradient: Tensor) -> Results:
    x = x.detach().requires_grad_()
    result = product(values, x)
    return (result.detach(), *torch.autograd.grad(result, x, gradient))


def _to_both(product: Product, values: Tensor, x: Tensor, gradient: Tensor) -> Results:
    values, x = values.detach().requires_grad_(), x.detach().requires_grad_()
    result = product(values, x)
    return (result.detach(), *torch.autograd.grad(result, (values, x), gradient))


# --- what is right --------------------------------------------------------------------------


def by_reference(case: Case) -> dict[str, Results]:
    """The truth on a small graph, one nonzero at a time."""
    product = partial(spmm_reference, case.pattern)
    turned = partial(spmm_reference, case.pattern, transpose=True)
    return {
        FORWARD: _forward(product, case.values, case.x),
        TRANSPOSED: _forward(turned, case.values, case.y),
        TO_DENSE: _to_dense(product, case.values, case.x, case.y),
        TO_BOTH: _to_both(product, case.values, case.x, case.y),
        SAMPLED: (sddmm_reference(case.pattern, case.y, case.x),),
    }


def by_coo(case: Case) -> dict[str, Results]:
    """The truth on any graph: torch's COO product, and the gradients written out."""
    row, col = case.pattern.row, case.pattern.col
    place = torch.stack([row, col])
    s = torch.sparse_coo_tensor(place, case.values, case.pattern.shape, check_invariants=False)
    forward, turned = torch.sparse.mm(s, case.x), torch.sparse.mm(s.t(), case.y)
    sampled = (case.y[row] * case.x[col]).sum(dim=1)
    return {
        FORWARD: (forward,),
        TRANSPOSED: (turned,),
        TO_DENSE: (forward, turned),  # the gradient to X is S^T times the one that arrives
        TO_BOTH: (forward, sampled, turned),
        SAMPLED: (sampled,),
    }
