"""Whether a dataset can be trusted: repeated pairs, leakage, empty splits, files changed later."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

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
    for split, pairs in content.splits.items():
        errors += _faults_of_one(stored, split, pairs, content)
    for a, b in combinations(content.splits, 2):
        errors += _leakage(a, b, content)
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


def _faults_of_one(stored: Stored, split: str, pairs: Pairs, content: Content) -> list[str]:
    file, faults = stored.files[split], []
    if pairs.n_malformed:
        more = ", ..." if pairs.n_malformed > len(pairs.malformed) else ""
        told = f"{'; '.join(pairs.malformed)}{more}"
        faults.append(
            f"{file}: {counted(pairs.n_malformed, 'malformed line')} ({told}); mend or remove"
        )
    if not len(pairs.users):
        return [*faults, f"{file} has no pair; expected at least one: import again"]
    keys, counts = np.unique(pair_keys(pairs, len(content.items)), return_counts=True)
    repeated = keys[counts > 1]
    if len(repeated):
        faults.append(
            f"{file}: {counted(len(repeated), 'repeated pair')} ({_told(repeated[0], content)}); "
            "remove the repeats"
        )
    return faults


def _leakage(a: str, b: str, content: Content) -> list[str]:
    n_items = len(content.items)
    shared = np.intersect1d(
        pair_keys(content.splits[a], n_items), pair_keys(content.splits[b], n_items)
    )
    if not len(shared):
        return []
    example = _told(shared[0], content)
    return [f"leakage: {counted(len(shared), 'pair')} of {b} in {a} too ({example}); split anew"]


def _told(key: int, content: Content) -> str:
    user, item = divmod(int(key), len(content.items))
    return f"e.g. user {content.users[user]}, item {content.items[item]}"


def _cold(content: Content) -> list[str]:
    """Users and items that a model learns nothing about, though it is asked for them."""
    if "train" not in content.splits:
        return []
    train = content.splits["train"]
    counts = {
        "user": int(without(train.users, content.users).sum()),
        "item": int(without(train.items, content.items).sum()),
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
