"""The kinds of service: what has to be there for each before it is driven, and what is sent to it."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from perf_client.payload import Request, make_requests
from perf_client.profile import LoadProfile
from perf_client.target import ModelDescription

if TYPE_CHECKING:
    from perf_client.in_process import Runtime


def runtime_for(profile: LoadProfile) -> "AbstractAsyncContextManager[Runtime | None]":
    """The runtime in this process, as long as the context is open; None where the service is somewhere else."""
    if profile.service != "in_process":
        return nullcontext()
    from perf_client.in_process import opened_runtime

    return opened_runtime(profile)


def requests_for(profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """Distinct requests to be sent in turn. Raises LoadError where profile and model disagree."""
    if profile.service == "openai":
        from perf_client.openai_requests import openai_requests

        return openai_requests(profile)
    return make_requests(profile, model)
