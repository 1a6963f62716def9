"""What the server says of itself."""

from functools import cache

SERVER_NAME = "serving-analyzer"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "sequence",
    "statistics",
    "model_configuration",
    "model_repository",
    "system_shared_memory",
    "generate",
    "parameters",
    "logging",
)


@cache
def server_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("serving-analyzer")
    except PackageNotFoundError:
        return "0"
