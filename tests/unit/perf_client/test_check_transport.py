import pytest

from perf_client.check_transport import check_transport
from perf_client.errors import LoadError
from perf_client.loads import Concurrency, Sequences
from perf_client.profile import LoadProfile


def profile(**changes) -> LoadProfile:
    return LoadProfile(model="m", load=Concurrency(in_flight=1), **changes)


OPENAI = {"service": "openai", "endpoint": "v1/completions"}
IN_PROCESS = {"service": "in_process", "endpoint": "models"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"protocol": "grpc", "streaming": True, "shared_memory": "system", "compression": "gzip"},
        {"shared_memory": "system", "compression": "gzip", "workers": 3},
        OPENAI | {"streaming": True},
        IN_PROCESS | {"streaming": True},
    ],
)
def test_what_goes_together_is_taken(settings: dict):
    check_transport(profile(**settings))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"workers": 0}, "0 workers send nothing; use 1 or more"),
        ({"streaming": True}, "streaming needs -i grpc"),
        ({"service": "openai"}, "needs --endpoint PATH"),
        ({"service": "in_process"}, "needs --model-repository DIR"),
        (OPENAI | {"protocol": "grpc"}, "openai takes no gRPC"),
        (OPENAI | {"shared_memory": "system"}, "openai takes no shared memory"),
        (OPENAI | {"compression": "gzip"}, "openai takes no compression"),
        (IN_PROCESS | {"sequences": Sequences()}, "in_process takes no sequences"),
    ],
)
def test_what_excludes_each_other_is_a_sentence(settings: dict, sentence: str):
    with pytest.raises(LoadError, match=sentence) as caught:
        check_transport(profile(**settings))
    assert caught.value.exit_code == 2
