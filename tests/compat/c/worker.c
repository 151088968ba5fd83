/* The publisher and the consumer of the kill test for rabbitmq-c; see tests/real/README.md.
 *
 * Everything runs in turns, TICK_MS apart: a turn sends what is due and then takes what has come.
 * Time is counted in turns, so that no clock is needed. After a failure the next turn begins with
 * the next URI; what was not confirmed is sent again, lowest number first. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 20, RETRY_MS = 200, WINDOW_MAX = 1024, AGAIN_MAX = 1 << 16, CHANNEL = 1 };

struct slot {
    uint64_t tag; /* 0 = free */
    uint64_t seq;
    bool returned;
};

struct worker {
    char *uris[16];
    int uri_count;
    const char *queue;
    const char *id;
    int first, window, rate, size, prefetch;
    int epoch;
    bool stopping;
    uint64_t next; /* the lowest number that has never been sent */
    uint64_t turns;
    uint64_t delivered;
    uint64_t tag; /* of the last publish on this connection */
    struct slot pending[WINDOW_MAX];
    int pending_count;
    uint64_t again[AGAIN_MAX]; /* ascending */
    int again_count;
    amqp_connection_state_t state; /* NULL = not connected */
};

static void poll_stdin(struct worker *w)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    if (!w->stopping && poll(&in, 1, 0) > 0) {
        w->stopping = true;
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static void send_again(struct worker *w, uint64_t seq)
{
    if (w->again_count == AGAIN_MAX) {
        (void)fprintf(stderr, "too many unconfirmed messages\n");
        exit(2);
    }
    w->again[w->again_count++] = seq;
}

static void lost(struct worker *w, const char *why)
{
    (void)printf("L %d %s\n", w->epoch, why);
    for (int i = 0; i < w->window; i++) {
        if (w->pending[i].tag != 0) {
            send_again(w, w->pending[i].seq);
            w->pending[i] = (struct slot){0};
        }
    }
    w->pending_count = 0;
    qsort(w->again, (size_t)w->again_count, sizeof w->again[0], compare_u64);
    if (w->state != NULL) {
        (void)amqp_destroy_connection(w->state);
        w->state = NULL;
    }
    (void)fflush(stdout);
}

static const char *connect_next(struct worker *w, bool publisher)
{
    static char uri[256];
    struct amqp_connection_info info;
    struct timeval limit = {4, 0};
    struct timeval rpc_limit = {15, 0};
    w->epoch++;
    (void)snprintf(uri, sizeof uri, "%s", w->uris[(w->first + w->epoch) % w->uri_count]);
    if (amqp_parse_url(uri, &info) != AMQP_STATUS_OK) {
        return "bad URI";
    }
    w->state = amqp_new_connection();
    (void)amqp_set_handshake_timeout(w->state, &limit);
    (void)amqp_set_rpc_timeout(w->state, &rpc_limit);
    amqp_socket_t *socket = amqp_tcp_socket_new(w->state);
    if (amqp_socket_open_noblock(socket, info.host, info.port, &limit) != AMQP_STATUS_OK) {
        return "cannot connect";
    }
    if (amqp_login(w->state, info.vhost, 2047, 131072, 4, AMQP_SASL_METHOD_PLAIN, info.user,
                   info.password)
            .reply_type != AMQP_RESPONSE_NORMAL) {
        return "cannot log in";
    }
    if (amqp_channel_open(w->state, CHANNEL) == NULL) {
        return "channel.open";
    }
    w->tag = 0;
    if (publisher && amqp_confirm_select(w->state, CHANNEL) == NULL) {
        return "confirm.select";
    }
    if (!publisher && (amqp_basic_qos(w->state, CHANNEL, 0, (uint16_t)w->prefetch, 0) == NULL ||
                       amqp_basic_consume(w->state, CHANNEL, amqp_cstring_bytes(w->queue),
                                          amqp_empty_bytes, 0, 0, 0, amqp_empty_table) == NULL)) {
        return "qos or consume";
    }
    (void)printf("O %d %d\n", w->epoch, info.port);
    return NULL;
}

static bool publish_one(struct worker *w, uint64_t seq)
{
    char body[4096];
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    int n = snprintf(body, sizeof body, "%s %d %llu ", w->id, w->epoch, (unsigned long long)seq);
    size_t size = n > w->size ? (size_t)n : (size_t)w->size;
    memset(body + n, '.', size - (size_t)n);
    int slot = 0;
    while (w->pending[slot].tag != 0) {
        slot++;
    }
    w->pending[slot] = (struct slot){.tag = ++w->tag, .seq = seq};
    w->pending_count++;
    (void)printf("A %d %llu\n", w->epoch, (unsigned long long)seq);
    return amqp_basic_publish(w->state, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(w->queue), 1,
                              0, &p, (amqp_bytes_t){size, body}) == AMQP_STATUS_OK;
}

/* What was nacked or lost comes before anything new. */
static bool publish_due(struct worker *w)
{
    int sent = 0;
    while (sent < w->again_count && w->pending_count < w->window) {
        if (!publish_one(w, w->again[sent++])) {
            memmove(w->again, w->again + sent,
                    (size_t)(w->again_count - sent) * sizeof w->again[0]);
            w->again_count -= sent;
            return false;
        }
    }
    memmove(w->again, w->again + sent, (size_t)(w->again_count - sent) * sizeof w->again[0]);
    w->again_count -= sent;
    uint64_t due = w->turns * (uint64_t)w->rate * TICK_MS / 1000;
    while (!w->stopping && w->again_count == 0 && w->next <= due && w->pending_count < w->window) {
        if (!publish_one(w, w->next++)) {
            return false;
        }
    }
    return true;
}

static void confirm(struct worker *w, uint64_t tag, bool multiple, bool ok)
{
    for (int i = 0; i < w->window; i++) {
        struct slot *slot = &w->pending[i];
        if (slot->tag == 0 || slot->tag > tag || (slot->tag != tag && !multiple)) {
            continue;
        }
        bool taken = ok && !slot->returned;
        (void)printf("%c %d %llu\n", taken ? 'C' : 'N', w->epoch, (unsigned long long)slot->seq);
        if (!taken) {
            send_again(w, slot->seq);
        }
        *slot = (struct slot){0};
        w->pending_count--;
    }
}

/* "id epoch seq ..." of a body; false when it is not one of ours. */
static bool parse_body(const amqp_message_t *message, char id[64], int *ret_epoch,
                       unsigned long long *ret_seq)
{
    char text[128];
    (void)snprintf(text, sizeof text, "%.*s", (int)message->body.len, (char *)message->body.bytes);
    return sscanf(text, "%63s %d %llu", id, ret_epoch, ret_seq) == 3;
}

static const char *read_content(struct worker *w, amqp_method_number_t method, bool redelivered,
                                uint64_t tag)
{
    amqp_message_t message;
    char id[64] = "";
    int epoch = 0;
    unsigned long long seq = 0;
    if (amqp_read_message(w->state, CHANNEL, &message, 0).reply_type != AMQP_RESPONSE_NORMAL) {
        return "reading a message";
    }
    bool ours = parse_body(&message, id, &epoch, &seq);
    amqp_destroy_message(&message);
    if (method == AMQP_BASIC_RETURN_METHOD) {
        for (int i = 0; ours && i < w->window; i++) {
            w->pending[i].returned =
                w->pending[i].returned || (w->pending[i].tag != 0 && w->pending[i].seq == seq);
        }
        return NULL;
    }
    (void)printf("D %d %s %d %llu %d\n", w->epoch, ours ? id : "?", epoch, seq, redelivered);
    w->delivered++;
    return amqp_basic_ack(w->state, CHANNEL, tag, 0) == AMQP_STATUS_OK ? NULL : "basic.ack";
}

static const char *on_method(struct worker *w, const amqp_method_t *method)
{
    if (method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *m = method->decoded;
        confirm(w, m->delivery_tag, m->multiple, true);
        return NULL;
    }
    if (method->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *m = method->decoded;
        confirm(w, m->delivery_tag, m->multiple, false);
        return NULL;
    }
    if (method->id == AMQP_BASIC_RETURN_METHOD) {
        return read_content(w, method->id, false, 0);
    }
    if (method->id == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *m = method->decoded;
        return read_content(w, method->id, m->redelivered, m->delivery_tag);
    }
    return "closed or cancelled by the broker";
}

/* Takes what has come. */
static const char *take(struct worker *w)
{
    for (int i = 0; i < 2000; i++) {
        amqp_frame_t frame;
        struct timeval limit = {0, 0};
        amqp_maybe_release_buffers(w->state);
        int rc = amqp_simple_wait_frame_noblock(w->state, &frame, &limit);
        if (rc == AMQP_STATUS_TIMEOUT) {
            return NULL;
        }
        if (rc != AMQP_STATUS_OK) {
            return amqp_error_string2(rc);
        }
        const char *why =
            frame.frame_type == AMQP_FRAME_METHOD ? on_method(w, &frame.payload.method) : NULL;
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

static bool done(const struct worker *w, bool publisher)
{
    return w->stopping && (!publisher || (w->pending_count == 0 && w->again_count == 0));
}

static void run(struct worker *w, bool publisher)
{
    while (!done(w, publisher)) {
        poll_stdin(w);
        const char *why = NULL;
        if (w->state == NULL) {
            why = connect_next(w, publisher);
        }
        if (why == NULL) {
            w->turns++;
            (void)poll(NULL, 0, TICK_MS);
            why = publisher && !publish_due(w) ? "basic.publish" : take(w);
        }
        if (why != NULL) {
            lost(w, why);
            (void)poll(NULL, 0, RETRY_MS);
        }
        (void)fflush(stdout);
    }
    (void)printf("DONE %llu\n", (unsigned long long)(publisher ? w->next - 1 : w->delivered));
    (void)fflush(stdout);
    if (w->state != NULL) {
        (void)amqp_connection_close(w->state, 200);
        (void)amqp_destroy_connection(w->state);
    }
}

static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

static void option(struct worker *w, const char *name, char *value)
{
    if (strcmp(name, "--uris") == 0) {
        for (char *one; (one = strsep(&value, ",")) != NULL && w->uri_count < 16;) {
            w->uris[w->uri_count++] = one;
        }
    } else if (strcmp(name, "--queue") == 0) {
        w->queue = value;
    } else if (strcmp(name, "--id") == 0) {
        w->id = value;
    } else if (strcmp(name, "--first") == 0) {
        w->first = number(value);
    } else if (strcmp(name, "--window") == 0) {
        w->window = number(value);
    } else if (strcmp(name, "--rate") == 0) {
        w->rate = number(value);
    } else if (strcmp(name, "--size") == 0) {
        w->size = number(value);
    } else if (strcmp(name, "--prefetch") == 0) {
        w->prefetch = number(value);
    }
}

int main(int argc, char **argv)
{
    struct worker *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return 2;
    }
    *w = (struct worker){.window = 100, .rate = 300, .size = 64, .prefetch = 50, .next = 1};
    for (int i = 2; i + 1 < argc; i += 2) {
        option(w, argv[i], argv[i + 1]);
    }
    if (argc < 2 || w->uri_count == 0 || w->queue == NULL || w->id == NULL || w->window < 1 ||
        w->window > WINDOW_MAX || w->size < 0 || w->size > 4096) {
        (void)fprintf(stderr,
                      "usage: worker publisher|consumer --uris U,... --queue Q --id ID ...\n");
        return 2;
    }
    run(w, strcmp(argv[1], "publisher") == 0);
    free(w);
    return 0;
}
