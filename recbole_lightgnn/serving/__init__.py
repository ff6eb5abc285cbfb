"""Read an exported model and recommend from it. Needs only NumPy: no torch, no RecBole."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Recommender` on first use, so that importing the package does not load NumPy."""
    if name == "Recommender":
        from recbole_lightgnn.serving.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
