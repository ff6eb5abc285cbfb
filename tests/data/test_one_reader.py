"""An atomic file means the same to import, ``data check``, a run and RecBole's API; ten variants.

Each is read to the same pairs in every way, or refused in every way.
"""

import csv

import pandas as pd
import pytest
from helpers.atomic_files import WAYS, but_import, by_check, by_import, every_way, write
from helpers.imports import parquet

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError

pytestmark = pytest.mark.slow  # many variants; each kind has fast tests elsewhere

HEADER = "user_id:token\titem_id:token\trating:float"
MORE = [f"more\ti{n}\t{n}" for n in range(10)]  # enough to split
PAIRS = [("more", f"i{n}") for n in range(10)]


def ids_of(kind):
    return [pytest.param(token, id=repr(token)) for token in kind]


# --- read -------------------------------------------------------------------------------------

WORDS_FOR_MISSING = ["NA", "null", "None", "nan", "N/A", "NULL", "NaN", "-nan", "<NA>", "#N/A"]
WORDS_FOR_MISSING += ["n/a", "-1.#IND", "#N/A N/A"]
QUOTED = ['"', '"a', 'b"', 'c"d', '""', '"e"', '"f', "'g", '"h i"', '"""', 'a""b', "''"]


@every_way
@pytest.mark.parametrize("token", ids_of([*WORDS_FOR_MISSING, *QUOTED]))
def test_an_id_is_what_stands_in_the_file(tmp_path, way, token):
    write(tmp_path, {"inter": [HEADER, f"{token}\ti0\t1", f"u\t{token}\t2", *MORE]})
    assert WAYS[way](tmp_path) == sorted([(token, "i0"), ("u", token), *PAIRS])


# --- settings ---------------------------------------------------------------------------------

SETTINGS = {
    "comma": {"field_separator": ","},
    "semicolon": {"field_separator": ";"},
    "pipe": {"field_separator": "|"},
    "space": {"field_separator": " "},
    "two characters": {"field_separator": "::"},
    "latin-1": {"encoding": "latin-1"},
    "cp1252": {"encoding": "cp1252"},
    "utf-16": {"encoding": "utf-16"},
    "utf-16-le": {"encoding": "utf-16-le"},
    "utf-8-sig": {"encoding": "utf-8-sig"},
    "gbk": {"encoding": "gbk"},
    "names": {"USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "iid", "RATING_FIELD": "stars"},
    "name of the user": {"USER_ID_FIELD": "uid"},
    "name of the item": {"ITEM_ID_FIELD": "iid"},
    "all": {"field_separator": ",", "encoding": "latin-1", "USER_ID_FIELD": "x"},
}


def write_as(folder, settings):
    header = [
        f"{settings.get('USER_ID_FIELD', 'user_id')}:token",
        f"{settings.get('ITEM_ID_FIELD', 'item_id')}:token",
        f"{settings.get('RATING_FIELD', 'rating')}:float",
    ]
    token = "é" if settings.get("encoding") != "gbk" else "日"
    rows = [header, [token, "i0", "1"], *(line.split("\t") for line in MORE)]
    lines = [settings.get("field_separator", "\t").join(row) for row in rows]
    write(folder, {"inter": lines}, encoding=settings.get("encoding", "utf-8"))
    return sorted([(token, "i0"), *PAIRS])


@every_way
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_say_how_a_file_is_read(tmp_path, way, settings):
    pairs = write_as(tmp_path, settings)
    if way == "import" and settings.get("encoding", "utf-8-sig") != "utf-8-sig":
        with pytest.raises(InputError, match=r"d\.inter(, line \d+: | is UTF-16)"):
            by_import(tmp_path, **settings)
    else:
        assert WAYS[way](tmp_path, **settings) == pairs


@but_import
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_without_its_settings_a_file_is_refused(tmp_path, way, settings):
    write_as(tmp_path, settings)
    if settings == {"encoding": "utf-8-sig"}:  # as UTF-8
        assert WAYS[way](tmp_path)
        return
    with pytest.raises(InputError, match=r"d\.inter"):
        WAYS[way](tmp_path)


def test_settings_may_be_in_files(tmp_path, capsys):
    pairs = write_as(tmp_path, SETTINGS["all"])
    file = tmp_path / "s.yaml"
    file.write_text("field_separator: ','\nencoding: latin-1\nUSER_ID_FIELD: x\nepochs: 3\n")
    command = ["data", "check", "d", f"--data_path={tmp_path}", f"--config_files={file}"]
    assert main(command) == 0
    assert main(["data", "show", *command[2:], "--json"]) == 0
    assert f'"pairs": {len(pairs)}' in capsys.readouterr().out


SPLIT = {"a.inter": [HEADER, *MORE[:4]], "b.inter": [HEADER, *MORE[4:6]]}
SPLIT |= {"c.inter": [HEADER, *MORE[6:]]}


@but_import
def test_the_files_of_a_split_are_those_of_benchmark_filename(tmp_path, way):
    write(tmp_path, {**SPLIT, "inter": [HEADER, "u\ti\t1"]})
    assert WAYS[way](tmp_path, benchmark_filename=["a", "b", "c"]) == PAIRS
    with pytest.raises(InputError, match="must name three files"):
        by_check(tmp_path, benchmark_filename=["a", "b"])
    with pytest.raises(InputError, match=r"d\.x\.inter, .*d\.z\.inter"):
        by_check(tmp_path, benchmark_filename=["x", "y", "z"])
    with pytest.raises(InputError, match=r"d\.x\.inter is missing"):
        by_check(tmp_path, benchmark_filename=["a", "b", "x"])


@pytest.mark.parametrize("way", ["data check", "run of RecBole's model", "RecBole's API"])
def test_additional_files_are_read_too(tmp_path, way):
    settings = {"additional_feat_suffix": ["ent"]}
    settings |= {"model": "BPR"} if way == "data check" else {}
    write(tmp_path, {"inter": [HEADER, *MORE], "ent": ["x:token\ty:float", "a\t1"]})
    assert WAYS[way](tmp_path, **settings) == PAIRS
    write(tmp_path, {"ent": ["x:token\ty:float", "a\tb"]})
    with pytest.raises(InputError, match=r"d\.ent, line 2: y 'b' is not a finite number"):
        WAYS[way](tmp_path, **settings)


def test_a_missing_additional_file_is_an_error_of_the_check(tmp_path):
    write(tmp_path, {"inter": [HEADER, *MORE]})
    with pytest.raises(InputError, match=r"d\.ent is missing; expected a file, because addit"):
        by_check(tmp_path, model="BPR", additional_feat_suffix=["ent"])
    with pytest.raises(
        InputError, match=r"additional_feat_suffix .* would have no effect on Light"
    ):
        by_check(tmp_path, additional_feat_suffix=["ent"])


# --- times of three files -----------------------------------------------------------------------

TIMED = "user_id:token\titem_id:token\ttimestamp:float"
FORMS_OF_TIMES = {  # of train, valid and test, with the line of the first that is not like train's
    "dates in test": (["1"], ["2"], ["2020-01-03"], r"d\.test\.inter, line 2"),
    "dates in valid": (["1"], ["2020-01-02"], ["3"], r"d\.valid\.inter, line 2"),
    "dates in valid and test": (["1"], ["2020-01-02"], ["2020-01-03"], r"d\.valid\.inter, line 2"),
    "dates in train": (["2020-01-01"], ["2"], ["3"], r"d\.valid\.inter, line 2"),
    "numbers in test": (["2020-01-01"], ["2020-01-02"], ["3"], r"d\.test\.inter, line 2"),
    "numbers in valid": (["2020-01-01"], ["2"], ["2020-01-03"], r"d\.valid\.inter, line 2"),
    "seconds of a day": (["2020-01-01T10:00"], ["1577872800"], ["1"], r"d\.valid\.inter, line 2"),
    "milliseconds": (
        ["1577836800000"],
        ["1577836800001"],
        ["2020-01-01"],
        r"d\.test\.inter, line 2",
    ),
    "fractions": (["1.5"], ["2.5"], ["2020-01-01T00:00:00.5"], r"d\.test\.inter, line 2"),
    "Z": (["1"], ["2020-01-01T00:00:00Z"], ["2"], r"d\.valid\.inter, line 2"),
    "after a missing one": (["1"], ["2"], ["", "2020-01-01"], r"d\.test\.inter, line 3"),
    "after a missing one of train": (["", "1"], ["2"], ["2020-01-01"], r"d\.test\.inter, line 2"),
}
THREE = ["train", "valid", "test"]


def write_timed(folder, times, kind="float"):
    header = TIMED.replace("float", kind)
    for split, column in zip(THREE, times, strict=True):
        lines = [f"{split}{n}\ti{n}\t{time}" for n, time in enumerate(column)]
        write(folder, {f"{split}.inter": [header, *lines]})


@but_import
@pytest.mark.parametrize("case", FORMS_OF_TIMES.values(), ids=FORMS_OF_TIMES)
def test_three_files_have_times_of_one_form(tmp_path, way, case):
    write_timed(tmp_path, case[:3])
    with pytest.raises(InputError, match=case[3] + r": timestamp '.*' is a .*, but") as refused:
        WAYS[way](tmp_path, benchmark_filename=THREE)
    assert "expected the same in all files: write all times in one form" in str(refused.value)
    assert "\n" not in str(refused.value)


@but_import
@pytest.mark.parametrize(
    "times", [["1", "2", "3"], ["2020-01-01", "2020-01-02T01:00", "2020-01-03Z"]]
)
def test_three_files_with_times_of_one_form_are_read(tmp_path, way, times):
    write_timed(tmp_path, [[time] for time in times])
    pairs = sorted((f"{split}0", "i0") for split in THREE)
    assert WAYS[way](tmp_path, benchmark_filename=THREE) == pairs


@but_import
def test_times_that_no_order_needs_may_be_any_tokens(tmp_path, way):
    write_timed(tmp_path, [["1"], ["noon"], ["2020-01-01"]], kind="token")
    assert len(WAYS[way](tmp_path, benchmark_filename=THREE)) == 3


# --- refused ----------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    "line", ids_of(["\ti1\t1", "u\t\t1", "\t\t", "[PAD]\ti1\t1", "u\t[PAD]\t1"])
)
def test_an_id_is_not_empty_and_not_padding(tmp_path, way, line):
    write(tmp_path, {"inter": [HEADER, *MORE, line]})
    with pytest.raises(InputError, match=r"line 12"):
        WAYS[way](tmp_path)


# --- tables without types ---------------------------------------------------------------------


IDS = [*WORDS_FOR_MISSING, *QUOTED]
ROWS = [*((token, "i0") for token in IDS), *(("u", token) for token in IDS), *PAIRS]


def write_table(folder, form):
    """Write the rows as a table in which only the columns' names say what they are, if anything."""
    (folder / "d").mkdir(exist_ok=True)
    path = folder / "d" / ("d.parquet" if form == "Parquet" else "d.inter")
    rows = [(*row, "1") for row in ROWS]
    if form == "Parquet":
        return parquet(path, pd.DataFrame(rows, columns=["user", "item", "rating"]))
    if form == "commas":  # with quotes where they are needed
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("user", "item", "rating"), *rows])
    else:
        header = [("user_id", "item_id", "rating")] if form == "tabs, header" else []
        path.write_text("".join("\t".join(row) + "\n" for row in [*header, *rows]))
    return path


@pytest.mark.parametrize("form", ["commas", "tabs", "tabs, header", "Parquet"])
def test_ids_of_a_table_without_types_are_what_stands_there(tmp_path, form, capsys):
    path = write_table(tmp_path, form)
    out = import_pairs(path, "d", tmp_path / "out", selection=Selection())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path}: user ")
    assert [f"user {word!r} in 1" in line for word in WORDS_FOR_MISSING] == [True] * 13
    assert [f"item {word!r} in 1" in line for word in WORDS_FOR_MISSING] == [True] * 13
    assert f" of {len(ROWS)} interactions, taken as an id like any other: remove these" in line
    assert out == tmp_path / "out" / "d"
    for way in list(WAYS)[1:]:
        assert WAYS[way](tmp_path / "out", benchmark_filename=list(SPLITS)) == sorted(ROWS), way


def test_the_advice_on_words_for_a_missing_id_works(tmp_path, capsys):
    path = write_table(tmp_path, "tabs, header")
    words = set(WORDS_FOR_MISSING)
    lines = [line for line in path.read_text().splitlines() if not words & set(line.split("\t"))]
    path.write_text("\n".join(lines))
    assert by_import(tmp_path) == sorted(row for row in ROWS if not words & set(row))
    assert capsys.readouterr().err == ""


def test_parquet_has_missing_values_of_its_own(tmp_path):
    typed = {"user_id:token": ["NA", *["more"] * 10], "item_id:token": ["i0", *"0123456789"]}
    path = tmp_path / "t.parquet"
    for missing in (None, ""):
        typed["user_id:token"][0] = missing
        parquet(path, pd.DataFrame(typed))
        with pytest.raises(InputError, match=r"row 1: user (is missing \(null\)|'' is empty)"):
            import_pairs(path, "other", tmp_path)
