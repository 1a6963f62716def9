from analyzer.collect.metrics_page import MetricsPage

PAGE = """
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25
nv_gpu_utilization{gpu_uuid="GPU-b"} 0
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 2048
nv_gpu_power_usage{gpu_uuid="GPU-a"} 60.5
nv_cpu_utilization 0.5
nv_inference_count{model="m",version="1"} 3
"""


def test_gpus_of_a_running_server_are_read_from_its_page():
    page = MetricsPage("http://server/metrics", lambda _: PAGE)
    assert [device.uuid for device in page.devices] == ["GPU-a", "GPU-b"]
    first, second = page.read()
    assert (first.utilization_ratio, first.memory_bytes, first.power_w) == (0.25, 2048, 60.5)
    assert (second.utilization_ratio, second.memory_bytes, second.energy_j) == (0.0, None, None)
    assert page.absent == ""


def test_a_page_that_goes_away_leaves_readings_without_figures():
    answers = iter([PAGE])

    def fetch(_: str) -> str:
        try:
            return next(answers)
        except StopIteration:
            raise OSError("gone") from None

    page = MetricsPage("http://server/metrics", fetch)
    assert [reading.memory_bytes for reading in page.read()] == [None, None]


def test_why_there_are_no_figures_is_told():
    assert "--triton-metrics-url" in MetricsPage(None).absent
    assert "tell of no GPU" in MetricsPage("http://server/metrics", lambda _: "nv_cpu_utilization 0.5\n").absent
    assert "can't be read" in MetricsPage("no address").absent
    assert MetricsPage(None).read() == ()
