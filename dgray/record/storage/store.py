"""The files of one run as objects: each is there whole or not at all, and every call ends.

Writing is one PUT, or a multipart upload that is completed only when every part is there. What is
transient (no answer, a reset connection, a 500) is tried again with growing pauses for as long as
the store's patience; then, and at once when the store refuses, a StoreError says what happened.
Credentials, region and endpoint are the environment's and the cloud libraries' business. Knows
pyarrow's file systems.
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

PATIENCE_SECONDS = 60.0  # less than a lease: a driver ends before another may take over
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # without a byte a request has failed
_ATTEMPTS = 2  # of the library itself, before a pause of ours
_LONGEST_PAUSE = 10.0
_NO_PERMISSION = (
    "the store refuses: these credentials may not do this, are missing or have expired; set those "
    "of an account that may list, read, write and delete there (for s3 AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role; for gs "
    "GOOGLE_APPLICATION_CREDENTIALS)"
)
_VARIABLE = re.compile(r"AWS_|GOOGLE_|STORAGE_EMULATOR_HOST$")
_NO_BUCKET = "there is no such bucket; make it, or correct the URI"
# What no waiting mends, by the words of the cloud libraries' messages.
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
    """An object.

    Attributes:
        size: in bytes.
        modified: when it was last written, by the store's clock, in nanoseconds since 1970.
    """

    size: int
    modified: int


class Store:
    """The objects under one URI, by their names relative to it.

    Pickles as URI, patience and the environment that says how to reach it: Ray's writer of rows is
    a child of Ray's, not of the driver, and may have another. So a pickle may hold a secret.
    """

    def __init__(self, uri: Uri, patience: float | None = None) -> None:
        """``patience``: seconds for which a call is tried again. Nothing is connected yet."""
        self.uri = uri
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._has_given_up = False
        self._files: fs.FileSystem | None = None
        self._random = random.Random()  # pauses only

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_environment, (self.uri, self._patience, _environment())

    def once(self) -> Store:
        """The same without patience."""
        return Store(self.uri, 0.0)

    def entries(self, folder: str = "") -> dict[str, Entry]:
        """All objects, or those under a folder, by name; empty if there are none."""
        at = f"{self._root}/{folder}".rstrip("/")
        selector = fs.FileSelector(at, recursive=True)
        try:
            infos = self._call(lambda files: files.get_file_info(selector))
        except FileNotFoundError:
            return {}
        start = len(self._root) + 1
        return {
            info.path[start:]: Entry(info.size, info.mtime_ns or 0)
            for info in infos
            if info.type == fs.FileType.File  # the others are what a console shows as folders
        }

    def entry(self, name: str) -> Entry | None:
        """One object, or None."""
        info = self._call(lambda files: files.get_file_info(f"{self._root}/{name}"))
        return Entry(info.size, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None."""

        def get(files: fs.FileSystem) -> bytes:
            with files.open_input_file(f"{self._root}/{name}") as file:
                content: bytes = file.read()
                if len(content) != file.size():
                    raise OSError(f"{name}: {len(content)} bytes came of {file.size()}")
            return content

        try:
            return self._call(get)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put an object in place, whole or not at all."""

        def put(files: fs.FileSystem) -> None:
            with files.open_output_stream(f"{self._root}/{name}") as file:
                file.write(content)

        try:
            self._call(put)
        except FileNotFoundError as error:
            raise self._error(_NO_BUCKET) from error

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            self._call(lambda files: files.delete_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return

    @property
    def _root(self) -> str:
        return f"{self.uri.bucket}/{self.uri.path}"

    def _call(self, operation: Callable[[fs.FileSystem], _Answer]) -> _Answer:
        """Try until it works, is refused, or patience ends: once only, until it works again."""
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
                if str(error).startswith("No such file"):  # so pyarrow lists an empty gs:// folder
                    raise FileNotFoundError(str(error)) from error
                if (refusal := _refusal(str(error))) is not None:
                    raise self._error(refusal) from error
                pause = min(2.0**attempt, _LONGEST_PAUSE) * self._random.uniform(0.5, 1.0)
                waited = time.monotonic() - start
                if waited + pause > patience:
                    self._has_given_up = True
                    raise self._error(
                        f"the store did not answer as it should for {waited:.0f} s "
                        f"({_short(str(error))}); what is there is whole and kept"
                    ) from error
                time.sleep(pause)
        raise AssertionError("the attempts never end")

    def _error(self, words: str) -> StoreError:
        return StoreError(f"{self.uri}: {words}")


def _environment() -> dict[str, str]:
    """The variables that the cloud libraries look at."""
    return {name: value for name, value in os.environ.items() if _VARIABLE.match(name)}


def _in_environment(uri: Uri, patience: float, environment: Mapping[str, str]) -> Store:
    """A store in another process, reached as it was in the one that pickled it."""
    for name in _environment().keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    return Store(uri, patience)


def _connect(uri: Uri, patience: float) -> fs.FileSystem:
    """The file system of a URI's bucket.

    Raises:
        StoreError: this pyarrow has none.
        OSError: the region cannot be found out.
    """
    make: Any
    try:
        make = fs.S3FileSystem if uri.scheme == "s3" else fs.GcsFileSystem
    except ImportError as error:
        raise StoreError(
            f"the pyarrow that is installed here was built without {uri.scheme}://; install the "
            "one of PyPI: pip install --force-reinstall pyarrow"
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
        background_writes=False,  # what failed is known when the write returns
    )


def s3_endpoint() -> str | None:
    """What speaks S3's protocol other than Amazon, as the environment says; None: Amazon."""
    # pyarrow looks at these variables too, but then takes the bucket's name for a host's.
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def _refusal(message: str) -> str | None:
    return next((words for text, words in _REFUSALS.items() if re.search(text, message)), None)


def _short(message: str) -> str:
    """Without the request's id and the like."""
    return " ".join(message.split()).partition(" (Request ID")[0][:300]
