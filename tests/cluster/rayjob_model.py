"""Strict models of the part of KubeRay's RayJob that cluster/kuberay.yaml uses, and its checks.

Written by hand from https://docs.ray.io/en/master/kuberay/references/api.html (v1.7.1) and the
reference of Kubernetes, because the operator's OpenAPI schema was not available. A further field
must be added here. `kubectl apply --dry-run=server` against a cluster with the operator remains
the decisive test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tests.cluster.node_models import Strict
from tests.cluster.versions import Versions

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
LONGEST_IDLE_SECONDS = 3600


class Amounts(Strict):
    cpu: Quantity
    memory: Quantity
    gpu: Quantity | None = Field(None, alias="nvidia.com/gpu")


class Resources(Strict):
    requests: Amounts
    limits: Amounts


class VolumeMount(Strict):
    name: Name
    mountPath: str


class Container(Strict):
    name: Name
    image: str
    resources: Resources
    volumeMounts: tuple[VolumeMount, ...] = Field((), strict=False)


class EmptyDir(Strict):
    medium: Literal["Memory"]
    sizeLimit: Quantity


class PodVolume(Strict):
    name: Name
    emptyDir: EmptyDir


class PodSpec(Strict):
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: tuple[PodVolume, ...] = Field((), strict=False)
    serviceAccountName: Name | None = None


class PodTemplate(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: PodTemplate
    serviceType: Literal["ClusterIP"] = "ClusterIP"


class WorkerGroup(Strict):
    groupName: Name
    minReplicas: Annotated[int, Field(ge=0)]
    maxReplicas: Annotated[int, Field(ge=1)]
    rayStartParams: dict[str, str]
    template: PodTemplate


class AuthOptions(Strict):
    mode: Literal["token"]


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: Annotated[int, Field(gt=0, le=LONGEST_IDLE_SECONDS)]


class RayCluster(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: Annotated[list[WorkerGroup], Field(min_length=1)]


class RayJobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode"]
    backoffLimit: Annotated[int, Field(ge=0)]
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0, le=LONGEST_IDLE_SECONDS)]
    rayClusterSpec: RayCluster


class Metadata(Strict):
    name: Annotated[Name, Field(max_length=47)]  # the operator appends to it; the limit is 63


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


def rayjob_problems(document: Any, versions: Versions) -> list[str]:
    """Return the messages of all checks of a RayJob; each states what to change."""
    try:
        job = RayJob.model_validate(document)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, details['loc']))}: {details['msg']} "
            "(known fields: tests/cluster/rayjob_model.py)"
            for details in error.errors()
        ]
    return [*_version_problems(job, versions), *_pod_problems(job), *_entrypoint_problems(job)]


def _version_problems(job: RayJob, versions: Versions) -> Iterator[str]:
    cluster = job.spec.rayClusterSpec
    yield from versions.ray_problems("rayVersion", cluster.rayVersion)
    for group in (cluster.headGroupSpec, *cluster.workerGroupSpecs):
        for container in group.template.spec.containers:
            yield from versions.image_problems(container.name, container.image)


def _pod_problems(job: RayJob) -> Iterator[str]:
    for group in job.spec.rayClusterSpec.workerGroupSpecs:
        spec = group.template.spec
        if group.minReplicas:
            yield f"{group.groupName}.minReplicas: must be 0: such workers are never terminated"
        names = {volume.name for volume in spec.volumes}
        for container in spec.containers:
            if container.resources.limits.gpu != container.resources.requests.gpu:
                yield f"{container.name}: the GPU limit must equal the GPU request"
            for mount in container.volumeMounts:
                if mount.name not in names:
                    yield f"{container.name}: mounts {mount.name}, which is no volume of the pod"


def _entrypoint_problems(job: RayJob) -> Iterator[str]:
    if not re.search(r"^python -m dgray\.study \S+\.yaml --out \w+://", job.spec.entrypoint):
        yield (
            "entrypoint: must run a study with --out on storage that outlives the cluster, but is "
            f"{job.spec.entrypoint!r}"
        )
