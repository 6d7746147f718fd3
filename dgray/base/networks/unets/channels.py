"""Channels of a U-Net, without torch: its levels, and groups of a normalisation."""

from __future__ import annotations

COARSEST = 4  # smallest side of the coarsest level of a U-Net that dgray trains, in pixels
MAX_GROUPS = 32  # of group normalisation: Wu & He 2018 (arXiv 1803.08494)
MIN_CHANNELS_PER_GROUP = 4


def channel_multipliers(resolution: int) -> tuple[int, ...]:
    """Return a U-Net's channel multiplier of each level: 1 on the finest, 2 on all others.

    Every level halves the one before it, down to at least 4 pixels. EDM's networks for 32 and 64
    pixels end at 8; these networks are smaller, and their coarse levels cost little.
    """
    halvings = 0
    while resolution % 2 == 0 and resolution // 2 >= COARSEST:
        resolution //= 2
        halvings += 1
    return (1, *[2] * halvings)


def num_groups(channels: int) -> int:
    """Return the number of groups of a group normalisation; 0: no whole groups are possible."""
    groups = min(MAX_GROUPS, channels // MIN_CHANNELS_PER_GROUP)
    return groups if groups and channels % groups == 0 else 0


def is_unet_width(width: int, resolution: int) -> bool:
    """Return True if a U-Net that dgray trains can have this width.

    Blocks of the decoder normalise the channels of an encoder's block together with their own.
    """
    sums = (1, 2, 3, 4) if len(channel_multipliers(resolution)) > 1 else (1, 2)
    return all(num_groups(factor * width) for factor in sums)
