import json
import subprocess
import sys
from pathlib import Path

from tests.fakes import model_analyzer as fake

NAMES = ("metrics-model-gpu.csv", "metrics-model-inference.csv", "metrics-server-only.csv")


def analyzer(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_checkpoint_becomes_model_analyzers_tables_and_our_report(tmp_path: Path):
    done = analyzer("report", fake.folder(tmp_path, fake.content("multi-model")))
    assert done.returncode == 0, done.stderr
    for table in NAMES:
        golden = fake.DATA / "multi-model" / f"golden-{table}"
        assert (tmp_path / "results" / table).read_bytes() == golden.read_bytes()
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"0.ckpt", "results", "report.html", "report.pdf", "report.json", "measurements.csv"}
    assert "at concurrency" in done.stdout
    assert "keeps no intervals" in done.stdout


def test_a_new_limit_and_objective_need_no_server(tmp_path: Path):
    source = fake.folder(tmp_path / "given", fake.content("multi-model"))
    out = tmp_path / "out"
    done = analyzer("report", source / "0.ckpt", "-o", out, "--formats", "json,model-analyzer",
                    "--latency-budget", "20.7ms", "--constraint", "gpu_memory_mb<=2300", "--objectives",
                    "throughput:1,gpu_memory_mb:1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads((out / "report.json").read_text())
    assert answer["recommended"]["concurrency"] is not None
    assert answer["recommended"]["p99_latency_ms"] <= 20.7
    rows = (out / "results" / "metrics-model-inference.csv").read_text().splitlines()[1:-1]
    kept = [row for row in rows if ",Yes," in row]
    assert 0 < len(kept) < len(rows)
    assert {path.name for path in out.iterdir()} == {"report.json", "results"}
    assert [path.name for path in source.iterdir()] == ["0.ckpt"]


def test_the_recommended_configuration_can_be_copied_from_the_page(tmp_path: Path):
    source = fake.folder(tmp_path, fake.content("single-model"))
    done = analyzer("report", source, "--formats", "html", "--objectives", "p99_latency_ms")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "add_sub/config.pbtxt" in page
    assert "max_batch_size: 8" in page
    assert "NVIDIA TITAN RTX" in page


def test_models_profiled_one_after_another_have_a_report_each(tmp_path: Path):
    checkpoint = fake.tree("single-model")
    results = checkpoint["ResultManager.results"]["_results"]
    results |= fake.in_newer_layout(fake.tree("older-layout"))["ResultManager.results"]["_results"]
    done = analyzer("report", fake.folder(tmp_path, checkpoint), "--formats", "json,model-analyzer")
    assert done.returncode == 0, done.stderr
    models = {name: json.loads((tmp_path / name / "report.json").read_text()) for name in ("add_sub", "vgg19_libtorch")}
    assert [answer["model"] for answer in models.values()] == ["add_sub", "vgg19_libtorch"]
    rows = (tmp_path / "results" / "metrics-model-inference.csv").read_text().splitlines()[1:-1]
    assert [row.split(",")[0] for row in rows] == ["add_sub"] * 16 + ["vgg19_libtorch"] * 2


def test_nothing_within_the_limit_is_code_6_with_everything_written(tmp_path: Path):
    done = analyzer("report", fake.folder(tmp_path, fake.content("single-model")), "--latency-budget", "0.1ms",
                    "--formats", "csv,model-analyzer")  # fmt: skip
    assert done.returncode == 6
    assert "None of 16 measured points has p99 latency at most 0.1 ms" in done.stderr
    assert ",Yes," not in (tmp_path / "results" / "metrics-model-inference.csv").read_text()
    assert (tmp_path / "measurements.csv").is_file()


def test_a_damaged_checkpoint_is_a_sentence_with_code_3(tmp_path: Path):
    done = analyzer("report", fake.folder(tmp_path, fake.content("single-model")[:5000]))
    assert done.returncode == 3
    assert done.stderr.startswith("analyzer: checkpoint ")
    assert done.stderr.count("\n") == 1
