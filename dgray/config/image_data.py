"""Data sets of images in the study file: where they come from, and how many are used for what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dgray.config.model import Model, PositiveInt


class ImageData(Model):
    """What all image data share: the sizes of the splits."""

    kind: str
    num_real: PositiveInt = Field(
        1000, description="training images of each replicate (its own draw from the pool)"
    )
    num_validation: PositiveInt = Field(
        500, description="images for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(1000, description="images on which metrics are reported")
    flip: bool = Field(
        False, description="every training image is also used mirrored left to right"
    )


class DigitsData(ImageData):
    """1,797 handwritten digits of 8 x 8, ten classes, in scikit-learn."""

    kind: Literal["digits"]
    num_validation: PositiveInt = Field(
        297, description="images for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(500, description="images on which metrics are reported")


class GlyphsData(ImageData):
    """Some 22,700 letters of the DejaVu fonts, one channel; the class is one of twelve faces."""

    kind: Literal["glyphs"]
    size: Literal[16, 28, 32] = Field(16, description="height and width in pixels")


class Cifar10Data(ImageData):
    """CIFAR-10: 50,000 training images; validation and held-out ones are of its 10,000 others."""

    kind: Literal["cifar10"]
    root: str | None = Field(
        None, description="folder of cifar-10-batches-py; null: data/ in dgray's cache"
    )
    download: bool = Field(True, description="fetch it (163 MB) if it is not there")


class FileData(ImageData):
    """What images in a user's files share."""

    path: str = Field(description="the folder or file; ~ is the home folder")


LabelSource = Literal["auto", "dataset.json", "directories", "none"]


class ImageFiles(FileData):
    """What image files in a folder or a zip share."""

    resize: PositiveInt | None = Field(
        None, description="height and width that square images are resized to; null: as they are"
    )
    labels: LabelSource = Field(
        "auto",
        description="where classes come from: EDM's dataset.json, the directories at the top, "
        "none, or (auto) the first of these that is there",
    )


class FolderData(ImageFiles):
    """PNG, JPEG and WebP files below a folder, all of one size."""

    kind: Literal["folder"]


class ZipData(ImageFiles):
    """The same in a zip, as EDM's dataset_tool makes it."""

    kind: Literal["zip"]


class NpzData(FileData):
    """An npz: uint8 images (N, H, W, C) in arr_0 or samples, labels in arr_1 or label (DG's)."""

    kind: Literal["npz"]
