"""The launcher that settings name."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from analyzer.launchers.remote import RemoteLauncher
from analyzer.launchers.runtime import RuntimeLauncher
from analyzer.launchers.server import Launcher
from analyzer.launchers.triton import TritonLauncher
from analyzer.settings.served import ServedSettings


def launcher_of(settings: ServedSettings, repository: Path) -> AbstractContextManager[Launcher]:
    """To be held for as long as servers are wanted: a running server's models are put back at its end."""
    if settings.launch_mode == "remote":
        return RemoteLauncher(settings.http_endpoint, settings.grpc_endpoint, reload=not settings.reload_model_disable)
    if settings.server_path is not None:
        return nullcontext(
            TritonLauncher(repository, settings.server_path, settings.server_flags, settings.server_environment)
        )
    return nullcontext(RuntimeLauncher(repository, settings.server_environment))
