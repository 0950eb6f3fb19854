"""Words of the API that several folders share: group, labels, names of children, ports and directories in a pod."""

from __future__ import annotations

GROUP = "trainwright.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

OPERATOR_NAME = f"{GROUP}/operator"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "trainwright"
JOB_LABEL = f"{GROUP}/job"
ATTEMPT_LABEL = f"{GROUP}/attempt"
INDEX_LABEL = f"{GROUP}/worker-index"
HASH_ANNOTATION = f"{GROUP}/hash"
CONFIG_ANNOTATION = f"{GROUP}/config"

DEPLOYMENT_LABEL = f"{GROUP}/deployment"
VERSION_LABEL = f"{GROUP}/version"
UID_LABEL = f"{GROUP}/uid"
ROLE_LABEL = f"{GROUP}/role"
"""What a pod of a ModelDeployment is: `server`, `gateway` or `publisher`."""
COMPONENT_LABEL = "app.kubernetes.io/component"
SERVING = "serving"
INCOMING = "incoming"
"""Of what the command line makes to send an artifact: the operator has no eye on it."""
PUBLISHER_IMAGE_ANNOTATION = f"{GROUP}/publisher-image"
"""At the publisher's service account: which image it runs, for who sends an artifact to it."""

SCRAPE_ANNOTATIONS = "prometheus.io/"
"""What a Prometheus goes by that looks at pods for itself: `scrape`, `port` and `path`."""

GPU = "nvidia.com/gpu"


def is_gpu(resource: str) -> bool:
    """Whether a resource of a node is GPUs, or parts of them: amd.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-1g.10gb."""
    return "/" in resource and ("gpu" in resource or "/mig-" in resource)


CONTAINER = "worker"
FETCH_CONTAINER = "fetch"
METRICS_PORT = 9400

CLIENT_PORT = 8080
"""Where a gateway, and a server that is not TF Serving, answers clients."""
SERVER_METRICS_PORT = 8082
TFSERVING_REST_PORT = 8501
TFSERVING_GRPC_PORT = 8500

MODELS_DIR = "/models"
SOURCE_DIR = "/source"
KEYS_DIR = "/keys"
INCOMING_DIR = "/incoming"
WORKSPACE_DIR = "/workspace"
CODE_DIR = "/code"
DATA_DIR = "/data"
CONFIG_DIR = "/etc/trainwright"
CONFIG_FILE = "config.yaml"
TERMINATION_LOG = "/dev/termination-log"

TAKEN_DIRS = (
    *("bin", "boot", "code", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc"),
    *("root", "run", "sbin", "sys", "tmp", "usr", "var", "workspace"),
)
"""Folders of a worker's root that data can't be mounted in: the image's own, the kernel's and ours."""

# A worker's hostname, `<job>-worker-<index>`, is a DNS label of at most 63 characters and an index has at most 4 digits.
MAX_WORKERS = 4096
MAX_JOB_NAME = 50

RESERVED_ENV_PREFIXES = ("TRAINWRIGHT_", "PET_", "HOROVOD_GLOO_RENDEZVOUS_", "OMPI_")
RESERVED_ENV = (
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TF_CONFIG"),
    *(
        "JAX_COORDINATOR_ADDRESS",
        "JAX_NUM_PROCESSES",
        "JAX_PROCESS_ID",
        "JAX_LOCAL_DEVICE_IDS",
        "HOROVOD_CONTROLLER",
        "HOROVOD_CPU_OPERATIONS",
    ),
    *("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE", "HOROVOD_CROSS_RANK", "HOROVOD_CROSS_SIZE"),
    "HOROVOD_HOSTNAME",
)


def service_name(job: str) -> str:
    return job


def remote_folder(uri: str, namespace: str, job: str) -> str:
    """A job's folder in object storage: jobs of one name in two namespaces don't meet."""
    return f"{uri.rstrip('/')}/{namespace}/{job}"


def claim_name(job: str) -> str:
    return f"{job}-workspace"


def hostname(job: str, index: int) -> str:
    return f"{job}-worker-{index}"


def pod_name(job: str, attempt: int, index: int) -> str:
    """Deterministic, so that creating it twice is harmless, and new with each attempt, so that a stuck pod blocks nobody."""
    return f"{job}-a{attempt}-worker-{index}"


MAX_DEPLOYMENT_NAME = 40
"""Names of what is made for a deployment end in as much as `-v9999-publish`, and a pod's suffix comes after that."""


def server_name(deployment: str, version: int | None) -> str:
    """Of a Deployment of servers: of one version, or (None) of all."""
    return f"{deployment}-server" if version is None else f"{deployment}-v{version}"


def gateway_name(deployment: str) -> str:
    return f"{deployment}-gateway"


def models_claim_name(deployment: str) -> str:
    return f"{deployment}-models"


def publisher_name(deployment: str) -> str:
    """Of the service account that alone may write served models."""
    return f"{deployment}-publisher"


def incoming_name(deployment: str) -> str:
    """Of the claim that artifacts are sent to from users' machines, and of the pod that takes them."""
    return f"{deployment}-incoming"


def task_name(deployment: str, version: int, task: str) -> str:
    """Of a publisher's Job for one version."""
    return f"{deployment}-v{version}-{task}"


def worker_address(job: str, namespace: str, index: int) -> str:
    return f"{hostname(job, index)}.{service_name(job)}.{namespace}.svc"
