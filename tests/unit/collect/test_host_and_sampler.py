import os
import threading
from pathlib import Path

from analyzer.collect.environment import environment
from analyzer.collect.host import HostProbe, HostReading, host_usage
from analyzer.collect.nvml import Nvml
from analyzer.collect.sampler import Samples, sampling
from tests.fakes.nvml import FakeNvml


def fake_process(proc: Path, pid: int, ticks: int, pss_kb: int | None, children=(), rss_pages=0):
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))
    (folder / "stat").write_text(f"{pid} (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 1 2 3 20 0 1 0 0")
    (folder / "statm").write_text(f"9 {rss_pages} 0 0 0 0 0")
    if pss_kb is not None:
        (folder / "smaps_rollup").write_text(f"00-ff ---p\nRss: 9 kB\nPss:  {pss_kb} kB\n")


def test_a_tree_is_summed_and_the_dead_count_as_nothing(tmp_path: Path):
    fake_process(tmp_path, 10, ticks=100, pss_kb=1000, children=(11, 12))
    fake_process(tmp_path, 11, ticks=50, pss_kb=None, rss_pages=3)
    tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    assert HostProbe(10, tmp_path).read() == HostReading((106 + 56) * tick_ns, 1000 * 1024 + 3 * page)


def test_this_process_is_seen_to_hold_memory():
    reading = HostProbe(os.getpid()).read()
    assert reading.memory_bytes > 1 << 20


def test_usage_is_the_growth_over_the_time_between():
    readings = [(0, HostReading(100, 5)), (50, HostReading(150, 9)), (200, HostReading(400, 7))]
    usage = host_usage(readings)
    assert usage is not None
    assert (usage.cpu_ratio, usage.memory_peak_bytes, usage.sample_count) == (1.5, 9, 3)
    assert host_usage(readings[:1]) is None
    assert host_usage([]) is None


def test_a_window_is_covered_by_the_readings_around_it():
    samples: Samples[str] = Samples()
    for at, reading in ((0, "a"), (10, "b"), (20, "c"), (30, "d"), (40, "e")):
        samples.add(at, reading)
    assert [r for _, r in samples.between(15, 25)] == ["b", "c", "d"]
    assert [r for _, r in samples.between(10, 30)] == ["a", "b", "c", "d", "e"]
    assert [r for _, r in samples.between(21, 24)] == ["c", "d"]
    assert [r for _, r in samples.between(-5, 100)] == ["a", "b", "c", "d", "e"]
    assert Samples().between(0, 1) == []


def test_sampling_goes_on_until_the_end_and_reads_once_more_there():
    enough = threading.Event()
    count = 0

    def read() -> int:
        nonlocal count
        count += 1
        if count >= 3:
            enough.set()
        return count

    with sampling(read, 0.001) as samples:
        assert enough.wait(30)
    assert samples.readings == list(range(1, count + 1))
    assert samples.times_ns == sorted(samples.times_ns)


def test_the_environment_names_the_machine_and_no_secrets():
    found = environment(Nvml(FakeNvml(error="no driver")))
    assert found["cores"] >= 1
    assert found["gpus"] == []
    assert "no driver" in found["gpus_unmeasured"]
    assert os.uname().nodename not in str(found.values())
