"""What collects a timeline while a server is measured: in the server itself, asked over HTTP, or around it."""

import json
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

import msgspec

from analyzer.errors import ChildError
from analyzer.runtime.capture import Availability, CaptureStats

T = TypeVar("T")

_TIMEOUT_S = 120.0
"""A profiler may write and flush for long."""
_PATH = "/v2/analyzer/capture"


class ServerCapture:
    """The captures that a running server makes of itself; its files appear in ``folder``."""

    def __init__(self, http_url: str, folder: Path) -> None:
        self.folder = folder
        self._http_url = http_url

    def probe(self) -> dict[str, Availability]:
        return self._ask("GET", _PATH, None, dict[str, Availability])

    def start(self, names: Sequence[str]) -> dict[str, Availability]:
        return self._ask("POST", f"{_PATH}/start", {"collect": list(names)}, dict[str, Availability])

    def stop(self) -> dict[str, CaptureStats]:
        return self._ask("POST", f"{_PATH}/stop", None, dict[str, CaptureStats])

    def _ask(self, method: str, path: str, body: object, kind: type[T]) -> T:
        try:
            with closing(HTTPConnection(self._http_url, timeout=_TIMEOUT_S)) as connection:
                connection.request(method, path, None if body is None else json.dumps(body))
                response = connection.getresponse()
                text = response.read()
            if response.status != 200:
                raise ChildError(f"the server captures nothing: {text.decode(errors='replace')[:200]}")
            return msgspec.json.decode(text, type=kind)
        except (HTTPException, OSError, msgspec.MsgspecError) as error:
            raise ChildError(f"the server did not answer when it was asked for a capture: {error}") from error
