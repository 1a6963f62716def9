"""The instances of a ``model.py``, each in a process of its own: whichever is free takes what was handed over first."""

import asyncio
from collections import deque
from collections.abc import Sequence

from analyzer.runtime.backends.base import Answers, Execution, ModelFiles
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.backends.python_member import Item, Member
from analyzer.runtime.backends.python_model import Task
from analyzer.runtime.instance import UNLOADED, OnDone
from analyzer.runtime.request import ErrorKind, InferError


class ProcessCrew:
    """A Crew."""

    takes_device_tensors = False

    def __init__(
        self,
        files: ModelFiles,
        tasks: Sequence[Task],
        calls: Calls,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout_s: float = 0.0,
    ) -> None:
        self.size = len(tasks)
        self._calls = calls
        self._loop = loop
        self._timeout_s = timeout_s
        self._inbox: deque[Item] = deque()
        self._members = self._new_members(files, tasks)
        self._is_giving = False
        self._endings: set[asyncio.Task[None]] = set()  # of instances that were let go

    @property
    def failure(self) -> str:
        """Why none of the instances is to be had; empty while one is, or soon will be."""
        reasons = [member.failure for member in self._members]
        return reasons[0] if all(reasons) else ""

    @property
    def deaths(self) -> int:
        return sum(member.deaths for member in self._members)

    async def load(self) -> None:
        """Returns when every instance is ready. Raises what the first to fail raised; then none is left."""
        await self._start_all(self._members)

    async def resize(self, files: ModelFiles, tasks: Sequence[Task]) -> None:
        """Starts the instances that are new, and ends those that are not named. Raises as ``load``; then all stays."""
        wanted, known = {task.instance for task in tasks}, {member.name for member in self._members}
        fresh = self._new_members(files, [task for task in tasks if task.instance not in known])
        await self._start_all(fresh)
        leaving = [member for member in self._members if member.name not in wanted]
        self._members = [*(member for member in self._members if member.name in wanted), *fresh]
        self.size = len(self._members)
        self.give_work()
        if leaving:
            ending = self._loop.create_task(self._stop_all(leaving))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    def _new_members(self, files: ModelFiles, tasks: Sequence[Task]) -> list[Member]:
        return [Member(files, task, self, self._calls, loop=self._loop, timeout_s=self._timeout_s) for task in tasks]

    async def _start_all(self, members: Sequence[Member]) -> None:
        for member in members:
            self._calls.enter(member)
        starts = [asyncio.ensure_future(member.start()) for member in members]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self._stop_all(members)
            raise

    async def _stop_all(self, members: Sequence[Member]) -> None:
        try:
            await asyncio.gather(*(member.stop() for member in members))
        finally:
            for member in members:
                self._calls.leave(member)

    def start(self, execution: Execution, on_done: OnDone) -> None:
        self._inbox.append(Item(execution, on_done))
        self.give_work()

    async def stop(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            item.on_done(item.execution, [UNLOADED for _ in item.execution.requests])
        await asyncio.gather(self._stop_all(self._members), *self._endings)

    def give_work(self) -> None:
        """Each execution goes to the instance that has the least to do."""
        if self._is_giving:
            return
        self._is_giving = True
        try:
            while self._inbox:
                member = self._members[0]
                if self.size > 1:
                    member = min((one for one in self._members if one.room > 0), key=_given_count, default=member)
                if member.room <= 0:
                    break
                member.hand(self._inbox.popleft())
            if self._inbox and self.failure:
                self._refuse(self.failure)
        finally:
            self._is_giving = False

    def take_back(self, items: list[Item]) -> None:
        self._inbox.extendleft(reversed(items))
        self.give_work()

    def _refuse(self, reason: str) -> None:
        """In a turn of its own: no answer may come before ``start`` returns."""
        refused, self._inbox = self._inbox, deque()
        for item in refused:
            answers: Answers = [InferError(ErrorKind.UNAVAILABLE, reason) for _ in item.execution.requests]
            self._loop.call_soon(item.on_done, item.execution, answers)


def _given_count(member: Member) -> int:
    return len(member.given)
