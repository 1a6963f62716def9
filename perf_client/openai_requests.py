"""Requests to an API like OpenAI's: the user's payloads, or made-up prompts, as the JSON that is posted."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perf_client.errors import data_error, usage_error
from perf_client.payload import Request
from perf_client.placement import Placement
from perf_client.profile import LoadProfile
from perf_client.tensors import Tensor
from perf_client.wire import Envelope

PAYLOAD = "payload"
_POOL_REQUESTS = 256
_LONGEST_WORD = 8
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def openai_requests(profile: LoadProfile) -> list[Request]:
    """Each request has one input, its payload, as perf_analyzer names it. Raises LoadError for data that is none."""
    if profile.batch_size != 1:
        raise usage_error(f"an openai service takes one prompt a request; use batch size 1, not {profile.batch_size}")
    match profile.input_data:
        case "random":
            rng = np.random.default_rng([profile.seed, len("prompts")])
            payloads = [_asking(profile, _words(profile.string_length, rng)) for _ in range(_POOL_REQUESTS)]
        case "zero":
            payloads = [_asking(profile, "0")]
        case path:
            paths = (path, *profile.more_input_data)
            payloads = [payload for each in paths for payload in _payloads(Path(each))]
    return [_request(profile, payload) for payload in payloads]


def _request(profile: LoadProfile, payload: dict[str, Any]) -> Request:
    whole = {"model": profile.model, **payload}
    if profile.streaming:
        whole["stream"] = True
    body = msgspec.json.encode(whole)
    return Request({PAYLOAD: Tensor("BYTES", (1,), body)})


def _asking(profile: LoadProfile, prompt: str) -> dict[str, Any]:
    if "chat" in profile.endpoint:
        return {"messages": [{"role": "user", "content": profile.string_data or prompt}]}
    return {"input" if "embedding" in profile.endpoint else "prompt": profile.string_data or prompt}


def _words(length: int, rng: np.random.Generator) -> str:
    letters = rng.choice(_LETTERS, length)
    letters[rng.integers(0, length, length // _LONGEST_WORD)] = " "
    return "".join(letters.tolist())


def _payloads(path: Path) -> list[dict[str, Any]]:
    """``{"data": [{"payload": [{...}]}, ...]}``, as perf_analyzer reads it; the inner list may be left out."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise data_error(f"input data {path} can't be read: {error.strerror}; give an existing file") from None
    except msgspec.DecodeError as error:
        raise data_error(f"input data {path} is not JSON: {error}") from None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise data_error(f"input data {path} must hold an object with a list under 'data'")
    payloads = []
    for index, entry in enumerate(entries):
        payload = entry.get(PAYLOAD) if isinstance(entry, dict) else None
        if isinstance(payload, list) and len(payload) == 1:
            payload = payload[0]
        if not isinstance(payload, dict):
            raise data_error(f"input data {path}: data[{index}] has no object under 'payload'")
        payloads.append(payload)
    return payloads


def openai_request(envelope: Envelope, request: Request, placement: Placement | None = None) -> bytes:
    """A whole HTTP/1.1 request. No openai service takes its input from shared memory."""
    body = request.inputs[PAYLOAD].data
    fields = [
        ("Host", envelope.authority),
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if envelope.streaming else "application/json"),
        ("Content-Length", str(len(body))),
        *envelope.headers,
    ]
    lines = [f"POST /{envelope.endpoint.lstrip('/')} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode() + body
