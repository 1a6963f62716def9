"""Python models that do their worst to their own process: each fails its own requests only, and another lives on."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError
from tests.fakes import repositories
from tests.fakes.opened_store import Use, asked, serve

# Executes the text in INPUT0 and answers with the id of its process.
DOER = """\
import ctypes
import os
import resource
import socket
import sys
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

KEPT = []


def leak():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        KEPT.append(open(os.devnull))


def starve():
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    KEPT.append(bytearray(2**40))


def recurse():
    return recurse()


def sockets():
    for fd in range(3, 64):
        try:
            yield socket.socket(fileno=os.dup(fd))
        except OSError:
            pass


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            exec(request.inputs()[0].as_numpy()[0].decode(), globals())
        answer = np.array([str(os.getpid())], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", answer)]) for _ in requests]
"""

ENDS = {
    "a segmentation fault": "ctypes.string_at(0)",
    "an abort": "os.abort()",
    "an end out of another thread": "threading.Thread(target=os._exit, args=(7,)).start()\nthreading.Event().wait()",
    "closing what it speaks through": "os.closerange(3, 256)",
    "noise to all that it has open": "[one.send(b'\\xff' * 64) for one in sockets()]\nthreading.Event().wait()",
    "a frame without end": "[one.send(b'\\xff\\xff\\xff\\x7f') for one in sockets()]\nos._exit(0)",
    "a child that goes on as its twin": "os.fork()",
}
"""Of the process."""

STAYS = {
    "megabytes to stdout": "print('x' * 5_000_000)",
    "all descriptors taken": "leak()",
    "no memory left": "starve()",
    "endless recursion": "recurse()",
    "a stop that is not for it": "raise KeyboardInterrupt",
    "a child that stays": "os.fork() or (os.closerange(3, 256), threading.Event().wait())",
    "a child that ends": "os.fork() or os._exit(0)",
    "a thread that never ends": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "stdout closed": "os.close(1)",
}
"""The process does, or the next one: an answer comes either way."""


async def ask(store: ModelStore, model: str, code: str) -> int | InferError:
    answer = await asked(store, model, {"INPUT0": np.array([code.encode()], np.object_)})
    return answer if isinstance(answer, InferError) else int(answer.outputs["OUTPUT0"][0])


def play(repository: Path, use: Use) -> None:
    for name in ("doer", "other"):
        repositories.write_python(repository, name, DOER, type_name="TYPE_STRING", dims=(1,))
    serve(repository, use)


@pytest.mark.parametrize("case", ENDS)
def test_process_that_ends_itself_fails_its_own_request_and_is_started_again(tmp_path: Path, case: str):
    async def use(store: ModelStore) -> None:
        other = await ask(store, "other", "")
        before = await ask(store, "doer", "")
        worst, beside = await asyncio.gather(ask(store, "doer", ENDS[case]), ask(store, "other", ""))
        if "twin" not in case:  # the first of the twins to answer may be in time
            assert isinstance(worst, InferError)
            assert "it is started again" in worst.message
        assert beside == other
        after = before
        while isinstance(after, InferError) or after == before:
            after = await ask(store, "doer", "")
        assert await ask(store, "doer", "") == after
        assert store.all_ready()

    play(tmp_path, use)


@pytest.mark.parametrize("case", STAYS)
def test_what_a_model_does_to_its_process_leaves_it_or_its_successor_answering(tmp_path: Path, case: str):
    async def use(store: ModelStore) -> None:
        other = await ask(store, "other", "")
        await ask(store, "doer", STAYS[case])
        while isinstance(await ask(store, "doer", ""), InferError):
            pass
        assert await ask(store, "other", "") == other

    play(tmp_path, use)


def test_import_that_takes_long_holds_nobody_up(tmp_path: Path):
    gate = tmp_path / "gate"
    slow = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.005)\n{DOER}"

    async def use(store: ModelStore) -> None:
        repositories.write_python(tmp_path, "slow", slow, type_name="TYPE_STRING", dims=(1,))
        loading = asyncio.ensure_future(store.load("slow"))
        for _ in range(20):
            assert isinstance(await ask(store, "doer", ""), int)
        assert not loading.done()
        with pytest.raises(InferError, match="'slow' is not at ready state"):
            await ask(store, "slow", "")
        gate.touch()
        await loading
        assert isinstance(await ask(store, "slow", ""), int)

    play(tmp_path, use)


def test_no_request_fails_while_its_model_is_loaded_again_and_again(tmp_path: Path):
    """Loads of one model at the same time follow each other, and each request has its answer from one of them."""

    async def use(store: ModelStore) -> None:
        is_over = False
        seen: set[int | InferError] = set()

        async def drive() -> None:
            while not is_over:
                seen.add(await ask(store, "doer", ""))

        drivers = [asyncio.ensure_future(drive()) for _ in range(4)]
        for _ in range(4):
            await asyncio.gather(*(store.load("doer") for _ in range(3)))
        is_over = True
        await asyncio.gather(*drivers)
        assert all(isinstance(answer, int) for answer in seen)
        assert len(seen) > 1, "none of the loads made a new process"

    play(tmp_path, use)


def test_loads_and_unloads_of_one_model_at_the_same_time_leave_it_whole_or_gone(tmp_path: Path):
    async def use(store: ModelStore) -> None:
        await asyncio.gather(store.load("doer"), store.unload("doer"), store.load("doer"), store.unload("doer"))
        assert store.is_ready("doer") == ("doer" in {entry.name for entry in store.index() if entry.state == "READY"})
        await store.unload("doer")
        assert not store.is_ready("doer")
        await store.load("doer")
        assert isinstance(await ask(store, "doer", ""), int)

    play(tmp_path, use)
