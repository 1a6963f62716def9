"""Requests picked for tracing, and their traces on the way to files; nothing of it runs while it is off."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from time import monotonic_ns

import msgspec

from analyzer.runtime.request import InferError, InferRequest, InferResponse, Reply
from analyzer.runtime.signature import Signature
from analyzer.runtime.trace_file import TraceFile
from analyzer.runtime.trace_settings import TraceScopes, TraceSetting, read_changes, told
from analyzer.runtime.traces import Trace
from analyzer.runtime.wire import invalid

_COLLECTED = 256
"""Traces that wait in memory for a file that is written as a whole: Triton holds all until its end."""
_RECEIVED = {"HTTP": ("HTTP_RECV_START", "HTTP_RECV_END"), "GRPC": ("GRPC_WAITREAD_START", "GRPC_WAITREAD_END")}

_encode = msgspec.json.Encoder().encode
Submit = Callable[[InferRequest, Reply], None]
Describe = Callable[[str, str], Signature]
"""Model and version to its signature. Raises InferError."""


class _Stream:
    """The traces of one setting, from its first request until another setting is in its place."""

    def __init__(self, setting: TraceSetting, file: TraceFile) -> None:
        self.setting = setting
        self.left = setting.count
        self._file = file
        self._seen = 0
        self._open = 0
        self._is_over = False
        self._collected: list[Trace] = []

    def takes_next(self) -> bool:
        if not self.setting.levels or self.left == 0:
            return False
        self._seen += 1
        if self._seen % self.setting.rate:
            return False
        self.left -= self.left > 0
        self._open += 1
        return True

    def finish(self, trace: Trace | None) -> None:
        """None: the request was refused."""
        self._open -= 1
        if trace is not None:
            self._collected.append(trace)
        frequency, waiting = self.setting.frequency, len(self._collected)
        if (self.left == 0 and not self._open) or (frequency and waiting >= frequency):
            self._write(in_part=True)
        elif self._is_over or (not frequency and waiting >= _COLLECTED):
            self._write(in_part=bool(frequency))

    def end(self) -> None:
        """What is collected is written now, and what is under way as it ends."""
        self._is_over = True
        self._write(in_part=bool(self.setting.frequency))

    def _write(self, *, in_part: bool) -> None:
        if self._collected:
            entries = b",".join(_encode(entry) for trace in self._collected for entry in trace.entries())
            self._collected.clear()
            write = self._file.write_part if in_part else self._file.append
            write(entries)


class Tracing:
    """Settings and traces of a server. ``is_on`` is looked at for each request, all else only while it is true."""

    def __init__(
        self, describe: Describe, knows: Callable[[str], bool], start: TraceSetting | None = None, file: str = ""
    ) -> None:
        self.is_on = False
        self._describe = describe
        self._knows = knows
        self._file = TraceFile(file)
        self._scopes = TraceScopes(start or TraceSetting(), has_file=bool(file))
        self._numbers = count(1)
        self._streams = {"": _Stream(self._scopes.setting(), self._file)}
        self._look()

    def settings(self, model: str = "") -> dict[str, str | list[str]]:
        """As the protocol tells them; ``trace_count`` is what is left of it. Raises InferError."""
        self._check(model)
        stream = self._streams.get(model) or self._streams[""]
        return told(msgspec.structs.replace(stream.setting, count=stream.left), self._file.path)

    def change(self, wanted: Mapping[str, object], model: str = "") -> None:
        """None for a value takes back what was set. All or nothing. Raises InferError."""
        self._check(model)
        changes = read_changes(wanted)
        if changes:
            self._scopes.change(model, changes)
            self._renew(model)

    def _check(self, model: str) -> None:
        if model and not self._knows(model):
            raise invalid(f"Request for unknown model : {model}")

    def _renew(self, changed: str) -> None:
        """A stream whose setting is another ends. One that was changed begins to count anew, though it be the same."""
        for name in dict.fromkeys(("", *self._scopes.models, *self._streams)):
            setting, old = self._scopes.setting(name), self._streams.get(name)
            if name and name not in self._scopes.models:
                del self._streams[name]
            elif old is None or name == changed or old.setting != setting:
                self._streams[name] = _Stream(setting, self._file)
            else:
                continue
            if old is not None:
                old.end()
        self._look()

    def _look(self) -> None:
        self.is_on = any(stream.setting.is_on for stream in self._streams.values())

    def submit(self, submit: Submit, protocol: str, request: InferRequest, reply: Reply, begun_ns: int = 0) -> None:
        """Submits a request, traced if it is its turn. ``begun_ns``: when the first of it came; 0: all at once."""
        stream = self._streams.get(request.model) or self._streams[""]
        if not self._knows(request.model) or not stream.takes_next():
            submit(request, reply)
            return
        try:
            signature = self._describe(request.model, request.version)
            trace = Trace(self._numbers, stream.setting.levels, signature, request)
            first, last = _RECEIVED[protocol]
            trace.stamp(first, begun_ns or request.arrival_ns)
            trace.stamp(last, request.arrival_ns)
            trace.stamp("REQUEST_START", monotonic_ns())
            request.account = trace
            submit(request, partial(self._on_answer, stream, trace, protocol, reply))
        except BaseException:
            stream.finish(None)
            raise

    def _on_answer(
        self, stream: _Stream, trace: Trace, protocol: str, reply: Reply, answer: InferResponse | InferError
    ) -> None:
        is_last = isinstance(answer, InferError) or answer.final
        trace.answered(answer)
        trace.stamp(f"{protocol}_SEND_START", monotonic_ns())
        try:
            reply(answer)
        finally:
            trace.stamp(f"{protocol}_SEND_END", monotonic_ns())
            if is_last:
                stream.finish(trace)

    def close(self) -> None:
        """Writes what is collected; the server ends."""
        for stream in self._streams.values():
            stream.end()
