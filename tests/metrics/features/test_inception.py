"""Features and FIDs of Inception against clean-fid, with substitutes for the weights files."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.features.extractor import extract
from dgray.metrics.features.inception import MODES, InceptionMode, load_inception
from dgray.metrics.features.inception_file import STATE_DICT, TORCHSCRIPT, VARIABLE, find_weights
from dgray.metrics.frechet import frechet_distance

CPU = torch.device("cpu")


@pytest.fixture
def cleanfid_model(weights_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make clean-fid load the substitutes in place of the published files, without downloads."""
    from cleanfid import features, inception_torchscript

    original = inception_torchscript.InceptionV3W.__init__

    def init(self: object, path: str, download: bool = True, resize_inside: bool = False) -> None:
        original(self, str(weights_folder), download=False, resize_inside=resize_inside)

    monkeypatch.setattr(features.InceptionV3W, "__init__", init)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    cached = STATE_DICT.cleanfid_path
    cached.parent.mkdir(parents=True)
    cached.symlink_to(weights_folder / STATE_DICT.name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("cleanfid_model")
def test_features_and_fid_agree_with_cleanfid(
    mode: InceptionMode,
    weights_folder: Path,
    pictures: Tensor,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The FID is of every 16th feature: a matrix root in 2048 dimensions takes a minute."""
    from cleanfid import fid

    original, cleanfid_features = fid.get_folder_features, []

    def every_16th(*args: Any, **options: Any) -> np.ndarray:
        cleanfid_features.append(original(*args, **options))
        return cleanfid_features[-1][:, ::16]

    monkeypatch.setattr(fid, "get_folder_features", every_16th)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clean-fid, about torchvision and scipy
        expected = fid.compute_fid(
            *map(str, folders),
            mode=mode,
            num_workers=0,
            device=CPU,
            verbose=False,
            use_dataparallel=False,
        )
    assert np.ptp(cleanfid_features[0], axis=0).max() > 0.1  # features depend on the images
    extractor, statistics = load_inception(mode, weights=weights_folder), []
    source = replace(extractor.source, dimension=128)
    for pixels, reference in zip((pictures[:6], pictures[6:]), cleanfid_features, strict=True):
        features = extract(extractor, pixels, batch_size=4).numpy()
        np.testing.assert_allclose(features, reference, rtol=1e-5, atol=1e-6 * reference.max())
        statistics.append(FeatureStatistics.of(features[:, ::16], source))
    one, two = statistics
    distance = frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
    assert distance == pytest.approx(expected, rel=1e-6)


def test_modes_differ(weights_folder: Path, pictures: Tensor) -> None:
    clean, script = (
        extract(load_inception(mode, weights=weights_folder), pictures[:2])
        for mode in ("clean", "legacy_tensorflow")
    )
    assert (clean - script).abs().max() > 1e-3 * clean.abs().max()


@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow"])
def test_features_do_not_depend_on_the_batch_or_on_grey_in_three_channels(
    mode: InceptionMode, weights_folder: Path, pictures: Tensor
) -> None:
    extractor, grey = load_inception(mode, weights=weights_folder), pictures[:7, :1]
    together = extract(extractor, grey, batch_size=7)
    one_by_one = extract(extractor, grey.expand(-1, 3, -1, -1), batch_size=1)
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-5)


def test_the_source_describes_the_features(weights_folder: Path) -> None:
    source = load_inception("clean", weights=weights_folder).source
    assert source.name == "fid_clean"
    assert source.dimension == 2048
    assert "bicubic" in source.resize
    content = (weights_folder / TORCHSCRIPT.name).read_bytes()
    assert source.sha256 == hashlib.sha256(content).hexdigest()


def test_weights_are_searched_by_argument_then_variable_then_path_of_cleanfid(
    weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_folder / STATE_DICT.name
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="the path of clean-fid"):
        find_weights(STATE_DICT)
    own = STATE_DICT.cleanfid_path
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_weights(STATE_DICT) == own
    monkeypatch.setenv(VARIABLE, str(weights_folder))
    assert find_weights(STATE_DICT) == file
    monkeypatch.setenv(VARIABLE, str(tmp_path / "elsewhere"))
    assert find_weights(STATE_DICT, file) == file
    with pytest.raises(FileNotFoundError, match=f"environment variable {VARIABLE}"):
        find_weights(STATE_DICT)


def test_addresses_of_weights_are_those_of_cleanfid() -> None:
    from cleanfid.downloads_helper import inception_url
    from cleanfid.inception_pytorch import FID_WEIGHTS_URL

    assert inception_url == TORCHSCRIPT.address
    assert STATE_DICT.address == FID_WEIGHTS_URL
    assert TORCHSCRIPT.address.endswith(f"/{TORCHSCRIPT.name}")
    assert STATE_DICT.address.endswith(f"/{STATE_DICT.name}")


def test_the_message_of_a_missing_file_has_name_path_and_address(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_inception("clean", weights=tmp_path)
    message = str(caught.value)
    place = str(tmp_path / TORCHSCRIPT.name)
    for part in (TORCHSCRIPT.name, place, TORCHSCRIPT.address, VARIABLE, "does not download"):
        assert part in message


@pytest.mark.parametrize("mode", MODES)
def test_a_truncated_or_wrong_file_is_refused(
    mode: InceptionMode, weights_folder: Path, tmp_path: Path
) -> None:
    right = STATE_DICT if mode == "legacy_pytorch" else TORCHSCRIPT
    wrong = TORCHSCRIPT if mode == "legacy_pytorch" else STATE_DICT
    cut = tmp_path / "cut"
    cut.write_bytes((weights_folder / right.name).read_bytes()[:5000])
    for file in (cut, weights_folder / wrong.name):
        with pytest.raises(ValueError, match="cannot be read as the Inception-v3 weights"):
            load_inception(mode, weights=file)


def test_another_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="one of clean, legacy_pytorch, legacy_tensorflow"):
        load_inception("legacy")  # type: ignore[arg-type]
