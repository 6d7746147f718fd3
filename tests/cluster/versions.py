"""The Ray and the Python that the cluster files must give: those that the project is tested with.

Ray of the environment that runs the tests: so a new release of Ray that CI installs fails here,
with the command that mends it, instead of leaving clusters on a Ray that no test sees any more.
Python is the oldest that ``pyproject.toml`` admits.
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
    """What an image, and a pin of pip, must have."""

    ray: str
    python: str  # major.minor

    @property
    def _tag(self) -> str:
        return f"{self.ray}-py{self.python.replace('.', '')}"

    @classmethod
    def of_the_project(cls) -> Versions:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        match = re.fullmatch(r">=(\d+\.\d+)(,.*)?", project["requires-python"])
        assert match is not None, "requires-python must begin with its lower bound, like >=3.11"
        return cls(ray=version("ray"), python=match[1])

    def ray_problems(self, where: str, found: str) -> Iterator[str]:
        if found != self.ray:
            yield (
                f"{where}: has Ray {found}, but the tests ran with Ray {self.ray}. If there are "
                f"images rayproject/ray:{self._tag}-cpu and -gpu, change it in all files at once "
                f"(sed -i 's/{re.escape(found)}/{self.ray}/g' {FILES}); to stay with it, install "
                "that Ray where the tests run"
            )

    def image_problems(self, where: str, image: str) -> Iterator[str]:
        match = _TAG.fullmatch(image)
        if match is None:
            yield (f"{where}: {image} must have a tag of Ray's form, like {self._tag}-gpu")
            return
        yield from self.ray_problems(where, match["ray"])
        found = f"{match['major']}.{match['minor']}"
        if found != self.python:
            yield (
                f"{where}: {image} has Python {found}, but requires-python of pyproject.toml "
                f"begins at {self.python}; use {self._tag}, or change both"
            )
