"""``analyzer zoo list|add``."""

from pathlib import Path

import click

from analyzer.zoo.catalogue import CATALOGUE, add, names


@click.group()
def zoo() -> None:
    """Build ready models to measure."""


@zoo.command("list")
def list_models() -> None:
    """Show what the zoo can build."""
    for model in CATALOGUE:
        needs = f" (needs: {model.needs})" if model.needs else ""
        told = click.wrap_text(f"{model.name:<12}{model.summary}{needs}", width=80, subsequent_indent=" " * 12)
        click.echo(told)


@zoo.command("add")
@click.argument("name", metavar="MODEL", type=click.Choice(names()))
@click.option(
    "-m",
    "--repository",
    "--model-repository",
    "repository",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Model repository to add to; made if missing.",
)
@click.option(
    "--files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="File or folder whose bytes become input data (filetype only); repeatable, a folder counts with all below it.",
)
@click.option("--force", is_flag=True, help="Replace models of the same name.")
def add_model(name: str, repository: Path, files: tuple[Path, ...], force: bool) -> None:
    """Add a model, with its config.pbtxt and input data, to a repository.

    MODEL is one of those that `analyzer zoo list` shows.
    """
    for folder in add(name, repository, files, force=force):
        click.echo(str(folder))
