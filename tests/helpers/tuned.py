"""Commands and files for tests of ``recbole-lightgnn tune``."""

import json
from pathlib import Path

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.registry import properties_dir

TEACHER = ["-m", "LightGNNTeacher", "-d", "planted", "--space=space.yaml"]
TEACHER += ["--epochs=3", "--embedding_size=16", "--topk=[5]", "--valid_metric=Recall@5"]
TWO_RATES = "learning_rate: {choices: [0.02, 1.0e-7]}\n"
SHIPPED = sorted(file.stem for file in (properties_dir() / "space").glob("*.yaml"))


def space(text):
    """Write the search space ``space.yaml``."""
    Path("space.yaml").write_text(text, encoding="utf-8")


def tune(*arguments):
    """Run ``recbole-lightgnn tune``; return its exit status."""
    return main(["tune", *arguments])


def record(name="LightGNNTeacher-planted"):
    """The results of a study."""
    return json.loads(Path("tuning", f"{name}.json").read_text())
