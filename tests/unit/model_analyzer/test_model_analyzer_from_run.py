from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from msgspec.structs import replace
from rich.console import Console

from analyzer import checkpoint_report, report
from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.errors import InputError
from analyzer.model_analyzer.from_run import as_checkpoint, named_variants
from analyzer.model_analyzer.tables import GPU_FILE, INFERENCE_FILE
from analyzer.rank.rank import rank
from perf_client.profile import RequestRate
from tests.fakes import model_analyzer as fake
from tests.fakes.outcomes import QueueModel, failure, measurement, run_config, server_config
from tests.fakes.runs import write_run


def tables(tmp_path: Path, outcomes: list[Outcome], limit_ms: float | None = None) -> dict[str, pd.DataFrame]:
    """Model Analyzer's tables of a run, by file name."""
    budgets = () if limit_ms is None else (Budget(metric="p99_latency_ms", limit=limit_ms),)
    folder = write_run(tmp_path / "run", outcomes)
    quiet = Console(file=StringIO(), width=80)
    report.run(folder, budgets=budgets, formats=("model-analyzer",), console=quiet)
    assert sorted(path.name for path in folder.glob("report.*")) == []
    return {path.name: pd.read_csv(path) for path in (folder / "results").iterdir()}


def test_a_run_of_ours_becomes_model_analyzers_tables(tmp_path):
    wide = server_config(3, 16, True)
    outcomes = [
        measurement(run_config(server_config(), 1)),
        measurement(run_config(wide, 32)),
        measurement(run_config(wide, 128)),
        failure(run_config(server_config(5, 64, True), 1)),
    ]
    (frame,) = tables(tmp_path, outcomes, limit_ms=40).values()
    assert list(frame.columns) == [
        "Model", "Batch", "Concurrency", "Model Config Path", "Instance Group", "Max Batch Size",
        "Satisfies Constraints", "Throughput (infer/sec)", "p99 Latency (ms)",
    ]  # fmt: skip
    assert frame["Model Config Path"].to_list() == ["synthetic_config_0"] * 2 + ["synthetic_config_default"]
    assert frame["Instance Group"].to_list() == ["3:CPU", "3:CPU", "1:CPU"]
    assert frame["Max Batch Size"].to_list() == [16, 16, 8]
    assert frame["Concurrency"].to_list() == [32, 128, 1]
    assert frame["Satisfies Constraints"].to_list() == ["Yes", "No", "Yes"]


def test_gpus_have_a_table_and_request_rates_a_column(tmp_path):
    rated = run_config(server_config(1, 8, True), RequestRate(per_second=20.0))
    made = tables(tmp_path, [measurement(rated, QueueModel(gpu=True))])
    assert set(made) == {INFERENCE_FILE, GPU_FILE}
    assert made[INFERENCE_FILE]["Request Rate"].to_list() == [20.0]
    assert made[GPU_FILE]["GPU Memory Usage (MB)"].notna().all()


def test_an_overloaded_point_satisfies_nothing(tmp_path):
    outcomes = [
        measurement(run_config(server_config(), 1)),
        measurement(run_config(server_config(), 64), verdict="overloaded"),
    ]
    (frame,) = tables(tmp_path, outcomes).values()
    assert frame["Satisfies Constraints"].to_list() == ["Yes", "No"]


def test_a_run_folder_of_ours_stays_one_beside_a_checkpoint(tmp_path):
    folder = write_run(tmp_path / "run", [])
    assert not checkpoint_report.takes(fake.folder(folder, fake.content("older-layout")))
    assert checkpoint_report.takes(fake.folder(tmp_path / "theirs", fake.content("older-layout")))


def test_tables_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(InputError, match="the tables can't be written into"):
        report.write_beside({INFERENCE_FILE: "Model\n"}, tmp_path / report.TABLES_FOLDER)
    assert report.write_beside({}, tmp_path) == []


def served(*variants: ModelVariant, beside: tuple[str, ...] = ()) -> Measurement:
    """A point of the first model and of those beside it, on a server with these variants."""
    made = measurement(run_config(server_config(model=variants[0].model), 2))
    loads = [replace(made.config.load, model=model) for model in beside]
    config = replace(made.config, server=ServerConfig(variants=variants), beside=tuple(loads))
    others = tuple(replace(made.load, profile=load) for load in loads)
    return replace(made, config=config, beside=others)


def test_an_ensemble_is_another_variant_whenever_a_part_of_it_is():
    whole, part, other = (ModelVariant(model=name) for name in ("ens", "part", "other"))
    changed = replace(part, instance_count=2)
    outcomes = [served(whole, part, other), served(whole, changed, other), served(whole, changed, changed)]
    named = list(named_variants(outcomes).values())
    assert [each.name for each in named] == ["ens_config_default", "ens_config_0", "ens_config_1"]
    assert [name for name, _ in named[1].called] == ["part_config_0", "other_config_default"]


def test_models_together_have_a_name_and_a_part_each():
    one, other = ModelVariant(model="a"), ModelVariant(model="b", max_batch_size=4)
    point = served(one, other, beside=("b",))
    ranking = rank([point], (), ())
    checkpoint, satisfies, _ = as_checkpoint([point], ranking, {})
    (configuration,) = checkpoint.configurations
    assert (configuration.model, configuration.name) == ("a,b", "a_config_default,b_config_0")
    assert [part.concurrency for part in configuration.points[0].models] == [2, 2]
    assert satisfies(configuration, configuration.points[0])
