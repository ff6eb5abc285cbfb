"""Download the splits of the LightGNN paper from its authors' repository, and verify the files.

Each file must have the git blob id of the published file (github.com/HKUDS/LightGNN, folder
``Datasets/``). So the files can come from a mirror, and a changed file is rejected. A file with the
same pairs, but pickled again, has a different id and is rejected, too.

During a download, the file is called ``FILE.partial``. After a broken connection, the next download
continues this file.
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

# The address names one commit, so its files never change.
URL = (
    "https://raw.githubusercontent.com/HKUDS/LightGNN/"
    "b83560c9d2025a506e179e320df5442874475664/Datasets"
)
TIMEOUT = 30.0  # seconds without a byte after which a connection is given up
MAX_TIMEOUT = 86_400.0  # seconds
MAX_REDIRECTS = 5
MAX_BYTES = 2**28  # limit of a file; the largest, Amazon's train, has about 16 MB
_CHUNK = 1 << 18  # bytes read at once
_NETWORK_ERRORS = (OSError, http.client.HTTPException)  # OSError includes URLError, TimeoutError

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
    """Return ``$XDG_CACHE_HOME/recbole-lightgnn`` or, if unset, ``~/.cache/recbole-lightgnn``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
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
    """Download a dataset's files into the cache, unless they are there; return their folder.

    Args:
        name: name of the dataset, a key of `BLOB_IDS`.
        url: web address of the folder that contains the folder ``sparse_NAME/``.
        cache: folder for the downloaded files; the default is `default_cache`.
        timeout: seconds without a byte after which a connection is given up.
        say: function that receives a message about each file.

    Raises:
        InputError: if a file cannot be downloaded or is not the published file.
    """
    if not _is_web_address(url):
        raise InputError(f"--url {url!r}: expected an address, http://... or https://...")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise InputError(f"--timeout must be in (0, {MAX_TIMEOUT:g}] seconds, got {timeout:g}")
    folder = (cache or default_cache()) / f"sparse_{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, blob_id in BLOB_IDS[name].items():
            address = f"{url.rstrip('/')}/sparse_{name}/{file}"
            _download_file(address, folder / file, blob_id, timeout, say)
    except OSError as error:  # an error of the disk; network errors were turned into InputErrors
        raise InputError(
            f"cache {folder} cannot be used: {error.strerror or error}; choose another --cache"
        ) from error
    return folder


def download_and_import(
    name: str, out: Path = Path("dataset"), *, overwrite: bool = False, **options: Any
) -> Path:
    """Download a dataset of the paper, import it (`paper.import_paper`), and return its folder.

    Args:
        name: name of the dataset, a key of `BLOB_IDS`.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.
        options: further keyword arguments for `download`.

    Raises:
        InputError: as `download` and `import_paper`.
    """
    dataset_folder(out, name, overwrite=overwrite)  # fail before the download
    return import_paper(download(name, **options), name, out, overwrite=overwrite)


def blob_id(file: Path) -> str:
    """Return git's id for the content of a file, as 40 hexadecimal digits."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0  # `port` raises if it is not a number
    except ValueError:
        return False
    is_printable_ascii = re.fullmatch(r"[!-~]+", url) is not None
    return parts.scheme in ("http", "https") and has_host and is_printable_ascii


# --- one file -------------------------------------------------------------------------------


def _download_file(
    url: str, file: Path, expected: str, timeout: float, say: Callable[[str], object]
) -> None:
    """Download one file unless it has been downloaded, and check its git blob id."""
    if file.is_file() and blob_id(file) == expected:
        say(f"{file}: already downloaded")
        return
    partial = file.with_name(f"{file.name}.partial")
    start = partial.stat().st_size if partial.is_file() else 0
    if not (start and blob_id(partial) == expected):  # a complete file needs only a new name
        say(f"downloading {url}")
        _fetch(url, partial, start, timeout)
    got = blob_id(partial)
    if got != expected:
        partial.unlink()
        raise InputError(
            f"{url} is not the published file: git blob id {got}, expected {expected}; it was "
            "removed: try again, or give another --url"
        )
    partial.replace(file)
    say(f"{file}: {file.stat().st_size} bytes, as published")


def _fetch(url: str, partial: Path, start: int, timeout: float) -> None:
    """Download the address ``url`` to ``partial``, which already has the first ``start`` bytes."""
    headers = {"User-Agent": "recbole-lightgnn"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, partial, error) from error
    except InputError:
        raise
    except (*_NETWORK_ERRORS, ValueError) as error:  # ValueError: a redirect to a bad address
        raise _broken(url, partial, error) from error
    with answer:
        _write(answer, partial, start if _continues(answer, start) else 0, url)


def _continues(answer: Any, start: int) -> bool:
    """Whether an answer begins at byte ``start``; some servers send a file from its beginning."""
    content_range = answer.headers.get("Content-Range", "")
    return answer.status == 206 and re.match(rf"bytes {start}-", content_range) is not None


def _write(answer: Any, partial: Path, start: int, url: str) -> None:
    """Write the body of an answer into ``partial`` from byte ``start`` on.

    After an error, the bytes that arrived before the error stay in the file.
    """
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        size = start
        while chunk := _read(answer, url, partial):
            size += len(chunk)
            if size > MAX_BYTES:
                file.truncate(0)
                raise InputError(
                    f"{url} is longer than {MAX_BYTES} bytes, but no split of the paper is: check "
                    "the address"
                )
            file.write(chunk)
            file.flush()  # if the next read fails, its message states the size of the file
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and size < start + int(length):
        closed = ConnectionError(
            f"the connection closed after {size} of {start + int(length)} bytes"
        )
        raise _broken(url, partial, closed)


def _read(answer: Any, url: str, partial: Path) -> bytes:
    try:
        chunk: bytes = answer.read1(_CHUNK)  # the bytes that arrived; does not wait for more
    except _NETWORK_ERRORS as error:
        raise _broken(url, partial, error) from error
    return chunk


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow at most `MAX_REDIRECTS` redirects, to http or https, but never from https to http."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that follows a redirect; raise InputError for a forbidden redirect."""
        new = urlsplit(newurl).scheme
        if new not in ("http", "https") or (new, req.type) == ("http", "https"):
            raise InputError(f"{req.full_url} redirects to {newurl}, which is not allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(url: str, partial: Path, error: urllib.error.HTTPError) -> InputError:
    """Return the InputError for a server's answer with an HTTP error status."""
    if error.code == 416:  # the requested range begins after the end of the file
        partial.unlink(missing_ok=True)
        return InputError(f"{url} is shorter than {partial}, which was removed: try again")
    reason = " ".join(str(error.reason).split())
    return InputError(
        f"{url} cannot be downloaded: {error.code} {reason}; check the address, or give the "
        "address of a mirror with --url"
    )


def _broken(url: str, partial: Path, error: BaseException) -> InputError:
    """Return the InputError for a failed connection; its message says how to continue."""
    cause = getattr(error, "reason", error)  # the error inside a URLError
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, TimeoutError):
        reason = "no answer in time (--timeout)"
    size = partial.stat().st_size if partial.is_file() else 0
    remedy = (
        f"{size} bytes are saved; the same command continues from there" if size else "try again"
    )
    return InputError(f"{url} cannot be downloaded: {reason}; {remedy}")
