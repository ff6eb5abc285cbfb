r"""What a pruned student saves where it is used, beside its unpruned self and a teacher.

Propagation (Eq. 2, 4) from parameters to final embeddings, without gradients; what it reads and
how many multiply-adds it executes; and, once embeddings are there, the best items for one user and
for all. Beside propagation as the package does it, two others are measured: the same polynomial by
torch's CSR products on whole tables, and `encode`, what training propagates with.
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
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.nn.propagation import lightgcn
from recbole_lightgnn.ops import (
    Rows,
    SparsePattern,
    multiply_adds,
    polynomial,
    resident_bytes,
)

TEACHER_LAYERS = 8
TOP = 20  # as the names below say
CHECKED = 256  # users whose recommendations are compared
SECONDS = 30.0  # about how long each row is measured
PROPAGATION, ONE_USER, ALL_USERS = "propagation", "top 20 for one user", "top 20 for all users"
_SCORES = 1 << 24  # scores held at once: 64 MB

Tables = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Contender:
    """A model to use.

    Attributes:
        infer: from its parameters to final embeddings.
        pattern: its edges.
        values: what an edge is multiplied by. Shape: (edges,)
        rows: initial embeddings of its users, as it holds them. Shape: (users, width)
        cols: of its items. Shape: (items, width)
        n_layers: layers of propagation.
        residual: whether a layer adds the one before (Eq. 4) or not (Eq. 1).
        others: other ways to the same embeddings, by name.
    """

    infer: Callable[[], Tables]
    pattern: SparsePattern
    values: Tensor
    rows: Rows
    cols: Rows
    n_layers: int
    residual: bool
    others: Mapping[str, Callable[[], Tables]]

    def whole(self) -> Tables:
        """The initial embeddings, pruned entries as zeros."""
        rows, cols = (
            part if isinstance(part, Tensor) else part.dense() for part in (self.rows, self.cols)
        )
        return rows, cols


def run(dataset: str, folder: Path | None = None) -> dict[str, Any]:
    """Check every way to the final embeddings, then measure.

    Args:
        dataset: what untrained students are made of; not looked at where a run is given.
        folder: of a run, whose students are taken.

    Returns:
        The result, of plain values: ``models``, with the ``multiply_adds`` of each, their share
        ``of_teacher`` and its ``resident_bytes``; and ``rows``, the ``seconds`` of propagation
        and of recommending by who is measured, with ``times_ours``, their medians over those of
        the first, the student that is pruned least.

    Raises:
        InputError: if the dataset or the run cannot be read.
        WrongResult: if an embedding is wrong by more than 1e-5 of the largest, or a user would be
            recommended other items than the best.
    """
    before = conditions()
    if folder is not None:
        dataset, students = students_of_run(folder)
        origin = f"students: of {folder}"
    else:
        students = untrained_students(dataset)
        origin = "students: not trained, from a truncated SVD; their scores mean nothing"
    contenders = _contenders(students)
    worst, ways = 0.0, {}
    for name, contender in contenders.items():
        truth = _layer_by_layer(contender)
        ways[name] = contender.infer
        ways |= {f"{name}: {other}": way for other, way in contender.others.items()}
        for way in (contender.infer, *contender.others.values()):
            worst = max(worst, deviation(name, way(), truth))
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
            row(PROPAGATION, measure(ways, seconds=SECONDS)),
            row(ONE_USER, measure(recommend_one, seconds=SECONDS)),
            row(ALL_USERS, measure(recommend_all, seconds=SECONDS)),
        ],
    }


# --- who competes ---------------------------------------------------------------------------


def _contenders(students: Mapping[int, LightGNN]) -> dict[str, Contender]:
    """The pruned students, the unpruned one, and a teacher that starts with its embeddings."""
    unpruned = students[0]
    table = unpruned.n_users + unpruned.n_items - 2
    entered = {}
    for run, student in students.items():
        sizes = student.sizes()
        entries = sizes["entries"] / (table * student.user_embedding.shape[1])
        edges = sizes["interactions"] / student.observed.n_edges
        if run:
            entered[f"student, run {run} ({_share(entries)}/{_share(edges)})"] = _student(student)
    entered["student, unpruned"] = _student(unpruned)
    entered[f"teacher, {TEACHER_LAYERS} layers"] = _teacher(unpruned)
    return entered


def _student(student: LightGNN) -> Contender:
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
        others={name: torch.no_grad()(way) for name, way in others.items()},
    )


def _teacher(student: LightGNN) -> Contender:
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
    """A student's polynomial by Horner's rule on whole tables, in torch's sparse products."""
    matrix, turned = pattern.matrix(values), pattern.matrix(values, transpose=True)
    users, items, factor = user, item, 1.0
    for layer in range(n_layers):
        factor *= (n_layers + 1 - layer) / (layer + 1)  # of binomials: the next towards the first
        users, items = (
            torch.addmm(user, matrix, items, beta=factor),
            torch.addmm(item, turned, users, beta=factor),
        )
    return users, items


def _sizes(contenders: Mapping[str, Contender]) -> dict[str, dict[str, Any]]:
    sizes: dict[str, dict[str, Any]] = {}
    for name, contender in contenders.items():
        held = contender.pattern, contender.rows, contender.cols
        sizes[name] = {
            "multiply_adds": multiply_adds(*held, n_products=contender.n_layers),
            "resident_bytes": resident_bytes(*held),
        }
    *_, teacher = sizes.values()
    for size in sizes.values():
        size["of_teacher"] = size["multiply_adds"] / teacher["multiply_adds"]
    return sizes


def _share(share: float) -> str:
    return f"{share:.2f}".removeprefix("0")


# --- what is right --------------------------------------------------------------------------


def _layer_by_layer(contender: Contender) -> Tables:
    """The sum of the layers in float64, by torch's COO product."""
    place = torch.stack([contender.pattern.row, contender.pattern.col])
    matrix = torch.sparse_coo_tensor(
        place, contender.values.double(), contender.pattern.shape, check_invariants=False
    )
    user, item = (table.double() for table in contender.whole())
    user_sum, item_sum = user, item
    for _ in range(contender.n_layers):
        new = torch.sparse.mm(matrix, item), torch.sparse.mm(matrix.t(), user)
        user, item = (new[0] + user, new[1] + item) if contender.residual else new
        user_sum, item_sum = user_sum + user, item_sum + item
    return user_sum, item_sum


def _check_recommendations(name: str, tables: Tables, seen: SparsePattern) -> None:
    """The scores of what the first users are recommended must be their largest unseen ones."""
    last = min(CHECKED, len(tables[0]))
    best = recommend(*tables, seen, 1, last)
    user, item = (table.double() for table in tables)
    scores = user[1:last] @ item.T
    scores[:, 0] = -torch.inf
    here = (seen.row >= 1) & (seen.row < last)
    scores[seen.row[here] - 1, seen.col[here]] = -torch.inf
    truth = scores.sort(dim=1, descending=True).values[:, : best.shape[1]]
    # Who has seen nearly all gets what is seen after it, whose scores are infinite.
    got, wanted = (part.nan_to_num(neginf=0.0) for part in (scores.gather(1, best), truth))
    deviation(f"recommendations by {name}", [got], [wanted])


# --- recommending ---------------------------------------------------------------------------


def recommend(
    user: Tensor, item: Tensor, seen: SparsePattern, first: int, last: int, k: int = TOP
) -> Tensor:
    """The k items of largest inner product that a user has not seen, best first.

    Args:
        user: final embeddings. Shape: (users, width)
        item: final embeddings, row 0 RecBole's padding. Shape: (items, width)
        seen: users x items, what is left out.
        first: the first user.
        last: the one after the last.
        k: how many.

    Returns:
        Item numbers. Shape: (last - first, k), or fewer columns where there are fewer items
    """
    step = max(1, _SCORES // len(item))
    found = []
    for start in range(first, last, step):
        stop = min(last, start + step)
        scores = user[start:stop] @ item.T
        scores[:, 0] = -torch.inf
        begin, end = torch.searchsorted(seen.row, torch.tensor([start, stop])).tolist()
        scores[seen.row[begin:end] - start, seen.col[begin:end]] = -torch.inf
        found.append(scores.topk(min(k, len(item) - 1), dim=1).indices)
    return torch.cat(found)


# --- for reading ----------------------------------------------------------------------------


def text(result: Mapping[str, Any]) -> str:
    """The result, for reading: a line a model, then the other ways to propagate."""
    from tabulate import tabulate

    from recbole_lightgnn.bench.text import conditions_text, head_text, milliseconds, short

    rows = {row["operation"]: row for row in result["rows"]}
    models = []
    for name, size in result["models"].items():
        taken = [milliseconds(rows[operation]["seconds"][name]) for operation in rows]
        models.append(
            [
                name,
                f"{size['multiply_adds'] / 1e6:.1f} M",
                f"{size['of_teacher']:.3f}",
                f"{size['resident_bytes'] / 1e6:.2f} MB",
                *taken,
            ]
        )
    columns = ["", "multiply-adds", "of teacher's", "resident", *rows]
    others = [
        [name, milliseconds(taken), f"x {short(rows[PROPAGATION]['times_ours'][name])}"]
        for name, taken in rows[PROPAGATION]["seconds"].items()
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
