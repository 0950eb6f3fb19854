"""`python -m cluster prepare|up|down|load FILE …`: a real cluster of one node on this machine, by hand. Needs root."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cluster.cluster import Cluster
from cluster.machine import CannotHaveNode, prepare
from trainwright.local.binaries import ControlPlaneUnavailable

CANNOT = 3


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare", help=f"install what a node needs; status {CANNOT} and a reason where this machine can't have one")
    up = verbs.add_parser("up", help="start what does not run")
    up.add_argument("--gpus", type=int, default=4, help="pretended GPUs of the node (default: %(default)s)")
    verbs.add_parser("down", help="take it away, images excepted")
    load = verbs.add_parser("load", help="give the node images")
    load.add_argument("archives", nargs="+", type=Path, metavar="FILE", help="OCI archives")
    options = parser.parse_args()
    try:
        if options.verb == "prepare":
            prepare(say)
            return 0
        cluster = Cluster()
        if options.verb == "up":
            cluster.up(say, gpus=options.gpus)
        elif options.verb == "down":
            cluster.down()
        else:
            cluster.load(options.archives, say)
    except CannotHaveNode as reason:
        say(f"no real node on this machine: {reason}")
        return CANNOT
    except (ControlPlaneUnavailable, RuntimeError, ValueError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
