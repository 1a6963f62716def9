import pytest

from perf_client.command import parse
from perf_client.errors import LoadError
from perf_client.tls import Tls


def command(*flags: str):
    parsed = parse(["-m", "m", *flags])
    assert parsed is not None
    return parsed


def test_perf_analyzers_grpc_flags_become_tls():
    given = command(
        *("-i", "grpc", "--ssl-grpc-use-ssl", "--ssl-grpc-root-certifications-file", "ca"),
        *("--ssl-grpc-private-key-file", "key", "--ssl-grpc-certificate-chain-file", "chain"),
    )
    assert given.tls == Tls(ca_file="ca", key_file="key", certificate_file="chain")
    assert command("-i", "grpc", "--ssl-grpc-use-ssl").tls == Tls()
    assert command("-i", "grpc").tls is None


def test_perf_analyzers_https_flags_become_tls():
    given = command(
        *("--ssl-https-verify-peer", "0", "--ssl-https-verify-host", "0", "--ssl-https-ca-certificates-file", "ca"),
        *("--ssl-https-client-certificate-file", "crt", "--ssl-https-client-certificate-type", "DER"),
        *("--ssl-https-private-key-file", "key", "--ssl-https-private-key-type", "DER"),
    )
    assert given.tls == Tls(
        ca_file="ca",
        certificate_file="crt",
        certificate_type="DER",
        key_file="key",
        key_type="DER",
        verify_peer=False,
        verify_host=False,
    )
    assert command().tls is None


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["-i", "grpc", "--grpc-compression-algorithm", "gzip"], "compression", "gzip"),
        (["--http-compression", "deflate"], "compression", "deflate"),
        (["-i", "grpc", "--streaming"], "streaming", True),
        (["--shared-memory", "system"], "shared_memory", "system"),
        (["--shared-memory", "none"], "shared_memory", "none"),
        (["--shared-memory", "cuda", "--output-shared-memory-size", "9"], "output_shared_memory_bytes", 9),
        (["--service-kind", "openai", "--endpoint", "v1/completions"], "endpoint", "v1/completions"),
        (["--service-kind", "in_process", "--model-repository", "models"], "endpoint", "models"),
        (["--workers", "3"], "workers", 3),
    ],
)
def test_a_flag_is_a_field_of_the_profile(flags: list[str], field: str, value: object):
    assert getattr(command(*flags).profile, field) == value


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--grpc-compression-algorithm", "gzip"], "needs -i grpc; over HTTP use --http-compression"),
        (["-i", "grpc", "--http-compression", "gzip"], "needs -i http; over gRPC use --grpc-compression-algorithm"),
        (["--output-shared-memory-size", "9"], "needs --shared-memory"),
        (["--ssl-grpc-use-ssl"], "--ssl-grpc-.* needs -i grpc"),
        (["-i", "grpc", "--ssl-https-verify-peer", "0"], "--ssl-https-.* needs -i http"),
        (["-i", "grpc", "--ssl-grpc-private-key-file", "k"], "need --ssl-grpc-use-ssl"),
        (["--endpoint", "v1"], "--service-kind openai and --endpoint PATH need each other"),
        (["--service-kind", "openai"], "--service-kind openai and --endpoint PATH need each other"),
        (["--service-kind", "in_process"], "--model-repository DIR need each other"),
        (["--service-kind", "triton_c_api"], "Triton isn't loaded into this process; start it and use triton"),
        (["--service-kind", "tfserving"], "tfserving is not supported"),
        (["--service-kind", "other"], "'other' is none of triton, openai, in_process"),
        (["--concurency-range", "4"], "did you mean --concurrency-range\\?; see perf-client --help"),
        (["--workers", "0"], "not a whole number of at least 1"),
    ],
)
def test_what_contradicts_itself_is_a_sentence(flags: list[str], sentence: str):
    with pytest.raises(LoadError, match=sentence) as caught:
        command(*flags)
    assert caught.value.exit_code == 2
