"""Where a run is: a folder of this machine, or a URI of an object store.

Knows words only; nothing is looked up.
"""

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
    """A run in an object store.

    Attributes:
        scheme: s3 or gs.
        bucket: its name.
        path: of the run in the bucket, without slashes at its ends; never empty.
    """

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def beside(self, suffix: str) -> Uri:
        """The same with ``suffix`` after its name."""
        return replace(self, path=self.path + suffix)


def location(text: str) -> Path | Uri:
    """What a user means by the place of a run.

    Raises:
        RunRefusedError: a URI that dgray cannot use. The message repeats no credentials.
    """
    if not _HAS_SCHEME.match(text):
        return Path(text)
    split = urlsplit(text)
    shown = f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
    if "@" in split.netloc or split.query or split.fragment:
        raise RunRefusedError(
            f"{shown}: a URI is a bucket and a path and nothing else, but this one has a user, a "
            "query or a fragment; credentials, region and endpoint come from the environment "
            "(AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...)"
        )
    if split.scheme == "file" and split.netloc in ("", "localhost"):
        return Path(unquote(split.path))
    if split.scheme not in SCHEMES:
        raise RunRefusedError(f"{shown}: a run is kept in {_FORMS}, but not in {split.scheme}://")
    path = split.path.strip("/")
    if not _BUCKET.fullmatch(split.netloc) or {"", ".", ".."} & set(path.split("/")):
        raise RunRefusedError(
            f"{shown}: the place of a run must be {_FORMS}, with a path of its own in the bucket "
            "and no empty part, '.' or '..' in it"
        )
    return Uri(SCHEMES[split.scheme], split.netloc, path)
