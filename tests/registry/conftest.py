"""Stores for the registry's tests: a folder, and a bucket of a server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from registry.settings import Settings
from registry.store import Store


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of the tests' own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://` URL of an empty bucket; the environment leads to it."""
    import boto3

    access: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    bucket = f"graftery-{uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint, **access).create_bucket(Bucket=bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def folder_store(tmp_path: Path) -> Store:
    """A store in a folder."""
    return Store(Settings(home=tmp_path / "home", free_bytes=0))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store, once in a folder and once in a bucket: what holds for one holds for the other."""
    url = request.getfixturevalue("bucket_url") if request.param == "bucket" else None
    return Store(Settings(home=tmp_path / "home", store_url=url, free_bytes=0))
