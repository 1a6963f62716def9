"""What each collector costs: p50 and p99 of the responses with it and without, in turns, on one running server.

    python -m tests.benchmarks.collector_overhead --device cuda|cpu [--model conv_chain] [--collectors spans,cupti]

The rounds go through off and every collector; the order turns with each round, so a drift falls on all alike. Prints
the medians over the rounds and how much longer a response took than without; a collector that can't be had says why.
It asserts nothing.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from analyzer.collect.collector import ServerCapture
from analyzer.drive import Driver, driver
from analyzer.zoo.catalogue import add
from perf_client.profile import Concurrency, LoadProfile, LoadResult
from tests.fakes.running_server import running_server

OFF = "off"
PERCENTS = (50.0, 99.0)


def main() -> None:
    wanted = _arguments()
    names = (OFF, *wanted.collectors.split(","))
    found: dict[str, list[LoadResult]] = defaultdict(list)
    facts: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        repository, captures = Path(scratch) / "models", Path(scratch) / "captures"
        captures.mkdir()
        _write(repository, wanted.model, wanted.device)
        with (
            running_server(repository, "--spans", "32768", "--capture-dir", str(captures)) as server,
            driver(Path(scratch) / "client.log") as client,
        ):
            capture = ServerCapture(server.http, captures)
            load = LoadProfile(
                model=wanted.model, load=Concurrency(in_flight=wanted.concurrency), duration_s=wanted.duration,
                batch_size=wanted.batch, warmup_s=0.2,
            )  # fmt: skip
            client.run(load, server.http, None)  # warms up
            for number in range(wanted.rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    if name not in facts or "reason" not in facts[name]:
                        found[name] += _measured(name, capture, client, (load, server.http), facts)
    _print(names, found, facts)
    if wanted.out:
        rows = {name: [_ms(each, percent) for each in found[name] for percent in PERCENTS] for name in names}
        Path(wanted.out).write_text(json.dumps({"percents": PERCENTS, "ms": rows, "facts": facts}, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--model", choices=("conv_chain", "resnet50"), default="conv_chain")
    parser.add_argument("--collectors", default="spans,cupti")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--duration", type=float, default=3.0)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", default="", help="file for the figures of every round, JSON")
    return parser.parse_args()


def _write(repository: Path, model: str, device: str) -> None:
    kind = "KIND_GPU" if device == "cuda" else "KIND_CPU"
    for folder in add(model, repository):
        path = folder / "config.pbtxt"
        if "ensemble" not in path.read_text() and "instance_group" not in path.read_text():
            path.write_text(f"{path.read_text()}\ninstance_group {{ kind: {kind} count: 1 }}\n")


def _measured(
    name: str,
    capture: ServerCapture,
    client: Driver,
    applied: tuple[LoadProfile, str],
    facts: dict[str, dict[str, object]],
) -> list[LoadResult]:
    if name == OFF:
        capture.start(["spans"])  # a window that has ended leaves the spans off
        capture.stop()
        return [client.run(*applied, None)]
    collectors = list(dict.fromkeys(("spans", name)))
    state = capture.start(collectors)[name]
    if state.state != "on":
        capture.stop()
        facts[name] = {"reason": f"{state.state}: {state.reason}"}
        return []
    result = client.run(*applied, None)
    stats = capture.stop()[name]
    facts[name] = {"records": stats.records, "dropped": stats.dropped, "stop_ms": stats.overhead_ns / 1e6}
    return [result]


def _ms(result: LoadResult, percent: float) -> float | None:
    latency = result.response
    values = [] if latency is None else [each.value_ns for each in latency.percentiles if each.percent == percent]
    return values[0] / 1e6 if values else None


def _print(names: tuple[str, ...], found: dict[str, list[LoadResult]], facts: dict[str, dict[str, object]]) -> None:
    print(f"{'collector':12} {'p50 ms':>9} {'p99 ms':>9} {'p50':>8} {'p99':>8}  of the last window")
    base = [_median(found[OFF], percent) for percent in PERCENTS]
    for name in names:
        if not found[name]:
            print(f"{name:12} {facts[name].get('reason', 'not measured')}")
            continue
        own = [_median(found[name], percent) for percent in PERCENTS]
        more = [value / off - 1 for value, off in zip(own, base)]
        told = ", ".join(f"{key} {value:.0f}" for key, value in facts.get(name, {}).items())  # type: ignore[str-format]  # numbers only, where nothing is absent
        print(f"{name:12} {own[0]:9.3f} {own[1]:9.3f} {more[0]:+8.1%} {more[1]:+8.1%}  {told}")


def _median(results: list[LoadResult], percent: float) -> float:
    values = [value for each in results if (value := _ms(each, percent)) is not None]
    return statistics.median(values) if values else float("nan")


if __name__ == "__main__":
    main()
