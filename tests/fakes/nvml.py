"""Stands in for the module pynvml: devices with figures that the test sets; what is None is not supported."""

from types import SimpleNamespace


class NVMLError(Exception):
    pass


class FakeNvml:
    NVMLError = NVMLError

    def __init__(self, devices=(), driver="570.1", error=""):
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
        return self.devices[index]

    def nvmlDeviceGetUUID(self, device):
        return device["uuid"].encode()

    def nvmlDeviceGetName(self, device):
        return device["name"]

    def nvmlDeviceGetUtilizationRates(self, device):
        return SimpleNamespace(gpu=_offered(device, "utilization"))

    def nvmlDeviceGetMemoryInfo(self, device):
        return SimpleNamespace(used=_offered(device, "memory"), total=device.get("memory_total", 0))

    def nvmlDeviceGetComputeRunningProcesses(self, device):
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in _offered(device, "processes").items()]

    def nvmlDeviceGetPowerUsage(self, device):
        return _offered(device, "power_mw")

    def nvmlDeviceGetPowerManagementLimit(self, device):
        return _offered(device, "power_limit_mw")

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_FI_DEV_POWER_INSTANT = 1, 2, 0, 186

    def nvmlDeviceGetClockInfo(self, device, clock):
        return _offered(device, {1: "sm_clock", 2: "memory_clock"}[clock])

    def nvmlDeviceGetTemperature(self, device, sensor):
        return _offered(device, "temperature")

    def nvmlDeviceGetCurrentClocksEventReasons(self, device):
        return _offered(device, "event_reasons")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):
        return _offered(device, "throttle_reasons")

    def nvmlDeviceGetFieldValues(self, device, fields):
        assert fields == [186]
        power_mw = device.get("instant_power_mw")
        value = SimpleNamespace(uiVal=power_mw or 0)
        return [SimpleNamespace(nvmlReturn=0 if power_mw is not None else 3, value=value)]

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        return _offered(device, "energy_mj")


class FakeGpm(FakeNvml):
    """With GPM: ``device["gpm"]`` has the percentages by metric id; what is missing is not offered."""

    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_SM_OCCUPANCY = 2, 3
    NVML_GPM_METRIC_ANY_TENSOR_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL = 5, 10

    def __init__(self, devices=(), **more):
        super().__init__(devices, **more)
        self.allocated = 0

    @staticmethod
    def c_nvmlGpmMetricsGet_t():
        metrics = [SimpleNamespace(metricId=0, value=0.0, nvmlReturn=0) for _ in range(8)]
        return SimpleNamespace(version=0, numMetrics=0, sample1=None, sample2=None, metrics=metrics)

    def nvmlGpmQueryDeviceSupport(self, device):
        return SimpleNamespace(isSupportedDevice=int("gpm" in device))

    def nvmlGpmSampleAlloc(self):
        self.allocated += 1
        return {}

    def nvmlGpmSampleFree(self, sample):
        self.allocated -= 1

    def nvmlGpmSampleGet(self, device, sample):
        self.taken = getattr(self, "taken", 0) + 1
        sample |= {"number": self.taken, "device": device}

    def nvmlGpmMetricsGet(self, asked):
        assert asked.sample1["number"] < asked.sample2["number"], "the older sample comes first"
        for metric in asked.metrics[: asked.numMetrics]:
            value = asked.sample2["device"]["gpm"].get(metric.metricId)
            metric.value, metric.nvmlReturn = (value, 0) if value is not None else (0.0, 3)


def _offered(device, name):
    if device.get(name) is None:
        raise NVMLError("Not Supported")
    return device[name]


def fake_device(uuid="GPU-0", **figures):
    return {"uuid": uuid, "name": "Fake H100", **figures}
