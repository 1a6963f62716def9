import asyncio

import numpy as np
import pytest

from analyzer.runtime.backends.python_backlog import Backlog, Backlogs
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse

MIB = 2**20


def answer(mib: int = 0, *, final: bool = False) -> InferResponse:
    return InferResponse("m", "1", "", {"OUT": np.broadcast_to(np.uint8(0), mib * MIB)}, final=final)


class Scene:
    """A caller with two open calls, of which it waits for the second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up_s: float = 1e6) -> None:
        self.backlog = Backlog(loop, give_up_s)
        self.errors: list[InferError] = []
        self.requests = [InferRequest("held", {}, 0), InferRequest("wanted", {}, 0)]
        for number, request in enumerate(self.requests):
            self.backlog.open(number, request, self.errors.append)

    def pile_up(self, count: int) -> bool:
        """Whether the first call is held after so many more answers of a MiB each."""
        for _ in range(count):
            self.backlog.answered(0, answer(1))
        return self.requests[0].is_held


def play(scene) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await scene(asyncio.get_running_loop())

    asyncio.run(run())


def test_call_whose_answers_lie_untaken_is_held_until_they_are_taken():
    async def scene(loop) -> None:
        caller = Scene(loop)
        assert not caller.pile_up(15)
        assert caller.pile_up(2)
        caller.backlog.take(0, 4)
        assert not caller.requests[0].is_held

    play(scene)


def test_few_large_answers_are_not_held_as_the_server_hears_late_of_what_is_taken():
    async def scene(loop) -> None:
        caller = Scene(loop)
        for _ in range(8):
            caller.backlog.answered(0, answer(10))
        assert not caller.requests[0].is_held

    play(scene)


def test_more_may_lie_there_while_the_caller_waits_for_another_call():
    async def scene(loop) -> None:
        caller = Scene(loop)
        assert caller.pile_up(20)
        caller.backlog.wait(1, 0)
        assert not caller.requests[0].is_held
        assert not caller.pile_up(200)
        caller.backlog.answered(1, answer())
        assert caller.requests[0].is_held, "it waits no more"
        caller.backlog.wait(1, 0)
        assert caller.requests[0].is_held, "said before that answer came"
        caller.backlog.wait(1, 1)
        assert not caller.requests[0].is_held
        caller.backlog.answered(1, answer(final=True))
        caller.backlog.wait(1, 1)
        assert caller.requests[0].is_held, "that call is over"

    play(scene)


def test_single_calls_are_waited_for_until_they_are_answered():
    async def scene(loop) -> None:
        caller = Scene(loop)
        caller.backlog.open_single(7)
        assert not caller.pile_up(30)
        caller.backlog.answered(7, InferError(ErrorKind.INTERNAL, "no"))
        assert caller.requests[0].is_held

    play(scene)


def test_call_that_stays_held_while_another_is_waited_for_fails_with_a_sentence():
    async def scene(loop) -> None:
        caller = Scene(loop, give_up_s=0.0)
        caller.backlog.wait(1, 0)
        assert caller.pile_up(300)
        while not caller.errors:
            await asyncio.sleep(0)
        (error,) = caller.errors
        assert error.kind is ErrorKind.RESOURCE_EXHAUSTED
        assert "'held' was given up" in error.message
        assert [request.is_cancelled for request in caller.requests] == [True, False]
        assert not caller.backlog.answered(0, answer(1)), "what still comes is dropped"
        assert not caller.backlog.answered(0, answer(final=True))
        assert caller.backlog.answered(1, answer())

    play(scene)


@pytest.mark.parametrize("ending", ["end", "forget", "take"])
def test_nothing_is_given_up_once_it_moved(ending: str):
    async def scene(loop) -> None:
        caller = Scene(loop, give_up_s=0.01)
        caller.backlog.wait(1, 0)
        assert caller.pile_up(300)
        if ending == "end":
            caller.backlog.end()
            assert all(request.is_cancelled for request in caller.requests)
        elif ending == "forget":
            caller.backlog.forget(0)
        else:
            caller.backlog.take(0, 300)
        await asyncio.sleep(0.05)
        assert caller.errors == []

    play(scene)


def test_answers_for_a_process_that_is_gone_are_dropped_and_nothing_of_it_stays():
    async def scene(loop) -> None:
        backlogs = Backlogs(loop)
        backlogs.of("process").open_single(1)
        assert backlogs.answered("process", 1, answer())
        backlogs.end("process")
        assert not backlogs.answered("process", 2, answer(final=True))
        assert backlogs.forget("process", 2) is None
        assert backlogs._of == {}

    play(scene)
