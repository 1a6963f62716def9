import pytest

from analyzer.errors import UsageError
from analyzer.settings.declared import ProfileSettings, ReportSettings
from analyzer.settings.options import settings_from


def limits(raw: object) -> dict[str, float]:
    return settings_from(ReportSettings, None, {"rules": raw}).rules


@pytest.mark.parametrize(
    "raw",
    [
        ("R1.gap_us=200", "R9.slowdown=1.3"),
        "R1.gap_us=200, R9.slowdown = 1.3",
        {"R1.gap_us": 200, "R9.slowdown": 1.3},
        {"R1": {"gap_us": 200}, "R9": {"slowdown": "1.3"}},
    ],
)
def test_limits_of_rules_are_read_in_each_way_they_are_written(raw: object):
    assert limits(raw) == {"R1.gap_us": 200.0, "R9.slowdown": 1.3}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("R1.gap=200", "names no limit of a rule: R1.gap; known are R1.gap_us, R1.share_ratio"),
        ("R99.x=1", "names no limit of a rule: R99.x"),
        ("R1.gap_us", "takes RULE.LIMIT=N, such as R1.gap_us=200"),
        ("R1.gap_us=long", "takes a number"),
        ("R1.gap_us=-1", "must be at least 0"),
    ],
)
def test_a_limit_that_is_none_is_refused_with_what_is_known(raw: str, told: str):
    with pytest.raises(UsageError, match="--rule") as refused:
        limits(raw)
    assert told in str(refused.value)


def test_a_settings_file_holds_limits_under_rule(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("model_repository: models\nprofile_models: m\nrule:\n  R2:\n    queue_ratio: 0.3\n")
    assert settings_from(ProfileSettings, file, {}).rules == {"R2.queue_ratio": 0.3}
