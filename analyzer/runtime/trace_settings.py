"""What of the requests is traced: Triton's trace settings, the server's and what a model sets apart from them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.wire import invalid

TIMESTAMPS, TENSORS = "TIMESTAMPS", "TENSORS"
_OFF = "OFF"
_LEVELS = (_OFF, TIMESTAMPS, TENSORS)
_MODE = "triton"
_RANGES = {"trace_rate": (1, 2**32 - 1), "trace_count": (-1, 2**31 - 1), "log_frequency": (0, 2**32 - 1)}
_FIXED = InferError(ErrorKind.UNIMPLEMENTED, "trace file location can not be updated through network protocol")
NAMES = ("trace_level", *_RANGES, "trace_file", "trace_mode")


class TraceSetting(msgspec.Struct, frozen=True):
    """Every ``rate``-th request is traced, ``count`` of them (-1: all), into a file for ``frequency`` (0: one file)."""

    levels: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    frequency: int = 0

    @property
    def is_on(self) -> bool:
        return bool(self.levels) and self.count != 0


_FIELDS = {"trace_level": "levels", "trace_rate": "rate", "trace_count": "count", "log_frequency": "frequency"}
Changes = Mapping[str, Any]
"""Fields of TraceSetting with their values; None takes back what was set."""


def read_changes(wanted: Mapping[str, object]) -> Changes:
    """What a client wants changed, by the protocol's names. Raises InferError."""
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if name == "trace_file":
            raise _FIXED
        if name == "trace_mode":
            if value not in (None, _MODE):
                raise invalid(
                    f"trace setting 'trace_mode' can't be {value!r}: this server traces in mode '{_MODE}' only"
                )
        elif name not in _FIELDS:
            raise invalid(f"trace setting '{name}' is not known; known are {', '.join(NAMES)}")
        elif value is None:
            changes[_FIELDS[name]] = None
        elif name == "trace_level":
            changes["levels"] = read_levels(value)
        else:
            changes[_FIELDS[name]] = read_number(name, value)
    return changes


def read_levels(value: object) -> tuple[str, ...]:
    """Raises InferError."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise invalid("trace setting 'trace_level' must be a list of levels")
    unknown = [item for item in value if item not in _LEVELS]
    if unknown:
        raise invalid(f"trace level '{unknown[0]}' is not known; known are {', '.join(_LEVELS)}")
    if _OFF in value and len(value) > 1:
        raise invalid("Expect only one trace level 'OFF' is specified")
    return tuple(level for level in (TIMESTAMPS, TENSORS) if level in value)


def read_number(name: str, value: object) -> int:
    """Raises InferError."""
    least, most = _RANGES[name]
    text = value if isinstance(value, str) else ""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or not least <= int(text) <= most:
        raise invalid(
            f"trace setting '{name}' must be a whole number from {least} to {most} as a string, not {value!r}"
        )
    return int(text)


def changed(setting: TraceSetting, changes: Changes) -> TraceSetting:
    given = {name: value for name, value in changes.items() if value is not None}
    return msgspec.structs.replace(setting, **given) if given else setting


def told(setting: TraceSetting, file: str) -> dict[str, str | list[str]]:
    """A setting as the protocol tells it: numbers are strings."""
    return {
        "trace_level": list(setting.levels) or [_OFF],
        "trace_rate": str(setting.rate),
        "trace_count": str(setting.count),
        "log_frequency": str(setting.frequency),
        "trace_file": file,
        "trace_mode": _MODE,
    }


class TraceScopes:
    """What was set for the server and for single models, over what it was started with."""

    def __init__(self, start: TraceSetting, *, has_file: bool) -> None:
        self._start = start
        self._has_file = has_file
        self._server: dict[str, Any] = {}
        self._models: dict[str, dict[str, Any]] = {}

    @property
    def models(self) -> frozenset[str]:
        """Those with settings of their own."""
        return frozenset(self._models)

    def setting(self, model: str = "") -> TraceSetting:
        server = changed(self._start, self._server)
        return changed(server, self._models.get(model, {}))

    def change(self, model: str, changes: Changes) -> None:
        """``model`` may be "" for the server. All or nothing. Raises InferError."""
        held = self._models.get(model, {}) if model else self._server
        wanted = {name: value for name, value in {**held, **changes}.items() if value is not None}
        base = changed(self._start, self._server) if model else self._start
        if changed(base, wanted).levels and not self._has_file:
            text = "trace file name is not given; start the server with --trace-config triton,file=FILE"
            raise invalid(f"Attempting to set invalid trace setting :{text}")
        if not model:
            self._server = wanted
        elif wanted:
            self._models[model] = wanted
        else:
            self._models.pop(model, None)


_FLAGS = {"level": "trace_level", "rate": "trace_rate", "count": "trace_count", "log-frequency": "log_frequency"}


def read_start(given: Iterable[tuple[str, str, str]]) -> tuple[TraceSetting, str]:
    """Settings of the command line (mode, name, value) to the setting and the file. Raises InferError."""
    wanted: dict[str, object] = {}
    levels: list[str] = []
    file = ""
    for mode, name, value in given:
        if mode == "opentelemetry" or (name, value) == ("mode", "opentelemetry"):
            raise invalid("--trace-config opentelemetry is not supported; trace into a file with triton,file=FILE")
        if name == "file":
            file = value
        elif name == "level":
            levels.append(value)
        elif name == "mode":
            wanted["trace_mode"] = value
        elif name in _FLAGS:
            wanted[_FLAGS[name]] = value
        else:
            raise invalid(f"--trace-config knows no '{name}'; known are file, mode, {', '.join(_FLAGS)}")
    if levels:
        wanted["trace_level"] = levels
    setting = changed(TraceSetting(), read_changes(wanted))
    if setting.levels and not file:
        raise invalid("--trace-config level needs a file for the traces; add --trace-config triton,file=FILE")
    return setting, file
