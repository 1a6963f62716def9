"""Every request of a run encoded before the clock starts, and the transport that carries them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

from perf_client.errors import usage_error
from perf_client.lanes import LanedTransport
from perf_client.loads import Sequences
from perf_client.mix import MixLane
from perf_client.openai_requests import openai_request
from perf_client.payload import Request
from perf_client.placement import Placement
from perf_client.profile import LoadProfile
from perf_client.sequences import (
    MARKS,
    FromPool,
    FromStream,
    Lengths,
    Mark,
    SequenceLane,
    Steps,
    fill_grpc,
    fill_http,
    sequence_ids,
)
from perf_client.shared_tensors import Placed
from perf_client.target import Target
from perf_client.transports.base import Clock, Transport
from perf_client.validation import checking, filling
from perf_client.wire import Envelope, grpc_infer_request, http_infer_request

if TYPE_CHECKING:
    from perf_client.in_process import Runtime

STREAMS_PER_CONNECTION = 8
"""gRPC streams that share a connection."""


def make_transport(
    profile: LoadProfile,
    target: Target,
    first: Placed,
    others: Sequence[Sequence[Request]],
    *,
    drawn: Iterator[int],
    clock: Clock,
    runtime: "Runtime | None" = None,
) -> Transport:
    """``others`` are the requests of further models that share the load, ``drawn`` to which each request goes."""
    pools, placements = [first.requests, *others], first.placements
    encode: Callable[..., Any]
    fill: Callable[[Any, int], Any]
    encode, fill = (http_infer_request, fill_http) if target.protocol == "http" else (grpc_infer_request, fill_grpc)
    if profile.service == "openai":
        encode = openai_request
    if runtime is not None:
        from perf_client.in_process import preparing

        encode = preparing(runtime)
    envelope = Envelope.of(profile, target)
    checked = any(request.expected for pool in pools for request in pool)
    if runtime is not None and (checked or profile.sequences is not None):
        raise usage_error("in_process neither compares answers nor sends sequences; use a server and -u")
    if checked:
        _check_answers(profile, pools)
        encode, fill = checking(encode), filling(fill)

    def carry(requests: Iterator[Any]) -> Transport:
        if runtime is not None:
            from perf_client.transports.in_process import InProcessTransport

            return InProcessTransport(runtime, requests, clock, several_answers=profile.streaming)
        if profile.service == "openai":
            return _events(target, requests, clock)
        if profile.streaming:
            return _streams(target, requests, clock, checked)
        return _carrier(target, requests, clock, checked)

    if profile.mix:
        own = [replace(envelope, model=share.model, version=share.version) for share in profile.mix]
        made = [cycle([encode(one, request) for request in pool]) for one, pool in zip(own, pools)]
        return LanedTransport(carry, lambda: MixLane(made, drawn))
    if profile.sequences is not None:

        def marked(request: Request, placement: Placement | None) -> dict[Mark, Any]:
            return {
                mark: encode(envelope, replace(request, parameters=request.parameters | mark.parameters()), placement)
                for mark in MARKS
            }

        steps = [marked(*each) for each in zip(pools[0], placements)]
        return LanedTransport(carry, _sequence_lanes(profile, profile.sequences, pools[0], steps, fill))
    return carry(cycle([encode(envelope, *each) for each in zip(pools[0], placements)]))


def _check_answers(profile: LoadProfile, pools: Sequence[Sequence[Request]]) -> None:
    if not profile.streaming and any(len(request.expected) > 1 for pool in pools for request in pool):
        raise usage_error(
            "validation_data lists several answers to a request, but only streams bring several; use -i grpc "
            "--streaming, or give one object for each entry of data"
        )


def _events(target: Target, requests: Iterator[Any], clock: Clock) -> Transport:
    from perf_client.transports.events import OpenAiConnection
    from perf_client.transports.http import HttpTransport

    return HttpTransport(target, requests, clock, OpenAiConnection)


def _streams(target: Target, requests: Iterator[Any], clock: Clock, checked: bool) -> Transport:
    from perf_client.transports.checked_grpc import CheckedStreamConnection
    from perf_client.transports.grpc import GrpcTransport
    from perf_client.transports.grpc_stream import StreamConnection

    connection = CheckedStreamConnection if checked else StreamConnection
    return GrpcTransport(target, requests, clock, STREAMS_PER_CONNECTION, connection)


def _carrier(target: Target, requests: Iterator[Any], clock: Clock, checked: bool) -> Transport:
    """``checked``: the requests are CheckedRequests, whose answers are compared with what they expect."""
    match target.protocol:
        case "http":
            from perf_client.transports.checked_http import CheckedHttpConnection
            from perf_client.transports.http import HttpConnection, HttpTransport

            return HttpTransport(target, requests, clock, CheckedHttpConnection if checked else HttpConnection)
        case "grpc":
            from perf_client.transports.checked_grpc import CheckedGrpcConnection
            from perf_client.transports.grpc import GrpcTransport
            from perf_client.transports.grpc_connection import GrpcConnection

            connection = CheckedGrpcConnection if checked else GrpcConnection
            return GrpcTransport(target, requests, clock, STREAMS_PER_CONNECTION, connection)


def _sequence_lanes(
    profile: LoadProfile,
    asked: Sequences,
    requests: Sequence[Request],
    steps: Sequence[dict[Mark, Any]],
    fill: Callable[[Any, int], Any],
) -> Callable[[], SequenceLane[Any]]:
    data: list[Steps[Any]] = [FromPool(steps)]
    if profile.input_data not in ("random", "zero"):
        streams: dict[int, list[dict[Mark, Any]]] = {}
        for request, step in zip(requests, steps):
            streams.setdefault(request.stream, []).append(step)
        data = [FromStream(entries) for entries in streams.values()]
    turns, ids, lengths = cycle(data), sequence_ids(asked), Lengths(asked, profile.seed)
    return lambda: SequenceLane(turns, fill, ids, lengths)
