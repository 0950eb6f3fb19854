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

SCRAPE_ANNOTATIONS = "prometheus.io/"
"""What a Prometheus goes by that looks at pods for itself: `scrape`, `port` and `path`."""

CONTAINER = "worker"
FETCH_CONTAINER = "fetch"
METRICS_PORT = 9400

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


def worker_address(job: str, namespace: str, index: int) -> str:
    return f"{hostname(job, index)}.{service_name(job)}.{namespace}.svc"
