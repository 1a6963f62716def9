"""What a server says of itself, laid beside what the load generator saw: the scripted server's log knows the truth."""

import csv

import msgspec
import numpy as np

from perf_client.__main__ import main
from perf_client.profile import LoadResult
from tests.fakes.scripted_server import Script, running


def measured(script, folder, *flags):
    with running(script, folder) as server:
        argv = ["-m", "m", "-u", server.url, "--warmup", "0", "-o", str(folder / "out"), *flags]
        argv = [flag.replace("URL", server.url) for flag in argv]
        code = main(argv)
        log = server.stop()
    (path,) = (folder / "out").glob("*.json")
    return code, msgspec.json.decode(path.read_bytes(), type=LoadResult), log


def test_metrics_are_scraped_along_the_run_and_reported(tmp_path, capsys):
    code, result, log = measured(
        Script([0.004], queue=False),
        tmp_path,
        *("--concurrency-range", "2", "--duration", "0.6", "--collect-metrics", "--metrics-url", "URL"),
        *("--metrics-interval", "50", "--metrics-family", "nv_inference_*", "--metrics-family", "scripted_*"),
        *("-f", str(tmp_path / "out.csv"), "--verbose-csv"),
    )
    out = capsys.readouterr().out
    count, power, under_way = sorted(result.metrics, key=lambda metric: metric.name != "nv_inference_count")
    assert code == 0
    assert 0 < count.growth <= len(log.done_ns)
    assert count.growth >= result.request_count - 2
    assert (power.least, power.mean, power.most) == (66.5, 66.5, 66.5)
    assert 0 <= under_way.least <= under_way.most <= 2
    assert "      GPU-1 : 66.5 watts\n" in out
    assert "    scripted_under_way: min " in out
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["Avg GPU Power Usage"] == "GPU-1:66.5;"
    assert float(row['nv_inference_count{model="m",version="1"}']) == count.growth


def test_the_servers_count_agrees_with_ours(tmp_path, capsys):
    script = Script([0.003], queue=False, fail_every=9)
    _, result, log = measured(script, tmp_path, "--request-rate-range", "200", "--duration", "0.6")
    check = result.count_check
    assert check.unexplained_count == 0
    assert check.surely_count <= check.server_count <= check.at_most_count <= len(log.kind)
    assert "    Server's count: " in capsys.readouterr().out


def test_requests_of_others_are_noticed(tmp_path, capsys):
    """The server's counter runs ahead as if somebody else used it, too."""
    _, result, log = measured(Script([0.003], queue=False, others=7), tmp_path, "--duration", "0.6")
    assert result.count_check.unexplained_count > 0
    assert result.count_check.server_count > np.count_nonzero(log.done_ns >= 0)
    assert "[WARNING] Server's count: " in capsys.readouterr().out


def test_metrics_that_are_not_there_leave_the_measurement_as_it_is(tmp_path, capsys):
    flags = ("--duration", "0.4", "--collect-metrics", "--metrics-url", "URL/nothing")
    code, result, _ = measured(Script([0.003], queue=False), tmp_path, *flags)
    assert code == 0
    assert result.metrics == ()
    assert "(status 404)" in result.metrics_unmeasured
    assert "    [WARNING] Not measured: no metrics at " in capsys.readouterr().out
