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

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        return _offered(device, "energy_mj")


def _offered(device, name):
    if device.get(name) is None:
        raise NVMLError("Not Supported")
    return device[name]


def fake_device(uuid="GPU-0", **figures):
    return {"uuid": uuid, "name": "Fake H100", **figures}
