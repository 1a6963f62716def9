"""Which accelerators this machine has, as the driver tells; asked once."""

from functools import cache


@cache
def gpu_count() -> int:
    """NVIDIA devices with a working driver; 0 where there is no driver or no library to ask it with."""
    try:
        import pynvml
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
