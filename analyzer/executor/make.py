"""The executor that settings name."""

from contextlib import AbstractContextManager

from analyzer.executor.executor import Executor
from analyzer.executor.local import LocalExecutor
from analyzer.executor.ray_executor import RayExecutor
from analyzer.settings.declared import ProfileSettings


def make_executor(settings: ProfileSettings) -> AbstractContextManager[Executor]:
    """To be entered before a run is planned: the machine and its server have a say in the plan."""
    return RayExecutor(settings) if settings.executor == "ray" else LocalExecutor(settings)
