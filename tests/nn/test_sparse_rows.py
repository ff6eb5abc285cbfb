"""Tables with sparse rows: which entries stay, and what a checkpoint holds."""

import pytest
import torch
from torch.testing import assert_close

from recbole_lightgnn.nn.sparse_rows import SparseRows


def table_of(values, **settings):
    values = torch.tensor(values)
    rows = SparseRows(*values.shape, **settings)
    with torch.no_grad():
        rows.table.copy_(values)
    return rows


def test_the_largest_entries_stay_and_of_ties_the_first():
    rows = table_of([[3.0, 4, 0], [1, -2, 2], [-1, 1, 1]])
    rows.keep(2)
    assert rows().tolist() == [[3, 4, 0], [0, -2, 2], [-1, 1, 0]]
    rows.keep(1)
    assert rows().tolist() == [[0, 4, 0], [0, -2, 0], [-1, 0, 0]]
    assert rows.kept == 1


def test_a_dropped_entry_has_no_gradient_and_never_comes_back():
    rows = table_of([[3.0, 1, 2]])
    rows.keep(2)
    rows().sum().backward()
    assert rows.table.grad.tolist() == [[1, 0, 1]]
    with torch.no_grad():
        rows.table[0, 1] = 9.0
    rows.keep(1)
    assert rows().tolist() == [[3, 0, 0]]


def test_kept_entries_start_again_from_their_initial_values():
    rows = SparseRows(4, 6, restart=True)
    start = rows.table.detach().clone()
    with torch.no_grad():
        rows.table.copy_(torch.arange(24.0).view(4, 6))
    rows.keep(2)
    rows.restart()
    expected = torch.zeros(4, 6)
    expected[:, 4:] = start[:, 4:]
    assert_close(rows(), expected)
    with pytest.raises(ValueError, match="make the table with restart=True"):
        SparseRows(4, 6).restart()


@pytest.mark.parametrize("kept", [6, 2])
def test_a_state_holds_what_is_kept(kept):
    rows = SparseRows(5, 6)
    rows.keep(kept)
    state = rows.state_dict()
    assert {name: tuple(part.shape) for name, part in state.items()} == {
        "values": (5, kept),
        "columns": (5, kept),
    }
    assert state["columns"].dtype == torch.int16
    other = SparseRows(5, 6)
    other.load_state_dict(state)
    assert torch.equal(other(), rows())
    assert other.kept == kept
    assert_close(dict(other.state_dict()), dict(state))


def test_a_state_of_another_table_is_refused():
    state = SparseRows(5, 6).state_dict()
    with pytest.raises(RuntimeError, match="values has 5 rows of up to 6 columns, expected 4"):
        SparseRows(4, 6).load_state_dict(state)
    with pytest.raises(RuntimeError, match="expected 5 rows of 3"):
        SparseRows(5, 3).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Missing key.*values"):
        SparseRows(5, 6).load_state_dict({})


@pytest.mark.parametrize("count", [0, 4])
def test_a_number_of_entries_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=rf"count must lie in \[1, 3\] \(got {count}\)"):
        SparseRows(2, 3).keep(count)
