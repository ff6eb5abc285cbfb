"""The command ``compare`` on a small dataset."""

from pathlib import Path

from recbole_lightgnn.cli.main import main

# LightGNN in some seconds, from one teacher in seven trainings.
LIGHTGNN = ["--LightGNN.n_pruning_runs=5", "--LightGNN.teacher_settings.learning_rate=0.01"]


LIGHTGNN += ["--LightGNN.epochs=12", "--LightGNN.stopping_step=12"]


OUT = Path("out")


def arguments(models, *rest, seeds="1"):
    return ["compare", "--dataset=planted", f"--models={models}", f"--seeds={seeds}", *rest]


def compare(models, *rest, seeds="1"):
    return main([*arguments(models, *rest, seeds=seeds), "--out=out"])
