import logging
from collections.abc import Iterator

import pytest

from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.request import ErrorKind, InferError


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    runtime = logging.getLogger("analyzer.runtime")
    before = runtime.level
    yield runtime
    runtime.setLevel(before)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"log_verbose_level": 2}, logging.DEBUG),
        ({"log_info": True}, logging.INFO),
        ({"log_info": False}, logging.WARNING),
        ({"log_info": False, "log_warning": False}, logging.ERROR),
        ({"log_info": False, "log_warning": False, "log_error": False}, logging.CRITICAL),
    ],
)
def test_level_is_the_lowest_asked_for(log, changes, level):
    LogSettings().change({"log_verbose_level": 0} | changes)
    assert log.level == level


@pytest.mark.parametrize("wrong", [{"log_info": 1}, {"log_verbose_level": -1}, {"log_verbose_level": True}, {"x": 1}])
def test_wrong_settings_change_nothing(log, wrong):
    settings = LogSettings()
    before = settings.settings()
    with pytest.raises(InferError):
        settings.change({"log_warning": False} | wrong)
    assert settings.settings() == before


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.levels: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelname)


@pytest.fixture
def keeper(log) -> Iterator[Keeper]:
    handler = Keeper()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_each_kind_of_message_is_switched_by_itself(log, keeper):
    settings = LogSettings(keeper)
    settings.change({"log_info": True, "log_warning": False, "log_verbose_level": 0})
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert keeper.levels == ["INFO", "ERROR"]
    settings.change({"log_verbose_level": 1, "log_info": False, "log_error": False, "log_warning": None})
    keeper.levels.clear()
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert keeper.levels == ["DEBUG"]


def test_format_iso8601_tells_the_time_of_utc(log):
    handler = logging.Handler()
    settings = LogSettings(handler)
    settings.change({"log_format": "ISO8601"})
    record = logging.LogRecord("analyzer.runtime.x", logging.INFO, "", 1, "hello", None, None)
    record.created = 0.0
    assert handler.format(record) == "1970-01-01T00:00:00Z INFO analyzer.runtime.x: hello"
    with pytest.raises(InferError, match="known are default, ISO8601"):
        settings.change({"log_format": "xml"})


def test_log_file_stays_where_it_is():
    with pytest.raises(InferError, match="can not be updated through network protocol") as refusal:
        LogSettings().change({"log_file": "/elsewhere"})
    assert refusal.value.kind is ErrorKind.UNIMPLEMENTED
