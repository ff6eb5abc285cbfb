"""``recbole-lightgnn import pairs``: tables of interactions as delimited text."""

import codecs
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers.imports import ROWS, bring, card_of, everything, imported, lines, refused
from pandas._libs.parsers import STR_NA_VALUES

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data import text
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.names import MISSING, Names, joined
from recbole_lightgnn.data.pair_lines import pairs_hash
from recbole_lightgnn.data.table_layout import KNOWN_COLUMNS
from recbole_lightgnn.errors import InputError

# --- layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", ["::", "\t", ",", ";", "|", " "])
@pytest.mark.parametrize("header", ["", "user_id{0}item_id", "userId{0}movieId", "USER{0}ITEM"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_header_and_line_ends_are_recognized(table, delimiter, header, end):
    content = lines(ROWS, delimiter, header.format(delimiter), end)
    assert everything(bring(table(content))) == set(ROWS)
    marked = codecs.BOM_UTF8 + content.encode()
    assert everything(bring(table(marked))) == set(ROWS)


def test_columns_by_name_by_position_and_by_default(table):
    rows = [(5, 17, item, user) for user, item in ROWS]
    named = table(lines(rows, ",", "stars,when,asin,Reviewer ID"))
    assert everything(bring(named)) == set(ROWS)
    assert everything(bring(named, user="Reviewer ID", item="asin")) == set(ROWS)
    assert everything(bring(named, user="4", item="3")) == set(ROWS)
    bare = table(lines(rows))
    assert everything(bring(bare, user="4", item="3")) == set(ROWS)
    odd = table(lines(rows, ",", "a,b,c,d"))
    assert everything(bring(odd, user="d", item="c")) == set(ROWS)


def test_recboles_own_files_are_tables_too(table):
    rows = [(u, i, 3, 9) for u, i in ROWS]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    assert everything(bring(table(lines(rows, "\t", header), "ml.inter"))) == set(ROWS)


def test_a_header_of_unknown_names_above_numbers_is_recognized(table):
    numbers = [(u, i) for u in range(5) for i in range(10)]
    path = table(lines(numbers, ",", "wer,was"))
    with pytest.raises(
        InputError, match=r"line 1: no column 'user'.*wer, was: name it with --user"
    ):
        bring(path)
    wanted = {(str(u), str(i)) for u, i in numbers}
    assert everything(bring(path, user="wer", item="was")) == wanted
    assert everything(bring(path, header=False)) == wanted | {("wer", "was")}


def test_tokens_are_written_unchanged(table):
    names = ["7", "007", "+7", "-7", "7.0", "1e3", "ä ö", "日本", "a'b", "x" * 255, "9" * 30, "0"]
    rows = [(a, b) for a in names for b in names]
    assert everything(bring(table(lines(rows)))) == set(rows)


def test_quotes_are_syntax_with_commas_and_plain_characters_with_tabs(table):
    quoted = lines(ROWS) + '"Smith, J","say ""hi"""\n'
    assert everything(bring(table(quoted))) == {("Smith, J", 'say "hi"'), *ROWS}
    tabbed = lines(ROWS, "\t") + 'Smith"s\tdisc 12"\n'
    assert everything(bring(table(tabbed))) == {('Smith"s', 'disc 12"'), *ROWS}


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("delimiter", [",", "::"])
def test_any_block_size_gives_the_same_files(table, monkeypatch, size, delimiter):
    content = lines([*ROWS, ("é", "12"), ("7", "07")], delimiter, delimiter.join(("user", "item")))
    path = table(content)
    before = imported(bring(path))
    monkeypatch.setattr(text, "BLOCK", size)
    assert imported(bring(path)) == before


# --- filters and splits ---------------------------------------------------------------------


def test_the_card_has_the_numbers_of_dropped_interactions(table):
    rated = [(u, i, 5) for u, i in ROWS]
    more = [*rated[:3], ("u0", "77", 3.5), ("lone", "0", 4)]
    path = table(lines([*rated, *more], ",", "user,item,rating"))
    folder = bring(path, min_rating=4, k_core=2)
    card = card_of(folder)
    # items 0 and 14 and the user "lone" have one interaction each, so they are removed
    left = {(u, i) for u, i in ROWS if i not in ("0", "14")}
    assert everything(folder) == left
    assert card["dropped"] == {"below_min_rating": 1, "duplicates": 3, "outside_k_core": 3}
    assert (card["min_rating"], card["k_core"]) == (4, 2)
    assert (card["users"], card["items"]) == (6, 13)
    assert card["how_split"] == ("0.8, 0.1, 0.1 of each user's interactions, at random, seed 2020")
    for split, pairs in imported(folder).items():
        assert card["splits"][split]["pairs"] == len(pairs)
        assert card["splits"][split]["sha256"] == pairs_hash(*zip(*pairs, strict=True))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [2, 4, 5])
def test_the_k_core_equals_that_of_a_plain_loop(table, seed, k):
    draw = np.random.default_rng(seed)
    pairs = {(str(u), str(i)) for u, i in draw.integers(0, [14, 16], (150, 2))}
    left = set(pairs)
    while True:
        users, items = (Counter(pair[side] for pair in left) for side in (0, 1))
        core = {(u, i) for u, i in left if users[u] >= k and items[i] >= k}
        if core == left:
            break
        left = core
    assert everything(bring(table(lines(sorted(pairs))), k_core=k)) == left


def test_by_time_the_latest_of_each_user_are_in_test(table):
    rows = [(f"u{u}", i, (i * 7) % 20) for u in range(3) for i in range(20)]
    splits = imported(bring(table(lines(rows)), split="time", time="3"))
    when = {(u, str(i)): t for u, i, t in rows}
    for split, times in (("train", range(16)), ("valid", (16, 17)), ("test", (18, 19))):
        found = defaultdict(set)
        for user, item in splits[split]:
            found[user].add(when[user, item])
        assert found == {f"u{u}": set(times) for u in range(3)}


@pytest.mark.parametrize(
    "date", ["2014-{m:02d}-09", "2014-01-01 {m:02d}:30", "20{m:02d}-12-31T23:59:59.5Z"]
)
def test_times_may_be_dates(table, date):
    rows = [(f"u{u}", str(i), date.format(m=i + 1)) for i in range(9) for u in range(3)]
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    header = [("user", "item", "date")]
    splits = imported(bring(table(lines([*header, *shuffled])), split="time"))
    assert [{int(i) for _, i in splits[s]} for s in SPLITS] == [set(range(7)), {7}, {8}]


def test_by_time_over_all_with_ties_in_the_order_of_lines(table):
    rows = [(f"u{n % 7}", f"i{n}", n // 10) for n in range(100)]
    splits = imported(bring(table(lines(rows)), split="time", per="all", time="3"))
    for split, part in (("train", rows[:80]), ("valid", rows[80:90]), ("test", rows[90:])):
        assert set(splits[split]) == {(u, i) for u, i, _ in part}


def test_the_earliest_interaction_of_a_pair_is_used(table):
    rows = [("u", f"i{n}", 10 + n) for n in range(10)]
    late = [("u", "i0", 99)]
    splits = imported(bring(table(lines([*late, *rows])), split="time", time="3"))
    assert ("u", "i0") in splits["train"]
    assert splits["test"] == [("u", "i9")]


def test_the_random_split_depends_on_the_seed_but_not_on_the_order_of_lines(table):
    forwards = imported(bring(table(lines(ROWS)), seed=3))
    backwards = imported(bring(table(lines(ROWS[::-1])), seed=3))
    assert forwards == backwards
    assert forwards != imported(bring(table(lines(ROWS)), seed=4))
    assert Counter(u for u, _ in forwards["test"]) == {f"u{n}": 1 for n in range(6)}


# --- bad input ------------------------------------------------------------------------------


GOOD = lines(ROWS)
BAD_TABLES = {
    "empty": (b"", "has no interactions", {}),
    "one column": (b"1\n2\n", "line 1: no delimiter splits the first lines", {}),
    "too few fields": (GOOD + "a\n", "line 61: 1 fields where line 1 has 2", {"delimiter": ","}),
    "an empty first line": (
        "user,item,time\n\n1,2,3\n",
        "line 2: 1 fields where line 1 has 3",
        {"delimiter": ",", "split": "time"},
    ),
    "too many fields": (GOOD + "a,b,c\n", "line 61: 3 fields where line 1 has 2", {}),
    "one short, one long": (GOOD + "a\nb,c,d\n", "line 61: 1 fields", {}),
    "an empty line": (GOOD + "\n" + GOOD, "line 61: 1 fields where", {}),
    "no user": (GOOD + ",5\n", "line 61: user '' is empty", {}),
    "no item": (GOOD + "5,\n", "line 61: item '' is empty", {}),
    "a long name": (GOOD + "a" * 256 + ",5\n", "line 61: user .* has 256 bytes, more than", {}),
    "padding": (GOOD + "5,[PAD]\n", r"line 61: item '\[PAD\]' is what RecBole", {}),
    "a tab": (GOOD + "a\tb,5\n", r"line 61: user 'a\\tb' has a tab", {}),
    "a NUL": (GOOD + "a\0b,5\n", "line 61: a NUL byte", {}),
    "an open quote": (GOOD + '"a,5\n' + GOOD, "line 61: .*expected quotes that end", {}),
    "a quoted line end": (GOOD + '"a\nb",5\n', "line 61: .*expected quotes that end", {}),
    "a quote goes on": (GOOD + '"a"b,5\n', "line 61: .*expected quotes that end", {}),
    "a quoted tab": (GOOD + '"a\tb",5\n', r"line 61: user 'a\\tb' has a tab", {}),
    "control character": (lines(ROWS, "::") + "a\x1fb::5\n", "line 61: a control character", {}),
    "Latin-1": (GOOD.encode() + b"\xe9,5\n", "line 61: byte 0xe9 is not UTF-8", {}),
    "mixed encodings": ("é,5\n".encode() + b"\xe9,5\n", "line 2: byte 0xe9 is not UTF-8", {}),
    "UTF-16": (GOOD.encode("utf-16"), "is UTF-16", {}),
    "zip": (b"PK\x03\x04abc", r"is compressed \(zip\)", {}),
    "parquet": (b"PAR1abc", r"is Parquet; name it \*\.parquet", {}),
    "a lone CR": (GOOD + "a,5\rb,6\n", "line 61: a CR without LF", {}),
    "no such column": (GOOD, "no column '3'; it has 2 columns", {"item": "3"}),
    "no such name": ("user,item\n" + GOOD, "no column 'itm' .did you mean 'item'", {"item": "itm"}),
    "the same column": (GOOD, "user and item are both column 1; name", {"item": "1"}),
    "no rating": (GOOD, "no column 'rating'; it has 2 columns", {"min_rating": 3}),
    "no time": (GOOD, "no column 'time'; it has 2 columns", {"split": "time"}),
    "a rating of words": (
        "1,2,5\n1,3,good\n",
        "line 2: rating 'good' is not a fin",
        {"min_rating": 3},
    ),
    "no rating here": ("1,2,5\n1,3,\n", "line 2: rating '' is not a finite", {"min_rating": 3}),
    "nan rating": ("1,2,5\n1,3,nan\n", "line 2: rating 'nan' is not a finite", {"min_rating": 3}),
    "huge rating": ("1,2,5\n1,3,1e999\n", "line 2: rating '1e999'", {"min_rating": 3}),
    "1_000": ("1,2,5\n1,3,1_0\n", "line 2: rating '1_0' is not a finite", {"min_rating": 3}),
    "a date": (
        "1,2,5,9\n1,3,5,2020-01-01\n",
        "line 2: time '2020-01-01' is not a finite number",
        {"split": "time"},
    ),
    "a number among dates": (
        "1,2,5,2020-01-01\n1,3,5,9\n1,4,5,2020-01-02\n",
        "line 2: time '9' is not a date",
        {"split": "time"},
    ),
    "no such day": (
        "1,2,5,2020-01-01\n1,3,5,2021-02-29\n",
        "line 2: time '2021-02-29' is not a date",
        {"split": "time"},
    ),
    "nothing left": (
        "1,2,3\n1,3,3\n",
        "no interaction of .* is left of 2 .2 below min rating",
        {"min_rating": 4},
    ),
    "no core": (GOOD, "no interaction of .* is left of 60", {"k_core": 11}),
    "too few to split": ("1,2\n2,3\n", "2 interactions of .* leave none for valid", {}),
    "another delimiter": (GOOD, "no column 'item'; it has 1 columns", {"delimiter": ";"}),
    "a header alone": ("user,item\n", "no interaction of", {}),
}


@pytest.mark.parametrize(("content", "why", "selection"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_is_one_clear_line_and_nothing_is_written(table, content, why, selection):
    refused(table(content), why, **selection)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--ratio=0.8,0.2"], "--ratio must be three shares such as 0.8,0.1,0.1, got 0.8,0.2"),
        (["--ratio=0.8,0.1,0.2"], "--ratio must sum to 1"),
        (["--ratio=0.8,0.2,0"], "--ratio must be three shares"),
        (["--ratio=many"], "--ratio 'many' must be three shares"),
        (["--k-core=0"], "--k-core must be 1 or more, got 0"),
        (["--min-rating=nan"], "--min-rating must be a finite number"),
        (["--seed=-1"], "--seed must be 0 or more"),
        (["--delimiter=ab"], "--delimiter 'ab' cannot be used"),
        (["--delimiter="], "--delimiter '' cannot be used"),
        (["--split=sideways"], "invalid choice: 'sideways'"),
        (["--name=../up"], "choose another --name"),
    ],
)
def test_invalid_options_are_an_error_of_one_line(table, capsys, arguments, why):
    path = table(GOOD)
    assert main(["import", "pairs", str(path), "--name=tiny", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not Path("dataset").exists()


def test_all_options_on_the_command_line(table, capsys):
    rows = [(9, u, i, 5, n) for n, (u, i) in enumerate(ROWS)]
    path = table(lines([*rows, (9, "u0", "bad", 1, 0)], "|"))
    arguments = ["--user=2", "--item=3", "--rating=4", "--time=5", "--delimiter=|", "--header=no"]
    arguments += ["--min-rating=2", "--k-core=1", "--split=time", "--per=all", "--ratio=.5,.25,.25"]
    assert main(["import", "pairs", str(path), "--name=t", "--out=o", *arguments]) == 0
    assert capsys.readouterr().out == "wrote o/t; run it with --dataset=t --data_path=o\n"
    splits = imported(Path("o/t"))
    assert [len(splits[split]) for split in SPLITS] == [30, 15, 15]
    assert set(splits["test"]) == set(ROWS[45:])


# --- names ----------------------------------------------------------------------------------


def test_every_missing_value_of_pandas_is_a_name_that_is_warned_of(table, capsys):
    words = sorted(STR_NA_VALUES - {""})
    assert words == sorted(word.decode() for word in MISSING)
    assert everything(bring(table(lines([*ROWS, *((word, 5) for word in words)])))) > set(ROWS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert [f"user {word!r} in 1" in line for word in words] == [True] * len(words)


def test_digits_are_their_own_number_and_names_get_negative_numbers():
    names = Names()
    tokens = [b"12", b"ann", b"0", b"007", b"ann", b"9" * 18, b"9" * 19]
    assert names.numbers(*joined(tokens)).tolist() == [12, -1, 0, -2, -1, 10**18 - 1, -3]
    assert names.texts().tolist() == [b"ann", b"007", b"9" * 19]


def test_recbole_reads_every_name_unchanged(table):
    from recbole.config import Config
    from recbole.data import create_dataset

    names = ["7", "007", "+7", "7.0", "a b", "é", 'x"y', "#1", "'q'", "null ", " lead", "True"]
    rows = [(a, b) for a in names for b in names]
    folder = bring(table(lines(rows, "\t")))
    settings = {"data_path": "dataset", "benchmark_filename": list(SPLITS)}
    settings["load_col"] = {"inter": ["user_id", "item_id"]}
    dataset = create_dataset(Config("BPR", "tiny", config_dict=settings))
    assert set(dataset.field2id_token["user_id"][1:]) == set(names)
    assert set(dataset.field2id_token["item_id"][1:]) == set(names)
    assert len(dataset) == len(everything(folder)) == len(rows)


def test_known_column_names_are_unique():
    names = [name for known in KNOWN_COLUMNS.values() for name in known.split()]
    assert len(names) == len(set(names))
    assert json.dumps(names).isascii()
