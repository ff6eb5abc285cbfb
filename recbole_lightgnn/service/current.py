"""Keep the exported model in memory for requests, and reload it when its file changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.ids import UnknownName
from recbole_lightgnn.serving.recommender import Recommender

LOG = logging.getLogger("recbole_lightgnn.service")
_CHECK_INTERVAL = 0.2  # seconds between two checks of the file
_UNKNOWN_NAME = "\0"  # a name that hardly any dataset has


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        recommender: the model, ready to recommend.
        loaded_at: time of loading, in seconds since 1970.
    """

    recommender: Recommender
    loaded_at: float = field(default_factory=time.time)


class CurrentModel:
    """The exported model in a file; it is loaded again when the file changes.

    Each request reads `served` once. It uses this model until it is answered, even if a reload
    replaces `served` meanwhile.

    Args:
        path: path of the exported file.
        secret: secret that the names of users and items were hashed with, or ``None``.
        share: share of the items that an approximate search ranks; ``None`` ranks all items.

    Attributes:
        path: the exported file.
        share: as given.
        served: the model that answers requests.
        error: reason why the newest file is not served, or ``None``.
        reloads: number of successful (``done``) and failed (``failed``) reloads.

    Raises:
        InputError: if the file cannot be loaded.
    """

    def __init__(self, path: Path, secret: bytes | None = None, share: float | None = None) -> None:
        self.path, self.share, self._secret = path, share, secret
        self.error: str | None = None
        self.reloads = {"done": 0, "failed": 0}
        self._reload_requested = False
        self._loaded_stamp = _stamp(path)
        self.served = self._load()

    def reload(self) -> None:
        """Load the file again; if loading fails, keep the old model and set `error`."""
        self._reload_requested, self._loaded_stamp = False, _stamp(self.path)
        try:
            self.served = self._load()
            self.error = None
        except InputError as error:
            self.error = str(error)
        except Exception as error:  # after any error, the old model can still answer
            self.error = f"{self.path}: {type(error).__name__}: {error}"
        self.reloads["failed" if self.error else "done"] += 1
        if self.error:
            LOG.error("the previous model is still served: %s", self.error)
        else:
            LOG.info("reloaded %s", self.path)

    def request_reload(self) -> None:
        """Make the watching thread reload, even an unchanged file; safe in a signal handler."""
        self._reload_requested = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Reload in a background thread whenever the file has changed and is completely written."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), name="reload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_CHECK_INTERVAL)  # does not wait for a reload, which nobody needs now

    def _watch(self, stop: threading.Event) -> None:
        before = self._loaded_stamp
        while not stop.wait(_CHECK_INTERVAL):
            now = _stamp(self.path)
            # Two equal stamps in a row: nothing writes to the file at present.
            if self._reload_requested or (now == before and now != self._loaded_stamp):
                self.reload()
            before = now

    def _load(self) -> LoadedModel:
        # Not memory-mapped: overwriting a mapped file would change the model in service.
        recommender = Recommender.load(self.path, self._secret, False, self.share)
        # Build the lazy name tables now, so that no request waits for them.
        recommender.items.names(np.array([-1]))
        for ids in (recommender.users, recommender.items):
            with suppress(UnknownName):
                ids.number(_UNKNOWN_NAME)
        return LoadedModel(recommender)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return a value that changes when the file changes; ``None`` if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
