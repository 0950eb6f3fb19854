"""`TrainingJob.spec`: what a user asks for. Every description here is what `kubectl explain` shows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from trainwright.api.model import DNS_LABEL_PATTERN, ExtendedResource, Model, Name, ObjectName, Quantity
from trainwright.api.names import GPU, MAX_WORKERS
from trainwright.api.policies import FailurePolicy, RunPolicy

Word = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=256)]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=253)]
DataName = Annotated[str, StringConstraints(pattern=DNS_LABEL_PATTERN, min_length=1, max_length=50)]
SubPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=256)
]
MountPath = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$", max_length=256)]
Uri = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://\S+$", max_length=2048)]
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", min_length=1, max_length=317
    ),
]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$", max_length=128)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$", max_length=128)]


class FrameworkName(StrEnum):
    TORCH = "torch"
    TENSORFLOW = "tensorflow"
    HOROVOD = "horovod"
    JAX = "jax"
    SKLEARN = "sklearn"
    NONE = "none"


class Builtin(StrEnum):
    DIGITS = "digits"
    BREAST_CANCER = "breast_cancer"
    WINE = "wine"
    IRIS = "iris"
    DIABETES = "diabetes"
    CO2 = "co2"


class Resume(StrEnum):
    AUTO = "Auto"
    NEVER = "Never"


class TolerationOperator(StrEnum):
    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Recipe(Model):
    """A training script that ships in the framework's image."""

    name: Name = Field(description="Name of the recipe, such as image-classification.")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The recipe's own settings. The trainer refuses keys it does not know, before it starts.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Entrypoint(Model):
    """A Python module of yours, run by every rank."""

    module: ModuleName = Field(description="Importable name of the module: train for train.py, pkg.train for pkg/train.py.")
    function: FunctionName | None = Field(
        default=None, description="Function of the module to call without arguments. Unset: the module runs as python -m does."
    )
    args: list[Word] = Field(default_factory=list, max_length=256, description="Put in sys.argv after the module's name.")


class Code(Model):
    """Your code, mounted read-only, at the head of PYTHONPATH, and the working directory of entrypoint and command.

    Exactly one of configMap and claim.
    """

    config_map: ObjectName | None = Field(
        default=None, description="ConfigMap in the job's namespace; each key is a file. At most 1 MiB in all."
    )
    claim: ObjectName | None = Field(default=None, description="PersistentVolumeClaim in the job's namespace.")
    path: SubPath | None = Field(default=None, description="Folder of the claim that the code is in; unset: all of it.")


class Resources(Model):
    """What one worker gets; set both as request and as limit."""

    gpus: int = Field(
        default=0,
        ge=0,
        le=64,
        description="GPUs of a worker, or parts (gpuResource). torch and horovod start a rank for each; others one for all.",
    )
    gpu_resource: ExtendedResource = Field(
        default=GPU,
        description=(
            "The resource that they are asked for as: what the nodes' device plugin offers, such as amd.com/gpu, "
            "nvidia.com/gpu.shared (time slices) or nvidia.com/mig-1g.10gb (a part of a GPU)."
        ),
    )
    cpu: Quantity | None = Field(
        default=None, description="CPU cores, such as 4 or 500m. Also sets the thread count of math libraries."
    )
    memory: Quantity | None = Field(default=None, description="Memory, such as 16Gi. A worker above it is killed (OOMKilled).")
    shared_memory: Quantity | None = Field(
        default=None, description="Size of /dev/shm for data loader processes, such as 2Gi. Counts against memory."
    )


class KeyReference(Model):
    """One key of a Secret or ConfigMap in the job's namespace."""

    name: ObjectName = Field(description="Name of the Secret or ConfigMap.")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)] = Field(
        description="Key in it."
    )
    optional: bool = Field(default=False, description="True: a worker starts without the variable where there is no such key.")


class FieldReference(Model):
    """One field of the worker's own pod."""

    field_path: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Such as metadata.name, metadata.labels['x'], spec.nodeName or status.podIP."
    )


class ResourceReference(Model):
    """What the worker's container asked for."""

    resource: Annotated[str, StringConstraints(pattern=r"^(limits|requests)\.(cpu|memory|ephemeral-storage)$")] = Field(
        description="limits.cpu, limits.memory, requests.cpu or requests.memory."
    )
    divisor: Quantity | None = Field(default=None, description="Unit that the value is given in, such as 1Mi.")


class ValueSource(Model):
    """Where a variable's value comes from. Exactly one of the fields."""

    secret_key_ref: KeyReference | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyReference | None = Field(default=None, description="A key of a ConfigMap.")
    field_ref: FieldReference | None = Field(default=None, description="A field of the pod.")
    resource_field_ref: ResourceReference | None = Field(default=None, description="A resource of the container.")


class EnvVar(Model):
    """One environment variable of every worker. At most one of value and valueFrom."""

    name: EnvName = Field(
        description="Name of the variable. Names of the contract (TRAINWRIGHT_*, PET_*, MASTER_ADDR, RANK, …) are refused."
    )
    value: str | None = Field(
        default=None, max_length=32768, description="Its value; $(OTHER) is replaced by a variable set before it."
    )
    value_from: ValueSource | None = Field(default=None, description="Where its value comes from.")


class Toleration(Model):
    """One taint of nodes that workers put up with."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = Field(
        default=None, description="Key of the taint; unset with Exists: every taint."
    )
    operator: TolerationOperator = Field(
        default=TolerationOperator.EQUAL, description="Equal: value must be the taint's. Exists: any value."
    )
    value: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        default=None, description="Value of the taint, for Equal."
    )
    effect: TaintEffect | None = Field(default=None, description="NoSchedule, PreferNoSchedule or NoExecute; unset: all of them.")
    toleration_seconds: int | None = Field(
        default=None, ge=0, description="How long a NoExecute taint is put up with; unset: for ever."
    )


class Placement(Model):
    """Which nodes workers may run on, and how important they are."""

    node_selector: dict[str, Annotated[str, StringConstraints(max_length=63)]] | None = Field(
        default=None, description="Labels that a node must have."
    )
    tolerations: list[Toleration] = Field(default_factory=list, max_length=64, description="Taints that workers put up with.")
    topology_key: LabelKey | None = Field(
        default=None,
        description="Label of nodes, such as topology.kubernetes.io/zone: all workers of the gang run where it has one value.",
    )
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of the workers' pods.")


class Data(Model):
    """One data set, known to the trainer by its name. Exactly one of builtin, claim, configMap and uri."""

    name: DataName = Field(description="Name of the entry; recipes train on the one called train, else on the only one.")
    builtin: Builtin | None = Field(
        default=None,
        description=(
            "A real data set that ships in the images: digits (1,797 images of 8 × 8, or those pixels as a table), and tables: "
            "breast_cancer, wine, iris (classes) and diabetes (a number); for series: co2."
        ),
    )
    claim: ObjectName | None = Field(
        default=None,
        description="PersistentVolumeClaim in the job's namespace, mounted read-only; its path is in TRAINWRIGHT_DATA.",
    )
    path: SubPath | None = Field(default=None, description="Folder of the claim that the data is in; unset: all of it.")
    config_map: ObjectName | None = Field(
        default=None, description="ConfigMap in the job's namespace; each key is a file. For data of at most 1 MiB."
    )
    uri: Uri | None = Field(
        default=None,
        description=(
            "A file or a folder anywhere fsspec reads from, such as s3://bucket/folder or https://host/file.csv. Fetched once "
            "into data/ of the workspace, before the workers start; credentials are read from env."
        ),
    )
    mount_path: MountPath | None = Field(
        default=None, description="Where it is seen in the workers' file system; unset: /data/<name>. Not for builtin."
    )


class Workspace(Model):
    """Where checkpoints/, artifacts/ and logs/ live; outlives pods. Exactly one of claim, size and uri."""

    claim: ObjectName | None = Field(
        default=None, description="An existing PersistentVolumeClaim; the job uses the folder of its own name in it."
    )
    size: Quantity | None = Field(
        default=None,
        description=(
            "Size of a claim made for this job from the default storage class, called <job>-workspace. It outlives the job, "
            "so that no model is lost: delete it when you no longer need it. A new job of the same name finds it again."
        ),
    )
    uri: Uri | None = Field(
        default=None,
        description=(
            "Folder in object storage, such as s3://bucket/runs; the job uses <namespace>/<job> in it. Workers write to disks of "
            "their own, which our launcher keeps copied there; credentials are read from env. Not for framework none, nor for a "
            "command in an image of yours."
        ),
    )


class Checkpoint(Model):
    """How often recipes (and scripts that use the runtime) save, and what a start does with what was saved."""

    every_steps: int | None = Field(default=None, ge=1, description="Save after this many optimizer steps.")
    every_seconds: int | None = Field(
        default=None,
        ge=1,
        description="Save when this many seconds have passed since the last save. Default 300 when neither is set.",
    )
    keep: int = Field(default=3, ge=1, le=1000, description="How many complete checkpoints are kept; older ones are removed.")
    resume: Resume = Field(
        default=Resume.AUTO,
        description="Auto: start from the newest complete checkpoint in the workspace. Never: the first attempt starts afresh.",
    )


class Gate(Model):
    """One metric that a version must reach. At least one bound. A version without the metric is refused."""

    metric: MetricName = Field(description="Name in the artifact's manifest, such as accuracy.")
    min: float | None = Field(default=None, description="The least that is accepted.")
    max: float | None = Field(default=None, description="The most that is accepted, for metrics such as loss.")
    max_drop_from_live: float | None = Field(
        default=None, ge=0, description="By how much it may be below the live version's, measured on the same test set."
    )
    max_rise_from_live: float | None = Field(
        default=None, ge=0, description="By how much it may be above the live version's, for metrics such as loss."
    )


class Publish(Model):
    """Offer the artifact to a ModelDeployment of this namespace, once the job has succeeded."""

    deployment: Name = Field(description="Name of the ModelDeployment. It may be made later.")
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=20,
        description="Metrics that this version must reach, beside the deployment's own gates.",
    )


class TrainingJobSpec(Model):
    """What to train, with what, on how many workers. All but runPolicy is fixed once the job exists."""

    framework: FrameworkName = Field(
        description="Whose trainer image runs, and how its workers meet: torch, tensorflow, horovod, jax, sklearn; or none."
    )
    image: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=1024)] | None = Field(
        default=None,
        description=(
            "Container image of the workers; unset: the operator's own for the framework. A recipe or entrypoint needs one made "
            "from ours; a command runs in any image, as it is, without our launcher around it."
        ),
    )
    recipe: Recipe | None = Field(
        default=None, description="Train with a recipe of the image. Exactly one of recipe, entrypoint and command."
    )
    entrypoint: Entrypoint | None = Field(
        default=None, description="Train with a Python module of yours. Exactly one of recipe, entrypoint and command."
    )
    command: list[Word] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Run this program in every worker. Exactly one of recipe, entrypoint and command.",
    )
    code: Code | None = Field(default=None, description="Where your code comes from.")
    workers: int = Field(default=1, ge=1, le=MAX_WORKERS, description="Number of pods of the gang; all of them run, or none.")
    resources: Resources = Field(
        default_factory=Resources, description="What one worker gets.", json_schema_extra={"default": {}}
    )
    placement: Placement = Field(
        default_factory=Placement, description="Where workers may run.", json_schema_extra={"default": {}}
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=200,
        description="Environment variables of every worker.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    data: list[Data] = Field(
        default_factory=list,
        max_length=32,
        description="Data sets the workers read.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    workspace: Workspace = Field(
        default_factory=lambda: Workspace(size="10Gi"),
        description="Where results live. Default: a claim of 10Gi made for this job.",
        json_schema_extra={"default": {"size": "10Gi"}},
    )
    checkpoint: Checkpoint = Field(
        default_factory=Checkpoint,
        description="When to save, how many to keep, whether to resume.",
        json_schema_extra={"default": {}},
    )
    failure_policy: FailurePolicy = Field(
        default_factory=FailurePolicy,
        description="Which failures restart the gang and which end the job.",
        json_schema_extra={"default": {}},
    )
    run_policy: RunPolicy = Field(
        default_factory=RunPolicy, description="Restarts and clean-up.", json_schema_extra={"default": {}}
    )
    publish: Publish | None = Field(default=None, description="Offer what was trained to a ModelDeployment.")
