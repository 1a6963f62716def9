import logging
from collections.abc import Iterator

import pytest

from analyzer.runtime.log_settings import LogSettings, change_trace
from analyzer.runtime.request import InferError


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


@pytest.mark.parametrize("wrong", [{"trace_file": "x"}, {"trace_noise": "1"}, {"trace_level": ["TENSORS"]}])
def test_tracing_stays_off(wrong):
    change_trace({"trace_rate": None, "trace_level": ["OFF"]})
    with pytest.raises(InferError):
        change_trace(wrong)
