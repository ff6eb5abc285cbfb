"""What a run leaves out or cannot use is said: features, links, repeated pairs, labels, samples."""

import logging

import pandas as pd
import pytest
from recbole.data import create_dataset

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.check import check
from recbole_lightgnn.data.dataset_files import find_dataset, read_dataset
from recbole_lightgnn.data.loaders import check_dataset_files, load_data
from recbole_lightgnn.errors import InputError

PAIRS = [(f"u{u}", f"i{i}") for u in range(6) for i in range(8) if (u + i) % 4]
HEADER = "user_id:token\titem_id:token"
QUIET = {"show_progress": False, "state": "ERROR", "use_gpu": False, "topk": [3]}


def write(folder, rows=PAIRS, header=HEADER, **files):
    """Write dataset d; ``files`` has the lines of other files, by suffix."""
    (folder / "d").mkdir(exist_ok=True)
    inter = [header, *("\t".join(map(str, row)) for row in rows)]
    for suffix, lines in {"inter": inter, **files}.items():
        (folder / "d" / f"d.{suffix}").write_text("\n".join([*lines, ""]), encoding="utf-8")


def config_of(folder, model, **settings):
    """The settings of a run on d; those that rank or judge labels are set for the model."""
    by_labels = {"metrics": ["AUC"], "valid_metric": "AUC"}
    ranked = {"metrics": ["Recall"], "valid_metric": "Recall@3"}
    given = {**QUIET, **(by_labels if model == "FM" else ranked), **settings}
    config = build_config(model, "d", (), {**given, "data_path": str(folder)})
    check_dataset_files(config)
    return config


def dataset_of(folder, model="BPR", **settings):
    return create_dataset(config_of(folder, model, **settings))


# --- features and links ----------------------------------------------------------------------

USERS = ["user_id:token\tage:float", *(f"u{u}\t{20 + u}" for u in range(4))]  # not u4, u5
ITEMS = ["item_id:token\tprice:float", *(f"i{i}\t{i}" for i in range(7))]  # not i7


@pytest.mark.parametrize(
    "files", [{"user": USERS}, {"item": ITEMS}, {"user": USERS, "item": ITEMS}]
)
def test_interactions_without_features_are_left_out_with_a_warning(tmp_path, caplog, files):
    write(tmp_path, **files)
    with caplog.at_level(logging.WARNING):
        dataset = dataset_of(tmp_path, load_col=None)
    known = {row.split("\t")[0] for lines in files.values() for row in lines}
    lost, kept = {}, PAIRS
    for place, kind in enumerate(("user", "item")):
        if kind in files:
            lost[kind] = [pair for pair in kept if pair[place] not in known]
            kept = [pair for pair in kept if pair[place] in known]
    assert dataset.inter_num == len(kept)
    for kind, rows in lost.items():
        told = f"{len(rows)} of {len(PAIRS)} interactions are left out: "
        assert any(told in line and f"{kind}" in line for line in caplog.messages)
    caplog.clear()
    whole = dataset_of(tmp_path, load_col=None, filter_inter_by_user_or_item=False)
    assert whole.inter_num == len(PAIRS)  # the advice of the message
    assert "left out" not in caplog.text


def test_users_that_a_filter_removes_are_not_said_to_be_absent(tmp_path, caplog):
    write(tmp_path, user=[*USERS, "u4\t9", "u5\t9"])
    with caplog.at_level(logging.WARNING):
        dataset = dataset_of(tmp_path, load_col=None, val_interval={"age": "[20,30]"})
    assert dataset.inter_num == sum(user in ("u0", "u1", "u2", "u3") for user, _ in PAIRS)
    assert "left out" not in caplog.text


def test_nothing_is_said_if_nothing_is_left_out(tmp_path, caplog):
    write(tmp_path, user=[*USERS, "u4\t9", "u5\t9"], item=[*ITEMS, "i7\t9"])
    with caplog.at_level(logging.WARNING):
        assert dataset_of(tmp_path, load_col=None).inter_num == len(PAIRS)
    assert "left out" not in caplog.text


def test_data_check_finds_users_and_items_without_features(tmp_path):
    write(tmp_path, [*PAIRS, ("u1 ", "i1")], user=USERS, item=ITEMS)
    found = find_dataset("d", tmp_path)
    messages = [one.message for one in check(found, read_dataset(found))]
    assert any(
        m.startswith("3 users without a line in") and "d.user, e.g. 'u4'" in m for m in messages
    )
    assert any(m.startswith("1 item without a line in") and "'i7'" in m for m in messages)
    assert any(m.startswith("1 id with a blank at an end, e.g. 'u1 '") for m in messages)


KG = ["head_id:token\trelation_id:token\ttail_id:token", *(f"e{i}\tr\te{i + 1}" for i in range(8))]
LINK = ["item_id:token\tentity_id:token", *(f"i{i}\te{i}" for i in range(8))]


def test_items_without_a_link_are_left_out_with_a_warning(tmp_path, caplog):
    write(tmp_path, kg=KG, link=[row.replace("i3\te3", "i3\tnone") for row in LINK])
    with caplog.at_level(logging.WARNING):
        dataset = dataset_of(tmp_path, "CFKG")
    n_lost = sum(item == "i3" for _, item in PAIRS)
    assert dataset.inter_num == len(PAIRS) - n_lost
    told = f"{n_lost} of {len(PAIRS)} interactions are left out: 1 item not linked"
    assert told in caplog.text


@pytest.mark.parametrize(
    ("links", "facts"),
    [
        ([f"i{i}\tx{i}" for i in range(8)], "no item of the interactions is linked"),
        (["i0\te0", "i1\te1", "i2\te1"], "line 4: entity_id 'e1' has a second link"),
        (["i0\te0", "i1\te1", "i1\te2"], "line 4: item_id 'i1' has a second link"),
    ],
)
def test_links_that_cannot_be_used_are_refused(tmp_path, links, facts):
    write(tmp_path, kg=KG, link=[LINK[0], *links])
    with pytest.raises(InputError) as error:
        dataset_of(tmp_path, "CFKG")
    assert facts in str(error.value)


def test_links_that_do_no_harm_are_taken(tmp_path):
    unused = ["other1\tx", "other2\tx"]  # items without interactions
    write(tmp_path, kg=KG, link=[*LINK, LINK[3], *unused])
    assert dataset_of(tmp_path, "CFKG").inter_num == len(PAIRS)


# --- repeated pairs --------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["first", "last"])
@pytest.mark.parametrize("kind", ["float", "token"])
def test_repeated_pairs_go_by_time_even_if_the_column_is_not_named(tmp_path, keep, kind):
    rows = [(u, i, n % 5, 1_700_000_000 + 7 * n) for n, (u, i) in enumerate(PAIRS * 2)]
    write(tmp_path, rows[::-1], f"{HEADER}\trating:float\ttimestamp:{kind}")
    columns = {"inter": ["user_id", "item_id", "rating"]}
    filters = {"val_interval": {"rating": "[3,inf)"}, "rm_dup_inter": keep}
    dataset = dataset_of(tmp_path, load_col=columns, **filters)
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "time"]).sort_values("time")
    frame = frame.drop_duplicates(["user", "item"], keep=keep)
    assert dataset.inter_num == int((frame.rating >= 3).sum())


# --- labels ----------------------------------------------------------------------------------

LABELLED = {"load_col": {"inter": ["user_id", "item_id", "label"]}}


def labelled(folder, values, kind="float"):
    rows = [(*pair, values[n % len(values)]) for n, pair in enumerate(PAIRS)]
    write(folder, rows, f"{HEADER}\tlabel:{kind}")


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([1, 2, 3, 4, 5], "line 3: label 2 is no label"),
        ([1, -1], "line 3: label -1 is no label"),
        ([0, 1, 0.5], "line 4: label 0.5 is no label"),
        ([1, 0, ""], "line 4: label has no value"),
    ],
)
def test_labels_other_than_0_and_1_are_refused_and_the_threshold_makes_them(
    tmp_path, values, facts
):
    labelled(tmp_path, values)
    with pytest.raises(InputError) as error:
        dataset_of(tmp_path, "FM", **LABELLED)
    assert facts in str(error.value)
    assert "expected 1 or 0, as FM needs labels" in str(error.value)
    threshold = float(str(error.value).partition("{label: ")[2].partition("}")[0])
    dataset = dataset_of(tmp_path, "FM", **LABELLED, threshold={"label": threshold})
    assert set(dataset.inter_feat["label"].tolist()) == {0, 1}


def test_labels_are_checked_after_the_filters(tmp_path):
    labelled(tmp_path, [1, 0, -1])
    filters = {"val_interval": {"label": "[0,1]"}}
    train, _, _ = load_data(config_of(tmp_path, "FM", **LABELLED, **filters))
    assert set(train._dataset.inter_feat["label"].tolist()) == {0, 1}
    filters = {"val_interval": {"label": "[-1,0]"}}
    with pytest.raises(InputError, match="label must be 1 or 0 in 'd', as FM needs labels, got -1"):
        load_data(config_of(tmp_path, "FM", **LABELLED, **filters))


def test_labels_of_a_saved_dataset_are_checked(tmp_path, caplog):
    labelled(tmp_path, [1, 0, -1])
    saved = {**LABELLED, "save_dataset": True, "checkpoint_dir": str(tmp_path / "saved")}
    saved |= {"eval_args": {"mode": "uni3"}}
    sampled = {"distribution": "uniform", "sample_num": 1}  # then labels are not read
    load_data(config_of(tmp_path, "FM", **saved, train_neg_sample_args=sampled))
    with pytest.raises(InputError, match="label must be 1 or 0 in 'd', as FM needs labels, got -1"):
        load_data(config_of(tmp_path, "FM", **saved, train_neg_sample_args=None))
    assert "is not used" not in caplog.text  # the saved dataset was used


def test_labels_that_are_0_and_1_are_taken(tmp_path):
    labelled(tmp_path, [1, 0, 0])
    labels = dataset_of(tmp_path, "FM", **LABELLED).inter_feat["label"].tolist()
    assert labels == [[1, 0, 0][n % 3] for n in range(len(PAIRS))]


def test_a_column_named_as_labels_has_labels(tmp_path):
    labelled(tmp_path, [1, 5])
    header = (tmp_path / "d" / "d.inter").read_text().replace("label:", "rating:")
    (tmp_path / "d" / "d.inter").write_text(header)
    columns = {"inter": ["user_id", "item_id", "rating"]}
    with pytest.raises(InputError, match="rating 5 is no label"):
        dataset_of(tmp_path, "FM", load_col=columns, LABEL_FIELD="rating")


def test_labels_are_a_column_of_numbers(tmp_path):
    labelled(tmp_path, ["y", "n"], "token")
    with pytest.raises(InputError, match="has label:token: write 1 and 0"):
        dataset_of(tmp_path, "FM", **LABELLED)


def test_a_model_that_reads_no_labels_takes_any(tmp_path):
    labelled(tmp_path, [1, 2, 3])
    assert dataset_of(tmp_path, "BPR", **LABELLED).inter_num == len(PAIRS)


# --- sampled rankings ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["uni1000000", "pop1001", {"valid": "uni5", "test": "uni1001"}])
def test_a_mode_that_samples_more_items_than_there_are_is_refused(tmp_path, mode):
    write(tmp_path)
    with pytest.raises(InputError, match="samples more items than 'd' has, 8"):
        load_data(config_of(tmp_path, "BPR", **{"eval_args": {"mode": mode}}))
