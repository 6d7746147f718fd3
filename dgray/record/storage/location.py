"""Place of a run: a local folder, or the URI of an object store."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dgray.errors import RunRefusedError

SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs"}  # as written -> as used
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FORMS = "a folder, s3://BUCKET/PATH or gs://BUCKET/PATH"


@dataclass(frozen=True)
class Uri:
    """URI of a run in an object store.

    Attributes:
        scheme: s3 or gs.
        bucket: its name.
        path: path of the run in the bucket; not empty, without leading and trailing slashes.
    """

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}"

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    def beside(self, suffix: str) -> Uri:
        """Return the URI with ``suffix`` appended to its name."""
        return replace(self, path=self.path + suffix)


def location(text: str) -> Path | Uri:
    """Parse the place of a run as a user gives it.

    Raises:
        RunRefusedError: the URI is not supported; the message does not repeat credentials.
    """
    if not text:
        raise RunRefusedError(f"the place of a run must be {_FORMS}, but it is empty")
    if not _HAS_SCHEME.match(text):
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise RunRefusedError(
                f"{text}: there is no such user; write the folder out"
            ) from error
    try:
        split = urlsplit(text)
    except ValueError as error:  # brackets of an IPv6 address
        raise RunRefusedError(f"{text}: a run can be in {_FORMS}: {error}") from error
    shown = f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
    if "@" in split.netloc or split.query or split.fragment:
        raise RunRefusedError(
            f"{shown}: a URI must consist of a bucket and a path, but this one has a user, a "
            "query or a fragment; credentials, region and endpoint come from the environment "
            "(AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...)"
        )
    if split.scheme == "file" and split.netloc in ("", "localhost"):
        return Path(unquote(split.path))
    if split.scheme not in SCHEMES:
        raise RunRefusedError(f"{shown}: a run can be in {_FORMS}, but not in {split.scheme}://")
    path = split.path.strip("/")
    if not _BUCKET.fullmatch(split.netloc) or {"", ".", ".."} & set(path.split("/")):
        raise RunRefusedError(
            f"{shown}: the place of a run must be {_FORMS}, with a path of its own in the bucket "
            "and no empty part, '.' or '..' in it"
        )
    return Uri(SCHEMES[split.scheme], split.netloc, path)
