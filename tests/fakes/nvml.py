"""Stands in for the module pynvml: devices with figures that the test sets; what is None is not supported.

A figure ``{"error": 4}`` is refused with that error. ``device["gpm"]`` has GPM's figures by metric id,
``device["mig"]`` the devices that it is parted into. ``tests/fakes/nvml.c`` knows the same figures.
"""

from types import SimpleNamespace

WORDS = {
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    9: "Driver Not Loaded",
    13: "Function Not Found",
    15: "GPU is lost",
}
NOT_SUPPORTED = 3


class NVMLError(Exception):
    def __init__(self, value=NOT_SUPPORTED):
        super().__init__(WORDS.get(value, f"Unknown Error {value}") if isinstance(value, int) else value)
        self.value = value


class NVMLLibraryMismatchError(Exception):
    pass


class FakeNvml:
    NVMLError = NVMLError
    NVMLLibraryMismatchError = NVMLLibraryMismatchError

    def __init__(self, devices=(), driver="570.1", error: int | str = 0):
        self.devices = list(devices)
        self.driver = driver
        self.error = error
        self.is_shut_down = False

    def nvmlInit(self):
        if self.error:
            raise NVMLError(self.error)

    def nvmlShutdown(self):
        self.is_shut_down = True

    def nvmlSystemGetDriverVersion(self):
        return self.driver

    def nvmlDeviceGetCount(self):
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):
        device = self.devices[index]
        if "open" in device:
            _offered(device, "open")
        return device

    def nvmlDeviceGetUUID(self, device):
        return device["uuid"].encode()

    def nvmlDeviceGetName(self, device):
        return device["name"]

    def nvmlDeviceGetUtilizationRates(self, device):
        return SimpleNamespace(gpu=_offered(device, "utilization"))

    def nvmlDeviceGetMemoryInfo(self, device):
        return SimpleNamespace(used=_offered(device, "memory"), total=device.get("memory_total", 0))

    def nvmlDeviceGetComputeRunningProcesses(self, device):
        if "old_processes" in device:
            raise NVMLLibraryMismatchError
        return self.nvmlDeviceGetComputeRunningProcesses_v2(device)

    def nvmlDeviceGetComputeRunningProcesses_v2(self, device):
        return [
            SimpleNamespace(pid=int(pid), usedGpuMemory=used) for pid, used in _offered(device, "processes").items()
        ]

    def nvmlDeviceGetPowerUsage(self, device):
        return _offered(device, "power_mw")

    def nvmlDeviceGetPowerManagementLimit(self, device):
        return _offered(device, "power_limit_mw")

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_FI_DEV_POWER_INSTANT = 1, 2, 0, 186
    NVML_FI_DEV_PCIE_COUNT_TX_BYTES, NVML_FI_DEV_PCIE_COUNT_RX_BYTES = 197, 198
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1

    def nvmlDeviceGetClockInfo(self, device, clock):
        return _offered(device, {1: "sm_clock", 2: "memory_clock"}[clock])

    def nvmlDeviceGetTemperature(self, device, sensor):
        return _offered(device, "temperature")

    def nvmlDeviceGetCurrentClocksEventReasons(self, device):
        return _offered(device, "event_reasons")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):
        return _offered(device, "throttle_reasons")

    def nvmlDeviceGetFieldValues(self, device, fields):
        names = {186: "instant_power_mw", 197: "pcie_tx_bytes", 198: "pcie_rx_bytes"}
        return [_field(device, names[field], 1 if field == 186 else 3) for field in fields]

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        return _offered(device, "energy_mj")

    def nvmlDeviceGetPcieThroughput(self, device, side):
        return _offered(device, "pcie_tx_kb" if side == 0 else "pcie_rx_kb")

    def nvmlDeviceGetMigMode(self, device):
        return [1 if _offered(device, "mig") is not None else 0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, device):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):
        if index >= len(device["mig"]):
            raise NVMLError(6)
        return device["mig"][index] | {"number": index}

    def nvmlDeviceGetGpuInstanceId(self, device):
        return device["number"]


class FakeGpm(FakeNvml):
    """With GPM, which ``device["gpm_sample"]`` may refuse."""

    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_GRAPHICS_UTIL, NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_SM_OCCUPANCY = 1, 2, 3
    NVML_GPM_METRIC_ANY_TENSOR_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL = 5, 10
    NVML_GPM_METRIC_PCIE_TX_PER_SEC, NVML_GPM_METRIC_PCIE_RX_PER_SEC = 20, 21

    def __init__(self, devices=(), **more):
        super().__init__(devices, **more)
        self.allocated = 0

    @staticmethod
    def c_nvmlGpmMetricsGet_t():
        metrics = [SimpleNamespace(metricId=0, value=0.0, nvmlReturn=0) for _ in range(8)]
        return SimpleNamespace(version=0, numMetrics=0, sample1=None, sample2=None, metrics=metrics)

    def nvmlGpmQueryDeviceSupport(self, device):
        if isinstance(device.get("gpm"), dict) and "error" in device["gpm"]:
            _offered(device, "gpm")
        return SimpleNamespace(isSupportedDevice=int("gpm" in device))

    def nvmlGpmSampleAlloc(self):
        self.allocated += 1
        return {}

    def nvmlGpmSampleFree(self, sample):
        self.allocated -= 1

    def nvmlGpmSampleGet(self, device, sample):
        if "gpm_sample" in device:
            _offered(device, "gpm_sample")
        self.taken = getattr(self, "taken", 0) + 1
        sample |= {"number": self.taken, "device": device}

    def nvmlGpmMigSampleGet(self, device, instance, sample):
        self.nvmlGpmSampleGet(device["mig"][instance], sample)

    def nvmlGpmMetricsGet(self, asked):
        assert asked.sample1["number"] < asked.sample2["number"], "the older sample comes first"
        for metric in asked.metrics[: asked.numMetrics]:
            told = asked.sample2["device"]["gpm"].items()
            value = {int(number): value for number, value in told}.get(metric.metricId)
            metric.value, metric.nvmlReturn = (value, 0) if value is not None else (0.0, NOT_SUPPORTED)


def _offered(device, name):
    value = device.get(name)
    if isinstance(value, dict) and "error" in value:
        raise NVMLError(value["error"])
    if value is None:
        raise NVMLError(NOT_SUPPORTED)
    return value


def _field(device, name, kind):
    value = device.get(name)
    known = value if isinstance(value, (int, float)) else 0
    failed = 0 if value is not None else NOT_SUPPORTED
    return SimpleNamespace(nvmlReturn=failed, valueType=kind, value=SimpleNamespace(uiVal=known, ullVal=known))


def fake_device(uuid="GPU-0", **figures):
    return {"uuid": uuid, "name": "Fake H100", **figures}
