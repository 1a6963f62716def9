"""A KServe v2 server that does what its script says, and logs when each request came and when it was answered.

It runs in a process of its own, so that neither it nor the load generator can slow down the other's loop; its log
is in CLOCK_MONOTONIC, like the load generator's columns, so the two can be laid side by side.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

ANSWERED, REFUSED, RESET, SILENT = range(4)
METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "scripted",
    "inputs": [{"name": "IN", "datatype": "FP32", "shape": [4]}],
    "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [1]}],
}
CONFIG = {
    "name": "m",
    "max_batch_size": 0,
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [1]}],
}
ANSWER = {
    "model_name": "m",
    "model_version": "1",
    "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [1], "data": [1.0]}],
}


class Script(msgspec.Struct):
    """``service_s`` is cycled over the requests. ``queue``: one after the other, else all at once.

    Each ``every`` counts requests from 1. At request ``signal_at`` the process named in ``pid_file`` gets
    ``signals`` with a pause between them; at request ``die_at`` the server is gone without a word. Its statistics count
    each request ``others`` times more, as if others sent some, too. For ``freeze_s`` it begins no request,
    ``freeze_at_s`` after the first one came, and again after each ``freeze_every_s``.
    """

    service_s: list[float]
    queue: bool = True
    fail_every: int = 0
    reset_every: int = 0
    silent_every: int = 0
    signal_at: int = 0
    signals: list[int] = []
    pause_s: float = 0.0
    pid_file: str = ""
    die_at: int = 0
    others: int = 0
    freeze_at_s: float = 0.0
    freeze_s: float = 0.0
    freeze_every_s: float = 0.0


@dataclass
class Log:
    """Rows in order of arrival; ``done_ns`` is -1 of a request that got no answer."""

    arrived_ns: "Ints"
    done_ns: "Ints"
    kind: "Ints"

    @property
    def took_ns(self) -> "Ints":
        return (self.done_ns - self.arrived_ns)[self.kind == ANSWERED]


@dataclass
class Server:
    """One run of a script: the policy is in ``due``, the rest is HTTP."""

    script: Script
    arrived: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    free_ns: int = 0

    def infer(self, connection: "Connection") -> None:
        now, row = time.monotonic_ns(), len(self.arrived)
        self.arrived.append(now)
        self.done.append(-1)
        self.kind.append(self._kind(row + 1))
        self._interfere(row + 1)
        service_ns = int(self.script.service_s[row % len(self.script.service_s)] * 1e9)
        begins = self._thawed(max(now, self.free_ns) if self.script.queue else now)
        self.free_ns = begins + service_ns
        loop = asyncio.get_running_loop()
        loop.call_later((begins + service_ns - now) / 1e9, self._end, row, connection)

    def _thawed(self, at_ns: int) -> int:
        """The end of the freeze that this moment lies in, else the moment itself."""
        since_ns = at_ns - self.arrived[0] - int(self.script.freeze_at_s * 1e9)
        if self.script.freeze_every_s and since_ns > 0:
            since_ns %= int(self.script.freeze_every_s * 1e9)
        left_ns = int(self.script.freeze_s * 1e9) - since_ns
        return at_ns + left_ns if since_ns >= 0 and left_ns > 0 else at_ns

    def _kind(self, number: int) -> int:
        script = self.script
        for every, kind in ((script.fail_every, REFUSED), (script.reset_every, RESET), (script.silent_every, SILENT)):
            if every and number % every == 0:
                return kind
        return ANSWERED

    def _interfere(self, number: int) -> None:
        if number == self.script.die_at:
            os._exit(9)
        if number == self.script.signal_at:
            pid = int(Path(self.script.pid_file).read_text())
            loop = asyncio.get_running_loop()
            for turn, sent in enumerate(self.script.signals):
                loop.call_later(turn * self.script.pause_s, os.kill, pid, sent)

    def _end(self, row: int, connection: "Connection") -> None:
        kind = self.kind[row]
        if kind == SILENT or connection.transport.is_closing():
            return
        self.done[row] = time.monotonic_ns()
        if kind == RESET:
            connection.transport.abort()
        elif kind == REFUSED:
            connection.answer({"error": "scripted failure"}, "500 Internal Server Error")
        else:
            connection.answer(ANSWER)

    def statistics(self) -> dict[str, object]:
        answered = [row for row, kind in enumerate(self.kind) if kind == ANSWERED and self.done[row] > 0]
        took = sum(self.done[row] - self.arrived[row] for row in answered)
        count = len(answered) * (1 + self.script.others)
        each = {"count": count, "ns": took}
        stats = {"success": each, "fail": {"count": 0, "ns": 0}, "queue": {"count": count, "ns": 0}}
        nothing = {"count": count, "ns": 0}
        stats |= {"compute_input": nothing, "compute_infer": each, "compute_output": nothing}
        model = {"name": "m", "version": "1", "inference_count": count, "execution_count": count}
        return {"model_stats": [model | {"inference_stats": stats}]}

    def metrics(self) -> str:
        under_way = sum(done < 0 for done in self.done)
        return (
            "# TYPE nv_inference_count counter\n"
            f'nv_inference_count{{model="m",version="1"}} {len(self.done) - under_way}\n'
            "# TYPE nv_gpu_power_usage gauge\n"
            'nv_gpu_power_usage{gpu_uuid="GPU-1"} 66.5\n'
            "# TYPE scripted_under_way gauge\n"
            f"scripted_under_way {under_way}\n"
        )


class Connection(asyncio.Protocol):
    """As much of HTTP/1.1 as the load generator speaks."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1").lower()
            length = int(head.partition("\r\ncontent-length:")[2].split("\r\n")[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._route(head.split(" ")[1])

    def _route(self, path: str) -> None:
        if path.endswith("/infer"):
            self._server.infer(self)
        elif path.endswith("/stats"):
            self.answer(self._server.statistics())
        elif path.endswith("/config"):
            self.answer(CONFIG)
        elif path.startswith("/v2/models/m"):
            self.answer(METADATA)
        elif path == "/metrics":
            self._send("200 OK", "text/plain", self._server.metrics().encode())
        elif path == "/v2":
            self.answer({"name": "scripted", "version": "1", "extensions": ["statistics"]})
        elif path.startswith("/v2/health"):
            self.answer({})
        else:
            self.answer({"error": f"no such page: {path}"}, "404 Not Found")

    def answer(self, body: object, status: str = "200 OK") -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: str, kind: str, content: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        self.transport.write(head.encode() + content)


async def serve(script: Script, log: Path) -> None:
    loop, server = asyncio.get_running_loop(), Server(script)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    sys.stdout.write(f"{listening.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()
    log.write_text(json.dumps([server.arrived, server.done, server.kind]))


@dataclass
class Running:
    """The server while it runs, as its test sees it."""

    url: str
    process: subprocess.Popen[str]
    log_file: Path

    def answered_count(self) -> int:
        """Inferences up to now, by its own statistics."""
        with urlopen(f"http://{self.url}/v2/models/m/stats", timeout=10) as answer:
            return int(json.load(answer)["model_stats"][0]["inference_count"])

    def stop(self) -> Log:
        self.process.terminate()
        self.process.wait(30)
        import numpy as np  # the server itself starts faster without it

        return Log(*(np.array(rows, dtype=np.int64) for rows in json.loads(self.log_file.read_text())))


@contextmanager
def running(script: Script, folder: Path) -> Iterator[Running]:
    log = folder / "server.json"
    text = msgspec.json.encode(script).decode()
    command = [sys.executable, "-m", "tests.fakes.scripted_server", text, str(log)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            yield Running(f"127.0.0.1:{port}", process, log)
        finally:
            process.kill()


def main(argv: Sequence[str]) -> None:
    asyncio.run(serve(msgspec.json.decode(argv[0], type=Script), Path(argv[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
