"""Names, shapes and sizes of the nine published networks."""

from __future__ import annotations

import pytest
import torch

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.sources import SHORT_NAMES
from dgray.errors import ArchitectureError
from tests.base.networks.network_cases import FIXTURES
from tests.base.networks.published_networks import PUBLISHED

LISTED = {  # fixture -> the files that have these names and shapes
    "cifar10-uncond-vp": ["edm-cifar10-32x32-uncond-vp"],
    "cifar10-cond-vp": ["edm-cifar10-32x32-cond-vp"],
    "cifar10-uncond-ve": ["edm-cifar10-32x32-uncond-ve"],
    "ffhq-uncond-vp": ["edm-ffhq-64x64-uncond-vp", "edm-afhqv2-64x64-uncond-vp"],
    "ffhq-uncond-ve": ["edm-ffhq-64x64-uncond-ve", "edm-afhqv2-64x64-uncond-ve"],
}


def shapes(name: str) -> list[str]:
    with torch.device("meta"):
        state = PUBLISHED[name].architecture.build().state_dict()
    return [f"{key} {tuple(weight.shape)}" for key, weight in state.items()]


@pytest.mark.parametrize("fixture", LISTED)
def test_names_and_shapes(fixture: str) -> None:
    expected = (FIXTURES / f"state_dict_{fixture}.txt").read_text().splitlines()
    for name in LISTED[fixture]:
        assert shapes(name) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes(name: str) -> None:
    network = PUBLISHED[name]
    with torch.device("meta"):
        module = network.architecture.build()
    assert sum(weight.numel() for weight in module.parameters()) == network.num_parameters
    assert len(module.state_dict()) == network.num_tensors


def test_imagenets_shapes() -> None:
    shape_of = dict(line.split(" ", 1) for line in shapes("edm-imagenet-64x64-cond-adm"))
    assert shape_of["model.map_label.weight"] == "(768, 1000)"
    assert "model.map_label.bias" not in shape_of
    assert shape_of["model.enc.64x64_conv.weight"] == "(192, 3, 3, 3)"
    assert (
        shape_of["model.enc.32x32_block0.affine.weight"] == "(768, 768)"
    )  # scale and shift of 384
    assert shape_of["model.enc.32x32_down.skip.resample_filter"] == "(1, 1, 2, 2)"
    assert "model.enc.32x32_down.skip.weight" not in shape_of
    assert "model.enc.64x64_block0.qkv.weight" not in shape_of
    assert shape_of["model.dec.32x32_block0.qkv.weight"] == "(1152, 384, 1, 1)"
    assert shape_of["model.out_conv.weight"] == "(3, 192, 3, 3)"


def test_short_names_are_those_of_the_table() -> None:
    assert tuple(PUBLISHED) == SHORT_NAMES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_resolution": None}, "img_resolution must be a whole number"),
        ({"modle_channels": 8}, "this network has no argument modle_channels"),
        ({"channel_mult": [1, 2.5]}, "channel_mult must be a list"),
        ({"channel_mult": []}, "channel_mult must be a list"),
        ({"channel_mult": 2}, "channel_mult must be a list"),
        ({"num_blocks": 10**9}, "num_blocks must be a whole number up to 100000"),
        ({"use_fp16": 1}, "use_fp16 must be true or false"),
        ({"model_type": "UNet"}, "model_type must be one of SongUNet, DhariwalUNet"),
        ({"embedding_type": 3}, "embedding_type must be a name"),
        ({"C_1": 0.1}, "this network has no argument C_1"),
        ({"dropout": True}, "dropout must be a number"),
    ],
)
def test_wrong_descriptions_are_refused(change: dict[str, object], message: str) -> None:
    arguments = {"img_resolution": 16, "img_channels": 3, "model_type": "SongUNet"} | change
    with pytest.raises(ArchitectureError, match=message):
        EdmArchitecture.from_json({"preconditioning": "EDMPrecond", "init_kwargs": arguments})


def test_missing_resolution_and_unknown_preconditioning() -> None:
    with pytest.raises(ArchitectureError, match="must have img_resolution"):
        EdmArchitecture("EDMPrecond", {"img_channels": 3})
    with pytest.raises(ArchitectureError, match="must be one of EDMPrecond, VPPrecond"):
        EdmArchitecture("EDM2Precond", {})
    with pytest.raises(ArchitectureError, match="must have preconditioning"):
        EdmArchitecture.from_json({"init_kwargs": {}})


def test_values_that_no_network_can_have() -> None:
    options = {"img_resolution": 16, "img_channels": 3, "model_type": "SongUNet"}
    with pytest.raises(ValueError, match="encoder_type must be one of standard, skip, residual"):
        EdmArchitecture("EDMPrecond", options | {"encoder_type": "mirror"}).build()
    with pytest.raises(ValueError, match="groups, but there are 2"):
        EdmArchitecture("EDMPrecond", options | {"model_channels": 2}).build()
