"""TLS and mutual TLS with unmodified tritonclient; certificates that can't be used."""

import ssl
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tests.fakes.certificates import Certificates, make_certificates, openssl_is_there
from tests.fakes.repositories import write_simulated
from tests.fakes.running_server import RunningServer, running_server, server_command

pytestmark = pytest.mark.skipif(not openssl_is_there(), reason="needs the openssl command")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_simulated(folder, "one")
    return folder


def flags(certificates: Certificates, *, mutual: bool) -> list[str]:
    given = ["--tls-certificate", certificates.file("server.pem"), "--tls-key", certificates.file("server.key")]
    return [*given, "--tls-client-ca", certificates.file("ca.pem")] if mutual else given


def context(certificates: Certificates, *, mutual: bool) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=certificates.file("ca.pem"))
    if mutual:
        made.load_cert_chain(certificates.file("client.pem"), certificates.file("client.key"))
    return made


def http_client(server: RunningServer, certificates: Certificates, *, mutual: bool):
    return triton_http.InferenceServerClient(
        server.http, ssl=True, ssl_context_factory=lambda: context(certificates, mutual=mutual)
    )


def grpc_client(server: RunningServer, certificates: Certificates, *, mutual: bool):
    own = (certificates.file("client.key"), certificates.file("client.pem")) if mutual else (None, None)
    return triton_grpc.InferenceServerClient(
        server.grpc,
        ssl=True,
        root_certificates=certificates.file("ca.pem"),
        private_key=own[0],
        certificate_chain=own[1],
    )


def echo(module, client, rows: int) -> bool:
    array = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    tensor = module.InferInput("INPUT0", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return np.array_equal(client.infer("one", [tensor]).as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("mutual", [False, True])
def test_requests_over_tls(repository, certificates, mutual):
    with running_server(repository, *flags(certificates, mutual=mutual)) as server:
        for module, make in ((triton_http, http_client), (triton_grpc, grpc_client)):
            client = make(server, certificates, mutual=mutual)
            assert client.is_server_ready()
            assert echo(module, client, 8)
            client.close()


@pytest.mark.parametrize("make", [http_client, grpc_client])
def test_client_without_a_certificate_is_not_let_in(repository, certificates, make):
    with running_server(repository, *flags(certificates, mutual=True)) as server:
        client = make(server, certificates, mutual=False)
        with pytest.raises(Exception, match=r"(?i)ssl|alert|certificate|closed|reset|connect|empty|unavailable"):
            client.get_server_metadata()
        client.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--tls-certificate", "nowhere.pem"], "can't be used"),
        (["--tls-key", "nowhere.pem"], "need --tls-certificate"),
    ],
)
def test_certificates_that_can_not_be_used_stop_the_start(repository, given, words):
    command = server_command(repository, *given)
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
