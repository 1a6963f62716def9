"""Each scene runs in a process of its own: where the guard fails, that ends of a signal."""

import signal
import subprocess
import sys

import pytest

SETTING = """
import mmap, os, threading
import numpy as np
from analyzer.runtime.bus_guard import GuardedMap

PAGE = mmap.PAGESIZE
PAGES = 4096
descriptor = os.memfd_create("shared")
os.ftruncate(descriptor, PAGES * PAGE)
guarded = GuardedMap(descriptor, PAGES * PAGE)
array = np.frombuffer(guarded.view, np.uint8)
array[:] = 7
"""

SCENES = {
    "reading what is gone gives zeros, what is left stays": """
os.ftruncate(descriptor, 3 * PAGE + 1)
assert not guarded.is_lost
assert int(array.sum(dtype=np.int64)) == 7 * (3 * PAGE + 1)
assert guarded.is_lost
assert os.fstat(descriptor).st_size == 3 * PAGE + 1
""",
    "writing to what is gone changes nothing else": """
os.ftruncate(descriptor, 0)
array[PAGE // 2 :] = 9
assert guarded.is_lost
assert os.fstat(descriptor).st_size == 0
""",
    "threads that hold no lock of the interpreter": """
other = np.zeros_like(array)
threads = [threading.Thread(target=np.copyto, args=(other, array)) for _ in range(4)]
threads += [threading.Thread(target=np.copyto, args=(array, np.ones_like(array))) for _ in range(4)]
os.ftruncate(descriptor, PAGE)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert guarded.is_lost
""",
    "threads that are not of the interpreter": """
import ctypes
library = ctypes.CDLL(None)
os.ftruncate(descriptor, 0)
routine = ctypes.cast(library.strlen, ctypes.c_void_p)  # reads until it meets a zero: the first byte
number = ctypes.c_ulong()
assert library.pthread_create(ctypes.byref(number), None, routine, ctypes.c_void_p(guarded.start + 5 * PAGE)) == 0
assert library.pthread_join(number, None) == 0
assert guarded.is_lost
""",
    "each map is told of its own pages": """
second_file = os.memfd_create("second")
os.ftruncate(second_file, PAGE)
second = GuardedMap(second_file, PAGE)
os.ftruncate(descriptor, 0)
assert array[0] == 0 and guarded.is_lost and not second.is_lost
os.ftruncate(second_file, 0)
assert second.view[0] == 0 and second.is_lost
""",
    "a tensor that outlives its map is still guarded": """
del guarded
os.ftruncate(descriptor, 0)
assert array[8] == 0
""",
    "a map that is gone is forgotten": """
from analyzer.runtime import bus_guard
del guarded, array
assert not bus_guard._maps
""",
    "the mapping ends as it would have": """
os.ftruncate(descriptor, 0)
assert array[0] == 0
del guarded, array
maps = open("/proc/self/maps").read()
assert "memfd:shared" not in maps
""",
}


def run(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", SETTING + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("scene", SCENES)
def test_process_outlives_memory_that_is_taken_away(scene: str):
    ended = run(SCENES[scene])
    assert (ended.returncode, ended.stderr) == (0, "")


def test_fault_outside_of_the_maps_goes_to_who_handled_it_before():
    ended = run("""
other_file = os.memfd_create("other")
os.ftruncate(other_file, PAGE)
other = mmap.mmap(other_file, PAGE)
os.ftruncate(other_file, 0)
other[0]
""")
    assert ended.returncode == -signal.SIGBUS
