"""Orders by time are exact, whatever the unit and the type of the column: RecBole's are not."""

import datetime
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.times import WRITTEN
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from recbole.data import create_dataset

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError

QUIET = {"show_progress": False, "state": "ERROR", "use_gpu": False, "topk": [2]}
QUIET |= {"valid_metric": "NDCG@2", "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id"}
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
BY_TIME = {"eval_args": {**LEAVE_ONE_OUT, "mode": "full"}}


def write(rows, folder, kind="float"):
    """Write (user, item, time) rows as dataset d."""
    lines = [f"user_id:token\titem_id:token\ttimestamp:{kind}"]
    lines += ["\t".join(map(str, row)) for row in rows]
    Path(folder, "d").mkdir(parents=True, exist_ok=True)
    Path(folder, "d", "d.inter").write_text("\n".join([*lines, ""]))


def loaded(folder, model="BPR", **settings):
    given = {**QUIET, "data_path": str(folder), "checkpoint_dir": str(folder), **settings}
    if model == "SASRec":
        given["loss_type"] = "BPR"
    return create_dataset(build_config(model, "d", (), given))


def rows_of(part):
    """(user, item) of a split's rows, in its order."""
    inter = part.inter_feat
    users = part.id2token("user_id", inter["user_id"])
    return list(
        zip(users.tolist(), part.id2token("item_id", inter["item_id"]).tolist(), strict=True)
    )


def last_two(rows):
    """The last item and the one before of each user, by a plain stable sort."""
    ordered = sorted(rows, key=lambda row: row[2])
    items = {row[0]: [r[1] for r in ordered if r[0] == row[0]] for row in rows}
    return {u: i[-1] for u, i in items.items()}, {u: i[-2] for u, i in items.items()}


def close_times(start, step, n_users=6, n_items=5):
    """Times ``step`` apart, in an order in the file that is not theirs."""
    draw = np.random.default_rng(0)
    pairs = draw.permutation(n_users * n_items)
    rows = [(f"u{p % n_users}", f"i{p // n_users}", start + step * n) for n, p in enumerate(pairs)]
    return [rows[n] for n in draw.permutation(len(rows))]


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize("written", WRITTEN)
def test_leave_one_out_takes_the_last_item_in_every_unit(tmp_path, written, kind):
    rows = close_times(0, 1)
    write([(u, i, WRITTEN[written](t)) for u, i, t in rows], tmp_path, kind)
    _, valid, test = loaded(tmp_path, **BY_TIME).build()
    assert (dict(rows_of(test)), dict(rows_of(valid))) == last_two(rows)


@pytest.mark.parametrize("kind", ["float", "token"])
def test_sequences_and_their_targets_are_in_the_order_of_time(tmp_path, kind):
    rows = close_times(1_600_000_000, 7)
    write(rows, tmp_path, kind)
    train, valid, test = loaded(tmp_path, "SASRec", **BY_TIME).build()
    assert (dict(rows_of(test)), dict(rows_of(valid))) == last_two(rows)
    items = train.field2id_token["item_id"]
    for part in (train, valid, test):
        inter = part.inter_feat
        for nth, (user, item) in enumerate(rows_of(part)):
            length = int(inter["item_length"][nth])
            sequence = items[inter["item_id_list"][nth, :length].numpy()].tolist()
            order = [i for u, i, _ in sorted(rows, key=lambda row: row[2]) if u == user]
            assert [*sequence, item] == order[: length + 1]


TIME = st.one_of(
    st.integers(0, 3),  # ties
    st.integers(1_600_000_000, 1_600_000_300),
    st.integers(1_600_000_000_000, 1_600_000_000_300),
    st.integers(-(2**53), 2**60),
)


@st.composite
def any_rows(draw):
    kind = draw(st.sampled_from(["integers", "floats", "dates"]))
    pairs = [(f"u{u}", f"i{i}") for u in range(3) for i in range(6)]
    pairs = draw(st.permutations(pairs))[: draw(st.integers(9, 18))]
    times = {
        "integers": TIME,
        "floats": st.floats(-1e15, 1e15).filter(lambda t: t == t),
        "dates": st.datetimes(datetime.datetime(1700, 1, 1)),
    }[kind]
    one = draw(st.lists(times, min_size=2, max_size=6))
    return [(u, i, draw(st.sampled_from(one))) for u, i in pairs]


@given_settings(max_examples=30, deadline=None)
@given(any_rows(), st.sampled_from(["float", "token"]), st.sampled_from(["BPR", "SASRec"]))
def test_any_times_sort_as_a_plain_sort(rows, kind, model):
    written = [(u, i, t.isoformat() if hasattr(t, "isoformat") else repr(t)) for u, i, t in rows]
    counts = {u: sum(r[0] == u for r in rows) for u, _, _ in rows}
    if model == "SASRec":  # the first item of a user is no target
        first = {u: min((r for r in rows if r[0] == u), key=lambda r: r[2]) for u in counts}
        left = [row for row in rows if row is not first[row[0]]]
        counts, targets = {u: c - 1 for u, c in counts.items()}, left
    else:
        targets = rows
    with tempfile.TemporaryDirectory() as folder:
        write(written, folder, kind)
        dataset = loaded(folder, model, **BY_TIME)
        dataset._change_feat_format()
        dataset.sort(by="timestamp")
        seen = rows_of(dataset)
    if model == "BPR":
        assert seen == [row[:2] for row in sorted(targets, key=lambda row: row[2])]
    for user in counts:
        own = sorted((row for row in targets if row[0] == user), key=lambda row: row[2])
        assert [pair for pair in seen if pair[0] == user] == [row[:2] for row in own]
    times = {(u, i): t for u, i, t in rows}
    assert [times[pair] for pair in seen] == sorted(times[pair] for pair in seen)


@pytest.mark.parametrize("order", ["TO", "RO"])
def test_a_split_by_time_has_every_later_row_in_test(tmp_path, order):
    from recbole.data.dataset import Dataset

    if not hasattr(Dataset, "time_based_split"):
        pytest.skip("RecBole 1.2.0 has no split TS")
    rows = close_times(1_600_000_000, 7)
    write(rows, tmp_path)
    args = {"split": {"TS": [0.6, 0.2, 0.2]}, "order": order, "group_by": "user", "mode": "full"}
    train, valid, test = loaded(tmp_path, eval_args=args).build()
    by_time = [row[:2] for row in sorted(rows, key=lambda row: row[2])]
    # The boundary is the 80th percentile of 30 times, which lies between the 24th and the 25th.
    assert set(rows_of(test)) == set(by_time[24:])
    assert set(rows_of(train)) | set(rows_of(valid)) == set(by_time[:24])
    times = {(u, i): t for u, i, t in rows}
    for part in (train, valid, test):
        assert part.inter_feat["timestamp"].tolist() == [times[pair] for pair in rows_of(part)]
    for user in {u for u, _, _ in rows}:
        last = max(times[p] for p in rows_of(train) if p[0] == user)
        assert all(times[p] > last for p in rows_of(valid) if p[0] == user)


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize("keep", ["first", "last"])
def test_of_repeated_pairs_the_first_or_last_in_time_is_kept(tmp_path, keep, kind):
    # Ties are in the order of the file. Few rows would not tell: sorts of 16 are always stable.
    rows = [("u1", f"i{n % 7}", 99_990 + n * 5 % 17, n) for n in range(999)]
    (tmp_path / "d").mkdir()
    header = f"user_id:token\titem_id:token\ttimestamp:{kind}\trow:float"
    text = "\n".join([header, *("\t".join(map(str, row)) for row in rows), ""])
    (tmp_path / "d" / "d.inter").write_text(text)
    load_col = {"inter": ["user_id", "item_id", "timestamp", "row"]}
    dataset = loaded(tmp_path, rm_dup_inter=keep, load_col=load_col)
    ordered = sorted(rows, key=lambda row: row[2])
    kept = {row[1]: row[3] for row in (ordered if keep == "last" else reversed(ordered))}
    assert (
        dict(
            zip(
                dataset.id2token("item_id", dataset.inter_feat["item_id"]),
                dataset.inter_feat["row"],
                strict=True,
            )
        )
        == kept
    )


def test_the_time_is_loaded_where_an_order_needs_it_and_the_log_says_so(tmp_path, caplog):
    rows = close_times(1_600_000_000, 7)
    write(rows, tmp_path)
    needs = [("BPR", BY_TIME), ("SASRec", BY_TIME), ("DiffRec", {"time-aware": True})]
    for model, settings in needs:
        for columns in (
            {"load_col": {"inter": ["user_id", "item_id"]}},
            {"load_col": None, "unload_col": {"inter": ["timestamp"]}},
        ):
            caplog.clear()
            with caplog.at_level(logging.INFO):
                assert "timestamp" in loaded(tmp_path, model, **settings, **columns).inter_feat
            said = [r.message for r in caplog.records if "timestamp is loaded" in r.message]
            assert len(said) == 1
            assert " needs it" in said[0]
    with caplog.at_level(logging.INFO):
        caplog.clear()
        assert (
            "timestamp"
            not in loaded(tmp_path, load_col={"inter": ["user_id", "item_id"]}).inter_feat
        )
        assert "timestamp" not in caplog.text


BAD = {
    "text": ("soon", "float", "'soon' is not a finite number; expected a number, or dates"),
    "no number": ("nan.5", "token", "is not a finite number"),
    "infinite": ("inf", "float", "is not a finite number"),
    "missing": ("", "float", "no time; expected a time"),
    "missing token": ("", "token", "no time; expected a time"),
    "a word for missing": ("NA", "token", "'NA' is not a finite number"),
    "a date below numbers": ("2020-01-01", "float", "'2020-01-01' is not a finite number"),
    "underscores": ("1_600_000_000", "token", "is not a finite number"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_time_is_refused_with_its_line(tmp_path, bad):
    text, kind, said = BAD[bad]
    rows = close_times(1_600_000_000, 7)
    write([*rows[:3], (*rows[3][:2], text), *rows[4:]], tmp_path, kind)
    with pytest.raises(InputError, match=r"d\.inter, line 5: timestamp ") as error:
        loaded(tmp_path, **BY_TIME)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_date_below_dates_is_refused(tmp_path):
    write([("u1", "i1", "2020-01-01"), ("u1", "i2", "2020-02-30"), ("u1", "i3", 5)], tmp_path)
    with pytest.raises(InputError, match="line 3: timestamp '2020-02-30' is not a date; expected"):
        loaded(tmp_path, **BY_TIME)


def test_a_file_without_times_cannot_be_ordered_by_them(tmp_path):
    write(close_times(1_600_000_000, 7), tmp_path)
    for field in ("time", None):
        with pytest.raises(InputError, match=r"line 1: no column .* eval_args\.order=TO needs"):
            loaded(tmp_path, TIME_FIELD=field, **BY_TIME)
    coarse = {
        "discretization": {"timestamp": {"method": "LD"}},
        "numerical_features": ["timestamp"],
    }
    with pytest.raises(InputError, match="discretization must not name 'timestamp'"):
        loaded(tmp_path, "DMF", **coarse, **BY_TIME)


def test_without_an_order_by_time_the_column_stays_as_declared(tmp_path):
    rows = [("u1", f"i{n}", "noon" if n % 2 else "night") for n in range(9)]
    write(rows, tmp_path, "token")
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    assert loaded(tmp_path, **columns).num("timestamp") == 3  # with padding
    write([(u, i, "" if i == "i3" else n) for n, (u, i, _) in enumerate(rows)], tmp_path)
    assert loaded(tmp_path, **columns).inter_feat["timestamp"][3] == 33 / 8  # RecBole fills


def test_time_aware_diffrec_weighs_items_by_their_exact_times(tmp_path):
    from recbole.utils import get_model

    rows = [r for r in close_times(1_600_000_000, 7) if r[0][1] != r[1][1]]
    write(rows, tmp_path)
    given = {**QUIET, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path)}
    config = build_config("DiffRec", "d", (), given | {"time-aware": True, "seed": 3})
    train = loaded(tmp_path, "DiffRec", **{"time-aware": True}).build()[0]
    model = get_model("DiffRec")(config, train)
    times = {(u, i): t for u, i, t in rows}
    for user in range(1, train.user_num):
        items = model.history_item_id[user].tolist()
        weights = dict(zip(items, model.history_item_value[user].tolist(), strict=True))
        weights.pop(0, None)  # padding
        names = train.field2id_token
        key = {i: times[names["user_id"][user], names["item_id"][i]] for i in weights}
        assert sorted(weights, key=weights.get) == sorted(key, key=key.get)


@pytest.mark.parametrize("model", ["FM", "DIN"])
def test_a_model_that_embeds_times_gets_them_as_float32_after_an_exact_order(tmp_path, model):
    import torch
    from recbole.utils import get_model, init_seed

    rows = [r for r in close_times(1_600_000_000, 7) if r[0][1] != r[1][1]]  # some item is left
    write([*rows, ("u9", "i8", 1), ("u9", "i9", 2), ("u9", "i7", 3)], tmp_path)
    config = {"numerical_features": ["timestamp"], "normalize_field": ["timestamp"], **BY_TIME}
    config |= {"load_col": None, "valid_metric": "AUC", "metrics": ["AUC"]}
    config["eval_args"] = {**BY_TIME["eval_args"], "mode": "uni5"}
    config |= {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    config |= {"metrics": ["NDCG"], "valid_metric": "NDCG@2", "train_batch_size": 8}
    given = {**QUIET, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path), **config}
    built = build_config(model, "d", (), given)
    init_seed(1, True)
    train, _, test = load_data(built)
    assert test._dataset.inter_feat["timestamp"].dtype == torch.float32
    assert dict(rows_of(test._dataset)) == last_two(rows)[0] | {"u9": "i7"}
    loss = get_model(model)(built, train._dataset).calculate_loss(next(iter(train)))
    assert torch.isfinite(loss)


# --- intervals of times ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize(
    ("written", "interval", "kept"),
    [
        ("{}", "[1700000020,inf)", lambda t: t >= 1_700_000_020),
        ("{}", "(1700000005,1700000020]", lambda t: 5 < t - 1_700_000_000 <= 20),
        ("{}000", "[1700000020000,inf)", lambda t: t >= 1_700_000_020),
        ("date", "[2023-11-14T22:13:40,inf)", lambda t: t >= 1_700_000_020),
        ("date", "[2023-11-14T22:13:40Z,2023-11-14T22:13:45)", lambda t: 20 <= t % 100 < 25),
        ("date", "(-inf,2023-11-14T22:13:25];[2023-11-14T22:13:40,inf)",
         lambda t: t % 100 <= 5 or t % 100 >= 20),
        ("date", "[2023-11-15,inf)", lambda t: False),
    ],
)  # fmt: skip
def test_an_interval_of_times_keeps_what_is_in_it(tmp_path, kind, written, interval, kept):
    rows = close_times(1_700_000_000, 1)
    one = (lambda t: iso(t)) if written == "date" else written.format
    write([(u, i, one(t)) for u, i, t in rows], tmp_path, kind)
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    expected = sorted((u, i) for u, i, t in rows if kept(t))
    settings = {"load_col": columns, "val_interval": {"timestamp": interval}}
    if not expected:
        with pytest.raises(ValueError, match="empty"):
            loaded(tmp_path, **settings)
        return
    assert sorted(rows_of(loaded(tmp_path, **settings))) == expected


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%S"
    )


@pytest.mark.parametrize(
    ("written", "wanted", "facts"),
    [
        (iso, "[1700000020,inf)", "must be an interval of dates, as the column has dates"),
        (str, "[2023-11-14,inf)", "must be an interval of numbers, as the column has numbers"),
        (str, ["1700000020"], "write --val_interval=\"{timestamp: '[1700000020,inf)'}\""),
        (iso, ["2023-11-14", "2023-11-15"], "{timestamp: '[2023-11-14,2023-11-15]'}"),
    ],
)
def test_an_interval_of_the_other_kind_is_refused(tmp_path, written, wanted, facts):
    write([(u, i, written(t)) for u, i, t in close_times(1_700_000_000, 1)], tmp_path)
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    with pytest.raises(InputError) as error:
        loaded(tmp_path, load_col=columns, val_interval={"timestamp": wanted})
    assert facts in str(error.value)


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        (BY_TIME, "needs one: write timestamp:float, or write --eval_args.order=RO"),
        ({"rm_dup_inter": "last"}, "rm_dup_inter needs one: write timestamp:float, or leave"),
    ],
)
def test_several_times_in_a_field_are_refused(tmp_path, settings, facts):
    write([(u, i, f"{t} {t}") for u, i, t in close_times(0, 1)], tmp_path, "float_seq")
    with pytest.raises(InputError) as error:
        loaded(tmp_path, **settings)
    assert "timestamp:float_seq has several times in a field" in str(error.value)
    assert facts in str(error.value)
