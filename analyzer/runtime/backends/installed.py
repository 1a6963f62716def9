"""Backends that other installed packages bring along, by their entry points.

A package declares ``[project.entry-points."analyzer.backends"]`` with ``NAME = "module:Class"``; the class takes no
arguments and implements ``base.Backend``. Models say ``backend: "NAME"``. The built-in names can't be replaced.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from analyzer.runtime.backends.base import Backend, ModelError

GROUP = "analyzer.backends"
_PARTS = ("file_names", "complete", "default_kind", "runs_inline", "load")


def installed_backend(name: str, built_in: tuple[str, ...]) -> Backend:
    """The backend of this name. Raises ModelError where no package has it, two have it, or it does not work."""
    found = entry_points(group=GROUP)
    declared = [point for point in found if point.name == name]
    if not declared:
        known = ", ".join(sorted({*built_in, *(point.name for point in found)}))
        raise ModelError(
            f"backend '{name}' is not known; known are {known}; others come with packages that declare the entry point "
            f"group {GROUP}"
        )
    if len({point.value for point in declared}) > 1:
        packages = " and ".join(sorted(_package(point) for point in declared))
        raise ModelError(f"backend '{name}' comes with more than one package: {packages}; uninstall all but one")
    return _made(declared[0])


def _made(point: EntryPoint) -> Backend:
    try:
        backend = point.load()()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"backend '{point.name}' of {_package(point)} can't be loaded: {reason}") from error
    missing = [part for part in _PARTS if not hasattr(backend, part)]
    if missing:
        raise ModelError(
            f"backend '{point.name}' of {_package(point)} lacks {', '.join(missing)}, which a backend must have"
        )
    return cast(Backend, backend)


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else f"'{point.value}'"
