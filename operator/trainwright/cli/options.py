"""Arguments and options that many commands have, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainwright.cli.app import Output
from trainwright.cli.completion import complete_contexts, complete_jobs, complete_namespaces
from trainwright.local.paths import twins

Job = Annotated[str, typer.Argument(help="Name of the job.", show_default=False, autocompletion=complete_jobs)]
AnyJob = Annotated[
    str | None,
    typer.Argument(help="Name of a job (default: the twin and all jobs).", show_default=False, autocompletion=complete_jobs),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace (default: the context's, else default).",
        show_default=False,
        autocompletion=complete_namespaces,
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Jobs of all namespaces.")]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Kubeconfig to use (default: KUBECONFIG, the twin, ~/.kube/config).", show_default=False),
]
Context = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig to use.", show_default=False, autocompletion=complete_contexts),
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print: json and yaml leave nothing else on stdout.")]
TwinName = Annotated[
    str,
    typer.Option("--name", help="Name of the twin; several can run side by side.", autocompletion=twins),
]
Nodes = Annotated[
    int | None,
    typer.Option("--nodes", min=1, max=50, help="Number of nodes (default: as before; 1 at first).", show_default=False),
]
Monitoring = Annotated[
    bool | None,
    typer.Option(
        "--monitoring/--no-monitoring",
        help="Also a Prometheus that scrapes operator and workers (default: as before; none at first).",
        show_default=False,
    ),
]
PretendedGpus = Annotated[
    int | None,
    typer.Option(
        "--gpus-per-node",
        min=0,
        max=64,
        help="GPUs to pretend on a node, where there are no real ones (default: as before; 0 at first).",
        show_default=False,
    ),
]
