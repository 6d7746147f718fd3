"""The nodes of the cluster: those that are there, and those that its autoscaler may add.

Refuses what no node can ever hold, and tells while a study runs how many trials fit, since nodes
join and leave. Knows Ray; what a trial is only as bundles of resources.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ruamel.yaml import YAML

from dgray.engine.events import Observe, PlacesChanged
from dgray.engine.fitting import Resources, group_in_words, in_words, num_groups
from dgray.errors import RunRefusedError

# Where the cluster launcher (``ray up``) puts its file on the head node.
LAUNCHER_FILE = Path("~/ray_bootstrap_config.yaml")
_HEAD = "node:__internal_head__"  # a resource that only the head node has
_LOOK_SECONDS = 1.0  # between two looks at the nodes


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler may add."""

    name: str
    resources: Resources | None  # None: its provider finds out, once there is one
    max_workers: int

    def __str__(self) -> str:
        kind = "not stated" if self.resources is None else in_words(self.resources)
        return f"{self.name} ({kind}; at most {self.max_workers})"


def num_fitting(bundles: Sequence[Resources]) -> int:
    """How many such requests the nodes that are there now hold at a time."""
    return num_groups(_there(), bundles)


class Places:
    """Where trials may run that ask for the same: now, and once the cluster has grown."""

    def __init__(self, bundles: Sequence[Resources], limit: float = math.inf) -> None:
        """``bundles``: what a trial asks for, its own part first, those of its actors alike;
        ``limit``: trials that may run at a time.
        """
        self._bundles = bundles
        self._limit = limit
        self._types = addable()

    def num_fitting(self) -> int:
        """How many may run now."""
        return int(min(self._limit, num_fitting(self._bundles)))

    def num_wanted(self) -> int:
        """How many to ask for now: those that fit, and more where the cluster may grow.

        An autoscaler adds nodes for what waits. One whose kinds of nodes are known is given as
        much as they can hold; another twice what fits, so that demand grows with the cluster and a
        search is not asked for dozens of points that nobody can run.
        """
        here, most = self.num_fitting(), self._most()
        return max(1, int(min(self._limit, 2 * here if most is None else max(here, most))))

    def refuse_impossible(
        self,
        *,
        what: str = "a trial",
        fix: str = "lower resources.cpus_per_trial or gpus_per_trial (--set)",
    ) -> None:
        """Raise RunRefusedError if no node can ever hold it: Ray would wait for ever.

        ``what``: asks for it; ``fix``: what the user may do.
        """
        if self.num_fitting() or self._most() != 0:
            return
        raise RunRefusedError(
            f"resources: {what} asks for {group_in_words(self._bundles)} and there is "
            f"{_nodes_in_words()}{self._more()}; each part must fit on one node, so {fix}, or add "
            "such a node"
        )

    def waits_for(self) -> str:
        """What is waited for where nothing fits now, in words."""
        who = "the autoscaler" if self._types is None or self._types else "a node to join"
        return (
            f"waiting for {who}: a trial asks for {group_in_words(self._bundles)} and there is "
            f"{_nodes_in_words()}{self._more()}"
        )

    def _most(self) -> int | None:
        """How many fit once the cluster has grown; None: not known, there may be more."""
        if self._types is None:
            return None
        there, added = _there(), []
        for kind in self._types:
            if kind.resources is None:
                return None
            added += [kind.resources] * max(0, kind.max_workers - _num_like(kind.resources, there))
        return num_groups([*there, *added], self._bundles)

    def _more(self) -> str:
        if self._types is None:
            return "; which nodes it may add is not known here"
        kinds = ", ".join(map(str, self._types))
        return f"; the autoscaler may add {kinds}" if kinds else ""


def addable() -> tuple[NodeType, ...] | None:
    """The kinds of nodes that may be added; none without an autoscaler; None: not known.

    The cluster launcher's file on the head node states them. KubeRay's autoscaler runs in a
    container of its own, so that of it no more is known here than that it is there: the head is
    then started with ``--no-monitor``. Ray itself tells neither (its cluster configuration in GCS
    is written by hosted services only).
    """
    file = LAUNCHER_FILE.expanduser()
    if file.exists():
        return _stated(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")))
    command = os.environ.get("KUBERAY_GEN_RAY_START_CMD", "")
    is_head_without = "--head" in command and "--no-monitor" not in command
    return None if command and not is_head_without else ()


def _stated(launched: Mapping[str, Any]) -> tuple[NodeType, ...]:
    """From the launcher's file; a type of which no worker may be started is left out."""
    limit = int(launched.get("max_workers", 2))
    types = []
    for name, kind in (launched.get("available_node_types") or {}).items():
        is_head = name == launched.get("head_node_type")
        most = min(limit, int(kind.get("max_workers", 0 if is_head else limit)))
        if most > 0:
            types.append(NodeType(name, kind.get("resources") or None, most))
    return tuple(types)


def _there() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _num_like(kind: Resources, nodes: Sequence[Resources]) -> int:
    """How many nodes have its resources, the head left out."""
    return sum(in_words(n) == in_words(kind) and _HEAD not in n for n in nodes)


def _nodes_in_words() -> str:
    kinds = Counter(in_words(resources) for resources in _there())
    words = [f"{count} node{'s' * (count > 1)} of {kind}" for kind, count in kinds.items()]
    return " and ".join(words) if words else "no node"


class NodeWatch(tune.Callback):
    """Tells when another number of trials fits than before, and what is waited for if none."""

    def __init__(self, places: Places, num_places: int, observe: Observe) -> None:
        """``num_places``: as it was told last."""
        self._places = places
        self._told = num_places or None  # that there is none is said with what is waited for
        self._observe = observe
        self._looked = -_LOOK_SECONDS

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its settings to restore a run from, which dgray never does."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Between two events of Tune."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        num = self._places.num_fitting()
        if num != self._told:
            self._told = num
            words = None if num else self._places.waits_for()
            self._observe(PlacesChanged(num_places=num, waits_for=words))
