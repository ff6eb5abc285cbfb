"""Memory of a training step: estimated by hand, measured, and refused if it does not fit."""

from pathlib import Path

import pytest
from helpers.planted import N_ITEMS, N_USERS, QUICK, write_planted

from recbole_lightgnn.bench import scale
from recbole_lightgnn.bench.measure import in_a_process
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.trainer import memory
from recbole_lightgnn.trainer.memory import step_bytes


@pytest.mark.parametrize(("n_layers", "tables"), [(0, 5), (1, 6), (2, 7), (3, 7), (8, 7)])
def test_step_bytes_by_hand(n_layers, tables):
    """Tables of (10 + 5) * 8 numbers of 4 bytes, and 20 bytes for each of 100 interactions."""
    assert step_bytes(10, 5, 100, width=8, n_layers=n_layers) == tables * 480 + 2000


@pytest.mark.slow
def test_the_estimate_is_what_a_step_takes():
    """Tables are above 32 MB, so that the C library returns them to the system when freed."""
    interactions, width = 1_000_000, 320
    users, items = scale.nodes_of(interactions, scale.GOWALLA)
    libraries = in_a_process(scale.measured, 3000, width)["peak_mb"]
    taken = in_a_process(scale.measured, interactions, width)["peak_mb"] - libraries
    estimate = step_bytes(users, items, interactions, width=width, n_layers=scale.N_LAYERS)
    assert 1e6 * taken == pytest.approx(estimate, rel=0.15)


@pytest.mark.parametrize(("model", "an_edge"), [("LightGNNTeacher", 20), ("LightGNN", 16)])
def test_a_training_that_does_not_fit_is_refused_before_it_begins(
    model, an_edge, tmp_path, monkeypatch
):
    """The estimate is less the parameters: embeddings, and the student's weight for each edge."""
    monkeypatch.chdir(tmp_path)
    world = write_planted(tmp_path / "dataset")
    needed = 6 * 4 * 16 * (N_USERS + N_ITEMS + 2) + an_edge * len(world["train"])
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    message = (
        rf"training {model} on planted needs at least \S+ GB more of memory, and \S+ GB are "
        r"available: lower embedding_size \(now 16\), or end other programs"
    )
    shared = ("show_progress", "topk", "valid_metric", "embedding_size")
    settings = {key: QUICK[key] for key in shared} | {"epochs": 1}
    if model == "LightGNN":
        settings |= {"n_pruning_runs": 0, "use_intermediate": False}
        settings |= {"teacher_settings": QUICK["teacher_settings"]}
    with pytest.raises(InputError, match=message):
        run(model, "planted", settings=settings)
    assert not list(Path("saved").glob("*"))
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    assert run(model, "planted", settings=settings)["test"]
