"""Our sparse products compared with torch's.

The products are of a sparse matrix S (users x items) with dense matrices X (items x width) and
Y (users x width). The alternatives are

- COO: ``torch.sparse.mm`` with a coalesced COO tensor, as in RecBole's models;
- CSR: ``torch.sparse.mm`` with a CSR tensor and 32-bit indices, torch's fastest form;
- gather: rows are gathered, multiplied and added by index, without a sparse tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.bench.graphs import dataset_graph, power_law_graph
from recbole_lightgnn.bench.measure import conditions, deviation, measure, row
from recbole_lightgnn.ops import SparsePattern, product, sddmm, spmm
from recbole_lightgnn.ops.reference import sddmm_reference, spmm_reference

WIDTH = 64  # columns of the dense matrices
SECONDS = 4.0  # measuring time of each product
COPIED = 1 << 28  # bytes of the copy that memory bandwidth is measured with

Product = Callable[[Tensor, Tensor], Tensor]  # (values of S, dense matrix) -> product
Results = tuple[Tensor, ...]  # product and gradients
Contenders = dict[str, dict[str, Callable[[], Results]]]  # operation -> name -> function

FORWARD, TRANSPOSED, TO_DENSE, TO_BOTH, SAMPLED = (
    "S X",
    "S^T Y",
    "S X and gradient to X",
    "S X and both gradients",
    "<Y_i, X_j> at S",
)


@dataclass(frozen=True)
class Case:
    """The matrices of all products in the benchmark.

    Attributes:
        pattern: positions of the nonzeros in S.
        values: nonzeros of S. Shape: (number of nonzeros,)
        x: matrix X. Shape: (items, width)
        y: matrix Y, also used as the gradient of the loss with respect to S X.
            Shape: (users, width)
    """

    pattern: SparsePattern
    values: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def random(cls, pattern: SparsePattern, width: int) -> "Case":
        """Make a case of standard normal numbers; X and Y have ``width`` columns."""
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
        rows, cols = pattern.shape
        return cls(pattern, draw(pattern.nnz), draw(cols, width), draw(rows, width))

    def double(self) -> "Case":
        """Return the case with matrices in float64."""
        return Case(self.pattern, self.values.double(), self.x.double(), self.y.double())


def run(dataset: str | None = None, interactions: int | None = None) -> dict[str, Any]:
    """Check all ways to compute the products, then measure each way.

    Args:
        dataset: name of an imported dataset; ``None`` for a generated graph.
        interactions: number of interactions of the generated graph; ``None`` for as many as in
            Yelp.

    Returns:
        The result, for a JSON file. ``deviation``: largest error, relative to the largest entry.
        ``rows``: one row per operation (see `measure.row`), with our product's times first. For
        S X and S^T Y, the row also has ``bytes_per_second``, the bytes that our product reads and
        writes per second. ``copy_bytes_per_second``: bytes per second of a plain copy. ``users``,
        ``items`` and ``interactions``: size of the graph.

    Raises:
        InputError: if the dataset cannot be read, or if the graph would be too small.
        WrongResult: if one of our products or one of the alternatives gives a wrong result.
    """
    before = conditions()
    if dataset is not None:
        graph = dataset_graph(dataset)
    else:
        graph = power_law_graph() if interactions is None else power_law_graph(interactions)
    case = Case.random(graph.interactions.pattern, WIDTH)
    small = Case.random(power_law_graph(200).interactions.pattern, 8)
    _check(contenders(small), by_reference(small.double()), "on a small graph")
    measured, left_out = _that_fit(contenders(case), case, before["free_memory_gb"])
    worst = _check(measured, by_coo(case.double()), "on the graph")
    rows = [_row(operation, by_name, case) for operation, by_name in measured.items()]
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


def _row(operation: str, by_name: dict[str, Callable[[], Results]], case: Case) -> dict[str, Any]:
    """Measure one operation; for S X and S^T Y, add the bytes per second of our product."""
    seconds = measure(by_name, seconds=SECONDS)
    measured = row(operation, seconds)
    if operation in (FORWARD, TRANSPOSED):
        rate = _bytes_moved(case, operation) / seconds["ours"]["median"]
        measured["bytes_per_second"] = rate
    return measured


def _bytes_moved(case: Case, operation: str) -> int:
    """Bytes that a product reads and writes.

    It reads a value, an index and a row of the dense matrix per nonzero. It writes the result once.
    """
    rows, cols = case.pattern.shape
    row_bytes = case.x.shape[1] * case.x.element_size()
    return case.pattern.nnz * (row_bytes + 8) + (rows if operation == FORWARD else cols) * row_bytes


def _copy_rate() -> float:
    """Bytes read and written per second when copying an array too large for any cache."""
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    taken = measure({"copy": lambda: target.copy_(source)}, seconds=SECONDS / 4)
    return 2 * COPIED / taken["copy"]["median"]


def _rates_text(rows: list[dict[str, Any]], copied: float) -> str:
    """One line on the bytes per second of our products and of a copy."""
    rates = [
        f"{row['operation']} {row['bytes_per_second'] / 1e9:.3g}"
        for row in rows
        if "bytes_per_second" in row
    ]
    return (
        f"GB per second of ours: {', '.join(rates)} (rows of the dense matrix may come from the "
        f"cache); of a plain copy of {COPIED >> 20} MB: {copied / 1e9:.3g}"
    )


def _check(measured: Contenders, truth: dict[str, Results], where: str) -> float:
    """Check all products against ``truth``; return the largest relative error."""
    return max(
        deviation(f"{operation} by {name} {where}", contender(), truth[operation])
        for operation, by_name in measured.items()
        for name, contender in by_name.items()
    )


def _that_fit(every: Contenders, case: Case, free_gb: float) -> tuple[Contenders, list[str]]:
    """The contenders that fit into the free memory, and a text on the contenders left out."""
    rows, cols = case.pattern.shape
    # 1.4 dense matrices of float32 were measured; 2 are safe.
    needed_gb = 2 * 4 * rows * cols / 1e9
    if needed_gb < free_gb:
        return every, []
    fitting = {name: each for name, each in every[TO_BOTH].items() if name not in ("COO", "CSR")}
    line = (
        f"{TO_BOTH} by COO and CSR: torch builds a dense matrix of {rows} x {cols} for it, which "
        f"takes up to {needed_gb:.1f} GB; {free_gb:.1f} GB are free"
    )
    return {**every, TO_BOTH: fitting}, [line]


# --- the contenders -------------------------------------------------------------------------


def contenders(case: Case) -> Contenders:
    """Functions that compute each operation, by name; our function comes first.

    Everything that stays the same between training steps, such as the order of the nonzeros, is
    prepared before the call. If S needs a gradient, its values change at every step. Then every
    call builds the sparse matrix.
    """
    pattern, values, x, y = case.pattern, case.values, case.x, case.y
    indices = torch.stack([pattern.row, pattern.col])

    def coo(values: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(
            indices, values, pattern.shape, is_coalesced=True, check_invariants=False
        )

    fixed_coo, transposed_coo = coo(values), coo(values).t().coalesce()
    fixed_csr, transposed_csr = pattern.matrix(values), pattern.matrix(values, transpose=True)
    ours = partial(spmm, pattern)
    products: dict[str, Product] = {  # for values that change
        "ours": ours,
        "COO": lambda values, dense: torch.sparse.mm(coo(values), dense),
        "CSR": lambda values, dense: torch.sparse.mm(pattern.matrix(values), dense),
        "gather": partial(_gather, pattern.row, pattern.col, pattern.shape[0]),
    }
    fixed: dict[str, Product] = {  # for values that stay the same
        **products,
        "COO": lambda _, dense: torch.sparse.mm(fixed_coo, dense),
        "CSR": lambda _, dense: torch.sparse.mm(fixed_csr, dense),
    }
    forward: dict[str, Product] = {**fixed, "ours": lambda _, dense: product(fixed_csr, dense)}
    transposed: dict[str, Product] = {
        "ours": lambda _, dense: product(transposed_csr, dense),
        "COO": lambda _, dense: torch.sparse.mm(transposed_coo, dense),
        "CSR": lambda _, dense: torch.sparse.mm(transposed_csr, dense),
        "gather": partial(_gather, pattern.col, pattern.row, pattern.shape[1]),
    }
    zeros = pattern.matrix(torch.zeros_like(values))
    sampled: dict[str, Callable[[], Results]] = {
        "ours": lambda: (sddmm(pattern, y, x),),
        "CSR": lambda: (torch.sparse.sampled_addmm(zeros, y, x.t(), beta=0.0).values(),),
        "gather": lambda: ((y[pattern.row] * x[pattern.col]).sum(dim=1),),
    }
    return {
        FORWARD: {name: partial(_forward, f, values, x) for name, f in forward.items()},
        TRANSPOSED: {name: partial(_forward, f, values, y) for name, f in transposed.items()},
        TO_DENSE: {name: partial(_to_dense, f, values, x, y) for name, f in fixed.items()},
        TO_BOTH: {name: partial(_to_both, f, values, x, y) for name, f in products.items()},
        SAMPLED: sampled,
    }


def _gather(to: Tensor, source: Tensor, size: int, values: Tensor, dense: Tensor) -> Tensor:
    """Compute a sparse product by gathered rows: ``rows[to] += values * dense[source]``."""
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


# --- the truth ------------------------------------------------------------------------------


def by_reference(case: Case) -> dict[str, Results]:
    """Compute each operation's correct results on a small graph, one nonzero at a time."""
    product = partial(spmm_reference, case.pattern)
    transposed = partial(spmm_reference, case.pattern, transpose=True)
    return {
        FORWARD: _forward(product, case.values, case.x),
        TRANSPOSED: _forward(transposed, case.values, case.y),
        TO_DENSE: _to_dense(product, case.values, case.x, case.y),
        TO_BOTH: _to_both(product, case.values, case.x, case.y),
        SAMPLED: (sddmm_reference(case.pattern, case.y, case.x),),
    }


def by_coo(case: Case) -> dict[str, Results]:
    """Compute each operation's correct results on any graph, by torch's COO product.

    Gradients come from their formulas. If the gradient with respect to S X is Y, then the gradient
    with respect to X is S^T Y, and with respect to the nonzero (i, j) of S it is <Y_i, X_j>.
    """
    row, col = case.pattern.row, case.pattern.col
    indices = torch.stack([row, col])
    s = torch.sparse_coo_tensor(indices, case.values, case.pattern.shape, check_invariants=False)
    forward, transposed = torch.sparse.mm(s, case.x), torch.sparse.mm(s.t(), case.y)
    sampled = (case.y[row] * case.x[col]).sum(dim=1)
    return {
        FORWARD: (forward,),
        TRANSPOSED: (transposed,),
        TO_DENSE: (forward, transposed),
        TO_BOTH: (forward, sampled, transposed),
        SAMPLED: (sampled,),
    }
