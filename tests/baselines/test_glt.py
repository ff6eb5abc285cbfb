"""GLT: masks by hand, pruning and rewinding, a plain twin of its loss, and whole runs."""

import json

import pytest
import torch
from helpers.planted import QUICK, columns, write_planted
from torch.testing import assert_close

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.models.objective import batch_bpr
from recbole_lightgnn.nn.propagation import lightgcn
from recbole_lightgnn.quick_start import run

ROUND = {"entry_ratio": 0.8, "edge_ratio": 0.9, "entry_floor": 0, "edge_floor": 0}


def set_masks(model, seed=0):
    """Give every mask a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for mask in model.masks():
            mask.copy_(torch.rand(mask.shape, generator=generator) - 0.5)


def test_the_smallest_mask_of_five_goes_and_embeddings_rewind(build):
    model = build("GLT", embedding_size=5, **ROUND)
    model.begin_run(0)
    first = model.user_embedding().detach().clone()
    values = torch.tensor([0.9, -0.1, 0.5, 0.3, 0.7])
    with torch.no_grad():
        model.user_embedding.values.add_(1.0)
        for mask in (model.user_mask, model.item_mask):
            mask.values.copy_(values.expand_as(mask.values))
    model.prune()
    mask = model.user_embedding.entry_mask[1:]
    assert mask.equal(torch.tensor([True, False, True, True, True]).expand_as(mask))
    assert torch.equal(model.user_embedding()[1:][mask], first[1:][mask])
    assert model.user_mask.entry_mask.equal(model.user_embedding.entry_mask)
    assert all(torch.equal(m, torch.ones_like(m)) for m in model.masks())


def test_the_smallest_edge_masks_go(build):
    model = build("GLT", **ROUND)
    model.begin_run(0)
    set_masks(model)
    size = model.edge_weight.abs().detach()
    model.prune()
    kept = model.edge_mask
    assert kept.sum() == round(0.9 * len(kept))
    assert size[kept].min() >= size[~kept].max()


def test_without_data_a_mask_falls_by_the_sign_of_its_value(build):
    model = build("GLT", entry_sparsity_weight=1.0, edge_sparsity_weight=0.5, reg_weight=0.0)
    set_masks(model)
    terms = model.loss_terms(model.batch)
    terms["sparsity"].backward()
    for mask, weight in zip(model.masks(), (0.5, 1.0, 1.0), strict=True):
        assert_close(mask.grad, weight * mask.detach().sign())


def test_the_loss_equals_a_plain_twin(build):
    model = build("GLT", entry_sparsity_weight=0.03, edge_sparsity_weight=0.02, reg_weight=0.1)
    set_masks(model)
    terms = model.loss_terms(model.batch)
    pattern, norm = model.observed.interactions.pattern, model.observed.interactions.norm
    user = model.user_embedding.values * model.user_mask.values
    item = model.item_embedding.values * model.item_mask.values
    matrix = torch.zeros(pattern.shape)
    matrix[pattern.row, pattern.col] = norm * model.edge_weight
    layers = [(user, item)]
    for _ in range(model.n_layers):
        layers.append((matrix @ layers[-1][1], matrix.T @ layers[-1][0]))
    final = [sum(sides) for sides in zip(*layers, strict=True)]
    losses = [
        -torch.log(torch.sigmoid(final[0][u] @ (final[1][i] - final[1][j])))
        for u, i, j in zip(
            *(index.tolist() for index in columns(model, len(model.batch))), strict=True
        )
    ]
    assert terms["interaction"].item() == pytest.approx(sum(losses).item() / len(losses), rel=1e-5)
    size = 0.02 * model.edge_weight.abs().sum()
    size += 0.03 * (model.user_mask.values.abs().sum() + model.item_mask.values.abs().sum())
    assert terms["sparsity"].item() == pytest.approx(size.item(), rel=1e-5)
    users, items, negatives = columns(model, len(model.batch))
    squares = user[users].square().sum() + item[items].square().sum()
    squares = (squares + item[negatives].square().sum()) / (2 * len(users))
    assert terms["decay"].item() == pytest.approx(0.1 * squares.item(), rel=1e-5)


def test_with_no_round_it_is_lightgcn(build):
    model = build("GLT", n_pruning_runs=0, reg_weight=0.0)
    model.begin_run(0)
    assert not any(mask.requires_grad for mask in model.masks())
    tables = lightgcn(
        model.observed,
        model.user_embedding.values,
        model.item_embedding.values,
        n_layers=model.n_layers,
    )
    for one, other in zip(model.encode(), tables, strict=True):
        assert_close(one, other)
    batch = model.batch_of(model.batch)
    assert_close(model.loss_terms(model.batch)["interaction"], batch_bpr(tables, batch))


def test_rounds_keep_exact_shares_and_the_result_is_learnt(tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    flags = ["--embedding_size=16", "--epochs=20", "--learning_rate=0.02", "--n_pruning_runs=2"]
    flags += ["--train_batch_size=256", "--edge_ratio=0.95", "--show_progress=False"]
    assert main(["run", "--model=GLT", "--dataset=planted", "--result_file=r.json", *flags]) == 0
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    rows = record["rows"]
    assert [row["key"] for row in rows] == ["student-00", "student-01", "student-02"]
    assert [row["model"] for row in rows] == ["GLT"] * 3
    assert [row["entries"] for row in rows] == [2400, 1920, 1536]
    assert record["test"]["recall@20"] > 0.8
    assert rows[-1]["bytes"] < rows[0]["bytes"]
    folder = str(next((tmp_path / "saved").glob("GLT-*")))
    assert main(["export", folder, "--out", "glt.lgnn"]) == 0


def test_the_same_seed_gives_the_same_bits(tmp_path):
    write_planted(tmp_path / "dataset")
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
    settings = shared | {"epochs": 2, "n_pruning_runs": 1, "embedding_size": 8}
    first, second = (run("GLT", "planted", settings=settings) for _ in range(2))
    assert [row["valid"] for row in first["rows"]] == [row["valid"] for row in second["rows"]]
    assert first["test"] == second["test"]
