"""Test the files for `ray up` as far as possible without a cloud, and that each check can fail.

No cloud machine was ever started with them; docs/clusters.md lists what was tested.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dgray.config.reading.load import load_study
from tests.cluster.problems import all_problems
from tests.cluster.versions import FILES as VERSIONED_FILES
from tests.cluster.versions import ROOT, Versions

Config = dict[str, Any]
FILES = ("gpu", "gcp", "on_premise")


def read(name: str) -> Config:
    """Parse a file as `ray up` does."""
    config: Config = yaml.safe_load((ROOT / "cluster" / f"{name}.yaml").read_text("utf-8"))
    return config


def problems(config: Config) -> list[str]:
    return all_problems(config, ROOT, Versions.of_the_project())


@pytest.mark.parametrize("name", FILES)
def test_files_pass_all_checks(name: str) -> None:
    assert problems(read(name)) == []


def _start(config: Config, which: str, old: str, new: str) -> None:
    commands = config[f"{which}_start_ray_commands"]
    config[f"{which}_start_ray_commands"] = [c.replace(old, new) for c in commands]


def _worker(config: Config) -> Config:
    node: Config = config["available_node_types"]["gpu_worker"]["node_config"]
    return node


MISTAKES: dict[str, tuple[str, Callable[[Config], Any], str]] = {
    "unknown key": ("gpu", lambda c: c.update(idle_timeout=5), "Ray's schema: .*idle_timeout"),
    "no such head": (
        "gpu",
        lambda c: c.update(head_node_type="haed"),
        "Ray's schema: .*head_node",
    ),
    "typo in node_config": (
        "gpu",
        lambda c: _worker(c).update(InstanceMarketOption={"MarketType": "spot"}),
        r"gpu_worker.node_config.InstanceMarketOption: Extra inputs",
    ),
    "typo deep in node_config": (
        "gpu",
        lambda c: _worker(c)["BlockDeviceMappings"][0]["Ebs"].update(VolumSize=3),
        r"gpu_worker.node_config.BlockDeviceMappings.0.Ebs.VolumSize: Extra",
    ),
    "a list instead of an object": (
        "gcp",
        lambda c: _worker(c).update(scheduling=[{"preemptible": True}]),
        r"gpu_worker.node_config.scheduling: Input should be a valid dict",
    ),
    "typo in provider": (
        "gcp",
        lambda c: c["provider"].update(projectid="mine"),
        r"provider.projectid: Extra inputs",
    ),
    "no address": (
        "on_premise",
        lambda c: c["provider"].update(head_ip="head"),
        r"provider.head_ip: Value error, .*IPv4",
    ),
    "stopped machines are kept": (
        "gpu",
        lambda c: c["provider"].update(cache_stopped_nodes=True),
        r"provider.cache_stopped_nodes: Input should be False",
    ),
    "a local path that does not exist": (
        "gpu",
        lambda c: c["file_mounts"].update({"/home/ray/x": "scripts/x.sh"}),
        r"file_mounts: scripts/x.sh is neither",
    ),
    "a relative remote path": (
        "gpu",
        lambda c: c["file_mounts"].update({"home/ray/x": "dgray"}),
        r"file_mounts: home/ray/x must be absolute",
    ),
    "another Ray": (
        "gpu",
        lambda c: c["docker"].update(worker_image="rayproject/ray:2.9.0-py311-gpu"),
        r"docker.worker_image: has Ray 2.9.0, but the tests ran with Ray .*sed -i",
    ),
    "another Python": (
        "gcp",
        lambda c: c["docker"].update(
            head_image=f"rayproject/ray:{Versions.of_the_project().ray}-py39-cpu"
        ),
        r"docker.head_image: .* has Python 3.9, but",
    ),
    "an image without a version": (
        "gpu",
        lambda c: c["docker"].update(head_image="rayproject/ray:latest"),
        r"docker.head_image: rayproject/ray:latest must have a tag",
    ),
    "another Ray pinned for pip": (
        "on_premise",
        lambda c: c["setup_commands"].append("pip install 'ray[default]==2.9.0'"),
        r"setup_commands: has Ray 2.9.0",
    ),
    "no pin": (
        "gpu",
        lambda c: c.update(setup_commands=["pip install /tmp/dgray-src"]),
        r"setup_commands: must pin Ray",
    ),
    "another Python of venv": (
        "on_premise",
        lambda c: c["setup_commands"].__setitem__(0, "python3.9 -m venv ~/dgray-venv"),
        r"setup_commands: must create the environment with python3",
    ),
    "no token mode on the head": (
        "gpu",
        lambda c: _start(c, "head", "RAY_AUTH_MODE=token ", ""),
        r"head_start_ray_commands: must export RAY_AUTH_MODE=token",
    ),
    "authentication off on workers": (
        "gcp",
        lambda c: _start(c, "worker", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        r"worker_start_ray_commands: must export RAY_AUTH_MODE=token",
    ),
    "a token that is not mounted": (
        "on_premise",
        lambda c: c["file_mounts"].pop("~/.ray/auth_token"),
        r"worker_start_ray_commands: must export RAY_AUTH_TOKEN_PATH",
    ),
    "no token in the container": (
        "gpu",
        lambda c: c["docker"].update(run_options=[]),
        r"docker.run_options: must have -e RAY_AUTH_MODE=token",
    ),
    "a token in the file": (
        "gpu",
        lambda c: _start(c, "worker", "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=abc"),
        r"the file must not contain a token",
    ),
    "no start": (
        "gpu",
        lambda c: c.update(worker_start_ray_commands=["ray stop"]),
        r"worker_start_ray_commands: there is no `ray start`",
    ),
    "an open port": (
        "gpu",
        lambda c: c["provider"]["security_group"]["IpPermissions"].append(
            {
                "IpProtocol": "tcp",
                "FromPort": 8265,
                "ToPort": 8265,
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
            }
        ),
        r"provider.security_group: opens 8265",
    ),
    "another cluster's security group": (
        "gpu",
        lambda c: c["provider"]["security_group"].pop("GroupName"),
        r"provider.security_group: must have a GroupName",
    ),
    "a public dashboard": (
        "gcp",
        lambda c: _start(c, "head", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        r"head_start_ray_commands: the dashboard must be on loopback",
    ),
    "a published port": (
        "gpu",
        lambda c: c["docker"]["run_options"].append("-p 8265:8265"),
        r"docker: no port of the container",
    ),
    "no idle timeout": (
        "gpu",
        lambda c: c.pop("idle_timeout_minutes"),
        r"idle_timeout_minutes: must be set",
    ),
    "an idle timeout of a day": (
        "gcp",
        lambda c: c.update(idle_timeout_minutes=1440),
        r"idle_timeout_minutes: .* is 1440",
    ),
    "workers that are never terminated": (
        "gpu",
        lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=1),
        r"gpu_worker.min_workers: must be 0",
    ),
    "dgray is not installed": (
        "on_premise",
        lambda c: c["setup_commands"].pop(),
        r"setup_commands: must install dgray",
    ),
    "dgray is not mounted": (
        "gcp",
        lambda c: c["file_mounts"].pop("/home/ray/dgray-src/dgray"),
        r"file_mounts: dgray is missing",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_reported(mistake: str) -> None:
    name, make_mistake, pattern = MISTAKES[mistake]
    config = copy.deepcopy(read(name))
    make_mistake(config)
    messages = problems(config)
    assert any(re.match(pattern, message) for message in messages), messages


def test_a_new_version_of_ray_is_reported_with_the_command_to_adopt_it() -> None:
    config = read("gpu")
    (pinned,) = set(re.findall(r"\d+\.\d+\.\d+", config["docker"]["worker_image"]))
    newer = Versions(ray="99.1.0", python="3.11")
    messages = all_problems(config, ROOT, newer)
    assert messages
    assert all(f"s/{re.escape(pinned)}/99.1.0/g" in message for message in messages)


def test_this_command_covers_every_file_that_names_the_version() -> None:
    ray = Versions.of_the_project().ray
    named = {path for glob in VERSIONED_FILES.split() for path in ROOT.glob(glob)}
    holding = {
        path
        for folder in ("cluster", "docs")
        for path in (ROOT / folder).iterdir()
        if path.is_file() and f"{ray}-py" in path.read_text("utf-8")
    }
    assert ROOT / "cluster" / "Dockerfile" in holding
    assert holding <= named


def test_a_worker_has_the_resources_of_a_trial_of_the_shipped_gpu_study() -> None:
    resources = load_study(ROOT / "studies" / "cifar10.yaml").configs[0].config.resources
    for name in ("gpu", "gcp"):
        worker = read(name)["available_node_types"]["gpu_worker"]["resources"]
        assert worker["CPU"] >= resources.cpus_per_trial
        assert worker["GPU"] >= resources.gpus_per_trial


def test_the_image_for_kubernetes_contains_what_pip_needs() -> None:
    text = (ROOT / "cluster" / "Dockerfile").read_text("utf-8")
    copied = " ".join(re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, re.MULTILINE)).split()
    assert {"dgray", "pyproject.toml", "README.md", "LICENSE", "studies"} <= set(copied)
    assert all((ROOT / Path(name)).exists() for name in copied)
