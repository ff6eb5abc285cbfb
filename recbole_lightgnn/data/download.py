"""The paper's splits, from where its authors publish them, checked byte by byte.

Every file is known by its git blob id, so that a mirror can serve it as well as the repository,
and nothing else gets past. A file on its way is ``FILE.partial`` in the cache; what a broken
connection left of it is gone on with.

The ids are those of the published files (github.com/HKUDS/LightGNN, folder ``Datasets/``). A
matrix of the same pairs pickled anew, such as a rebuilt ``trnMat.pkl`` of Gowalla, has others.
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recbole_lightgnn.data.atomic import dataset_folder
from recbole_lightgnn.data.paper import import_paper
from recbole_lightgnn.errors import InputError

# One commit of the repository: what is there does not change under us.
URL = (
    "https://raw.githubusercontent.com/HKUDS/LightGNN/"
    "b83560c9d2025a506e179e320df5442874475664/Datasets"
)
TIMEOUT = 30.0  # seconds without a byte
MAX_TIMEOUT = 86_400.0
MAX_REDIRECTS = 5
MAX_BYTES = 2**28  # the largest file, Amazon's train, has about 16 MB
_CHUNK = 1 << 18
_NETWORK = (OSError, http.client.HTTPException)  # URLError and TimeoutError are OSErrors

# sha1 over `blob <size>\0<content>`, as `git hash-object FILE` prints it
BLOB_IDS = {
    "yelp": {
        "trnMat.pkl": "4aff8e8d5d91b257e10e0efdc6324c40a7df7eb5",
        "valMat.pkl": "a5f7aeee23227795be2d87a7f07caf517ef03bfc",
        "tstMat.pkl": "769de48d780ce5956ce543124911d8756e5e03e1",
    },
    "gowalla": {
        "trnMat.pkl": "a5b33715c15537b838e580fc1a0bf53c7099a0ca",
        "valMat.pkl": "3938a30cd02c31f9b82139cf772942d5abe1b789",
        "tstMat.pkl": "cb027069cbbf46008f2405c61764556434c5eb9c",
    },
    "amazon": {
        "trnMat.pkl": "d1f6de64ac1593910642921aeff8487a9c4dad46",
        "valMat.pkl": "4e4a8e6a50b54066a50002b7fd6a90b88a5f368c",
        "tstMat.pkl": "7b74aac1b0d2a1565c8d8d7afecf6721eae27a59",
    },
}


def default_cache() -> Path:
    """``recbole-lightgnn`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules: a path that is not absolute is not heeded.
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return folder / "recbole-lightgnn"


def download(
    name: str,
    *,
    url: str = URL,
    cache: Path | None = None,
    timeout: float = TIMEOUT,
    say: Callable[[str], object] = print,
) -> Path:
    """Bring a split's three files into the cache; those that are there already are not fetched.

    Args:
        name: a key of `BLOB_IDS`.
        url: address of the folder that holds ``sparse_NAME/``.
        cache: where the files are kept; by default `default_cache`.
        timeout: seconds after which a silent connection is given up.
        say: is told of each file.

    Returns:
        The folder with the files.

    Raises:
        InputError: if a file cannot be fetched or is not the published one.
    """
    if not _is_web_address(url):
        raise InputError(f"--url {url!r}: expected an address, http://... or https://...")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise InputError(f"--timeout must be in (0, {MAX_TIMEOUT:g}] seconds, got {timeout:g}")
    folder = (cache or default_cache()) / f"sparse_{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, blob_id in BLOB_IDS[name].items():
            _bring(f"{url.rstrip('/')}/sparse_{name}/{file}", folder / file, blob_id, timeout, say)
    except OSError as error:  # those of the network have become InputErrors
        raise InputError(
            f"cache {folder} cannot be used: {error.strerror or error}; choose another --cache"
        ) from error
    return folder


def download_and_import(
    name: str, out: Path = Path("dataset"), *, overwrite: bool = False, **how: Any
) -> Path:
    """`download`, then import as format ``paper``; returns the dataset's folder.

    Raises:
        InputError: as `download` and `import_paper`; an existing dataset is told before fetching.
    """
    dataset_folder(out, name, overwrite=overwrite)
    return import_paper(download(name, **how), name, out, overwrite=overwrite)


def blob_id(file: Path) -> str:
    """The id git gives a file's content; memory stays flat."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0  # `port` raises for what is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and named and re.fullmatch(r"[!-~]+", url) is not None


# --- one file -------------------------------------------------------------------------------


def _bring(
    url: str, file: Path, expected: str, timeout: float, say: Callable[[str], object]
) -> None:
    if file.is_file() and blob_id(file) == expected:
        say(f"{file}: there already")
        return
    partial = file.with_name(f"{file.name}.partial")
    start = partial.stat().st_size if partial.is_file() else 0
    if not (start and blob_id(partial) == expected):  # else killed just before its renaming
        say(f"fetching {url}")
        _fetch(url, partial, start, timeout)
    got = blob_id(partial)
    if got != expected:
        partial.unlink()
        raise InputError(
            f"{url} is not the published file: git blob id {got}, expected {expected}; it was "
            "removed: try again, or another --url"
        )
    partial.replace(file)
    say(f"{file}: {file.stat().st_size} bytes, as published")


def _fetch(url: str, partial: Path, start: int, timeout: float) -> None:
    """Fetch all of ``url`` to ``partial``, whose first ``start`` bytes are there."""
    headers = {"User-Agent": "recbole-lightgnn"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, partial, error) from error
    except InputError:
        raise
    except (*_NETWORK, ValueError) as error:  # ValueError: a redirect to what is no address
        raise _broken(url, partial, error) from error
    with answer:
        _write(answer, partial, start if _goes_on(answer, start) else 0, url)


def _goes_on(answer: Any, start: int) -> bool:
    """Whether the answer begins at byte ``start``: a server may send all of it regardless."""
    content_range = answer.headers.get("Content-Range", "")
    return answer.status == 206 and re.match(rf"bytes {start}-", content_range) is not None


def _write(answer: Any, partial: Path, start: int, url: str) -> None:
    """Write the answer's body from byte ``start`` on; what comes before an error stays."""
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        size = start
        while chunk := _read(answer, url, partial):
            size += len(chunk)
            if size > MAX_BYTES:
                file.truncate(0)
                raise InputError(
                    f"{url} is longer than {MAX_BYTES} bytes, as no split of the paper is: check "
                    "the address"
                )
            file.write(chunk)
            file.flush()  # the next read may be the one that fails, and tells how much is kept
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and size < start + int(length):
        closed = ConnectionError(
            f"the connection closed after {size} of {start + int(length)} bytes"
        )
        raise _broken(url, partial, closed)


def _read(answer: Any, url: str, partial: Path) -> bytes:
    try:
        chunk: bytes = answer.read1(_CHUNK)  # what is there: nothing is lost if silence follows
    except _NETWORK as error:
        raise _broken(url, partial, error) from error
    return chunk


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A few redirects, to http and https alone, and never from https to http."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = urlsplit(newurl).scheme
        if new not in ("http", "https") or (new, req.type) == ("http", "https"):
            raise InputError(f"{req.full_url} redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(url: str, partial: Path, error: urllib.error.HTTPError) -> InputError:
    if error.code == 416:  # what is asked for begins behind the end
        partial.unlink(missing_ok=True)
        return InputError(f"{url} is shorter than {partial}, which was removed: try again")
    reason = " ".join(str(error.reason).split())
    return InputError(
        f"{url} cannot be fetched: {error.code} {reason}; check the address, or give a mirror's "
        "with --url"
    )


def _broken(url: str, partial: Path, error: BaseException) -> InputError:
    reason = getattr(error, "reason", error)  # a URLError's is the error underneath
    told = " ".join(str(reason).split()) or type(reason).__name__
    if isinstance(reason, TimeoutError):
        told = "no answer in time (--timeout)"
    kept = partial.stat().st_size if partial.is_file() else 0
    advice = f"{kept} bytes are kept, the same command goes on there" if kept else "try again"
    return InputError(f"{url} cannot be fetched: {told}; {advice}")
