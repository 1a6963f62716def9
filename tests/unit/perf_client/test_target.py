"""Addresses as users write them, the schedule cut to its window, and the timer that keeps it."""

import asyncio
import time

import numpy as np
import pytest
import uvloop

from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile
from perf_client.target import Target
from perf_client.timer import PreciseTimer
from perf_client.tls import Tls
from perf_client.window import Window, scheduled_times


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("localhost:1234", "localhost", 1234, "localhost:1234"),
        ("example", "example", 8000, "example:8000"),
        ("http://example:80/", "example", 80, "example:80"),
        ("[::1]:9", "::1", 9, "[::1]:9"),
        ("[::1]", "::1", 8000, "[::1]:8000"),
        ("::1", "::1", 8000, "[::1]:8000"),
    ],
)
def test_addresses_are_read(url: str, host: str, port: int, authority: str):
    target = Target.parse(url, "http")
    assert (target.host, target.port, target.authority) == (host, port, authority)


def test_grpc_has_its_own_default_port():
    assert Target.parse("grpc://example", "grpc").port == 8001


@pytest.mark.parametrize("url", ["", ":80", "host:", "host:x", "host:0", "host:70000", "host:80/v2"])
def test_what_is_no_address_is_a_sentence(url: str):
    if url == "host:":
        assert Target.parse(url, "http").port == 8000
        return
    with pytest.raises(LoadError, match="is not of the form HOST:PORT") as caught:
        Target.parse(url, "http")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("url", ["https://h:1", "grpcs://h:1"])
def test_a_scheme_asks_for_tls(url: str):
    assert Target.parse(url, "http").tls == Tls()
    assert Target.parse("h:1", "http").tls is None


def test_a_scheme_in_the_clear_contradicts_tls_settings():
    with pytest.raises(LoadError, match="write https://"):
        Target.parse("http://h:1", "http", Tls())
    assert Target.parse("h:1", "grpc", Tls(ca_file="ca")).tls == Tls(ca_file="ca")


def test_other_schemes_are_not_spoken():
    with pytest.raises(LoadError, match="only http, https, grpc and grpcs"):
        Target.parse("ftp://h", "http")


def blocks(*parts: list[int]):
    return [np.array(part, dtype=np.int64) for part in parts]


def window(**changes) -> Window:
    profile = LoadProfile(**({"model": "m", "load": Concurrency(in_flight=1)} | changes))
    return Window.starting_at(1_000, profile)


def test_a_schedule_ends_with_its_window():
    cut = window(duration_s=30e-9, warmup_s=20e-9)
    assert list(scheduled_times(blocks([0, 10], [20, 49, 50, 60]), cut, None)) == [1_000, 1_010, 1_020, 1_049]


def test_a_counted_schedule_starts_to_count_after_the_warm_up():
    counted = window(warmup_s=20e-9, request_count=2)
    assert counted.end_ns is None
    assert list(scheduled_times(blocks([0, 10], [20, 30, 40]), counted, 2)) == [1_000, 1_010, 1_020, 1_030]


def test_the_timer_calls_again_until_it_is_armed_anew():
    async def main() -> None:
        calls: list[int] = []
        done = asyncio.Event()

        def on_time() -> None:
            calls.append(time.monotonic_ns())
            if len(calls) == 3:
                timer.disarm()
                done.set()

        timer = PreciseTimer(on_time)
        assert timer.sleep_cost_ns > 0
        timer.arm(time.monotonic_ns() + 100_000)
        await done.wait()
        await asyncio.sleep(0.005)
        timer.close()
        assert len(calls) == 3

    uvloop.run(main())


def test_the_timer_fires_once_each_time_it_is_armed_and_never_early():
    async def main() -> None:
        fired: list[int] = []
        done = asyncio.Event()

        def on_time() -> None:
            fired.append(time.monotonic_ns())
            if len(due) > len(fired):
                timer.arm(due[len(fired)])
            else:
                timer.disarm()
                done.set()

        now_ns = time.monotonic_ns()
        due = [now_ns + 300_000, now_ns + 350_000, now_ns - 5, now_ns + 2_000_000]
        timer = PreciseTimer(on_time)
        timer.arm(due[0])
        await done.wait()
        await asyncio.sleep(0.005)
        timer.close()
        timer.close()
        assert len(fired) == len(due)
        assert all(at_ns >= due_ns for at_ns, due_ns in zip(fired, due, strict=True))

    uvloop.run(main())
