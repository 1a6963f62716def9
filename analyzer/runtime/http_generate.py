"""HTTP routes of the generate extension: one answer as JSON, or each answer of the model as a server-sent event."""

import time
from functools import partial

from analyzer.runtime.generate import EVENTS, OneAnswer, decode_generate, encode_generate, event
from analyzer.runtime.http_exchange import Exchange
from analyzer.runtime.http_message import Head, decompressed
from analyzer.runtime.intake import Intake
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Reply
from analyzer.runtime.tracing import Tracing
from analyzer.runtime.wire import Buffer
from analyzer.runtime.wire_json import error_body


class GenerateRoutes:
    def __init__(self, store: ModelStore, intake: Intake, body_limit_bytes: int, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing
        self._intake = intake
        self._limit_bytes = body_limit_bytes

    def generate(self, exchange: Exchange, head: Head, body: Buffer, model: str, version: str) -> None:
        request = self._decoded(head, body, model, version)
        self._submit(exchange, request, partial(self._answer, exchange, OneAnswer()))

    def generate_stream(self, exchange: Exchange, head: Head, body: Buffer, model: str, version: str) -> None:
        request = self._decoded(head, body, model, version)
        self._submit(exchange, request, partial(self._answer_event, exchange))

    def _submit(self, exchange: Exchange, request: InferRequest, reply: Reply) -> None:
        if self._tracing.is_on:
            self._tracing.submit(self._intake.submit, "HTTP", request, reply, exchange.begun_ns)
        else:
            self._intake.submit(request, reply)
        exchange.request = request

    def _decoded(self, head: Head, body: Buffer, model: str, version: str) -> InferRequest:
        arrival_ns = time.monotonic_ns()
        self._intake.check()
        if head.encoding:
            body = decompressed(body, head.encoding, self._limit_bytes)
        return decode_generate(self._store.signature(model, version), version, bytes(body), arrival_ns)

    def _answer(self, exchange: Exchange, kept: OneAnswer, response: InferResponse | InferError) -> None:
        answer = kept.add(response)
        try:
            if isinstance(answer, InferError):
                exchange.fail(answer)
            elif answer is not None:
                exchange.answer([self._encoded(answer)])
        except InferError as error:
            exchange.fail(error)

    def _answer_event(self, exchange: Exchange, response: InferResponse | InferError) -> None:
        if isinstance(response, InferError):
            self._end_with(exchange, response)
            return
        try:
            if response.outputs:
                exchange.send(event(self._encoded(response)), EVENTS)
            if response.final:
                exchange.end(EVENTS)
        except InferError as error:
            self._end_with(exchange, error)

    def _end_with(self, exchange: Exchange, error: InferError) -> None:
        exchange.send(event(error_body(error.message)), EVENTS, error.kind.value[0])
        exchange.end(EVENTS)

    def _encoded(self, response: InferResponse) -> bytes:
        return encode_generate(response, self._store.signature(response.model, response.version))
