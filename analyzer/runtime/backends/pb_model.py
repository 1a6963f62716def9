"""Parts of ``triton_python_backend_utils`` that have nothing to do with requests: the configuration and the log."""

import logging
from typing import Any


class ModelConfig:
    """What ``auto_complete_config`` of a model is given, and fills in."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def as_dict(self) -> dict[str, Any]:
        return self._config

    def add_input(self, item: dict[str, Any]) -> None:
        self._add("input", item)

    def add_output(self, item: dict[str, Any]) -> None:
        self._add("output", item)

    def set_max_batch_size(self, size: int) -> None:
        """Sets the size unless the configuration has one; an own size may only be smaller."""
        own = self._config.get("max_batch_size") or 0
        if own > size:
            raise ValueError(f"configuration specified max_batch_size {own}, but the model supports at most {size}")
        self._config["max_batch_size"] = own or size

    def set_dynamic_batching(self) -> None:
        if not any(self._config.get(key) for key in ("sequence_batching", "ensemble_scheduling")):
            self._config.setdefault("dynamic_batching", {})

    def _add(self, field: str, item: dict[str, Any]) -> None:
        missing = {"name", "data_type", "dims"} - item.keys()
        if missing:
            raise ValueError(f"an {field} needs the key '{min(missing)}'")
        items = self._config.setdefault(field, [])
        for own in items:
            if own["name"] != item["name"]:
                continue
            for key in ("data_type", "dims"):
                if own.get(key) and own[key] != item[key]:
                    raise ValueError(f"{field} '{item['name']}' has {key} {own[key]}, but the model says {item[key]}")
            own.update(item)
            return
        items.append(dict(item))


class Logger:
    """Writes to the server's log. Callable on the class, as models do."""

    INFO, WARNING, ERROR, VERBOSE = range(4)
    _log = logging.getLogger("analyzer.runtime.model")

    @classmethod
    def log(cls, message: str, level: int = INFO) -> None:
        levels = {cls.WARNING: logging.WARNING, cls.ERROR: logging.ERROR, cls.VERBOSE: logging.DEBUG}
        cls._log.log(levels.get(level, logging.INFO), "%s", message)

    @classmethod
    def log_info(cls, message: str) -> None:
        cls.log(message, cls.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        cls.log(message, cls.VERBOSE)
