"""Commands about served models, with their arguments and their help, and nothing of their work (see `commands.py`)."""

# ruff: noqa: PLC0415 - that imports are late is what this module is for

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainwright.cli.app import SERVE, Output, app
from trainwright.cli.completion import complete_deployments
from trainwright.cli.options import Context, Format, Kubeconfig, Namespace

Deployment = Annotated[
    str, typer.Argument(help="Name of the ModelDeployment.", show_default=False, autocompletion=complete_deployments)
]
Number = Annotated[int | None, typer.Argument(help="Version number.", min=1, show_default=False)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay until it has come to its end, and show the way there.")]


@app.command(rich_help_panel=SERVE)
def versions(
    deployment: Annotated[
        str | None,
        typer.Argument(
            help="Name of a ModelDeployment (default: all of them).", show_default=False, autocompletion=complete_deployments
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay while a version is on its way.")] = False,
    output: Format = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show a served model: who gets how much traffic, what became of each version and why, drift, accuracy."""
    from trainwright.cli import serving

    serving.versions(deployment, namespace, (kubeconfig, context), follow=follow, output=output)


@app.command(rich_help_panel=SERVE)
def publish(
    what: Annotated[
        str,
        typer.Argument(
            metavar="JOB|FOLDER|URI",
            help="A job that has succeeded; an artifact's folder on this machine; s3://…; or, with --claim, its folder there.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            "-t",
            help="The ModelDeployment.",
            metavar="DEPLOYMENT",
            show_default=False,
            autocompletion=complete_deployments,
        ),
    ],
    claim: Annotated[
        str | None, typer.Option("--claim", help="The PersistentVolumeClaim that PATH is a folder of.", show_default=False)
    ] = None,
    follow: Follow = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Offer a trained model to a deployment by hand. With --follow: exit code 1 unless it goes live."""
    from trainwright.cli import serving

    serving.publish(what, to, namespace, (kubeconfig, context), claim=claim, follow=follow)


@app.command(rich_help_panel=SERVE)
def promote(
    deployment: Deployment,
    version: Number = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make the version in canary live now, without the rest of its steps."""
    from trainwright.cli import serving

    serving.promote(deployment, version, namespace, (kubeconfig, context))


@app.command(rich_help_panel=SERVE)
def rollback(
    deployment: Deployment,
    version: Number = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let new versions come again; the live one stays live.")] = False,
    follow: Follow = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Go back: from a canary to the live version, else to the previous one, or to a kept one that is named; and stay there."""
    from trainwright.cli import serving

    serving.rollback(deployment, version, namespace, (kubeconfig, context), undo=undo, follow=follow)


@app.command(rich_help_panel=SERVE)
def predict(
    deployment: Deployment,
    file: Annotated[
        Path, typer.Argument(help="JSON as the server takes it; - for stdin.", show_default=False, exists=False)
    ] = Path("-"),
    version: Annotated[int | None, typer.Option("--version", help="Ask this version.", min=1, show_default=False)] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where the gateway answers (default: its pods' addresses).", show_default=False),
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Ask a served model, through its gateway. Who answered is said on stderr."""
    from trainwright.cli import serving

    serving.predict(deployment, file, namespace, (kubeconfig, context), version=version, url=url)
