"""What every launcher has to keep: our runtime, a tritonserver that is started, and a server that runs already."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.errors import ChildError
from analyzer.launchers.remote import RemoteLauncher
from analyzer.launchers.runtime import RuntimeLauncher
from analyzer.launchers.server import Launcher, exchange
from analyzer.launchers.triton import TritonLauncher
from analyzer.repository import config_texts, varied_all, write_variants
from tests.fakes.repositories import write_add_sub
from tests.fakes.running_server import running_server

TRITON = os.environ.get("TRITONSERVER") or shutil.which("tritonserver")
"""A real one, where there is one; TRITONSERVER names it."""

KINDS = (
    "runtime",
    "remote",
    pytest.param("triton", marks=pytest.mark.skipif(TRITON is None, reason="no tritonserver is installed")),
    pytest.param("remote triton", marks=pytest.mark.skipif(TRITON is None, reason="no tritonserver is installed")),
)


@contextmanager
def launcher(kind: str, repository: Path, scratch: Path) -> Iterator[Launcher]:
    with ExitStack() as stack:
        match kind:
            case "runtime":
                yield RuntimeLauncher(repository)
            case "triton":
                yield TritonLauncher(repository, str(TRITON))
            case "remote":
                flags = ("--model-control-mode", "explicit", "--load-model", "add_sub")
                server = stack.enter_context(running_server(repository, *flags))
                yield stack.enter_context(RemoteLauncher(server.http, server.grpc))
            case _:
                binary = TritonLauncher(repository, str(TRITON))
                up = stack.enter_context(binary.as_it_is(["add_sub"], scratch / "triton.log"))
                yield stack.enter_context(RemoteLauncher(up.url("http"), up.url("grpc")))


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_served_as_they_are_then_as_they_are_asked_for(kind: str, tmp_path: Path):
    repository = tmp_path / "models"
    write_add_sub(repository)
    log = tmp_path / "log"
    with launcher(kind, repository, tmp_path) as chosen:
        with chosen.as_it_is(["add_sub"], log) as server:
            before = server.model_config("add_sub")
            assert before.max_batch_size == 8
        configs = {"add_sub": before}
        for batch, instances in ((2, 2), (4, 1)):
            wanted = ServerConfig(
                variants=(ModelVariant(model="add_sub", max_batch_size=batch, instance_count=instances),)
            )
            folder = tmp_path / wanted.key
            if chosen.needs_files:
                assert write_variants(repository, configs, wanted, folder) == config_texts(configs, wanted)
            with chosen.serve(varied_all(configs, wanted), folder, log) as server:
                now = server.model_config("add_sub")
                assert (now.max_batch_size, sum(group.count for group in now.instance_group)) == (batch, instances)
                assert server.is_alive()
                assert exchange(server.url("http"), "GET", "/v2/models/add_sub/ready").status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_that_does_not_load_is_told_with_its_reason(kind: str, tmp_path: Path):
    repository = tmp_path / "models"
    write_add_sub(repository)
    with launcher(kind, repository, tmp_path) as chosen:
        with chosen.as_it_is(["add_sub"], tmp_path / "log") as server:
            config = server.model_config("add_sub")
        broken = ModelConfig()
        broken.CopyFrom(config)
        broken.backend = "no_such_backend"
        folder = tmp_path / "broken"
        shutil.copytree(repository, folder)
        (folder / "add_sub" / "config.pbtxt").write_text('name: "add_sub" backend: "no_such_backend"')
        with pytest.raises(ChildError) as caught, chosen.serve({"add_sub": broken}, folder, tmp_path / "log"):
            pass
        assert "no_such_backend" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS[1:2] + KINDS[3:])
def test_a_running_server_has_its_models_back_as_it_had_them(kind: str, tmp_path: Path):
    repository = tmp_path / "models"
    write_add_sub(repository)
    write_add_sub(repository, "other")
    with ExitStack() as stack:
        if kind == "remote":
            flags = ("--model-control-mode", "explicit", "--load-model", "add_sub")
            up = stack.enter_context(running_server(repository, *flags))
            http, grpc = up.http, up.grpc
        else:
            binary = TritonLauncher(repository, str(TRITON))
            triton = stack.enter_context(binary.as_it_is(["add_sub"], tmp_path / "log"))
            http, grpc = triton.url("http"), triton.url("grpc")
        with RemoteLauncher(http, grpc) as chosen, chosen.as_it_is(["add_sub", "other"], tmp_path) as server:
            met = server.model_config("add_sub")
            configs = {"add_sub": met, "other": server.model_config("other")}
            wanted = ServerConfig(variants=(ModelVariant(model="add_sub", max_batch_size=2),))
            with chosen.serve(varied_all(configs, wanted), tmp_path, tmp_path):
                assert server.model_config("add_sub").max_batch_size == 2
        assert server.model_config("add_sub") == met
        assert exchange(http, "GET", "/v2/models/other/ready").status != 200


def test_a_server_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ChildError, match=r"no server answers at 127\.0\.0\.1:9"), RemoteLauncher("127.0.0.1:9", "x:1"):
        pass
