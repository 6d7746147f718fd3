"""Strict models of the parts of a launcher file that Ray's schema does not check.

Ray passes ``provider`` and ``node_config`` to the API of the cloud unchanged, so a misspelt field
causes an error only when machines are started. These models contain the fields that the files in
cluster/ use or mention in comments, and no others. To use a further field, add it here after
checking the cloud's reference:

- AWS: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
- Google: https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _is_address(value: str) -> str:
    ipaddress.ip_address(value)
    return value


Address = Annotated[str, AfterValidator(_is_address)]


class IpRange(Strict):
    CidrIp: str


class IpPermission(Strict):
    IpProtocol: Literal["tcp"]
    FromPort: int
    ToPort: int
    IpRanges: list[IpRange]


class SecurityGroup(Strict):
    GroupName: str
    IpPermissions: list[IpPermission]


class AwsProvider(Strict):
    type: Literal["aws"]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}-[a-z]+-\d$")]
    availability_zone: Annotated[str, Field(pattern=r"^[a-z0-9-]+(,[a-z0-9-]+)*$")]
    cache_stopped_nodes: Literal[False]
    security_group: SecurityGroup


class Volume(Strict):
    VolumeSize: Annotated[int, Field(ge=50, le=16_384)]
    VolumeType: Literal["gp2", "gp3"]


class BlockDevice(Strict):
    DeviceName: Literal["/dev/sda1"]  # the root device of Ray's images
    Ebs: Volume


class MetadataService(Strict):
    HttpTokens: Literal["required"]


class MarketOptions(Strict):
    MarketType: Literal["spot"]


class InstanceProfile(Strict):
    Name: str


class AwsNode(Strict):
    InstanceType: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*\.\w+$")]
    BlockDeviceMappings: list[BlockDevice]
    MetadataOptions: MetadataService
    InstanceMarketOptions: MarketOptions | None = None
    ImageId: Annotated[str, Field(pattern=r"^ami-[0-9a-f]+$")] | None = None
    KeyName: str | None = None
    IamInstanceProfile: InstanceProfile | None = None


class GcpProvider(Strict):
    type: Literal["gcp"]
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+$")]
    availability_zone: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+-[a-z]$")]
    project_id: str


class InitializeParams(Strict):
    diskSizeGb: Annotated[int, Field(ge=50, le=65_536)]
    sourceImage: Annotated[str, Field(pattern=r"^projects/[\w-]+/global/images/(family/)?[\w-]+$")]


class Disk(Strict):
    boot: Literal[True]
    autoDelete: Literal[True]
    type: Literal["PERSISTENT"]
    initializeParams: InitializeParams


class MetadataItem(Strict):
    key: Literal["install-nvidia-driver"]
    value: str


class Metadata(Strict):
    items: list[MetadataItem]


class Scheduling(Strict):
    onHostMaintenance: Literal["TERMINATE"]
    provisioningModel: Literal["SPOT", "STANDARD"] = "STANDARD"
    instanceTerminationAction: Literal["DELETE"] | None = None
    automaticRestart: Literal[False] | None = None


class GcpNode(Strict):
    machineType: Annotated[str, Field(pattern=r"^[a-z]\w*-[a-z]+-\d+$")]
    disks: list[Disk]
    metadata: Metadata | None = None
    scheduling: Scheduling | None = None


class LocalProvider(Strict):
    type: Literal["local"]
    head_ip: Address
    worker_ips: list[Address]


PROVIDERS: dict[str, type[Strict]] = {
    "aws": AwsProvider,
    "gcp": GcpProvider,
    "local": LocalProvider,
}
NODES: dict[str, type[Strict]] = {"aws": AwsNode, "gcp": GcpNode}


def provider_model(config: dict[str, Any]) -> type[Strict]:
    """Return the model of ``provider``; KeyError for a type that no file in cluster/ uses."""
    return PROVIDERS[config["provider"]["type"]]
