"""Hypothesis without deadlines: how long an example takes says nothing on a busy machine.

What ``make check`` says of a commit it says again: examples are the same each time. HYPOTHESIS_PROFILE=search looks for
new ones.
"""

import contextlib
import os

with contextlib.suppress(ImportError):  # the tests on a GPU machine do without it
    from hypothesis import settings

    settings.register_profile("project", deadline=None, derandomize=True)
    settings.register_profile("search", deadline=None)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))
