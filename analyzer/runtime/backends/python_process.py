"""One process of a model, from the server's side: started, spoken to over its sockets, told of when it ends."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from analyzer.runtime.backends.python_arena import Arena, Window, make_memory
from analyzer.runtime.backends.python_frames import Frame, FrameReader, encode

log = logging.getLogger(__name__)

_ROOT = str(Path(__file__).resolve().parents[3])
_STDERR = 2
_MODULE = "analyzer.runtime.backends.python_child"


class Listener(Protocol):
    """Who hears of what a process says and does, on the event loop's thread."""

    def on_frame(self, frame: Frame) -> None: ...

    def on_end(self, how: str) -> None:
        """The process is gone, and all that it said was heard."""
        ...


class ModelProcess:
    """A process that was started; ``connect`` makes it heard. Used on the event loop's thread only."""

    def __init__(self, name: str, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        """Starts it. Raises OSError where the system refuses to."""
        self._name = name
        self._listener = listener
        self._loop = loop
        self._memories = make_memory(f"{name} inputs"), make_memory(f"{name} outputs")
        self._ours, theirs = zip(socket.socketpair(), socket.socketpair())
        try:
            self._process = _spawn((*(end.fileno() for end in theirs), *self._memories))
        except BaseException:
            self._close_ends()
            raise
        finally:
            for end in theirs:
                end.close()
        self.arena = Arena(self._memories[0])
        self.window = Window(self._memories[1])
        self.ended: asyncio.Future[None] = loop.create_future()
        self._work: asyncio.WriteTransport | None = None
        self._replies: asyncio.WriteTransport | None = None
        self._cause = ""
        self._is_deaf = False  # its socket is at the end
        self._how = ""
        threading.Thread(target=self._await_end, name=f"end of {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def connect(self) -> None:
        work, replies = self._ours
        self._work, _ = await self._loop.create_unix_connection(lambda: _Wire(self._hear, self._go_deaf), sock=work)
        self._replies, _ = await self._loop.create_unix_connection(asyncio.Protocol, sock=replies)

    def send(self, frame: Frame) -> None:
        if self._work is not None:
            self._work.write(encode(frame))

    def reply(self, call: int, succeeded: bool, value: Any, *, final: bool = True) -> None:
        """The answer to a question; number 0 is for those that nobody asked to have answered."""
        if call and self._replies is not None and not self._replies.is_closing():
            self._replies.write(encode((call, succeeded, value, final, self.window.unread())))

    def finish(self) -> None:
        """Has it end when it has executed what it was sent."""
        if self._work is not None and not self._work.is_closing():
            self._work.write_eof()

    def kill(self, cause: str = "") -> None:
        """Ends it now, and what it started. ``cause`` is told instead of the signal."""
        self._cause = self._cause or cause
        if not self._how:
            _kill_group(self._process.pid)

    def _hear(self, frame: Frame) -> None:
        if not self._cause:  # what is to be killed has nothing more to say
            self._listener.on_frame(frame)

    def _go_deaf(self, broken: str) -> None:
        self._is_deaf = True
        if broken:
            self.kill(f"ended because what it sent made no sense ({broken})")
        self._end_if_over()

    def _await_end(self) -> None:
        """In a thread of its own."""
        pid = self._process.pid
        # It stays a zombie until its children are killed too: its number can't become another group's meanwhile.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        _kill_group(pid)
        code = self._process.wait()
        with suppress(RuntimeError):  # the loop was closed before
            self._loop.call_soon_threadsafe(
                self._on_exit, f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            )

    def _on_exit(self, how: str) -> None:
        self._how = how
        if self._work is None:
            self._is_deaf = True  # it was never connected
        self._end_if_over()

    def _end_if_over(self) -> None:
        if not (self._how and self._is_deaf) or self.ended.done():
            return
        for transport in (self._work, self._replies):
            if transport is not None:
                transport.abort()
        self._close_ends()
        self.ended.set_result(None)
        self._listener.on_end(self._cause or self._how)

    def _close_ends(self) -> None:
        for end in self._ours:
            end.close()
        for fd in self._memories:
            os.close(fd)


class _Wire(asyncio.Protocol):
    def __init__(self, hear: Any, go_deaf: Any) -> None:
        self._hear = hear
        self._go_deaf = go_deaf
        self._reader = FrameReader()
        self._broken = ""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._hear(frame)
        except Exception as error:  # a model can write to its socket what it likes
            log.warning("a model's process sent what can't be used", exc_info=True)
            self._broken = f"{type(error).__name__}: {error}"
            if self._transport is not None:
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._go_deaf(self._broken)


def _spawn(fds: tuple[int, ...]) -> "subprocess.Popen[bytes]":
    known = os.environ.get("PYTHONPATH", "")
    # It gets a group of its own: what is typed at the server's terminal is for the server.
    return subprocess.Popen(
        [sys.executable, "-u", "-P", "-m", _MODULE, *map(str, fds), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        pass_fds=fds,
        process_group=0,
        env={**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{known}"},
    )


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
