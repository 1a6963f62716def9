"""The log and trace settings that clients can read and change over the protocol."""

import logging
from collections.abc import Mapping

from analyzer.runtime.wire import invalid

Setting = bool | int | str
_RUNTIME = "analyzer.runtime"

TRACE_SETTINGS: dict[str, str | list[str]] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


class LogSettings:
    """What of the server's log is written. The level of Python's logging is the lowest that is asked for."""

    def __init__(self) -> None:
        self._log = logging.getLogger(_RUNTIME)
        self._settings: dict[str, Setting] = {
            "log_file": "",
            "log_info": True,
            "log_warning": True,
            "log_error": True,
            "log_verbose_level": int(self._log.isEnabledFor(logging.DEBUG)),
            "log_format": "default",
        }

    def settings(self) -> dict[str, Setting]:
        return dict(self._settings)

    def change(self, wanted: Mapping[str, object]) -> None:
        """All or nothing. Raises InferError."""
        checked = {name: self._checked(name, value) for name, value in wanted.items()}
        self._settings |= checked
        if checked:
            self._log.setLevel(self._level())

    def _checked(self, name: str, value: object) -> Setting:
        now = self._settings.get(name)
        if now is None:
            raise invalid(f"log setting '{name}' is not known; known are {', '.join(self._settings)}")
        if type(value) is not type(now) or (isinstance(value, int) and value < 0):
            raise invalid(f"log setting '{name}' must be a {type(now).__name__}")
        if isinstance(value, str) and value != now:
            raise invalid(f"log setting '{name}' can't be changed: the log goes to stderr in one format")
        return now if isinstance(value, str) else value

    def _level(self) -> int:
        if self._settings["log_verbose_level"]:
            return logging.DEBUG
        levels = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
        return min((level for name, level in levels.items() if self._settings[name]), default=logging.CRITICAL)


def change_trace(wanted: Mapping[str, object]) -> None:
    """Tracing of single requests to a file is not supported, so its settings can only stay. Raises InferError."""
    for name, value in wanted.items():
        if name not in TRACE_SETTINGS:
            raise invalid(f"trace setting '{name}' is not known; known are {', '.join(TRACE_SETTINGS)}")
        if value is not None and value != TRACE_SETTINGS[name]:
            raise invalid(f"trace setting '{name}' can't be changed: this server writes no trace files")
