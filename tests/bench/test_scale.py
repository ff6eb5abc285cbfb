"""``bench scale``: generated graphs, the check of a step, and sizes that do not fit."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_lightgnn.bench import graphs, lightgcn, picture, scale
from recbole_lightgnn.bench.graphs import GOWALLA, power_law_graph
from recbole_lightgnn.bench.measure import WrongResult, in_a_process
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.options import whole_number
from recbole_lightgnn.errors import InputError

SMALL = 3000


@pytest.fixture
def small(monkeypatch):
    """Measure and fit from 3000 interactions on."""
    monkeypatch.setattr(scale, "SMALLEST", SMALL)
    monkeypatch.setattr(scale, "FITTED_FROM", SMALL)


def result_of(sizes, seconds, each=150.0):
    """A result of `scale.run` with made-up measurements."""
    done = [
        {
            **{"interactions": n, "users": n // 34, "items": n // 25},
            "seconds": {"median": s, "lower": s / 2, "upper": 2 * s, "calls": 3},
            **{"seconds_per_interaction": s / n, "seconds_per_row": s / n / 20},
            **{"peak_mb": 400 + each * n / 1e6, "bytes_per_interaction": each, "estimate_mb": 1.0},
        }
        for n, s in zip(sizes, seconds, strict=True)
    ]
    return {
        **{"bench": "scale", "graph": "generated, power law", "sizes": done},
        **{"fits": scale._fits(done), "fitted_from": scale.FITTED_FROM},
    }


# --- graphs ---------------------------------------------------------------------------------


def test_blocks_make_one_graph_of_distinct_pairs_the_same_every_time(monkeypatch):
    monkeypatch.setattr(graphs, "_BLOCK", 5000)
    one, same, other = (
        power_law_graph(20_000, like=GOWALLA, seed=seed).interactions.pattern for seed in (1, 1, 2)
    )
    assert one.nnz == other.nnz == 20_000
    assert one.shape == (581, 798)  # 20000 interactions over 34.41 and 25.07
    assert torch.equal(one.row, same.row)
    assert torch.equal(one.col, same.col)
    assert not torch.equal(one.col, other.col)


def test_degrees_fall_with_the_square_root_of_their_rank_in_blocks_too(monkeypatch):
    monkeypatch.setattr(graphs, "_BLOCK", 10_000)
    pattern = power_law_graph(200_000).interactions.pattern
    for index, size in zip((pattern.row, pattern.col), pattern.shape, strict=True):
        degree = torch.bincount(index, minlength=size)
        falling = degree.sort(descending=True).values
        assert not torch.equal(degree, falling), "the numbers of nodes are sorted by degree"
        share = falling.cumsum(0) / pattern.nnz
        assert float(share[size // 100]) == pytest.approx(0.1, rel=0.06)
        assert float(share[size * 4 // 100]) == pytest.approx(0.2, rel=0.06)


def test_one_block_is_the_graph_that_bench_ops_had_before():
    pattern = power_law_graph(500, seed=3).interactions.pattern
    pairs = list(zip(pattern.row.tolist(), pattern.col.tolist(), strict=True))
    assert pairs[:4] == [(0, 23), (0, 29), (0, 55), (1, 10)]
    assert pairs[-4:] == [(116, 21), (116, 28), (116, 40), (116, 69)]


def test_a_block_takes_memory_and_the_graph_does_not(monkeypatch):
    monkeypatch.setattr(graphs, "_BLOCK", 1 << 12)
    nodes = graphs.nodes_of(400_000, GOWALLA)
    tracemalloc.start()
    try:
        blocks = graphs._blocks_of_pairs(400_000, *nodes, np.random.default_rng(0))
        assert sum(len(pairs) for pairs in blocks) == 400_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * (1 << 12) + 2 * 8 * sum(nodes)  # 3.2 MB were all pairs drawn at once


def test_a_union_by_hand():
    ascending, others = np.array([2, 5, 9]), np.array([7, 5, 1, 7])
    assert graphs._union(ascending, others).tolist() == [1, 2, 5, 7, 9]


def test_a_graph_that_would_be_nearly_full_is_refused():
    with pytest.raises(InputError, match="needs 3000 interactions or more, got 2999"):
        power_law_graph(2999, like=GOWALLA)


# --- the check ------------------------------------------------------------------------------


def test_loss_and_gradients_are_those_of_plain_torch():
    assert 0 < scale.check(SMALL) < 1e-5


@pytest.mark.parametrize("change", [{"n_layers": 2}, {"decay": 1.0}])
def test_another_step_is_not_taken_for_right(change, monkeypatch):
    plain = scale.by_coo

    def by_coo(model, batch):
        truth = plain(model, batch)
        for name, value in change.items():
            setattr(model, name, value)
        other = plain(model, batch)
        assert not torch.allclose(other[1], truth[1], rtol=1e-3)
        return other

    monkeypatch.setattr(scale, "by_coo", by_coo)
    with pytest.raises(WrongResult, match="a step's loss and gradients: part 0 is wrong"):
        scale.check(SMALL)


def test_a_wrong_propagation_is_reported(monkeypatch):
    monkeypatch.setattr(lightgcn, "lightgcn", lambda graph, user, item, n_layers: (user, item))
    with pytest.raises(WrongResult, match="a step's loss and gradients: part 0 is wrong"):
        scale.check(SMALL)


def test_batches_are_interactions_and_an_item_each():
    graph = power_law_graph(SMALL, like=GOWALLA)
    batches = scale._batches(graph)
    assert len(batches) == scale.BATCHES
    for batch in batches:
        user, item, negative = (batch[key] for key in ("user_id", "item_id", "neg_item_id"))
        assert len(user) == len(item) == len(negative) == 2048
        assert (graph.interaction_numbers(user, item) >= 0).all()
        assert len(negative.unique()) > graph.n_items * 0.99


# --- measurements ---------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_scale_measures_every_size_in_its_own_process(small, capsys):
    assert main(["bench", "scale", "--largest=2e4", "--json=scale.json", "--plot=scale.svg"]) == 0
    result = json.loads(Path("scale.json").read_text())
    sizes = result["sizes"]
    assert [size["interactions"] for size in sizes] == [3000, 9487, 20_000]
    assert [(size["users"], size["items"]) for size in sizes] == [(87, 120), (276, 378), (581, 798)]
    assert 0 < result["deviation"] < 1e-5
    assert result["libraries_mb"] > 100
    for size in sizes:
        beyond = 1e6 * (size["peak_mb"] - result["libraries_mb"])
        assert size["bytes_per_interaction"] == pytest.approx(beyond / size["interactions"])
        step = 7 * 4 * 64 * (size["users"] + size["items"]) + 20 * size["interactions"]
        assert size["estimate_mb"] == pytest.approx(result["libraries_mb"] + step / 1e6)
        assert size["seconds"]["calls"] >= 3
        assert size["seconds_per_interaction"] > size["seconds_per_row"] > 0
    assert {"seconds", "a row fetched for each"} <= set(result["fits"]) <= set(scale.EACH)
    assert result["left_out"] == []
    printed = capsys.readouterr().out
    assert "exponents of growth from 3000 interactions on: seconds: " in printed
    assert "picture: scale.svg" in printed


def test_what_does_not_fit_is_left_out_with_what_it_would_need(small, monkeypatch):
    """A step of 9487 interactions takes 0.19 + 1.17 MB, and the libraries take 100 MB."""
    monkeypatch.setattr(scale, "available_bytes", lambda: 101_000_000)
    monkeypatch.setattr(
        scale,
        "in_a_process",
        lambda action, *_: (
            1e-7
            if action is scale.check
            else {"peak_mb": 100.0, "seconds": {"median": 1.0}, "seconds_per_row": 1e-8}
        ),
    )
    result = scale.run(10_000)
    assert [size["interactions"] for size in result["sizes"]] == [3000]
    assert result["left_out"] == [
        f"{n} interactions of {users} users and {items} items: a step needs about {gb} GB, "
        "0.101 GB are available"
        for n, users, items, gb in ((9487, 276, 378, 0.101), (10_000, 291, 399, 0.101))
    ]
    assert result["fits"] == {}
    monkeypatch.setattr(scale, "available_bytes", lambda: 100_000_000)
    with pytest.raises(InputError, match=r"^3000 interactions .* end other programs"):
        scale.run(10_000)


def test_a_billion_is_refused_and_not_tried():
    users, items = scale.nodes_of(10**9, GOWALLA)
    step = scale.step_bytes(users, items, 10**9, width=64, n_layers=3)
    assert 1.3e11 < step < 1.5e11  # bytes


def test_a_process_that_is_killed_is_bad_input_and_not_a_hang():
    assert in_a_process(abs, -3) == 3
    with pytest.raises(InputError, match="killed, perhaps because memory ran out"):
        in_a_process(os._exit, 9)


# --- sizes and fits -------------------------------------------------------------------------


def test_sizes_are_half_a_decade_apart_and_end_as_asked():
    assert scale._sizes(10**5) == [10**5]
    assert scale._sizes(10**6) == [10**5, 316_228, 10**6]
    assert scale._sizes(400_000) == [10**5, 316_228, 400_000]
    assert scale._sizes(10**9)[-3:] == [10**8, 316_227_766, 10**9]


@pytest.mark.parametrize(
    ("argument", "fact"),
    [
        ("--largest=99999", "--largest: needs 100000 interactions or more, got 99999"),
        ("--largest=1.5", "--largest: expected a whole number such as 1000000 or 1e6, got '1.5'"),
        ("--largest=many", "--largest: expected a whole number such as 1000000 or 1e6, got 'many'"),
        ("--largest=inf", "--largest: expected a whole number such as 1000000 or 1e6, got 'inf'"),
    ],
)
def test_a_size_that_cannot_be(capsys, argument, fact):
    assert main(["bench", "scale", argument]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert fact in line


def test_whole_numbers():
    assert whole_number("1e9") == whole_number("1000000000") == 10**9


def test_growth_by_hand():
    """Seconds grow with exponent 1.1, memory with 1; sizes below 10^6 are not fitted."""
    sizes = [10**5, 10**6, 10**7, 10**8]
    fits = result_of(sizes, [9.0, *(2e-7 * n**1.1 for n in sizes[1:])])["fits"]
    assert fits["seconds"] == pytest.approx({"exponent": 1.1, "factor": 2e-7}, rel=1e-9)
    assert fits["memory"] == pytest.approx({"exponent": 1.0, "factor": 150.0}, rel=1e-9)
    fetched = fits["a row fetched for each"]
    assert fetched == pytest.approx({"exponent": 1.1, "factor": 1e-8}, rel=1e-9)
    assert result_of(sizes[:2], [1.0, 2.0])["fits"] == {}
    assert "memory" not in result_of(sizes, [1.0] * 4, each=-1.0)["fits"]


def test_the_picture_shows_the_growth_of_both():
    picture.draw(result_of([10**5, 10**6, 10**7], [0.1, 1.0, 12.0]), Path("scale.svg"))
    drawn = Path("scale.svg").read_text()
    for label in ("seconds per step", "GB without the libraries", "interactions^1.079"):
        assert f"<!-- {label} -->" in drawn
    picture.draw(result_of([10**5], [0.1]), Path("one.svg"))  # without a fit
