"""The spine of ``perf-client``: each level is driven, summarized, printed and written, then all of them together."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from perf_client.command import Command
from perf_client.drive import SERVER_GONE, run_load
from perf_client.errors import server_error, write_error
from perf_client.estimate import PERCENTS
from perf_client.export import check_writable, write_requests, write_result
from perf_client.profile import LoadProfile, LoadResult
from perf_client.progress import Progress
from perf_client.record import Columns
from perf_client.report import level_lines, settings_lines, summary_lines
from perf_client.summarize import summarize
from perf_client.sweep import by_level, make_search, sweep
from perf_client.table import write_csv

NOTHING_ANSWERED = 5
CLIENT_BOUND = 7
INTERRUPTED = 130


def measure(command: Command, out: TextIO, terminal: TextIO) -> int:
    check_writable(command.csv, command.export, folder=command.result_dir)
    percents = sorted({*PERCENTS, command.percent}) if command.percent else PERCENTS
    progress = Progress(terminal)
    results: list[LoadResult] = []
    requests: list[tuple[LoadResult, Columns]] = []
    files = _Files()
    on_tick = progress.tick if progress.shown else None

    def measured(profile: LoadProfile) -> LoadResult:
        progress.begin(profile)
        try:
            run = run_load(profile, command.url, command.tls, on_tick, command.metrics)
        finally:
            progress.end()
        result = summarize(profile, run.columns, run.facts, percents)
        _print(out, level_lines(result, command))
        if folder := command.result_dir:
            files.write(folder, lambda: write_result(folder, result, run.columns))
        if command.export:
            requests.append((result, run.columns))
        return result

    _print(out, settings_lines(command))
    search = make_search(command.levels, bisect=command.bisect)
    try:
        for result in sweep(command.profile, command.levels, search, command.limit, measured):
            results.append(result)
    finally:
        # A server that dies at the fifth level must not take the first four with it.
        _publish(command, by_level(results), requests, out, files)
    files.check()
    if results and results[-1].incomplete_reason == SERVER_GONE:
        raise server_error(f"{SERVER_GONE}; what was measured until then is complete, and no more levels were tried")
    return exit_code(results)


def exit_code(results: Sequence[LoadResult]) -> int:
    if any(result.incomplete for result in results):
        return INTERRUPTED
    if all(result.response is None for result in results):
        return NOTHING_ANSWERED
    return CLIENT_BOUND if any(result.client.bound for result in results) else 0


class _Files:
    """Writes what can be written: a full disk must not take a result off the screen, nor the next file with it."""

    def __init__(self) -> None:
        self._failed: list[str] = []

    def write(self, path: Path, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self._failed.append(f"{path} ({error.strerror})")

    def check(self) -> None:
        if self._failed:
            raise write_error(
                f"results were printed, but could not be written to {', '.join(dict.fromkeys(self._failed))}; "
                "make room there or name another place"
            )


def _publish(
    command: Command,
    results: list[LoadResult],
    requests: list[tuple[LoadResult, Columns]],
    out: TextIO,
    files: _Files,
) -> None:
    if not results:
        return
    _print(out, summary_lines(results, command))
    if path := command.csv:
        files.write(path, lambda: write_csv(path, results, percent=command.percent, verbose=command.verbose_csv))
    if export := command.export:
        files.write(export, lambda: write_requests(export, requests))


def _print(out: TextIO, lines: Iterable[str]) -> None:
    out.writelines(f"{line}\n" for line in lines)
    out.flush()
