"""Inference with pruned students (LightGNN's models), against the unpruned student and a teacher.

Two operations are measured. Propagation (Eq. 2 and 4) computes final embeddings from parameters,
without gradients. Recommendation finds the best items from final embeddings, for one user and for
all users. Our propagation is compared with two other ways to compute the same embeddings: torch's
CSR products on dense tables, and `encode`, which training uses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.bench.measure import conditions, deviation, measure, row
from recbole_lightgnn.bench.students import students_of_run, untrained_students
from recbole_lightgnn.bench.text import conditions_text, head_text, milliseconds, short
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.nn.propagation import lightgcn
from recbole_lightgnn.ops import (
    Rows,
    SparsePattern,
    multiply_adds,
    polynomial,
    resident_bytes,
)

TEACHER_LAYERS = 8  # layers of the teacher
TOP = 20  # items per user, as in the names below
CHECKED = 256  # users with checked recommendations
SECONDS = 30.0  # measuring time of each row
PROPAGATION, ONE_USER, ALL_USERS = "propagation", "top 20 for one user", "top 20 for all users"
_SCORES = 1 << 24  # scores in memory at once: 64 MB

Tables = tuple[Tensor, Tensor]  # embeddings of users and of items


@dataclass(frozen=True)
class Contender:
    """A model to measure: a student or the teacher.

    Attributes:
        infer: function that computes final embeddings from the parameters.
        pattern: edges, as positions in the user-item matrix. Shape: (users, items)
        values: weight of each edge in the propagation. Shape: (edges,)
        rows: initial embeddings of users, packed or dense. Shape: (users, width)
        cols: initial embeddings of items, packed or dense. Shape: (items, width)
        n_layers: number of layers of propagation.
        residual: whether each layer adds the previous layer (Eq. 4) or not (Eq. 1).
        others: other functions that compute the same final embeddings, by name.
    """

    infer: Callable[[], Tables]
    pattern: SparsePattern
    values: Tensor
    rows: Rows
    cols: Rows
    n_layers: int
    residual: bool
    others: Mapping[str, Callable[[], Tables]]

    def dense(self) -> Tables:
        """Return the initial embeddings as dense tables; pruned entries are zero."""
        rows, cols = (
            part if isinstance(part, Tensor) else part.dense() for part in (self.rows, self.cols)
        )
        return rows, cols


def run(dataset: str, folder: Path | None = None) -> dict[str, Any]:
    """Check final embeddings and recommendations of all models, then measure their times.

    Args:
        dataset: name of the dataset to make untrained students for; not used with ``folder``.
        folder: run folder of trained students; ``None`` for untrained students.

    Returns:
        The result, for a JSON file. ``models``: for each model ``multiply_adds`` of propagation,
        ``of_teacher`` (``multiply_adds`` divided by the teacher's) and ``resident_bytes`` (bytes
        that propagation reads). ``rows``: seconds of propagation and of recommendation, and
        ``times_ours``: the time of each model divided by the time of the first model, the pruned
        student with the fewest pruning runs.

    Raises:
        InputError: if the dataset or the run cannot be read.
        WrongResult: if the largest error of final embeddings is above 1e-5 of the largest absolute
            entry, or if a recommended item is not among the best items.
    """
    before = conditions()
    if folder is not None:
        dataset, students = students_of_run(folder)
        origin = f"students: of {folder}"
    else:
        students = untrained_students(dataset)
        origin = "students: untrained, made by a truncated SVD; their scores mean nothing"
    contenders = _contenders(students)
    worst, propagations = _checked_propagations(contenders)
    observed = students[0].observed
    seen, user = observed.interactions.pattern, observed.n_users // 2
    tables = {name: contender.infer() for name, contender in contenders.items()}
    for name, pair in tables.items():
        _check_recommendations(name, pair, seen)
    recommend_one = {
        name: partial(recommend, *t, seen, user, user + 1) for name, t in tables.items()
    }
    recommend_all = {
        name: partial(recommend, *t, seen, 1, observed.n_users) for name, t in tables.items()
    }
    return {
        "bench": "infer",
        "graph": dataset,
        "users": observed.n_users - 1,  # without RecBole's padding
        "items": observed.n_items - 1,
        "interactions": observed.n_edges,
        "width": students[0].user_embedding.shape[1],
        "deviation": worst,
        "conditions": before,
        "notes": [origin],
        "models": _sizes(contenders),
        "rows": [
            row(PROPAGATION, measure(propagations, seconds=SECONDS)),
            row(ONE_USER, measure(recommend_one, seconds=SECONDS)),
            row(ALL_USERS, measure(recommend_all, seconds=SECONDS)),
        ],
    }


# --- the models -----------------------------------------------------------------------------


def _contenders(students: Mapping[int, LightGNN]) -> dict[str, Contender]:
    """The students to measure, and a teacher with the unpruned student's initial embeddings."""
    unpruned = students[0]
    n_rows = unpruned.n_users + unpruned.n_items - 2  # without RecBole's padding
    contenders = {}
    for run, student in students.items():
        sizes = student.sizes()
        entries = sizes["entries"] / (n_rows * student.user_embedding.shape[1])
        edges = sizes["interactions"] / student.observed.n_edges
        if run:
            name = f"student, run {run} ({_share(entries)}/{_share(edges)})"
            contenders[name] = _student(student)
    contenders["student, unpruned"] = _student(unpruned)
    contenders[f"teacher, {TEACHER_LAYERS} layers"] = _teacher(unpruned)
    return contenders


def _student(student: LightGNN) -> Contender:
    """A student as a model to measure."""
    interactions = student.graph.interactions
    with torch.no_grad():
        ones = torch.ones_like(student.edge_weight)
        values = interactions.norm * (ones if student.binary_edges else student.edge_weight)
    tables = student.user_embedding, student.item_embedding
    others = {
        "by torch's CSR": lambda: _by_csr(
            interactions.pattern, values, *(table() for table in tables), student.n_layers
        ),
        "encode": student.encode,
    }
    return Contender(
        student.infer,
        interactions.pattern,
        values,
        *(table.rows() for table in tables),
        n_layers=student.n_layers,
        residual=True,
        others={name: torch.no_grad()(other) for name, other in others.items()},
    )


def _teacher(student: LightGNN) -> Contender:
    """A teacher with a student's initial embeddings, as a model to measure."""
    graph = student.observed
    pattern, norm = graph.interactions.pattern, graph.interactions.norm
    user, item = (table().detach() for table in (student.user_embedding, student.item_embedding))
    ones = [1.0] * (TEACHER_LAYERS + 1)
    return Contender(
        partial(polynomial, pattern, norm, user, item, ones),
        pattern,
        norm,
        user,
        item,
        n_layers=TEACHER_LAYERS,
        residual=False,
        others={"encode": partial(lightgcn, graph, user, item, n_layers=TEACHER_LAYERS)},
    )


def _by_csr(
    pattern: SparsePattern, values: Tensor, user: Tensor, item: Tensor, n_layers: int
) -> Tables:
    """Compute a student's final embeddings by torch's CSR products on dense tables.

    The sum of the layers is a polynomial in the adjacency matrix with binomial coefficients,
    evaluated by Horner's rule.
    """
    matrix, transposed = pattern.matrix(values), pattern.matrix(values, transpose=True)
    users, items, factor = user, item, 1.0
    for layer in range(n_layers):
        factor *= (n_layers + 1 - layer) / (layer + 1)  # n_layers + 1 choose layer + 1
        users, items = (
            torch.addmm(user, matrix, items, beta=factor),
            torch.addmm(item, transposed, users, beta=factor),
        )
    return users, items


def _sizes(contenders: Mapping[str, Contender]) -> dict[str, dict[str, Any]]:
    """Multiply-adds and resident bytes of each model; the last model is the teacher."""
    sizes: dict[str, dict[str, Any]] = {}
    for name, contender in contenders.items():
        parts = contender.pattern, contender.rows, contender.cols
        sizes[name] = {
            "multiply_adds": multiply_adds(*parts, n_products=contender.n_layers),
            "resident_bytes": resident_bytes(*parts),
        }
    *_, teacher = sizes.values()
    for size in sizes.values():
        size["of_teacher"] = size["multiply_adds"] / teacher["multiply_adds"]
    return sizes


def _share(share: float) -> str:
    return f"{share:.2f}".removeprefix("0")


# --- checks ---------------------------------------------------------------------------------


def _checked_propagations(
    contenders: Mapping[str, Contender],
) -> tuple[float, dict[str, Callable[[], Tables]]]:
    """Check all propagations; return their largest relative error, and each propagation by name.

    Raises:
        WrongResult: if a final embedding is wrong.
    """
    worst, propagations = 0.0, {}
    for name, contender in contenders.items():
        truth = _layer_by_layer(contender)
        propagations[name] = contender.infer
        propagations |= {f"{name}: {other}": way for other, way in contender.others.items()}
        for propagation in (contender.infer, *contender.others.values()):
            worst = max(worst, deviation(name, propagation(), truth))
    return worst, propagations


def _layer_by_layer(contender: Contender) -> Tables:
    """Compute a model's correct final embeddings in float64, by torch's COO product."""
    indices = torch.stack([contender.pattern.row, contender.pattern.col])
    matrix = torch.sparse_coo_tensor(
        indices, contender.values.double(), contender.pattern.shape, check_invariants=False
    )
    user, item = (table.double() for table in contender.dense())
    user_sum, item_sum = user, item
    for _ in range(contender.n_layers):
        new = torch.sparse.mm(matrix, item), torch.sparse.mm(matrix.t(), user)
        user, item = (new[0] + user, new[1] + item) if contender.residual else new
        user_sum, item_sum = user_sum + user, item_sum + item
    return user_sum, item_sum


def _check_recommendations(name: str, tables: Tables, seen: SparsePattern) -> None:
    """Check that the recommended items of the first users have the largest unseen scores.

    Raises:
        WrongResult: if an unseen item that was left out has a larger score.
    """
    last = min(CHECKED, len(tables[0]))
    best = recommend(*tables, seen, 1, last)
    user, item = (table.double() for table in tables)
    scores = user[1:last] @ item.T
    scores[:, 0] = -torch.inf
    here = (seen.row >= 1) & (seen.row < last)
    scores[seen.row[here] - 1, seen.col[here]] = -torch.inf
    truth = scores.sort(dim=1, descending=True).values[:, : best.shape[1]]
    # A user with few unseen items also gets seen items, which have the score -inf.
    got, expected = (part.nan_to_num(neginf=0.0) for part in (scores.gather(1, best), truth))
    deviation(f"recommendations by {name}", [got], [expected])


# --- recommendation -------------------------------------------------------------------------


def recommend(
    user: Tensor, item: Tensor, seen: SparsePattern, first: int, last: int, k: int = TOP
) -> Tensor:
    """Find each user's k unseen items with the largest scores (inner products), best item first.

    Args:
        user: final embeddings. Shape: (users, width)
        item: final embeddings; row 0 is RecBole's padding. Shape: (items, width)
        seen: interactions to leave out. Shape: (users, items)
        first: number of the first user.
        last: number of the last user plus 1.
        k: number of items per user.

    Returns:
        Item numbers. Shape: (last - first, k), with fewer columns if there are fewer items
    """
    chunk = max(1, _SCORES // len(item))
    best = []
    for start in range(first, last, chunk):
        stop = min(last, start + chunk)
        scores = user[start:stop] @ item.T
        scores[:, 0] = -torch.inf
        begin, end = torch.searchsorted(seen.row, torch.tensor([start, stop])).tolist()
        scores[seen.row[begin:end] - start, seen.col[begin:end]] = -torch.inf
        best.append(scores.topk(min(k, len(item) - 1), dim=1).indices)
    return torch.cat(best)


# --- text -----------------------------------------------------------------------------------


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as tables of models and propagations."""
    from tabulate import tabulate

    rows = {row["operation"]: row for row in result["rows"]}
    models = []
    for name, size in result["models"].items():
        times = [milliseconds(rows[operation]["seconds"][name]) for operation in rows]
        models.append(
            [
                name,
                f"{size['multiply_adds'] / 1e6:.1f} M",
                f"{size['of_teacher']:.3f}",
                f"{size['resident_bytes'] / 1e6:.2f} MB",
                *times,
            ]
        )
    columns = ["", "multiply-adds", "of teacher's", "resident", *rows]
    others = [
        [name, milliseconds(seconds), f"x {short(rows[PROPAGATION]['times_ours'][name])}"]
        for name, seconds in rows[PROPAGATION]["seconds"].items()
        if name in rows[PROPAGATION]["times_ours"]
    ]
    first = next(iter(result["models"]))
    return "\n".join(
        [
            *head_text(result),
            "",
            tabulate([columns, *models], tablefmt="plain", disable_numparse=True),
            "",
            f"{PROPAGATION}, times that of {first}:",
            tabulate(others, tablefmt="plain", disable_numparse=True),
            "",
            "median (quartiles) in milliseconds",
            *result["notes"],
            conditions_text(result),
        ]
    )
