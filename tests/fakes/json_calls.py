"""JSON asked of a server over HTTP, one connection a call."""

import json
from http.client import HTTPConnection
from typing import Any


def request_json(address: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """The status, and what was answered; nothing is an empty object."""
    connection = HTTPConnection(address, timeout=120)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


def post_json(address: str, path: str, body: object = None) -> Any:
    """Fails where the status is not 200."""
    status, answer = request_json(address, "POST", path, body or {})
    assert status == 200, answer
    return answer
