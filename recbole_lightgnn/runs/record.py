"""The JSON record of a run: settings, versions, metrics and sizes, for tables and figures."""

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
    """Make the record of a run: everything needed to read the result and to repeat the run.

    Args:
        model: name of the model.
        dataset: name of the dataset.
        seed: the setting ``seed`` of the run.
        settings: all settings in force.
        fingerprint: counts and hashes of the splits (`dataset_fingerprint`).
        masking: splits of which the items are masked in a user's test ranking: ``train``,
            ``train+valid`` or ``none``.
        valid_metric: validation metric by which the best epoch was chosen.
        valid: validation metrics of the final model, not rounded. Keys are names of metrics, such
            as ``recall@20``.
        test: test metrics of the final model, not rounded, with the same keys as ``valid``.
        rows: results of each training. LightGNN has one row for each stage and pruning run; other
            models have one row.
        environment: the result of :func:`environment` at the start of the run.
        resumed: whether an earlier process did a part of the run. If so, ``seconds`` and the peak
            memory are of the last process only, but the seconds in ``rows`` are of all processes
            together.
        seconds: wall time of the run in seconds.

    Returns:
        The record, of values that JSON can express.
    """
    record: dict[str, Any] = plain(
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
    return record


def environment(*, threads: int, device: str) -> dict[str, Any]:
    """Describe the machine and the software, which may affect times and last digits of metrics.

    ``threads`` is torch's number of threads; ``device`` is ``cpu`` or the name of a GPU.
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
    """Shorten an absolute path, so that no folder of the machine is published; keep other text."""
    if not os.path.isabs(text):
        return text
    return os.path.relpath(text) if Path(text).is_relative_to(Path.cwd()) else Path(text).name


def library_versions() -> dict[str, str | None]:
    """Return the version of each library in `LIBRARIES`; ``None`` for a library not installed.

    The version of an imported library is its ``__version__``, which includes torch's build
    (2.13.0+cu130).
    """
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            imported = getattr(sys.modules.get(name), "__version__", None)
            versions[name] = imported or metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Return the git commit of a checkout, and whether files differ from this commit.

    Returns:
        A mapping with ``commit``, the hash, and ``dirty``, true if code or default settings differ
        from the commit. ``None`` if the folder is not a git checkout or git fails.
    """
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "recbole_lightgnn", "properties")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (
        OSError,
        subprocess.CalledProcessError,
    ):  # git is missing, or the checkout belongs to another user
        return None


def processor_name() -> str:
    """Return the processor's name as the operating system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
    )  # macOS counts bytes, others KiB
