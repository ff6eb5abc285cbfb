"""Replace RecBole's errors by messages that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError


@contextmanager
def explain_recbole_errors(config: RunConfig, prefix: str = "") -> Iterator[None]:
    """Context manager that explains a NaN loss and too many clusters in RecBole's trainers.

    Args:
        config: settings of the model that is trained.
        prefix: text before the name of a setting in error messages, such as ``teacher_settings.``.

    Raises:
        InputError: if the loss is NaN, or NCL has more clusters than users or items.
    """
    try:
        yield
    except ValueError as error:
        if "loss is nan" not in str(error):
            raise
        raise InputError(
            f"the training loss of {config['model']} became NaN: lower {prefix}learning_rate (now "
            f"{config['learning_rate']})"
        ) from error
    except RuntimeError as error:  # from faiss
        if "as large as number of clusters" not in str(error):
            raise
        raise InputError(
            f"{prefix}num_clusters must be at most the number of users, and of items, got "
            f"{config['num_clusters']}: lower it"
        ) from error


@contextmanager
def explain_missing_package(config: RunConfig) -> Iterator[None]:
    """Context manager that explains a package missing for a RecBole model.

    Args:
        config: settings of the model.

    Raises:
        InputError: if a package that the model imports, other than RecBole, is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("recbole"):
            raise
        raise missing_package(config, error) from error


def missing_package(config: RunConfig, error: ModuleNotFoundError) -> InputError:
    """Build the InputError for a missing package.

    Args:
        config: settings of the model.
        error: the error of the import.
    """
    return InputError(f"{config['model']} needs the package {error.name!r}, which is not installed")
