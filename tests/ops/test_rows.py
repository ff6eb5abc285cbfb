"""Polynomials on packed tables: by hand, against plain loops, edge cases, costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny import random_pattern
from torch.testing import assert_close

from recbole_lightgnn.ops import (
    PackedRows,
    SparsePattern,
    multiply_adds,
    polynomial,
    resident_bytes,
)
from recbole_lightgnn.ops.reference import power_sum_reference
from recbole_lightgnn.ops.row_kernel import expands_in_hardware

N_ROWS, N_COLS = 23, 17


def packed(table, mask):
    return PackedRows(table[mask], PackedRows.index_of(mask), table.shape[1])


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def case(width, share, seed=0, nnz=90):
    """Random pattern (with repeated positions and empty rows), values, tables and their masks."""
    pattern = random_pattern(seed, (N_ROWS, N_COLS), nnz)
    tables, masks = [], []
    for side, size in enumerate((N_ROWS, N_COLS)):
        mask = numbers(size, width, seed=10 + side) < torch.special.ndtri(torch.tensor(share))
        mask[size // 2] = False  # one row has no entries
        masks.append(mask)
        tables.append(numbers(size, width, seed=20 + side) * mask)
    return pattern, numbers(nnz, seed=3), tables, masks


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- packed tables ---------------------------------------------------------------------------


def test_index_by_hand():
    mask = torch.zeros(3, 65, dtype=torch.bool)
    mask[0, [0, 2, 64]] = True
    mask[2, 63] = True
    index = PackedRows.index_of(mask)
    assert index.tolist() == [[0, 0b101, 1], [3, 0, 0], [3, -(2**63), 0]]
    table = PackedRows(torch.tensor([1.0, 2.0, 3.0, 4.0]), index, 65)
    assert table.shape == (3, 65)
    assert table.counts.tolist() == [3, 0, 1]
    dense = table.dense()
    assert dense.nonzero().tolist() == [[0, 0], [0, 2], [0, 64], [2, 63]]
    assert dense[mask].tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("width", [1, 16, 64, 70])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_packed_table_is_its_table(width, share):
    _, _, (table, _), (mask, _) = case(width, share)
    assert torch.equal(packed(table, mask).dense(), table)
    assert torch.equal(packed(table, mask).counts, mask.sum(dim=1))


# --- the polynomial --------------------------------------------------------------------------


def test_polynomial_by_hand():
    """S = [[2], [0]], X = (1, 5 | 10), 3X + A(4X + A X)."""
    pattern = SparsePattern(torch.tensor([0]), torch.tensor([0]), (2, 1))
    rows, cols = torch.tensor([[1.0], [5.0]]), torch.tensor([[10.0]])
    for left, right in (
        (rows, cols),
        (packed(rows, rows > 0), packed(cols, cols > 0)),
    ):
        out = polynomial(pattern, torch.tensor([2.0]), left, right, [3, 4, 1])
        # A X = (20, 0 | 2); 4X + A X = (24, 20 | 42); A of it (84, 0 | 48)
        assert [table.flatten().tolist() for table in out] == [[87.0, 15.0], [78.0]]


@pytest.mark.parametrize("coefficients", [[1], [2, 1], [3, 3, 1], [4.0, 6.0, 4.0, 1.0]])
@pytest.mark.parametrize("width", [1, 5, 16, 64, 70, 130])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_polynomial_equals_the_plain_loop(coefficients, width, share):
    pattern, values, tables, masks = case(width, share)
    exact = [table.double() for table in tables]
    expected = power_sum_reference(pattern, values.double(), *exact, coefficients=coefficients)
    for rows, cols in (
        [packed(table, mask) for table, mask in zip(tables, masks, strict=True)],
        tables,
        [tables[0], packed(tables[1], masks[1])],
        [packed(tables[0], masks[0]), tables[1]],
    ):
        for result, truth in zip(
            polynomial(pattern, values, rows, cols, coefficients), expected, strict=True
        ):
            assert result.dtype == torch.float32
            assert_close(result.double(), truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))


def test_float64_has_float64_precision():
    pattern, values, tables, masks = case(7, 0.5)
    values, tables = values.double(), [table.double() for table in tables]
    both = [packed(table, mask) for table, mask in zip(tables, masks, strict=True)]
    expected = power_sum_reference(pattern, values, *tables, coefficients=[3, 3, 1])
    for result, truth in zip(polynomial(pattern, values, *both, [3, 3, 1]), expected, strict=True):
        assert_close(result, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_tables_on_a_gpu_are_multiplied_on_it():
    pattern, values, tables, _ = case(64, 0.5)
    expected = power_sum_reference(pattern, values, *tables, coefficients=[3, 3, 1])
    there = [part.to("cuda") for part in (values, *tables)]
    for result, truth in zip(
        polynomial(pattern.to("cuda"), *there, [3, 3, 1]), expected, strict=True
    ):
        assert result.device.type == "cuda"
        assert_close(result.cpu(), truth, rtol=1e-5, atol=1e-5)


def test_no_nonzeros_at_all():
    pattern = SparsePattern(torch.empty(0).long(), torch.empty(0).long(), (N_ROWS, N_COLS))
    _, _, tables, masks = case(20, 0.4)
    both = [packed(table, mask) for table, mask in zip(tables, masks, strict=True)]
    for result, table in zip(
        polynomial(pattern, torch.empty(0), *both, [3, 3, 1]), tables, strict=True
    ):
        assert torch.equal(result, 3 * table)


def test_one_row():
    pattern = SparsePattern(torch.zeros(3).long(), torch.tensor([0, 2, 2]), (1, 3))
    values, rows, cols = numbers(3, seed=1), numbers(1, 64, seed=2), numbers(3, 64, seed=3)
    expected = power_sum_reference(pattern, values, rows, cols, coefficients=[3, 3, 1])
    for result, truth in zip(
        polynomial(pattern, values, packed(rows, rows > 0), cols, [3, 3, 1]),
        power_sum_reference(pattern, values, rows.clamp_min(0), cols, coefficients=[3, 3, 1]),
        strict=True,
    ):
        assert_close(result, truth)
    for result, truth in zip(
        polynomial(pattern, values, rows, cols, [3, 3, 1]), expected, strict=True
    ):
        assert_close(result, truth)


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_number_of_threads_changes_no_bit(one_thread, is_packed):
    pattern, values, tables, masks = case(64, 0.3, nnz=500)
    given = [packed(t, m) if is_packed else t for t, m in zip(tables, masks, strict=True)]
    alone = polynomial(pattern, values, *given, [3, 3, 1])
    torch.set_num_threads(3)
    together = polynomial(pattern, values, *given, [3, 3, 1])
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_inputs_that_require_gradients_give_results_without():
    pattern, values, tables, masks = case(8, 0.5)
    expected = polynomial(pattern, values, *tables, [2, 1])
    values.requires_grad_()
    rows = packed(tables[0], masks[0])
    cols = tables[1].requires_grad_()
    rows.values.requires_grad_()
    for result, truth in zip(
        polynomial(pattern, values, rows, cols, [2, 1]), expected, strict=True
    ):
        assert not result.requires_grad
        assert torch.equal(result, truth)


def test_wrong_shapes_and_coefficients_are_refused():
    pattern, values, (rows, cols), _ = case(4, 0.5)
    with pytest.raises(ValueError, match=r"rows must have shape \(23, width\) \(got \(17, 4\)\)"):
        polynomial(pattern, values, cols, cols, [1])
    with pytest.raises(ValueError, match=r"cols must have shape \(17, width\) \(got \(23, 4\)\)"):
        polynomial(pattern, values, rows, rows, [1])
    with pytest.raises(ValueError, match=r"one width \(got 4 and 3\)"):
        polynomial(pattern, values, rows, cols[:, :3], [1])
    with pytest.raises(ValueError, match=r"the last coefficient must be 1 \(got 2\)"):
        polynomial(pattern, values, rows, cols, [1, 2])


@pytest.mark.slow
def test_a_processor_without_wide_vectors_computes_the_same():
    """Compile for a processor of 2003, in a separate process."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_rows as t\n"
        "for width in (5, 64, 70):\n"
        "    for share in (0.1, 1.0):\n"
        "        t.test_polynomial_equals_the_plain_loop([3, 3, 1], width, share)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "NUMBA_CPU_NAME": "x86-64" if expands_in_hardware() else "generic",
        "NUMBA_CPU_FEATURES": "",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


# --- costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_products", [0, 1, 2, 3])
def test_multiply_adds_equal_the_count_of_a_plain_loop(n_products):
    pattern, _, tables, masks = case(6, 0.3)
    both = [packed(table, mask) for table, mask in zip(tables, masks, strict=True)]
    whole = [torch.ones_like(mask) for mask in masks]
    for given, entries in ((both, masks), (tables, whole)):
        count = 0
        for layer in range(n_products):
            source = entries if layer == 0 else whole
            for i, j in zip(pattern.row.tolist(), pattern.col.tolist(), strict=True):
                count += int(source[1][j].sum()) + int(source[0][i].sum())
            count += sum(int(mask.sum()) for mask in entries)
        assert multiply_adds(pattern, *given, n_products=n_products) == count


def test_resident_bytes_by_hand():
    pattern, _, tables, masks = case(6, 0.3)
    both = [packed(table, mask) for table, mask in zip(tables, masks, strict=True)]
    # 90 nonzeros, by row and by column: an index and a value of four bytes each, and pointers.
    matrix = 2 * 90 * 8 + 4 * (N_ROWS + 1) + 4 * (N_COLS + 1)
    assert resident_bytes(pattern, *tables) == matrix + 4 * 6 * (N_ROWS + N_COLS)
    entries = sum(int(mask.sum()) for mask in masks)
    assert resident_bytes(pattern, *both) == matrix + 4 * entries + 16 * (N_ROWS + N_COLS)


@pytest.mark.slow
def test_without_a_compiler_torch_multiplies():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_rows as t\n"
        "t.test_polynomial_equals_the_plain_loop([3, 3, 1], 64, 0.5)\n"
        "assert not t.expands_in_hardware()\n"
    )
    paths = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "NUMBA_DISABLE_JIT": "1",
    }
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **paths}, check=True)
