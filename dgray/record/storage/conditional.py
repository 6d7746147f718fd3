"""Conditional writes to S3: they fail if another process has written the object.

pyarrow offers none, so they need boto3 (``pip install 'dgray[s3]'``) and a store that supports
them, as Amazon S3 does. Without them a lease relies on its other checks; see ``lease.py``.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from dgray.errors import StoreError
from dgray.record.storage.location import Uri
from dgray.record.storage.store import CONNECT_SECONDS, SILENCE_SECONDS, s3_endpoint

_NOT_SUPPORTED = (400, 405, 501)  # status of stores without conditional writes
_NOT_MET = (404, 409, 412)


class OtherWriterError(StoreError):
    """Raised when another writer has created, replaced or deleted the object."""


class ConditionalObject:
    """Object that only this process writes, always with the same content.

    Args:
        uri: common prefix of the objects of the run.
        name: name of the object.
        content: its content, which no other process writes.
    """

    def __init__(self, uri: Uri, name: str, content: bytes) -> None:
        self._uri, self._content = uri, content
        self._place = {"Bucket": uri.bucket, "Key": f"{uri.path}/{name}"}
        self._tag: str | None = None  # of the object as this process wrote it
        self._client = _client() if uri.scheme == "s3" else None

    def write(self) -> bool:
        """Create the object, or write it again; return False if the store cannot.

        Raises:
            OtherWriterError: another process has written or deleted it.
            OSError: the store failed.
        """
        if self._client is None:
            return False
        condition = {"IfNoneMatch": "*"} if self._tag is None else {"IfMatch": self._tag}
        status, answer = _call(
            self._client.put_object, **self._place, Body=self._content, **condition
        )
        if status in _NOT_SUPPORTED:
            self._client = None
            return False
        if status in _NOT_MET and not self._is_own():
            raise OtherWriterError(f"{self._uri}: another driver has taken over")
        self._tag = answer.get("ETag", self._tag)
        return True

    def _is_own(self) -> bool:
        """Return whether the object has this content: the answer to a write may be lost."""
        assert self._client is not None
        status, answer = _call(self._client.get_object, **self._place)
        if status != 200 or answer["Body"].read() != self._content:
            return False
        self._tag = answer["ETag"]
        return True


def _client() -> Any:
    """Return a client of S3, or None without boto3 or credentials that it can use."""
    if importlib.util.find_spec("boto3") is None:
        return None
    import boto3
    from botocore.config import Config

    endpoint = s3_endpoint()
    session = boto3.Session(
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    )
    if session.get_credentials() is None:
        return None
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        retries={"total_max_attempts": 1},  # repeated by ``Store.attempt``
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    return session.client("s3", endpoint_url=endpoint, config=config)


def _call(operation: Any, **arguments: Any) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the answer, which is empty after an error."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return 200, operation(**arguments)
    except ClientError as error:
        status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        if status in (*_NOT_SUPPORTED, *_NOT_MET):
            return status, {}
        raise OSError(str(error)) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error
