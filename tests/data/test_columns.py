"""The columns that settings name, against the headers of the files; and advice, run to its end."""

from pathlib import Path

import pytest
from helpers.advice import followed, remedies
from recbole.data import create_dataset

from recbole_lightgnn import quick_start
from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.errors import InputError

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
QUIET = {"epochs": 1, "show_progress": False, "state": "error", "data_path": "dataset"}
RATING = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
AUC = {"metrics": ["AUC"], "valid_metric": "AUC"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_dataset(header=HEADER, suffixes=("",)):
    """Write 30 users with 10 of 45 items each, ratings from 1 to 5."""
    folder = Path("dataset", "toy")
    folder.mkdir(parents=True)
    columns = [column.partition(":")[0] for column in header.split("\t")]
    for shift, suffix in enumerate(suffixes):
        lines = [header]
        for row in range(300):
            user, item = row % 30, (7 * (row % 30) + 3 * (row // 30) + shift) % 45
            known = {"user_id": f"u{user}", "item_id": f"i{item}", "rating": str(row * 3 % 5 + 1)}
            known |= {"timestamp": str(row), "label": str(row * 3 % 2), "class": f"c{item % 3}"}
            lines.append("\t".join(known[column] for column in columns))
        Path(folder, f"toy{suffix}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def refused(model, settings):
    with pytest.raises(InputError) as error:
        quick_start.configure(model, "toy", settings={**QUIET, **settings})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"load_col": {"inter": ["user_id", "item_id", "ratng"]}},
            "load_col.inter: dataset/toy/toy.inter has no column 'ratng' (did you mean 'rating'?); "
            "it has user_id, item_id, rating, timestamp",
        ),
        (
            {"load_col": {"inter": "*", "user": ["user_id"]}},
            "load_col.user: there is no file dataset/toy/toy.user",
        ),
        (
            {"load_col": None, "unload_col": {"inter": ["ratig"]}},
            "unload_col.inter: dataset/toy/toy.inter has no column 'ratig' (did you mean",
        ),
        (
            {"load_col": None, "val_interval": {"stars": "[3,inf)"}},
            "val_interval: dataset/toy/toy.inter has no column 'stars'",
        ),
        (
            {"load_col": None, "threshold": {"Rating": 3}, "eval_args.mode": "labeled"} | AUC,
            "threshold: dataset/toy/toy.inter has no column 'Rating' (did you mean 'rating'?)",
        ),
        (
            {"load_col": None, "threshold": {"user_id": 3}, "eval_args.mode": "labeled"} | AUC,
            "threshold.user_id needs a column of numbers, and dataset/toy/toy.inter has user_id:",
        ),
        ({"val_interval": {"ratng": "[3,inf)"}}, "'ratng' (did you mean 'rating'?)"),
        (
            {"val_interval": {"rating": "[3,inf)"}},
            "the column rating is not loaded (setting val_interval): write --load_col=",
        ),
        (
            {"threshold": {"rating": 3}, "eval_args.mode": "labeled"} | AUC,
            "the column rating is not loaded (setting threshold): write --load_col=",
        ),
        ({"alias_of_user_id": ["user"]}, "alias_of_user_id: dataset/toy/toy.inter has no column"),
        ({"val_interval": {"user_id": "[3,inf)"}}, "val_interval.user_id must be a list of tokens"),
        ({"val_interval": {"item_id": [3, 5]}}, "--val_interval=\"{item_id: ['3', '5']}\""),
        (
            {"load_col": None, "val_interval": {"rating": ["4", "5"]}},
            "val_interval.rating must be an interval, as the column has numbers, got ['4', '5']",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_refused(settings, message):
    make_dataset()
    line = refused("BPR", settings)
    assert message in line
    for remedy in remedies(line):
        quick_start.configure("BPR", "toy", settings={**QUIET, **followed(settings, remedy)})


ITEMS = {"load_col": {"inter": ["user_id", "item_id"], "item": ["item_id", "year", "class"]}}
LABELS = {**RATING, **AUC, "threshold": {"rating": 4}, "eval_args.mode": "labeled"}
LABELS |= {"train_neg_sample_args.distribution": "none"}
BUCKETS = {"method": "ED", "bucket": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numerical_features": ["rating"]}, "the column rating is not loaded (setting numerical_"),
        ({"numerical_features": ["year"]}, "item: [item_id, year]}"),
        ({"normalize_field": "ratings"}, "normalize_field: dataset/toy/toy.inter has no column"),
        ({"normalize_field": ["year"]}, "the column year is not loaded (setting normalize_field)"),
        (
            {"alias_of_item_id": ["class"]},
            "the column class is not loaded (setting alias_of_item_id)",
        ),
        (
            {**ITEMS, "alias_of_item_id": ["year"]},
            "alias_of_item_id needs columns of tokens, and dataset/to",
        ),
        (
            {**ITEMS, "numerical_features": ["class"]},
            "numerical_features needs columns of numbers,",
        ),
        ({**ITEMS, "normalize_field": "class"}, "toy.item has class:token_seq: leave class out"),
        ({**ITEMS, "numerical_features": ["yaer"]}, "has no column 'yaer' (did you mean 'year'?)"),
        ({**ITEMS, "seq_len": {"year": 3}}, "seq_len needs columns of sequences, and dataset/toy/"),
        ({**ITEMS, "seq_len": {"clas": 3}}, "seq_len: dataset/toy/toy.inter has no column 'clas'"),
        ({"seq_len": {"class": 3}}, "the column class is not loaded (setting seq_len)"),
        (
            {"numerical_features": ["year"], "discretization": {"year": BUCKETS}},
            "the column year is not loaded",
        ),
        (
            {**ITEMS, "discretization": {"year": BUCKETS}},
            "no effect on year, as only numerical_features have buckets, got []: add",
        ),
        (
            {**LABELS, "numerical_features": ["rating"]},
            "numerical_features names rating, of which threshold makes labels, so that no column",
        ),
        (
            {**LABELS, "normalize_field": "rating"},
            "normalize_field names rating, of which threshold makes labels, so that no column",
        ),
        (
            {"additional_feat_suffix": ["ent"]},
            "additional_feat_suffix: there is no file dataset/to",
        ),
    ],
)
def test_a_column_that_a_feature_names_is_there_loaded_and_of_its_type(settings, message):
    make_dataset()
    items = [f"i{item}\t{1990 + item}\ta b" for item in range(45)]
    lines = ["item_id:token\tyear:float\tclass:token_seq", *items]
    Path("dataset/toy/toy.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = {"train_neg_sample_args.distribution": "uniform", "eval_args.mode": "full"}
    given |= {"metrics": ["Recall"], "valid_metric": "Recall@10"}
    line = refused("FM", {**given, **settings})
    assert message in line
    for remedy in remedies(line):
        settings = {**QUIET, **given, **followed(settings, remedy)}
        create_dataset(quick_start.configure("FM", "toy", settings=settings))


def test_the_first_of_three_files_is_asked():
    make_dataset(suffixes=(".train", ".valid", ".test"))
    line = refused("BPR", {"load_col": {"inter": ["user_id", "item_id", "ratng"]}})
    assert "dataset/toy/toy.train.inter has no column 'ratng'" in line


def test_three_files_without_sequences_are_refused_for_a_sequential_model():
    make_dataset(suffixes=(".train", ".valid", ".test"))
    line = refused("GRU4Rec", {})
    assert "toy.train.inter has no column 'item_id_list'" in line
    assert line.endswith("make dataset/toy/toy.inter of all three")
    Path("dataset/toy/toy.inter").hardlink_to("dataset/toy/toy.train.inter")
    given = {"benchmark_filename": ["train", "valid", "test"]}
    (remedy,) = remedies(refused("GRU4Rec", given))
    quick_start.configure("GRU4Rec", "toy", settings={**QUIET, **followed(given, remedy)})


NO_LABELS = [
    ("FM", {}),
    ("NeuMF", {"train_neg_sample_args": None}),
    ("BPR", {**AUC, "eval_args.mode": "labeled"}),
    ("FM", {"eval_args.mode": "uni5"}),
]


@pytest.mark.parametrize(("model", "settings"), NO_LABELS)
def test_a_run_that_needs_labels_and_has_none_is_refused(model, settings):
    make_dataset()
    line = refused(model, settings)
    assert f"{model} needs labels here" in line
    assert len(remedies(line)) == 2
    for remedy in remedies(line):
        quick_start.configure(model, "toy", settings={**QUIET, **followed(settings, remedy)})


def test_labels_in_the_file_are_loaded_or_the_message_says_how():
    make_dataset("user_id:token\titem_id:token\tlabel:float")
    line = refused("FM", {})
    first = remedies(line)[0]
    assert first == {"load_col": {"inter": ["user_id", "item_id", "label"]}}
    quick_start.configure("FM", "toy", settings={**QUIET, **first})


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--val_interval={rating: '[3,inf)'}"], lambda row: row * 3 % 5 + 1 >= 3),
        (["--val_interval={rating: '(3,5]'}"], lambda row: 3 < row * 3 % 5 + 1 <= 5),
        (["--val_interval={rating: [2, 4]}"], lambda row: 2 <= row * 3 % 5 + 1 <= 4),
        (["--val_interval={rating: '[1,1];[5,9)'}"], lambda row: row * 3 % 5 + 1 in (1, 5)),
        (["--val_interval={user_id: ['u3', 'u7']}"], lambda row: row % 30 in (3, 7)),
        (["--user_inter_num_interval=[10,inf)"], lambda row: True),
        (["--item_inter_num_interval=None"], lambda row: True),
    ],
)
def test_the_rows_that_stay_are_those_of_a_plain_loop(flags, kept):
    make_dataset()
    config = quick_start.configure(
        "BPR", "toy", settings={**QUIET, **read_settings(flags), "load_col": {"inter": "*"}}
    )
    assert create_dataset(config).inter_num == sum(kept(row) for row in range(300))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        *NO_LABELS,
        ("BPR", AUC),
        ("LightGNNTeacher", AUC),
        ("FM", {"metrics": ["Recall"], "valid_metric": "Recall@10"}),
        ("BPR", {"eval_args.mode": "labeled"}),
        ("BPR", {**RATING, "val_interval": {"rating": "3,inf"}}),
        ("LightGNNTeacher", {**RATING, "threshold": {"rating": 3}}),
        ("BPR", {"train_neg_sample_args.dynamic": True}),
        ("BPR", {"clip_grad_norm": 5}),
        ("BPR", {"eval_args.split": {"RS": [0.8, 0.2]}}),
        ("BPR", {"eval_args.mode": "uniform100"}),
        ("BPR", {"user_inter_num_interval": 5}),
    ],
)
def test_who_follows_the_advice_of_a_message_can_train(model, settings):
    make_dataset()
    valid = {} if model == "FM" else {"valid_metric": "Recall@10"}
    given = {**QUIET, "topk": [10], **valid, **settings}
    line = refused(model, given)
    assert remedies(line)
    for remedy in remedies(line):
        record = quick_start.run(model, "toy", settings=followed(given, remedy))
        assert record["test"]
