"""``--check`` reads the data and runs the parts of users before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.data.images import ImageSet
from dgray.diffusion.mixture import GaussianMixture
from dgray.plan.plan import make_plan
from dgray.problem.inputs import inspect
from tests.problem.written_studies import FEATURES, Values, inspected, write_images, write_study


def extractor(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(1).float()


def broken(pixels: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no weights")


def unlabelled() -> ImageSet:
    return ImageSet("mine", torch.arange(40, dtype=torch.uint8)[:, None, None, None])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"num_real": 21}}, "data.num_real: must be at most 20, the 40 images of mine"),
        ({"base": {"conditional": True}}, "base.conditional: needs labels, but mine has none"),
        ({"evaluate": FEATURES}, "evaluate.features: cnn is trained on labels, but mine has none"),
        ({"data": {"num_real": 20}}, ""),
    ],
)
def test_check_reads_the_images_of_users(
    folder: Path, sections: Values, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Values = {"kind": "images", "factory": f"{__name__}:unlabelled", "num_real": 10}
    data |= {"num_validation": 8, "num_held_out": 12} | sections.get("data", {})
    status = main([str(write_study(folder, **{**sections, "data": data})), "--check"])
    assert status == (2 if message else 0)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"base": {"kind": "custom", "factory": "nowhere.parts:part"}}, "base"),
        ({"discriminator": {"kind": "custom", "factory": "nowhere.parts:part"}}, "discriminator"),
        ({"correction": {"kind": {"factory": "nowhere.parts:part"}}}, "correction.kind"),
        ({"fit": {"objective": {"factory": "nowhere.parts:part"}}}, "fit.objective"),
        ({"evaluate": {"sampler": [{"factory": "nowhere.parts:part"}]}}, "evaluate.sampler"),
        ({"evaluate": {"metrics": [{"factory": "nowhere.parts:part"}]}}, "evaluate.metrics"),
        ({"evaluate": {"features": "nowhere.parts:part"}}, "evaluate.features"),
        ({"discriminator": {"kind": "conv", "trunk": "nowhere:part"}}, "discriminator.trunk"),
    ],
)
def test_a_module_that_is_not_here_is_missing_with_its_place(
    folder: Path, sections: Values, field: str
) -> None:
    write_images(folder)
    if "kind" in sections.get("correction", {}):  # one part, not another section
        text = write_study(folder).read_text()
        (folder / "study.yaml").write_text(text + f"correction: {sections['correction']}\n")
        inspection = inspect(make_plan(load_study(folder / "study.yaml")))
    else:
        inspection = inspected(folder, **sections)
    (missing,) = inspection.missing
    assert (missing.field, missing.place.line > 0) == (field, True)
    assert "No module named 'nowhere'" in missing.rule
    assert not inspection.conflicts


def test_a_part_that_check_refuses_has_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(folder)
    path = write_study(folder, fit={"objective": {"factory": "json:nowhere"}})
    (line,) = [i for i, text in enumerate(path.read_text().splitlines(), 1) if "objective" in text]
    assert main([str(path), "--check"]) == 2
    expected = "fit.objective: json:nowhere: module json has no attribute 'nowhere'"
    assert f"study.yaml:{line}:" in (message := capsys.readouterr().err)
    assert message.rstrip().endswith(expected)


def law() -> GaussianMixture:
    zeros = torch.zeros(1, 5, dtype=torch.float64)
    return GaussianMixture(zeros, zeros + 1, torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, ""),
        ({"base": {"conditional": True}}, "base.conditional: needs labels, but law has none"),
        ({"discriminator": {"conditional": True}}, "discriminator.conditional: needs labels"),
        (
            {"evaluate": {"metrics": ["kl_sde"], "sampler": "sde"}},
            "evaluate.metrics: 'kl_sde' needs data of at most 4 dimensions, but law has 5",
        ),
    ],
)
def test_check_compares_the_law_of_users_with_the_study(
    folder: Path, sections: Values, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Values = {"kind": "points", "factory": f"{__name__}:law"}
    sections = {"evaluate": {"metrics": ["path_kl"]}, **sections, "data": data}
    assert main([str(write_study(folder, **sections)), "--check"]) == (2 if message else 0)
    assert message in capsys.readouterr().err


def test_check_reads_the_images_of_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(folder)
    path = str(write_study(folder, data={"num_real": 20}))
    assert main([path, "--check"]) == 0
    copies = sorted((folder / "pets").glob("*/*.png"))
    for copy in copies[10:]:
        copy.write_bytes(copies[0].read_bytes())
    capsys.readouterr()
    assert main([path, "--check"]) == 2
    assert "identical to one of those" in capsys.readouterr().err
    copies[0].write_bytes(copies[0].read_bytes()[:45])  # with its header
    assert main([path, "--check"]) == 2
    assert copies[0].name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluate": {"metrics": ["fd"], "features": f"{__name__}:extractor"}}, ""),
        ({"evaluate": {"metrics": ["fd"], "features": f"{__name__}:broken"}}, "no weights"),
        (
            {"discriminator": {"kind": "conv", "trunk": "torch.nn:Identity"}},
            "takes 2 positional arguments but 3 were given",
        ),
    ],
)
def test_check_runs_networks_of_users(
    folder: Path, sections: Values, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(folder)
    status = main([str(write_study(folder, **sections)), "--check"])
    captured = capsys.readouterr()
    assert status == (2 if message else 0)
    assert message in captured.err
    assert ("checked evaluate.features" in captured.out) == (not message)
