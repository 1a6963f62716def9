"""The options that say where is measured."""

import pytest

from analyzer.errors import UsageError
from analyzer.settings.declared import ProfileSettings
from analyzer.settings.options import settings_from

NEEDED = {"model_repository": "models", "profile_models": "m"}


def test_cores_of_server_and_client_are_given_together():
    made = settings_from(ProfileSettings, None, {**NEEDED, "executor": "ray", "ray_cpus": "6+2", "parallel": "3"})
    assert made.ray_cpus == (6, 2)
    assert made.parallel == 3


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"executor": "slurm"}, "local"),
        ({"executor": "ray", "ray_cpus": "6"}, "such as 6"),
        ({"executor": "ray", "ray_cpus": "0+1"}, "such as 6"),
        ({"executor": "ray", "parallel": "0"}, "at least 1"),
        ({"parallel": "2", "ray_gpus": "1"}, "--parallel, --ray-gpus goes with --executor ray"),
        ({"executor": "ray", "launch_mode": "remote"}, "leave --triton-launch-mode out"),
    ],
)
def test_what_does_not_fit_is_told(flags, sentence):
    with pytest.raises(UsageError, match=sentence):
        settings_from(ProfileSettings, None, NEEDED | flags)
