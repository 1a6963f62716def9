"""The process of one instance of a ``model.py``: started by the server, it executes what comes over its socket.

Run as ``python -m analyzer.runtime.backends.python_child WORK REPLIES INPUTS OUTPUTS PARENT``: two sockets and two
pieces of shared memory (all by their numbers) and the process id of the server. It imports little, so that instances
start quickly.
"""

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from time import monotonic_ns
from typing import Any

from analyzer.runtime.backends import pb_server
from analyzer.runtime.backends.pb_request import InferenceRequest, InferenceResponse, InferenceResponseSender
from analyzer.runtime.backends.pb_tensor import Tensor
from analyzer.runtime.backends.pb_utils import Logger, TritonError
from analyzer.runtime.backends.python_channel import Channel
from analyzer.runtime.backends.python_frames import DONE, FAILED, READY, START, Frame, FrameReader, unpack
from analyzer.runtime.backends.python_model import Gathering, Script, ScriptError, Task, complete_config, describe
from analyzer.runtime.backends.python_stream import Background, Outgoing

_RECEIVE_BYTES = 1 << 18
_PR_SET_PDEATHSIG = 1


def main() -> None:
    work, replies, inputs, outputs, parent = map(int, sys.argv[1:6])
    sys.argv[1:] = []
    _end_with(parent)
    _restore_path()
    # Who stops a whole group of processes means the server, which then closes its models in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    socket_in = socket.socket(fileno=work)
    channel = Channel(socket_in, socket.socket(fileno=replies), inputs, outputs)
    pb_server.connect(channel)
    frames = _frames(socket_in)
    try:
        start = next(frames)
    except StopIteration:
        return
    kind, what, config = start
    assert kind == START
    task = Task(**what)
    try:
        if config is not None:
            channel.send(READY, complete_config(task, config, alone=True))
            return
        script = Script(task, alone=True)
    except ScriptError as error:
        traceback.print_exception(error.__cause__)
        channel.send(FAILED, str(error))
        return
    channel.send(READY, "")
    gc.collect()
    gc.freeze()
    _serve(frames, _Executor(task, script, channel))
    _close(task, script)


def _frames(work: socket.socket) -> Iterator[Frame]:
    """Ends when the server wants no more, or is gone."""
    reader = FrameReader()
    while data := work.recv(_RECEIVE_BYTES):
        yield from reader.feed(data)


def _serve(frames: Iterator[Frame], executor: "_Executor") -> None:
    for frame in frames:
        executor.execute(frame)
        del frame  # an idle process must not hold the last request's tensors


def _close(task: Task, script: Script) -> None:
    try:
        script.close()
    except (Exception, SystemExit) as error:
        Logger.log_warn(f"model instance '{task.instance}' failed in finalize: {describe(error)}")


class _Executor:
    def __init__(self, task: Task, script: Script, channel: Channel) -> None:
        self._task = task
        self._script = script
        self._channel = channel
        self._has_failed = False
        self._background = Background()

    def execute(self, frame: Frame) -> None:
        """Executes one batch and says how it went."""
        start_ns = monotonic_ns()
        _, number, freed, packed = frame
        if freed:
            self._channel.give_back(freed)
        turn = _Turn(self._script, self._channel, number)
        turn.requests = [self._request(turn, index, given) for index, given in enumerate(packed)]
        input_end_ns = monotonic_ns()
        infer_end_ns = 0
        answers: Any
        try:
            returned = self._script.execute(turn.requests)
            if self._task.is_decoupled:
                self._leave_to_senders(turn, returned)
                infer_end_ns = monotonic_ns()
                answers = None
            else:
                if hasattr(returned, "__await__"):
                    returned = self._background.run(returned)
                infer_end_ns = monotonic_ns()
                answers = turn.answers(returned)
        except (Exception, SystemExit) as error:
            infer_end_ns = infer_end_ns or monotonic_ns()
            answers = self._failure(error)
        self._channel.send_answers(DONE, (number, start_ns, input_end_ns, infer_end_ns), answers)

    def _leave_to_senders(self, turn: "_Turn", returned: Any) -> None:
        if hasattr(returned, "__await__"):
            self._background.start(returned, partial(self._fail_turn, turn))
        elif returned is not None:
            raise TypeError("execute of a decoupled model must return None, its answers go through response senders")

    def _fail_turn(self, turn: "_Turn", error: BaseException) -> None:
        """An ``async def execute`` of a decoupled model that failed, maybe after it had answered."""
        message = self._failure(error)
        for index in range(len(turn.requests)):
            turn.outgoing(index).fail(TritonError(message))

    def _failure(self, error: BaseException) -> str:
        """The first failure with its traceback in the log; the rest are only counted, as they may come every time."""
        message = f"model instance '{self._task.instance}' failed: {describe(error)}"
        if not self._has_failed:
            self._has_failed = True
            text = "".join(traceback.format_exception(error))
            Logger.log_warn(f"{message}; later failures are only counted\n{text}")
        return message

    def _request(self, turn: "_Turn", index: int, given: Any) -> InferenceRequest:
        identity, correlation, flags, timeout, parameters, requested, tensors = given
        task, window = self._task, self._channel.window
        return InferenceRequest(
            identity,
            correlation,
            [Tensor.received(packed[0], unpack(packed, window)) for packed in tensors],
            requested or self._script.output_names,
            task.model,
            task.version,
            flags,
            timeout,
            None,
            None,
            parameters,
            sender=partial(turn.sender, index),
        )


class _Turn:
    """One execution, and the response senders of its requests."""

    __slots__ = ("_channel", "_gathering", "_number", "_outgoing", "_script", "requests")

    def __init__(self, script: Script, channel: Channel, number: int) -> None:
        self._script = script
        self._channel = channel
        self._number = number
        self._gathering: Gathering | None = None
        self._outgoing: dict[int, Outgoing] = {}
        self.requests: list[InferenceRequest] = []

    def sender(self, index: int) -> InferenceResponseSender:
        asks = partial(self._is_cancelled, index)
        if self._script.is_decoupled:
            return InferenceResponseSender(self.outgoing(index).send, asks)
        if self._gathering is None:
            self._gathering = Gathering(self._script, self.requests)
        return self._gathering.sender(index, asks)

    def outgoing(self, index: int) -> Outgoing:
        # One for a request, however often the model asks for its sender; setdefault, since any thread may ask.
        found = self._outgoing.get(index)
        if found is None:
            made = Outgoing(self._channel, self._number, index, partial(self._given, index))
            found = self._outgoing.setdefault(index, made)
        return found

    def answers(self, returned: Any) -> Any:
        if self._gathering is None:
            return self._script.check(self.requests, returned)
        return self._gathering.answers(returned)

    def _given(self, index: int, response: InferenceResponse) -> Any:
        return self._script.given(self.requests[index], response)

    def _is_cancelled(self, index: int) -> bool:
        (succeeded, value), _ = self._channel.call("cancelled", self._number, index).next().result()
        return bool(succeeded and value)


def _end_with(parent: int) -> None:
    """Has the kernel kill this process when the server ends, however it does."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was in place
        os._exit(1)


def _restore_path() -> None:
    """What this process was found by is not for the programs that a model starts."""
    _, _, rest = os.environ.pop("PYTHONPATH", "").partition(os.pathsep)
    if rest:
        os.environ["PYTHONPATH"] = rest


if __name__ == "__main__":
    main()
