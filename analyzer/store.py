"""The run folder: what was asked, on what machine, and every outcome, on disk before anyone reasons about it.

RUN/run.json             RunHeader: settings, models, budgets, the command that made it
RUN/environment.json     the machine and the versions of everything
RUN/measurements.jsonl   a line an outcome, in the order measured; a torn last line is forgiven and overwritten
RUN/latencies/KEY.npz    the times of every request of a measurement, relative to its start; KEY.1.npz and so on are
                         those of the other models that were driven at the same time
RUN/timelines/KEY.timeline  what was watched while it was measured (see timeline.archive)
RUN/overhead.json        what collecting did to the figures of a point, where that was measured
RUN/machines/KEY.json    the environment of the machine of a cluster that a point was measured on, and its attempt
RUN/configs/KEY/M.pbtxt  the configuration that model M was served with in server configuration KEY
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.collecting import CollectingCost
from analyzer.domain.effort import Effort
from analyzer.domain.ledger import LedgerEntry
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.model import ModelSpec
from analyzer.domain.record import Record
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.domain.space import SearchSpace
from analyzer.errors import InputError, UsageError
from analyzer.timeline.archive import SUFFIX as TIMELINE_SUFFIX

FORMAT_VERSION = 2
"""1: first. 2: a space holds several models."""


class RunHeader(Record, frozen=True):
    """What the run was asked for. ``command`` reproduces it; ``settings`` are as used, defaults included.

    ``effort`` is what was expected to be ahead when the run began; None in a run of an earlier version.
    """

    command: str
    settings: dict[str, Any]
    model_specs: tuple[ModelSpec, ...]
    space: SearchSpace
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    content: str
    tool_version: str
    started_at: str
    effort: Effort | None = None
    format_version: int = FORMAT_VERSION


T = TypeVar("T")
_outcome_decoder: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Measurement | Failure)


class RunFolder:
    """Reads and extends one run folder. Made by ``create`` or ``open``."""

    def __init__(self, path: Path, header: RunHeader, environment: dict[str, Any]) -> None:
        self.path = path
        self.header = header
        self.environment = environment

    @classmethod
    def create(cls, path: Path, header: RunHeader, environment: dict[str, Any]) -> "RunFolder":
        """Start a run, or take an earlier one of the same folder up again under a new header."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            _write(path / "environment.json", environment)
            _write(path / "run.json", header)
        except OSError as error:
            raise InputError(
                f"run folder {path} can't be written: {error.strerror}; name another with --run"
            ) from error
        return cls(path, header, environment)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        if not (path / "run.json").is_file():
            raise InputError(
                f"{path} is no run folder: it has no run.json; give the folder that `analyzer profile` wrote"
            )
        raw = _read(path / "run.json", dict[str, Any])
        version = raw.get("format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise InputError(
                f"{path} was written in format {version}, this version reads up to {FORMAT_VERSION}; update it"
            )
        if version < 2:
            raw = _with_models(raw)
        header = _converted(raw, RunHeader, path / "run.json")
        return cls(path, header, _read(path / "environment.json", dict[str, Any]))

    @property
    def price_per_hour(self) -> float | None:
        """Of a device, as the run was told."""
        price: float | None = self.header.settings.get("price_per_hour")
        return price

    @staticmethod
    def exists(path: Path) -> bool:
        return (path / "run.json").is_file()

    def outcomes(self, price_per_hour: float | None = None) -> list[Outcome]:
        """All outcomes in the order measured, at this price or the run's own.

        A point measured again later stands again, later.
        """
        price = self.price_per_hour if price_per_hour is None else price_per_hour
        return [priced(outcome, price) for outcome in self._stored()]

    def _stored(self) -> list[Outcome]:
        try:
            lines = (self.path / "measurements.jsonl").read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [self._decode(line, number) for number, line in enumerate(lines[:-1], 1) if line]

    def append(self, outcome: Outcome) -> None:
        """Write one outcome and have it on the disk before returning."""
        with (self.path / "measurements.jsonl").open("ab+") as file:
            _cut_torn_line(file.fileno())
            file.write(msgspec.json.encode(outcome) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_ledger(self, entries: Sequence[LedgerEntry]) -> None:
        _write(self.path / "ledger.json", entries)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Empty where the run was ended before it could be written."""
        path = self.path / "ledger.json"
        return _read(path, tuple[LedgerEntry, ...]) if path.is_file() else ()

    def keep_costs(self, costs: Sequence[CollectingCost]) -> None:
        _write(self.path / "overhead.json", costs)

    def costs(self) -> tuple[CollectingCost, ...]:
        """What collecting costs; empty where that was not measured."""
        path = self.path / "overhead.json"
        return _read(path, tuple[CollectingCost, ...]) if path.is_file() else ()

    def latencies_path(self, config: RunConfig, place: int = 0) -> Path:
        """Of the load that stands at ``place`` in the point's loads."""
        folder = self.path / "latencies"
        folder.mkdir(exist_ok=True)
        return folder / (f"{config.key}.{place}.npz" if place else f"{config.key}.npz")

    def timeline_path(self, config: RunConfig) -> Path:
        """Where the timeline of a measurement lies, if it has one."""
        return self.path / "timelines" / f"{config.key}{TIMELINE_SUFFIX}"

    def config_text(self, server: ServerConfig, model: str) -> str:
        """The model's ``config.pbtxt`` as served in this configuration; empty where it never got so far."""
        path = self._config_path(server, model)
        return path.read_text() if path.is_file() else ""

    def served(self, server: ServerConfig) -> Path | None:
        """The folder of what was served in this configuration, one file a model; None where it never got so far."""
        folder = self.path / "configs" / server.key
        return folder if folder.is_dir() else None

    def keep_config_text(self, server: ServerConfig, model: str, text: str) -> None:
        path = self._config_path(server, model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def keep_file(self, name: str, content: bytes) -> None:
        """A file of a measurement, by its place in the run folder; whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(path.name + ".new")
        scratch.write_bytes(content)
        scratch.replace(path)

    def keep_machine(self, config: RunConfig, record: dict[str, Any]) -> None:
        path = self.path / "machines" / f"{config.key}.json"
        path.parent.mkdir(exist_ok=True)
        _write(path, record)

    def _config_path(self, server: ServerConfig, model: str) -> Path:
        return self.path / "configs" / server.key / f"{model}.pbtxt"

    def _decode(self, line: bytes, number: int) -> Outcome:
        try:
            return _outcome_decoder.decode(line)
        except msgspec.DecodeError as error:
            where = self.path / "measurements.jsonl"
            raise InputError(
                f"{where} line {number} can't be read ({error}); delete that line to go on without it"
            ) from error


def priced(outcome: Outcome, price_per_hour: float | None) -> Outcome:
    """At this price of a device, which is no part of what was measured."""
    if isinstance(outcome, Failure) or outcome.price_per_hour == price_per_hour:
        return outcome
    return msgspec.structs.replace(outcome, price_per_hour=price_per_hour)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run folder, made if need be, against a second process; refuses at once if another holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / "lock").open("w")
    except OSError as error:
        raise InputError(f"run folder {path} can't be written: {error.strerror}; name another with --run") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is measuring into {path}; wait for it, or name another folder with --run"
            ) from None
        yield


def _cut_torn_line(fd: int) -> None:
    """Drop what a killed process left after the last line end, so that the next line starts on its own."""
    end = os.lseek(fd, 0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != end:
        os.ftruncate(fd, position)


def _with_models(raw: dict[str, Any]) -> dict[str, Any]:
    """A header of format 1, whose space was that of one model."""
    space = dict(raw.get("space", {}))
    batch_sizes = space.pop("batch_sizes", [1])
    return {**raw, "space": {"models": [space], "batch_sizes": batch_sizes}, "format_version": FORMAT_VERSION}


def _write(path: Path, value: object) -> None:
    """Replace the file whole, or not at all."""
    scratch = path.with_suffix(".new")
    scratch.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    scratch.replace(path)


def _converted(raw: object, type_: type[T], path: Path) -> T:
    try:
        return msgspec.convert(raw, type=type_)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} can't be read: {error}") from error


def _read(path: Path, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
