"""The log settings: what of the server's log is written, as it was started and as clients read and change it."""

import logging
import sys
import time
from collections.abc import Mapping

from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.wire import invalid

Setting = bool | int | str
FORMATS = ("default", "ISO8601")
_RUNTIME = "analyzer.runtime"
_FIXED = InferError(ErrorKind.UNIMPLEMENTED, "log file location can not be updated through network protocol")
_WORDS = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogSettings:
    """The level of Python's logging is the lowest that is asked for; ``handler`` drops what of the rest is not."""

    def __init__(self, handler: logging.Handler | None = None, start: Mapping[str, Setting] | None = None) -> None:
        self._log = logging.getLogger(_RUNTIME)
        self._handler = handler
        self._settings: dict[str, Setting] = {
            "log_file": "",
            "log_info": True,
            "log_warning": True,
            "log_error": True,
            "log_verbose_level": int(self._log.isEnabledFor(logging.DEBUG)),
            "log_format": "default",
        }
        if handler is not None:
            handler.addFilter(self._passes)
        if start:
            self._settings |= start
            self._apply()

    def settings(self) -> dict[str, Setting]:
        return dict(self._settings)

    def change(self, wanted: Mapping[str, object]) -> None:
        """All or nothing; None leaves a setting as it is. Raises InferError."""
        checked = {name: self._checked(name, value) for name, value in wanted.items() if value is not None}
        self._settings |= checked
        if checked:
            self._apply()

    def _checked(self, name: str, value: object) -> Setting:
        now = self._settings.get(name)
        if now is None:
            raise invalid(f"log setting '{name}' is not known; known are {', '.join(self._settings)}")
        if name == "log_file":
            raise _FIXED
        if not isinstance(value, bool | int | str) or type(value) is not type(now):
            raise invalid(f"log setting '{name}' must be a {type(now).__name__}")
        if isinstance(value, int) and value < 0:
            raise invalid(f"log setting '{name}' must not be below 0")
        if isinstance(value, str) and value not in FORMATS:
            raise invalid(f"invalid argument for log_format, got: {value}; known are {', '.join(FORMATS)}")
        return value

    def _apply(self) -> None:
        self._log.setLevel(self._level())
        if self._handler is not None:
            self._handler.setFormatter(_formatter(str(self._settings["log_format"])))

    def _level(self) -> int:
        if self._settings["log_verbose_level"]:
            return logging.DEBUG
        levels = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
        return min((level for name, level in levels.items() if self._settings[name]), default=logging.CRITICAL)

    def _passes(self, record: logging.LogRecord) -> bool:
        """Each kind of message is switched by itself: warnings may be off while the rest is on."""
        if record.levelno < logging.INFO:
            return bool(self._settings["log_verbose_level"])
        kind = "info" if record.levelno < logging.WARNING else "warning" if record.levelno < logging.ERROR else "error"
        return bool(self._settings[f"log_{kind}"])


def open_log(start: Mapping[str, Setting]) -> LogSettings:
    """The log of this process, to ``log_file`` or stderr. Raises OSError."""
    file = str(start["log_file"])
    handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return LogSettings(handler, start)


def _formatter(name: str) -> logging.Formatter:
    if name == "default":
        return logging.Formatter(_WORDS)
    formatter = logging.Formatter(_WORDS, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter
