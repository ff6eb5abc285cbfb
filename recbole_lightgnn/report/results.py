"""The one JSON record of a run; tables and pictures read only that."""

import contextlib
import enum
import hashlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError

SCHEMA_VERSION = 1
LIBRARIES = ("recbole-lightgnn", "recbole", "torch", "numpy", "pandas", "scipy", "safetensors")


def make_record(
    *,
    model: str,
    dataset: str,
    seed: int,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    masking: str,
    valid_metric: str,
    valid: Mapping[str, float],
    test: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    threads: int,
    device: str,
    seconds: float,
) -> dict[str, Any]:
    """Everything needed to read a result, and to run it again.

    Args:
        model, dataset, seed: what was run.
        settings: all settings that were in force.
        fingerprint: `dataset_fingerprint` of the split.
        masking: what a user's test ranking left out.
        valid_metric: what chose the epoch.
        valid, test: metrics of the final model, at full precision, named as RecBole prints them.
        rows: one per stage and pruning run; for other models one.
        threads: torch's number of threads.
        device: where it ran, e.g. ``cpu`` or the name of a GPU.
        seconds: wall time of the whole run.

    Returns:
        The record, of plain JSON values only.
    """
    return plain(
        {
            "schema_version": SCHEMA_VERSION,
            "model": model,
            "dataset": dataset,
            "seed": seed,
            "valid_metric": valid_metric,
            "masking": masking,
            "best_valid": valid,
            "test": test,
            "rows": rows,
            "dataset_fingerprint": fingerprint,
            "settings": settings,
            "seconds": seconds,
            "peak_memory_mb": peak_memory_mb(),
            "environment": environment(threads=threads, device=device),
        }
    )


def environment(*, threads: int, device: str) -> dict[str, Any]:
    """What a time or a result may depend on besides the settings.

    Args:
        threads: torch's number of threads.
        device: where it ran, e.g. ``cpu`` or the name of a GPU.
    """
    return {
        "python": platform.python_version(),
        "libraries": library_versions(),
        "git": git_state(Path(__file__).resolve().parents[2]),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
    }


def check_writable(what: str, path: Path) -> None:
    """Raise InputError unless a file can be written there; to be asked before the work, not after.

    Args:
        what: the setting or option that named the file.
        path: the file; its folder need not exist yet.
    """
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder; name a file in it")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{what} {path} cannot be written: {parent} is no writable folder")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the record as strict JSON, whole or not at all, also if the power goes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are the owner's alone
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def dataset_fingerprint(
    user_tokens: Sequence[str],
    item_tokens: Sequence[str],
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Counts and hashes that tell whether two runs saw the same split.

    The hash is SHA-256 over the split's sorted lines ``user<TAB>item`` of original tokens, so it
    does not depend on how anyone numbers users and items, nor on the order of the pairs.

    Args:
        user_tokens: token of each user index; index 0 is padding. Shape: (users + 1)
        item_tokens: token of each item index; index 0 is padding. Shape: (items + 1)
        splits: name -> indices of users and of items. Shape of each: (pairs)
    """
    user_tokens, item_tokens = np.asarray(user_tokens), np.asarray(item_tokens)
    result: dict[str, Any] = {"users": len(user_tokens) - 1, "items": len(item_tokens) - 1}
    for name, (users, items) in splits.items():
        u, i = user_tokens[np.asarray(users)], item_tokens[np.asarray(items)]  # (pairs)
        order = np.lexsort((i, u))
        pairs = zip(u[order].tolist(), i[order].tolist(), strict=True)
        lines = "\n".join(f"{user}\t{item}" for user, item in pairs)
        result[name] = {
            "pairs": len(order),
            "users": len(np.unique(users)),
            "items": len(np.unique(items)),
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }
    return result


def plain(value: Any) -> Any:
    """``value`` with plain JSON values only.

    Enums become their names, devices, dtypes and the like strings, numbers that are not finite
    null, and absolute paths lose what is particular to the machine.
    """
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | Path):
        return _portable(str(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    return str(value)


def _portable(text: str) -> str:
    if not os.path.isabs(text):
        return text
    return os.path.relpath(text) if Path(text).is_relative_to(Path.cwd()) else Path(text).name


def library_versions() -> dict[str, str | None]:
    """Version of each library that a result depends on; none where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Commit of the checkout and whether code or defaults differ from it; none outside of one."""
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "recbole_lightgnn", "properties")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):  # no git here, or not this user's checkout
        return None


def processor_name() -> str:
    """The processor as the machine calls it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # elsewhere in KiB
