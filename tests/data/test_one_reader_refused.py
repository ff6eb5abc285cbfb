"""Kinds of faults in an atomic file: each is refused in every way that it can be read, or in none.

`test_one_reader` has what is read. Here are also the forms of a text and of times, which every way
reads alike.
"""

import bz2
import gzip
import lzma

import pytest
from helpers.atomic_files import WAYS, but_import, by_check, every_way, loaded, write
from helpers.times import WRITTEN

from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError

pytestmark = pytest.mark.slow  # many variants; each kind has fast tests elsewhere

HEADER = "user_id:token\titem_id:token\trating:float"
MORE = [f"more\ti{n}\t{n}" for n in range(10)]  # enough to split
PAIRS = [("more", f"i{n}") for n in range(10)]


def variants(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


def refusal(way, folder, **settings):
    """The one line with which a way refuses the file."""
    with pytest.raises(InputError) as refused:
        WAYS[way](folder, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- fields of a line ---------------------------------------------------------------------------

LINES = {
    "a tab at the end": "u\ti\t1\t",
    "two tabs at the end": "u\ti\t1\t\t",
    "a tab at the start": "\tu\ti\t1",
    "a tab in the middle": "u\t\ti\t1",
    "a field more": "u\ti\t1\t9",
    "a field less": "u\ti",
    "a user alone": "u",
    "blanks": "  ",
    "tabs alone": "\t\t\t",
    "spaces for tabs": "u i 1",
    "commas for tabs": "u,i,1",
    "two lines in one": "u\ti\t1\tv\tj\t2",
}


@every_way
@variants(LINES)
def test_a_line_has_as_many_fields_as_the_header(tmp_path, way, case):
    write(tmp_path, {"inter": [HEADER, *MORE, case, "v\tj\t1"]})
    assert "line 12: " in refusal(way, tmp_path)


QUOTES = {
    "open at the start": '"u,i,1',
    "open in the middle": 'u,"i,1',
    "open at the end": 'u,i,"1',
    "text after the end": '"u"v,i,1',
    "over a comma": '"u,i",1',
    "over the line": '"u\ni",j,1',
    "one": '"',
    "three": '""",i,1',
    "over two commas": '"u,i,1"',
    "open after a pair": '"u","i,1',
    "text after a pair": '"u","i"x,1',
}


@every_way
@variants(QUOTES)
def test_quotes_that_hold_no_field_together(tmp_path, way, case):
    lines = [line.replace("\t", ",") for line in (HEADER, *MORE)]
    write(tmp_path, {"inter": [*lines, case, "v,j,1"]})
    assert "line 12: " in refusal(way, tmp_path, field_separator=",")


# --- forms of a text ----------------------------------------------------------------------------

TEXT = "\n".join([HEADER, *MORE])
MARK = b"\xef\xbb\xbf"
FORMS = {
    "LF": (TEXT + "\n").encode(),
    "no end of the last line": TEXT.encode(),
    "CRLF": TEXT.replace("\n", "\r\n").encode() + b"\r\n",
    "CRLF, no end of the last line": TEXT.replace("\n", "\r\n").encode(),
    "LF and CRLF": (TEXT.replace("\n", "\r\n", 4) + "\n").encode(),
    "mark": MARK + TEXT.encode() + b"\n",
    "mark and CRLF": MARK + TEXT.replace("\n", "\r\n").encode(),
    "CR at the end": TEXT.encode() + b"\r",
    "empty lines at the end": (TEXT + "\n\n\n").encode(),
    "empty lines between": TEXT.replace("\n", "\n\n").encode(),
    "empty lines between, CRLF": TEXT.replace("\n", "\r\n\r\n").encode(),
    "an empty line after the header": TEXT.replace("\n", "\n\n", 1).encode(),
}


@every_way
@variants(FORMS)
def test_the_form_of_a_text_does_not_matter(tmp_path, way, case):
    write(tmp_path, {"inter": case})
    assert WAYS[way](tmp_path) == PAIRS


@every_way
@pytest.mark.parametrize("line", ["[PAD]\ti\t1", "u\ti", "\ti\t1"])
def test_a_faulty_line_below_empty_lines_is_named(tmp_path, way, line):
    write(tmp_path, {"inter": [HEADER, "", *MORE[:5], "", "", *MORE[5:], line, "v\tj\t1"]})
    assert "line 15: " in refusal(way, tmp_path)


OTHER_TEXTS = {
    "CR": TEXT.replace("\n", "\r").encode(),
    "a CR": (TEXT + "\nu\ti\t1\rv\tj\t1\n").encode(),
    "a NUL": (TEXT + "\nu\0\ti\t1\n").encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "latin-1": (TEXT + "\né\ti\t1\n").encode("latin-1"),
    "half a character": TEXT.encode() + "\né".encode()[:-1] + b"\ti\t1\n",
    "gzip": gzip.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "nothing": b"",
    "Parquet": b"PAR1" + TEXT.encode(),
}


@every_way
@variants(OTHER_TEXTS)
def test_what_is_no_text_in_utf_8_is_refused(tmp_path, way, case):
    write(tmp_path, {"inter": case})
    assert "d.inter" in refusal(way, tmp_path)


# --- columns --------------------------------------------------------------------------------------

TWICE = {  # headers of three or four columns, and whether an import reads the repeated one
    "users": ("user_id:token\titem_id:token\tuser_id:token", True),
    "users side by side": ("user_id:token\tuser_id:token\titem_id:token", True),
    "items": ("user_id:token\titem_id:token\titem_id:token", True),
    "items first": ("item_id:token\titem_id:token\tuser_id:token", True),
    "users of two types": ("user_id:token\titem_id:token\tuser_id:float", True),
    "items of two types": ("user_id:token\titem_id:token\titem_id:float", True),
    "items and a sequence": ("user_id:token\titem_id:token\titem_id:token_seq", True),
    "users and items": ("user_id:token\titem_id:token\tuser_id:token\titem_id:token", True),
    "users three times": ("user_id:token\tuser_id:token\tuser_id:token\titem_id:token", True),
    "ratings": ("user_id:token\titem_id:token\trating:float\trating:float", False),
    "ratings of two types": ("user_id:token\titem_id:token\trating:float\trating:token", False),
    "times": ("user_id:token\titem_id:token\ttimestamp:float\ttimestamp:float", False),
}


@every_way
@variants(TWICE)
def test_a_column_that_occurs_twice(tmp_path, way, case):
    header, is_read_by_import = case
    width = header.count("\t") + 1
    lines = ["\t".join(["1", *(str(n) for _ in range(width - 1))]) for n in range(10)]
    write(tmp_path, {"inter": [header, *lines]})
    if way == "import" and not is_read_by_import:
        assert len(WAYS[way](tmp_path)) == 10
    else:
        message = refusal(way, tmp_path)
        assert "d.inter, line 1" in message
        assert " columns named " in message or " columns are named " in message


IN_TWO_FILES = {
    "users and items": ({"user": ["user_id:token\tname:token", "more\ta"],
                         "item": ["item_id:token\tname:token", "i0\tb"]}, "item"),
    "users and items, two types": ({"user": ["user_id:token\tage:float", "more\t1"],
                                    "item": ["item_id:token\tage:token", "i0\tb"]}, "item"),
    "ratings of users": ({"user": ["user_id:token\trating:float", "more\t1"]}, "user"),
    "ratings of items": ({"item": ["item_id:token\trating:float", "i0\t1"]}, "item"),
    "ratings of items, another type": ({"item": ["item_id:token\trating:token", "i0\t1"]}, "item"),
    "items of users": ({"user": ["user_id:token\titem_id:token", "more\ti0"]}, "user"),
    "users of items": ({"item": ["item_id:token\tuser_id:token", "i0\tmore"]}, "item"),
    "users of items, first": ({"item": ["user_id:token\titem_id:token", "more\ti0"]}, "item"),
    "users twice": ({"user": ["user_id:token\ta:float\ta:float", "more\t1\t2"]}, "user"),
    "items twice": ({"item": ["item_id:token\ta:float\ta:float", "i0\t1\t2"]}, "item"),
}  # fmt: skip


@but_import
@variants(IN_TWO_FILES)
def test_a_column_of_two_files(tmp_path, way, case):
    files, at_fault = case
    write(tmp_path, {"inter": [HEADER, *MORE], **files})
    message = refusal(way, tmp_path)
    assert f"d.{at_fault}, line 1: " in message
    assert "expected different names" in message


TYPES = {  # headers, and whether an import reads the column
    **{
        f"{name}:{kind}": (HEADER.replace(f"{name}:token", f"{name}:{kind}"), True)
        for name in ("user_id", "item_id")
        for kind in ("float", "token_seq", "float_seq")
    },
    **{
        f"rating:{kind}": (HEADER.replace("rating:float", f"rating:{kind}"), False)
        for kind in ("flaot", "int", "", "Float", "token_list", "float ")
    },
    "no type": (HEADER.replace("rating:float", "rating"), False),
    "no name": (HEADER.replace("rating:float", ":float"), False),
}


@every_way
@variants(TYPES)
def test_a_column_of_a_wrong_type(tmp_path, way, case):
    header, is_read_by_import = case
    write(tmp_path, {"inter": [header, *MORE]})
    if way == "import" and not is_read_by_import:
        assert WAYS[way](tmp_path) == PAIRS
    else:
        assert "d.inter, line 1: expected " in refusal(way, tmp_path)


NUMBERS = ["good", "NA", "nan", "inf", "-inf", "1e999", "4,5", "1_0", "True", "0x10", "2020-01-01"]
NUMBERS += ["1 2", "--1", "+"]


@every_way
@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_that_is_none(tmp_path, way, text):
    write(tmp_path, {"inter": [HEADER, *MORE, f"u\ti\t{text}"]})
    settings = {"min_rating": 0} if way == "import" else {}
    assert f"line 12: rating '{text}' is not a finite number" in refusal(way, tmp_path, **settings)


# --- orders by time -------------------------------------------------------------------------------

BY_TIME = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize("written", WRITTEN)
def test_import_check_and_recbole_find_the_same_last_item(tmp_path, written, kind):
    """`test_time_order` has the runs."""
    rows = [(f"u{n % 3}", f"i{n}", n) for n in range(15)]
    rows = [rows[7 * n % 15] for n in range(15)]
    header = f"user_id:token\titem_id:token\ttimestamp:{kind}"
    lines = [f"{user}\t{item}\t{WRITTEN[written](time)}" for user, item, time in rows]
    write(tmp_path, {"inter": [header, *lines]})
    last = {"test": {("u0", "i12"), ("u1", "i13"), ("u2", "i14")}}
    last["valid"] = {("u0", "i9"), ("u1", "i10"), ("u2", "i11")}
    assert len(by_check(tmp_path, eval_args={"order": "TO"})) == 15
    selection = Selection(split="time", ratio=(0.6, 0.2, 0.2))
    out = import_pairs(tmp_path / "d" / "d.inter", "new", tmp_path, selection=selection)
    dataset = loaded(tmp_path, eval_args=BY_TIME)
    for split, part in zip(SPLITS[1:], dataset.build()[1:], strict=True):
        text = (out / f"new.{split}.inter").read_text()
        assert {tuple(line.split("\t")) for line in text.splitlines()[1:]} == last[split]
        inter = part.inter_feat
        users, items = (part.id2token(f, inter[f]).tolist() for f in ("user_id", "item_id"))
        assert set(zip(users, items, strict=True)) == last[split]


BAD_TIMES = {  # below numbers
    "text": "soon",
    "empty": "",
    "a word for missing": "NA",
    "not a number": "nan",
    "infinite": "inf",
    "a date below numbers": "2020-01-01",
    "underscores": "1_600",
    "a clock": "12:30",
    "another date": "01/02/2020",
    "two numbers": "1 2",
    "too large": "1e999",
}


@every_way
@variants(BAD_TIMES)
def test_a_time_that_cannot_be_ordered(tmp_path, way, case):
    lines = [f"{line}\t{n}" for n, line in enumerate(MORE)]
    write(tmp_path, {"inter": [f"{HEADER}\ttimestamp:float", *lines, f"u\ti\t1\t{case}"]})
    if way == "import":
        with pytest.raises(InputError) as refused:
            import_pairs(tmp_path / "d" / "d.inter", "new", selection=Selection(split="time"))
        message = str(refused.value)
    else:
        message = refusal(way, tmp_path, eval_args=BY_TIME)
    assert "line 12: time" in message
