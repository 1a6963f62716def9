"""ResNet-50 served, over a bare loop on the same model: by hand, on a GPU. It asserts nothing.

Run as ``python -m tests.benchmarks.gpu_backends --out DIR``. The runtime and perf-client are child processes, the bare
loop runs in this one while they are idle. A bare loop has its input on the device and waits once, at its end: nothing
that serves the same model can be quicker. Served is the same batch in each request, several requests in flight, with
tensors over the socket, in system shared memory and in CUDA memory.
With ``--device cpu`` everything is small and slow, to see whether the script works.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from analyzer.runtime.backends.pytorch_library import allow_torchscript
from tests.benchmarks.resnet50_torch import save_torchscript
from tests.fakes.repositories import parameter_block, write_model
from tests.fakes.running_server import running_server


@dataclass(frozen=True)
class Variant:
    """One model of the repository, and its bare counterpart. ``precision`` is fp32 or fp16."""

    name: str
    backend: str
    precision: str = "fp32"
    graphs: bool = False


GPU_VARIANTS = (
    Variant("onnx_fp32", "onnxruntime"),
    Variant("torch_fp32", "pytorch"),
    Variant("torch_fp32_graph", "pytorch", graphs=True),
    Variant("torch_fp16", "pytorch", "fp16"),
    Variant("torch_fp16_graph", "pytorch", "fp16", graphs=True),
)
CPU_VARIANTS = GPU_VARIANTS[1:2]


@dataclass(frozen=True)
class Row:
    """``images_per_second`` is None where a cell could not be measured; ``reason`` says why."""

    variant: str
    batch: int
    way: str
    images_per_second: float | None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    device: str
    batches: tuple[int, ...]
    image_size: int
    seconds: float
    instances: int
    in_flight: int

    @property
    def ways(self) -> tuple[str, ...]:
        return ("none", "system", "cuda") if self.device == "cuda" else ("none", "system")


def write_repository(folder: Path, variants: tuple[Variant, ...], plan: Plan) -> tuple[Variant, ...]:
    """Gives those that could be written: the zoo may lack a library here."""
    written = []
    for variant in variants:
        try:
            write_variant(folder, variant, plan)
            written.append(variant)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  {variant.name} is left out: {error}")
    return tuple(written)


def write_variant(folder: Path, variant: Variant, plan: Plan) -> None:
    kind, size = variant.precision.upper(), plan.image_size
    parameters: dict[str, object] = {}
    if variant.backend == "pytorch":
        parameters |= {"allow_tf32": "false", "ENABLE_WEIGHT_SHARING": "true"}
    if variant.precision == "fp16":
        parameters |= {"precision": "fp16", "channels_last": "true"}
    if variant.graphs:
        parameters["cuda_graph_batch_sizes"] = ",".join(map(str, plan.batches))
    place = "KIND_GPU" if plan.device == "cuda" else "KIND_CPU"
    written = write_model(
        folder,
        variant.name,
        backend=variant.backend,
        inputs=[("input", f"TYPE_{kind}", (3, size, size))],
        outputs=[("output", f"TYPE_{kind}", (1000,))],
        max_batch_size=max(plan.batches),
        extra=f"instance_group {{ count: {plan.instances} kind: {place} }}\n" + parameter_block(parameters),
    )
    if variant.backend == "pytorch":
        save_torchscript(written / "1" / "model.pt", size)
    else:
        save_onnx(written / "1" / "model.onnx", folder)


def save_onnx(path: Path, folder: Path) -> None:
    """The zoo's; it takes images of one size only."""
    built = folder.parent / "zoo"
    command = [sys.executable, "-m", "analyzer", "zoo", "add", "resnet50", "--repository", str(built)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes((built / "resnet50" / "1" / "model.onnx").read_bytes())


def bare_rate(variant: Variant, batch: int, repository: Path, plan: Plan) -> float:
    loop = {"pytorch": bare_torch, "onnxruntime": bare_onnx}[variant.backend]
    step, wait = loop(variant, batch, repository, plan)
    for _ in range(3):
        step()
    wait()
    count, start_s = 0, time.monotonic()
    while time.monotonic() < start_s + plan.seconds:
        # Enough to keep the device busy, few enough that the queue in front of it does not grow without end.
        for _ in range(4):
            step()
            count += batch
        wait()
    return count / (time.monotonic() - start_s)


Loop = tuple[Callable[[], object], Callable[[], object]]


def bare_torch(variant: Variant, batch: int, repository: Path, plan: Plan) -> Loop:
    allow_torchscript()
    model = torch.jit.load(str(repository / variant.name / "1" / "model.pt"), map_location=plan.device).eval()
    x = torch.zeros(batch, 3, plan.image_size, plan.image_size, device=plan.device)
    if variant.precision == "fp16":
        model = model.half().to(memory_format=torch.channels_last)
        x = x.half().contiguous(memory_format=torch.channels_last)

    def step() -> object:
        with torch.inference_mode():
            return model(x)

    if plan.device == "cpu":
        return step, lambda: None
    if variant.graphs:
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.inference_mode():
            model(x)
        return graph.replay, torch.cuda.synchronize
    return step, torch.cuda.synchronize


def bare_onnx(variant: Variant, batch: int, repository: Path, plan: Plan) -> Loop:
    import onnxruntime

    path = str(repository / variant.name / "1" / "model.onnx")
    place = "cuda" if plan.device == "cuda" else "cpu"
    if place == "cuda":
        onnxruntime.preload_dlls()
    search = {"cudnn_conv_algo_search": "HEURISTIC"}
    providers: list[Any] = [("CUDAExecutionProvider", search)] if place == "cuda" else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, providers=providers)
    assert session.get_providers()[0] == (providers[0][0] if place == "cuda" else providers[0])
    binding = session.io_binding()
    x = torch.zeros(batch, 3, plan.image_size, plan.image_size).numpy()
    binding.bind_ortvalue_input("input", onnxruntime.OrtValue.ortvalue_from_numpy(x, place, 0))
    binding.bind_output("output", place, 0)
    return lambda: session.run_with_iobinding(binding), lambda: None


def served_rate(url: str, variant: Variant, batch: int, way: str, plan: Plan) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "perf_client", "-m", variant.name, "-u", url, "-i", "grpc", "-b", str(batch)]
        load = ["--concurrency-range", str(plan.in_flight), "--shared-memory", way, "--input-data", "zero"]
        times = ["--warmup", "1", "--duration", f"{plan.seconds:g}", "-o", folder]
        limit_s = 60 + 10 * plan.seconds
        done = subprocess.run([*command, *load, *times], check=False, capture_output=True, text=True, timeout=limit_s)
        if done.returncode not in (0, 7):
            raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
        (path,) = Path(folder).glob("*.json")
        result = json.loads(path.read_text())
    if sum(result["failures"].values()):
        raise RuntimeError(f"requests failed: {result['failure_examples']}")
    return float(result["throughput"]["per_second"])


def tried(variant: str, batch: int, way: str, measure: Callable[[], float]) -> Row:
    try:
        row = Row(variant, batch, way, measure())
    except Exception as error:  # one cell that can't be measured must not cost the others
        lines = str(error).strip().splitlines()
        row = Row(variant, batch, way, None, lines[0] if lines else type(error).__name__)
    shown = row.reason if row.images_per_second is None else f"{row.images_per_second:,.0f} images/s"
    print(f"  {variant}, batch {batch}, {way}: {shown}", flush=True)
    return row


def measured(repository: Path, variants: tuple[Variant, ...], plan: Plan) -> Iterator[Row]:
    for variant in variants:
        for batch in plan.batches:
            yield tried(variant.name, batch, "bare", lambda: bare_rate(variant, batch, repository, plan))  # noqa: B023 (called before the next turn)
        # A server for each, so that no other model holds memory or threads.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / variant.name).symlink_to(repository / variant.name)
            with running_server(Path(folder), "--allow-links-to", str(repository)) as server:
                for batch in plan.batches:
                    for way in plan.ways:
                        rate = lambda: served_rate(server.grpc, variant, batch, way, plan)  # noqa: E731, B023 (likewise)
                        yield tried(variant.name, batch, f"served, {way}", rate)


def table(rows: list[Row], plan: Plan) -> str:
    found = {(row.variant, row.batch, row.way): row for row in rows}
    ways = ["bare", *(f"served, {way}" for way in plan.ways)]
    lines = ["| model | batch | " + " | ".join(ways) + " |", "|---" * (len(ways) + 2) + "|"]
    for variant, batch in dict.fromkeys((row.variant, row.batch) for row in rows):
        cells = []
        bare = found[variant, batch, "bare"].images_per_second
        for way in ways:
            row = found.get((variant, batch, way))
            if row is None or row.images_per_second is None:
                cells.append("not measured")
            elif way == "bare" or not bare:
                cells.append(f"{row.images_per_second:,.0f}/s")
            else:
                cells.append(f"{row.images_per_second:,.0f}/s, {row.images_per_second / bare:.2f}")
        lines.append(f"| {variant} | {batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--variants", default="", help="names with commas between them; default: all")
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=4)
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    plan = Plan(
        given.device,
        (1, 32) if on_gpu else (1, 2),
        224 if on_gpu else 64,
        given.seconds,
        given.instances,
        given.in_flight,
    )
    variants = GPU_VARIANTS if on_gpu else CPU_VARIANTS
    if given.variants:
        variants = tuple(variant for variant in variants if variant.name in given.variants.split(","))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    machine = torch.cuda.get_device_name(0) if on_gpu else "CPU"
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{machine}, PyTorch {torch.__version__}, {plan.instances} instances, {plan.in_flight} requests in flight")
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        found = write_repository(repository, variants, plan)
        rows = list(measured(repository, found, plan))
    text = table(rows, plan)
    print(text)
    report = {"machine": machine, "torch": torch.__version__, **asdict(plan), "rows": [asdict(row) for row in rows]}
    (given.out / "gpu_backends.json").write_text(json.dumps(report, indent=2) + "\n")
    (given.out / "gpu_backends.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
