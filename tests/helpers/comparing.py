"""Run the command ``compare`` on the planted dataset."""

from pathlib import Path

from recbole_lightgnn.cli.main import main

# Settings with which LightGNN takes some seconds: seven trainings with one teacher.
LIGHTGNN = ["--LightGNN.n_pruning_runs=5", "--LightGNN.teacher_settings.learning_rate=0.01"]
LIGHTGNN += ["--LightGNN.epochs=12", "--LightGNN.stopping_step=12"]
OUT = Path("out")


def arguments(models, *rest, seeds="1"):
    """Arguments of the command, without the folder."""
    return ["compare", "--dataset=planted", f"--models={models}", f"--seeds={seeds}", *rest]


def compare(models, *rest, seeds="1"):
    """Run the command in this process, in the folder ``out``; return its exit status."""
    return main([*arguments(models, *rest, seeds=seeds), "--out=out"])
