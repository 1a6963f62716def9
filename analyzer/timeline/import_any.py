"""A capture of any known producer to a Timeline: its content says what it is, not its name."""

import json
import re
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from analyzer.errors import ChildError, InputError, MissingExtraError
from analyzer.timeline import (
    archive,
    import_kineto,
    import_nsight,
    import_onnxruntime,
    import_triton_trace,
    nsight_lines,
)
from analyzer.timeline.chrome_json import TraceReader, peeked
from analyzer.timeline.json_slices import GZIP_MAGIC, chunks
from analyzer.timeline.table import Timeline

_SQLITE_MAGIC = b"SQLite format 3\0"
_ZIP_MAGIC = b"PK"
_REPORT_SUFFIXES = (".nsys-rep", ".qdrep")
_VERSION = re.compile(rb"(?<![\d.])(20[12]\d\.\d{1,2}\.\d{1,2}(?:\.\d+)*)(?![\d.])")
_VERSION_SEARCH_BYTES = 1 << 20
_EXPORT_LIMIT_S = 1800


def read(path: Path) -> Timeline:
    """Read a capture, or say in one sentence why it can't be read and what to do."""
    head = _head(path)
    if head.startswith(_SQLITE_MAGIC):
        return import_nsight.read(path)
    if head.startswith(_ZIP_MAGIC):
        return archive.load(path)
    if path.suffix in _REPORT_SUFFIXES:
        return _read_report(path)
    if _is_json_lines(head):
        return _read_json_lines(path)
    if head.startswith(GZIP_MAGIC) or head.lstrip()[:1] in (b"{", b"["):
        return _read_trace(path)
    raise InputError(
        f"{path} is no capture that is known; give an Nsight Systems report or its SQLite export, a Chrome trace as "
        "PyTorch writes it, an ONNX Runtime profile, a trace file of Triton, or a .timeline file"
    )


def _read_trace(path: Path) -> Timeline:
    if import_triton_trace.is_trace(next(chunks(path), b"")):
        return import_triton_trace.read(path)
    reader = TraceReader(path)
    first, slices = peeked(iter(reader))
    if first is not None and import_onnxruntime.is_profile(reader, first):
        return import_onnxruntime.from_slices(reader, slices)
    return import_kineto.from_slices(reader, slices)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None
    if not head:
        raise InputError(f"{path} is empty; capture again")
    return head


def _read_report(path: Path) -> Timeline:
    """Only Nsight Systems reads its own reports: have it export one."""
    nsys = shutil.which("nsys")
    if nsys is None:
        version = _report_version(path)
        made_by = f", made by Nsight Systems {version}," if version else ""
        raise MissingExtraError(
            f"{path}{made_by} can only be read by Nsight Systems itself, and nsys is not on PATH; "
            f"run 'nsys export --type sqlite {path.name}' where it is installed and give the .sqlite file"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export.sqlite"
        command = [nsys, "export", "--type", "sqlite", "--output", str(out), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_EXPORT_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChildError(
                f"nsys could not export {path} ({error}); export it by hand to SQLite and give that"
            ) from None
        if done.returncode or not out.exists():
            tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
            raise ChildError(f"nsys could not export {path} ({tail[0]}); export it by hand with the nsys that made it")
        return import_nsight.read(out)


def _report_version(path: Path) -> str:
    """The producer's version, which stands as text near the start or the end of a report; empty if it is not found."""
    with path.open("rb") as file:
        head = file.read(_VERSION_SEARCH_BYTES)
        file.seek(max(0, path.stat().st_size - _VERSION_SEARCH_BYTES))
        found = _VERSION.search(head) or _VERSION.search(file.read())
    return found[1].decode() if found else ""


def _is_json_lines(head: bytes) -> bool:
    """Nsight's JSON Lines: each line is an object that names the table it is a row of."""
    try:
        first = json.loads(head.lstrip().split(b"\n", 1)[0])
    except ValueError:
        return False
    return isinstance(first, dict) and isinstance(first.get("table"), str)


def _read_json_lines(path: Path) -> Timeline:
    with closing(sqlite3.connect(":memory:")) as db:
        torn = nsight_lines.load(path, db)
        return import_nsight.from_database(db, str(path), torn)
