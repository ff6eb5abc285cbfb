"""What a test ranking leaves out, under both settings and through both doors."""

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
from recbole_lightgnn.integration import eval_mask as masking
from recbole_lightgnn.quick_start import run


@pytest.fixture(autouse=True)
def world(tmp_path):
    """The planted dataset in the empty folder where the test works."""
    write_planted(tmp_path / "dataset")


def loaders_of(config):
    """Train, validation and test loader as RecBole makes them."""
    return data_preparation(config, create_dataset(config))


def items_of(dataset):
    """User -> the set of its items."""
    found = {}
    users, items = (dataset.inter_feat[f].tolist() for f in (dataset.uid_field, dataset.iid_field))
    for user, item in zip(users, items, strict=True):
        found.setdefault(user, set()).add(item)
    return found


def history(loader):
    """User -> the items that the loader's ranking leaves out, sorted."""
    return {u: sorted(loader.uid2history_item[u].tolist()) for u in loader.uid_list.tolist()}


@pytest.mark.parametrize("mask", ["train", "train+valid"])
def test_the_mask_is_exactly_what_the_setting_says(mask):
    config = build_config("BPR", "ml-100k", (), {"eval_mask": mask})
    train, valid, test = loaders_of(config)
    assert masking.mask_in_force(config) == mask
    seen, held_out, wanted = (items_of(loader._dataset) for loader in (train, valid, test))
    for user, masked in history(test).items():
        expected = seen[user] | (held_out[user] if mask == "train+valid" else set())
        assert masked == sorted(expected - wanted[user])
        assert set(test.uid2positive_item[user].tolist()) == wanted[user]
    expected = {user: sorted(seen[user]) for user in range(1, 944)}
    assert history(valid) == expected, "validation: always train"


def test_an_item_to_be_found_is_never_left_out(tmp_path):
    folder = tmp_path / "dataset" / "planted"
    seen = (folder / "planted.train.inter").read_text().splitlines()[1]  # u0's first
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


def test_stock_recbole_ranks_as_our_own_run_does(tmp_path):
    settings = {**QUICK, "n_pruning_runs": 1, "metrics": ["Recall", "NDCG"], "eval_mask": "train"}

    def stock(**changes):
        return run_recbole("LightGNN", "planted", config_dict=settings | changes)

    ours, papers = run("LightGNN", "planted", settings=settings), stock(checkpoint_dir="train")
    assert ours["masking"] == "train"
    assert papers["test_result"] == ours["test"]
    usual = stock(eval_mask="train+valid")
    assert papers["best_valid_result"] == usual["best_valid_result"] == ours["best_valid"]
    # Items of the validation part, liked as much, compete with those to be found.
    assert papers["test_result"]["ndcg@5"] < usual["test_result"]["ndcg@5"]

    (path,) = (tmp_path / "train").glob("LightGNN-*/student-01.safetensors")
    config, _, _, train, _, test = load_data_and_model(str(path))
    assert masking.mask_in_force(config) == "train"
    seen, wanted = items_of(train._dataset), items_of(test._dataset)
    assert history(test) == {user: sorted(seen[user] - wanted[user]) for user in wanted}


@pytest.mark.slow
def test_a_model_of_recboles_own_heeds_it_too():
    settings = {
        "benchmark_filename": ["train", "valid", "test"],
        "epochs": 1,
        "metrics": ["Recall", "NDCG"],
        "metric_decimal_place": 12,
        "topk": [5],
        "valid_metric": "Recall@5",
        "show_progress": False,
    }

    def stock(**changes):
        return run_recbole("ItemKNN", "planted", config_dict=settings | changes)["test_result"]

    for mask in ("train", "train+valid"):
        ours = run("ItemKNN", "planted", settings=settings | {"eval_mask": mask})
        assert stock(eval_mask=mask) == ours["test"]
    assert stock() == ours["test"] != stock(eval_mask="train"), "RecBole's habit unless asked"


def test_saved_loaders_heed_the_run_that_loads_them(tmp_path):

    def test_loader(mask, **changes):
        return loaders_of(build_config("BPR", "planted", (), {"eval_mask": mask, **changes}))[2]

    fresh = {mask: history(test_loader(mask)) for mask in ("train", "train+valid")}
    assert fresh["train"] != fresh["train+valid"]
    for saved in fresh:
        test_loader(saved, save_dataloaders=True, checkpoint_dir=saved)
        (file,) = (tmp_path / saved).glob("*-dataloader.pth")
        for asked in fresh:
            loaded = test_loader(asked, dataloaders_save_path=str(file))
            assert history(loaded) == fresh[asked], f"saved under {saved}, loaded for {asked}"


# Few users, since RecBole lengthens a sequential dataset to one line a prefix.
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
def test_where_recbole_leaves_out_nothing_train_is_refused(model, dataset, changes):
    config = build_config(model, dataset, (), changes)
    loaders_of(config)
    assert masking.mask_in_force(config) == "none"
    config["eval_mask"] = "train"
    with pytest.raises(InputError, match="eval_mask `train` needs a full ranking"):
        loaders_of(config)


def test_labelled_lists_have_no_sampler():
    labels = {"LABEL_FIELD": "label", "threshold": {"rating": 3}, "metrics": ["AUC"]}
    labels |= {"valid_metric": "AUC", "load_col": {"inter": ["user_id", "item_id", "rating"]}}
    modes = {"valid": "labeled", "test": "labeled"}
    config = build_config("BPR", "ml-100k", (), {**labels, "eval_args": {"mode": modes}})
    assert loaders_of(config)[2]._sampler is None
    config["eval_mask"] = "train"
    with pytest.raises(InputError, match="needs a full ranking"):
        loaders_of(config)


def test_extending_twice_is_extending_once():
    classes = (FullSortEvalDataLoader, NegSampleEvalDataLoader)
    before = [(cls.__init__, cls.update_config) for cls in classes]
    masking.extend_recbole()
    assert [(cls.__init__, cls.update_config) for cls in classes] == before
    assert not hasattr(FullSortEvalDataLoader.__init__.__wrapped__, "__wrapped__")
