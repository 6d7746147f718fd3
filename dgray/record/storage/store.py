"""Objects of one run in an object store: written atomically, with retries that end.

An object is written with one PUT, or with a multipart upload that is completed only when every
part has arrived. Transient errors (no answer, a reset connection, status 500) are retried with
growing pauses for a limited time; then, and at once if the store refuses, StoreError is raised.
Credentials, region and endpoint come from the environment and the cloud libraries. Built on
pyarrow's file systems, which need no further packages (fsspec would need s3fs and gcsfs).
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pyarrow import fs

from dgray.errors import StoreError
from dgray.record.storage.location import Uri

PATIENCE_SECONDS = 60.0  # shorter than a lease: a driver stops before another may take over
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # a request that transfers nothing for so long has failed
_ATTEMPTS = 2  # of the library, for each of ours
_LONGEST_PAUSE = 10.0
_NO_PERMISSION = (
    "the store refuses: the credentials are missing, have expired or lack permission; set those "
    "of an account that may list, read, write and delete there (for s3 AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role; for gs "
    "GOOGLE_APPLICATION_CREDENTIALS)"
)
_VARIABLE = re.compile(r"AWS_|GOOGLE_|STORAGE_EMULATOR_HOST$")
_NO_BUCKET = "there is no such bucket; create it, or correct the URI"
# Errors that must not be retried, by patterns in the messages of the cloud libraries.
_REFUSALS = {
    r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist|Bucket '.*' not found": _NO_BUCKET,
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH|"
    r"EXPIRED_TOKEN|ExpiredToken|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|"
    r"HTTP status 40[13]\b|PERMISSION_DENIED|UNAUTHENTICATED|OAuth2 access token": (
        _NO_PERMISSION
    ),
    r"HTTP status 301\b|PermanentRedirect": (
        "the bucket is in another region; set AWS_REGION to it"
    ),
}
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Entry:
    """Size and time of an object.

    Attributes:
        size: in bytes.
        modified: time of the last write by the store's clock, in nanoseconds since 1970.
    """

    size: int
    modified: int


class Store:
    """Objects under one URI, by their names relative to it.

    Connects at the first call. Pickles with the environment variables that configure the cloud
    libraries, because a process of Ray may have others; so a pickle may hold credentials.

    Args:
        uri: common prefix of the objects.
        patience: seconds for which a call is retried; default ``PATIENCE_SECONDS``.
    """

    def __init__(self, uri: Uri, patience: float | None = None) -> None:
        self.uri = uri
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._has_given_up = False
        self._files: fs.FileSystem | None = None
        self._random = random.Random()  # pauses only

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_environment, (self.uri, self._patience, _environment())

    def once(self) -> Store:
        """Return the same store without retries."""
        return Store(self.uri, 0.0)

    def entries(self, folder: str = "") -> dict[str, Entry]:
        """Return all objects, or those in a folder, by name."""
        try:
            return self.attempt(lambda files: self.listed(files, folder))
        except FileNotFoundError:
            return {}

    def listed(self, files: fs.FileSystem, folder: str) -> dict[str, Entry]:
        """Return ``entries`` by one request to the file system of the store."""
        prefix = f"{self._root}/{folder}".rstrip("/")
        selector = fs.FileSelector(prefix, recursive=True)
        start = len(self._root) + 1
        return {
            info.path[start:]: Entry(info.size, info.mtime_ns or 0)
            for info in files.get_file_info(selector)
            if info.type == fs.FileType.File  # not the folders
        }

    def entry(self, name: str) -> Entry | None:
        """Return one object, or None if it does not exist."""
        info = self.attempt(lambda files: files.get_file_info(f"{self._root}/{name}"))
        return Entry(info.size, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None if it does not exist."""

        def get(files: fs.FileSystem) -> bytes:
            with files.open_input_file(f"{self._root}/{name}") as file:
                content: bytes = file.read()
                if len(content) != file.size():
                    raise OSError(f"{name}: received {len(content)} of {file.size()} bytes")
            return content

        try:
            return self.attempt(get)
        except FileNotFoundError:
            return None

    def write(
        self,
        name: str,
        content: bytes,
        before: Callable[[fs.FileSystem], None] = lambda files: None,
    ) -> None:
        """Write an object atomically; ``before`` is called before every attempt."""

        def put(files: fs.FileSystem) -> None:
            before(files)
            with files.open_output_stream(f"{self._root}/{name}") as file:
                file.write(content)

        try:
            self.attempt(put)
        except FileNotFoundError as error:
            raise self._error(_NO_BUCKET) from error

    def delete(self, name: str) -> None:
        """Delete an object if it exists."""
        try:
            self.attempt(lambda files: files.delete_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return

    @property
    def _root(self) -> str:
        return f"{self.uri.bucket}/{self.uri.path}"

    def attempt(self, operation: Callable[[fs.FileSystem], _Answer]) -> _Answer:
        """Retry an operation until the call succeeds, is refused, or the patience ends.

        After that, calls are not retried until one succeeds.
        """
        start = time.monotonic()
        patience = 0.0 if self._has_given_up else self._patience
        for attempt in itertools.count():
            try:
                if self._files is None:
                    self._files = _connect(self.uri, self._patience)
                answer = operation(self._files)
                self._has_given_up = False
                return answer
            except FileNotFoundError:
                raise
            except StoreError as error:
                raise self._error(str(error)) from error
            except OSError as error:
                if str(error).startswith("No such file"):  # pyarrow, for an empty gs:// folder
                    raise FileNotFoundError(str(error)) from error
                if (refusal := _refusal(str(error))) is not None:
                    raise self._error(refusal) from error
                pause = min(2.0**attempt, _LONGEST_PAUSE) * self._random.uniform(0.5, 1.0)
                waited = time.monotonic() - start
                if waited + pause > patience:
                    self._has_given_up = True
                    raise self._error(
                        f"the store has failed for {waited:.0f} s ({_short(str(error))}); what "
                        "was written is complete and kept"
                    ) from error
                time.sleep(pause)
        raise AssertionError("unreachable: attempts are not limited")

    def _error(self, message: str) -> StoreError:
        return StoreError(f"{self.uri}: {message}")


def _environment() -> dict[str, str]:
    """Return the variables that the cloud libraries read."""
    return {name: value for name, value in os.environ.items() if _VARIABLE.match(name)}


def _in_environment(uri: Uri, patience: float, environment: Mapping[str, str]) -> Store:
    """Return an unpickled store, after setting the variables of the process that pickled it."""
    for name in _environment().keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    return Store(uri, patience)


def _connect(uri: Uri, patience: float) -> fs.FileSystem:
    """Return the file system of the URI's bucket.

    Raises:
        StoreError: this build of pyarrow does not support the scheme.
        OSError: the region of the bucket cannot be determined.
    """
    make: Any
    try:
        make = fs.S3FileSystem if uri.scheme == "s3" else fs.GcsFileSystem
    except ImportError as error:
        raise StoreError(
            f"the installed pyarrow was built without {uri.scheme}://; install the one from "
            "PyPI: pip install --force-reinstall pyarrow"
        ) from error
    if uri.scheme == "gs":
        scheme, _, host = os.environ.get("STORAGE_EMULATOR_HOST", "").rpartition("://")
        return make(
            anonymous=bool(host),
            scheme=(scheme or "http") if host else None,
            endpoint_override=host or None,
            retry_time_limit=timedelta(seconds=max(patience, SILENCE_SECONDS)),
        )
    endpoint = s3_endpoint()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(uri.bucket)
    scheme, _, host = (endpoint or "https://").partition("://")
    return make(
        region=region,
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENCE_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small object is one PUT
        background_writes=False,  # errors are raised by the write itself
    )


def s3_endpoint() -> str | None:
    """Return the endpoint of an S3-compatible store from the environment; None for Amazon S3."""
    # pyarrow reads these variables too, but then uses the bucket as part of the host name.
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def _refusal(message: str) -> str | None:
    return next((rule for pattern, rule in _REFUSALS.items() if re.search(pattern, message)), None)


def _short(message: str) -> str:
    """Return the message without the request id."""
    return " ".join(message.split()).partition(" (Request ID")[0][:300]
