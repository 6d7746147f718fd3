"""An S3 server (moto) on loopback; each test has its own bucket."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dgray.record.storage import lease as lease_module
from dgray.record.storage import store as store_module
from tests.record.storage.faulty_proxy import FaultyProxy, faulty_proxy
from tests.record.storage.remote import STUDY

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "an-id-for-tests",
    "AWS_SECRET_ACCESS_KEY": "hunter2-is-my-secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Address of the server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def proxy(
    s3_server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """The S3 server behind a proxy, without faults until a test sets ``choose``."""
    with faulty_proxy(s3_server) as proxy:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield proxy


class Bucket:
    """A bucket accessed with boto3, without the proxy."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"runs-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=self.name)

    def uri(self, path: str = "a/tiny") -> str:
        return f"s3://{self.name}/{path}"

    def objects(self, path: str = "a/tiny") -> dict[str, bytes]:
        """Objects by name relative to the run, without those that are deleted meanwhile."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=f"{path}/"
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        contents = {}
        for key in keys:
            with contextlib.suppress(self.client.exceptions.NoSuchKey):
                body = self.client.get_object(Bucket=self.name, Key=key)["Body"]
                contents[key.removeprefix(f"{path}/")] = body.read()
        return {name: content for name, content in contents.items() if not name.endswith("/")}

    def put(self, name: str, content: bytes, path: str = "a/tiny") -> None:
        self.client.put_object(Bucket=self.name, Key=f"{path}/{name}", Body=content)


@pytest.fixture
def bucket(s3_server: tuple[str, int], proxy: FaultyProxy) -> Bucket:
    host, port = s3_server
    return Bucket(boto3.client("s3", endpoint_url=f"http://{host}:{port}"))


@pytest.fixture
def in_a_hurry(tmp_path: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waiting times, in a folder with the study."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 12.0)
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.5)
    monkeypatch.setattr(lease_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(store_module, "_LONGEST_PAUSE", 0.05)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
