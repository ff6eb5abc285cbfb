"""Read a comparison's records, tables and page in tests."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np


def rows_of(folder, model, key, seeds=(1, 2, 3)):
    """Rows with the given key in the records of a model, one for each seed."""
    records = [json.loads((folder / f"runs/{model}-{s}/record.json").read_text()) for s in seeds]
    return [next(row for row in one["rows"] if row["key"] == key) for one in records]


def users_of(folder, model, key, metric, seeds=(1, 2, 3)):
    """A metric of each test user, averaged over seeds. Shape: (users,)"""
    by_seed = []
    for seed in seeds:
        arrays = np.load(folder / f"runs/{model}-{seed}/record.users.npz", allow_pickle=False)
        by_seed.append(arrays[metric][arrays["rows"].tolist().index(key)])
    return sum(by_seed) / len(by_seed)


def table_of(folder):
    """Rows of table.csv as dictionaries, by label."""
    with (folder / "table.csv").open(encoding="utf-8") as file:
        return {line["label"]: line for line in csv.DictReader(file)}


def cells(line):
    """Cells of a row of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def markdown_of(folder):
    """Rows of table.md as dictionaries, by label."""
    lines = [x for x in (folder / "table.md").read_text().splitlines() if x.startswith("| ")]
    head, *body = map(cells, lines)
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}


class Page(HTMLParser):
    """Parsed page of a comparison.

    Attributes:
        rows: text of the table's cells, row by row.
        bold: text of bold cells.
        pictures: attributes of each picture.
        loads: every attribute value from which a browser could load something.
        tags: names of all opening tags, in order.
    """

    def __init__(self, text):
        super().__init__()
        self.rows, self.bold, self.pictures, self.loads, self.tags = [], [], [], [], []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Record a tag, its picture, its links and the start of a row or cell."""
        given = dict(attributes)
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(given)
        names = ("src", "href", "srcset", "data", "action", "xlink:href", "poster", "background")
        self.loads += [given[name] for name in names if name in given]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        """Record the end of a cell."""
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        """Record the text of a cell."""
        if self._cell:
            self.rows[-1][-1] += data
            self.bold += [data] if self.tags[-1] == "b" and self.rows[-1][-1] == data else []
