from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from analyzer.collect.nvml import Nvml
from analyzer.executor.idle import idle_gpus
from analyzer.model_analyzer.from_run import SERVER_ONLY, as_checkpoint, server_only
from analyzer.model_analyzer.tables import SERVER_FILE, csv_tables
from analyzer.rank.rank import rank
from tests.fakes.nvml import FakeNvml
from tests.fakes.runs import P99_20, model_spec, typical

DEVICE = {
    "uuid": "GPU-0",
    "name": "A device",
    "utilization": 25,
    "memory": 512_000_000,
    "power_mw": 61_000,
    "processes": {},
}


class EmptyServers:
    """Says what it was asked to serve."""

    needs_files = True

    def __init__(self) -> None:
        self.served: list[tuple[list[str], list[Path]]] = []

    @contextmanager
    def serve(
        self,
        configs: Mapping[str, object],
        folder: Path,
        log_path: Path,
        *,
        flags: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> Iterator[None]:
        self.served.append((list(configs), list(folder.iterdir())))
        yield


def test_devices_are_watched_while_a_server_has_no_model():
    launcher = EmptyServers()
    (record,) = idle_gpus(launcher, Nvml(FakeNvml([DEVICE])), 0.02, 0.01)
    assert launcher.served == [([], [])]
    assert (record["uuid"], record["memory_peak_bytes"]) == ("GPU-0", 512_000_000)


def test_nothing_is_started_where_there_is_no_gpu_or_it_is_not_asked_for():
    launcher = EmptyServers()
    assert idle_gpus(launcher, Nvml(FakeNvml([])), 1.0, 0.01) == []
    assert idle_gpus(launcher, Nvml(FakeNvml([DEVICE])), 0.0, 0.01) == []
    assert launcher.served == []


def test_what_was_seen_fills_the_table_of_the_server_alone():
    record = idle_gpus(EmptyServers(), Nvml(FakeNvml([DEVICE])), 0.02, 0.01)
    outcomes = typical()
    ranking = rank(outcomes, (), P99_20)
    specs = {"synthetic": model_spec()}
    tables = csv_tables(*as_checkpoint(outcomes, ranking, specs, server_only({SERVER_ONLY: record})))
    assert tables[SERVER_FILE].splitlines() == [
        "Model,GPU UUID,GPU Memory Usage (MB),GPU Utilization (%),GPU Power Usage (W)",
        "triton-server,GPU-0,512.0,25.0,61.0",
        "",
    ]
    assert SERVER_FILE not in csv_tables(*as_checkpoint(outcomes, ranking, specs, server_only({})))
