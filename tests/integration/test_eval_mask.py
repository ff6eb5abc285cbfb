"""The setting ``eval_mask``: both values, in our own runs and in unmodified RecBole."""

import pytest
from helpers.planted import QUICK, write_planted
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader.general_dataloader import (
    FullSortEvalDataLoader,
    NegSampleEvalDataLoader,
)
from recbole.quick_start import load_data_and_model, run_recbole

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration import eval_mask
from recbole_lightgnn.quick_start import run


@pytest.fixture(autouse=True)
def planted(tmp_path):
    """The planted dataset in the test's working folder."""
    write_planted(tmp_path / "dataset")


def loaders_of(config):
    """Training, validation and test loader, made by RecBole."""
    return data_preparation(config, create_dataset(config))


def items_of(dataset):
    """Dictionary from each user to the set of their items."""
    by_user = {}
    users, items = (dataset.inter_feat[f].tolist() for f in (dataset.uid_field, dataset.iid_field))
    for user, item in zip(users, items, strict=True):
        by_user.setdefault(user, set()).add(item)
    return by_user


def history(loader):
    """Dictionary from each user to the items masked by the loader, sorted."""
    return {u: sorted(loader.uid2history_item[u].tolist()) for u in loader.uid_list.tolist()}


@pytest.mark.parametrize("mask", ["train", "train+valid"])
def test_the_mask_is_exactly_what_the_setting_says(mask):
    config = build_config("BPR", "ml-100k", (), {"eval_mask": mask})
    train, valid, test = loaders_of(config)
    assert eval_mask.mask_in_force(config) == mask
    seen, held_out, wanted = (items_of(loader._dataset) for loader in (train, valid, test))
    for user, masked in history(test).items():
        expected = seen[user] | (held_out[user] if mask == "train+valid" else set())
        assert masked == sorted(expected - wanted[user])
        assert set(test.uid2positive_item[user].tolist()) == wanted[user]
    expected = {user: sorted(seen[user]) for user in range(1, 944)}
    assert history(valid) == expected, "validation always masks the training items"


def test_a_test_item_is_never_masked(tmp_path):
    folder = tmp_path / "dataset" / "planted"
    seen = (folder / "planted.train.inter").read_text().splitlines()[1]  # the first of u0
    with open(folder / "planted.test.inter", "a") as file:
        file.write(f"{seen}\n")
    train, _, test = loaders_of(build_config("BPR", "planted", (), {"eval_mask": "train"}))
    user, item = (
        int(test._dataset.token2id(field, token))
        for field, token in zip(("user_id", "item_id"), seen.split("\t"), strict=True)
    )
    assert item in items_of(train._dataset)[user]
    assert item in test.uid2positive_item[user].tolist()
    assert history(test)[user] == sorted(items_of(train._dataset)[user] - {item})


@pytest.mark.slow
def test_unmodified_recbole_ranks_as_our_own_run_does(tmp_path):
    settings = {**QUICK, "n_pruning_runs": 1, "metrics": ["Recall", "NDCG"], "eval_mask": "train"}

    def recbole(**changes):
        return run_recbole("LightGNN", "planted", config_dict=settings | changes)

    ours, train_only = (
        run("LightGNN", "planted", settings=settings),
        recbole(checkpoint_dir="train"),
    )
    assert ours["masking"] == "train"
    assert train_only["test_result"] == ours["test"]
    usual = recbole(eval_mask="train+valid")
    assert train_only["best_valid_result"] == usual["best_valid_result"] == ours["best_valid"]
    # Validation items, which the user likes as much, compete with the test items.
    assert train_only["test_result"]["ndcg@5"] < usual["test_result"]["ndcg@5"]

    (path,) = (tmp_path / "train").glob("LightGNN-*/student-01.safetensors")
    config, _, _, train, _, test = load_data_and_model(str(path))
    assert eval_mask.mask_in_force(config) == "train"
    seen, wanted = items_of(train._dataset), items_of(test._dataset)
    assert history(test) == {user: sorted(seen[user] - wanted[user]) for user in wanted}


@pytest.mark.slow
def test_eval_mask_applies_to_a_model_of_recbole_too():
    settings = {
        "benchmark_filename": ["train", "valid", "test"],
        "epochs": 1,
        "metrics": ["Recall", "NDCG"],
        "metric_decimal_place": 12,
        "topk": [5],
        "valid_metric": "Recall@5",
        "show_progress": False,
    }

    def recbole(**changes):
        return run_recbole("ItemKNN", "planted", config_dict=settings | changes)["test_result"]

    for mask in ("train", "train+valid"):
        ours = run("ItemKNN", "planted", settings=settings | {"eval_mask": mask})
        assert recbole(eval_mask=mask) == ours["test"]
    assert recbole() == ours["test"] != recbole(eval_mask="train"), "the default is train+valid"


def test_saved_loaders_apply_the_setting_of_the_run_that_loads_them(tmp_path):

    def test_loader(mask, **changes):
        return loaders_of(build_config("BPR", "planted", (), {"eval_mask": mask, **changes}))[2]

    fresh = {mask: history(test_loader(mask)) for mask in ("train", "train+valid")}
    assert fresh["train"] != fresh["train+valid"]
    for saved in fresh:
        test_loader(saved, save_dataloaders=True, checkpoint_dir=saved)
        (file,) = (tmp_path / saved).glob("*-dataloader.pth")
        for mask in fresh:
            loaded = test_loader(mask, dataloaders_save_path=str(file))
            assert history(loaded) == fresh[mask], f"saved with {saved}, loaded with {mask}"


# Few users, since RecBole turns a sequential dataset into one row for each prefix.
SEQUENTIAL = {"train_neg_sample_args": None, "user_inter_num_interval": "[20,22]"}


@pytest.mark.parametrize(
    ("model", "dataset", "changes"),
    [
        ("BPR", "planted", {"eval_args": {"mode": "uni5"}}),
        ("BPR", "planted", {"eval_args": {"mode": {"valid": "full", "test": "pop5"}}}),
        ("BPR", "planted", {"repeatable": True}),
        ("GRU4Rec", "ml-100k", {**SEQUENTIAL, "repeatable": True}),
    ],
    ids=["sampled", "sampled for the test", "repeatable", "sequential"],
)
def test_train_is_refused_where_recbole_masks_nothing(model, dataset, changes):
    config = build_config(model, dataset, (), changes)
    loaders_of(config)
    assert eval_mask.mask_in_force(config) == "none"
    config["eval_mask"] = "train"
    with pytest.raises(InputError, match="eval_mask `train` needs a full ranking"):
        loaders_of(config)


def test_train_is_refused_for_rankings_of_labelled_items():
    labels = {"LABEL_FIELD": "label", "threshold": {"rating": 3}, "metrics": ["AUC"]}
    labels |= {"valid_metric": "AUC", "load_col": {"inter": ["user_id", "item_id", "rating"]}}
    modes = {"valid": "labeled", "test": "labeled"}
    config = build_config("BPR", "ml-100k", (), {**labels, "eval_args": {"mode": modes}})
    assert loaders_of(config)[2]._sampler is None
    config["eval_mask"] = "train"
    with pytest.raises(InputError, match="needs a full ranking"):
        loaders_of(config)


def test_a_second_call_of_extend_recbole_does_nothing():
    classes = (FullSortEvalDataLoader, NegSampleEvalDataLoader)
    before = [(cls.__init__, cls.update_config) for cls in classes]
    eval_mask.extend_recbole()
    assert [(cls.__init__, cls.update_config) for cls in classes] == before
    assert not hasattr(FullSortEvalDataLoader.__init__.__wrapped__, "__wrapped__")
