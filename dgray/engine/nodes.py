"""The nodes of the cluster: those that exist, and those that its autoscaler may add.

Requests that no node can ever hold are refused. While a study runs, nodes join and leave, and with
them changes the number of trials that fit.
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

from dgray.engine.capacity import (
    Resources,
    describe_group,
    describe_resources,
    num_groups,
)
from dgray.engine.events import Observe, PlacesChanged
from dgray.errors import RunRefusedError

# File that the cluster launcher (``ray up``) writes on the head node.
LAUNCHER_FILE = Path("~/ray_bootstrap_config.yaml")
_HEAD = "node:__internal_head__"  # a resource that only the head node has
_LOOK_SECONDS = 1.0  # between two counts of the nodes


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler may add."""

    name: str
    resources: Resources | None  # None: not stated, detected by the provider at the start
    max_workers: int

    def __str__(self) -> str:
        kind = "not stated" if self.resources is None else describe_resources(self.resources)
        return f"{self.name} ({kind}; at most {self.max_workers})"


def num_fitting(bundles: Sequence[Resources]) -> int:
    """Return how many groups of ``bundles`` the present nodes hold at a time."""
    return num_groups(_present(), bundles)


class Places:
    """Places for trials of equal requests, on the present nodes and on those that may be added."""

    def __init__(self, bundles: Sequence[Resources], limit: float = math.inf) -> None:
        """Read which kinds of nodes may be added.

        Args:
            bundles: request of a trial: its own part, then one equal part for each actor.
            limit: maximum number of trials at a time.
        """
        self._bundles = bundles
        self._limit = limit
        self._types = addable_types()

    def num_fitting(self) -> int:
        """Return how many trials may run now."""
        return int(min(self._limit, num_fitting(self._bundles)))

    def num_requested(self) -> int:
        """Return how many trials to request: those that fit, and more if the cluster may grow.

        An autoscaler adds nodes for waiting requests. If its node types are known, the request is
        what they can hold; otherwise twice what fits, so that demand grows with the cluster and a
        search does not suggest dozens of points that nothing can run.
        """
        fitting, most = self.num_fitting(), self._most()
        return max(1, int(min(self._limit, 2 * fitting if most is None else max(fitting, most))))

    def refuse_impossible(
        self,
        *,
        subject: str = "a trial",
        fix: str = "lower resources.cpus_per_trial or gpus_per_trial (--set)",
    ) -> None:
        """Refuse a request that no node can ever hold, for which Ray would wait for ever.

        Args:
            subject: subject of the message.
            fix: what the message advises.

        Raises:
            RunRefusedError: nothing that exists or may be added holds the request.
        """
        if self.num_fitting() or self._most() != 0:
            return
        raise RunRefusedError(
            f"resources: {subject} requests {describe_group(self._bundles)} and there is "
            f"{_describe_nodes()}{self._more()}; each part must fit on one node, so {fix}, or add "
            "such a node"
        )

    def waits_for(self) -> str:
        """Return a message that states what a study waits for while no trial fits."""
        who = "the autoscaler" if self._types is None or self._types else "a node to join"
        return (
            f"waiting for {who}: a trial requests {describe_group(self._bundles)} and there is "
            f"{_describe_nodes()}{self._more()}"
        )

    def _most(self) -> int | None:
        """Return how many trials fit on the fully grown cluster, or None if that is unknown."""
        if self._types is None:
            return None
        present, added = _present(), []
        for kind in self._types:
            if kind.resources is None:
                return None
            num_new = kind.max_workers - _num_like(kind.resources, present)
            added += [kind.resources] * max(0, num_new)
        return num_groups([*present, *added], self._bundles)

    def _more(self) -> str:
        if self._types is None:
            return "; which nodes it may add is unknown"
        kinds = ", ".join(map(str, self._types))
        return f"; the autoscaler may add {kinds}" if kinds else ""


def addable_types() -> tuple[NodeType, ...] | None:
    """Return the types of nodes that an autoscaler may add; () without one, None if unknown.

    The cluster launcher's file on the head node states them. KubeRay's autoscaler runs in its own
    container; it is recognised by the head's option ``--no-monitor``, but its node types are
    unknown. Ray itself reports neither: only hosted services write its cluster configuration.
    """
    file = LAUNCHER_FILE.expanduser()
    if file.exists():
        return _launcher_types(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")))
    command = os.environ.get("KUBERAY_GEN_RAY_START_CMD", "")
    is_head_without = "--head" in command and "--no-monitor" not in command
    return None if command and not is_head_without else ()


def _launcher_types(content: Mapping[str, Any]) -> tuple[NodeType, ...]:
    """Return the node types in the launcher's file of which workers may be started."""
    limit = int(content.get("max_workers", 2))
    types = []
    for name, kind in (content.get("available_node_types") or {}).items():
        is_head = name == content.get("head_node_type")
        most = min(limit, int(kind.get("max_workers", 0 if is_head else limit)))
        if most > 0:
            types.append(NodeType(name, kind.get("resources") or None, most))
    return tuple(types)


def _present() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _num_like(kind: Resources, nodes: Sequence[Resources]) -> int:
    """Return how many nodes other than the head have these resources."""
    description = describe_resources(kind)
    return sum(describe_resources(node) == description and _HEAD not in node for node in nodes)


def _describe_nodes() -> str:
    kinds = Counter(map(describe_resources, _present()))
    parts = [f"{count} node{'s' * (count > 1)} of {kind}" for kind, count in kinds.items()]
    return " and ".join(parts) if parts else "no node"


class NodeWatch(tune.Callback):
    """Callback that reports ``PlacesChanged`` when the number of trials that fit changes."""

    def __init__(self, places: Places, num_places: int, observe: Observe) -> None:
        """Start from ``num_places``, the number that was reported last."""
        self._places = places
        self._reported = num_places or None  # a 0 is reported again, with what the study waits for
        self._observe = observe
        self._checked = -_LOOK_SECONDS

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles callbacks for a restore that dgray never does."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Count the nodes, at most once a second."""
        now = time.monotonic()
        if now - self._checked < _LOOK_SECONDS:
            return
        self._checked = now
        num = self._places.num_fitting()
        if num != self._reported:
            self._reported = num
            waits_for = None if num else self._places.waits_for()
            self._observe(PlacesChanged(num_places=num, waits_for=waits_for))
