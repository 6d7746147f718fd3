"""Digits of scikit-learn; CIFAR-10 from a small archive in the published format."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from dgray.data.published import cifar10, data_folder, digits

PIXELS = np.random.default_rng(2).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
LABELS = [i % 10 for i in range(12)]
CLASSES = [f"class {i}" for i in range(10)]
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


class OldPickler(pickle.Pickler):
    """Pickler of arrays in the form of Python 2: the published files hold integers for flags."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.dtype):
            return np.dtype, (value.str[1:], 0, 1), value.__reduce__()[2]
        return NotImplemented


def old_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    OldPickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def batch_files() -> dict[str, bytes]:
    """Return six files of two images each, and the names of the classes."""
    files = {
        name: old_pickle(
            {
                "data": PIXELS[2 * i : 2 * i + 2].reshape(2, 3072),
                "labels": LABELS[2 * i : 2 * i + 2],
            }
        )
        for i, name in enumerate(BATCHES)
    }
    return {**files, "batches.meta": old_pickle({"label_names": CLASSES})}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of a small archive, whose checksums torchvision expects."""
    contents = batch_files()
    sums = [[name, md5(contents[name])] for name in BATCHES]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    meta = {**CIFAR10.meta, "md5": md5(contents["batches.meta"])}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return contents


def unpack(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / "cifar-10-batches-py" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def server(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Serve the archive at the address from which torchvision downloads."""
    folder = tmp_path / "served"
    unpack(folder, files)
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{served.server_port}/{archive.name}"
        monkeypatch.setattr(CIFAR10, "url", url)
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive.read_bytes()))
        yield
        served.shutdown()


def test_the_files_are_read(tmp_path: Path, files: dict[str, bytes]) -> None:
    unpack(tmp_path, files)
    images = cifar10(tmp_path, download=False)
    assert torch.equal(images.pixels, torch.from_numpy(PIXELS))
    assert images.labels is not None
    assert images.labels.tolist() == LABELS
    assert images.num_classes == 10
    assert images.is_test is not None
    assert images.is_test.tolist() == [False] * 10 + [True] * 2


# Python 3.12 and 3.13 warn about the default filter of tarfile, which torchvision uses.
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
@pytest.mark.usefixtures("server")
def test_the_archive_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "new" / "root"
    first = cifar10(root)
    assert torch.equal(first.pixels, torch.from_numpy(PIXELS))
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nothing")
    assert cifar10(root).sha256 == first.sha256


@pytest.mark.usefixtures("server")
def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(FileNotFoundError, match="not found or corrupted"):
        cifar10(tmp_path / "root")


def test_message_without_network_names_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(FileNotFoundError) as caught:
        cifar10(tmp_path)
    message = str(caught.value)
    for part in (
        f"in {tmp_path} and downloading http://127.0.0.1:9/cifar-10-python.tar.gz failed",
        "download cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a)",
        str(tmp_path / "cifar-10-batches-py" / "data_batch_1"),
    ):
        assert part in message


def test_nothing_is_written_without_download(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="CIFAR-10 is missing or incomplete in"):
        cifar10(tmp_path / "none", download=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_file_is_not_unpickled(
    tmp_path: Path, files: dict[str, bytes], name: str
) -> None:
    unpack(tmp_path, {**files, name: files[name] + b"."})
    with pytest.raises(FileNotFoundError, match="incomplete"):
        cifar10(tmp_path, download=False)


def test_data_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DGRAY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert data_folder() == Path.home() / ".cache" / "dgray" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "dgray" / "data"
    monkeypatch.setenv("DGRAY_CACHE", str(tmp_path / "own"))
    assert data_folder() == tmp_path / "own" / "data"


def test_the_cache_is_the_default_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes]
) -> None:
    monkeypatch.setenv("DGRAY_CACHE", str(tmp_path))
    unpack(tmp_path / "data", files)
    assert len(cifar10(download=False)) == 12


def test_digits_keep_their_shades_and_labels() -> None:
    shades, labels = load_digits(return_X_y=True)
    images = digits()
    assert images.shape == (1, 8, 8)
    assert np.array_equal(np.rint(images.pixels.flatten(1).numpy() / 255 * 16), shades)
    assert images.labels is not None
    assert images.labels.tolist() == labels.tolist()
    assert images.num_classes == 10
    assert len(images.pixels.unique()) == 17
    assert images.pixels.max() == 255
