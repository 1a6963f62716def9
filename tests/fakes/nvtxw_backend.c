/* Stands in for Nsight's library behind nvtx.writer: writes each call as a line into NAME.nsys-rep. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { size_t size; const char *name; const char *config; } Named;
typedef struct { uint64_t schema; size_t size; const unsigned char *content; } Payload;
typedef struct { size_t size; uint64_t schema; const char *name; } Counter;
typedef struct { uint64_t id; const void *values; size_t size; uint64_t flags; const int64_t *times; size_t times_size; } Batch;

static FILE *out;
static uint64_t last_id = 1000;

static int session_begin(const Named *attr, void **handle) {
    char path[4096];
    snprintf(path, sizeof path, "%s.nsys-rep", attr->name);
    out = fopen(path, "w");
    *handle = &out;
    return out ? 0 : 1;
}
static int session_end(void *session) { (void)session; return fclose(out); }
static int domain(void *session, const Named *attr, void **handle) {
    (void)session;
    fprintf(out, "domain %s\n", attr->name);
    *handle = &last_id;
    return 0;
}
static int category(void *in, uint32_t id, const char *name) { (void)in; fprintf(out, "category %u %s\n", id, name); return 0; }
static int string(void *in, const char *text, void **handle) {
    (void)in;
    *handle = (void *)(uintptr_t)++last_id;
    fprintf(out, "string %llu %s\n", (unsigned long long)last_id, text);
    return 0;
}
static int scope(void *in, const void *attr, uint64_t *id) { (void)in; (void)attr; *id = ++last_id; return 0; }
static int counter(void *in, const Counter *attr, uint64_t *id) {
    (void)in;
    *id = ++last_id;
    fprintf(out, "counter %llu %s\n", (unsigned long long)*id, attr->name);
    return 0;
}
static int stream_open(void *session, const Named *attr, void **handle) {
    (void)session;
    fprintf(out, "stream %s\n", attr->name);
    *handle = &out;
    return 0;
}
static int stream_close(void *stream) { (void)stream; return 0; }
static int event(void *stream, const Payload *payloads, size_t count) {
    (void)stream;
    for (size_t at = 0; at < count; at++) {
        fprintf(out, "event ");
        for (size_t byte = 0; byte < payloads[at].size; byte++) fprintf(out, "%02x", payloads[at].content[byte]);
        fprintf(out, "\n");
    }
    return 0;
}
static int counter_batch(void *stream, const Batch *batch) {
    (void)stream;
    for (size_t at = 0; at < batch->size / sizeof(double); at++)
        fprintf(out, "sample %llu %lld %.17g\n", (unsigned long long)batch->id, (long long)batch->times[at],
                ((const double *)batch->values)[at]);
    return 0;
}
static int unused(void) { return 1; }

static void *table[64];

int nvtxwGetInterface(int32_t version, const void **interface) {
    (void)version;
    for (int at = 0; at < 64; at++) table[at] = (void *)unused;
    void *known[] = {session_begin, session_end, domain, category, string, unused, scope, scope, scope, counter, scope,
                     stream_open, stream_close, event, unused, unused, unused, counter_batch};
    memcpy(table, known, sizeof known);
    *interface = table;
    return 0;
}
