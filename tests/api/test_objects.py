"""Parts of a study as Python objects: their identity, their storage, and both engines."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import dgray
from dgray.catalogue import objects
from dgray.data.images import ImageSet
from dgray.diffusion.mixture import GaussianMixture
from dgray.errors import GuidedModelError, PartError, RunRefusedError, StudyError
from dgray.metrics.estimate import Estimate
from dgray.record.row import column_names


def hinge(outputs: Any) -> Tensor:
    return torch.relu(1 - outputs.real_logit) + torch.relu(1 + outputs.generated_logit)


def build_hinge(margin: float = 1.0) -> Callable[[Any], Tensor]:
    return lambda outputs: torch.relu(margin - outputs.real_logit) + outputs.generated_logit.exp()


def radius(generated: Tensor, real: Tensor) -> Estimate:
    return Estimate.of((generated - real.mean(0)).norm(dim=1))


def euler(denoise: Any, x: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    for sigma, following in pairwise(sigmas.tolist()):
        level = torch.full_like(x[..., 0], sigma)
        x = x + (following - sigma) * (x - denoise(x, level)) / sigma
    return x


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma[:, None] ** 2)


class Network(nn.Module):
    def __init__(self, size: tuple[int, ...], sigma_data: float, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size[0] + 1, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.layers(torch.cat([x, sigma.log()[:, None]], 1))[:, 0]


def shifted() -> GaussianMixture:
    ones = torch.ones(1, 2, dtype=torch.float64)
    return GaussianMixture(0.5 * ones, ones, ones[:, 0])


SIZES = {"num_real": 20, "num_validation": 20, "num_held_out": 20}


def fields(**sections: Any) -> dict[str, Any]:
    law = dgray.part(shifted(), name="shifted", version=1)
    return {
        "name": "objects",
        "replicates": 1,
        "data": {"object": law, **SIZES},
        "diffusion": {"sigma_min": 0.05, "sigma_max": 10},
        "base": {"object": denoise, "num_generated": 20, "generation_steps": 3},
        "discriminator": Network,
        "fit": {"objective": ["kl", hinge], "epochs": 1, "batch_size": 20},
        "evaluate": {
            "guidance_weight": 1.0,
            "metrics": ["path_kl", radius],
            "sampler": ["ode", euler],
            "num_samples": 20,
            "num_steps": 3,
            "num_bins": 2,
            "sigmas_per_bin": 1,
        },
    } | sections


@pytest.mark.long
def test_objects_are_stored_by_name_and_version_and_not_as_code(tmp_path: Path) -> None:
    study = dgray.load_study(fields())
    law = study.config["data"]["factory"]
    assert law == "dgray.catalogue.objects:data_shifted_1"
    assert study.config["base"]["factory"].startswith("dgray.catalogue.objects:base_denoise_")
    run = study.run(tmp_path / "run", engine="local", progress=False, report=False)
    assert run.is_complete
    rows = run.rows()
    assert set(rows["objective"]) == {"base", "kl", "hinge"}
    assert rows["radius"].notna().all()
    assert "relu" not in (tmp_path / "run" / "study.lock.yaml").read_text()
    again = dgray.load_study(fields()).run(
        tmp_path / "again", engine="local", progress=False, report=False
    )
    compared = [name for name in rows if name not in column_names("provenance")]
    pd.testing.assert_frame_equal(again.rows()[compared], rows[compared], check_exact=True)
    model = run.best(objective="hinge")
    assert model.sample(2).shape == (2, 2)
    exported = dgray.load_exported(
        model.export(tmp_path / "out"), denoiser=denoise, discriminator=Network
    )
    x = torch.randn(4, 2)
    torch.testing.assert_close(exported(x, 0.5), model.denoiser()(x, 0.5))
    with pytest.raises(GuidedModelError, match="load it with denoiser=your_denoiser"):
        dgray.load_exported(tmp_path / "out")
    other = fields(base={"object": dgray.part(denoise, version=2), "num_generated": 20})
    with pytest.raises(RunRefusedError, match="differs in base"):
        dgray.load_study(other).run(tmp_path / "run", engine="local", progress=False, report=False)
    with pytest.MonkeyPatch.context() as patch:  # another process
        patch.setattr(objects, "_OBJECTS", {})
        with pytest.raises(PartError, match=r"was passed to dgray\.load_study"):
            dgray.open_run(tmp_path / "run").best().denoiser()
        for part in (tmp_path / "run" / "rows").glob("kl-*"):
            part.unlink()
        lock = dgray.load_study(tmp_path / "run" / "study.lock.yaml")
        with pytest.raises(RunRefusedError, match="data_shifted_1 is a Python object"):
            lock.run(tmp_path / "run", engine="local", progress=False, report=False)
        with pytest.raises(StudyError, match="data_shifted_1 is a Python object"):
            lock.run(tmp_path / "other", engine="local", progress=False, report=False)
        assert not (tmp_path / "other").exists()


def test_functions_of_one_source_that_differ_have_different_versions() -> None:
    def build(margin: float) -> Any:
        def loss(outputs: Any, margin: float = margin) -> Tensor:
            return torch.relu(margin - outputs.real_logit) + outputs.generated_logit.exp()

        return loss

    one, other, same = (dgray.part(build(margin)).version for margin in (1.0, 30.0, 1.0))
    assert one == same != other
    first, second = (lambda o: o.real_logit + 1), (lambda o: o.real_logit + 2)  # fmt: skip
    assert dgray.part(first, name="f").version != dgray.part(second, name="f").version

    def with_object(outputs: Any, weights: Tensor = torch.ones(2)) -> Any:  # noqa: B008
        return outputs.real_logit * weights

    with pytest.raises(PartError, match="with defaults other than text, numbers and None must"):
        dgray.part(with_object)


def test_a_study_runs_with_the_objects_that_it_was_loaded_with(tmp_path: Path) -> None:
    def study(margin: float) -> dgray.Study:
        part = dgray.part(build_hinge(margin), name="loss", version=1)
        return dgray.load_study(
            fields(fit={"objective": part, "epochs": 1, "batch_size": 20})
            | {"evaluate": {"metrics": ["path_kl"], "num_samples": 20, "num_steps": 3}}
        )

    values = []
    for name, others in (("alone", ()), ("with another", (30.0,))):
        own = study(1.0)
        for margin in others:
            study(margin)  # of the same name and version
        run = own.run(tmp_path / name, engine="local", progress=False, report=False)
        rows = run.rows()
        values.append(rows[rows["objective"] == "loss"]["path_kl"].tolist())
    assert values[0] == values[1]
    assert values[0]


def test_another_source_or_version_is_another_trial() -> None:
    def ids(**sections: Any) -> set[str]:
        study = dgray.load_study(fields(**sections))
        return {trial.id for trial in study._plan.trials}

    same, other = (
        ids(),
        ids(base={"object": dgray.part(denoise, version="2"), "num_generated": 20}),
    )
    assert same == ids()
    assert not same & other
    assert dgray.part(hinge).version == dgray.part(hinge).version != dgray.part(radius).version


def test_a_configuration_carries_its_objects_to_another_process() -> None:
    config = dgray.load_study(fields())._plan.trials[-1].config
    content = pickle.dumps(config)
    before = dict(objects._OBJECTS)
    try:
        objects._OBJECTS.clear()
        again = pickle.loads(content)
        assert again == config
        assert again.data.spec.load()().means.equal(shifted().means)
        assert again.fit.objective.spec.load()() is hinge
    finally:
        objects._OBJECTS.update(before)


def test_factories_have_arguments() -> None:
    part = {"factory": build_hinge, "arguments": {"margin": [0.5]}, "name": "mine"}
    study = dgray.load_study(fields(fit={"objective": part | {"arguments": {"margin": 0.5}}}))
    objective = study._plan.trials[-1].config.fit.objective
    assert (objective.name, objective.arguments) == ("mine", {"margin": 0.5})


def test_images_may_be_a_tensor_or_a_set_of_images() -> None:
    pixels = torch.zeros(80, 1, 4, 4, dtype=torch.uint8)
    for value in (pixels, ImageSet("mine", pixels)):
        data = {"object": dgray.part(value, name="mine", version=1), **SIZES}
        base = {"object": denoise, "num_generated": 0}
        study = dgray.load_study(
            fields(data=data, base=base, discriminator={"kind": "conv"}, fit={"objective": "kl"})
            | {"evaluate": {"metrics": ["path_kl"]}}
        )
        config = study._plan.trials[-1].config
        assert config.data.sample_kind == "images"
        assert config.data.spec.load()().shape == (1, 4, 4)


def closure() -> Callable[[Any], Tensor]:
    margin = 2.0
    return lambda outputs: margin * outputs.real_logit


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "must have a name": lambda: {"fit": {"objective": lambda outputs: outputs.real_logit}},
    "digits and _": lambda: {"fit": {"objective": dgray.part(hinge, name="my loss")}},
    "of type GaussianMixture has none": lambda: {"data": {"object": shifted(), **SIZES}},
    "must have a version": lambda: {"data": {"object": dgray.part(shifted(), name="law")}},
    "uses margin": lambda: {"fit": {"objective": dgray.part(closure(), name="mine")}},
    "that builds a module": lambda: {
        "discriminator": dgray.part(nn.Linear(2, 1), name="net", version=1)
    },
    "must be a function": lambda: {
        "evaluate": {"metrics": [dgray.part(3, name="three", version=1)]}
    },
}


@pytest.mark.parametrize("message", CASES)
def test_what_has_no_identity_is_refused(message: str) -> None:
    with pytest.raises(PartError, match=message):
        dgray.load_study(fields(**CASES[message]()))


def test_a_base_without_its_derivative_has_a_path_kl_but_no_likelihood(tmp_path: Path) -> None:
    eps = torch.no_grad()(lambda x, sigma: x * (sigma / (1 + sigma**2))[:, None])
    base = dgray.part(dgray.from_epsilon(eps), name="eps", version=1)
    for metric, status in (("path_kl", "ok"), ("kl", "failed")):
        changes: dict[str, Any] = {"metrics": [metric], "num_points": 5, "sampler": "ode"}
        changes |= {"num_samples": 20, "num_steps": 3}
        study = dgray.load_study(
            fields(base={"object": base, "num_generated": 20}, evaluate=changes)
            | {"fit": {"objective": "kl", "epochs": 1, "batch_size": 20}}
            | {"data": {"kind": "mixture", "name": "ring8", **SIZES}}
        )
        run = study.run(tmp_path / metric, engine="local", progress=False, report=False)
        rows = run.rows()
        assert set(rows["status"]) == {status}
        if status == "failed":
            assert all("without torch.no_grad" in reason for reason in rows["reason"])
