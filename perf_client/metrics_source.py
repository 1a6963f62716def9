"""Where a server's metrics are, and which of them are wanted."""

import msgspec

GPU_FAMILIES = (
    "nv_gpu_utilization",
    "nv_gpu_power_usage",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
)
DEFAULT_FAMILIES = ("nv_inference_*",)


class MetricsSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a server's metrics are and which of them are wanted, beside those of its GPUs."""

    url: str
    interval_s: float = 1.0
    families: tuple[str, ...] = DEFAULT_FAMILIES
