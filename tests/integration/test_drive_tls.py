"""TLS and mTLS to real servers, with certificates made for the run."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
import uvloop

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, Protocol
from perf_client.target import Target
from perf_client.tls import Tls
from tests.fakes.certificates import Certificates, make_certificates, openssl_is_there
from tests.fakes.driven import failures
from tests.fakes.grpc_server import grpc_server
from tests.fakes.scripted_http import ScriptedServer, answer_at_once, scripted_server

pytestmark = pytest.mark.skipif(not openssl_is_there(), reason="needs the openssl command")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("misnamed"), server_name="DNS:elsewhere.test")


def run_over(protocol: Protocol, tls: Tls | None, server: Certificates, client_needed: bool = False) -> Counter[str]:
    run = drive_http(tls, server, client_needed) if protocol == "http" else drive_grpc(tls, server, client_needed)
    return failures(run)


def drive_http(tls: Tls | None, server: Certificates, client_needed: bool) -> Run:
    async def main() -> Run:
        # What the handshake tells the server is of no interest here.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        context = server.server_context(client_needed)
        async with scripted_server(ScriptedServer(answer_at_once), tls=context) as scripted:
            load = LoadProfile(model="scripted", load=Concurrency(in_flight=3), request_count=50)
            return await drive(load, Target("127.0.0.1", scripted.port, "http", tls))

    return uvloop.run(main())


def drive_grpc(tls: Tls | None, server: Certificates, client_needed: bool) -> Run:
    load = LoadProfile(
        model="echo", protocol="grpc", load=Concurrency(in_flight=3), request_count=50, shapes={"INPUT0": (70_000,)}
    )
    with grpc_server(credentials=server.grpc_credentials(client_needed)) as port:
        return uvloop.run(drive(load, Target("127.0.0.1", port, "grpc", tls)))


BOTH = pytest.mark.parametrize("protocol", ["http", "grpc"])


@BOTH
def test_a_trusted_server_is_driven(protocol: Protocol, made: Certificates):
    assert run_over(protocol, Tls(ca_file=made.file("ca.pem")), made) == {"": 50}


@BOTH
def test_a_server_that_wants_a_certificate_gets_the_clients(protocol: Protocol, made: Certificates):
    tls = Tls(ca_file=made.file("ca.pem"), certificate_file=made.file("client.pem"), key_file=made.file("client.key"))
    assert run_over(protocol, tls, made, client_needed=True) == {"": 50}


@BOTH
def test_without_a_certificate_such_a_server_is_a_sentence(protocol: Protocol, made: Certificates):
    with pytest.raises(LoadError, match="no KServe v2 server answers"):
        run_over(protocol, Tls(ca_file=made.file("ca.pem")), made, client_needed=True)


@pytest.mark.parametrize("key_kind", ["pkcs8", "ec"])
def test_certificate_and_key_may_be_der(key_kind: str, made: Certificates):
    tls = Tls(
        ca_file=made.file("ca.pem"),
        certificate_file=made.to_der("client.pem", "x509"),
        certificate_type="DER",
        key_file=made.to_der("client.key", key_kind),
        key_type="DER",
    )
    assert run_over("http", tls, made, client_needed=True) == {"": 50}


@BOTH
def test_a_server_that_nobody_vouches_for_is_a_sentence(protocol: Protocol, made: Certificates):
    with pytest.raises(LoadError, match=r"no KServe v2 server answers.*certificate.verify.failed") as caught:
        run_over(protocol, Tls(), made)
    assert caught.value.exit_code == 5


@BOTH
def test_it_is_driven_where_it_need_not_be_checked(protocol: Protocol, made: Certificates):
    assert run_over(protocol, Tls(verify_peer=False), made) == {"": 50}


@BOTH
def test_another_servers_certificate_is_taken_only_where_names_dont_matter(protocol: Protocol, misnamed: Certificates):
    ca = misnamed.file("ca.pem")
    assert run_over(protocol, Tls(ca_file=ca, verify_host=False), misnamed) == {"": 50}
    with pytest.raises(LoadError, match="IP address mismatch"):
        run_over(protocol, Tls(ca_file=ca), misnamed)


@BOTH
def test_a_server_over_tls_is_not_driven_in_the_clear(protocol: Protocol, made: Certificates):
    with pytest.raises(LoadError, match="no KServe v2 server answers"):
        run_over(protocol, None, made)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ca_file": "nowhere.pem"}, "the CA file nowhere.pem can't be used: No such file"),
        ({"ca_file": "text"}, "the CA file text can't be used: .*; give certificates in PEM"),
        ({"certificate_file": "nowhere.pem"}, "client certificate nowhere.pem .* can't be used: No such file"),
        ({"certificate_file": "text", "key_file": "text"}, "client certificate text with the key text can't be used"),
        (
            {"certificate_file": "text", "key_file": "text", "key_type": "DER"},
            "client certificate text .* not a key in DER",
        ),
        ({"key_file": "text"}, "the key text has no certificate"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_sentences(
    settings: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "text").write_text("no certificate")
    monkeypatch.chdir(tmp_path)
    target = Target("127.0.0.1", 1, "http", Tls(**settings))
    load = LoadProfile(model="m", load=Concurrency(in_flight=1))
    with pytest.raises(LoadError, match=sentence) as caught:
        uvloop.run(drive(load, target))
    assert caught.value.exit_code == 2
