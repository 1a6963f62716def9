"""A run folder as the real store writes it, filled with synthetic outcomes."""

from collections.abc import Iterable
from pathlib import Path

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Outcome
from analyzer.domain.model import ModelSpec, TensorSpec
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.store import RunFolder, RunHeader
from tests.fakes.outcomes import failure, measurement, run_config, server_config, sweep

P99_20 = (Budget(metric="p99_latency_ms", limit=20.0),)


def model_spec(name: str = "synthetic") -> ModelSpec:
    return ModelSpec(
        name=name,
        backend="simulated",
        max_batch_size=8,
        inputs=(TensorSpec(name="INPUT", datatype="FP32", shape=(4,)),),
        outputs=(TensorSpec(name="OUTPUT", datatype="FP32", shape=(4,)),),
        instance_count=1,
        dynamic_batching=False,
        digest="0",
        config_text=f'name: "{name}"\nbackend: "simulated"\nmax_batch_size: 8\n',
    )


def header(
    model: str = "synthetic",
    *,
    budgets: tuple[Budget, ...] = P99_20,
    objectives: tuple[Objective, ...] = (Objective(metric="throughput"),),
) -> RunHeader:
    return RunHeader(
        command=f"analyzer profile --model-repository models --profile-models '{model}' --latency-budget 20",
        settings={"profile_models": [model], "latency_budget_ms": 20.0, "duration_s": 5.0, "time_limit_s": None},
        model_specs=(model_spec(model),),
        space=SearchSpace(models=(ModelSpace(model=model, load=LoadRange(kind="concurrency", minimum=1, maximum=64)),)),
        objectives=objectives,
        budgets=budgets,
        content="synthetic",
        tool_version="0.0.0",
        started_at="2026-01-01T12:00:00Z",
    )


def write_run(path: Path, outcomes: Iterable[Outcome], run_header: RunHeader | None = None) -> Path:
    """The folder's path. Every server configuration gets a ``config.pbtxt`` that names its instances."""
    head = run_header or header()
    environment = {
        "cpu": "A synthetic processor",
        "cores": 2,
        "memory_bytes": 8 * 2**30,
        "gpus": [],
        "gpu_driver": None,
        "libraries": {"numpy": "2.0.0"},
    }
    run = RunFolder.create(path, head, environment)
    for outcome in outcomes:
        run.append(outcome)
        for variant in outcome.config.server.variants:
            text = f'name: "{variant.model}"\ninstance_group {{ count: {variant.instance_count or 1} }}\n'
            run.keep_config_text(outcome.config.server, variant.model, text)
    return path


def typical(model: str = "synthetic") -> list[Outcome]:
    """A sweep with a failure, an overloaded point and a repeat in it."""
    repeated = server_config(3, 16, True, delay_us=500, model=model)
    return [
        *sweep(model=model),
        failure(run_config(server_config(5, 64, True, model=model), 1)),
        measurement(run_config(server_config(4, 4, True, model=model), 4), verdict="overloaded"),
        measurement(run_config(repeated, 32, seed=1)),
    ]
