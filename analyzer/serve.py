"""`analyzer serve`: the runtime's own command line under this roof."""

import click


@click.command(
    "serve",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> int:
    """Serve a model repository (KServe v2 over HTTP and gRPC)."""
    from analyzer.runtime.__main__ import main

    return main(list(arguments))
