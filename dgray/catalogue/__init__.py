"""Catalogue of the parts that a study can name: objectives, samplers, metrics, data, and more.

A part is one frozen specification: its name in a study file, how it is presented, what it applies
to, and ``factory``, the import path ``"module:attribute"`` of the code that builds it. The code is
imported when the part is built, so that plans and reports need no torch. Features of images and
networks of bases are specified likewise. May import ``errors``.

Another package registers its own parts with entry points whose value is a specification::

    [project.entry-points."dgray.objectives"]
    hinge = "my_package.parts:HINGE"

Groups: ``dgray.objectives``, ``dgray.corrections``, ``dgray.samplers``, ``dgray.metrics``,
``dgray.data``, ``dgray.bases``, ``dgray.discriminators``.
"""

from dgray.catalogue.column import ColumnKind, ColumnSpec
from dgray.catalogue.columns import (
    COST_COLUMNS,
    DISCRIMINATOR_COLUMNS,
    METRIC_COLUMNS,
    SETTING_COLUMNS,
    VALIDATION_COLUMNS,
    validation_columns,
    with_errors,
)
from dgray.catalogue.data import DATA, FEATURES
from dgray.catalogue.method import GUIDANCE, method_name
from dgray.catalogue.metrics import METRICS
from dgray.catalogue.parts import (
    BASES,
    CORRECTIONS,
    DISCRIMINATORS,
    MLP_MAX_VALUES,
    NETWORKS,
    OBJECTIVES,
    SAMPLERS,
    default_network,
    network_like,
)
from dgray.catalogue.registry import Registry
from dgray.catalogue.spec import (
    POINTS_AND_IMAGES,
    SOURCES,
    BaseSpec,
    CorrectionSpec,
    DataSpec,
    DiscriminatorSpec,
    FeaturesSpec,
    Kind,
    MetricSpec,
    NetworkName,
    NetworkSpec,
    ObjectiveSpec,
    SamplerSpec,
    Source,
    Spec,
    load_object,
    top_level_module,
)

__all__ = [
    "BASES",
    "CORRECTIONS",
    "COST_COLUMNS",
    "DATA",
    "DISCRIMINATORS",
    "DISCRIMINATOR_COLUMNS",
    "FEATURES",
    "GUIDANCE",
    "METRICS",
    "METRIC_COLUMNS",
    "MLP_MAX_VALUES",
    "NETWORKS",
    "OBJECTIVES",
    "POINTS_AND_IMAGES",
    "SAMPLERS",
    "SETTING_COLUMNS",
    "SOURCES",
    "VALIDATION_COLUMNS",
    "BaseSpec",
    "ColumnKind",
    "ColumnSpec",
    "CorrectionSpec",
    "DataSpec",
    "DiscriminatorSpec",
    "FeaturesSpec",
    "Kind",
    "MetricSpec",
    "NetworkName",
    "NetworkSpec",
    "ObjectiveSpec",
    "Registry",
    "SamplerSpec",
    "Source",
    "Spec",
    "default_network",
    "load_object",
    "method_name",
    "network_like",
    "top_level_module",
    "validation_columns",
    "with_errors",
]
