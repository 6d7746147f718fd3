"""Versions of Ray and Python that the cluster files must use: those of the tests.

The version of Ray is that of the environment that runs the tests. When CI installs a new release,
these tests fail and print the command that updates all files, so that clusters never use a version
that is no longer tested. Python is the oldest version that ``pyproject.toml`` permits.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FILES = "cluster/*.yaml cluster/Dockerfile docs/clusters.md"
_TAG = re.compile(r".+:(?P<ray>\d+\.\d+\.\d+)-py(?P<major>\d)(?P<minor>\d+)-(cpu|gpu)")


@dataclass(frozen=True)
class Versions:
    """Versions required of images and of pins of pip."""

    ray: str
    python: str  # major.minor

    @property
    def _tag(self) -> str:
        return f"{self.ray}-py{self.python.replace('.', '')}"

    @classmethod
    def of_the_project(cls) -> Versions:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        match = re.fullmatch(r">=(\d+\.\d+)(,.*)?", project["requires-python"])
        assert match is not None, "requires-python must start with its lower bound, like >=3.11"
        return cls(ray=version("ray"), python=match[1])

    def ray_problems(self, where: str, ray: str) -> Iterator[str]:
        if ray != self.ray:
            yield (
                f"{where}: has Ray {ray}, but the tests ran with Ray {self.ray}. If the images "
                f"rayproject/ray:{self._tag}-cpu and -gpu exist, change it in all files at once "
                f"(sed -i 's/{re.escape(ray)}/{self.ray}/g' {FILES}); otherwise install Ray {ray} "
                "where the tests run"
            )

    def image_problems(self, where: str, image: str) -> Iterator[str]:
        match = _TAG.fullmatch(image)
        if match is None:
            yield (f"{where}: {image} must have a tag as Ray's images do, like {self._tag}-gpu")
            return
        yield from self.ray_problems(where, match["ray"])
        python = f"{match['major']}.{match['minor']}"
        if python != self.python:
            yield (
                f"{where}: {image} has Python {python}, but requires-python of pyproject.toml "
                f"starts at {self.python}; use {self._tag}, or change both"
            )
