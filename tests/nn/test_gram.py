"""Gram matrix and inverse in place, against NumPy."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_lightgnn.nn.gram import gram, invert


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_a_matrix_is_inverted_in_place(dtype, error):
    draws = np.random.default_rng(0).standard_normal((1000, 900))
    matrix = (draws @ draws.T + 10 * np.eye(1000)).astype(dtype)
    inverse, size = matrix.copy(), matrix.nbytes
    tracemalloc.start()
    assert invert(inverse)
    assert tracemalloc.get_traced_memory()[1] < size / 2
    tracemalloc.stop()
    np.testing.assert_allclose(inverse.astype(float) @ matrix, np.eye(1000), atol=error)


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-13), (np.float32, 3e-6)])
@pytest.mark.parametrize("small", [7, 100, 150])
def test_a_large_matrix_is_inverted_block_by_block(dtype, error, small, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.nn.gram.WHOLE", 0)
    monkeypatch.setattr("recbole_lightgnn.nn.gram.SMALL", small)
    draws = np.random.default_rng(2).standard_normal((301, 301)).astype(dtype)
    matrix = draws @ draws.T + 30 * np.eye(301, dtype=dtype)
    inverse, truth = matrix.copy(), np.linalg.inv(matrix.astype(float))
    assert invert(inverse)
    assert inverse == pytest.approx(truth, abs=error * np.abs(truth).max())
    indefinite = matrix.copy()
    indefinite[-1, -1] = -1
    assert not invert(indefinite)


def test_what_cannot_be_inverted_in_place_is_refused():
    with pytest.raises(ValueError, match="expected a float matrix in C order"):
        invert(np.asfortranarray(np.eye(3)[::-1]))
    with pytest.raises(ValueError, match="expected a float matrix in C order, got int64"):
        invert(np.eye(3, dtype=np.int64))
    assert not invert(-np.eye(3))


def test_the_gram_matrix_equals_a_dense_product():
    matrix = sp.random_array((700, 300), density=0.02, rng=np.random.default_rng(1)).tocsr()
    dense = matrix.toarray()
    assert gram(matrix) == pytest.approx(dense.T @ dense, abs=1e-12)
