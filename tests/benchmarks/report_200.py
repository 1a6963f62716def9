"""Seconds of each stage of the report of a run with 200 measurements: ``python tests/benchmarks/report_200.py``."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from analyzer import report
from analyzer.rank.rank import rank
from analyzer.render import html, pdf, tables
from analyzer.render.charts import draw
from analyzer.render.page import make_view
from analyzer.store import RunFolder
from tests.fakes.outcomes import QueueModel, sweep
from tests.fakes.runs import write_run

T = TypeVar("T")


def timed(name: str, call: Callable[[], T]) -> T:
    began = time.perf_counter(), time.process_time()
    result = call()
    wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
    print(f"{name:32} {wall_s:6.2f} s   {cpu_s:6.2f} s of CPU")
    return result


def main() -> None:
    loads = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    outcomes = sweep(QueueModel(noise_ratio=0.02), instances=(1, 2, 3), max_batches=(2, 4, 8, 16, 32), loads=loads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_run(Path(scratch) / "run", outcomes)
        print(f"{len(outcomes)} measurements")
        stored = timed("read the run folder", lambda: RunFolder.open(folder))
        read = timed("decode the outcomes", stored.outcomes)
        ranking = timed("rank", lambda: rank(read, stored.header.objectives, stored.header.budgets))
        context = report.context_of(stored)
        charts = timed("charts, with the first import", lambda: draw(ranking, context.specs))
        timed("charts again", lambda: draw(ranking, context.specs))
        page = timed("page", lambda: html.render(make_view(ranking, context, charts)))
        print(f"{'':32} {len(page) / 1000:6.0f} kB")
        timed("tables", lambda: (tables.csv_text(read, ranking), tables.json_text(read, ranking, context)))
        timed("pdf, with the first import", lambda: pdf.write(page, Path(scratch) / "report.pdf"))
        timed("pdf again", lambda: pdf.write(page, Path(scratch) / "report.pdf"))
        code = f"from pathlib import Path; from analyzer import report; report.run(Path({str(folder)!r}))"
        command = [sys.executable, "-c", code]
        timed("all in a fresh process", lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


if __name__ == "__main__":
    main()
