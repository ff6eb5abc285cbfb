"""Compressed tables against dense matrices: scores, bytes, seeds, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.comparing import compare, table
from helpers.planted import QUICK, write_planted
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_trainer

from recbole_lightgnn.baselines.compressedtables import (
    decoded_product,
    product_quantized,
    rotated,
    truncated,
)
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.files import defaults_of
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.schema import check_value, describe
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.trainer.training import Training

KINDS = [
    {"compression": "int8"},
    {"compression": "int8", "rank": 3},
    {"compression": "svd", "rank": 3},
    {"compression": "pq", "n_blocks": 2, "n_centroids": 7},
    {"compression": "opq", "n_blocks": 3, "n_centroids": 8},
]
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
EVALUATED = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
TEACHER = {"embedding_size": 16, "epochs": 3, "learning_rate": 0.01}
SHARED = {**EVALUATED, "teacher_settings": TEACHER}


def random_table(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def solved(build, teacher="LightGNNTeacher", seed=1, **settings):
    """Return the compressed model, and the tables of its teacher without padding rows."""
    model = build("CompressedTables", **settings)
    frozen = FrozenTeacher(build(teacher))
    model.distill_from(frozen)
    torch.manual_seed(seed)
    model.solve()
    return model.eval(), [side[1:].numpy() for side in (frozen.user, frozen.item)]


def tables_of(model):
    return [side[1:].numpy() for side in model.final_embeddings()]


# --- truncated SVD ---------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(30, 20), (20, 30), (5, 40)])
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_factors_are_the_truncated_svd_of_the_dense_scores(sizes, rank):
    x, y = random_table(sizes[0], 8), random_table(sizes[1], 8, seed=1)
    user, item = truncated(x, y, rank)
    u, s, v = np.linalg.svd(x @ y.T, full_matrices=False)
    assert user @ item.T == pytest.approx((u[:, :rank] * s[:rank]) @ v[:rank], abs=1e-5)
    assert user.dtype == item.dtype == np.float32
    assert user.shape == (sizes[0], min(rank, *sizes))
    # The factors share the singular values: no column is much larger in one table.
    assert (user**2).sum(0) == pytest.approx(s[: user.shape[1]], rel=1e-5)


def test_factors_by_hand():
    """The scores are diag(3, 4): the best matrix of rank 1 keeps only the 4."""
    user, item = truncated(np.eye(2), np.diag([3.0, 4.0]), 1)
    assert user @ item.T == pytest.approx(np.diag([0, 4.0]), abs=1e-7)


def test_the_whole_rank_keeps_every_score(build):
    model, (x, y) = solved(build, compression="svd", rank=4)
    user, item = tables_of(model)
    assert user @ item.T == pytest.approx(x @ y.T, abs=1e-5)


# --- product quantization --------------------------------------------------------------------


def test_as_many_centroids_as_distinct_blocks_lose_nothing():
    blocks = random_table(5, 3)
    rows = np.concatenate([blocks[np.arange(40) % 5], blocks[np.arange(40) % 4]], axis=1)
    codes, codebook = product_quantized(rows, 2, 5, seed=0)
    assert codes.shape == (40, 2)
    assert codes.dtype == np.uint8
    assert codebook.shape == (5, 6)
    assert np.array_equal(decoded_product(codes, codebook), rows)
    assert (codebook[4, 3:] == 0).all()  # the second block has four centroids


@pytest.mark.parametrize("n_blocks", [1, 3, 7])
def test_each_block_has_the_nearest_of_its_centroids(n_blocks):
    """Three blocks of 7 columns have 3, 2 and 2 columns."""
    rows = random_table(300, 7)
    codes, codebook = product_quantized(rows, n_blocks, 16, seed=3)
    assert codes.shape == (300, n_blocks)
    assert codebook.shape == (16, 7)
    start = 0
    for block in range(n_blocks):
        columns = slice(start, start := start + 7 // n_blocks + (block < 7 % n_blocks))
        distance = ((rows[:, None, columns] - codebook[None, :, columns]) ** 2).sum(-1)
        chosen = distance[np.arange(300), codes[:, block]]
        assert chosen == pytest.approx(distance.min(1), abs=1e-5)
        mean = [rows[codes[:, block] == c, columns].mean(0) for c in range(16)]
        assert np.abs(np.stack(mean) - codebook[:, columns]).max() < 0.5
    loss = ((decoded_product(codes, codebook) - rows) ** 2).mean()
    assert loss < (rows**2).mean()


@pytest.mark.parametrize("n_blocks", [2, 3])
def test_a_rotation_loses_nothing_and_lowers_the_error(n_blocks):
    """All variance is in the first block of columns; a rotation spreads it over the blocks."""
    rows = random_table(2000, 8) * np.array([4, 3, 2, 2, 0.1, 0.1, 0.1, 0.1], np.float32)
    turned, rotation = rotated(rows, n_blocks, 16)
    assert turned.shape == (2000, -(-8 // n_blocks) * n_blocks)
    assert rotation.T @ rotation == pytest.approx(np.eye(8), abs=1e-5)
    assert turned @ rotation == pytest.approx(rows, abs=1e-4)
    plain = decoded_product(*product_quantized(rows, n_blocks, 16, seed=0))
    better = decoded_product(*product_quantized(turned, n_blocks, 16, seed=0)) @ rotation
    assert ((better - rows) ** 2).mean() < 0.8 * ((plain - rows) ** 2).mean()


@pytest.mark.parametrize(("rows", "width", "n_blocks"), [(20, 6, 2), (60, 64, 8), (9, 64, 7)])
def test_few_rows_neither_crash_nor_warn(capfd, rows, width, n_blocks):
    """faiss itself crashes with fewer rows than columns."""
    rotation = rotated(random_table(rows, width), n_blocks, 256)[1]
    assert rotation.T @ rotation == pytest.approx(np.eye(width), abs=1e-5)
    product_quantized(random_table(rows, width), n_blocks, 8, seed=0)
    assert capfd.readouterr() == ("", "")


# --- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", ["LightGNNTeacher", "BPR", "BiasMF", "Spectral"])
def test_int8_is_within_half_a_step_of_each_column(build, teacher):
    model, tables = solved(build, teacher)
    for found, expected in zip(tables_of(model), tables, strict=True):
        step = np.abs(expected).max(axis=0) / 127
        assert (np.abs(found - expected) <= 0.5001 * step).all()
        assert np.abs(found - expected).max() > 0 or teacher == "Spectral"


@EVERY
def test_the_arrays_are_all_that_is_stored(build, kind):
    model, (x, y) = solved(build, **kind)
    width = kind.get("rank", 4)
    n, wide = len(x) + len(y), -(-width // kind.get("n_blocks", 1)) * kind.get("n_blocks", 1)
    count = kind.get("n_centroids", 0)
    expected = {
        "int8": n * width + 2 * 4 * width,
        "svd": 4 * n * width,
        "pq": n * 2 + 2 * 4 * count * width,
        "opq": n * 3 + 2 * 4 * (count * wide + wide * width),
    }[kind["compression"]]
    state = model.state_dict()
    assert model.sizes()["bytes"] == expected == sum(array.nbytes for array in state.values())
    assert model.sizes()["entries"] == sum(array.numel() for array in state.values())
    other = build("CompressedTables", **kind)
    other.load_state_dict(state)
    for ours, theirs in zip(model.final_embeddings(), other.eval().final_embeddings(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours[0].abs().max() == 0  # RecBole's padding row


@EVERY
def test_the_same_seed_has_the_same_bits(build, kind):
    one, same, other = (solved(build, seed=seed, **kind)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    changed = any(not torch.equal(one[name], other[name]) for name in one)
    assert changed == ("n_blocks" in kind)


@EVERY
def test_it_compresses_its_teacher_and_the_record_says_so(kind, tmp_path):
    write_planted(tmp_path / "dataset")
    record = run("CompressedTables", "planted", settings={**SHARED, **kind})
    teacher, row = record["rows"]
    assert (teacher["model"], row["model"]) == ("SoftmaxMF", "CompressedTables")
    folder = Path(record["result_file"]).parent
    tensors, _ = checkpoint.load(folder / "CompressedTables.safetensors")
    assert row["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
    given = {**EVALUATED, **kind, "teacher_checkpoint": str(folder / "teacher.safetensors")}
    again = run("CompressedTables", "planted", settings=given)
    assert again["test"] == record["test"]


def test_as_many_centroids_as_rows_rank_as_the_teacher(tmp_path):
    write_planted(tmp_path / "dataset")
    record = run("CompressedTables", "planted", settings={**SHARED, "compression": "pq"})
    teacher, row = record["rows"]
    assert row["test"] == teacher["test"]


@pytest.mark.parametrize("teacher", ["BPR", "NGCF", "SimGCL"])
def test_every_model_with_two_tables_may_be_compressed(teacher, tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {**SHARED, "teacher": teacher, "compression": "svd", "rank": 16}
    record = run("CompressedTables", "planted", settings=settings)
    assert record["rows"][0]["model"] == teacher
    assert record["rows"][1]["bytes"] == 4 * 150 * 16
    if teacher != "NGCF":  # 64 columns, so that rank 16 loses some scores
        assert record["rows"][1]["valid"] == pytest.approx(record["rows"][0]["valid"], abs=1e-3)


def test_two_teachers_are_compressed_together(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {**SHARED, "n_teachers": 2, "compression": "svd", "rank": 32}
    *_, both, row = run("CompressedTables", "planted", settings=settings)["rows"]
    assert both["key"] == "teachers"
    assert row["valid"] == pytest.approx(both["valid"], abs=1e-3)


@pytest.mark.slow
def test_unmodified_recbole_runs_and_loads_it(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {**SHARED, "compression": "opq"}
    result = run_recbole(model="CompressedTables", dataset="planted", config_dict=settings)
    (path,) = (tmp_path / "saved").glob("CompressedTables-*/CompressedTables.safetensors")
    config, model, _, _, _, test = load_data_and_model(model_file=str(path))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


@pytest.mark.slow
def test_it_is_exported_with_its_decoded_tables(tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    record = run("CompressedTables", "planted", settings={**SHARED, "compression": "pq"})
    folder = Path(record["result_file"]).parent
    assert main(["export", str(folder), "--out=model.lgnn"]) == 0
    assert main(["recommend", "model.lgnn", "--user=0", "--k=3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 3


@pytest.mark.slow
def test_a_comparison_shows_the_compressed_sizes_in_order(tmp_path):
    write_planted(tmp_path / "dataset")
    names = ["SoftmaxMF", "Int8SoftmaxMF", "SVD16SoftmaxMF", "SVD32Int8SoftmaxMF"]
    names += ["PQ8SoftmaxMF", "OPQ8SoftmaxMF"]
    given = [f"--{name}.n_centroids=16" for name in names[-2:]] + ["--SoftmaxMF.learning_rate=0.02"]
    given += [f"--{name}.teacher_settings.learning_rate=0.02" for name in names[1:]]
    assert compare(",".join(names), *given) == 0
    lines = table()
    assert list(lines) == names  # the row of the teacher is left out
    sizes = {name: float(lines[name]["bytes"]) for name in names}
    n, width = 150, 64
    assert sizes == {
        "SoftmaxMF": 4 * (n + 2) * width,
        "Int8SoftmaxMF": n * width + 2 * 4 * width,
        "SVD16SoftmaxMF": 4 * n * 16,
        "SVD32Int8SoftmaxMF": n * 32 + 2 * 4 * 32,
        "PQ8SoftmaxMF": n * 8 + 2 * 4 * 16 * width,
        "OPQ8SoftmaxMF": n * 8 + 2 * 4 * (16 * width + width * width),
    }
    recall = {name: float(lines[name]["recall@20_mean"]) for name in names}
    assert min(recall.values()) > 0.8, recall


# --- what is refused -------------------------------------------------------------------------


def test_every_setting_has_a_comment_and_a_valid_default():
    described = describe("CompressedTables")
    for key, value in defaults_of("CompressedTables").items():
        check_value(described[key], value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compression": "svd"}, "compression=svd needs a rank, got none"),
        ({"rank": 65}, r"rank must be at most the width .* \(64\), got 65"),
        ({"rank": 0}, "rank must be an integer >= 1, or empty, got 0"),
        ({"teacher_settings.embedding_size": 8, "rank": 9}, r"\(8\), got 9: lower it"),
        ({"compression": "pq", "n_blocks": 65}, r"n_blocks must be at most .* \(64\), got 65"),
        ({"compression": "opq", "rank": 4, "n_blocks": 5}, r"n_blocks .* \(4\), got 5"),
        ({"n_centroids": 300}, "n_centroids must be an integer x with 2 <= x <= 256, got 300"),
        ({"compression": "zip"}, "compression must be one of int8, svd, pq, opq"),
        ({"teacher": "EASE"}, "final embeddings of its teacher, and EASE gives only scores"),
        ({"teacher": "ItemKNN"}, "ItemKNN gives only scores: choose a graph model"),
        ({"teacher": "RP3beta"}, "RP3beta gives only scores"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_a_run(settings, message, tmp_path):
    write_planted(tmp_path / "dataset")
    with pytest.raises(InputError, match=message):
        build_config("CompressedTables", "planted", (), settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "ENMF"}, "ENMF gives only scores"),
        ({"teacher": "Spectral", "teacher_settings": {"filter": "linear"}}, "Spectral gives only"),
        ({"teacher": "BPR", "rank": 65}, r"rank must be .* \(64\), got 65"),
    ],
)
def test_what_only_the_built_teacher_shows_is_refused_before_its_training(
    settings, message, tmp_path, monkeypatch
):
    write_planted(tmp_path / "dataset")
    for place in ("Training.fit", "stage_trainer.RecBoleProgress"):
        owner = "training." if place == "Training.fit" else ""
        monkeypatch.setattr(f"recbole_lightgnn.trainer.{owner}{place}", _trained)
    with pytest.raises(InputError, match=message):
        run("CompressedTables", "planted", settings={**EVALUATED, **settings})


def _trained(*_, **__):
    raise AssertionError("the teacher is trained")


def test_a_checkpoint_without_tables_is_refused(tmp_path):
    write_planted(tmp_path / "dataset")
    given = {**EVALUATED, "filter": "linear"}
    file = Path(run("Spectral", "planted", settings=given)["result_file"])
    settings = {
        "teacher": "Spectral",
        "teacher_checkpoint": str(file.with_name("Spectral.safetensors")),
    }
    with pytest.raises(InputError, match="Spectral gives only scores"):
        run("CompressedTables", "planted", settings={**EVALUATED, **settings})


@pytest.mark.parametrize("compression", ["pq", "opq"])
def test_without_faiss(capsys, monkeypatch, tmp_path, compression):
    write_planted(tmp_path / "dataset")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(Training, "fit", _trained)
    command = ["run", "--model=CompressedTables", "--dataset=planted"]
    assert main([*command, f"--compression={compression}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: compression={compression} needs faiss, which is not installed")
    build_config("CompressedTables", "planted", (), {"compression": "svd", "rank": 4})


def test_nothing_to_compress(build):
    with pytest.raises(RuntimeError, match="no embeddings to compress before distill_from"):
        build("CompressedTables").solve()
