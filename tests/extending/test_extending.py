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

from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.errors import PartError
from dgray.record.run_folder import RunFolder
from dgray.trial.check_parts import check_parts

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
FACTORIES = {
    "data": "my_parts:two_blobs",
    "base": "my_parts:normal",
    "discriminator": "my_parts:network",
    "correction.kind": "my_parts:build_shift",
    "fit.objective": "my_parts:hinge",
    "evaluate.sampler": "my_parts:euler",
    "evaluate.metrics": "my_parts:radius",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules of the package and its two studies."""
    folder = tmp_path_factory.mktemp("package")
    *parts, specs = blocks("python")
    (folder / "my_parts.py").write_text("\n".join(parts))
    (folder / "my_specs.py").write_text(specs)
    for study in blocks("yaml"):
        (folder / f"{study.split()[1]}.yaml").write_text(study)
    return folder


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the metadata of the package, as an installation writes it."""
    folder = tmp_path_factory.mktemp("metadata")
    information = folder / "my_parts-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    groups = tomllib.loads("\n".join(blocks("toml")))["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    return folder


def check_rows(run: Path) -> None:
    rows = RunFolder(run).rows()
    assert set(rows["status"]) == {"ok"}, set(rows["reason"])
    assert set(rows["objective"]) == {"base", "hinge", "shift"}
    assert "euler" in set(rows["sampler"])
    assert all(math.isfinite(value) and value > 0 for value in rows["radius"])
    assert all(value > 0 for value in rows["radius_se"])
    assert rows[rows["sampler"] == "euler"]["radius"].nunique() == 3  # corrections have an effect


def run_in_process_of_its_own(folders: list[Path], *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-m", "dgray.study", *arguments]
    result = subprocess.run(
        command, cwd=folders[0], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_inline_parts_run_in_a_study(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    command = [str(package / "inline.yaml"), "--engine", "local", "--out", str(tmp_path / "run")]
    assert main([*command, "--no-report"]) == 0
    check_rows(tmp_path / "run")


def test_registered_parts_are_checked_and_run_in_a_study(
    package: Path, metadata: Path, tmp_path: Path
) -> None:
    folders = [package, metadata]
    checked = run_in_process_of_its_own(folders, "registered.yaml", "--check")
    for field, factory in FACTORIES.items():
        assert f"checked {field}: {factory}" in checked
    run = str(tmp_path / "run")
    run_in_process_of_its_own(folders, "registered.yaml", "--engine", "local", "--out", run)
    check_rows(tmp_path / "run")


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("study", ["inline", "registered"])
def test_parts_run_under_ray(package: Path, metadata: Path, tmp_path: Path, study: str) -> None:
    folders = [package, metadata] if study == "registered" else [package]
    run = str(tmp_path / "run")
    run_in_process_of_its_own(folders, f"{study}.yaml", "--out", run, "--no-report")
    check_rows(tmp_path / "run")


def checked(package: Path, *overrides: str) -> list[str]:
    study = load_study(package / "inline.yaml", overrides)
    return check_parts(assignment.config for assignment in study.configs)


def test_all_seven_kinds_of_parts_are_checked(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    assert sorted(checked(package)) == sorted(f"{f}: {name}" for f, name in FACTORIES.items())


BROKEN = """
import torch
from dgray.data.images import ImageSet
from dgray.diffusion.denoiser import AutogradDenoiser
def data(): return "no law"
def base(shape, device): return AutogradDenoiser(lambda x, sigma: x[:1])
def plain(shape, device): return lambda x, sigma: x / 2
def constant(shape, device): return AutogradDenoiser(lambda x, sigma: (x / 2).detach())
def discriminator(shape, sigma_data, num_classes): return torch.nn.Linear(2, 1)
def objective(): return lambda outputs: outputs.batch.real.sigma
def sampler(denoise, x, sigmas, noise): return x * float("nan")
def metric(generated, real): return 1.0
"""


@pytest.mark.parametrize(
    ("field", "override", "message"),
    [
        ("data", "{kind: points, factory: 'broken:data'}", "its factory returned str"),
        (
            "base",
            "{kind: custom, factory: 'broken:base'}",
            r"a base must return a tensor of shape \(2, 2\), but got \(1, 2\)",
        ),
        ("base", "{kind: custom, factory: 'broken:plain'}", r"return dgray.*AutogradDenoiser\("),
        ("discriminator", "{kind: custom, factory: 'broken:discriminator'}", ""),
        ("fit.objective", "{factory: 'broken:objective'}", "must depend on the trained tensors"),
        ("evaluate.sampler", "{factory: 'broken:sampler'}", "samples must be finite"),
        ("evaluate.metrics", "[{factory: 'broken:metric'}]", "must return a dgray.metrics"),
        ("fit.objective", "{factory: 'absent:objective'}", "No module named 'absent'"),
    ],
)
def test_a_part_that_does_not_work_is_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch, field: str, override: str, message: str
) -> None:
    (package / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(package)
    with pytest.raises(PartError, match=f"^{field}: .*{message}"):
        checked(package, f"{field}={override}")


def test_a_likelihood_needs_the_derivative_of_the_base(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    data = "data={kind: mixture, name: ring8, num_real: 60, num_validation: 60, num_held_out: 60}"
    overrides = [data, "base={kind: custom, factory: 'broken:constant'}", "evaluate.sampler=ode"]
    overrides += ["evaluate.num_points=10", "evaluate.num_samples=20"]
    assert "base: broken:constant" in checked(package, *overrides, "evaluate.metrics=[path_kl]")
    with pytest.raises(PartError, match=r"^base: .*a likelihood needs the derivative .*no_grad"):
        checked(package, *overrides, "evaluate.metrics=[path_kl, kl]")
