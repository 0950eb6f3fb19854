"""The operator's command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from trainwright.api.model import QUANTITY_PATTERN
from trainwright.api.scheduling import ProviderName
from trainwright.plan.catalogue import names
from trainwright.plan.prices import Prices, read_prices
from trainwright.plan.types import Settings
from trainwright.schedulers.told import NAMED

AUTO = "auto"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The operator's options, from the command line and, for some, the environment."""
    parser = argparse.ArgumentParser(prog="trainwright-operator", description="Looks after TrainingJobs and ModelDeployments.")
    parser.add_argument(
        "--namespace", default=os.environ.get("TRAINWRIGHT_WATCH_NAMESPACE"), help="watch one namespace (default: all)"
    )
    parser.add_argument(
        "--listen",
        default=os.environ.get("TRAINWRIGHT_LISTEN", "0.0.0.0:8080"),
        metavar="HOST:PORT",
        help="where /healthz, /metrics and /targets are served",
    )
    parser.add_argument(
        "--progress-interval",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how often worker 0 of a job is asked for progress",
    )
    parser.add_argument("--registry", default=Settings.registry, help="where the trainer images are")
    parser.add_argument("--tag", default=Settings.tag, help="tag of the trainer images")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=REFERENCE",
        help=f"another image for one name of the catalogue ({', '.join(names())}); may be given again for another",
    )
    for resource, example in (("cpu", "500m"), ("memory", "1Gi")):
        parser.add_argument(
            f"--default-{resource}",
            type=_quantity,
            metavar="QUANTITY",
            help=f"{resource} requested for each worker of a job that names none, such as {example}",
        )
    parser.add_argument(
        "--node-lost-after",
        type=int,
        default=Settings.node_lost_after,
        metavar="SECONDS",
        help="how long a node may be away before the pods on it are given up (default: %(default)s)",
    )
    parser.add_argument(
        "--scheduler",
        choices=[AUTO, *(name.value for name in ProviderName)],
        default=os.environ.get("TRAINWRIGHT_SCHEDULER", AUTO),
        help="who decides when a gang's pods are made, for jobs whose schedulingPolicy doesn't say (default: %(default)s). "
        "auto is capacity, or none where another scheduler or Karpenter is there or not all of the cluster can be seen",
    )
    parser.add_argument(
        "--scheduler-name",
        type=_scheduler,
        action="append",
        default=[],
        metavar="PROVIDER=NAME",
        help="what pods call the scheduler of a provider, where it isn't "
        + ", ".join(f"{name or 'the default one'} ({provider})" for provider, name in NAMED.items())
        + "; may be given again for another",
    )
    parser.add_argument(
        "--prices",
        type=_prices,
        default=os.environ.get("TRAINWRIGHT_PRICES"),
        metavar="FILE",
        help="price table in YAML, for what jobs cost (docs/monitoring.md)",
    )
    parser.add_argument(
        "--gateway-key",
        type=_key,
        default=os.environ.get("TRAINWRIGHT_GATEWAY_KEY_FILE"),
        metavar="FILE",
        help="file with a secret, by which gateways know this operator; without it they take orders from anyone who reaches them",
    )
    parser.add_argument(
        "--network-policies",
        action="store_true",
        default=os.environ.get("TRAINWRIGHT_NETWORK_POLICIES") == "true",
        help="let only their own gang, this operator (found in POD_NAMESPACE) and Prometheus reach the pods that are made",
    )
    parser.add_argument(
        "--leader-elect", action="store_true", help="of several replicas one works and the others stand by, by a Lease"
    )
    parser.add_argument(
        "--lease-namespace",
        default=os.environ.get("POD_NAMESPACE", "default"),
        metavar="NAMESPACE",
        help="where the Lease lies (default: the operator's own namespace)",
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument("--log-format", default="text", choices=["text", "json"], help="readable lines, or an object a line")
    options = parser.parse_args(words)
    if options.namespace and options.scheduler == ProviderName.CAPACITY:
        parser.error("--scheduler capacity looks at all nodes and pods, which --namespace doesn't; leave one of the two out")
    if options.namespace and options.scheduler == ProviderName.KUEUE:
        parser.error("--scheduler kueue reads all of Kueue's flavors, which --namespace doesn't; leave one of the two out")
    return options


def settings_of(options: argparse.Namespace) -> Settings:
    """What the options say of decisions."""
    return Settings(
        registry=options.registry,
        tag=options.tag,
        images=dict(options.image),
        default_cpu=options.default_cpu,
        default_memory=options.default_memory,
        node_lost_after=options.node_lost_after,
        scheduler=None if options.scheduler == AUTO else ProviderName(options.scheduler),
        scheduler_names=dict(options.scheduler_name),
        prices=options.prices,
        gateway_key=options.gateway_key,
        isolated_from=os.environ.get("POD_NAMESPACE", "default") if options.network_policies else None,
    )


def _image(text: str) -> tuple[str, str]:
    name, equals, reference = text.partition("=")
    if not equals or not reference or reference.split() != [reference]:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=REFERENCE, such as torch=registry.example/torch:2")
    if name not in names():
        raise argparse.ArgumentTypeError(f"{name!r} is not in the catalogue, which has {', '.join(names())}")
    return name, reference


def _scheduler(text: str) -> tuple[ProviderName, str]:
    provider, equals, name = text.partition("=")
    if not equals or not name or name.split() != [name]:
        raise argparse.ArgumentTypeError(f"{text!r} is no PROVIDER=NAME, such as coscheduling=gangs")
    if provider not in NAMED:
        raise argparse.ArgumentTypeError(f"{provider!r} has no scheduler with a name; these have: {', '.join(NAMED)}")
    return ProviderName(provider), name


def _quantity(text: str) -> str:
    if not re.match(QUANTITY_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a quantity; accepted are numbers such as 4, 500m or 16Gi")
    return text


def _key(path: str) -> bytes:
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    if len(key) < 16:
        raise argparse.ArgumentTypeError(f"{path}: the key has {len(key)} bytes; at least 16 are needed")
    return key


def _prices(path: str) -> Prices:
    try:
        return read_prices(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None
