"""The server, seen from the process of a model: answers and questions go out, replies come in on their own socket."""

import itertools
import socket
import threading
from collections import deque
from typing import Any

from analyzer.runtime.answered import Answered
from analyzer.runtime.backends.pb_request import InferenceRequest
from analyzer.runtime.backends.pb_server import Arriving
from analyzer.runtime.backends.pb_tensor import wire_form
from analyzer.runtime.backends.pb_utils import TritonError, TritonModelException
from analyzer.runtime.backends.python_arena import Arena, Window
from analyzer.runtime.backends.python_frames import CALL, SENT, Frame, FrameReader, encode, pack, unpack

_RECEIVE_BYTES = 1 << 16
_SERVER_GONE = (False, (TritonError.UNAVAILABLE, "the server has ended")), True


class Channel:
    """Used from any thread. A thread that reads replies is started by the first question."""

    def __init__(self, work: socket.socket, replies: socket.socket, inputs: int, outputs: int) -> None:
        self.window = Window(inputs)
        self._work = work
        self._replies = replies
        self._arena = Arena(outputs)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[int, Arriving] = {}
        self._abandoned: deque[int] = deque()
        self._is_reading = False

    def send(self, *frame: Any) -> None:
        with self._lock:
            self._work.sendall(encode(frame))

    def give_back(self, offsets: list[int]) -> None:
        """Places whose arrays the server has read."""
        with self._lock:
            self._arena.give_back(offsets)

    def send_answers(self, kind: int, head: tuple[int, ...], answers: Any) -> None:
        """Answers of a whole execution; text where all of it failed, None where they come by themselves."""
        self._tell_abandoned()
        with self._lock:
            try:
                packed = [self._packed(given) for given in answers] if isinstance(answers, list) else answers
            except (OSError, ValueError) as error:
                packed = f"the outputs could not be handed over: {type(error).__name__}: {error}"
            self._work.sendall(encode((kind, *head, packed, self.window.unread())))

    def send_answer(self, number: int, index: int, given: Any, *, final: bool, acknowledged: bool) -> Arriving | None:
        """One answer of a decoupled model. ``acknowledged``: the server replies when there is room for more."""
        self._tell_abandoned()
        arriving, call = self._opened() if acknowledged else (None, 0)
        with self._lock:
            packed = None if given is None else self._packed(given)
            self._work.sendall(encode((SENT, number, index, packed, final, call, self.window.unread())))
        return arriving

    def call(self, operation: str, *arguments: Any) -> Arriving:
        arriving, number = self._opened()
        self._send_call(number, operation, arguments)
        return arriving

    def tell(self, operation: str, *arguments: Any) -> None:
        self._send_call(0, operation, arguments)

    def abandon(self, number: int) -> None:
        self._abandoned.append(number)

    def _tell_abandoned(self) -> None:
        while self._abandoned:
            self.tell("cancel", self._abandoned.popleft())

    def _send_call(self, number: int, operation: str, arguments: tuple[Any, ...]) -> None:
        with self._lock:
            if operation == "infer":
                request, decoupled = arguments
                arguments = (self._packed_request(request), bool(decoupled))
            try:
                data = encode((CALL, number, operation, arguments, self.window.unread()))
            except ValueError as error:
                raise TritonModelException(f"the arguments of {operation} can't be sent: {error}") from None
            self._work.sendall(data)

    def _packed_request(self, request: InferenceRequest) -> Frame:
        for tensor in request.inputs():
            if not hasattr(tensor, "array"):
                raise TritonModelException(f"an input must be a Tensor, not {type(tensor).__name__}")
        inputs = [pack(tensor.name(), wire_form(tensor.array), self._arena) for tensor in request.inputs()]
        return (
            request.request_id(),
            request.correlation_id(),
            request.flags(),
            request.timeout(),
            dict(request._parameters or {}),
            tuple(request.requested_output_names()),
            inputs,
            request.model_name(),
            request.model_version(),
        )

    def _packed(self, given: Any) -> Any:
        if isinstance(given, TritonError):
            return (int(given.code()), str(given.message()))
        if isinstance(given, Answered):
            return {"outputs": self._packed(given.outputs), "parameters": given.parameters}
        return [pack(name, array, self._arena) for name, array in given.items()]

    def _opened(self) -> tuple[Arriving, int]:
        number = next(self._numbers)
        arriving = Arriving(number)
        self._open[number] = arriving
        with self._lock:
            if not self._is_reading:
                self._is_reading = True
                threading.Thread(target=self._read, name="replies", daemon=True).start()
        return arriving, number

    def _read(self) -> None:
        """Replies until the server is gone; then whoever still waits is told."""
        reader = FrameReader()
        while data := self._replies.recv(_RECEIVE_BYTES):
            for number, succeeded, value, final, freed in reader.feed(data):
                if freed:
                    self.give_back(freed)
                arriving = self._open.pop(number, None) if final else self._open.get(number)
                if arriving is not None:
                    arriving.put(((succeeded, self._unpacked(value) if succeeded else value), final))
        while self._open:
            self._open.popitem()[1].put(_SERVER_GONE)

    def _unpacked(self, value: Any) -> Any:
        """The answer of an inference is (tensors, parameters), any other is plain."""
        if type(value) is not tuple:
            return value
        tensors, parameters = value
        return [(packed[0], unpack(packed, self.window)) for packed in tensors], parameters
