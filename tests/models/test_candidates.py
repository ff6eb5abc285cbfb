"""Sampled candidates of a softmax over items (``candidates``), for large catalogues."""

import pytest
import torch
from helpers.planted import QUICK, write_planted
from torch.testing import assert_close

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models import objective
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.objective import CandidateSampler
from recbole_lightgnn.quick_start import run

pytestmark = pytest.mark.filterwarnings("ignore")

N = 40


def sampler(how="sampled", size=10, n_items=N):
    return CandidateSampler(Settings({"candidates": how, "n_candidates": size}), n_items)


def test_what_is_asked_for_is_a_candidate_and_stands_for_itself():
    asked = torch.tensor([7, 3, 7, 30])
    items, log_weight, column = sampler()(asked)
    assert items[:3].tolist() == [3, 7, 30]
    assert items[column[asked]].tolist() == asked.tolist()
    assert (column >= 0).sum() == 3
    assert log_weight[:3].eq(0).all()
    assert len(items) == 13
    assert not set(items[3:].tolist()) & {3, 7, 30}
    assert_close(log_weight[3:].exp(), torch.full((10,), (N - 3) / 10))


def test_the_expected_denominator_is_that_of_all_items():
    draw = torch.Generator().manual_seed(0)
    exponentials = torch.randn(N, generator=draw).exp()
    torch.manual_seed(1)
    sample, asked = sampler(size=5), torch.tensor([0, 1, 2])
    sums = []
    for _ in range(4000):
        items, log_weight, _ = sample(asked)
        sums.append((exponentials[items] * log_weight.exp()).sum())
    sums = torch.stack(sums)
    error = sums.std() / len(sums) ** 0.5
    assert abs(sums.mean() - exponentials.sum()) < 4 * error
    assert sums.std() > 0


def test_a_sample_as_large_as_the_rest_has_every_item_once():
    items, log_weight, _ = sampler(size=N - 2)(torch.tensor([5, 8]))
    assert sorted(items.tolist()) == list(range(N))
    assert log_weight.eq(0).all()


def test_auto_samples_only_large_catalogues(monkeypatch):
    assert not sampler("auto").samples
    assert not sampler("all", n_items=10**7).samples
    assert sampler("auto", n_items=objective.MOST_ITEMS + 1).samples


BY_USER = {"batch_by": "user", "n_layers": 1}


@pytest.mark.parametrize("similarity", ["inner", "cosine"])
def test_with_every_item_in_the_sample_loss_and_gradients_are_those_of_all(build, similarity):
    settings = {**BY_USER, "similarity": similarity, "popularity_prior": 0.5}
    whole = build("LightGNNTeacher", **settings, candidates="all")
    sampled = build("LightGNNTeacher", **settings, candidates="sampled", n_candidates=10_000)
    sampled.load_state_dict(whole.state_dict())
    losses = [model.calculate_loss(model.batch) for model in (whole, sampled)]
    assert_close(*losses)
    for loss in losses:
        loss.backward()
    assert_close(whole.item_embedding.grad, sampled.item_embedding.grad, rtol=1e-4, atol=1e-7)
    assert_close(whole.user_embedding.grad, sampled.user_embedding.grad, rtol=1e-4, atol=1e-7)


def test_distillation_with_every_item_in_the_sample_is_that_over_all(build):
    teacher = FrozenTeacher(build("LightGNNTeacher"))
    settings = {**BY_USER, "prediction_kd_items": 5}
    losses = []
    for how in ({"candidates": "all"}, {"candidates": "sampled", "n_candidates": 10_000}):
        model = build("LightGNN", **settings, **how)
        model.distill_from(teacher)
        model.start_from(*teacher.initial_embeddings())
        losses.append(model.calculate_loss(model.batch))
    assert_close(*losses)


def test_a_small_sample_gives_another_loss_near_that_over_all(build):
    whole = build("LightGNNTeacher", **BY_USER, candidates="all")
    small = build("LightGNNTeacher", **BY_USER, candidates="sampled", n_candidates=5)
    small.load_state_dict(whole.state_dict())
    torch.manual_seed(0)
    few = whole.batch[:2]  # all users together have every item
    expected = whole.calculate_loss(few).item()
    drawn = [small.calculate_loss(few).item() for _ in range(20)]
    assert len(set(drawn)) > 1
    assert sum(drawn) / 20 == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_a_run_trains_and_distills_with_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    sampled = {"batch_by": "user", "candidates": "sampled", "n_candidates": 10}
    settings = {**QUICK, **sampled, "n_pruning_runs": 1, "use_intermediate": False}
    del settings["intermediate_settings"]
    settings["teacher_settings"] = QUICK["teacher_settings"] | sampled
    first, again = (run("LightGNN", "planted", settings=settings) for _ in range(2))
    assert first["test"] == again["test"]
    assert first["rows"][0]["valid"]["recall@5"] > 0.1


def test_candidates_without_effect_are_refused():
    with pytest.raises(InputError, match=r"candidates \(sampled\) has no effect with batch_by"):
        build_config("LightGNN", "ml-100k", (), {"candidates": "sampled"})
    with pytest.raises(InputError, match="candidates must be one of auto, all, sampled, got"):
        build_config("LightGNN", "ml-100k", (), {"candidates": "some"})
