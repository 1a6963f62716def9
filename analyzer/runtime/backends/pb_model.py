"""The configuration as ``triton_python_backend_utils`` shows it to a model, and has it completed."""

from collections.abc import Iterable
from pathlib import Path
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


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return _by_name(model_config.get("input", ()), name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return _by_name(model_config.get("output", ()), name)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def get_model_dir() -> str:
    """The version folder of the model of this process."""
    return str(_Folder.path or Path.cwd())


def set_model_dir(path: str) -> None:
    """Ours: called before the model is imported."""
    _Folder.path = path


class _Folder:
    path = ""


def _by_name(items: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((item for item in items if item["name"] == name), None)
