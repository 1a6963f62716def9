"""Compressed requests, as real servers read them."""

import zlib

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from perf_client.profile import Compression, Concurrency, LoadProfile
from tests.fakes.driven import drive_grpc, drive_scripted, failures
from tests.fakes.grpc_server import echo
from tests.fakes.scripted_http import ScriptedServer, answer_at_once

COMPRESSED = pytest.mark.parametrize("compression", ["gzip", "deflate"])


@COMPRESSED
@pytest.mark.parametrize("elements", [8, 100_000])
def test_a_grpc_server_reads_compressed_messages_and_answers_alike(compression: Compression, elements: int):
    seen: list[tuple[int, str]] = []

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        metadata = dict(context.invocation_metadata())
        seen.append((len(request.raw_input_contents[0]), str(metadata.get("grpc-accept-encoding"))))
        return echo(request, context)

    answers = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.Deflate
    load = LoadProfile(
        model="echo",
        protocol="grpc",
        load=Concurrency(in_flight=3),
        request_count=30,
        shapes={"INPUT0": (elements,)},
        compression=compression,
    )
    assert failures(drive_grpc(load, infer, compression=answers)) == {"": 30}
    assert {size for size, _ in seen} == {4 * elements}


@COMPRESSED
def test_an_http_body_is_compressed_and_the_length_of_its_json_is_not(compression: Compression):
    server = ScriptedServer(answer_at_once)
    load = LoadProfile(
        model="scripted", load=Concurrency(in_flight=1), request_count=5, compression=compression, input_data="zero"
    )
    drive_scripted(server, load)
    assert len(server.log) == 5
    for exchange in server.log:
        fields = dict(line.lower().split(": ", 1) for line in exchange.header.strip().split("\r\n")[1:])
        assert fields["content-encoding"] == fields["accept-encoding"] == compression
        body = zlib.decompress(exchange.body, zlib.MAX_WBITS | 32)
        json_length = int(fields["inference-header-content-length"])
        assert body[:json_length].endswith(b"}")
        assert body[json_length:] == bytes(16)
