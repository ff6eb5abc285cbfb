"""Whether a dataset can be trusted: repeated pairs, leakage, empty splits, files changed later."""

from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import pairs_hash
from recbole_lightgnn.data.inspect import counted, pair_keys, without
from recbole_lightgnn.data.stored import Content, Pairs, Stored, read_card
from recbole_lightgnn.errors import InputError


class Finding(NamedTuple):
    """What a check has to say. An error makes what is measured on the dataset untrustworthy."""

    level: str  # "error" or "warning"
    message: str


def check(stored: Stored, content: Content) -> list[Finding]:
    """Everything that is wrong with a dataset, errors first.

    Errors: a missing or empty split, malformed lines, pairs that come twice, in one split or in
    two, and other pairs than its card says. Warnings: users and items that have no train pair,
    and no card to compare with.
    """
    errors = [
        f"{file} is missing: a run needs three splits; import again" for file in stored.missing
    ]
    keys = {}
    for split, pairs in content.splits.items():
        keys[split], counts = np.unique(pair_keys(pairs, len(content.items)), return_counts=True)
        errors += _malformed(stored.files[split], pairs)
        errors += _repeated(stored.files[split], keys[split][counts > 1], content)
    for a, b in combinations(content.splits, 2):
        shared = np.intersect1d(keys[a], keys[b], assume_unique=True)
        if len(shared):
            told = f"{counted(len(shared), 'pair')} of {b} in {a} too ({_one(shared, content)})"
            errors.append(f"leakage: {told}; split anew")
    warnings = _cold(content)
    try:
        card = read_card(stored)
    except InputError as error:
        errors.append(str(error))
    else:
        errors += _changes(card, stored, content)
        if card is None:
            warnings.append("no card: whether the files were changed after import is not known")
    return [
        *(Finding("error", message) for message in errors),
        *(Finding("warning", message) for message in warnings),
    ]


def _malformed(file: Path, pairs: Pairs) -> list[str]:
    faults = []
    if pairs.n_malformed:
        more = ", ..." if pairs.n_malformed > len(pairs.malformed) else ""
        lines = (
            f"{counted(pairs.n_malformed, 'malformed line')} ({'; '.join(pairs.malformed)}{more})"
        )
        faults.append(f"{file}: {lines}; mend or remove")
    if not len(pairs.users):
        faults.append(f"{file} has no pair; expected at least one: import again")
    return faults


def _repeated(file: Path, keys: NDArray[np.int64], content: Content) -> list[str]:
    if not len(keys):
        return []
    told = f"{counted(len(keys), 'repeated pair')} ({_one(keys, content)})"
    return [f"{file}: {told}; remove the repeats"]


def _one(keys: NDArray[np.int64], content: Content) -> str:
    user, item = divmod(int(keys[0]), len(content.items))
    return f"e.g. user {content.users[user]!r}, item {content.items[item]!r}"


def _cold(content: Content) -> list[str]:
    """Users and items that a model learns nothing about, though it is asked for them."""
    if "train" not in content.splits:
        return []
    train = content.splits["train"]
    counts = {
        "user": int(without(train.users, len(content.users)).sum()),
        "item": int(without(train.items, len(content.items)).sum()),
    }
    return [f"{counted(n, what)} without a train pair" for what, n in counts.items() if n]


# --- the card -------------------------------------------------------------------------------


def _changes(card: dict[str, Any] | None, stored: Stored, content: Content) -> list[str]:
    """Where the files hold other pairs than when they were imported."""
    if card is None:
        return []
    written = card.get("splits")
    if not isinstance(written, dict):
        return [f"{stored.card_file} names no splits; import again"]
    users, items = (np.array(tokens, dtype=object) for tokens in (content.users, content.items))
    changes = []
    for split, pairs in content.splits.items():
        said = written.get(split)
        if not isinstance(said, dict) or "sha256" not in said:
            changes.append(f"{stored.card_file} says nothing of {split}; import again")
        elif pairs_hash(users[pairs.users], items[pairs.items]) != said["sha256"]:
            changes.append(
                f"{stored.files[split]} was changed after import: it has "
                f"{counted(len(pairs.users), 'pair')} of another hash, its card says "
                f"{said.get('pairs')}; import again"
            )
    return changes
