"""Train LightGNN, export its smallest student as one file, and answer from the file.

Run it in a folder that has ``dataset/planted``, such as the checkout:

    python examples/train_compress_serve.py

Another dataset: ``python examples/train_compress_serve.py ml-100k``. The last step needs only
NumPy. ``recbole-lightgnn serve model.lgnn`` gives the same answers over HTTP.
"""

import sys
from pathlib import Path

from recbole_lightgnn.export import export
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving import Recommender


def train(dataset: str) -> Path:
    """Train all stages and two pruning runs; return the folder of the run."""
    record = run(
        "LightGNN",
        dataset,
        settings={
            "n_pruning_runs": 2,  # each keeps .6 of the entries and .8 of the interactions
            "entry_ratio": 0.6,
            "edge_ratio": 0.8,
            "seed": 1,
            "show_progress": False,
            "state": "warning",
        },
    )
    for row in record["rows"]:
        kept = f"{row['entries_kept']:.2f} of the entries, {row['bytes']:,} bytes"
        print(f"{row['key']:12} {kept}, test recall@20 {row['test']['recall@20']:.4f}")
    return Path(record["result_file"]).parent


def compress(folder: Path, file: Path) -> None:
    """Export the last student with int8 values, and rank the validation split with the file."""
    result = export(TrainedRun(folder), file, values="int8")
    in_run, from_file = (result[key]["recall@20"] for key in ("run_valid", "valid"))
    print(f"{file}: {result['bytes']:,} bytes, {result['of_dense']:.0%} of dense float32 tables")
    print(f"validation recall@20: {in_run:.4f} in the run, {from_file:.4f} from the file")


def answer(file: Path) -> None:
    """Recommend items to two users, and say why the first user gets the first item."""
    model = Recommender.load(file)
    users = [str(name) for name in model.users.names(slice(0, 2))]
    ranked = model.recommend(users, k=3)
    for user, items in zip(users, ranked.items, strict=True):
        print(f"user {user}: {', '.join(items)}")
    why = model.explain(users[0], ranked.items[0, 0])
    print(f"score {why.score:.3f}: own embedding {why.own:.3f}, most of the rest {why.items[0]}")


if __name__ == "__main__":
    run_folder = train(sys.argv[1] if len(sys.argv) > 1 else "planted")
    compress(run_folder, Path("model.lgnn"))
    answer(Path("model.lgnn"))
