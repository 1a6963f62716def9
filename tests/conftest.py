"""Hypothesis without deadlines: how long an example takes says nothing on a busy machine."""

import contextlib

with contextlib.suppress(ImportError):  # the tests on a GPU machine do without it
    from hypothesis import settings

    settings.register_profile("project", deadline=None)
    settings.load_profile("project")
