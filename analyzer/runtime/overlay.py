"""Files of a model that come with a load request, in a folder of their own for as long as they are served."""

import base64
import binascii
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.model_config import inside
from analyzer.runtime.wire import invalid

_FILE = "file:"


@dataclass(frozen=True, slots=True)
class Override:
    """What a load request says instead of the repository. ``files`` are by path within the model's folder."""

    config_json: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overlay:
    """The model's folder while its files come from a client."""

    model_dir: Path
    _folder: "tempfile.TemporaryDirectory[str]"

    def remove(self) -> None:
        """May be called again."""
        self._folder.cleanup()


def read_override(parameters: Mapping[str, object]) -> Override:
    """The parameters of a load request; a file's content is bytes, or text in base64. Raises InferError."""
    config = None
    files: dict[str, bytes] = {}
    for name, value in parameters.items():
        if name == "config":
            if not isinstance(value, str):
                raise invalid("load parameter 'config' must be a string that holds JSON")
            config = value
        elif name.startswith(_FILE):
            files[name.removeprefix(_FILE)] = _content(name, value)
        else:
            raise invalid(f"load parameter '{name}' is not supported; known are config and file:PATH")
    if files and config is None:
        raise invalid("load parameters 'file:PATH' need the parameter 'config' with them")
    return Override(config, files)


def is_model_name(name: str) -> bool:
    """Whether a model of a client's own making may be called so: its name becomes that of a folder."""
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".") and len(name) < 200


def write_overlay(name: str, files: Mapping[str, bytes]) -> Overlay:
    """Blocks. Raises ModelError for a path that leads elsewhere, and OSError."""
    folder = tempfile.TemporaryDirectory(prefix="analyzer_model_")
    overlay = Overlay(Path(folder.name) / name, folder)
    try:
        overlay.model_dir.mkdir()
        for path, content in files.items():
            if "\0" in path or not path:
                raise ModelError(f"the file name {path!r} is not a file's")
            target = inside(overlay.model_dir, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except BaseException:
        overlay.remove()
        raise
    return overlay


def _content(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise invalid(f"load parameter '{name}' must be the file's content in base64")
