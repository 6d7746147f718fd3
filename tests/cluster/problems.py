"""Checks of a file for `ray up`: Ray's own schema, and requirements beyond it.

Every check is a function from the parsed file to messages that state what to change. The checks
need neither a cloud SDK nor a network.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.node_models import NODES, Strict, provider_model
from tests.cluster.versions import Versions

Config = dict[str, Any]
SSH = 22
LONGEST_IDLE_MINUTES = 60
# Local paths outside the repository that the documentation tells users to create.
USER_PATHS = {"~/.ray/auth_token"}
NEEDED_BY_PIP = {"dgray", "pyproject.toml", "README.md", "LICENSE"}
_PIN = re.compile(r"ray\[[\w,]+\]==(\d+\.\d+\.\d+)")


def all_problems(config: Config, root: Path, versions: Versions) -> list[str]:
    """Return the messages of all checks; local paths in ``config`` are relative to ``root``."""
    checks: tuple[Callable[[Config], Iterator[str]], ...] = (
        ray_schema,
        cloud_fields,
        lambda config: file_mounts(config, root),
        lambda config: pinned_versions(config, versions),
        token,
        open_ports,
        idle_timeout,
        installation,
    )
    return [problem for check in checks for problem in check(copy.deepcopy(config))]


def ray_schema(config: Config) -> Iterator[str]:
    """Check against the schema that `ray up` uses before it starts anything."""
    try:
        validate_config(prepare_config(config))
    except (jsonschema.ValidationError, ValueError, AssertionError) as error:
        yield f"Ray's schema: {str(error).splitlines()[0]}"


def cloud_fields(config: Config) -> Iterator[str]:
    """Check fields and values of ``provider`` and of every ``node_config``."""
    yield from _model_errors(provider_model(config), config["provider"], "provider")
    for name, node in config.get("available_node_types", {}).items():
        model = NODES[config["provider"]["type"]]
        yield from _model_errors(model, node["node_config"], f"{name}.node_config")


def _model_errors(model: type[Strict], value: Any, where: str) -> Iterator[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        for details in error.errors():
            path = ".".join(map(str, (where, *details["loc"])))
            yield f"{path}: {details['msg']} (known fields: tests/cluster/node_models.py)"


def file_mounts(config: Config, root: Path) -> Iterator[str]:
    """Check that local paths are in the repository, or among those that users create."""
    for remote, local in config.get("file_mounts", {}).items():
        is_remote_absolute = remote.startswith(("/", "~/"))
        if not is_remote_absolute:
            yield f"file_mounts: {remote} must be absolute, or begin with ~/"
        if local not in USER_PATHS and not (root / local).exists():
            yield f"file_mounts: {local} is neither in the repository nor one of {USER_PATHS}"


def pinned_versions(config: Config, versions: Versions) -> Iterator[str]:
    """Check that images and pip use the versions of Ray and Python of the tests."""
    docker = config.get("docker", {})
    images = {key: value for key, value in docker.items() if key.endswith("image")}
    for key, image in images.items():
        yield from versions.image_problems(f"docker.{key}", image)
    pins = [pin for command in _commands(config) for pin in _PIN.findall(command)]
    if not pins:
        yield "setup_commands: must pin Ray (ray[default,tune]==...), since pip may replace it"
    for pin in pins:
        yield from versions.ray_problems("setup_commands", pin)
    if not images and f"python{versions.python} -m venv" not in " ".join(_commands(config)):
        yield f"setup_commands: must create the environment with python{versions.python}"


def token(config: Config) -> Iterator[str]:
    """Check that every node uses token authentication with a token from a mounted file."""
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config.get(name, []) if "ray start" in command]
        if not starts:
            yield f"{name}: there is no `ray start`"
        for command in starts:
            variables = _exported(command)
            if variables.get("RAY_AUTH_MODE") != "token":
                yield f"{name}: must export RAY_AUTH_MODE=token before `ray start`"
            if variables.get("RAY_AUTH_TOKEN_PATH") not in config.get("file_mounts", {}):
                yield f"{name}: must export RAY_AUTH_TOKEN_PATH, one of the file_mounts"
    if "docker" in config:
        options = " ".join(config["docker"].get("run_options", []))
        for variable in ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH="):
            if f"-e {variable}" not in options:
                yield f"docker.run_options: must have -e {variable}, required by `ray exec`"
    for text in _texts(config):
        if re.search(r"RAY_AUTH_TOKEN=|\b[0-9a-f]{32,}\b", text):
            yield f"the file must not contain a token, but has {text[:20]}..."


def open_ports(config: Config) -> Iterator[str]:
    """Check that only ssh is open to the outside, and the dashboard reachable only through ssh."""
    if config["provider"]["type"] == "aws":
        group = config["provider"].get("security_group", {})
        if "GroupName" not in group:
            yield "provider.security_group: must have a GroupName, else another cluster's is used"
        for rule in group.get("IpPermissions", []):
            if (rule.get("FromPort"), rule.get("ToPort")) != (SSH, SSH):
                yield (
                    f"provider.security_group: opens {rule.get('FromPort')} to "
                    f"{rule.get('ToPort')}; only ssh ({SSH}) may be open"
                )
    for command in config.get("head_start_ray_commands", []):
        if "ray start" in command and "--dashboard-host=127.0.0.1" not in shlex.split(command):
            yield "head_start_ray_commands: the dashboard must be on loopback (--dashboard-host)"
    docker = config.get("docker", {})
    for options in (value for key, value in docker.items() if key.endswith("run_options")):
        if any(re.match(r"(-p|-P|--publish)", option) for option in options):
            yield "docker: no port of the container may be published"


def idle_timeout(config: Config) -> Iterator[str]:
    """Check that rented machines are terminated when idle."""
    if config["provider"]["type"] == "local":
        return
    minutes = config.get("idle_timeout_minutes")
    if minutes is None or not 0 < minutes <= LONGEST_IDLE_MINUTES:
        yield (
            f"idle_timeout_minutes: must be set to at most {LONGEST_IDLE_MINUTES}, since idle "
            f"machines cost money, but is {minutes}"
        )
    for name, node in config["available_node_types"].items():
        if node.get("min_workers", 0):
            yield f"{name}.min_workers: must be 0: such workers are never terminated"


def installation(config: Config) -> Iterator[str]:
    """Check that all of dgray is mounted and installed from there."""
    sources = set(config.get("file_mounts", {}).values())
    for missing in sorted(NEEDED_BY_PIP - sources):
        yield f"file_mounts: {missing} is missing, but pip needs it to install dgray"
    if not any(re.search(r"pip install .*dgray-src", c) for c in config.get("setup_commands", [])):
        yield "setup_commands: must install dgray (pip install ... dgray-src)"


def _exported(command: str) -> dict[str, str]:
    """Return the variables that a command exports before `ray start`."""
    before, _, _ = command.partition("ray start")
    return dict(re.findall(r"(\w+)=([^\s;]+)", before)) if "export" in before else {}


def _commands(config: Config) -> list[str]:
    names = ("setup_commands", "head_setup_commands", "worker_setup_commands")
    return [command for name in names for command in config.get(name, [])]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield str(key)
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif isinstance(value, str):
        yield value
