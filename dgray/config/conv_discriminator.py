"""``discriminator`` of kind ``conv``: a convolutional network for images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dgray.config.model import Model, PositiveInt


class ConvDiscriminator(Model):
    """A convolutional encoder of (x, sigma) with one logit, or a head on a frozen trunk."""

    kind: Literal["conv"]
    width: PositiveInt = Field(16, description="channels of the first level; others have twice")
    depth: PositiveInt = Field(1, description="residual blocks per level")
    attention: bool = Field(False, description="self-attention over the pixels of the last level")
    conditional: bool = Field(False, description="it is told the class of every image")
    trunk: str = Field(
        "none",
        description="none; or a frozen network whose feature maps it looks at: base (the encoder "
        "of a base that is a U-Net), a TorchScript file that workers can read, or "
        "module:function that returns a torch.nn.Module",
    )
