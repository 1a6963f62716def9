"""An API like OpenAI's offers no questions beside the load: what would be asked of a KServe server stays unknown."""

from typing import NoReturn

from perf_client.control import Refused
from perf_client.profile import ServerTimes
from perf_client.regions import RegionName
from perf_client.target import ModelConfig, ModelMetadata


class OpenAiControl:
    async def metadata(self, model: str, version: str) -> ModelMetadata:
        return ModelMetadata(name=model, inputs=())

    async def config(self, model: str, version: str) -> ModelConfig:
        _refuse("configuration")

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        _refuse("statistics")

    async def register(self, region: RegionName) -> None:
        _refuse("shared memory")

    async def unregister(self, region: RegionName) -> None:
        _refuse("shared memory")

    def close(self) -> None:
        pass


def _refuse(what: str) -> NoReturn:
    raise Refused(f"an openai service has no {what} to ask for", missing=True)
