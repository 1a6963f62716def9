"""Where two executions wait for each other: shared by a test and the model that it serves."""

import threading

BARRIER = threading.Barrier(2)
