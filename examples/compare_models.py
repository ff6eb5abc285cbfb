"""Compare two models under one protocol, and read the result in Python.

Run it in a folder that has ``dataset/planted``, such as the checkout:

    python examples/compare_models.py

The first step is the command ``recbole-lightgnn compare``. A second call does not train again.
"""

import sys
from pathlib import Path

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import size

FOLDER = Path("comparisons/example")


def compare(dataset: str) -> int:
    """Train each model in a process of its own; return the exit status."""
    return main(
        [
            "compare",
            f"--dataset={dataset}",
            "--models=LightGNN,LightGCN",
            "--seeds=1",
            "--jobs=2",
            f"--out={FOLDER}",
            "--LightGNN.n_pruning_runs=2",
            "--LightGCN.epochs=30",
        ]
    )


def read() -> None:
    """Print each line of the table: accuracy, size and difference from the reference."""
    comparison = Comparison(FOLDER)
    metric = comparison.tested_metrics[0]
    for entry in comparison.done():
        line = f"{entry.label:22} {metric} {entry.mean(metric):.4f}, {size(entry.bytes):>8}"
        if difference := entry.differences.get(metric):
            line += f", difference {difference.mean:+.4f} (p = {difference.p_holm:.3f})"
        print(line)
    if comparison.reference is not None:
        print(f"reference: {comparison.reference.label}; page: {FOLDER / 'index.html'}")


if __name__ == "__main__":
    status = compare(sys.argv[1] if len(sys.argv) > 1 else "planted")
    if status == 0:
        read()
    sys.exit(status)
