"""A model that does not come to an end is unloaded all the same."""

import asyncio
from pathlib import Path

import numpy as np

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError, InferResponse
from tests.fakes import repositories
from tests.fakes.opened_store import asked, infer, serve

HANGS = """\
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        while requests[0].inputs()[0].as_numpy().any():
            time.sleep(0.01)
        outputs = [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy()) for request in requests]
        return [pb_utils.InferenceResponse([output]) for output in outputs]
"""
ZERO, ONE = {"INPUT0": np.zeros(1, np.float32)}, {"INPUT0": np.ones(1, np.float32)}


def test_what_a_hanging_model_was_asked_fails_when_the_time_is_up_and_the_model_is_gone(tmp_path: Path):
    repositories.write_python(tmp_path, "hangs", HANGS)

    async def use(store: ModelStore) -> None:
        waiting = [asked(store, "hangs", ONE) for _ in range(3)]
        await store.unload("hangs")
        for answer in await asyncio.gather(*waiting):
            assert isinstance(answer, InferError)
            assert answer.kind is ErrorKind.UNAVAILABLE
        (entry,) = store.index()
        assert (entry.state, entry.reason) == ("UNAVAILABLE", "unloaded")
        await store.load("hangs")
        assert isinstance(await infer(store, "hangs", ZERO), InferResponse)

    serve(tmp_path, use, unload_limit_s=0.2)


def test_a_model_that_replaces_a_hanging_one_serves_meanwhile(tmp_path: Path):
    repositories.write_python(tmp_path, "hangs", HANGS)

    async def use(store: ModelStore) -> None:
        waiting = asked(store, "hangs", ONE)
        await store.load("hangs")
        assert isinstance(await infer(store, "hangs", ZERO), InferResponse)
        assert isinstance(await waiting, InferError)

    serve(tmp_path, use, unload_limit_s=0.5)
