"""``diffusion`` and ``data``: noise levels, and where samples come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dgray.catalogue import DATA, DataSpec, Kind
from dgray.config.mixtures import (
    MixtureName,
    Written,
    check_components,
    mixture_classes,
    mixture_dimension,
)
from dgray.config.model import Model, NoiseLevel, PositiveFloat, PositiveInt, between
from dgray.config.parts import Arguments, ImportPath, inline_spec, section_union

if TYPE_CHECKING:
    TorchvisionName = str
else:
    TorchvisionName: Any = Literal[tuple(v["name"] for v, _ in DATA["torchvision"].shapes)]


class Diffusion(Model):
    """Noise levels of the base model (Karras et al. 2022, Table 1): x = x0 + sigma n."""

    sigma_min: NoiseLevel = Field(0.002, description="lowest noise level")
    sigma_max: NoiseLevel = Field(80.0, description="highest noise level")
    rho: Annotated[PositiveFloat, between(0.1, 1e3)] = Field(
        7.0, description="exponent of the spacing of a sampler's steps"
    )
    sigma_data: NoiseLevel | None = Field(
        None, description="scale of the data in preconditioning; null: its standard deviation"
    )
    prior_std: NoiseLevel | None = Field(
        None, description="standard deviation of the samplers' start; null: sigma_max"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min < sigma_max must hold, but got {self.sigma_min} and {self.sigma_max}"
            )
        return self


class DataSection(Model):
    """Data set with the sizes of its splits."""

    kind: str
    num_real: PositiveInt = Field(
        1000, description="training samples of each replicate, drawn independently"
    )
    num_validation: PositiveInt = Field(
        1000, description="samples for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(2000, description="samples on which metrics are reported")

    @property
    def spec(self) -> DataSpec:
        """Specification of the part in the catalogue."""
        return DATA[self.kind]

    @property
    def sample_kind(self) -> Kind:
        """Kind of its samples: points or images."""
        return self.spec.kinds[0]

    @property
    def is_stored(self) -> bool:
        """True if its samples are stored, and divided into splits, as images are."""
        return self.sample_kind == "images"

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a sample, (d,) or (C, H, W); None if it is not known before it is read."""
        for fields, shape in self.spec.shapes:
            if all(getattr(self, name) == value for name, value in fields.items()):
                return shape
        return None

    @property
    def num_classes(self) -> int | None:
        """Number of classes, 0 without; None if it is not known before the data are read."""
        return None

    @property
    def assumed_shape(self) -> tuple[int, ...]:
        """Shape of a sample that estimates of time assume if it is not known."""
        return (3, 32, 32) if self.sample_kind == "images" else (2,)


class MixtureData(DataSection):
    """Points of a Gaussian mixture, whose density is exact at every noise level."""

    kind: Literal["mixture"]
    name: MixtureName | None = Field(None, description="name of a mixture")
    components: Written | None = Field(
        None,
        description="mixture written out, without name: by columns, or a list of {mean, std | "
        "covariance, weight, label}",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.components is None):
            raise ValueError("name or components must be given, and not both")
        check_components(self.components)
        return self

    @property
    def num_classes(self) -> int:
        """Number of classes; 0: none."""
        return mixture_classes(self.components)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point, (d,)."""
        dimension = mixture_dimension(self.name, self.components)
        assert dimension is not None  # one of the two is given
        return (dimension,)


class ImageData(DataSection):
    """Images of one size."""

    num_validation: PositiveInt = Field(
        500, description="images for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(1000, description="images on which metrics are reported")
    flip: bool = Field(
        False, description="also train on every training image mirrored left to right"
    )


class DigitsData(ImageData):
    """1,797 handwritten digits of 8 x 8 pixels, ten classes, in scikit-learn."""

    kind: Literal["digits"]
    num_validation: PositiveInt = Field(
        297, description="images for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(500, description="images on which metrics are reported")


class GlyphsData(ImageData):
    """About 22,700 letters of the DejaVu fonts, one channel; the class is one of twelve faces."""

    kind: Literal["glyphs"]
    size: Literal[16, 28, 32] = Field(16, description="height and width in pixels")


class Cifar10Data(ImageData):
    """CIFAR-10: training images from its 50,000, validation and held-out ones from its 10,000."""

    kind: Literal["cifar10"]
    root: str | None = Field(
        None, description="folder of cifar-10-batches-py; null: data/ in the cache of dgray"
    )
    download: bool = Field(True, description="download the data (163 MB) if they are missing")


class TorchvisionData(ImageData):
    """Data set of torchvision, from local files; its test part is that of the data set."""

    kind: Literal["torchvision"]
    name: TorchvisionName = Field(description="class of torchvision.datasets")
    root: str | None = Field(
        None, description="folder that its loader reads; null: data/ in the cache of dgray"
    )
    download: bool = Field(False, description="download missing files")


class OpenmojiData(ImageData):
    """About 4,270 distinct emojis of OpenMoji (CC BY-SA 4.0), 32 x 32, colour, no classes.

    Needs the extra ``openmoji``, and no network.
    """

    kind: Literal["openmoji"]


class FileData(ImageData):
    """Images in files of the user."""

    path: str = Field(description="folder or file; ~ is the home folder")


class ImageFiles(FileData):
    """Image files in a folder or a zip file."""

    resize: PositiveInt | None = Field(
        None, description="height and width that square images are resized to; null: unchanged"
    )
    labels: Literal["auto", "dataset.json", "directories", "none"] = Field(
        "auto",
        description="source of the classes: EDM's dataset.json (beside or above the images), the "
        "directories in the folder that contains all images, none, or (auto) the first of these "
        "that exists",
    )

    @property
    def assumed_shape(self) -> tuple[int, ...]:
        """(3, resize, resize), if they are resized."""
        return super().assumed_shape if self.resize is None else (3, self.resize, self.resize)


class FolderData(ImageFiles):
    """PNG, JPEG and WebP files below a folder, all of one size.

    Hidden and system files are skipped. Images are read as their owners see them: turned upright
    by their EXIF orientation, transparent pixels over white, colours in sRGB, 8 bits a channel
    (16 bits are reduced; the gAMA and cHRM of a PNG are not applied; what was changed is printed).
    They have one channel if all are grey, otherwise three.
    """

    kind: Literal["folder"]


class ZipData(ImageFiles):
    """PNG, JPEG and WebP files in a zip file, as written by dataset_tool of EDM."""

    kind: Literal["zip"]


class NpzData(FileData):
    """Npz file: uint8 images (N, H, W, C) in arr_0 or samples, labels in arr_1 or label."""

    kind: Literal["npz"]


class RegisteredPoints(DataSection):
    """Points registered by another package."""

    arguments: Arguments = Field({}, description="keyword arguments of the factory")


class RegisteredImages(ImageData):
    """Images registered by another package."""

    arguments: Arguments = Field({}, description="keyword arguments of the factory")


def _registered(spec: DataSpec) -> type[DataSection]:
    return RegisteredPoints if spec.kinds == ("points",) else RegisteredImages


class PointsData(DataSection):
    """Points of a file, whose density is unknown, or an exact distribution built by a function.

    A file is npz (an array of shape (N, d), or arrays of N numbers), CSV (a header, then numbers)
    or Parquet. Splits are disjoint and depend on the content, as those of images.
    """

    kind: Literal["points"]
    path: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="npz, csv or parquet file; ~ is the home folder",
    )
    columns: tuple[str, ...] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="names of the coordinates; null: all columns of numbers but label",
    )
    label: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="column of classes; null: no classes",
    )
    standardise: bool = Field(
        True,
        exclude_if=lambda value: value,
        description="shifts and scales every coordinate to mean 0 and standard deviation 1 over "
        "the file; all metrics are in these units",
    )
    factory: ImportPath | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="module:function that builds an exact distribution, in place of a file",
    )
    arguments: Arguments = Field({}, description="keyword arguments of the function")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.factory is None):
            raise ValueError("path or factory must be given, and not both")
        own = {"arguments"} if self.path is not None else {"columns", "label", "standardise"}
        unused = sorted(own & self.model_fields_set)
        if unused and self.factory is not None:
            raise ValueError(f"{', '.join(unused)} applies to files, but factory is given")
        if unused and self.arguments:
            raise ValueError("arguments applies to factory, but path is given")
        return self

    @property
    def is_stored(self) -> bool:
        """True if its points are those of a file."""
        return self.path is not None

    @property
    def spec(self) -> DataSpec:
        """Specification of the part in the catalogue."""
        if self.factory is None:
            return DATA[self.kind]
        name = self.factory.rpartition(":")[2]
        return inline_spec(DataSpec, name, self.factory, kinds=("points",))


class CustomImages(ImageData):
    """Images built by a user-defined function."""

    kind: Literal["images"]
    factory: ImportPath = Field(description="module:function that builds the data")
    arguments: Arguments = Field({}, description="keyword arguments of the function")

    @property
    def spec(self) -> DataSpec:
        """Specification of the part in the catalogue."""
        name = self.factory.rpartition(":")[2]
        return inline_spec(DataSpec, name, self.factory, kinds=("images",))


if TYPE_CHECKING:
    Data = DataSection
else:
    Data: Any = section_union(DATA, _registered, CustomImages)
