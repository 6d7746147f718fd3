"""Test that names of parts are decided on in the catalogue only.

Outside of it, code reads the attributes of a specification. A comparison with the name of a part,
or a list or table of such names, is a decision that another package's part could not take part in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from dgray.catalogue import (
    BASES,
    CORRECTIONS,
    DATA,
    DISCRIMINATORS,
    FEATURES,
    METRIC_COLUMNS,
    METRICS,
    NETWORKS,
    OBJECTIVES,
    POINTS_AND_IMAGES,
    SAMPLERS,
    SOURCES,
    Source,
    load_object,
)
from dgray.config.data import GlyphsData
from dgray.config.study import StudyConfig
from dgray.data.mixtures import NAMED
from dgray.data.torchvision_sets import LAYOUTS
from dgray.data.torchvision_surveys import PUBLISHED
from dgray.problem.artifact_table import ARTIFACTS
from dgray.reporting.text.finding import ANSWERS

PACKAGE = Path(__file__).parents[2] / "dgray"
REGISTRIES = (OBJECTIVES, CORRECTIONS, SAMPLERS, METRICS, DATA, BASES, DISCRIMINATORS)
GROUPS = (
    *({spec.name for spec in registry.built_in} - {*POINTS_AND_IMAGES} for registry in REGISTRIES),
    {*FEATURES},
    {*NETWORKS},
    *({v["name"] for v, _ in spec.shapes if "name" in v} for spec in DATA.built_in),
)
STUDY = "a study that is written names its parts"
COMPUTES = "the code that computes the metric"
BUILDS = "builders by name; test_builders_agree_with_the_catalogue"
ANOTHER = "the name of something else"
ALLOWED = {  # module -> names and reason
    "cli/fitting_study.py": (
        "cross_entropy kid kl kl_sde memorisation nll ode path_kl precision recall sde zip",
        STUDY,
    ),
    "cli/point_study.py": (
        "cross_entropy fd kl kl_sde memorisation nll ode path_kl precision recall sde",
        STUDY,
    ),
    "data/mixtures.py": ("axes16 five_gaussians_1d grid25 ring8", BUILDS),
    "data/torchvision_sets.py": (
        "CIFAR10 CIFAR100 FashionMNIST KMNIST MNIST STL10 SVHN USPS",
        BUILDS,
    ),
    "data/torchvision_surveys.py": (
        "CIFAR10 CIFAR100 FashionMNIST KMNIST MNIST STL10 SVHN USPS",
        BUILDS,
    ),
    "metrics/image_scores.py": ("kid", COMPUTES),
    "problem/points.py": ("nll", COMPUTES),
    "trial/noised_splits.py": ("observable_path_kl", COMPUTES),
    "trial/score_points.py": ("kl_sampler kl_sde memorisation", COMPUTES),
    "trial/shards.py": ("memorisation", COMPUTES),
    "reporting/text/summary.py": ("kl", "kl_change is a difference of rows that both have kl"),
    "guided/loading.py": ("diffusers", "the folder of a pipeline of diffusers"),
    "config/reading/check_settings.py": ("restart", "the field evaluate.restart"),
    "problem/build.py": ("edm", ANOTHER),  # fit.weighting
    "base/networks/unets/plan.py": ("residual", ANOTHER),  # encoders of EDM
    "base/networks/unets/song.py": ("conv", ANOTHER),  # layers of EDM
}


def decisions(source: str) -> set[str]:
    """Return the names by which a module decides: in comparisons, cases, lists and tables."""
    names: set[object] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare(left=left, comparators=others):
                parts = [left, *others]
                names |= constants(e for part in parts for e in getattr(part, "elts", [part]))
            case ast.Call(keywords=keywords, func=ast.Attribute(attr="has_metric")):
                names |= constants(keyword.value for keyword in keywords)
            case ast.MatchValue(value=value):
                names |= constants([value])
            case ast.Dict(keys=elements):
                names |= listed(elements)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                names |= listed(elements)
    return {str(name) for name in names if any(name in group for group in GROUPS)}


def constants(nodes: Iterable[ast.expr | None]) -> set[object]:
    return {node.value for node in nodes if isinstance(node, ast.Constant)}


def listed(nodes: Iterable[ast.expr | None]) -> set[object]:
    """Return the names of a list or table that holds two or more of one group."""
    return {n for group in GROUPS if len(own := constants(nodes) & group) > 1 for n in own}


@pytest.mark.parametrize(
    "source",
    [
        'x = 1 if network == "mlp" else 2',
        'x = kind in ("conv", "custom")',
        'x = {"digits": 1797, "cifar10": 50_000}[kind]',
        'for metric in ("fid", "fd"): pass',
        'Name = Literal["ring8", "grid25"]',
        'x = evaluate.has_metric(name="observable_path_kl")',
        'match features:\n    case "cnn": pass',
        'x = objective != "time_score" and correction == "neon"',
    ],
)
def test_a_decision_is_seen(source: str) -> None:
    assert decisions(source)


def test_attributes_and_single_names_are_no_decision() -> None:
    assert not decisions('x = {"kind": "mlp"}\ny = ["kl"]\nz = spec.source == "flow"')


def test_names_of_parts_are_decided_on_in_the_catalogue_only() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    by_module = {
        module: decisions(path.read_text("utf-8"))
        for module, path in modules.items()
        if not module.startswith("catalogue/")
    }
    allowed = {module: set(names.split()) for module, (names, _) in ALLOWED.items()}
    assert {module: names for module, names in by_module.items() if names} == allowed


def test_builders_agree_with_the_catalogue() -> None:
    mixtures = {values["name"]: shape for values, shape in DATA["mixture"].shapes}
    assert {name: (build().dimension,) for name, build in NAMED.items()} == mixtures
    assert (
        {values["name"] for values, _ in DATA["torchvision"].shapes} == {*LAYOUTS} == {*PUBLISHED}
    )
    sizes = get_args(GlyphsData.model_fields["size"].annotation)
    assert tuple(values["size"] for values, _ in DATA["glyphs"].shapes) == sizes


def test_other_lists_agree_with_the_catalogue() -> None:
    assert get_args(Source) == (*SOURCES,)
    assert {spec.source for spec in METRICS.built_in} <= {*SOURCES}
    answer, _ = get_args(StudyConfig.model_fields["question"].annotation)
    assert get_args(answer) == (*ANSWERS,)


def test_each_kind_of_data_has_one_default_discriminator() -> None:
    kinds = [kind for spec in DISCRIMINATORS.built_in for kind in spec.default_for]
    assert sorted(kinds) == sorted(POINTS_AND_IMAGES)


def test_import_paths_and_columns_of_specifications_exist() -> None:
    for spec in (*FEATURES.values(), *(s for registry in REGISTRIES for s in registry.built_in)):
        for field in ("factory", "settings", "survey", "weights", "draws", "calls", "min_weights"):
            path = getattr(spec, field, None)
            assert path is None or callable(load_object(path))
    columns = {column.name for column in METRIC_COLUMNS}
    assert {spec.unreliable_column for spec in METRICS.built_in} - {""} <= columns
    roles = {artifact.role for artifact in ARTIFACTS}
    assert {spec.artifact for spec in FEATURES.values()} - {""} <= roles
