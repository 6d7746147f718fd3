"""The nine networks that NVIDIA published with EDM: their architectures and sizes.

Karras et al. 2022 (arXiv 2206.00364), Table 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dgray.base.networks.edm_architecture import EdmArchitecture, Value

AUGMENT_DIM = 9  # of EDM's augmentation: flips, scale, rotation, anisotropy, translation
IMAGENET_CLASSES = 1000

_DDPMPP: dict[str, Value] = {
    "model_type": "SongUNet",
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": (1, 1),
    "model_channels": 128,
    "augment_dim": AUGMENT_DIM,
}
_NCSNPP = _DDPMPP | {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": (1, 3, 3, 1),
}
_ADM: dict[str, Value] = {
    "model_type": "DhariwalUNet",
    "model_channels": 192,
    "channel_mult": (1, 2, 3, 4),
    "use_fp16": True,
}


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network.

    Attributes:
        architecture: architecture of the preconditioned network.
        num_parameters: trained numbers.
        num_tensors: entries of its state dict, buffers among them.
    """

    architecture: EdmArchitecture
    num_parameters: int
    num_tensors: int


def _cifar10(options: dict[str, Value], label_dim: int) -> EdmArchitecture:
    return _network(options, 32, label_dim, channel_mult=(2, 2, 2), dropout=0.13)


def _at_64(options: dict[str, Value], dropout: float) -> EdmArchitecture:
    return _network(options, 64, 0, channel_mult=(1, 2, 2, 2), dropout=dropout)


def _network(
    options: dict[str, Value], resolution: int, label_dim: int, **rest: Value
) -> EdmArchitecture:
    sizes = {"img_resolution": resolution, "img_channels": 3, "label_dim": label_dim}
    return EdmArchitecture("EDMPrecond", options | rest | sizes)


PUBLISHED: Mapping[str, PublishedNetwork] = MappingProxyType(
    {
        f"edm-{name}": PublishedNetwork(architecture, num_parameters, num_tensors)
        for name, architecture, num_parameters, num_tensors in (
            ("cifar10-32x32-uncond-vp", _cifar10(_DDPMPP, 0), 55_733_891, 425),
            ("cifar10-32x32-cond-vp", _cifar10(_DDPMPP, 10), 55_735_299, 427),
            ("cifar10-32x32-uncond-ve", _cifar10(_NCSNPP, 0), 56_397_827, 432),
            ("cifar10-32x32-cond-ve", _cifar10(_NCSNPP, 10), 56_400_643, 434),
            ("ffhq-64x64-uncond-vp", _at_64(_DDPMPP, 0.05), 61_805_571, 553),
            ("ffhq-64x64-uncond-ve", _at_64(_NCSNPP, 0.05), 62_761_091, 563),
            ("afhqv2-64x64-uncond-vp", _at_64(_DDPMPP, 0.25), 61_805_571, 553),
            ("afhqv2-64x64-uncond-ve", _at_64(_NCSNPP, 0.25), 62_761_091, 563),
            (
                "imagenet-64x64-cond-adm",
                _network(_ADM, 64, IMAGENET_CLASSES, dropout=0.1),
                295_899_267,
                553,
            ),
        )
    }
)
