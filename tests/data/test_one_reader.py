"""An atomic file means the same to import, ``data check``, a run and RecBole's API; ten variants.

Each is read to the same pairs in every way, or refused in every way.
"""

import re

import pandas as pd
import pytest
from helpers.atomic_files import WAYS, by_import, write
from helpers.imports import parquet

from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError

HEADER = "user_id:token\titem_id:token\trating:float"
MORE = [f"more\ti{n}\t{n}" for n in range(10)]  # enough to split
PAIRS = [("more", f"i{n}") for n in range(10)]

every_way = pytest.mark.parametrize("way", WAYS)


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


@pytest.mark.parametrize("token", ids_of([*WORDS_FOR_MISSING, '""""', '"""a"']))
def test_the_advice_on_a_word_for_a_missing_value_works(tmp_path, token):
    """Other programs write missing ids so; the types of an atomic file say that it is an id."""
    (tmp_path / "d").mkdir()
    table = tmp_path / "d" / "d.inter"
    lines = [f"{token},i0,1", *(line.replace("\t", ",") for line in MORE)]
    table.write_text("\n".join(["user,item,rating", *lines]))
    with pytest.raises(
        InputError, match=r"line 2: user .* RecBole .*id, give all columns"
    ) as error:
        by_import(tmp_path)
    types = re.search("user_id:token, item_id:token", str(error.value))[0].split(", ")
    table.write_text("\n".join([",".join([*types, "rating:float"]), *lines]))
    read = token[1:-1].replace('""', '"') if token[0] == '"' else token
    assert by_import(tmp_path) == sorted([(read, "i0"), *PAIRS])


def test_parquet_has_missing_values_of_its_own(tmp_path):
    typed = {"user_id:token": ["NA", *["more"] * 10], "item_id:token": ["i0", *"0123456789"]}
    path = parquet(tmp_path / "t.parquet", pd.DataFrame(typed))
    out = import_pairs(path, "d", tmp_path, selection=Selection())
    assert "NA\ti0\n" in "".join(file.read_text() for file in out.glob("*.inter"))
    for missing in (None, ""):
        typed["user_id:token"][0] = missing
        parquet(path, pd.DataFrame(typed))
        with pytest.raises(InputError, match=r"row 1: user (is missing \(null\)|'' is empty)"):
            import_pairs(path, "other", tmp_path)
