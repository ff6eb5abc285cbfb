"""Proposals of the search for a teacher: fixed order, one change at a time, no repetition."""

import random

import pytest

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.trainer.proposals import _CHANGES, _LIMITS, _SCREENED, Tried, propose


def searched(score, most=40, n_interactions=0):
    """Run a search of at most ``most`` trials, where ``score`` gives a trial's score."""
    tried = []
    while len(tried) < most and (settings := propose(tried, n_interactions)) is not None:
        tried.append(Tried(settings, score(settings, len(tried))))
    return tried


def by_temperature(settings, number):
    """Best with temperature .2 and many epochs."""
    return settings["epochs"] / 1000 - abs(settings["temperature"] - 0.2)


def test_the_search_begins_with_the_plainest_settings_and_screens_narrow_models():
    tried = searched(by_temperature)
    assert tried[0].settings["temperature"] == 0.15
    assert {one.settings["embedding_size"] for one in tried[: len(_SCREENED)]} == {64}
    wide = tried[len(_SCREENED)].settings
    best = max(tried[: len(_SCREENED)], key=lambda one: one.score).settings
    assert wide == {**best, "embedding_size": 128}


@pytest.mark.parametrize(("seconds", "screened"), [(1, 8), (10, 5), (30, 2), (50, 1), (99, 1)])
def test_the_first_part_takes_half_of_the_time_at_most(seconds, screened):
    """Of 100 seconds, the trial in which the half ends is the last of the narrow models."""
    tried = []
    while len(tried) < 20:
        settings = propose(tried, most_seconds=100.0)
        tried.append(Tried(settings, by_temperature(settings, 0), seconds=seconds))
    best = max(tried[:screened], key=lambda one: one.score).settings
    assert tried[screened].settings == {**best, "embedding_size": 128}
    for number in range(screened + 1, 20):
        best = max(tried[:number], key=lambda one: one.score).settings
        assert sum(best[key] != value for key, value in tried[number].settings.items()) == 1


def test_large_data_are_not_screened_with_batches_of_interactions():
    few, many = (searched(by_temperature, n_interactions=n) for n in (10**6, 10**6 + 1))
    assert "interaction" in [one.settings["batch_by"] for one in few]
    assert {one.settings["batch_by"] for one in many} == {"user"}
    screened = len(_SCREENED) - 1
    assert [one.settings for one in many[:screened]] == [one.settings for one in few[:screened]]
    best = max(many[:screened], key=lambda one: one.score).settings
    assert many[screened].settings == {**best, "embedding_size": 128}
    for number in range(screened + 1, len(many)):
        best = max(many[:number], key=lambda one: one.score).settings
        assert sum(best[key] != value for key, value in many[number].settings.items()) == 1


def test_a_change_that_gives_the_same_model_is_not_tried():
    """No layers to normalize, and no more epochs than the limit of the work allows."""
    layers = [one.settings for one in searched(lambda settings, _: -settings["n_layers"], most=60)]
    flat = [one for one in layers if one["n_layers"] == 0]
    assert len(flat) > 3
    assert {one["item_degree_exponent"] for one in flat} == {0.5}
    tried = []
    while len(tried) < 40 and (settings := propose(tried)) is not None:
        tried.append(Tried(settings, -abs(settings["temperature"] - 0.2), planned_epochs=3))
    assert {one.settings["epochs"] for one in tried[len(_SCREENED) :]} <= {8, 2}


def test_then_each_trial_changes_one_setting_of_the_best_so_far():
    tried = searched(by_temperature)
    for number in range(len(_SCREENED) + 1, len(tried)):
        best = max(tried[:number], key=lambda one: one.score).settings
        changed = [key for key, value in tried[number].settings.items() if best[key] != value]
        assert len(changed) == 1, number


def test_it_climbs():
    best = max(searched(by_temperature), key=lambda one: one.score).settings
    assert abs(best["temperature"] - 0.2) < 0.01
    assert best["epochs"] >= 64


@pytest.mark.parametrize("seed", range(5))
def test_no_settings_are_tried_twice_and_all_are_within_the_limits(seed):
    draw = random.Random(seed)
    tried = searched(lambda *_: draw.choice([None, draw.random()]), most=200)
    assert len(tried) >= len(_SCREENED) + 1
    for number, one in enumerate(tried):
        assert one.settings not in [other.settings for other in tried[:number]]
        for key, (low, high) in _LIMITS.items():
            assert low <= one.settings.get(key, low) <= high


def test_a_longer_search_begins_as_a_shorter_one():
    assert searched(by_temperature, 30)[:12] == searched(by_temperature, 12)


def test_the_search_ends_when_no_change_helps():
    tried = searched(lambda settings, number: 1.0 if number == 0 else 0.0, most=100)
    assert len(_SCREENED) < len(tried) <= len(_SCREENED) + 1 + len(_CHANGES)
    assert propose(tried) is None


def test_it_ends_after_the_screening_if_every_trial_failed():
    assert len(searched(lambda *_: None)) == len(_SCREENED)


def test_every_proposal_is_accepted_as_settings_of_the_teacher():
    for one in searched(by_temperature):
        build_config("LightGNNTeacher", "ml-100k", (), dict(one.settings))
