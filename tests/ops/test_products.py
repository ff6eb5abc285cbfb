"""Sparse products: by hand, against plain loops, gradients, edge cases, invariance."""

import pytest
import torch
from helpers.tiny import (
    N_USERS,
    REFERENCE,
    TOLERANCE,
    dense,
    double,
    random_pattern,
    reference,
    reference_output,
)
from torch.testing import assert_close

from recbole_lightgnn.ops import SparsePattern, edge_products, power_sum, sddmm, spmm
from recbole_lightgnn.ops.reference import power_sum_reference, sddmm_reference, spmm_reference

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
both_ways = pytest.mark.parametrize("transpose", [False, True])


def pattern(row, col, shape):
    return SparsePattern(torch.tensor(row).long(), torch.tensor(col).long(), shape)


# --- by hand ---------------------------------------------------------------------------------

# [[0, 7, 0],      position (0, 1) twice: 2 + 5 = 7; row 1 is empty;
#  [0, 0, 0],      the columns of row 2 are not sorted.
#  [4, 0, 3]]
PLACES = ([0, 0, 2, 2], [1, 1, 2, 0], (3, 3))
VALUES = [2.0, 5.0, 3.0, 4.0]
DENSE = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]


def test_spmm_by_hand():
    product = spmm(pattern(*PLACES), torch.tensor(VALUES), torch.tensor(DENSE))
    assert product.tolist() == [[14.0, 140.0], [0.0, 0.0], [13.0, 130.0]]


def test_transposed_spmm_by_hand():
    product = spmm(pattern(*PLACES), torch.tensor(VALUES), torch.tensor(DENSE), transpose=True)
    assert product.tolist() == [[12.0, 120.0], [7.0, 70.0], [9.0, 90.0]]


def test_sddmm_by_hand():
    right = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    products = sddmm(pattern(*PLACES), torch.tensor(DENSE), right)
    assert products.tolist() == [10.0, 10.0, 33.0, 3.0]


def test_edge_products_are_sddmm_with_gradients():
    places = pattern(*PLACES)
    left, right = double(3, 2, seed=1, grad=True), double(3, 2, seed=2, grad=True)
    assert_close(edge_products(places, left, right), sddmm(places, left, right))
    assert torch.autograd.gradcheck(lambda a, b: edge_products(places, a, b), (left, right))
    wide = pattern([0, 0, 1], [3, 1, 0], (2, 4))
    tall = double(4, 2, seed=3, grad=True)
    assert torch.autograd.gradcheck(lambda a, b: edge_products(wide, a, b), (left[:2], tall))


def test_rectangular_by_hand():
    wide = pattern([0, 1], [3, 0], (2, 4))
    values = torch.tensor([2.0, 3.0])
    assert spmm(wide, values, torch.arange(4.0)[:, None]).tolist() == [[6.0], [0.0]]
    back = spmm(wide, values, torch.tensor([[1.0], [10.0]]), transpose=True)
    assert back.tolist() == [[30.0], [0.0], [0.0], [2.0]]


def test_propagation_of_the_published_code():
    """Its adjacency is square over users and items, with self loops and two weights per edge."""
    square = REFERENCE["adjacency"]
    places = pattern(square["row"], square["col"], (11, 11))
    norm = torch.tensor(square["value"], dtype=torch.float64)
    values = norm * reference("edge_weight") * reference("edge_mask")
    layer = reference("embedding") * reference("entry_mask")
    total = layer
    for _ in range(REFERENCE["propagation"]["layers"]):
        layer = spmm(places, values, layer)
        total = total + layer
    user, item = reference_output()
    assert_close(total[:N_USERS], user, **TOLERANCE)
    assert_close(total[N_USERS:], item, **TOLERANCE)


# --- against plain loops ----------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@both_ways
@pytest.mark.parametrize("seed", range(5))
def test_spmm_and_its_gradients_equal_the_plain_loop(seed, transpose, device):
    places = random_pattern(seed, shape=(7, 5), nnz=20).to(device)
    grad = double(5 if transpose else 7, 3, seed=seed + 20).to(device)
    results = []
    for product in (spmm, spmm_reference):
        values = double(20, seed=seed).to(device).requires_grad_()
        x = double(7 if transpose else 5, 3, seed=seed + 10).to(device).requires_grad_()
        out = product(places, values, x, transpose=transpose)
        results.append((out, *torch.autograd.grad(out, (values, x), grad)))
    for fast, plain in zip(*results, strict=True):
        assert_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@both_ways
def test_the_added_matrix_and_its_gradient(transpose, device):
    places = random_pattern(3, shape=(7, 5), nnz=20).to(device)
    values, x = double(20, seed=1).to(device), double(7 if transpose else 5, 3, seed=0).to(device)
    y = double(5 if transpose else 7, 3, seed=2).to(device).requires_grad_()
    result = spmm(places, values, x, add=y, transpose=transpose)
    assert_close(result, spmm_reference(places, values, x, transpose=transpose) + y)
    assert torch.autograd.gradcheck(
        lambda v, d, a: spmm(places, v, d, add=a, transpose=transpose),
        (values.requires_grad_(), x.requires_grad_(), y),
    )


POLYNOMIALS = [[1.0], [2.0, 1.0], [3.0, 3.0, 1.0], [1.0, 0.0, -0.5, 1.0], [1.0] * 4]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("coefficients", POLYNOMIALS)
@pytest.mark.parametrize("wanted", [(0, 1, 2), (1, 2), (0,), (1,), (2,)])
def test_power_sum_and_its_gradients_equal_the_plain_loop(coefficients, wanted, device):
    places = random_pattern(4, shape=(7, 5), nnz=20).to(device)
    grads = double(7, 3, seed=4).to(device), double(5, 3, seed=5).to(device)
    results = []
    for total in (power_sum, power_sum_reference):
        x = [double(20, seed=1), double(7, 3, seed=7), double(5, 3, seed=5)]
        x = [part.to(device).requires_grad_(k in wanted) for k, part in enumerate(x)]
        sums = total(places, *x, coefficients=coefficients)
        pairs = [(s, g) for s, g in zip(sums, grads, strict=True) if s.requires_grad]
        gradients = []
        if pairs:  # the zeroth power alone does not depend on the values
            gradients = torch.autograd.grad(
                [s for s, _ in pairs],
                [x[k] for k in wanted],
                [g for _, g in pairs],
                allow_unused=True,
                materialize_grads=True,
            )
        results.append((*sums, *gradients))
    for fast, plain in zip(*results, strict=True):
        assert_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [(0, 1, 2), (1, 2)])
def test_power_sum_in_float32_equals_that_in_float64(wanted):
    """float32 runs in the kernel, float64 in torch; 65 columns are four vectors and one lane."""
    places = random_pattern(6, shape=(70, 50), nnz=400)
    x = [double(400, seed=1), double(70, 65, seed=2), double(50, 65, seed=3)]
    grads = [double(70, 65, seed=4), double(50, 65, seed=5)]
    results = []
    for dtype in (torch.float32, torch.float64):
        parts = [part.to(dtype).requires_grad_(k in wanted) for k, part in enumerate(x)]
        sums = power_sum(places, *parts, coefficients=[4.0, 6.0, 4.0, 1.0])
        leaves = [parts[k] for k in wanted]
        results.append((*sums, *torch.autograd.grad(sums, leaves, [g.to(dtype) for g in grads])))
    for single, exact in zip(*results, strict=True):
        assert (single - exact).abs().max() <= 2e-6 * exact.abs().max()


def test_power_sum_by_hand():
    """S = (2 3) and X = (1; 5, 7): A X = (31; 2, 3) and A A X = (13; 62, 93)."""
    row, cols = torch.tensor([[1.0]]), torch.tensor([[5.0], [7.0]])
    places = pattern([0, 0], [0, 1], (1, 2))
    sums = power_sum(places, torch.tensor([2.0, 3.0]), row, cols, coefficients=[100.0, 10.0, 1.0])
    assert [part.flatten().tolist() for part in sums] == [[423.0], [582.0, 823.0]]


def test_power_sum_without_nonzeros():
    parts = double(4, 2, seed=1, grad=True), double(3, 2, seed=2, grad=True)
    values = torch.zeros(0).double().requires_grad_()
    sums = power_sum(pattern([], [], (4, 3)), values, *parts, coefficients=[3.0, 3.0, 1.0])
    for total, part in zip(sums, parts, strict=True):
        assert_close(total, 3 * part)
    grads = torch.autograd.grad([part.sum() for part in sums], (values, *parts))
    assert grads[0].shape == (0,)
    assert (grads[1] == 3).all()


@both_ways
@pytest.mark.parametrize("nnz", [0, 3])
def test_a_product_ignores_the_old_content_of_its_memory(transpose, nnz, monkeypatch):
    """The result is allocated without clearing, so its memory may hold anything, NaN too."""
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *size: torch.full(size, torch.nan).to(self)
    )
    places = pattern([0, 0, 2][:nnz], [1, 2, 2][:nnz], (4, 4))
    product = spmm(places, torch.ones(nnz), torch.ones(4, 2), transpose=transpose)
    assert not product.isnan().any()
    assert product.sum() == 2 * nnz


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_sddmm_equals_the_plain_loop(seed, device):
    places = random_pattern(seed, shape=(7, 5), nnz=20).to(device)
    left, right = double(7, 3, seed=seed).to(device), double(5, 3, seed=seed + 10).to(device)
    assert_close(
        sddmm(places, left, right), sddmm_reference(places, left, right), rtol=1e-12, atol=1e-12
    )


@both_ways
def test_float32_has_float32_precision(transpose):
    places = random_pattern(0, shape=(300, 300), nnz=3000)
    values, x = double(3000, seed=1), double(300, 16, seed=2)
    exact = dense(places, values)
    exact = (exact.T if transpose else exact) @ x
    single = spmm(places, values.float(), x.float(), transpose=transpose)
    assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)


# --- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@both_ways
def test_gradients_with_empty_rows_and_repeated_edges(transpose, device):
    places = pattern([0, 0, 0, 2, 2, 4], [1, 1, 3, 0, 3, 3], (6, 5)).to(device)
    values = double(6, seed=1).to(device).requires_grad_()
    x = double(6 if transpose else 5, 2, seed=2).to(device).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, d: spmm(places, v, d, transpose=transpose), (values, x)
    )


@pytest.mark.parametrize("wanted", ["values", "dense"])
@both_ways
def test_only_required_gradients_are_computed(wanted, transpose):
    """A factor without ``requires_grad`` gets no gradient; the other factor's is still right."""
    places = random_pattern(1, shape=(4, 4), nnz=6)
    values = double(6, seed=1, grad=wanted == "values")
    x = double(4, 2, seed=2, grad=wanted == "dense")
    spmm(places, values, x, transpose=transpose).square().sum().backward()
    matrix = dense(places, values.detach())
    matrix = matrix.T if transpose else matrix
    upstream = 2 * matrix @ x.detach()  # (4, 2)
    if wanted == "dense":
        assert values.grad is None
        assert_close(x.grad, matrix.T @ upstream)
    else:
        at_places = upstream @ x.detach().T
        at_places = at_places.T if transpose else at_places
        assert x.grad is None
        assert_close(values.grad, at_places[places.row, places.col])


def test_gradient_through_two_layers():
    """Values used in two layers collect the gradients of both."""
    places = random_pattern(3, shape=(4, 4), nnz=7)

    def two_layers(values, x):
        return spmm(places, values, spmm(places, values, x), transpose=True)

    assert torch.autograd.gradcheck(
        two_layers, (double(7, seed=1, grad=True), double(4, 2, seed=2, grad=True))
    )


@both_ways
def test_strided_arguments_and_gradients(transpose):
    places = random_pattern(4, shape=(5, 5), nnz=9)
    values = double(18, seed=1, grad=True)[::2]
    x = double(3, 5, seed=2, grad=True).T
    out = spmm(places, values, x, transpose=transpose)
    matrix = dense(places, values)
    expected = (matrix.T if transpose else matrix) @ x
    assert_close(out, expected)
    ones = torch.ones((), dtype=torch.float64).expand(5, 3)  # strides of zero
    for got, want in zip(
        torch.autograd.grad(out, (values, x), ones),
        torch.autograd.grad(expected, (values, x), ones),
        strict=True,
    ):
        assert_close(got, want)
    assert_close(
        sddmm(places, x, double(3, 5, seed=5).T), (x @ double(3, 5, seed=5))[places.row, places.col]
    )


@both_ways
def test_a_column_of_a_wider_table_in_float32(transpose):
    """DGCF multiplies such columns: they are strided, and the kernel needs adjacent numbers."""
    places = random_pattern(4, shape=(5, 5), nnz=9)
    values, table = double(9, seed=1).float(), double(5, 4, seed=2).float()
    matrix = dense(places, values)
    for columns in (slice(1, 2), slice(1, 3)):
        out = spmm(places, values, table[:, columns], transpose=transpose)
        assert_close(out, (matrix.T if transpose else matrix) @ table[:, columns])


# --- edge cases -----------------------------------------------------------------------------


@both_ways
def test_no_nonzeros(transpose):
    nothing = pattern([], [], (3, 4))
    values = double(0, seed=0, grad=True)
    x = double(3 if transpose else 4, 2, seed=1, grad=True)
    out = spmm(nothing, values, x, transpose=transpose)
    assert out.tolist() == [[0.0, 0.0]] * (4 if transpose else 3)
    out.sum().backward()
    assert values.grad.shape == (0,)
    assert x.grad.tolist() == [[0.0, 0.0]] * len(x)
    assert sddmm(nothing, double(3, 2, seed=2), double(4, 2, seed=3)).shape == (0,)


def test_one_row_and_one_column():
    single = pattern([0], [0], (1, 1))
    assert spmm(single, torch.tensor([3.0]), torch.tensor([[2.0]])).item() == 6.0
    assert sddmm(single, torch.tensor([[3.0]]), torch.tensor([[2.0]])).item() == 6.0


def test_keep_equals_zero_values():
    places = random_pattern(5, shape=(6, 4), nnz=15)
    values, x = double(15, seed=1), double(4, 3, seed=2)
    mask = values > 0
    kept = places.keep(mask)
    assert kept.nnz == int(mask.sum()) < 15
    assert_close(spmm(kept, values[mask], x), spmm(places, values * mask, x))


# --- invariance ------------------------------------------------------------------------------


@both_ways
def test_order_within_a_row_does_not_matter(transpose):
    places = random_pattern(6, shape=(5, 5), nnz=20)
    values, x = double(20, seed=1), double(5, 3, seed=2)
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    order = shuffled[torch.argsort(places.row[shuffled], stable=True)]
    other = SparsePattern(places.row[order], places.col[order], places.shape)
    assert_close(
        spmm(other, values[order], x, transpose=transpose),
        spmm(places, values, x, transpose=transpose),
    )


def test_relabelling_rows_and_columns_relabels_the_result():
    places = random_pattern(7, shape=(5, 4), nnz=12)
    values, x = double(12, seed=1), double(4, 3, seed=2)
    new_row, new_col = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 3, 0, 1])
    row, col = new_row[places.row], new_col[places.col]
    order = torch.argsort(row)
    moved = SparsePattern(row[order], col[order], places.shape)
    moved_x = torch.empty_like(x)
    moved_x[new_col] = x
    assert_close(spmm(moved, values[order], moved_x)[new_row], spmm(places, values, x))


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "col", "message"),
    [
        ([0, 1], [0], r"one length \(got \(2,\) and \(1,\)\)"),
        ([[0]], [[0]], "must be vectors"),
        ([0, 3], [0, 0], r"row must lie in \[0, 3\) \(got 0 to 3\)"),
        ([0, 1], [-1, 0], r"col must lie in \[0, 4\) \(got -1 to 0\)"),
        ([1, 0], [0, 0], "row must ascend"),
    ],
)
def test_invalid_positions_are_refused(row, col, message):
    with pytest.raises(ValueError, match=message):
        pattern(row, col, (3, 4))


def test_products_that_do_not_fit_are_refused():
    places = pattern([0, 2], [1, 3], (3, 4))
    with pytest.raises(ValueError, match=r"values must have shape \(2,\).*got \(3,\)"):
        spmm(places, torch.ones(3), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"shape \(4, width\).*got \(3, 2\)"):
        spmm(places, torch.ones(2), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"shape \(3, width\).*transposed \(got \(4, 2\)\)"):
        spmm(places, torch.ones(2), torch.ones(4, 2), transpose=True)


# --- the pattern itself -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("seed", range(3))
def test_a_pattern_returns_the_positions_it_was_given(seed, dtype):
    given = random_pattern(seed, shape=(7, 5), nnz=20)
    row, col = given.row, given.col
    places = SparsePattern(row.to(dtype), col.to(dtype), given.shape)
    for got, expected in ((places.row, row), (places.col, col)):
        assert got.dtype == torch.int64
        assert torch.equal(got, expected)
    assert places.nnz == 20
    assert places.to("cpu") is places


@pytest.mark.parametrize("seed", range(3))
def test_sorting_by_column_is_stable(seed):
    places = random_pattern(seed, shape=(7, 5), nnz=20)
    order = torch.argsort(places.col, stable=True)
    by_column = places.matrix(torch.arange(20.0), transpose=True)
    assert by_column.values().tolist() == order.tolist()
    assert by_column.col_indices().tolist() == places.row[order].tolist()
    ends = torch.bincount(places.col, minlength=5).cumsum(0)
    assert by_column.crow_indices().tolist() == [0, *ends.tolist()]


def test_an_index_takes_four_bytes_in_each_order():
    places = random_pattern(0, shape=(70, 50), nnz=1000)
    places.matrix(torch.ones(1000), transpose=True)  # computes the order by column too
    held = [part for value in vars(places).values() if isinstance(value, tuple) for part in value]
    held = {part.data_ptr(): part.nbytes for part in held if isinstance(part, torch.Tensor)}
    assert sum(held.values()) == 4 * (3 * 1000 + 71 + 51)
