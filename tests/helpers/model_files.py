"""Random exported models, and damaged files of them with a valid checksum."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np

from recbole_lightgnn.serving import container
from recbole_lightgnn.serving.coding import Pairs
from recbole_lightgnn.serving.ids import Hashes, Ids, Tokens, derive_key, hash_tokens, token_order
from recbole_lightgnn.serving.model import Graph, Model, to_bytes

SECRET = b"sixteen bytes or more"


def random_pairs(draw, n_users, n_items, share):
    """Draw each pair with probability ``share``."""
    user, item = np.nonzero(draw.random((n_users, n_items)) < share)
    return Pairs(user.astype(np.int32), item.astype(np.int32))


def tokens_of(what, kind, size):
    """Names of a kind: ``none``; ``numbers``; ``hashed``; or ``words``, some in other scripts."""
    if kind == "none":
        return Ids(what, size)
    if kind == "hashed":
        tokens = [str(7 * number) for number in range(size)]
        return Hashes(what, np.sort(hash_tokens(what, tokens, derive_key(SECRET))))
    if kind == "numbers":
        return Tokens(what, [str(7 * number) for number in range(size)])
    words = ["", *(f"{'uñ日'[n % 3]}{n * n}" for n in range(1, size))][:size]
    return Tokens(what, [words[place] for place in token_order(words)])


def random_model(
    seed=0,
    *,
    n_users=9,
    n_items=7,
    width=4,
    layers=2,
    names="numbers",
    final=False,
    kept=0.3,
    exponents=(0.5, 0.5),
):
    """A model with pruned entries and edges, and some seen interactions that are not edges."""
    draw = np.random.default_rng(seed)
    user, item = (draw.normal(size=(size, width)).astype(np.float32) for size in (n_users, n_items))
    observed = random_pairs(draw, n_users, n_items, 0.5)
    edge = draw.random(len(observed.user)) < 0.6
    pairs, others = (Pairs(*(side[part] for side in observed)) for part in (edge, ~edge))
    graph = None
    if not final:
        user, item = (
            np.where(draw.random(table.shape) < kept, table, 0).astype(np.float32)
            for table in (user, item)
        )
        graph = Graph(
            pairs=pairs,
            weight=draw.normal(1, 0.2, len(pairs.user)).astype(np.float32),
            user_degree=np.bincount(observed.user, minlength=n_users),
            item_degree=np.bincount(observed.item, minlength=n_items),
            coefficients=[float(c) for c in range(layers + 1, 0, -1)],
            exponents=exponents,
        )
    ids = (tokens_of("user", names, n_users), tokens_of("item", names, n_items))
    return Model(*ids, user, item, graph, others, {"seed": seed, "valid": {"recall@20": 0.25}})


def file_of(model, values="float32", secret=SECRET):
    """The bytes of a model's file."""
    return to_bytes(model, values, secret if model.users.kind == "hashed" else None)[0]


def write_model(path, **settings):
    """Write a file of a random model in float32; return ``path``."""
    path.write_bytes(file_of(random_model(**settings)))
    return path


def unpack(content):
    """Description and arrays of a file's bytes."""
    return container.unpack(np.frombuffer(content, np.uint8), "it")


def resigned(content):
    """Make the checksum of changed content valid again."""
    head, body = content[:16], content[48:]
    return head + hashlib.sha256(head + body).digest() + body


# Values to put into a header.
ODD = [-1, 0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**64, 1e300, 0.5, None, "", "int8", [], {}, True]


def altered(content, draw: random.Random):
    """A file with a valid checksum, but with some arrays and header values changed."""
    meta, arrays = unpack(content)
    meta = json.loads(json.dumps(meta))
    arrays = {name: array.copy() for name, array in arrays.items()}
    for _ in range(draw.choice([1, 1, 2, 4])):
        name = draw.choice([*arrays, *meta])
        if name in meta:
            meta[name] = draw.choice(ODD)
            continue
        array = arrays[name]
        change = draw.randrange(5)
        if change == 0 and len(array):
            raw = array.view(np.uint8)
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        elif change == 1:
            arrays[name] = array[: draw.randrange(len(array) + 1)]
        elif change == 2:
            arrays[name] = np.concatenate([array, array])
        elif change == 3:
            del arrays[name]
        elif len(array.view(np.uint8)) % 8 == 0:
            arrays[name] = array.view(draw.choice(["u1", "i1", "u2", "u4", "u8", "f2", "f4"]))
        if not arrays:
            break
    return container.pack(meta, arrays)[0]


def kept_pairs(trained, row):
    """User-item pairs, by token, that a student of a run kept."""
    model = trained.model(row)
    users, items = (trained.dataset.field2id_token[f] for f in ("user_id", "item_id"))
    pattern = model.graph.interactions.pattern
    kept = zip(users[pattern.row.numpy()], items[pattern.col.numpy()], strict=True)
    return {(int(user), int(item)) for user, item in kept}


def written(content):
    """Write the bytes to a file in the working folder; return its path."""
    Path("model.lgnn").write_bytes(content)
    return Path("model.lgnn")
