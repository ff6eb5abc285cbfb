"""The model that is served, and its replacement while requests are answered."""

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
from recbole_lightgnn.serving.ids import Unknown
from recbole_lightgnn.serving.recommender import Recommender

LOG = logging.getLogger("recbole_lightgnn.service")
_TICK = 0.2  # seconds between two looks at the file
_NO_NAME = "\0"  # hardly anyone's


@dataclass(frozen=True)
class Served:
    """A model, ready to answer.

    Attributes:
        recommender: the model.
        loaded: when, in seconds since 1970.
    """

    recommender: Recommender
    loaded: float = field(default_factory=time.time)


class Current:
    """The model in a file, and the next one as soon as the file is another.

    A request takes `served` once and answers from that, so that a replacement does not concern it;
    a model goes with the last request that has it.

    Args:
        path: the file.
        secret: what names were hashed with, if they were.
        share: of the items that are looked at, if not all (`Recommender`).

    Attributes:
        served: what is answered from.
        error: why the file last found is not served; ``None`` if it is.
        reloads: how many went well and how many did not, by ``done`` and ``failed``.

    Raises:
        InputError: if there is no model to begin with.
    """

    def __init__(self, path: Path, secret: bytes | None = None, share: float | None = None) -> None:
        self.path, self.share, self._secret = path, share, secret
        self.error: str | None = None
        self.reloads = {"done": 0, "failed": 0}
        self._asked = False
        self._found = _stamp(path)
        self.served = self._load()

    def reload(self) -> None:
        """Replace the model by the file's of now, or keep it and say in `error` why."""
        self._asked, self._found = False, _stamp(self.path)
        try:
            self.served = self._load()
            self.error = None
        except InputError as error:
            self.error = str(error)
        except Exception as error:  # whatever it is, there is a model to go on with
            self.error = f"{self.path}: {type(error).__name__}: {error}"
        self.reloads["failed" if self.error else "done"] += 1
        if self.error:
            LOG.error("the model before is still served: %s", self.error)
        else:
            LOG.info("reloaded %s", self.path)

    def ask(self) -> None:
        """Have `watching` reload soon, be the file another or not. Handlers of signals may."""
        self._asked = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Reload in the background when the file has become another one, and is left alone."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), name="reload", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_TICK)  # no longer: a model under way would not be served any more

    def _watch(self, stop: threading.Event) -> None:
        before = self._found
        while not stop.wait(_TICK):
            now = _stamp(self.path)
            if self._asked or (now == before and now != self._found):
                self.reload()
            before = now

    def _load(self) -> Served:
        # Not mapped: were a mapped file written over in place, what is being served would change.
        ours = Recommender.load(self.path, self._secret, False, self.share)
        # What names and their lack make on first use, no request is to wait for.
        ours.items.names(np.array([-1]))
        for ids in (ours.users, ours.items):
            with suppress(Unknown):
                ids.number(_NO_NAME)
        return Served(ours)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What is another if the file is; ``None`` without a file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
