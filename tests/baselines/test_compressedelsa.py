"""Compressed ELSA: levels, sizes, what a checkpoint holds, and what every model must do."""

from pathlib import Path

import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import write_planted
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.compressedelsa import kept_entries
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint

OWN = {"show_progress": False, "embedding_size": 16, "train_batch_size": 16, "stopping_step": 20}
OWN |= {"learning_rate": 0.02}


@pytest.mark.parametrize("rewind", [False, True])
def test_it_does_what_every_model_must(build, rewind):
    def rewinding(name, **settings):
        return build(name, rewind=rewind, **settings)

    check_model("CompressedELSA", rewinding, settings={"rewind": rewind})


def test_the_similarity_by_hand(build):
    model = build("CompressedELSA", embedding_size=3, kept_share=2 / 3)
    with torch.no_grad():
        model.item_embedding.table[1:3] = torch.tensor([[3.0, 4, 0], [1, -2, 2]])
    assert model.begin_epoch(9, 10)
    one, other = model.directions()[1:3]
    assert_close(one, torch.tensor([0.6, 0.8, 0]))
    assert_close(other, torch.tensor([0, -0.70711, 0.70711]), rtol=0, atol=1e-5)
    assert (one @ other).item() == pytest.approx(-0.56569, abs=1e-5)


def test_a_row_is_halved_level_by_level():
    counts = [kept_entries(1024, 16, done / 12) for done in range(13)]
    assert counts == [1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16]
    assert [kept_entries(10, 3, done / 4) for done in range(5)] == [10, 10, 5, 5, 3]
    assert kept_entries(10, 10, 0.0) == kept_entries(10, 10, 1.0) == 10


@pytest.mark.parametrize(
    ("epochs", "share", "expected"),
    [
        (9, 0.5, [16, 16, 8, 8, 4, 4, 4, 4, 4]),
        (5, 1.0, [16, 16, 8, 8, 4]),
        (3, 0.0, [4, 4, 4]),
        (1, 0.5, [4]),
    ],
)
def test_only_epochs_with_the_last_number_of_entries_may_be_chosen(build, epochs, share, expected):
    settings = {"kept_share": 0.25, "compression_share": share, "embedding_size": 16}
    model = build("CompressedELSA", **settings)
    found = [(model.begin_epoch(e, epochs), model.item_embedding.kept) for e in range(epochs)]
    assert found == [(kept == 4, kept) for kept in expected]


def test_with_all_entries_it_is_elsa(build):
    whole, plain = build("CompressedELSA", kept_share=1.0), build("ELSA")
    assert whole.begin_epoch(0, 5)
    losses = [model.calculate_loss(model.batch) for model in (whole, plain)]
    assert losses[0].item() == losses[1].item()


def test_it_equals_elsa_with_masked_rows(build):
    sparse, plain = build("CompressedELSA", kept_share=0.5), build("ELSA")
    sparse.begin_epoch(9, 10)
    with torch.no_grad():
        plain.item_embedding.copy_(sparse.item_embedding())
        for row in plain.item_embedding[1:]:
            assert (row != 0).sum() == 2
    batch = Interaction({"user_id": torch.arange(1, 40)})
    losses = [model.calculate_loss(batch) for model in (sparse, plain)]
    assert losses[0].item() == losses[1].item()
    for one, other in zip(
        sparse.eval().final_embeddings(), plain.eval().final_embeddings(), strict=True
    ):
        assert torch.equal(one, other)


def test_the_record_and_the_checkpoint_count_what_is_kept(tmp_path):
    write_planted(tmp_path / "dataset")
    record = run("CompressedELSA", "planted", settings=OWN | {"epochs": 9, "kept_share": 0.25})
    (row,) = record["rows"]
    assert (row["entries"], row["entries_kept"]) == (4 * 60, 0.25)
    assert row["bytes"] == 61 * 4 * (4 + 2)
    assert row["curve"]["epoch"] == [5, 6, 7, 8, 9]
    folder = Path(record["result_file"]).parent
    tensors, _ = checkpoint.load(folder / "CompressedELSA.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == row["bytes"]


@pytest.mark.parametrize("rewind", [False, True])
def test_an_interrupted_training_ends_with_the_same_numbers(tmp_path, monkeypatch, rewind):
    write_planted(tmp_path / "dataset")
    settings = OWN | {"epochs": 7, "kept_share": 0.25, "compression_share": 0.8, "rewind": rewind}
    first = run("CompressedELSA", "planted", settings=settings)

    from recbole_lightgnn.trainer.training import Training

    whole = Training._train_epoch

    def stopped(self, train_data):
        if self.epoch == 5:
            raise KeyboardInterrupt
        return whole(self, train_data)

    monkeypatch.setattr(Training, "_train_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("CompressedELSA", "planted", settings=settings)
    monkeypatch.setattr(Training, "_train_epoch", whole)
    resumed = run("CompressedELSA", "planted", settings=settings, resume=True)
    assert resumed["test"] == first["test"]
    assert resumed["rows"][0]["curve"]["score"] == first["rows"][0]["curve"]["score"]


def test_settings_that_cannot_be_are_refused(build):
    for settings, message in (
        ({"kept_share": 0}, r"kept_share must be a number x with 0 < x <= 1, got 0"),
        ({"compression_share": 2}, r"compression_share must be a number x with 0 <= x <= 1, got 2"),
        ({"embedding_size": 40000}, r"embedding_size must be an integer x with 1 <= x <= 32767"),
        ({"batch_by": "interaction"}, "batch_by must be one of user"),
    ):
        with pytest.raises(InputError, match=message):
            build("CompressedELSA", **settings)
