"""Requests on their way from the front ends to the models: no more under way at a time than allowed."""

from collections.abc import Callable
from functools import partial

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Reply


class Intake:
    """``limit`` holds for the whole server, 0 is none; ``count`` is only kept where there is one.

    ``submit`` is as ModelStore.submit, and just that where there is no limit.
    """

    def __init__(self, store: ModelStore, limit: int = 0) -> None:
        self.count = 0
        self._store = store
        self.limit = limit
        self.submit: Callable[[InferRequest, Reply], None] = self._submit_counted if limit else store.submit

    def check(self) -> None:
        """Called before a request is decoded, so that one too many costs little. Raises InferError."""
        if self.limit and self.count >= self.limit:
            self._store.refused["too_many_requests"] += 1
            text = f"the server has {self.count} requests under way, its limit (--max-requests-in-flight); try again"
            raise InferError(ErrorKind.UNAVAILABLE, text)

    def _submit_counted(self, request: InferRequest, reply: Reply) -> None:
        self._store.submit(request, partial(self._on_answer, reply))
        self.count += 1

    def _on_answer(self, reply: Reply, answer: InferResponse | InferError) -> None:
        if isinstance(answer, InferError) or answer.final:
            self.count -= 1
        reply(answer)
