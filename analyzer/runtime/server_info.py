"""What the server says of itself."""

from functools import cache

SERVER_NAME = "serving-analyzer"
EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    "generate",
)


@cache
def server_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("serving-analyzer")
    except PackageNotFoundError:
        return "0"
