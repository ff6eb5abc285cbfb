"""Side room: the exported model. Loads with NumPy alone: no torch, no RecBole."""

from typing import Any


def __getattr__(name: str) -> Any:  # the command line reads its arguments before NumPy is loaded
    if name == "Recommender":
        from recbole_lightgnn.serving.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
