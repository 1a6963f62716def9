"""Ways to travel that exclude each other, in the words of a profile: flags and jobs come through here alike."""

from perf_client.errors import usage_error
from perf_client.profile import LoadProfile


def check_transport(profile: LoadProfile) -> None:
    """Raises LoadError with what to change."""
    service, over_http = profile.service, profile.protocol == "http"
    if profile.workers < 1:
        raise usage_error(f"{profile.workers} workers send nothing; use 1 or more")
    if profile.streaming and service == "triton" and over_http:
        raise usage_error("streaming needs -i grpc, or --service-kind openai")
    if service == "triton":
        return
    if not profile.endpoint:
        missing = "--endpoint PATH" if service == "openai" else "--model-repository DIR"
        raise usage_error(f"the service kind {service} needs {missing}")
    lacking = {
        "gRPC": not over_http,
        "shared memory": profile.shared_memory != "none",
        "compression": profile.compression != "none",
        "sequences": profile.sequences is not None,
        "a mix of models": bool(profile.mix) and service == "openai",
    }
    for what, asked in lacking.items():
        if asked:
            raise usage_error(f"the service kind {service} takes no {what}; leave it out")
