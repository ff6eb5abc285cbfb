"""One training: when it stops, which state it leaves, and what it writes to disk."""

from functools import partial

import pytest
import torch
from helpers.planted import QUICK, write_planted
from recbole.utils import get_model

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer.loaders import TrainingLoaders
from recbole_lightgnn.trainer.training import Label, Training

ADAM = partial(torch.optim.Adam, lr=0.01)


class Silent:
    """Replacement of a TensorBoard writer; no test reads its files."""

    def add_scalar(self, *args):
        pass


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Return a function that trains a teacher with given validation scores.

    It returns the result, the weights at each validation, the model and the training.
    """
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")

    def run(scores, optimizer=ADAM, **settings):
        shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
        config = build_config("LightGNNTeacher", "planted", (), {**shared, **settings})
        train_data = load_data(config)[0]
        model = get_model("LightGNNTeacher")(config, train_data._dataset)
        seen, left = [], iter(scores)

        def validate(model):
            seen.append(model.user_embedding.detach().clone())
            metric = config["valid_metric"].lower()
            return {metric: next(left)}

        training = Training(
            config,
            model,
            Label("teacher"),
            RunFolder.create(tmp_path, config, {}),
            optimizer(model.parameters()),
            validate,
            meta={"stage": "teacher"},
            tensorboard=Silent(),
            show_progress=False,
            callback=None,
        )
        return training.fit(train_data), seen, model, training

    return run


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.1, 0.2, 0.3, 0.4], 2, 4, 4),  # to the last epoch
        ([0.1, 0.3, 0.2, 0.2], 1, 4, 2),  # the second epoch without improvement ends it
        ([0.1, 0.3, 0.2, 0.2], 0, 3, 2),
        ([0.3, 0.3, 0.3, 0.4], 1, 3, 1),  # a tie is no improvement
        ([0.30001, 0.30002, 0.30003, 0.1], 0, 4, 3),  # different only beyond four decimals
    ],
)
def test_it_stops_and_keeps_the_best(train, scores, patience, epochs, best):
    result, seen, model, _ = train(scores, stopping_step=patience, epochs=4)
    assert (result["epochs"], result["best_epoch"]) == (epochs, best)
    assert result["valid"] == {"recall@5": scores[best - 1]}
    assert torch.equal(model.user_embedding, seen[best - 1])
    assert not model.training


def test_a_metric_where_smaller_is_better(train):
    # For RecBole a smaller average popularity of the recommended items is better.
    scores = {"metrics": ["AveragePopularity"], "valid_metric": "AveragePopularity@5"}
    result, *_ = train([0.3, 0.2, 0.4, 0.5], stopping_step=1, epochs=4, **scores)
    assert (result["epochs"], result["best_epoch"]) == (4, 2)


def test_validation_every_other_epoch(train):
    result, seen, *_ = train([0.3, 0.2, 0.1], eval_step=2, epochs=5, stopping_step=5)
    assert len(seen) == 3  # after epochs 2 and 4, and after the last
    assert (result["epochs"], result["best_epoch"]) == (5, 2)


def test_the_best_state_is_on_disk_with_its_metrics(train):
    _, seen, _, training = train([0.1, 0.3, 0.2], epochs=3)
    tensors, meta = checkpoint.load(training.folder.best_file("teacher"))
    assert torch.equal(tensors["user_embedding"], seen[1])
    assert meta == {"stage": "teacher", "epoch": 2, "valid": {"recall@5": 0.3}}
    assert not list(training.folder.path.glob("*.partial"))


def test_random_states_are_restored_exactly():
    import random

    import numpy as np

    generator = torch.Generator().manual_seed(1)
    random.gauss(0, 1)  # keeps a second number for the next call, as NumPy does
    np.random.standard_normal(3)
    state = checkpoint.capture_rng(generator)

    def draw():
        numbers = [random.gauss(0, 1), random.random(), *np.random.standard_normal(3)]
        return numbers + torch.rand(2).tolist() + torch.rand(2, generator=generator).tolist()

    first = draw()
    assert draw() != first
    checkpoint.restore_rng(state, generator)
    assert draw() == first


def test_weights_that_diverge_in_the_last_step_are_not_kept(train, tmp_path):
    """With one batch in the epoch, no later loss shows the divergence."""

    class Exploding(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.param_groups[0]["params"][0].data[3, 2] = float("inf")

    with pytest.raises(InputError, match=r"not a number in epoch 1 \(weights\); no epoch was done"):
        train([0.1, 0.2], Exploding, epochs=2, train_batch_size=100_000)
    assert not list(tmp_path.rglob("teacher.safetensors"))


@pytest.mark.parametrize("clipped", [True, False])
def test_gradients_are_clipped_as_recbole_does(train, clipped):
    steps = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            parameters = self.param_groups[0]["params"]
            steps.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())
            return super().step(closure)

    changes = {"clip_grad_norm": {"max_norm": 1e-3}} if clipped else {}
    train([0.1], Watched, epochs=1, **changes)
    assert (max(steps) < 1.001e-3) == clipped


def test_the_learning_rate_falls_linearly(train):
    rates = []

    def recorded(parameters):
        optimizer = ADAM(parameters)
        step = optimizer.step

        def first_of_an_epoch(*args, **kwargs):
            if not rates or rates[-1] != optimizer.param_groups[0]["lr"]:
                rates.append(optimizer.param_groups[0]["lr"])
            return step(*args, **kwargs)

        optimizer.step = first_of_an_epoch
        return optimizer

    settings = {"learning_rate": 0.01, "learning_rate_end": 0.1, "epochs": 4}
    train([0.1, 0.2, 0.3, 0.4], recorded, **settings)
    assert rates == pytest.approx([0.01, 0.007, 0.004, 0.001])


# --- large data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "epochs"), [(0.1, 1), (1.0, 1), (2.9, 2), (3.0, 3), (9.0, 4)])
def test_a_training_has_only_the_epochs_that_the_work_allows(train, share, epochs):
    """``share``: the allowed work, in epochs."""
    whole, _, model, _ = train([0.1] * 4, epochs=4, train_batch_size=256, stopping_step=9)
    assert whole["epochs"] == 4
    batches = -(-model.observed.n_edges // 256)
    work = share * batches * model.observed.n_edges
    given = {"epochs": 4, "train_batch_size": 256, "stopping_step": 9, "eval_step": 4}
    result, seen, *_ = train([0.1], **given, max_edge_visits=work)
    assert result["epochs"] == result["best_epoch"] == epochs
    assert len(seen) == 1  # the last epoch is validated


@pytest.mark.parametrize(("most", "batches"), [(0, None), (3, 3), (1, 1), (10_000, None)])
def test_batches_grow_where_an_epoch_would_have_too_many(tmp_path, monkeypatch, most, batches):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"batch_by": "user", "train_batch_size": 16, "max_epoch_steps": most}
    config = build_config("LightGNNTeacher", "planted", (), settings)
    train_data = load_data(config)[0]
    loader = TrainingLoaders(train_data, repeatable=False).of(config, seed=1)
    size = train_data._dataset.user_num  # with RecBole's padding user
    assert len(loader) == (batches or -(-size // 16))
    users = torch.cat([batch["user_id"] for batch in loader])
    assert len(users) == size
    assert config["train_batch_size"] == 16
