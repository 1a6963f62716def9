/* Stands in for libnvidia-ml.so.1. What its devices are and tell stands in the file that NVML_FAKE names, read anew by
   every call, a line a figure: "0.utilization 40", "0.energy_mj !4" for the error 4; what is missing is not supported.
   "0.mig1.memory" is of the second MIG instance of the first device. Without the file there is no driver. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef unsigned int uint;
typedef unsigned long long ulong64;
typedef struct { uint gpu, memory; } Utilization;
typedef struct { ulong64 total, free, used; } Memory;
typedef struct { uint pid; ulong64 used; uint instance, compute_instance; } Process;
typedef struct {
    uint field, scope;
    long long timestamp, latency;
    uint type, result;
    union { double real; uint whole; ulong64 large; } value;
} Field;
typedef struct { uint number; void *handle; int taken; } Sample;
typedef struct { uint id, result; double value; char *short_name, *long_name, *unit; } Metric;
typedef struct { uint version, count; Sample *first, *second; Metric metrics[1]; } Metrics;

/* A device's handle is its number plus 1; that of an instance has its own number plus 1 above that, times 1000. */
static const char *prefix(void *handle, char *text) {
    long number = (long)handle;
    if (number > 1000)
        sprintf(text, "%ld.mig%ld", number % 1000 - 1, number / 1000 - 1);
    else
        sprintf(text, "%ld", number - 1);
    return text;
}

static int text_of(const char *key, char *out, size_t size) {
    const char *path = getenv("NVML_FAKE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    size_t length = strlen(key);
    int found = NOT_SUPPORTED;
    if (!file)
        return DRIVER_NOT_LOADED;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) || line[length] != ' ')
            continue;
        line[strcspn(line, "\n")] = 0;
        if (line[length + 1] == '!')
            found = atoi(line + length + 2);
        else {
            snprintf(out, size, "%s", line + length + 1);
            found = OK;
        }
    }
    fclose(file);
    return found;
}

static int number(void *handle, const char *name, double *out) {
    char head[32], key[128], text[256];
    int result;
    snprintf(key, sizeof key, "%s.%s", prefix(handle, head), name);
    result = text_of(key, text, sizeof text);
    if (result == OK)
        *out = atof(text);
    return result;
}

static int whole(void *handle, const char *name, uint *out) {
    double value;
    int result = number(handle, name, &value);
    if (result == OK)
        *out = (uint)value;
    return result;
}

static int words(void *handle, const char *name, char *out, uint size) {
    char head[32], key[128];
    snprintf(key, sizeof key, "%s.%s", prefix(handle, head), name);
    return text_of(key, out, size);
}

static int top(const char *key, uint *out) {
    char text[256];
    int result = text_of(key, text, sizeof text);
    if (result == OK)
        *out = (uint)atoi(text);
    return result;
}

int nvmlInitWithFlags(uint flags) {
    uint ignored;
    (void)flags;
    int result = top("init", &ignored);
    return result == NOT_SUPPORTED ? OK : result;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int result) { return result == 4 ? "Insufficient Permissions" : "an error"; }
int nvmlSystemGetDriverVersion(char *out, uint size) { return text_of("driver", out, size); }
int nvmlDeviceGetCount_v2(uint *out) { return top("count", out); }

int nvmlDeviceGetHandleByIndex_v2(uint index, void **out) {
    double ignored;
    int result;
    *out = (void *)(long)(index + 1);
    result = number(*out, "open", &ignored);
    return result == NOT_SUPPORTED ? OK : result;
}

int nvmlDeviceGetUUID(void *device, char *out, uint size) { return words(device, "uuid", out, size); }
int nvmlDeviceGetName(void *device, char *out, uint size) { return words(device, "name", out, size); }

int nvmlDeviceGetUtilizationRates(void *device, Utilization *out) { return whole(device, "utilization", &out->gpu); }

int nvmlDeviceGetMemoryInfo(void *device, Memory *out) {
    double used, total = 0;
    int result = number(device, "memory", &used);
    if (result != OK)
        return result;
    number(device, "memory_total", &total);
    out->used = (ulong64)used;
    out->total = (ulong64)total;
    out->free = out->total - out->used;
    return OK;
}

/* "7:1048576 9:-1": a process without a figure has -1. */
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, uint *count, Process *out) {
    char text[256], *item;
    uint found = 0, room = *count;
    int result = words(device, "processes", text, sizeof text);
    if (result != OK)
        return result;
    for (item = strtok(text, " "); item; item = strtok(NULL, " "), found++)
        if (out && found < room) {
            char *used = strchr(item, ':') + 1;
            out[found].pid = (uint)atoi(item);
            out[found].used = *used == '-' ? ~0ULL : strtoull(used, NULL, 10);
        }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, uint *count, Process *out) {
    double old;
    if (number(device, "old_processes", &old) == OK)
        return 13;
    return nvmlDeviceGetComputeRunningProcesses_v2(device, count, out);
}

int nvmlDeviceGetPowerUsage(void *device, uint *out) { return whole(device, "power_mw", out); }
int nvmlDeviceGetPowerManagementLimit(void *device, uint *out) { return whole(device, "power_limit_mw", out); }

int nvmlDeviceGetTotalEnergyConsumption(void *device, ulong64 *out) {
    double value;
    int result = number(device, "energy_mj", &value);
    if (result == OK)
        *out = (ulong64)value;
    return result;
}

int nvmlDeviceGetClockInfo(void *device, uint clock, uint *out) {
    return whole(device, clock == 1 ? "sm_clock" : "memory_clock", out);
}

int nvmlDeviceGetTemperature(void *device, uint sensor, uint *out) {
    (void)sensor;
    return whole(device, "temperature", out);
}

static int bits(void *device, const char *name, ulong64 *out) {
    double value;
    int result = number(device, name, &value);
    if (result == OK)
        *out = (ulong64)value;
    return result;
}
int nvmlDeviceGetCurrentClocksEventReasons(void *device, ulong64 *out) { return bits(device, "event_reasons", out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, ulong64 *out) {
    return bits(device, "throttle_reasons", out);
}

int nvmlDeviceGetFieldValues(void *device, int count, Field *fields) {
    for (int place = 0; place < count; place++) {
        uint id = fields[place].field;
        double value = 0;
        const char *name = id == 186 ? "instant_power_mw" : id == 197 ? "pcie_tx_bytes" : "pcie_rx_bytes";
        fields[place].result = (uint)number(device, name, &value);
        fields[place].type = id == 186 ? 1 : 3;
        if (id == 186)
            fields[place].value.whole = (uint)value;
        else
            fields[place].value.large = (ulong64)value;
    }
    return OK;
}

int nvmlDeviceGetPcieThroughput(void *device, uint side, uint *out) {
    return whole(device, side == 0 ? "pcie_tx_kb" : "pcie_rx_kb", out);
}

int nvmlDeviceGetMigMode(void *device, uint *current, uint *pending) {
    double count;
    int result = number(device, "mig_count", &count);
    *current = *pending = result == OK;
    return result;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, uint *out) {
    (void)device;
    *out = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, uint index, void **out) {
    uint count;
    int result = whole(device, "mig_count", &count);
    if (result != OK || index >= count)
        return result == OK ? NOT_FOUND : result;
    *out = (void *)((long)device + 1000L * (index + 1));
    return OK;
}

int nvmlDeviceGetGpuInstanceId(void *device, uint *out) {
    *out = (uint)((long)device / 1000 - 1);
    return OK;
}

typedef struct { uint version, supported; } Support;
int nvmlGpmQueryDeviceSupport(void *device, Support *out) {
    double value = 0;
    int result = number(device, "gpm", &value);
    if (result != OK && result != NOT_SUPPORTED)
        return result;
    out->supported = result == OK;
    return OK;
}
int nvmlGpmSampleAlloc(Sample **out) { return (*out = calloc(1, sizeof **out)) ? OK : 20; }
int nvmlGpmSampleFree(Sample *sample) {
    free(sample);
    return OK;
}

static int take(void *device, Sample *sample) {
    static int taken;
    double ignored;
    int result = number(device, "gpm_sample", &ignored);
    if (result != OK && result != NOT_SUPPORTED)
        return result;
    sample->handle = device;
    sample->taken = ++taken;
    return OK;
}
int nvmlGpmSampleGet(void *device, Sample *sample) { return take(device, sample); }
int nvmlGpmMigSampleGet(void *device, uint instance, Sample *sample) {
    return take((void *)((long)device + 1000L * (instance + 1)), sample);
}

int nvmlGpmMetricsGet(Metrics *asked) {
    if (asked->first->taken >= asked->second->taken)
        return 2; /* the older sample comes first */
    for (uint place = 0; place < asked->count; place++) {
        char name[32];
        sprintf(name, "gpm%u", asked->metrics[place].id);
        asked->metrics[place].result = (uint)number(asked->second->handle, name, &asked->metrics[place].value);
    }
    return OK;
}
