"""Places of runs: folders and URIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgray.errors import RunRefusedError
from dgray.record.storage.location import Uri, location


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("runs/tiny", Path("runs/tiny")),
        ("/shared/runs/tiny", Path("/shared/runs/tiny")),
        ("C:strange", Path("C:strange")),
        ("file:///shared/my%20runs/tiny", Path("/shared/my runs/tiny")),
        ("s3://bucket/a/b/", Uri("s3", "bucket", "a/b")),
        ("S3://bucket.with-dots/a b", Uri("s3", "bucket.with-dots", "a b")),
        ("gs://bucket/a", Uri("gs", "bucket", "a")),
        ("gcs://bucket/a", Uri("gs", "bucket", "a")),
    ],
)
def test_locations_of_folders_and_uris(text: str, place: object) -> None:
    assert location(text) == place


def test_text_and_name_of_a_uri() -> None:
    uri = location("s3://bucket/a/b")
    assert isinstance(uri, Uri)
    assert str(uri) == "s3://bucket/a/b"
    assert uri.name == "b"
    assert str(uri.beside("-2")) == "s3://bucket/a/b-2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hdfs://node/a", "not in hdfs://"),
        ("http://host/a", "s3://BUCKET/PATH"),
        ("file://other-host/a", "not in file://"),
        ("s3://bucket", "with a path of its own"),
        ("s3://bucket/", "with a path of its own"),
        ("s3:///a", "with a path of its own"),
        ("s3://bucket/a/../b", "'..'"),
        ("s3://bucket/a//b", "no empty part"),
        ("s3://bucket:9000/a", "s3://BUCKET/PATH"),
        ("s3://id:hunter2@bucket/a", "come from the environment"),
        ("s3://hunter2@bucket/a", "come from the environment"),
        ("s3://bucket/a?secret_key=hunter2", "AWS_ENDPOINT_URL"),
        ("s3://bucket/a#hunter2", "come from the environment"),
    ],
)
def test_invalid_locations_are_refused_without_repeating_credentials(
    text: str, message: str
) -> None:
    with pytest.raises(RunRefusedError) as refused:
        location(text)
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)
