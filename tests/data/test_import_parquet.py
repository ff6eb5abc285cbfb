"""``recbole-lightgnn import pairs``: tables of interactions in Parquet files."""

import pandas as pd
import pytest
from helpers.imports import ROWS, bring, everything, imported, parquet, refused


def test_parquet_of_numbers_text_and_times(tmp_path):
    n = len(ROWS)
    when = pd.date_range("2020-01-01", periods=n, freq="D")
    frame = pd.DataFrame(ROWS, columns=["userId", "asin"]).assign(stars=3.5, date=when)
    path = parquet(tmp_path / "t.parquet", frame)
    assert everything(bring(path)) == set(ROWS)
    splits = imported(bring(path, split="time", per="all", min_rating=1, time="date"))
    assert set(splits["test"]) == set(ROWS[-n // 10 :])
    frame["userId"] = pd.Categorical(frame["userId"])
    frame["asin"] = frame["asin"].astype("int16")
    assert everything(bring(parquet(path, frame))) == set(ROWS)
    assert everything(bring(path, user="1", item="2")) == set(ROWS)
    frame["asin"] -= 5
    wanted = {(u, str(int(i) - 5)) for u, i in ROWS}
    assert everything(bring(parquet(path, frame))) == wanted


BAD_PARQUET = {
    "null": ({"user": ["a", None], "item": [1, 2]}, r"row 2: user is missing \(null\)"),
    "float ids": ({"user": ["a", "b"], "item": [1.0, 2.0]}, "column item is of type double"),
    "bytes": ({"user": [b"a", b"b"], "item": [1, 2]}, "column user is of type binary"),
    "a tab": ({"user": ["a", "b\tc"], "item": [1, 2]}, r"row 2: user 'b\\tc' has a tab"),
    "no such column": ({"wer": ["a"], "item": [1]}, "no column 'user'; it has 2 columns"),
    "text as rating": ({"user": ["a"], "item": [1], "rating": ["x"]}, "rating is of type"),
    "nan": (
        {"user": ["a"], "item": [1], "rating": [float("inf")]},
        "row 1: rating is not a finite",
    ),
    "no rows": ({"user": pd.Series([], dtype="int64"), "item": pd.Series([], dtype="int64")}, "no"),
}


@pytest.mark.parametrize(("columns", "why"), BAD_PARQUET.values(), ids=BAD_PARQUET)
def test_bad_parquet_is_one_clear_line(tmp_path, columns, why):
    path = parquet(tmp_path / "t.parquet", pd.DataFrame(columns))
    refused(path, why, min_rating=1 if "rating" in columns else None)


@pytest.mark.parametrize("part", ["a value", "a column's name"])
def test_parquet_that_is_not_utf8(tmp_path, part):
    path = parquet(tmp_path / "t.parquet", pd.DataFrame({"user": ["qqqq"], "item": ["b"]}))
    text = {"a value": b"qqqq", "a column's name": b"user"}[part]
    content = path.read_bytes()
    assert text in content
    path.write_bytes(content.replace(text, b"\xff" * 4))
    refused(path, r"t\.parquet cannot be read as Parquet \(.*(utf|UTF)-?8")


def test_a_truncated_or_foreign_parquet_file(tmp_path):
    path = parquet(tmp_path / "t.parquet", pd.DataFrame(ROWS, columns=["user", "item"]))
    whole = path.read_bytes()
    for content in (
        whole[:-5],
        whole[:40],
        b"",
        b"user,item\n",
        whole[:20] + b"\0" * 99 + whole[119:],
    ):
        path.write_bytes(content)
        refused(path, "cannot be read as Parquet")
    refused(tmp_path / "absent.parquet", "cannot be read as Parquet")
