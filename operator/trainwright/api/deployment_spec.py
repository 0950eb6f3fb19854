"""`ModelDeployment.spec`: one served model over many versions. Every description here is what `kubectl explain` shows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from trainwright.api.model import Model, Name, ObjectName, Quantity
from trainwright.api.spec import EnvVar, Gate, KeyReference, Placement, SubPath, Uri

Hostname = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", min_length=1, max_length=253
    ),
]
"""As the Gateway API takes it: lower case, and a wildcard as the whole first label."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=64)]


class ServerName(StrEnum):
    TFSERVING = "tfserving"
    TORCHSERVE = "torchserve"
    SKLEARN = "sklearn"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class SmokeMode(StrEnum):
    RECORDED = "Recorded"
    OFF = "Off"


class ServingResources(Model):
    """What one pod gets; set both as request and as limit."""

    gpus: int = Field(default=0, ge=0, le=64, description="GPUs (nvidia.com/gpu).")
    cpu: Quantity | None = Field(default=None, description="CPU cores, such as 2 or 500m.")
    memory: Quantity | None = Field(default=None, description="Memory, such as 4Gi. A pod above it is killed.")


class Batching(Model):
    """How a server puts requests together."""

    max_size: int = Field(default=1, ge=1, le=4096, description="Requests in a batch, at most; 1: none are put together.")
    max_delay_milliseconds: int = Field(default=5, ge=1, le=10000, description="How long a batch waits for more of them.")


class Storage(Model):
    """Where versions lie. Only the publisher writes there. At most one of claim and size."""

    claim: ObjectName | None = Field(
        default=None, description="An existing PersistentVolumeClaim; the folder of the deployment's name in it is used."
    )
    size: Quantity | None = Field(
        default=None,
        description="Size of a claim made for this deployment, called <deployment>-models, which outlives it. Default 10Gi.",
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="Of the claim that is made. ReadWriteMany where servers run on several nodes.",
    )


class Offer(Model):
    """One artifact offered by hand. Exactly one of job, claim and uri. A name is looked at once; a new offer has a new name."""

    name: Name = Field(description="Name of the offer, new for each.")
    job: Name | None = Field(default=None, description="A TrainingJob of this namespace that has succeeded.")
    claim: ObjectName | None = Field(default=None, description="A PersistentVolumeClaim with the artifact, read only.")
    path: SubPath | None = Field(default=None, description="The artifact's folder in the claim; unset: all of it.")
    uri: Uri | None = Field(
        default=None, description="The artifact's folder in object storage, such as s3://bucket/run/artifacts."
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=50,
        description=(
            "Environment of the publisher, for the credentials that uri needs. "
            "Variables that choose what a process runs are refused."
        ),
    )


class PublicKey(Model):
    """Where the key lies. Exactly one of configMap and secret."""

    config_map: KeyReference | None = Field(default=None, description="A key of a ConfigMap.")
    secret: KeyReference | None = Field(default=None, description="A key of a Secret.")


class Verify(Model):
    """What an artifact must bring, beside a manifest that is true."""

    public_key: PublicKey | None = Field(
        default=None, description="PEM public key; artifacts that are not signed with its private key are refused."
    )


class Warmup(Model):
    """What a freshly loaded version is asked before any client's request reaches it."""

    requests: int = Field(default=20, ge=0, le=10000, description="Predictions of the artifact's samples, not counted.")


class Smoke(Model):
    """Whether a loaded version answers what the trainer's model answered."""

    mode: SmokeMode = Field(
        default=SmokeMode.RECORDED,
        description="Recorded: the artifact's samples are predicted, and a version that answers otherwise is refused. Off: not.",
    )
    tolerance: float = Field(
        default=1e-3, gt=0, le=1, description="By how much answers may differ, as a share of the greatest recorded one."
    )
    load_timeout_seconds: int = Field(
        default=600, ge=10, le=86400, description="A version that is not loaded and checked by then is rolled back."
    )


class CanaryStep(Model):
    """One share of the traffic, and what must be seen at it."""

    weight: int = Field(ge=1, le=99, description="Share of requests that go to the new version, in percent.")
    hold_seconds: int = Field(default=60, ge=0, le=604800, description="For how long, at least.")
    min_requests: int = Field(default=50, ge=1, le=10**9, description="How many of them it must have answered, at least.")


_STEPS = (CanaryStep(weight=10), CanaryStep(weight=50))


class Canary(Model):
    """How traffic moves to a new version, and what moves it back."""

    steps: list[CanaryStep] = Field(
        default_factory=lambda: list(_STEPS),
        max_length=20,
        description="Shares of traffic in rising order. Default 10 % and 50 %. Empty: all traffic at once.",
        json_schema_extra={"default": [step.model_dump(by_alias=True) for step in _STEPS]},
    )
    max_error_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Errors among answers of the new version, above those of the live one."
    )
    max_latency_ratio: float = Field(
        default=1.5, gt=0, le=1000, description="99th percentile of the new version's latency, over the live one's."
    )
    max_drift: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description=(
            "Jensen-Shannon distance (0 to 1) between what the new and the live version predict, less what chance makes of it. "
            "1: predictions are not compared."
        ),
    )
    max_not_finite_ratio: float = Field(
        default=0.0, ge=0, le=1, description="Answers with NaN or infinity in them, above those of the live version."
    )
    timeout_seconds: int = Field(
        default=3600,
        ge=1,
        le=2592000,
        description="How long a step may wait for its requests beyond holdSeconds; then the version is rolled back.",
    )


class ParentReference(Model):
    """The Gateway (of the Gateway API) that a route hangs on."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: Name | None = Field(default=None, description="Its namespace; unset: the deployment's.")


class HttpRoute(Model):
    """Have the cluster's Gateway API split traffic between versions."""

    parent: ParentReference = Field(description="The Gateway that clients reach.")
    hostnames: list[Hostname] = Field(
        default_factory=list, max_length=16, description="Host names of the route; empty: all of the Gateway's."
    )


class GatewaySpec(Model):
    """What stands between clients and servers: traffic by weight, measures, checks, labels."""

    replicas: int = Field(default=1, ge=1, le=50, description="Pods of the gateway.")
    image: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)] | None = Field(
        default=None, description="Container image; unset: the operator's own."
    )
    resources: ServingResources = Field(
        default_factory=ServingResources, description="What one pod of it gets.", json_schema_extra={"default": {}}
    )
    sticky_header: HeaderName | None = Field(
        default=None, description="A request header, such as x-user: who sends one value stays with one version."
    )
    timeout_seconds: int = Field(default=30, ge=1, le=3600, description="How long a request may take, retries included.")
    retries: int = Field(default=2, ge=0, le=10, description="How often a request is tried again that a server did not answer.")
    http_route: HttpRoute | None = Field(
        default=None, description="Split traffic by an HTTPRoute of the cluster's Gateway API instead of in the gateway."
    )


class Monitoring(Model):
    """What is watched of the live version."""

    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of requests whose inputs and outputs are looked at.")
    window_seconds: int = Field(default=3600, ge=10, le=2592000, description="Drift is measured over the last so many seconds.")
    min_samples: int = Field(default=200, ge=10, le=10**9, description="Rows below which no score is given.")
    top_features: int = Field(default=10, ge=1, le=100, description="How many features, those that drift most, are told.")
    max_drift: float = Field(
        default=0.25, ge=0, description="PSI of a feature, or of the predictions, from which on the deployment says Drifting."
    )
    label_window_seconds: int = Field(default=86400, ge=10, le=2592000, description="How long a prediction waits for its label.")


class ModelDeploymentSpec(Model):
    """One model: who serves it, how a new version becomes the live one, and what is watched."""

    server: ServerName = Field(
        description="tfserving (SavedModel), torchserve (exported PyTorch programs) or sklearn (pipelines, by MLServer)."
    )
    image: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)] | None = Field(
        default=None, description="Container image of the servers; unset: the operator's own, or TensorFlow Serving's."
    )
    replicas: int = Field(default=1, ge=1, le=1000, description="Servers of the live version, and of one in canary.")
    resources: ServingResources = Field(
        default_factory=ServingResources, description="What one server gets.", json_schema_extra={"default": {}}
    )
    placement: Placement = Field(
        default_factory=Placement, description="Where servers may run.", json_schema_extra={"default": {}}
    )
    batching: Batching = Field(
        default_factory=Batching, description="How servers put requests together.", json_schema_extra={"default": {}}
    )
    storage: Storage = Field(default_factory=Storage, description="Where versions lie.", json_schema_extra={"default": {}})
    keep_versions: int = Field(
        default=3, ge=2, le=100, description="How many versions that have been live are kept for going back, live included."
    )
    offers: list[Offer] = Field(
        default_factory=list,
        max_length=20,
        description="Artifacts offered by hand; jobs with spec.publish offer theirs by themselves.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    pin: int | None = Field(
        default=None,
        ge=1,
        description="Serve this kept version and take no new one, until it is unset. Rolls back what is in canary.",
    )
    promote: int | None = Field(
        default=None,
        ge=1,
        description="Make this version live as soon as it is loaded and checked, without the rest of its canary.",
    )
    verify: Verify = Field(default_factory=Verify, description="What an artifact must bring.", json_schema_extra={"default": {}})
    gates: list[Gate] = Field(default_factory=list, max_length=20, description="Metrics that a version must reach.")
    warmup: Warmup = Field(
        default_factory=Warmup, description="Requests to a fresh version before clients'.", json_schema_extra={"default": {}}
    )
    smoke: Smoke = Field(
        default_factory=Smoke, description="Predictions that must come out right.", json_schema_extra={"default": {}}
    )
    canary: Canary = Field(
        default_factory=Canary, description="How traffic moves to a new version.", json_schema_extra={"default": {}}
    )
    gateway: GatewaySpec = Field(
        default_factory=GatewaySpec, description="What clients talk to.", json_schema_extra={"default": {}}
    )
    monitoring: Monitoring = Field(
        default_factory=Monitoring, description="What is watched of the live version.", json_schema_extra={"default": {}}
    )
