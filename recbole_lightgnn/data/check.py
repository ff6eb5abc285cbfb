"""Check a dataset for repeated pairs, leakage, empty splits, and changes after its import."""

from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.dataset_files import (
    DatasetFiles,
    DatasetPairs,
    Pairs,
    read_card,
    read_ids,
    refused,
)
from recbole_lightgnn.data.file_kinds import feature_files
from recbole_lightgnn.data.inspect import count_text, is_absent, pair_keys
from recbole_lightgnn.data.names import MISSING
from recbole_lightgnn.data.pair_lines import pairs_hash
from recbole_lightgnn.errors import InputError


class Finding(NamedTuple):
    """A problem that `check` has found in a dataset.

    Attributes:
        level: ``error`` if results on the dataset cannot be trusted, else ``warning``.
        message: description of the problem, and what to do.
    """

    level: str
    message: str


def check(dataset: DatasetFiles, content: DatasetPairs) -> list[Finding]:
    """Find all problems of a dataset that make results wrong or doubtful; list errors first.

    These problems are errors: a missing or empty split, malformed lines, repeated pairs in one
    split, pairs in two splits, pairs that do not match the hashes in the card, and everything else
    for which a run would refuse the dataset. These problems are warnings: users and items without a
    train pair, ids that RecBole misreads without this package, ids with a blank at an end, users
    and items without a line in their file of features, and a missing card.
    """
    errors = [
        f"{file} is missing: a run needs three splits; import again" for file in dataset.missing
    ]
    keys = {}
    for split, pairs in content.splits.items():
        keys[split], counts = np.unique(pair_keys(pairs, len(content.items)), return_counts=True)
        errors += _malformed(dataset.files[split], pairs)
        errors += _repeated(dataset.files[split], keys[split][counts > 1], content)
    errors += refused(dataset, content)
    for a, b in combinations(content.splits, 2):
        shared = np.intersect1d(keys[a], keys[b], assume_unique=True)
        if len(shared):
            count = count_text(len(shared), "pair")
            errors.append(
                f"leakage: {count} of {b} also in {a} ({_example(shared, content)}); split again"
            )
    warnings = _nodes_without_train_pair(content) + _misread_by_recbole(content)
    warnings += _with_blanks(content) + _without_features(dataset, content)
    try:
        card = read_card(dataset)
    except InputError as error:
        errors.append(str(error))
    else:
        errors += _changes(card, dataset, content)
        if card is None:
            warnings.append("no card: changes to the files after their import cannot be detected")
    return [
        *(Finding("error", message) for message in errors),
        *(Finding("warning", message) for message in warnings),
    ]


def _malformed(file: Path, pairs: Pairs) -> list[str]:
    faults = []
    if pairs.n_malformed:
        more = ", ..." if pairs.n_malformed > len(pairs.malformed) else ""
        count = count_text(pairs.n_malformed, "malformed line")
        examples = f"{'; '.join(pairs.malformed)}{more}"
        faults.append(f"{file}: {count} ({examples}); correct or remove them")
    if not len(pairs.users):
        faults.append(f"{file} has no pairs; expected at least one: import again")
    return faults


def _repeated(file: Path, keys: NDArray[np.int64], content: DatasetPairs) -> list[str]:
    if not len(keys):
        return []
    count = count_text(len(keys), "repeated pair")
    return [f"{file}: {count} ({_example(keys, content)}); remove the repetitions"]


def _example(keys: NDArray[np.int64], content: DatasetPairs) -> str:
    user, item = divmod(int(keys[0]), len(content.items))
    return f"e.g. user {content.users[user]!r}, item {content.items[item]!r}"


def _nodes_without_train_pair(content: DatasetPairs) -> list[str]:
    """Warn of users and items without a train pair, about which a model learns nothing."""
    if "train" not in content.splits:
        return []
    train = content.splits["train"]
    counts = {
        "user": int(is_absent(train.users, len(content.users)).sum()),
        "item": int(is_absent(train.items, len(content.items)).sum()),
    }
    return [f"{count_text(n, noun)} without a train pair" for noun, n in counts.items() if n]


def _misread_by_recbole(content: DatasetPairs) -> list[str]:
    """Warn of ids that RecBole misreads without this package, because of ``pandas.read_csv``."""
    ids = [*content.users, *content.items]
    missing = {word.decode() for word in MISSING}
    kinds = {
        "which RecBole alone reads as missing": [token for token in ids if token in missing],
        "and RecBole alone joins the lines up to the next quote": [
            token for token in ids if token.startswith('"')
        ],
    }
    return [
        f"{count_text(len(tokens), 'id')} like {tokens[0]!r}, {what}; this package takes ids as "
        "they are: rename them if that is not meant"
        for what, tokens in kinds.items()
        if tokens
    ]


def _with_blanks(content: DatasetPairs) -> list[str]:
    """Warn of ids with a blank at an end: ``u1`` and ``u1 `` are two users."""
    found = [token for token in (*content.users, *content.items) if token != token.strip()]
    if not found:
        return []
    count = count_text(len(found), "id")
    return [f"{count} with a blank at an end, e.g. {found[0]!r}: remove it if it is not meant"]


def _without_features(dataset: DatasetFiles, content: DatasetPairs) -> list[str]:
    """Warn of users and items that their file of features lacks: a run leaves them out."""
    files = feature_files(dataset.folder, dataset.name, dataset.settings)
    faults = []
    for kind, tokens in (("user", content.users), ("item", content.items)):
        if not files[kind].is_file():
            continue
        try:
            known = read_ids(files[kind], kind, dataset.settings)
        except InputError:  # `refused` describes it
            continue
        if missing := [token for token in tokens if token not in known]:
            faults.append(
                f"{count_text(len(missing), kind)} without a line in {files[kind]}, e.g. "
                f"{missing[0]!r}: a run that reads this file leaves out their interactions"
            )
    return faults


# --- the card -------------------------------------------------------------------------------


def _changes(
    card: dict[str, Any] | None, dataset: DatasetFiles, content: DatasetPairs
) -> list[str]:
    """Describe the splits that have changed since the import, found by the hashes in the card."""
    if card is None:
        return []
    imported = card.get("splits")
    if not isinstance(imported, dict):
        return [f"{dataset.card_file} has no splits; import again"]
    users, items = (np.array(tokens, dtype=object) for tokens in (content.users, content.items))
    changes = []
    for split, pairs in content.splits.items():
        recorded = imported.get(split)
        if not isinstance(recorded, dict) or "sha256" not in recorded:
            changes.append(f"{dataset.card_file} has no hash of {split}; import again")
        elif pairs_hash(users[pairs.users], items[pairs.items]) != recorded["sha256"]:
            changes.append(
                f"{dataset.files[split]} was changed after import: it has "
                f"{count_text(len(pairs.users), 'pair')} with another hash, its card says "
                f"{recorded.get('pairs')}; import again"
            )
    return changes
