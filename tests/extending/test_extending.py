"""The package of docs/extending.md, outside of this repository: checked, and run in a study."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dgray.record.run_folder import RunFolder

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, its metadata and its two studies."""
    folder = tmp_path_factory.mktemp("package")
    *parts, specs = blocks("python")
    (folder / "my_parts.py").write_text("\n".join(parts))
    (folder / "my_specs.py").write_text(specs)
    metadata = folder / "my_parts-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    groups = tomllib.loads("\n".join(blocks("toml")))["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for study in blocks("yaml"):
        (folder / f"{study.split()[1]}.yaml").write_text(study)
    return folder


def python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "RAY_DEDUP_LOGS": "0"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("study", ["inline", "registered"])
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_study_runs_with_parts_of_another_package(
    package: Path, tmp_path: Path, study: str, engine: str
) -> None:
    run = tmp_path / "run"
    arguments = (f"{study}.yaml", "--engine", engine, "--out", str(run))
    result = python(package, "-m", "dgray.study", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = RunFolder(run).rows()
    assert set(rows["status"]) == {"ok"}
    assert set(rows["objective"]) == {"base", "hinge"}
    assert set(rows["sampler"]) == ({"euler"} if study == "inline" else {"euler", "ode"})
    assert all(math.isfinite(value) and value > 0 for value in rows["radius"])
    assert all(value > 0 for value in rows["radius_se"])
    guided = rows[(rows["objective"] == "hinge") & (rows["sampler"] == "euler")]
    base = rows[(rows["objective"] == "base") & (rows["sampler"] == "euler")]
    assert set(guided["radius"]) != set(base["radius"])


CHECK = """
import sys
from pathlib import Path
from dgray.config.reading.load import load_study
from dgray.errors import PartError
from dgray.trial.check_parts import check_parts

study = load_study(Path(sys.argv[1]), sys.argv[2:])
try:
    print(*check_parts(assignment.config for assignment in study.configs), sep="\\n")
except PartError as error:
    print("refused", error)
"""
FIELDS = ("data", "base", "discriminator", "fit.objective", "evaluate.sampler", "evaluate.metrics")


@pytest.mark.parametrize("study", ["inline", "registered"])
def test_all_six_parts_are_checked(package: Path, study: str) -> None:
    result = python(package, "-c", CHECK, f"{study}.yaml")
    factories = ("two_blobs", "normal", "network", "hinge", "euler", "radius")
    expected = [f"{f}: my_parts:{name}" for f, name in zip(FIELDS, factories, strict=True)]
    assert result.stdout.splitlines() == expected, result.stderr


BROKEN = """
import torch
from dgray.data.images import ImageSet
def data(): return "no law"
def base(shape, device): return lambda x, sigma: x[:1]
def discriminator(shape, sigma_data, num_classes): return torch.nn.Linear(2, 1)
def objective(): return lambda outputs: outputs.batch.real.sigma
def sampler(denoise, x, sigmas, noise): return x * float("nan")
def metric(generated, real): return 1.0
"""


@pytest.mark.parametrize(
    ("field", "override", "message"),
    [
        ("data", "{kind: points, factory: 'broken:data'}", "'str' object has no attribute"),
        ("base", "{kind: custom, factory: 'broken:base'}", "denoiser must have shape (2, 2)"),
        ("discriminator", "{kind: custom, factory: 'broken:discriminator'}", ""),
        ("fit.objective", "{factory: 'broken:objective'}", "must depend on the tensors"),
        ("evaluate.sampler", "{factory: 'broken:sampler'}", "samples must be finite"),
        ("evaluate.metrics", "[{factory: 'broken:metric'}]", "must return a dgray.metrics"),
        ("fit.objective", "{factory: 'absent:objective'}", "No module named 'absent'"),
    ],
)
def test_a_part_that_does_not_work_is_refused(
    package: Path, field: str, override: str, message: str
) -> None:
    (package / "broken.py").write_text(BROKEN)
    result = python(package, "-c", CHECK, "inline.yaml", f"{field}={override}")
    line = result.stdout.strip().splitlines()[-1:]
    assert line, result.stderr
    assert line[0].startswith(f"refused {field}: "), result.stdout
    assert message in result.stdout
