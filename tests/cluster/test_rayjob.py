"""Test the RayJob as far as possible without Kubernetes, and that each check can fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster.rayjob_model import rayjob_problems
from tests.cluster.versions import ROOT, Versions

Document = dict[str, Any]


def read() -> Document:
    document: Document = yaml.safe_load((ROOT / "cluster" / "kuberay.yaml").read_text("utf-8"))
    return document


def problems(document: Document) -> list[str]:
    return rayjob_problems(document, Versions.of_the_project())


def test_the_file_passes_all_checks() -> None:
    assert problems(read()) == []


def test_its_study_is_part_of_the_image() -> None:
    (study,) = re.findall(r"/home/ray/dgray/(\S+\.yaml)", read()["spec"]["entrypoint"])
    assert (ROOT / study).is_file()


def _cluster(document: Document) -> Document:
    cluster: Document = document["spec"]["rayClusterSpec"]
    return cluster


def _worker(document: Document) -> Document:
    spec: Document = _cluster(document)["workerGroupSpecs"][0]["template"]["spec"]
    return spec


MISTAKES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "typo in the spec": (
        lambda d: d["spec"].update(shutdownAfterJobFinish=True),
        r"spec.shutdownAfterJobFinish: Extra inputs",
    ),
    "typo in a pod": (
        lambda d: _worker(d)["containers"][0].update(volumeMount=[]),
        r"spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.volumeMount: Extra",
    ),
    "authentication off": (
        lambda d: _cluster(d)["authOptions"].update(mode="disabled"),
        r"spec.rayClusterSpec.authOptions.mode: Input should be 'token'",
    ),
    "authentication not set": (
        lambda d: _cluster(d).pop("authOptions"),
        r"spec.rayClusterSpec.authOptions: Field required",
    ),
    "no idle timeout": (
        lambda d: _cluster(d)["autoscalerOptions"].pop("idleTimeoutSeconds"),
        r"spec.rayClusterSpec.autoscalerOptions.idleTimeoutSeconds: Field required",
    ),
    "a cluster that is not deleted": (
        lambda d: d["spec"].update(shutdownAfterJobFinishes=False),
        r"spec.shutdownAfterJobFinishes: Input should be True",
    ),
    "open to the world": (
        lambda d: _cluster(d)["headGroupSpec"].update(serviceType="LoadBalancer"),
        r"spec.rayClusterSpec.headGroupSpec.serviceType: Input should be 'ClusterIP'",
    ),
    "a port of the host": (
        lambda d: _worker(d).update(hostNetwork=True),
        r".*template.spec.hostNetwork: Extra inputs",
    ),
    "another Ray": (
        lambda d: _cluster(d).update(rayVersion="2.9.0"),
        r"rayVersion: has Ray 2.9.0, but the tests ran with Ray .*sed -i",
    ),
    "another Python": (
        lambda d: _worker(d)["containers"][0].update(
            image=f"example.org/dgray:{Versions.of_the_project().ray}-py312-gpu"
        ),
        r"ray-worker: .* has Python 3.12, but",
    ),
    "workers that are never terminated": (
        lambda d: _cluster(d)["workerGroupSpecs"][0].update(minReplicas=1),
        r"gpu.minReplicas: must be 0",
    ),
    "different limit and request of GPUs": (
        lambda d: _worker(d)["containers"][0]["resources"]["limits"].update(
            {"nvidia.com/gpu": "2"}
        ),
        r"ray-worker: the GPU limit must equal",
    ),
    "no such volume": (lambda d: _worker(d).pop("volumes"), r"ray-worker: mounts shm, which"),
    "rows deleted with the cluster": (
        lambda d: d["spec"].update(entrypoint="python -m dgray.study studies/cifar10.yaml"),
        r"entrypoint: must run a study with --out",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_reported(mistake: str) -> None:
    make_mistake, pattern = MISTAKES[mistake]
    document = read()
    make_mistake(document)
    messages = problems(document)
    assert any(re.match(pattern, message) for message in messages), messages
