"""The one JSON record of a run; tables and pictures read only that."""

import contextlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from recbole_lightgnn.utils.files import plain

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
    environment: Mapping[str, Any],
    resumed: bool,
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
        environment: `environment` as it was when the run began.
        resumed: whether an earlier process did a part of it. Then ``seconds`` and the peak memory
            are those of the last process; the seconds of ``rows`` add up all of them.
        seconds: wall time.

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
            "resumed": resumed,
            "seconds": seconds,
            "peak_memory_mb": peak_memory_mb(),
            "environment": environment,
        },
        text=_portable,
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


def _portable(text: str) -> str:
    """Absolute paths without what is particular to the machine; other text as it is."""
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
