import os
import subprocess
import sys

import pytest

COUNT = """
import os
from analyzer.cores import import_numpy_alone
import_numpy_alone()
import numpy
numpy.ones((600, 600)) @ numpy.ones((600, 600))
print(len(os.listdir("/proc/self/task")), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


@pytest.mark.parametrize("given", [None, "2"])
def test_numpy_has_one_thread_here_and_what_is_started_later_is_told_nothing(given: str | None):
    """A number that the user set stands."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"OPENBLAS_NUM_THREADS": given} if given else {}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    threads, named = done.stdout.split()
    assert named == str(given)
    assert threads == "1" or given == "2"
