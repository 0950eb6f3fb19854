"""What the command line offers: every command with its arguments and its help, and nothing of its work.

`trainwright --help` and completion run this module and little else: each command imports what it needs when it is called. So a
keystroke of completion doesn't wait for a Kubernetes client.
"""

# ruff: noqa: PLC0415 - that imports are late is what this module is for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainwright.cli.app import LAPTOP, LEARN, OPERATE, WATCH, Output, app
from trainwright.cli.completion import Shell, complete_fields
from trainwright.cli.options import (
    AllNamespaces,
    AnyJob,
    Context,
    Format,
    Job,
    Kubeconfig,
    Monitoring,
    Namespace,
    Nodes,
    PretendedGpus,
    TwinName,
)
from trainwright.local.paths import DEFAULT


@app.command(rich_help_panel=OPERATE)
def submit(
    file: Annotated[
        Path, typer.Argument(help="YAML file with a TrainingJob and what it needs; - for stdin.", show_default=False)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and show progress until the job ends.")] = False,
    output: Format = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check a job and send it to the cluster. With --follow: exit code 1 unless it succeeds."""
    from trainwright.cli import jobs

    jobs.submit(file, namespace, kubeconfig, context, follow=follow, output=output)


@app.command(rich_help_panel=OPERATE)
def suspend(job: Job, namespace: Namespace = None, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Set a job aside: its workers save a checkpoint and end."""
    from trainwright.cli import jobs

    jobs.set_suspend(job, namespace, kubeconfig, context, suspend=True)


@app.command(rich_help_panel=OPERATE)
def resume(job: Job, namespace: Namespace = None, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Let a suspended job go on from its checkpoint."""
    from trainwright.cli import jobs

    jobs.set_suspend(job, namespace, kubeconfig, context, suspend=False)


@app.command(rich_help_panel=OPERATE)
def delete(job: Job, namespace: Namespace = None, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Delete a job and its pods. Its workspace stays."""
    from trainwright.cli import jobs

    jobs.delete(job, namespace, kubeconfig, context)


@app.command(rich_help_panel=WATCH)
def logs(
    job: Job,
    rank: Annotated[int | None, typer.Option("--rank", "-r", help="The worker with this rank (default: rank 0).", min=0)] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All workers, each line with its worker's index.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and print what comes.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last N lines.", min=0)] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print what workers wrote."""
    from trainwright.cli import logs as work

    work.logs(job, rank, every=every, follow=follow, tail=tail, namespace=namespace, where=(kubeconfig, context))


@app.command(rich_help_panel=WATCH)
def status(
    job: AnyJob = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job ends.")] = False,
    everywhere: AllNamespaces = False,
    output: Format = Output.TABLE,
    name: TwinName = DEFAULT,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show one job, with progress, restarts and their causes; or, without a job, the twin and all jobs.

    With a job: exit code 1 if it has failed.
    """
    from trainwright.cli import status as work

    work.status(job, name, namespace, kubeconfig, context, follow=follow, everywhere=everywhere, output=output)


@app.command(rich_help_panel=WATCH)
def top(
    gpus: Annotated[bool, typer.Option("--gpus", help="Who holds which GPUs, and the queue in its order.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print once and leave, as without a terminal.")] = False,
    everywhere: AllNamespaces = False,
    output: Format = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Watch all jobs: progress, speed, goodput, GPUs in use, and what waits for what. Ctrl-C leaves."""
    from trainwright.cli import top as work

    work.top(namespace, kubeconfig, context, gpus=gpus, everywhere=everywhere, output=output, once=once)


@app.command(rich_help_panel=WATCH)
def report(
    job: Job,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML file to write (default: JOB-report.html); - for stdout.", show_default=False),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus", help="Address of a Prometheus (default: the twin's, TRAINWRIGHT_PROMETHEUS).", show_default=False
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", help="The job's workspace, where it is mounted or copied to (default: the twin's).", show_default=False
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write one HTML file that tells how a job went, and why it was slow. Needs no Grafana."""
    from trainwright.cli import report as work

    sources = work.Sources(prometheus=prometheus, folder=workspace)
    work.report(job, namespace, kubeconfig, context, output=output, sources=sources, show=show)


@app.command(rich_help_panel=OPERATE)
def run(
    file: Annotated[
        Path, typer.Argument(help="YAML file with one TrainingJob and what it needs; - for stdin.", show_default=False)
    ],
    directory: Annotated[
        Path, typer.Option("--dir", "-d", help="Where runs keep their workspace, a folder for each job.")
    ] = Path("trainwright-runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Don't print worker 0's log.")] = False,
) -> None:
    """Run a job here, as processes, without a cluster. Ctrl-C saves a checkpoint and stops; the same command goes on from it."""
    from trainwright.cli import run as work

    work.run(file, directory, quiet=quiet)


@app.command(rich_help_panel=LAPTOP)
def up(nodes: Nodes = None, gpus_per_node: PretendedGpus = None, monitoring: Monitoring = None, name: TwinName = DEFAULT) -> None:
    """Start a real control plane on this machine, with nodes made of processes, and the operator."""
    from trainwright.cli import twin

    twin.up(name, nodes=nodes, gpus_per_node=gpus_per_node, monitoring=monitoring)


@app.command(rich_help_panel=LAPTOP)
def down(name: TwinName = DEFAULT) -> None:
    """Stop the twin, its jobs included, and remove all that it kept: cluster, workspaces, logs."""
    from trainwright.cli import twin

    twin.down(name)


@app.command(rich_help_panel=LAPTOP)
def kubeconfig(name: TwinName = DEFAULT) -> None:
    """Print the path of the twin's kubeconfig: export KUBECONFIG=$(trainwright kubeconfig)."""
    from trainwright.cli import twin

    twin.kubeconfig(name)


@app.command(rich_help_panel=LEARN)
def explain(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[FIELD|RECIPE]",
            help="A field (spec.runPolicy.backoffLimit, or its end: backoffLimit) or a recipe (torch/image-classification).",
            show_default=False,
            autocompletion=complete_fields,
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All fields below it, not only the next.")] = False,
    output: Format = Output.TABLE,
) -> None:
    """What a field of a TrainingJob, or a setting of a recipe, is and takes. Needs no cluster."""
    from trainwright.cli import explain as work

    work.explain(what, recursive=recursive, output=output)


@app.command(rich_help_panel=LEARN)
def doctor(
    output: Format = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check the cluster, your rights in it, and this machine; say what to do about what is wrong.

    Exit code 1 when there is a problem; warnings are none.
    """
    from trainwright.cli import doctor as work

    work.doctor(namespace, kubeconfig, context, output=output)


@app.command(rich_help_panel=LEARN)
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.", show_default=False)]) -> None:
    """Print the completion script of a shell: source <(trainwright completion bash)."""
    from trainwright.cli import completion as work

    work.script(shell)
