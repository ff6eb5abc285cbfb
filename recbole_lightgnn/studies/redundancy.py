"""Are pruned interactions redundant, or disliked? Figure 6 of the LightGNN paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.studies.look import COLOURS
from recbole_lightgnn.studies.place import Place, Runs, Unsuitable
from recbole_lightgnn.studies.statistics import permutation_test, similarity_within_groups

DRAWS = 499  # of each permutation test
EXAMPLES = 3  # users in the figure
MAX_LINES = 18  # interactions of a user in the figure, at most
_GENRES = ("class", "genre", "genres", "category", "categories")
_TITLES = ("movie_title", "title", "name")
_MAX_TITLE = 34
_KEPT, _PRUNED = COLOURS[:2]


def shared_runs() -> Runs:
    """Models and variants that the study trains in the shared comparison."""
    return ("LightGNN",), {}


def measure(place: Place) -> dict[str, Any]:
    """Compare the genres and the ratings of pruned interactions with those of kept ones."""
    from recbole_lightgnn.studies.pruned import pruned_students

    columns = _columns(place)
    (run,) = place.with_first_seed().train(["LightGNN"])["LightGNN"]
    trained, students = pruned_students(run)
    users, items = students[0].users, students[0].items
    facts = _facts(columns, trained, users, items)
    alike = similarity_within_groups(facts["genres"], users)
    rng = np.random.default_rng(0)
    rows = []
    for student in students:
        row: list[Any] = [float(student.removed.mean())]
        for values in (alike, facts["ratings"]):
            there = ~np.isnan(values)
            test = permutation_test(
                values[there], student.removed[there], users[there], draws=DRAWS, rng=rng
            )
            row += [test.difference, test.p, test.groups]
        rows.append(row)
    return {
        "seeds": place.seeds[:1],
        "tables": [
            {
                "name": "differences",
                "title": "Pruned minus kept interactions of the same user, mean over users: "
                "similarity in genre to the user's other items (Jaccard), and the user's rating, "
                "which the model has not seen; p-values of permutation tests within users",
                "columns": [
                    *("pruned", "similarity", "p", "users"),
                    *("rating", "p of rating", "users with ratings"),
                ],
                "rows": rows,
            }
        ],
        "examples": _examples(students[-1], facts),
    }


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """Draw the interactions of some users, pruned and kept."""
    return [_figure(content)] if content["examples"] else []


def findings(content: Mapping[str, Any]) -> list[str]:
    """Say in words what the numbers show."""
    rows = content["tables"][0]["rows"]
    return [
        _finding([(r[0], r[1], r[2]) for r in rows], "in genre", ("more alike", "less alike")),
        _finding([(r[0], r[4], r[5]) for r in rows], "rated", ("higher", "lower")),
    ]


def _finding(rows: Sequence[tuple[float, float, float]], what: str, words: Sequence[str]) -> str:
    """Compare pruned with kept interactions, from (share pruned, difference, p) of each row."""
    signs = [int(np.sign(difference)) for _, difference, p in rows if p is not None and p < 0.05]
    more, less, shares = signs.count(1), signs.count(-1), f"{rows[0][0]:.0%} to {rows[-1][0]:.0%}"
    if len(rows) in (more, less):
        return (
            f"Pruned interactions are {what} {words[0 if more else 1]} than the same user's kept "
            f"ones, with {shares} pruned (p < .05 in every row)."
        )
    return (
        f"Pruned interactions are {what} {words[0]} than kept ones in {more} of {len(rows)} rows, "
        f"and {words[1]} in {less} (p < .05); {shares} are pruned."
    )


def _columns(place: Place) -> tuple[Any, str, str | None]:
    """Find the columns of genres and of titles in the dataset's file of items.

    Returns:
        The run's settings, the column of genres, and the column of titles or ``None``.

    Raises:
        Unsuitable: if the dataset has no genres or no ratings.
    """
    from pathlib import Path

    from recbole_lightgnn.data.atomic_header import open_atomic
    from recbole_lightgnn.data.file_kinds import interaction_files

    config = place.config("LightGNN")
    name, folder = config["dataset"], Path(config["data_path"])

    def types(file: Path) -> dict[str, str]:
        return open_atomic(file, config["field_separator"], config["encoding"]).types

    items = folder / f"{name}.item"
    found = types(items) if items.is_file() else {}
    genre = next((column for column in _GENRES if found.get(column) == "token_seq"), None)
    if genre is None:
        raise _lacking(name, f"no column {' or '.join(_GENRES)} of type token_seq in {items}")
    rating = config["RATING_FIELD"]
    for file in interaction_files(folder, name, config):
        if file.is_file() and types(file).get(rating) != "float":
            raise _lacking(name, f"no column {rating}:float in {file}")
    return config, genre, next((column for column in _TITLES if column in found), None)


def _facts(
    columns: tuple[Any, str, str | None],
    trained: Any,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
) -> dict[str, Any]:
    """Genres, ratings and titles of a run's training interactions, from the dataset's files."""
    from recbole.data import create_dataset

    config, genre, title = columns
    rating = config["RATING_FIELD"]
    config["load_col"] = {
        "inter": [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], rating],
        "item": [config["ITEM_ID_FIELD"], genre, *([title] if title else [])],
    }
    # Everything as it is in the files, without filters.
    for key in ("normalize_all", "normalize_field", "threshold", "val_interval", "unload_col"):
        config[key] = None
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        config[key] = "[0,inf)"
    config["filter_inter_by_user_or_item"] = False
    whole = create_dataset(config)
    whole._change_feat_format()
    return _aligned(trained.dataset, whole, users, items, (genre, title, rating))


def _aligned(
    train: Any,
    whole: Any,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    columns: tuple[str, str | None, str],
) -> dict[str, Any]:
    """Facts of the given interactions; ``whole`` numbers users and items in its own way."""
    genre, title, rating = columns
    ids = [
        np.array([whole.field2token_id[field][token] for token in train.field2id_token[field]])
        for field in (train.uid_field, train.iid_field)
    ]
    user, item = ids[0][users], ids[1][items]
    keys = whole.inter_feat[whole.uid_field].numpy() * whole.item_num
    keys = keys + whole.inter_feat[whole.iid_field].numpy()
    order = np.argsort(keys)
    wanted = user * whole.item_num + item
    places = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
    ratings = whole.inter_feat[rating].double().numpy()[places]
    ratings[keys[places] != wanted] = np.nan
    sets = whole.item_feat[genre].numpy()  # numbers of genres, 0 for none
    has = np.zeros((whole.item_num, len(whole.field2id_token[genre])), dtype=bool)
    np.put_along_axis(has, sets, True, axis=1)
    has[:, 0] = False
    names = None
    if title is not None:
        texts = whole.item_feat[title].numpy()
        tokens = whole.field2id_token[title]
        rows = texts if texts.ndim == 2 else texts[:, None]
        names = [" ".join(tokens[number] for number in rows[one] if number) for one in item]
    genres = [" ".join(whole.field2id_token[genre][np.flatnonzero(has[one])]) for one in item]
    return {
        "genres": has[item],
        "ratings": ratings,
        "titles": names,
        "genre_names": genres,
        "user_tokens": train.field2id_token[train.uid_field],
    }


def _lacking(dataset: str, what: str) -> Unsuitable:
    return Unsuitable(
        f"the study redundancy needs genres and ratings, and {dataset} has {what}: choose a "
        "dataset such as ml-100k, or leave the study out"
    )


def _examples(student: Any, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The interactions of a few users with few of them, the first by number, with titles."""
    if facts["titles"] is None:
        return []
    degree = np.bincount(student.users)
    pruned = np.bincount(student.users, student.removed, minlength=len(degree))
    wanted = (degree <= MAX_LINES) & (pruned >= 2) & (degree - pruned >= 2)
    examples = []
    for user in np.flatnonzero(wanted)[:EXAMPLES]:
        places = np.flatnonzero(student.users == user)
        places = places[np.argsort(student.removed[places], kind="stable")]
        examples.append(
            {
                "user": str(facts["user_tokens"][user]),
                "items": [
                    {
                        "title": facts["titles"][place],
                        "genres": facts["genre_names"][place],
                        "rating": float(facts["ratings"][place]),
                        "pruned": bool(student.removed[place]),
                    }
                    for place in places
                ],
            }
        )
    return examples


def _figure(content: Mapping[str, Any]) -> Figure:
    examples: list[dict[str, Any]] = content["examples"]

    def draw(axes: Any) -> None:
        for panel, example in zip(axes[0], examples, strict=True):
            panel.set_axis_off()
            panel.set_title(f"user {example['user']}", loc="left")
            lines = example["items"]
            for row, line in enumerate(lines):
                height = 1 - (row + 0.5) / MAX_LINES
                colour, mark = (_PRUNED, "✕") if line["pruned"] else (_KEPT, "●")
                texts = ((0.0, mark, 8), (0.08, _short(line["title"]), 7))
                for place, text, points in texts:
                    panel.text(
                        place, height, text, color=colour, fontsize=points, va="center",
                        transform=panel.transAxes,
                    )  # fmt: skip
                panel.text(
                    0.08, height - 0.026, f"{line['genres'][:44]} · {line['rating']:g}",
                    color="#555555", fontsize=5.5, va="center", transform=panel.transAxes,
                )  # fmt: skip

    alt = "; ".join(
        f"user {example['user']}: pruned "
        + ", ".join(line["title"] for line in example["items"] if line["pruned"])
        for example in examples
    )
    return Figure(
        "examples",
        draw,
        f"Training interactions of {len(examples)} users of {content['dataset']}, with genres and "
        "the user's rating, which the model has not seen. Dots: kept; crosses: pruned.",
        f"{alt}.",
        size=(7.2, 5.2),
        panels=(1, len(examples)),
    )


def _short(title: str) -> str:
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
