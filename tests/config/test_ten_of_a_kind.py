"""Ten variants of each kind of wrong setting: refused with status 2 and the exact remedy.

Each is typed at the command line. A remedy that is written as flags is followed, and must be
accepted.
"""

import shlex

import pytest
from helpers.advice import followed, remedies

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import configure

pytestmark = pytest.mark.slow  # many variants; each kind has fast tests elsewhere

SPLIT = '--eval_args.split="{RS: [0.8, 0.1, 0.1]}"'
LEFT = '--eval_args.split="{LS: valid_and_test}"'
UNKNOWN_INNER_KEYS = [
    ("--eval_args.splits='{RS: [8, 1, 1]}'", "(did you mean 'split'?)"),
    ("--eval_args.oder=TO", "(did you mean 'order'?)"),
    ("--eval_args.groupby=user", "(did you mean 'group_by'?)"),
    ("--eval_args.modes=full", "(did you mean 'mode'?)"),
    ("--eval_args='{mod: full}'", "(did you mean 'mode'?)"),
    ("--eval_args.mode='{vald: full}'", "(did you mean 'valid'?)"),
    ("--eval_args.split='{RX: [8, 1, 1]}'", "(did you mean 'RS'?)"),
    ("--train_neg_sample_args.sample_number=2", "(did you mean 'sample_num'?)"),
    ("--train_neg_sample_args.distributon=uniform", "(did you mean 'distribution'?)"),
    ("--train_neg_sample_args='{candidates_num: 3}'", "(did you mean 'candidate_num'?)"),
    ("--clip_grad_norm='{maxnorm: 5}'", "(did you mean 'max_norm'?)"),
    ("--load_col='{inters: [user_id, item_id]}'", "(did you mean 'inter'?)"),
    ("--discretization='{rating: {method: ED, buckets: 3}}'", "(did you mean 'bucket'?)"),
    ("--teacher_settings.n_layer=2 -m LightGNN", "(did you mean 'n_layers'?)"),
]
INTERVALS = [
    ("--user_inter_num_interval=5", "--user_inter_num_interval='[5,inf)'"),
    ("--user_inter_num_interval='>=5'", "--user_inter_num_interval='[5,inf)'"),
    ("--user_inter_num_interval=5,inf", "--user_inter_num_interval='[5,inf)'"),
    ("--user_inter_num_interval=5-20", "--user_inter_num_interval='[5,20]'"),
    ("--item_inter_num_interval='[5,inf'", "--item_inter_num_interval='[5,inf)'"),
    ("--item_inter_num_interval='[20,5]'", "--item_inter_num_interval='[5,20]'"),
    ("--item_inter_num_interval='(5,5)'", "--item_inter_num_interval='[5,5]'"),
    ("--item_inter_num_interval='[5;inf)'", "--item_inter_num_interval='[5,inf)'"),
    ("--entity_kg_num_interval='[a,b]' -m CKE", "--entity_kg_num_interval='[5,inf)'"),
    ("--relation_kg_num_interval='{min: 5}' -m CKE", "--relation_kg_num_interval='[5,inf)'"),
    ("--val_interval='{rating: 3}'", "--val_interval=\"{rating: '[3,inf)'}\""),
    ("--val_interval='{rating: \"3,inf\"}'", "--val_interval=\"{rating: '[3,inf)'}\""),
    ("--val_interval='{item_id: [17]}'", "--val_interval=\"{item_id: ['17']}\""),
    ("--val_interval='{user_id: \"[u1,u2]\"}'", "--val_interval=\"{user_id: ['u1', 'u2']}\""),
    ("--val_interval.timestamp=2023-11-14", "--val_interval=\"{timestamp: '[2023-11-14,inf)'}\""),
    (
        "--val_interval.timestamp='[2023-11-15,2023-11-14]'",
        "--val_interval=\"{timestamp: '[2023-11-14,2023-11-15]'}\"",
    ),
    (
        "--val_interval.timestamp='[2023-11-14,2023-11-15]'",
        "--val_interval=\"{timestamp: '[2023-11-14,2023-11-15]'}\"",
    ),
    ("--val_interval.timestamp='(5,4);[1,inf)'", "--val_interval=\"{timestamp: '[4,5]'}\""),
    ("--val_interval.rating=3", "--val_interval=\"{rating: '[3,inf)'}\""),
    ("--val_interval='rating>3'", "--val_interval=\"{rating: '[3,inf)'}\""),
]
SPLITS = [
    ("--eval_args.split='{RS: [0.8, 0.2]}'", SPLIT),
    ("--eval_args.split='{RS: [80, 10, 5, 5]}'", SPLIT),
    ("--eval_args.split='{RS: [0.8, 0.3, -0.1]}'", SPLIT),
    ("--eval_args.split='{RS: 0.8}'", SPLIT),
    ("--eval_args.split='{RS: [a, b, c]}'", SPLIT),
    ("--eval_args.split='[0.8, 0.1, 0.1]'", SPLIT),
    ("--eval_args.split=RS", SPLIT),
    ("--eval_args.split='{}'", SPLIT),
    ("--eval_args.split='{TS: [0.8, 0.2]}'", SPLIT.replace("RS", "TS")),
    ("--eval_args.split='{LS: test}'", LEFT),
    ("--eval_args.split='{LS: 1}'", LEFT),
    ("--eval_args.split='{LS: [0.8, 0.1, 0.1]}'", LEFT),
    ("--eval_args.split='{RS: [0.8, 0.1, 0.1], LS: valid_and_test}'", f"{SPLIT} or {LEFT}"),
]
MODES = [
    ("--eval_args.mode=uni-5", "--eval_args.mode=uni5"),
    ("--eval_args.mode=uni_100", "--eval_args.mode=uni100"),
    ("--eval_args.mode=uniform100", "--eval_args.mode=uni100"),
    ("--eval_args.mode=UNI100", "--eval_args.mode=uni100"),
    ("--eval_args.mode=uni", "--eval_args.mode=uni100"),
    ("--eval_args.mode=uni0", "--eval_args.mode=uni100"),
    ("--eval_args.mode=popularity20", "--eval_args.mode=pop20"),
    ("--eval_args.mode='pop 20'", "--eval_args.mode=pop20"),
    ("--eval_args.mode=Full", "--eval_args.mode=full"),
    ("--eval_args.mode=ful", "--eval_args.mode=full"),
    ("--eval_args.mode=100", "--eval_args.mode=uni100"),
    ("--eval_args.mode='{valid: uni-5, test: full}'", "--eval_args.mode=uni5"),
]
PARTS = "--benchmark_filename='[train, valid, test]'"
LEAVE = ": leave it out"
WITHOUT_EFFECT = [
    (f"--rm_dup_inter=first {PARTS}", "again; leave it out, or import the table with `recbole-"),
    (f"--split_seed=3 {PARTS}", "again; leave it out, or import the table with `recbole-"),
    (f"--eval_args.order=TO {PARTS}", "again; leave it out, or import the table with `recbole-"),
    ("--eval_args.split='{LS: valid_and_test}' --eval_args.group_by=none", LEAVE),
    ("--preload_weight='{item_id: vector}'", LEAVE),
    ("--valid_metric_bigger=False", LEAVE),
    ("--threshold='{rating: 3}' --load_col='{inter: [user_id, item_id, rating]}'", "--threshold="),
    ("--metric_decimal_place=3 -m LightGNNTeacher", LEAVE),
    ("--seq_len='{class: 3}' -m LightGNNTeacher", LEAVE),
    ("--numerical_features='[rating]' -m LightGNNTeacher", LEAVE),
    ("--batch_by=user --shuffle=False -m LightGNNTeacher", "or write --batch_by=interaction"),
    ("--teacher_settings.require_pow=True -m LightGNN", LEAVE),
    ("--intermediate_settings.loss_decimal_place=2 -m LightGNN", LEAVE),
    ("--require_pow=True", LEAVE),
    ("--MAX_ITEM_LIST_LENGTH=10", LEAVE),
    ("--kg_reverse_r=True -m SASRec", LEAVE),
    ("--normalize_all=True", LEAVE),
    ("--teacher=EASE --teacher_settings.epochs=3 -m LightGNN", LEAVE),
    ("--use_intermediate=False --intermediate_settings.epochs=3 -m LightGNN", "leave one of them"),
    ("--discretization='{age: {method: LD}}' -m FM", '--numerical_features="[age]"'),
]
AUC, LOGLOSS = (
    "--metrics='[AUC]' --valid_metric=AUC",
    "--metrics='[LogLoss]' --valid_metric=LogLoss",
)
UNI, LABELED = "--eval_args.mode=uni5", "--eval_args.mode=labeled"
MISMATCHES = [
    (AUC, "--eval_args.mode=uni100"),
    (f"{AUC} -m LightGNN", "--eval_args.mode=uni100"),
    (f"{AUC} -m GRU4Rec", "--eval_args.mode=uni100"),
    ("--metrics='[RMSE]' --valid_metric=RMSE", "--eval_args.mode=uni100"),
    (f"{LABELED} -m BPR", "--eval_args.mode=full"),
    (f"{LABELED} -m LightGNN", "--eval_args.mode=full"),
    ("--metrics='[Recall]' --valid_metric=Recall@10 -m FM", "--eval_args.mode=full"),
    (f"{AUC} {LABELED} -m LightGNNTeacher", "--eval_args.mode=uni100"),
    (f"--metrics='[Recall, AUC]' {UNI}", '--metrics="[Recall]" --valid_metric=Recall@10'),
    ("--metrics='[AUC, NDCG]' -m DCN", '--metrics="[AUC]" --valid_metric=AUC'),
    (f"{LOGLOSS} {UNI}", '--metrics="[AUC]" --valid_metric=AUC'),
    (f"{LOGLOSS} {UNI} -m LightGNN", '--metrics="[AUC]" --valid_metric=AUC'),
    ("--train_neg_sample_args=None", "leave the setting out"),
    ("--train_neg_sample_args=None -m LightGNNTeacher", "leave the setting out"),
    ("--train_neg_sample_args.sample_num=2 -m SASRec", "--loss_type=BPR"),
]


def refused(typed, capsys, *more):
    model = [] if "-m " in typed else ["-m", "BPR"]
    assert main(["run", "-d", "toy", *model, *shlex.split(typed), *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    return lines[-1]


def followed_or_left_out(typed, line):
    """Follow each remedy of a line; without one in flags, leave the first setting out."""
    words = shlex.split(typed)
    model = words.pop() if "-m" in words else "BPR"
    flags = [word for word in words if word != "-m"]
    given = read_settings(flags)
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(given, remedy))
    if line.endswith((LEAVE, "leave the setting out")):
        build_config(
            model, "toy", (), read_settings(flags[1:] if "LS" not in flags[0] else flags[:1])
        )


@pytest.mark.parametrize(("typed", "remedy"), UNKNOWN_INNER_KEYS)
def test_ten_unknown_inner_keys(typed, remedy, capsys):
    assert remedy in refused(typed, capsys)


@pytest.mark.parametrize(("typed", "remedy"), INTERVALS)
def test_ten_wrong_intervals(typed, remedy, capsys):
    line = refused(typed, capsys, "--load_col={inter: [user_id, item_id, rating]}")
    assert f"write {remedy}" in line
    followed_or_left_out(f"--load_col='{{inter: [user_id, item_id, rating]}}' {typed}", line)


@pytest.mark.parametrize(("typed", "remedy"), SPLITS)
def test_ten_wrong_splits(typed, remedy, capsys):
    line = refused(typed, capsys)
    assert line.endswith(f"write {remedy}")
    followed_or_left_out(typed, line)


@pytest.mark.parametrize(("typed", "remedy"), MODES)
def test_ten_wrong_modes(typed, remedy, capsys):
    line = refused(typed, capsys)
    assert line.endswith(f"write {remedy}")
    followed_or_left_out(typed, line)


@pytest.mark.parametrize(("typed", "remedy"), WITHOUT_EFFECT)
def test_ten_settings_without_effect(typed, remedy, capsys):
    line = refused(typed, capsys)
    assert " would have no effect " in line
    assert remedy in line
    followed_or_left_out(typed, line)


@pytest.mark.parametrize(("typed", "remedy"), MISMATCHES)
def test_ten_metrics_that_mode_and_model_cannot_give(typed, remedy, capsys):
    line = refused(typed, capsys)
    assert remedy in line
    followed_or_left_out(typed, line)


# --- the column of times ----------------------------------------------------------------------

RANDOM, NO_SEQUENCES = "write --eval_args.order=RO", "choose a model that is not sequential"
WITHOUT_TIMES = [
    ("BPR", "--eval_args.order=TO", RANDOM),
    ("NeuMF", "--eval_args.order=TO --eval_args.split='{LS: valid_and_test}'", RANDOM),
    ("MultiVAE", "--eval_args.split='{TS: [0.8, 0.1, 0.1]}'", f"{RANDOM} {SPLIT}"),
    ("ItemKNN", "--eval_args.split='{TS: [8, 1, 1]}' --eval_args.order=TO", f"{RANDOM} {SPLIT}"),
    ("LightGNNTeacher", "--eval_args.order=TO", RANDOM),
    ("LightGNN", "--eval_args.order=TO --eval_args.group_by=none", RANDOM),
    ("DiffRec", "--time-aware=True", "write --time-aware=False"),
    ("LDiffRec", "--time-aware=True", "write --time-aware=False"),
    ("GRU4Rec", "", NO_SEQUENCES),
    ("SASRec", "--TIME_FIELD=timestamp", NO_SEQUENCES),
    ("BERT4Rec", "--eval_args.order=TO", NO_SEQUENCES),
    ("FPMC", "--eval_args.split='{RS: [8, 1, 1]}'", NO_SEQUENCES),
]


@pytest.mark.parametrize(("model", "typed", "remedy"), WITHOUT_TIMES)
def test_ten_runs_without_the_column_of_times(model, typed, remedy, settings, capsys):
    shared = {key: settings[key] for key in ("show_progress", "state", "data_path")}
    shared |= {"topk": [5], "valid_metric": "NDCG@5", "epochs": 1, "checkpoint_dir": "saved"}
    flags = [f"--{key}={value}" for key, value in shared.items()]
    assert main(["run", "-m", model, "-d", "small", *flags, *shlex.split(typed)]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert "small.inter, line 1: no column 'timestamp' (setting TIME_FIELD), which " in line
    assert line.endswith(f": name the column of times by TIME_FIELD, or {remedy}")
    for followed_one in remedies(line):
        given = followed(read_settings(shlex.split(typed)), followed_one)
        data = load_data(configure(model, "small", settings={**shared, **given}))
        assert len(data) == 3


def test_every_kind_has_ten_variants():
    kinds = (
        UNKNOWN_INNER_KEYS,
        INTERVALS,
        SPLITS,
        MODES,
        WITHOUT_EFFECT,
        MISMATCHES,
        WITHOUT_TIMES,
    )
    assert min(map(len, kinds)) >= 10


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("--val_interval.rating='[4,inf)'", {"rating": "[4,inf)"}),
        ("--val_interval.rating=\"'[4,inf)'\"", {"rating": "[4,inf)"}),
        ("--val_interval.rating=[4,5]", {"rating": [4, 5]}),
        ("--val_interval.t='[1,2);[3,inf)' --val_interval.user_id=[u1]",
         {"t": "[1,2);[3,inf)", "user_id": ["u1"]}),
    ],
)  # fmt: skip
def test_a_column_of_val_interval_may_be_given_alone(typed, value):
    assert read_settings(shlex.split(typed)) == {"val_interval": value}


@pytest.mark.parametrize("typed", ["=1", "=None", ".rating=[1,2]", "={rating: [1, 2]}"])
def test_val_interval_that_is_given_twice_is_refused(typed):
    column = "--val_interval.rating=[3,4]"
    for given in ([f"--val_interval{typed}", column], [column, f"--val_interval{typed}"]):
        with pytest.raises(InputError, match="--val_interval is given twice"):
            read_settings(given)
