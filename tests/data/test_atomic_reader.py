"""What stands in an atomic file is what ``run`` and ``data check`` see, or it is refused."""

import pytest
from helpers.atomic_files import as_checked, loaded, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import recbole_lightgnn  # noqa: F401  RecBole's Dataset then reads by our reader
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data.atomic_header import open_atomic
from recbole_lightgnn.data.atomic_reader import read_columns
from recbole_lightgnn.data.check import check
from recbole_lightgnn.data.dataset_files import find_dataset, read_dataset
from recbole_lightgnn.errors import InputError

HEADER = "user_id:token\titem_id:token\trating:float"
ONE = "user_id:token\titem_id:token"
GOOD = ["u0\ti0\t4", "u1\ti1\t5", "u2\ti0\t3.5"]


def ids(dataset, field):
    return list(dataset.field2id_token[field][1:])


# --- read as it is ----------------------------------------------------------------------------

MISSING = [
    "NA",
    "null",
    "None",
    "nan",
    "N/A",
    "NULL",
    "NaN",
    "-nan",
    "<NA>",
    "#N/A",
    "n/a",
    "-1.#IND",
]
ODD_IDS = {
    "words that pandas takes for missing": MISSING,
    "quotes": ['"', '"a', 'b"', 'c"d', '""', '"e"', '"f', "'g", '"h i"'],
    "numbers written in many ways": [
        "7",
        "07",
        "007",
        "7.0",
        "1e5",
        "+7",
        "-7",
        "0x7",
        "1_0",
        "inf",
    ],
    "truth values": ["True", "False", "true", "false"],
    "white space": [" a", "a ", "a", " ", "a b", "\u00a0a", "\u3000"],
    "other characters": [
        "#c",
        "\\",
        "\\t",
        "\\N",
        "a,b",
        "a;b",
        "a:b",
        "é",
        "日本",
        "😀",
        "\u2028",
    ],
}


@pytest.mark.parametrize("tokens", ODD_IDS.values(), ids=ODD_IDS)
def test_ids_are_what_stands_in_the_file(tmp_path, tokens):
    users = [f"{token}\ti{n % 2}\t{n}" for n, token in enumerate(tokens)]
    items = [f"v{n}\t{token}\t1" for n, token in enumerate(tokens)]
    write(tmp_path, {"inter": [HEADER, *users, *items]})
    dataset, (content, errors) = loaded(tmp_path), as_checked(tmp_path)
    assert (
        ids(dataset, "user_id")
        == content.users
        == [*tokens, *(f"v{n}" for n in range(len(tokens)))]
    )
    assert ids(dataset, "item_id") == content.items == ["i0", "i1", *tokens]
    assert len(dataset.inter_feat) == 2 * len(tokens)
    assert errors == []


TEXT = "\n".join([HEADER, *GOOD])
FORMS = {
    "plain": (TEXT + "\n").encode(),
    "no end of the last line": TEXT.encode(),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "CRLF": TEXT.replace("\n", "\r\n").encode(),
    "byte order mark and CRLF": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode() + b"\r\n",
    "empty lines at the end": (TEXT + "\n\n\n").encode(),
    "empty lines between": TEXT.replace("\n", "\n\n").encode(),
    "empty lines between, CRLF": TEXT.replace("\n", "\r\n\r\n").encode(),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_forms_of_a_text_file_do_not_matter(tmp_path, content):
    write(tmp_path, {"inter": content})
    dataset, (checked, errors) = loaded(tmp_path), as_checked(tmp_path)
    assert ids(dataset, "user_id") == checked.users == ["u0", "u1", "u2"]
    assert ids(dataset, "item_id") == checked.items == ["i0", "i1"]
    assert dataset.inter_feat["rating"].tolist() == [4, 5, 3.5]
    assert errors == []


@pytest.mark.parametrize("separator", ["::", ",", ";", "|", " ", "\x1e", "||"])
def test_other_separators(tmp_path, separator):
    write(tmp_path, {"inter": [line.replace("\t", separator) for line in (HEADER, *GOOD)]})
    dataset = loaded(tmp_path, field_separator=separator)
    assert ids(dataset, "user_id") == ["u0", "u1", "u2"]
    assert dataset.inter_feat["rating"].tolist() == [4, 5, 3.5]


def test_a_quoted_field_may_have_the_comma_that_separates(tmp_path):
    lines = ["user_id:token,item_id:token", '"a,b",i0', "c,i1", '"say ""hi""",i0']
    write(tmp_path, {"inter": lines})
    assert ids(loaded(tmp_path, field_separator=","), "user_id") == ["a,b", "c", 'say "hi"']


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding):
    write(tmp_path, {"inter": [HEADER, "é\ti0\t1", "ü\ti1\t2"]}, encoding=encoding)
    assert ids(loaded(tmp_path, encoding=encoding), "user_id") == ["é", "ü"]


def test_numbers_are_read_exactly(tmp_path):
    texts = ["0.1", "-2.5", "1e-3", "+3", ".5", "5.", "881250949", "1234567890.123456789", "2e300"]
    write(tmp_path, {"inter": [HEADER, *(f"u{n}\ti0\t{text}" for n, text in enumerate(texts))]})
    file = open_atomic(tmp_path / "d" / "d.inter")
    assert read_columns(file, ["rating"])["rating"].tolist() == list(map(float, texts))


def test_only_an_empty_field_is_missing(tmp_path, caplog):
    items = ["item_id:token\tkind:token\tprice:float\ttags:token_seq\tv:float_seq"]
    items += ["i0\tNA\t1\ta NA\t1 2", "i1\t\t\t\t", "i2\tx\t4\tnan\t3"]
    write(tmp_path, {"inter": [HEADER, *GOOD], "item": items})
    dataset = loaded(tmp_path)
    assert list(dataset.field2id_token["kind"]) == ["[PAD]", "NA", "x"]
    assert list(dataset.field2id_token["tags"]) == ["[PAD]", "a", "NA", "nan"]
    row = dataset.token2id("item_id", "i1")
    assert (dataset.item_feat["price"][row], dataset.item_feat["kind"][row]) == (2.5, 0)
    assert dataset.item_feat["v"][row].tolist() == []
    assert (
        "d.item: 1 of 3 fields of price are empty; unless a filter removes their lines, they get"
        in caplog.text
    )


@pytest.mark.parametrize("kind", ["user", "inter"])
def test_clean_files_are_read_as_recbole_reads_them(kind):
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureSource

    dataset = Dataset(Config("BPR", dataset="ml-100k", config_dict={"load_col": None}))
    path = f"{dataset.dataset_path}/ml-100k.{kind}"
    noted = ("field2type", "field2source", "field2seqlen", "field2bucketnum")
    results = []
    for read in (Dataset._load_feat.__wrapped__, Dataset._load_feat):
        dataset._get_preset()
        frame = read(dataset, path, FeatureSource(kind))
        results.append((frame, [getattr(dataset, name) for name in noted]))
    (expected, expected_notes), (frame, notes) = results
    assert_frame_equal(frame, expected)
    assert notes == expected_notes


def test_what_is_not_used_is_said(tmp_path, caplog):
    items = ["item_id:token\tprice:float", "i0\t1", "i1\t2", "i0\t3"]
    write(tmp_path, {"inter": [HEADER, *GOOD], "item": items})
    dataset = loaded(tmp_path, load_col={"inter": ["user_id", "item_id", "time"], "item": "*"})
    assert dataset.item_feat["price"].tolist()[1:] == [1, 2]
    assert "d.item: 1 of 3 lines repeat their item_id; the first is used" in caplog.text
    assert "d.inter has no column time, which load_col names; it has user_id, item_id, rating" in (
        caplog.text
    )


def test_data_check_warns_of_ids_that_recbole_alone_misreads(tmp_path):
    write(tmp_path, {"inter": [ONE, 'NA\t"i', "null\ti", "u\tnan"]})
    files = find_dataset("d", tmp_path)
    warnings = [message for level, message in check(files, read_dataset(files)) if level != "error"]
    assert warnings[0].startswith("3 ids like 'NA', which RecBole alone reads as missing; this")
    assert warnings[1].startswith("1 id like '\"i', and RecBole alone joins the lines up to the")
    assert len(warnings) == 3  # the last: no card


# --- refused ----------------------------------------------------------------------------------


def inter(*lines, header=HEADER):
    return {"inter": [header, *GOOD[:1], *lines, *GOOD[1:]]}


TWO = "item_id:token\tname:token"
# ruff: noqa: E501
REFUSED = {  # files, the place, what is wrong
    "a tab at the end": (inter("u3\ti3\t1\t"), "inter, line 3", "4 fields (the last is empty) where"),
    "a tab at all ends": ({"inter": [HEADER, *(f"{g}\t" for g in GOOD)]}, "inter, line 2", "4 fields"),
    "a tab at the start": (inter("\tu3\ti3\t1"), "inter, line 3", "4 fields"),
    "a field too many": (inter("u3\ti3\t1\t9"), "inter, line 3", "4 fields where line 1 has 3"),
    "a field too few": (inter("u3\ti3"), "inter, line 3", "2 fields where line 1 has 3"),
    "blanks": (inter("", "  "), "inter, line 4", "1 fields where line 1 has 3"),
    "spaces for tabs": (inter("u3 i3 1"), "inter, line 3", "1 fields"),
    "an empty user": (inter("\ti3\t1"), "inter, line 3", "user"),
    "an empty item": (inter("", "u3\t\t1"), "inter, line 4", "item"),
    "RecBole's padding": (inter("[PAD]\ti3\t1"), "inter, line 3", "[PAD]"),
    "a word for a number": (inter("u3\ti3\tgood"), "inter, line 3", "rating 'good' is not a finite"),
    "a missing number in words": (inter("u3\ti3\tNA"), "inter, line 3", "rating 'NA'"),
    "not a number": (inter("u3\ti3\tnan"), "inter, line 3", "rating 'nan'"),
    "infinity": (inter("u3\ti3\t-inf"), "inter, line 3", "rating '-inf'"),
    "a number too large": (inter("u3\ti3\t1e999"), "inter, line 3", "rating '1e999'"),
    "a comma in a number": (inter("u3\ti3\t4,5"), "inter, line 3", "rating '4,5'"),
    "an underscore in a number": (inter("u3\ti3\t1_0"), "inter, line 3", "rating '1_0'"),
    "truth": ({"inter": [HEADER, "u0\ti0\tTrue", "u1\ti1\tFalse"]}, "inter, line 2", "rating 'True'"),
    "a date": (inter("u3\ti3\t2020-01-01"), "inter, line 3", "rating '2020-01-01'"),
    "a CR": (inter("u3\ti3\t1\ru4\ti4\t1"), "inter, line 3", "CR without LF"),
    "a NUL": (inter("u3\0\ti3\t1"), "inter, line 3", "NUL"),
    "a user that is a float": (inter(header=HEADER.replace("user_id:token", "user_id:float")),
                               "inter, line 1", "expected user_id:token, got user_id:float"),
    "an item that is a sequence": (inter(header=HEADER.replace("item_id:token", "item_id:token_seq")),
                                   "inter, line 1", "expected item_id:token, got item_id:token_seq"),
    "a column twice": (inter(header="user_id:token\titem_id:token\titem_id:token"),
                       "inter, line 1", "two columns are named 'item_id'"),
    "a column twice, of two types": (inter(header="user_id:token\titem_id:token\titem_id:float"),
                                     "inter, line 1", "two columns are named 'item_id'"),
    "a quoted header": (inter(header=HEADER.replace("user_id:token", '"user_id:token"')),
                        "inter, line 1", "expected columns NAME:TYPE"),
    "blanks beside the tabs": (inter(header=HEADER.replace("\t", " \t")), "inter, line 1", "without a blank at an end of name or type"),
    "no header": (inter(header=""), "inter, line 1", "the line is empty or ends in a separator"),
    "a misspelt type": (inter(header=HEADER.replace("rating:float", "rating:flaot")),
                        "inter, line 1", "did you mean 'float'?"),
    "a tab at the end of the header": (inter(header=HEADER + "\t"), "inter, line 1", "got ''"),
    "commas": (inter(header="user_id:token,item_id:token"), "inter, line 1", "separated by ',': set field_separator"),
    "no line": ({**inter(), "item": [TWO]}, "item", "has no lines below its header"),
    "no item of an item": ({**inter(), "item": ["name:token", "a"]}, "item, line 1", "'item_id' is not in the file"),
    "UTF-16": ({"inter": TEXT.encode("utf-16")}, "inter", "is UTF-16"),
    "compressed": ({"inter": b"\x1f\x8b" + TEXT.encode()}, "inter", "is compressed (gzip)"),
    "a column of users and of items": (
        {**inter(), "user": ["user_id:token\tname:token", "u0\ta"], "item": [TWO, "i0\tb"]},
        "item, line 1", "the .user file has a column 'name', too"),
    "a column of items and of interactions": (
        {**inter(), "item": ["item_id:token\trating:float", "i0\t3"]},
        "item, line 1", "the .inter file has a column 'rating', too"),
    "a column of users and of interactions": (
        {**inter(), "user": ["user_id:token\titem_id:token", "u0\ti0"]},
        "user, line 1", "the .inter file has a column 'item_id', too"),
    "a tab too many in an item": ({**inter(), "item": [TWO, "i0\ta", "i1\tb\t"]}, "item, line 3", "3 fields"),
    "a user without id": ({**inter(), "user": ["user_id:token\tage:float", "\t3"]}, "user, line 2", "user_id is empty"),
    "an age in words": ({**inter(), "user": ["user_id:token\tage:float", "u0\told"]}, "user, line 2", "age 'old'"),
    "a word in numbers": (
        {**inter(), "item": ["item_id:token\tv:float_seq", "i0\t1 2", "", "i1\t1 x"]}, "item, line 4", "v 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "place", "what"), REFUSED.values(), ids=REFUSED)
def test_the_rest_is_refused_with_its_line_by_run_and_check(tmp_path, files, place, what):
    write(tmp_path, files)
    with pytest.raises(InputError) as refused:
        loaded(tmp_path)
    message = str(refused.value)
    assert f"d.{place}" in message
    assert what in message
    assert "\n" not in message
    assert "expected" in message
    try:
        errors = as_checked(tmp_path)[1]
    except InputError as error:  # the header cannot be read: `data check` ends with status 2
        errors = [str(error)]
    assert any(f"d.{place.split(',')[0]}" in error for error in errors)
    assert any(place.split(", ")[-1] in error for error in errors)


def test_a_column_without_any_number_has_no_mean(tmp_path):
    write(tmp_path, {**inter(), "item": ["item_id:token\tprice:float", "i0\t", "i1\t"]})
    with pytest.raises(InputError, match=r"d\.item, line 1: all fields of price:float are empty"):
        loaded(tmp_path)


GRAPH = {"kg": ["head_id:token\trelation_id:token\ttail_id:token", "e0\tNA\te1", 'e1\t"r\te0']}
LINK = {"link": ["item_id:token\tentity_id:token", "i0\te0", "i1\te1"]}


def knowledge(folder):
    from recbole.config import Config
    from recbole.data.dataset import KnowledgeBasedDataset

    config_dict = {"data_path": str(folder), "load_col": None}
    return KnowledgeBasedDataset(Config("KGAT", dataset="d", config_dict=config_dict))


def test_a_knowledge_graph_is_read_as_it_stands(tmp_path):
    write(tmp_path, {**inter(), **GRAPH, **LINK})
    assert set(knowledge(tmp_path).field2id_token["relation_id"]) > {"NA", '"r'}
    assert as_checked(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"kg": [*GRAPH["kg"], "e0\tr\te1\t"]}, "d.kg, line 4: 4 fields (the last is empty)"),
        ({"kg": [*GRAPH["kg"], "e0\tr\t"]}, "d.kg, line 4: tail_id is empty"),
        ({"kg": ["head_id:token\trelation_id:token", "e0\tr"]}, "d.kg, line 1: column 'tail_id'"),
        ({"link": [*LINK["link"], "i2\t"]}, "d.link, line 4: entity_id is empty"),
        ({"link": ["item_id:token\titem_id:token", "a\tb"]}, "d.link, line 1: two columns are"),
    ],
)
def test_a_faulty_knowledge_graph_is_refused_with_its_line(tmp_path, files, what):
    write(tmp_path, {**inter(), **GRAPH, **LINK, **files})
    with pytest.raises(InputError) as refused:
        knowledge(tmp_path)
    assert what in str(refused.value)
    assert as_checked(tmp_path)[1] == [str(refused.value)]


@pytest.mark.parametrize(("separator", "flag"), [(",", '","'), ("\t", r'"\t"'), ("::", '"::"')])
def test_the_separator_that_the_message_advises_works(
    tmp_path, monkeypatch, capsys, separator, flag
):
    monkeypatch.chdir(tmp_path)
    rows = [f"u{u}\ti{(u + k) % 12}\t{k}" for u in range(12) for k in range(10)]
    write(tmp_path, {"inter": [line.replace("\t", separator) for line in (HEADER, *rows)]})
    other = ";" if separator == "\t" else "\t"
    command = ["run", "-m", "Pop", "-d", "d", "--data_path=.", "--topk=5"]
    command += ["--valid_metric=MRR@5", "--metrics=[MRR]"]
    assert main([*command, f"--field_separator={other!r}".replace("'", '"')]) == 2
    advice = f"set field_separator to it, --field_separator='{flag}')"
    assert advice in capsys.readouterr().err
    assert main([*command, f"--field_separator={flag}"]) == 0


def test_bytes_that_are_not_utf_8(tmp_path):
    write(tmp_path, {"inter": TEXT.encode() + b"\n\xffu\ti0\t1\n"})
    with pytest.raises(InputError, match=r"d.inter, line 5: byte 0xff is not UTF-8; .* iconv"):
        loaded(tmp_path)
    assert "line 5: not UTF-8" in as_checked(tmp_path)[1][0]


@pytest.mark.parametrize(
    ("encoding", "what"), [("utf9", "is not known"), ("ascii", "is not ascii")]
)
def test_an_encoding_that_does_not_fit(tmp_path, encoding, what):
    write(tmp_path, {"inter": [HEADER, "é\ti0\t1"]})
    with pytest.raises(InputError, match=what):
        loaded(tmp_path, encoding=encoding)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("user_id:token\titem_id:token", "column 'rating' is not in this file"),
        ("user_id:token\titem_id:token\tprice:float", "column 'price' is in this file"),
        ("user_id:token\titem_id:token\trating:token", "rating:token here, but rating:float"),
    ],
)
def test_three_files_have_the_same_columns(tmp_path, header, what):
    width = header.count("\t") + 1
    rows = ["\t".join(line.split("\t")[:width]) for line in GOOD]
    write(tmp_path, {"train.inter": [HEADER, GOOD[0]], "valid.inter": [HEADER, GOOD[1]]})
    write(tmp_path, {"test.inter": [header, *rows[2:]]})
    with pytest.raises(InputError, match=what) as refused:
        loaded(tmp_path, benchmark_filename=["train", "valid", "test"])
    assert as_checked(tmp_path)[1] == [str(refused.value)]


def test_the_columns_of_three_files_may_be_in_another_order(tmp_path):
    write(tmp_path, {"train.inter": [HEADER, GOOD[0]], "valid.inter": [HEADER, GOOD[1]]})
    write(tmp_path, {"test.inter": ["rating:float\titem_id:token\tuser_id:token", "2\ti0\tu2"]})
    dataset = loaded(tmp_path, benchmark_filename=["train", "valid", "test"])
    assert dataset.inter_feat["rating"].tolist() == [4, 5, 2]


def test_columns_that_are_not_loaded_are_not_parsed(tmp_path):
    write(tmp_path, inter("u3\ti3\tgood"))
    dataset = loaded(tmp_path, load_col={"inter": ["user_id", "item_id"]})
    assert len(dataset.inter_feat) == 4


@pytest.mark.parametrize("model", ["LightGNNTeacher", "BPR"])
def test_run_and_data_check_end_with_one_line(tmp_path, monkeypatch, capsys, model):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, inter("u3\ti3\t1\t"))
    assert main(["run", "-m", model, "-d", "d", "--data_path=.", "--epochs=1"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "d.inter, line 3: 4 fields" in line
    assert main(["data", "check", "d", "--data_path=."]) == 1
    assert (
        "d.inter: 1 malformed line (line 3: expected 3 columns, got 4)" in capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["2020-01-02", "1970-01-01T00:00:01"], [1577923200e6, 1e6]),
        (["1600000007", "1600000000"], [1600000007, 1600000000]),
        (["1600000000.5", "1e3"], [1600000000.5, 1000]),
    ],
)
def test_times_are_read_as_an_import_reads_them(tmp_path, kind, times, seconds):
    lines = [f"u{n}\ti0\t{time}" for n, time in enumerate(times)]
    write(tmp_path, {"inter": [f"{ONE}\ttimestamp:{kind}", *lines]})
    dataset = loaded(tmp_path, eval_args={"order": "TO"})
    assert dataset.inter_feat["timestamp"].tolist() == seconds
    assert as_checked(tmp_path)[1] == []


# --- any file ---------------------------------------------------------------------------------

TOKEN = st.text(
    st.sampled_from("ab01 \"',;#\\é日") | st.characters(exclude_categories=["Cs", "Cc"]), min_size=1
) | st.sampled_from([*MISSING, '"', "[PAD]", ""])
LINE = st.lists(TOKEN, min_size=2, max_size=2) | st.lists(TOKEN, max_size=4)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(rows=st.lists(LINE, max_size=8), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_any_file_is_read_as_a_plain_split_reads_it_or_refused(tmp_path, rows, end, bom):
    text = end.join([ONE, *("\t".join(row) for row in rows)]) + end
    write(tmp_path, {"inter": text}, encoding="utf-8-sig" if bom else "utf-8")
    rows = [row for row in rows if row not in ([], [""])]
    good = rows and all(len(row) == 2 and "" not in row and "[PAD]" not in row for row in rows)
    file = open_atomic(tmp_path / "d" / "d.inter")
    content, errors = as_checked(tmp_path)
    assert bool(good) != any("line " in error or "has no pairs" in error for error in errors)
    if good:
        frame = read_columns(file, file.types, file.types)
        assert frame.to_numpy().tolist() == rows
        pairs = content.splits["all"]
        assert [
            [content.users[u], content.items[i]] for u, i in zip(*pairs[:2], strict=True)
        ] == rows
    else:
        with pytest.raises(InputError, match=r"d\.inter(, line \d+: | has no lines)"):
            read_columns(file, file.types, file.types)
