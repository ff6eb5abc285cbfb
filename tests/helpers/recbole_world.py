"""A small dataset with every file that a RecBole model may need; a list of RecBole's models."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import recbole

N_USERS, N_ITEMS = 60, 40
KINDS = ("general", "sequential", "context_aware", "knowledge_aware", "exlib")


def recbole_models() -> Iterator[tuple[str, str]]:
    """Kind and name of each model in RecBole's folders of models."""
    for kind in KINDS:
        folder = Path(recbole.__file__).parent / "model" / f"{kind}_recommender"
        for file in sorted(folder.glob("*.py")):
            classes = re.findall(r"^class (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
            for name in classes:
                if name.lower() == file.stem:
                    yield kind, name


def write_world(folder: Path, name: str = "world") -> None:
    """Write the dataset: 15 interactions per user, features, a knowledge graph and its vectors."""
    draw = np.random.default_rng(0)
    folder = folder / name
    folder.mkdir(parents=True)
    users, items = range(N_USERS), range(N_ITEMS)
    interactions = [
        (f"u{user}", f"i{item}", 1 + (user + item) % 5, 1_700_000_000 + 7 * user + 600 * nth)
        for user in users
        for nth, item in enumerate(draw.choice(N_ITEMS, 15, replace=False))
    ]
    vectors = draw.normal(size=(N_ITEMS, 64)).round(3)
    tables = {
        "inter": ("user_id:token item_id:token rating:float timestamp:float", interactions),
        "user": (
            "user_id:token age:float gender:token",
            [(f"u{user}", 20 + user % 30, "FM"[user % 2]) for user in users],
        ),
        "item": (
            "item_id:token year:float class:token_seq",
            [(f"i{item}", 1990 + item % 20, "a b" if item % 3 else "c") for item in items],
        ),
        "link": ("item_id:token entity_id:token", [(f"i{item}", f"e{item}") for item in items]),
        "kg": (
            "head_id:token relation_id:token tail_id:token",
            [(f"e{i}", f"r{k}", f"{'ab'[k]}{i * (k + 1) % 7}") for i in items for k in range(2)],
        ),
        "ent": (
            "ent_id:token ent_emb:float_seq",
            [(f"e{item}", " ".join(map(str, vectors[item]))) for item in items],
        ),
        "rel": (
            "rel_id:token rel_emb:float_seq",
            [(f"r{k}", " ".join(map(str, vectors[k]))) for k in range(2)],
        ),
    }
    for suffix, (columns, rows) in tables.items():
        lines = ["\t".join(columns.split()), *("\t".join(map(str, row)) for row in rows)]
        (folder / f"{name}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
