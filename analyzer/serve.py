"""`analyzer serve`: the runtime's own command line under this roof."""

import click


@click.command("serve", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> int:
    """Serve a model repository (KServe v2 over HTTP and gRPC)."""
    from analyzer.runtime.options import parse_options

    options = parse_options(list(arguments), program="analyzer serve")  # before the import: --help should not wait
    from analyzer.runtime.server import run

    return run(options)
