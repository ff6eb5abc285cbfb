"""Intervals, splits, modes and columns: what is read, and what the message offers in its place."""

import pytest

from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.config.intervals import interval_like, interval_problem
from recbole_lightgnn.config.notations import NOTATIONS
from recbole_lightgnn.errors import InputError


@pytest.mark.parametrize(
    "text",
    ["[5,inf)", "[ 5 , inf )", "(5,20]", "[5,5]", "[-inf,3.5)", "[1e3,2e3]", "[0,1);(3,4]"],
)
def test_an_interval_is_read(text):
    assert interval_problem(text) == ""
    NOTATIONS["interval"]("key", text)


def test_what_yaml_makes_of_an_interval_in_square_brackets_is_read():
    NOTATIONS["interval"]("key", [5, 20])
    NOTATIONS["interval"]("key", (5, 20.5))


@pytest.mark.parametrize(
    ("value", "offered"),
    [
        (5, "[5,inf)"),
        ("5", "[5,inf)"),
        (">=5", "[5,inf)"),
        ("3,inf", "[3,inf)"),
        ("5,20", "[5,20]"),
        ("[20,5]", "[5,20]"),
        ("5-20", "[5,20]"),
        ("-5 to 20", "[-5,20]"),
        ("[5,inf", "[5,inf)"),
        ("[5;20]", "[5,20]"),
        ("(5,5)", "[5,5]"),
        ("[a,b]", "[5,inf)"),
        ("", "[5,inf)"),
        ("[5,inf);", "[5,inf)"),
        ([5], "[5,inf)"),
        ([5, "inf"], "[5,inf)"),
        (True, "[5,inf)"),
        ({}, "[5,inf)"),
        ("[nan,3]", "[3,inf)"),
    ],
)
def test_what_is_no_interval_is_refused_with_one_that_is(value, offered):
    with pytest.raises(InputError) as error:
        NOTATIONS["interval"]("user_inter_num_interval", value)
    assert f"--user_inter_num_interval='{offered}'" in str(error.value)
    assert interval_problem(interval_like(value)) == ""


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("values by column", [{}, {"rating": "[3,inf)"}, {"item_id": ["17", "20"]}]),
        ("values by column", [{"rating": [3, 5]}]),
        ("threshold", [{"rating": 4}, {"rating": 3.5}]),
        ("split", [{"RS": [0.8, 0.1, 0.1]}, {"RS": [8, 1, 1]}, {"LS": "valid_and_test"}]),
        ("split", [{"TS": [0.8, 0.1, 0.1]}]),
        ("mode", ["full", "labeled", "uni100", "pop1", {"valid": "uni5", "test": "full"}]),
        ("columns", [{}, {"inter": ["user_id"]}, {"inter": ["a"], "item": "*"}]),
        ("list of columns", [[], ["age"], ["age", "year"], "age", ("age",)]),
        ("columns by column", [{}, {"ent_id": "ent_emb"}, {"a": "b", "c": "d"}]),
        ("lengths", [{}, {"class": 1}, {"class": 3, "genre": 50}]),
        ("buckets", [{}, {"rating": {"method": "ED", "bucket": 5}}, {"age": {"method": "LD"}}]),
        ("gpus", [0, "0", "0,1", " 0, 1", "", -1, "-1", (0, 1), "GPU-8a-b", "MIG-GPU-8/1/0"]),
        ("encoding", ["utf-8", "UTF8", "latin1", "cp1252", "gbk", "utf-8-sig"]),
    ],
)
def test_a_value_in_its_notation_is_read(kind, good):
    for value in good:
        NOTATIONS[kind]("key", value)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("values by column", "rating>3", "key must be a mapping from columns to intervals"),
        ("values by column", {"rating": "3,inf"}, "--key=\"{rating: '[3,inf)'}\""),
        ("values by column", {"rating": 3}, "--key=\"{rating: '[3,inf)'}\""),
        ("values by column", {"item_id": [7, 8, 9]}, "--key=\"{item_id: ['7', '8', '9']}\""),
        ("values by column", {"item_id": []}, "key.item_id must be an interval, or a list"),
        ("values by column", {"item_id": None}, "key.item_id must be an interval, or a list"),
        ("threshold", 4, '--key="{rating: 4}"'),
        ("threshold", {"rating": "4"}, "key must be a mapping from one column to a number"),
        ("threshold", {"rating": 4, "x": 1}, "key must be a mapping from one column to a number"),
        ("threshold", {}, "key must be a mapping from one column to a number"),
        ("split", {"RS": [0.8, 0.2]}, "key.RS must be three shares, of training, validation and"),
        ("split", {"RS": [0.8, 0.3, -0.1]}, "three shares"),
        ("split", {"RS": [0, 0, 0]}, "three shares"),
        ("split", {"RS": "0.8,0.1,0.1"}, "three shares"),
        ("split", {"RS": [0.8, 0.1, 0.1], "LS": "valid_and_test"}, "got RS and LS"),
        ("split", {"LS": "valid"}, "key.LS must be valid_and_test, got 'valid'"),
        ("split", {"LS": [0.8, 0.1, 0.1]}, "key.LS must be valid_and_test"),
        ("split", {"SR": [0.8, 0.1, 0.1]}, "key must be one of RS, LS, TS, got 'SR' (did you mean"),
        ("split", [0.8, 0.1, 0.1], "key must be a mapping with one of RS, LS, TS"),
        ("split", {}, "key must be a mapping with one of RS, LS, TS"),
        ("mode", "uni-5", "--key=uni5"),
        ("mode", "uniform100", "--key=uni100"),
        ("mode", "popular50", "--key=pop50"),
        ("mode", "uni", "--key=uni100"),
        ("mode", "uni0", "--key=uni100"),
        ("mode", "Full", "--key=full"),
        ("mode", "labelled", "--key=labeled"),
        ("mode", 100, "--key=uni100"),
        ("mode", {}, "--key=full"),
        (
            "mode",
            {"valid": "uni5", "test": "uni 9"},
            "key.test must be full, labeled, uniN or popN",
        ),
        ("mode", {"vaild": "uni5"}, "key must be one of valid, test, got 'vaild' (did you mean "),
        ("columns", ["user_id"], '--key="{inter: [user_id, item_id]}"'),
        ("columns", {"inter": "rating"}, '--key="{inter: [user_id, item_id, rating]}"'),
        ("columns", {"item": None}, "key.item must be a list of columns, or '*' for all, got None"),
        ("columns", {"inter": [1]}, "key.inter must be a list of columns, or '*' for all, got [1]"),
        ("list of columns", 3, "key must be a list of columns, got 3"),
        ("list of columns", [1], "key must be a list of columns, got [1]"),
        ("list of columns", {"age": 1}, "key must be a list of columns, got {'age': 1}"),
        ("list of columns", None, "key must be a list of columns, got None"),
        ("columns by column", "ent_emb", '--key="{item_id: item_emb}"'),
        ("columns by column", {"ent_id": ["ent_emb"]}, "key must be a mapping from columns of tok"),
        ("columns by column", {"ent_id": None}, "key must be a mapping from columns of tokens to"),
        ("columns by column", {3: "ent_emb"}, "key must be a mapping from columns of tokens to"),
        ("lengths", 3, '--key="{class: 3}"'),
        ("lengths", "x", '--key="{class: 3}"'),
        ("lengths", {"genre": 0}, '--key="{genre: 3}"'),
        ("lengths", {"genre": "2"}, '--key="{genre: 3}"'),
        ("lengths", {"genre": 1.5}, "key must be a mapping from columns to integers >= 1, got"),
        ("lengths", {"genre": True}, "key must be a mapping from columns to integers >= 1, got"),
        ("lengths", {"genre": [2]}, "key must be a mapping from columns to integers >= 1, got"),
        ("buckets", "ED", '--key="{rating: {method: ED, bucket: 5}}"'),
        (
            "buckets",
            {"age": "ED"},
            "key.age must be a mapping with a method, got 'ED': write --key=",
        ),
        ("buckets", {"age": {"bucket": 5}}, '--key="{age: {method: ED, bucket: 5}}"'),
        (
            "buckets",
            {"age": {"method": "ED"}},
            "key.age.bucket must be an integer >= 1 with method",
        ),
        (
            "buckets",
            {"age": {"method": "ED", "bucket": 0}},
            "an integer >= 1 with method ED, got 0",
        ),
        (
            "buckets",
            {"age": {"method": "ED", "bucket": "5"}},
            "with method ED, got '5': write --key",
        ),
        ("buckets", {"age": {"method": "ED", "buckets": 5}}, "'buckets' (did you mean 'bucket'?)"),
        (
            "buckets",
            {"age": {"method": "DE", "bucket": 5}},
            "one of ED, LD, got 'DE' (did you mean",
        ),
        ("buckets", {"age": {"method": 3}}, "key.age.method must be one of ED, LD, got 3"),
        ("buckets", {"age": {"method": "LD", "bucket": 5}}, '--key="{age: {method: LD}}"'),
        ("gpus", [0, 1], "--key=0,1"),
        ("gpus", "0;1", "--key=0,1"),
        ("gpus", "cuda:1", "--key=1"),
        ("gpus", "all", "--key=0"),
        ("gpus", -2, "--key=2"),
        ("gpus", 0.5, "key must be the number of a GPU, or several with commas, got 0.5"),
        ("gpus", True, "key must be the number of a GPU, or several with commas, got True"),
        ("gpus", {}, "--key=0"),
        (
            "encoding",
            "utf-9",
            "key must be an encoding that Python knows, such as utf-8, got 'utf-9'",
        ),
        ("encoding", "latin-11", "(did you mean 'latin_1'?)"),
        ("encoding", "", "got ''"),
        ("encoding", 8, "got 8"),
        ("encoding", "hex", "got 'hex'"),
        ("encoding", "utf\0", "key must be an encoding that Python knows"),
    ],
)
def test_a_value_in_no_notation_is_refused_with_one_that_works(kind, value, message):
    with pytest.raises(InputError) as error:
        NOTATIONS[kind]("key", value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- what the shell and YAML make of it -------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--user_inter_num_interval=[5,inf)", "[5,inf)"),
        ("--user_inter_num_interval=(5,20)", "(5,20)"),
        ("--user_inter_num_interval=[5,20]", "[5,20]"),
        ("--user_inter_num_interval='[5,inf)'", "[5,inf)"),
        ("--item_inter_num_interval=5", "5"),
        ("--item_inter_num_interval=None", None),
        ("--field_separator=,", ","),
        ("--field_separator=','", ","),
        ("--field_separator=;", ";"),
        ("--field_separator=|", "|"),
        ("--field_separator=::", "::"),
        ("--field_separator=\t", "\t"),
        ('--field_separator="\\t"', "\t"),
        ("--seq_separator= ", " "),
        ("--seq_separator=-", "-"),
        ("--seq_separator=~", "~"),
        ("--eval_args.order=TO", "TO"),
    ],
)
def test_signs_that_yaml_reads_otherwise_are_kept(argument, value):
    assert list(read_settings([argument]).values()) == [value]


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("--val_interval={rating: [3,inf)}", "--val_interval=\"{rating: '[3,inf)'}\""),
        ("--val_interval={a: (3,4], b: [1,2]}", "--val_interval=\"{a: '(3,4]', b: '[1,2]'}\""),
        ("--topk=[1", "put text in quotes"),
    ],
)
def test_what_is_not_yaml_is_refused_with_the_quoting(argument, advice):
    with pytest.raises(InputError) as error:
        read_settings([argument])
    assert str(error.value).endswith(advice)


def test_an_interval_in_a_file_needs_quotes_and_the_message_says_so(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("epochs: 3\nuser_inter_num_interval: [5,inf)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"put an interval in quotes, such as '\[5,inf\)'$"):
        read_yaml(file)
    file.write_text("topk: [5\n", encoding="utf-8")
    with pytest.raises(InputError, match="is not YAML") as error:
        read_yaml(file)
    assert "quotes" not in str(error.value)
