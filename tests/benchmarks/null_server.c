/* A KServe v2 server that computes nothing: one thread, epoll, fixed answers, so that the client is the limit.
 * Speaks HTTP/1.1 and, on a second port, as much of HTTP/2 and gRPC as perf_client uses. Prints both ports.
 * Model "null": INPUT0 FP32[16] to OUTPUT0 FP32[16]; no statistics extension, so nobody asks for any. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (1 << 20)
#define MAX_FD 65536

typedef struct {
    int http2, greeted;
    unsigned char *in;
    size_t held;
    unsigned method[1024]; /* by stream id: 0 infer, 1 metadata, 2 anything else */
} Conn;

static Conn *conns[MAX_FD];
static unsigned char out[BUFFER * 4];
static size_t out_size;

static void put(const void *bytes, size_t size) { memcpy(out + out_size, bytes, size); out_size += size; }

static void put_frame(unsigned type, unsigned flags, uint32_t stream, const void *payload, size_t size) {
    unsigned char head[9] = {size >> 16, size >> 8, size, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(head, 9);
    put(payload, size);
}

static const char INFER_JSON[] =
    "{\"model_name\":\"null\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\","
    "\"shape\":[16],\"parameters\":{\"binary_data_size\":64}}]}";
static const char METADATA_JSON[] =
    "{\"name\":\"null\",\"versions\":[\"1\"],\"platform\":\"null\",\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":"
    "\"FP32\",\"shape\":[16]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[16]}]}";
static const char CONFIG_JSON[] =
    "{\"name\":\"null\",\"platform\":\"null\",\"max_batch_size\":0,\"input\":[{\"name\":\"INPUT0\",\"data_type\":"
    "\"TYPE_FP32\",\"dims\":[16]}],\"output\":[{\"name\":\"OUTPUT0\",\"data_type\":\"TYPE_FP32\",\"dims\":[16]}]}";

static char infer_answer[1024];
static size_t infer_size;

static void answer_http(const unsigned char *request, size_t head_size) {
    if (!memcmp(request, "POST", 4)) {
        put(infer_answer, infer_size);
        return;
    }
    char head[256];
    int found = !memmem(request, head_size, "/stats", 6);
    const char *offered = memmem(request, head_size, "/config", 7) ? CONFIG_JSON : METADATA_JSON;
    const char *body = found ? offered : "{\"error\":\"not offered\"}";
    int size = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                        found ? "200 OK" : "404 Not Found", strlen(body));
    put(head, size);
    put(body, strlen(body));
}

static size_t take_http(Conn *conn) {
    size_t used = 0;
    for (;;) {
        unsigned char *start = conn->in + used;
        size_t left = conn->held - used;
        unsigned char *end = memmem(start, left, "\r\n\r\n", 4);
        if (!end) return used;
        size_t head_size = end + 4 - start, body = 0;
        unsigned char *length = memmem(start, head_size, "\r\nContent-Length: ", 18);
        if (length) body = strtoul((char *)length + 18, NULL, 10);
        if (head_size + body > left) return used;
        answer_http(start, head_size);
        used += head_size + body;
    }
}

/* ModelInferResponse and ModelMetadataResponse, encoded once by hand. */
static unsigned char infer_message[256], metadata_message[128];
static size_t infer_message_size, metadata_message_size;

static void answer_grpc(uint32_t stream, unsigned method) {
    static const unsigned char headers[] = {0x88, 0x0f, 0x10, 16, 'a', 'p', 'p', 'l', 'i', 'c', 'a', 't', 'i', 'o', 'n', '/', 'g', 'r', 'p', 'c'};
    static const unsigned char ok[] = {0x00, 11, 'g', 'r', 'p', 'c', '-', 's', 't', 'a', 't', 'u', 's', 1, '0'};
    static const unsigned char unimplemented[] = {0x00, 11, 'g', 'r', 'p', 'c', '-', 's', 't', 'a', 't', 'u', 's', 2, '1', '2'};
    put_frame(1, 4, stream, headers, sizeof headers);
    if (method == 0) put_frame(0, 0, stream, infer_message, infer_message_size);
    if (method == 1) put_frame(0, 0, stream, metadata_message, metadata_message_size);
    if (method == 2) put_frame(1, 5, stream, unimplemented, sizeof unimplemented);
    else put_frame(1, 5, stream, ok, sizeof ok);
}

static size_t take_http2(Conn *conn) {
    size_t used = 0, received = 0;
    if (!conn->greeted) {
        if (conn->held < 24) return 0;
        used = 24;
        conn->greeted = 1;
        put_frame(4, 0, 0, "", 0);
    }
    while (conn->held - used >= 9) {
        unsigned char *head = conn->in + used;
        size_t size = head[0] << 16 | head[1] << 8 | head[2];
        uint32_t stream = (head[5] & 0x7f) << 24 | head[6] << 16 | head[7] << 8 | head[8];
        if (conn->held - used < 9 + size) break;
        if (head[3] == 0) received += size;
        if (head[3] == 4 && !(head[4] & 1)) put_frame(4, 1, 0, "", 0);
        if (head[3] == 1)
            conn->method[stream / 2 % 1024] =
                memmem(head + 9, size, "/ModelInfer", 11) ? 0 : memmem(head + 9, size, "/ModelMetadata", 14) ? 1 : 2;
        if (head[3] <= 1 && head[4] & 1) answer_grpc(stream, conn->method[stream / 2 % 1024]);
        used += 9 + size;
    }
    if (received) {
        unsigned char increment[4] = {received >> 24, received >> 16, received >> 8, received};
        put_frame(8, 0, 0, increment, 4);
    }
    return used;
}

static size_t field(unsigned char *to, unsigned number, const void *bytes, size_t size) {
    to[0] = number << 3 | 2;
    to[1] = size;
    memcpy(to + 2, bytes, size);
    return size + 2;
}

static size_t prefixed(unsigned char *to, const unsigned char *message, size_t size) {
    unsigned char head[5] = {0, 0, 0, 0, size};
    memcpy(to, head, 5);
    memcpy(to + 5, message, size);
    return size + 5;
}

static void encode_messages(void) {
    unsigned char tensor[64], message[256], values[64] = {0};
    size_t n = field(tensor, 1, "OUTPUT0", 7);
    n += field(tensor + n, 2, "FP32", 4);
    n += field(tensor + n, 3, "\x10", 1);
    size_t m = field(message, 1, "null", 4);
    m += field(message + m, 2, "1", 1);
    m += field(message + m, 5, tensor, n);
    m += field(message + m, 6, values, 64);
    infer_message_size = prefixed(infer_message, message, m);
    n = field(tensor, 1, "INPUT0", 6);
    n += field(tensor + n, 2, "FP32", 4);
    n += field(tensor + n, 3, "\x10", 1);
    m = field(message, 1, "null", 4);
    m += field(message + m, 4, tensor, n);
    metadata_message_size = prefixed(metadata_message, message, m);
    infer_size = snprintf(infer_answer, sizeof infer_answer,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: "
                          "%zu\r\nContent-Length: %zu\r\n\r\n%s", strlen(INFER_JSON), strlen(INFER_JSON) + 64, INFER_JSON);
    memset(infer_answer + infer_size, 0, 64);
    infer_size += 64;
}

static int listen_on(int *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024)) exit(1);
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return fd;
}

static void drop(int fd) {
    free(conns[fd]->in);
    free(conns[fd]);
    conns[fd] = NULL;
    close(fd);
}

static void serve(int fd) {
    Conn *conn = conns[fd];
    ssize_t got = read(fd, conn->in + conn->held, BUFFER - conn->held);
    if (got <= 0) { drop(fd); return; }
    conn->held += got;
    out_size = 0;
    size_t used = conn->http2 ? take_http2(conn) : take_http(conn);
    memmove(conn->in, conn->in + used, conn->held - used);
    conn->held -= used;
    if (out_size && write(fd, out, out_size) != (ssize_t)out_size) drop(fd);
}

int main(void) {
    int ports[2], listeners[2] = {listen_on(&ports[0]), listen_on(&ports[1])}, one = 1;
    struct epoll_event events[256], wanted = {.events = EPOLLIN};
    int poll = epoll_create1(0);
    encode_messages();
    for (int i = 0; i < 2; i++) {
        wanted.data.fd = listeners[i];
        epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &wanted);
    }
    printf("{\"http_port\":%d,\"grpc_port\":%d}\n", ports[0], ports[1]);
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listeners[0] && fd != listeners[1]) { serve(fd); continue; }
            int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
            if (accepted < 0 || accepted >= MAX_FD) continue;
            setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            conns[accepted] = calloc(1, sizeof(Conn));
            conns[accepted]->in = malloc(BUFFER);
            conns[accepted]->http2 = fd == listeners[1];
            wanted.data.fd = accepted;
            epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &wanted);
        }
    }
}
