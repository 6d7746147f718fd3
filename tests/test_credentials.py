"""Credentials in addresses are removed."""

from __future__ import annotations

import pytest

from dgray.credentials import has_credentials, without_credentials

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://me:{SECRET}@example.org/a.pkl", "https://***@example.org/a.pkl"),
        (f"https://{SECRET}@example.org/a.pkl", "https://***@example.org/a.pkl"),
        (f"https://me:{SECRET}@home@example.org/", "https://***@example.org/"),
        (f"s3://KEY:{SECRET}/with/slash+=@bucket/out", "s3://***@bucket/out"),
        (f"s3://KEY:1{SECRET}@bucket/out?region=x", "s3://***@bucket/out?region=x"),
        (f"abfs://me:{SECRET}@account.example/x", "abfs://***@account.example/x"),
        (
            f"https://h/a?X-Amz-Date=1&X-Amz-Signature={SECRET}&X-Amz-Expires=9",
            "https://h/a?X-Amz-Date=1&X-Amz-Signature=***&X-Amz-Expires=9",
        ),
        (f"https://h/a?X-Goog-Credential={SECRET}", "https://h/a?X-Goog-Credential=***"),
        (f"https://h/a?sv=2024&sig={SECRET}%3D", "https://h/a?sv=2024&sig=***"),
        (f"https://h/a?token={SECRET}#top", "https://h/a?token=***#top"),
        (f"https://h/a#access_token={SECRET}", "https://h/a#access_token=***"),
        (f"https://h/a?AWSAccessKeyId={SECRET}&b=1", "https://h/a?AWSAccessKeyId=***&b=1"),
        (f"https://h/a?api_key={SECRET};b=1", "https://h/a?api_key=***;b=1"),
        (
            f"study x.yaml --set 'base.network=https://h/a?sig={SECRET}' --out s3://k:{SECRET}@b/c",
            "study x.yaml --set 'base.network=https://h/a?sig=***' --out s3://***@b/c",
        ),
    ],
)
def test_credentials_are_removed(text: str, shown: str) -> None:
    assert has_credentials(text)
    assert without_credentials(text) == shown
    assert SECRET not in without_credentials(text)
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "edm-cifar10-32x32-uncond-vp",
        "https://example.org/a.pkl",
        "https://example.org:8443/networks/a@2.pkl",
        "http://127.0.0.1:8265/",
        "s3://bucket/path?region=us-west-2&endpoint_override=localhost:9000",
        "abfs://container@account.dfs.core.windows.net/path",
        "https://h/a?name=key&sigma=0.5&monkey=1&design=2",
        "me@example.org wrote https://example.org/a and me@example.org",
        "--set fit.epochs=80 'fit.checkpoints=[20,80]'",
        "the Ray cluster at 10.0.0.1:6379",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert not has_credentials(text)
    assert without_credentials(text) == text
