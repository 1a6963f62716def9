from pathlib import Path

import pytest

from analyzer.model_analyzer.checkpoint import read_checkpoint
from analyzer.model_analyzer.records import Checkpoint, Configuration, ModelPoint, Point, Variant
from analyzer.model_analyzer.tables import GPU_FILE, INFERENCE_FILE, SERVER_FILE, TableFields, csv_tables
from tests.fakes import model_analyzer as fake

GPU = {"kind": "KIND_GPU"}


def point(throughput: float = 100.0, key: str = "", **load: float) -> Point:
    loads = {"batch_size": 1, "concurrency": None, "request_rate": None} | (load or {"concurrency": 4})
    figures = {"perf_throughput": throughput, "perf_latency_p99": 1000 / throughput}
    return Point(key=key or str(throughput), models=(ModelPoint(**loads, figures=figures),), gpus={})


def configuration(*points: Point, name: str = "m_config_0", config: dict | None = None, **fields) -> Configuration:
    variant = Variant(model="m", name=name, config=config or {}, cpu_only=fields.pop("cpu_only", False))
    given = {"model": "m", "protocol": "grpc", "variants": (variant,), "composing": ()} | fields
    return Configuration(name=name, points=points, **given)


def table(*configurations: Configuration, gpu_count: int = 0, name: str = INFERENCE_FILE, **options) -> list[str]:
    server_only = {f"GPU-{number}": {"gpu_used_memory": 1.0} for number in range(gpu_count)}
    checkpoint = Checkpoint(configurations=configurations, server_only=server_only, gpus={})
    return csv_tables(checkpoint, **options)[name].splitlines()


def column(lines: list[str], title: str) -> list[str]:
    at = lines[0].split(",").index(title)
    return [line.split(",")[at] for line in lines[1:] if line]


@pytest.mark.parametrize("name", ["single-model", "multi-model"])
@pytest.mark.parametrize("file", [INFERENCE_FILE, GPU_FILE, SERVER_FILE])
def test_tables_equal_model_analyzers_own_byte_by_byte(tmp_path: Path, name: str, file: str):
    checkpoint = read_checkpoint(fake.folder(tmp_path, fake.content(name)))
    assert csv_tables(checkpoint)[file].encode() == (fake.DATA / name / f"golden-{file}").read_bytes()


@pytest.mark.parametrize(
    ("groups", "gpu_count", "text"),
    [
        (None, 1, "1:GPU"),
        (None, 0, "1:CPU"),
        ([GPU], 1, "1:GPU"),
        ([GPU | {"count": 2}], 4, "8:GPU"),
        ([GPU | {"count": 2, "gpus": [0, 1]}], 4, "4:GPU"),
        ([GPU | {"count": 2}], 0, "2:GPU"),
        ([GPU | {"count": 2}, {"kind": "KIND_CPU", "count": 3}], 1, "2:GPU + 3:CPU"),
        ([GPU, GPU | {"count": 2}], 1, "3:GPU"),
    ],
)
def test_instance_groups_are_counted_by_kind_over_the_devices(groups, gpu_count, text):
    config = {"instance_group": groups} if groups else {}
    assert column(table(configuration(point(), config=config), gpu_count=gpu_count), "Instance Group") == [text]


def test_a_model_kept_off_the_gpu_has_cpu_instances_and_no_gpu_rows():
    seen = Point(key="", models=point().models, gpus={"GPU-0": {"gpu_used_memory": 5.0}})
    lines = table(configuration(seen, cpu_only=True), gpu_count=1)
    assert column(lines, "Instance Group") == ["1:CPU"]
    with pytest.raises(KeyError):
        table(configuration(seen, cpu_only=True), name=GPU_FILE)


def test_request_rates_take_the_place_of_concurrency():
    lines = table(configuration(point(request_rate=16)))
    assert lines[0].startswith("Model,Batch,Request Rate,Model Config Path,")
    assert column(lines, "Request Rate") == ["16"]


def test_where_both_kinds_of_load_were_put_on_each_has_its_column():
    lines = table(configuration(point(concurrency=4), point(90.0, request_rate=16)))
    assert column(lines, "Concurrency") == ["4", "None"]
    assert column(lines, "Request Rate") == ["None", "16"]


def test_an_ensemble_is_shown_by_its_parts():
    parts = tuple(
        Variant(model=name, name=f"{name}_config_3", config={"max_batch_size": size, "instance_group": [GPU]})
        for name, size in (("pre", 8), ("net", 4))
    )
    whole = configuration(point(), name="ens_config_1", config={"platform": "ensemble"}, composing=parts)
    (_, row, _) = table(whole, gpu_count=1)
    assert row.startswith('m,1,4,"ens_config_1: pre_config_3, net_config_3","1:GPU,1:GPU","8,4",Yes,')


def test_a_model_that_calls_others_is_shown_by_itself():
    part = Variant(model="part", name="part_config_0", config={})
    whole = configuration(point(), name="bls_config_1", config={"backend": "python"}, composing=(part,))
    assert column(table(whole), "Model Config Path") == ["bls_config_1"]


def test_points_within_the_constraints_come_first_and_a_configuration_stands_by_its_best_of_them():
    fast = configuration(point(300.0), point(100.0), point(110.0), name="fast_config_0")
    fair = configuration(point(200.0), name="fair_config_0")
    lines = table(fast, fair, satisfies=lambda _, seen: seen.key != "300.0")
    assert column(lines, "Throughput (infer/sec)") == ["200.0", "110.0", "100.0", "300.0"]
    assert column(lines, "Satisfies Constraints") == ["Yes", "Yes", "Yes", "No"]


def test_other_objectives_give_another_order():
    lines = table(configuration(point(300.0), point(100.0)), weights={"perf_throughput": 1.0, "perf_latency_p99": 2.0})
    assert column(lines, "p99 Latency (ms)") == ["3.3", "10.0"]
    memory = [Point(key=str(mb), models=point().models, gpus={"a": {"gpu_used_memory": mb}}) for mb in (7, 5, 6)]
    rows = table(configuration(*memory), weights={"gpu_used_memory": 1.0}, name=GPU_FILE)
    assert column(rows, "GPU Memory Usage (MB)") == ["5", "6", "7"]


def test_a_point_without_throughput_goes_last_and_stops_nothing():
    lines = table(configuration(point(0.001), point(5.0), point(0.001, key="again")))
    assert column(lines, "Throughput (infer/sec)") == ["5.0", "0.0", "0.0"]
    zeros = [Point(key=key, models=(ModelPoint(batch_size=1, concurrency=1, request_rate=None,
             figures={"perf_throughput": 0}),), gpus={}) for key in "ab"]  # fmt: skip
    assert column(table(configuration(*zeros)), "Throughput (infer/sec)") == ["0", "0"]


def test_columns_can_be_chosen_and_one_without_data_is_left_out():
    config = {"parameters": {"threads": {"string_value": "4"}}}
    fields = TableFields(inference=("model_name", "backend_parameter/threads", "perf_latency_avg", "perf_latency_p99"))
    lines = table(configuration(point(), config=config), configuration(point(50.0), name="m_config_1"), fields=fields)
    assert lines[:3] == ["Model,backend_parameter/threads,p99 Latency (ms)", "m,4,10.0", "m,None,20.0"]


def test_a_table_without_rows_is_not_made():
    checkpoint = Checkpoint(configurations=(configuration(point()),), server_only={}, gpus={})
    assert list(csv_tables(checkpoint)) == [INFERENCE_FILE]
