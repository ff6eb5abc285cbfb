"""What a test ranking leaves out, under both settings."""

import pytest
from recbole.data import create_dataset, data_preparation

from recbole_lightgnn.config import build_config
from recbole_lightgnn.trainer.masking import apply_eval_mask


def items_of(dataset):
    """User -> the set of its items."""
    found = {}
    users, items = (dataset.inter_feat[f].tolist() for f in (dataset.uid_field, dataset.iid_field))
    for user, item in zip(users, items, strict=True):
        found.setdefault(user, set()).add(item)
    return found


@pytest.mark.parametrize("mask", ["train", "train+valid"])
def test_the_mask_is_exactly_what_the_setting_says(mask):
    config = build_config("BPR", "ml-100k", (), {"eval_mask": mask})
    train, valid, test = data_preparation(config, create_dataset(config))
    before = [set(items.tolist()) for items in valid.uid2history_item[1:]]
    assert apply_eval_mask(config, train, test) == mask
    seen, held_out, wanted = (items_of(loader._dataset) for loader in (train, valid, test))
    for user in test.uid_list.tolist():
        expected = seen[user] | (held_out[user] if mask == "train+valid" else set())
        masked = test.uid2history_item[user].tolist()
        assert sorted(masked) == sorted(expected - wanted[user])
        assert set(test.uid2positive_item[user].tolist()) == wanted[user]
    after = [set(items.tolist()) for items in valid.uid2history_item[1:]]
    assert after == before == [seen[user] for user in range(1, 944)], "validation: always train"
