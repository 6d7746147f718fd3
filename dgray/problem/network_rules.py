"""Rules between a study and its networks: the base and the trunk of a discriminator. No torch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from dgray.base.networks.facts import NetworkFacts, diffusers_facts, edm_facts
from dgray.base.networks.unets.channels import (
    MAX_GROUPS,
    MIN_CHANNELS_PER_GROUP,
    is_unet_width,
)
from dgray.config.bases import DiffusersBase, EdmBase, TrainedBase
from dgray.config.study import StudyConfig
from dgray.config.training import ConvDiscriminator
from dgray.credentials import without_credentials
from dgray.data.summary import DataSummary
from dgray.errors import NetworkError
from dgray.plan.work import uses_unet
from dgray.problem.data_rules import Finding, Rule, is_installed


def _base(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Networks that are missing, or do not fit the study."""
    base = config.base
    shape = config.data.shape if summary is None else summary.shape
    is_square = shape is None or len(shape) < 3 or shape[1] == shape[2]
    if isinstance(base, TrainedBase) and not is_square and uses_unet(base, shape or ()):
        yield Finding(
            "base.network",
            f"a U-Net needs square images, but those of the data are of shape {shape}; set "
            "base.network: mlp, or crop them",
        )
    try:
        facts = _facts(config)
    except NetworkError as error:
        field = "base.path" if isinstance(base, DiffusersBase) else "base.network"
        yield Finding(field, str(error), is_missing=not _is_local(config))
        return
    if base.spec.package and not is_installed(base.spec.package):
        rule = f"a model of {base.kind} needs a package: pip install 'dgray[{base.spec.extra}]'"
        yield Finding("base.kind", rule, is_missing=True)
    if facts is not None:
        classes = None if summary is None else len(summary.classes or ())
        for field, rule in facts.conflicts(shape, classes, config.diffusion.sigma_max):
            yield Finding(field, rule)


def _facts(config: StudyConfig) -> NetworkFacts | None:
    """Return the facts about the network of the base; None if they are not known here."""
    base = config.base
    if isinstance(base, DiffusersBase):
        folder = Path(base.path).expanduser()
        if not folder.is_dir() and "RAY_ADDRESS" in os.environ:
            return None  # workers read it
        return diffusers_facts(folder)
    if isinstance(base, EdmBase) and (path := _network_file(base)) is not None:
        return edm_facts(path)
    return None


def _network_file(base: EdmBase) -> Path | None:
    from dgray.base.networks.importing.sources import local_path  # HTTP, slow to import

    return local_path(base.network)


def _is_local(config: StudyConfig) -> bool:
    """Return True if the file or folder of the base's network is on this machine."""
    base = config.base
    source = base.path if isinstance(base, DiffusersBase) else getattr(base, "network", "") or ""
    return Path(source).expanduser().exists()


def _trunk(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Trunks of a discriminator that are missing, or that the base does not have."""
    network, base = config.discriminator, config.base
    if not isinstance(network, ConvDiscriminator) or network.trunk == "none":
        return
    shape = config.data.shape if summary is None else summary.shape
    if network.trunk == "base":
        has_encoder = isinstance(base, EdmBase) or (
            isinstance(base, TrainedBase) and (shape is None or uses_unet(base, shape))
        )
        if isinstance(base, TrainedBase | DiffusersBase) and not has_encoder:
            yield Finding(
                "discriminator.trunk",
                "base needs a base with an encoder, a U-Net of dgray or EDM; use base.network: "
                "unet, base.kind: edm, or trunk: none",
            )
    elif (
        ":" not in network.trunk
        and "RAY_ADDRESS" not in os.environ
        and not Path(network.trunk).is_file()
    ):
        yield Finding(
            "discriminator.trunk",
            "must be none, base, a TorchScript file or module:function, but there is no file "
            f"{network.trunk}",
            is_missing=True,
        )


def _unet_widths(config: StudyConfig, summary: DataSummary | None) -> Iterator[Finding]:
    """Widths that a U-Net of dgray cannot have: of the base, or of a correction's own network."""
    base, network = config.base, config.discriminator
    shape = config.data.shape if summary is None else summary.shape
    if shape is None or len(shape) != len("CHW"):
        return
    widths = {}
    if isinstance(base, TrainedBase) and uses_unet(base, shape):
        widths["base.width"] = base.width
    if config.correction.spec.needs_network and isinstance(network, ConvDiscriminator):
        widths["discriminator.width"] = network.width
    for field, width in widths.items():
        if not is_unet_width(width, shape[-1]):
            fits = next(w for w in itertools.count(width) if is_unet_width(w, shape[-1]))
            yield Finding(
                field,
                f"must be a width whose channels a U-Net can normalise in at most {MAX_GROUPS} "
                f"equal groups of at least {MIN_CHANNELS_PER_GROUP}, but is {width}; the next is "
                f"{fits}",
            )


def network_notices(config: StudyConfig) -> Iterator[str]:
    """Yield notices about the network of the base."""
    base = config.base
    try:
        if isinstance(base, EdmBase) and _network_file(base) is None:
            yield f"base.network: {without_credentials(base.network)} will be downloaded"
        facts = _facts(config)
    except NetworkError:  # a finding
        return
    if facts is not None and (notice := facts.notice_of_lower_levels(config.diffusion.sigma_min)):
        yield notice


NETWORK_RULES: tuple[Rule, ...] = (_base, _trunk, _unet_widths)
