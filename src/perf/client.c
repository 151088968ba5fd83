/*
 * What: one AMQP connection of the load generator on libuv: connecting, handshake, reading frames
 * in place, writing from two buffers (one being filled, one being written), heartbeats,
 * reconnecting. Happy path: connect → header → start-ok → tune-ok, open → channels are opened with
 * pipelined methods → ready. Failure modes: any failure ends in client_fail: the handle is closed,
 * and then the next URI is tried
 * (--reconnect) or the run ends. In the set-up phase each URI is tried once without --reconnect.
 * Ownership: a client owns its buffers; the uv handle may be used again only after its close
 * callback.
 */
#include "perf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "warren/wire_table.h"

#define RETRY_PAUSE_NS UINT64_C(20000000)

static void begin_connect(struct client *c);

/* ---- output ---- */

uint8_t *client_reserve(struct client *c, size_t size)
{
    struct out *o = &c->fill;
    if (WR_UNLIKELY(o->capacity - o->size < size)) {
        size_t capacity = o->capacity == 0 ? 4096 : o->capacity * 2;
        while (capacity - o->size < size) {
            capacity *= 2;
        }
        o->data = wr_realloc(o->data, capacity);
        o->capacity = capacity;
    }
    return o->data + o->size;
}

void client_send(struct client *c, uint16_t channel, const struct wire_method *method)
{
    const size_t size = wire_method_frame_size(method);
    (void)wire_method_frame_write(client_reserve(c, size), channel, method);
    client_commit(c, size);
}

static void on_written(uv_write_t *req, int status)
{
    struct client *c = req->data;
    c->writing = false;
    c->flight.size = 0;
    if (status < 0) {
        if (c->state == CLIENT_OPEN || c->state == CLIENT_CONNECTING) {
            client_fail(c, "writing: %s", uv_strerror(status));
        }
        return;
    }
    if (c->role == ROLE_PRODUCER && c->perf->phase == PHASE_RUN && c->state == CLIENT_OPEN) {
        producer_fill(c);
    } else {
        client_flush(c);
    }
}

void client_flush(struct client *c)
{
    const bool nothing = c->fill.size == 0 && (c->tls == NULL || tls_pending(c->tls) == 0);
    if (c->writing || nothing || !c->handle_active || uv_is_closing((uv_handle_t *)&c->tcp)) {
        return;
    }
    if (c->tls != NULL) {
        tls_seal(c->tls, &c->fill);
    }
    c->sent_ns = now_ns();
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    uv_buf_t buf = uv_buf_init((char *)c->fill.data, (unsigned)c->fill.size);
    size_t done = 0;
    /* Small output goes at once, without a round through the loop; what is large goes by uv_write,
     * whose callback comes in the next turn, so that reading gets its share. */
    if (c->fill.size < 16 * 1024) {
        const int written = uv_try_write(stream, &buf, 1);
        done = written > 0 ? (size_t)written : 0;
        if (done == c->fill.size) {
            c->fill.size = 0;
            return;
        }
    }
    const struct out swap = c->flight;
    c->flight = c->fill;
    c->fill = swap;
    c->fill.size = 0;
    c->writing = true;
    buf = uv_buf_init((char *)c->flight.data + done, (unsigned)(c->flight.size - done));
    c->write.data = c;
    const int err = uv_write(&c->write, stream, &buf, 1, on_written);
    if (err < 0) {
        c->writing = false;
        client_fail(c, "writing: %s", uv_strerror(err));
    }
}

/* ---- end of a connection ---- */

static void on_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    c->handle_active = false;
    c->writing = false;
    c->fill.size = 0;
    c->flight.size = 0;
    wire_frame_reader_deinit(&c->reader);
    tls_free(c->tls);
    c->tls = NULL;
}

/* Forget what belonged to the connection; what was not confirmed is kept for sending again. */
static void drop(struct client *c)
{
    c->state = CLIENT_DOWN;
    c->ready_count = 0;
    for (unsigned i = 0; i < c->channel_count; i++) {
        struct channel *ch = &c->channels[i];
        ch->ready = false;
        if (c->role == ROLE_PRODUCER) {
            producer_lost(ch);
        }
    }
    if (c->handle_active && !uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    }
}

void client_fail(struct client *c, const char *fmt, ...)
{
    struct perf *perf = c->perf;
    if (c->state == CLIENT_DOWN || c->state == CLIENT_CLOSING || perf->phase == PHASE_CLOSING) {
        drop(c);
        return;
    }
    char reason[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);
    char text[1200];
    snprintf(text, sizeof(text), "%s: %s", perf->options->uris[c->uri].text, reason);
    drop(c);
    c->failures++;
    c->uri = (c->uri + 1) % perf->options->uri_count;
    /* Another URI at once; after a round of all of them, pause. */
    c->retry_ns =
        now_ns() +
        (c->failures % perf->options->uri_count == 0 || c->failures > 1 ? RETRY_PAUSE_NS : 0);
    const bool again =
        perf->options->reconnect || (!c->was_ready && c->failures < perf->options->uri_count);
    if (!again) {
        run_fatal(perf, text);
        return;
    }
    if (c->was_ready && c->failures == 1) {
        perf->reconnects++;
        fprintf(stderr, "time %.3f s: %s %u lost its connection: %s\n",
                (double)(now_ns() - perf->begin_ns) / 1e9,
                c->role == ROLE_PRODUCER ? "producer" : "consumer", c->index, text);
    }
}

/* ---- handshake ---- */

static void on_start(struct client *c)
{
    const struct uri *u = &c->perf->options->uris[c->uri];
    struct writer w;
    writer_init(&w, 512);
    wire_table_put_cstr(&w, "product", "warren-perf");
    wire_table_put_cstr(&w, "version", WARREN_VERSION);
    char name[300];
    snprintf(name, sizeof(name), "perf-%s-%s-%u", c->perf->options->id,
             c->role == ROLE_PRODUCER ? "producer" : "consumer", c->index);
    wire_table_put_cstr(&w, "connection_name", name);
    const uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
    wire_table_put_bool(&w, "publisher_confirms", true);
    wire_table_put_bool(&w, "basic.nack", true);
    wire_table_put_bool(&w, "consumer_cancel_notify", true);
    wire_table_put_bool(&w, "connection.blocked", true);
    wire_table_put_bool(&w, "authentication_failure_close", true);
    wire_value_put_end(&w, mark);
    uint8_t response[600];
    const bool external = c->perf->options->external;
    const int size = external ? 0
                              : snprintf((char *)response, sizeof(response), "%c%s%c%s", 0, u->user,
                                         0, u->password);
    const struct wire_method start_ok = {
        .id = WIRE_CONNECTION_START_OK,
        .connection_start_ok = {
            .client_properties = writer_bytes(&w),
            .mechanism = bytes_from_cstr(external ? "EXTERNAL" : "PLAIN"),
            .response = bytes_make(response, (size_t)size),
            .locale = BYTES_LITERAL("en_US"),
        }};
    client_send(c, 0, &start_ok);
    writer_deinit(&w);
}

static void on_tune(struct client *c, const struct wire_connection_tune *tune)
{
    const struct options *o = c->perf->options;
    c->frame_max = tune->frame_max == 0 ? 131072 : tune->frame_max;
    if (o->frame_max != 0 && o->frame_max < c->frame_max) {
        c->frame_max = o->frame_max;
    }
    c->heartbeat = o->heartbeat == UINT16_MAX ? tune->heartbeat : o->heartbeat;
    wire_frame_reader_set_max(&c->reader, c->frame_max);
    const struct wire_method tune_ok = {
        .id = WIRE_CONNECTION_TUNE_OK,
        .connection_tune_ok = {tune->channel_max, c->frame_max, c->heartbeat}};
    client_send(c, 0, &tune_ok);
    const char *vhost = o->vhost != NULL ? o->vhost : o->uris[c->uri].vhost;
    const struct wire_method open = {.id = WIRE_CONNECTION_OPEN,
                                     .connection_open = {.virtual_host = bytes_from_cstr(vhost)}};
    client_send(c, 0, &open);
}

static void open_channels(struct client *c)
{
    c->state = CLIENT_OPEN;
    for (unsigned i = 0; i < c->channel_count; i++) {
        struct channel *ch = &c->channels[i];
        const struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
        client_send(c, ch->number, &open);
        ch->expected = 1;
        if (c->role == ROLE_PRODUCER) {
            producer_open(ch);
        } else if (c->role == ROLE_CONSUMER) {
            consumer_open(ch);
        }
    }
    if (c->role == ROLE_SETUP) {
        setup_open(c);
    }
    client_flush(c);
}

static void on_connection_method(struct client *c, const struct wire_method *m)
{
    switch ((uint32_t)m->id) {
    case WIRE_CONNECTION_START:
        on_start(c);
        break;
    case WIRE_CONNECTION_TUNE:
        on_tune(c, &m->connection_tune);
        break;
    case WIRE_CONNECTION_OPEN_OK:
        open_channels(c);
        break;
    case WIRE_CONNECTION_CLOSE: {
        const struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
        client_send(c, 0, &ok);
        client_flush(c);
        client_fail(c, "connection closed by the server: %u %.*s", m->connection_close.reply_code,
                    BYTES_PRINTF(m->connection_close.reply_text));
        break;
    }
    case WIRE_CONNECTION_CLOSE_OK:
        drop(c);
        break;
    case WIRE_CONNECTION_BLOCKED:
        fprintf(stderr, "connection blocked: %.*s\n", BYTES_PRINTF(m->connection_blocked.reason));
        break;
    default:
        break; /* unblocked, update-secret-ok: nothing to do */
    }
    client_flush(c);
}

/* ---- input ---- */

/* One more reply of those that a channel waits for. */
static void on_reply(struct channel *ch)
{
    struct client *c = ch->client;
    if (ch->expected == 0 || --ch->expected > 0) {
        return;
    }
    ch->ready = true;
    if (++c->ready_count == c->channel_count) {
        c->failures = 0;
        run_client_ready(c);
    }
}

static void on_channel_method(struct channel *ch, const struct wire_frame *frame, uint64_t now)
{
    struct client *c = ch->client;
    struct wire_method m;
    const enum wire_fault fault = wire_method_decode(frame->payload, &m);
    if (fault != WIRE_OK) {
        client_fail(c, "bad method from the server: %s", wire_fault_text(fault));
        return;
    }
    switch ((uint32_t)m.id) {
    case WIRE_CHANNEL_CLOSE:
        client_fail(c, "channel closed by the server: %u %.*s", m.channel_close.reply_code,
                    BYTES_PRINTF(m.channel_close.reply_text));
        break;
    case WIRE_BASIC_CANCEL:
        client_fail(c, "consumer cancelled by the server");
        break;
    case WIRE_CHANNEL_OPEN_OK:
    case WIRE_EXCHANGE_DECLARE_OK:
    case WIRE_QUEUE_DECLARE_OK:
    case WIRE_QUEUE_BIND_OK:
    case WIRE_BASIC_QOS_OK:
    case WIRE_BASIC_CONSUME_OK:
    case WIRE_CONFIRM_SELECT_OK:
        on_reply(ch);
        break;
    default:
        if (c->role == ROLE_PRODUCER) {
            producer_method(ch, &m, now);
        }
        break;
    }
}

static void on_frame(struct client *c, const struct wire_frame *frame, uint64_t now)
{
    if (frame->type == WIRE_FRAME_HEARTBEAT) {
        return;
    }
    if (frame->channel == 0) {
        struct wire_method m;
        if (frame->type == WIRE_FRAME_METHOD && wire_method_decode(frame->payload, &m) == WIRE_OK) {
            on_connection_method(c, &m);
        } else {
            client_fail(c, "bad frame on channel 0");
        }
        return;
    }
    if (frame->channel > c->channel_count) {
        client_fail(c, "frame for channel %u", frame->channel);
        return;
    }
    struct channel *ch = &c->channels[frame->channel - 1];
    if (c->role == ROLE_CONSUMER &&
        (frame->type != WIRE_FRAME_METHOD ||
         (frame->payload.size >= 4 &&
          bytes_load_be32(frame->payload.data) == WIRE_BASIC_DELIVER))) {
        consumer_frame(ch, frame, now);
    } else if (frame->type == WIRE_FRAME_METHOD) {
        on_channel_method(ch, frame, now);
    }
    /* Else the content of a basic.return: only its method counts. */
}

static void take_input(struct client *c, struct bytes input, uint64_t now)
{
    struct wire_frame frame;
    enum wire_read result = WIRE_READ_MORE;
    while (c->state != CLIENT_DOWN &&
           (result = wire_frame_next(&c->reader, &input, &frame)) == WIRE_READ_FRAME) {
        on_frame(c, &frame, now);
    }
    if (c->state != CLIENT_DOWN && result == WIRE_READ_FAULT) {
        client_fail(c, "broken stream: %s", wire_fault_text(c->reader.fault));
    }
}

static void send_header(struct client *c)
{
    memcpy(client_reserve(c, WIRE_PROTOCOL_HEADER_SIZE), wire_protocol_header,
           WIRE_PROTOCOL_HEADER_SIZE);
    client_commit(c, WIRE_PROTOCOL_HEADER_SIZE);
    client_flush(c);
}

static void take_sealed_input(struct client *c, const void *data, size_t size, uint64_t now)
{
    bool opened = false;
    const char *why = tls_receive(c->tls, data, size, &opened);
    size_t n = 0;
    if (opened) {
        send_header(c);
    }
    while (why == NULL && c->state != CLIENT_DOWN) {
        why = tls_read(c->tls, c->perf->plain_buffer, READ_BUFFER_SIZE, &n);
        if (n == 0) {
            break;
        }
        take_input(c, bytes_make(c->perf->plain_buffer, n), now);
    }
    if (why != NULL && c->state != CLIENT_DOWN) {
        client_flush(c); /* the alert */
        client_fail(c, "TLS: %s", why);
    }
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    if (size == 0) {
        return;
    }
    if (size < 0) {
        client_fail(c, "%s", size == UV_EOF ? "connection ended" : uv_strerror((int)size));
        return;
    }
    const uint64_t now = now_ns();
    c->received_ns = now;
    if (c->tls == NULL) {
        take_input(c, bytes_make(buf->base, (size_t)size), now);
    } else {
        take_sealed_input(c, buf->base, (size_t)size, now);
    }
    if (c->state == CLIENT_DOWN) {
        return;
    }
    if (c->role == ROLE_CONSUMER) {
        consumer_read_done(c);
    } else if (c->role == ROLE_PRODUCER && c->perf->phase == PHASE_RUN && c->state == CLIENT_OPEN &&
               !c->writing) {
        producer_fill(c);
    }
    client_flush(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)c->perf->read_buffer, READ_BUFFER_SIZE);
}

/* ---- connecting ---- */

static void on_connected(uv_connect_t *req, int status)
{
    struct client *c = req->data;
    if (status == UV_ECANCELED || c->state != CLIENT_CONNECTING) {
        return;
    }
    if (status < 0) {
        client_fail(c, "connecting: %s", uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (c->tls == NULL) {
        send_header(c);
    } else {
        take_sealed_input(c, NULL, 0, now_ns()); /* the first flight */
        client_flush(c);
    }
}

static void begin_connect(struct client *c)
{
    WR_ASSERT(!c->handle_active);
    uv_tcp_init(&c->perf->loop, &c->tcp);
    c->tcp.data = c;
    c->connect.data = c;
    c->handle_active = true;
    c->state = CLIENT_CONNECTING;
    c->begun_ns = now_ns();
    c->received_ns = c->begun_ns;
    c->sent_ns = c->begun_ns;
    c->heartbeat = 0;
    wire_frame_reader_init(&c->reader, 131072);
    const struct uri *u = &c->perf->options->uris[c->uri];
    c->tls = u->tls ? tls_new(c->perf->tls, u->host) : NULL;
    const int err =
        uv_tcp_connect(&c->connect, &c->tcp, (const struct sockaddr *)&u->address, on_connected);
    if (err < 0) {
        client_fail(c, "connecting: %s", uv_strerror(err));
    }
}

void client_start(struct client *c)
{
    begin_connect(c);
}

void client_close(struct client *c)
{
    if (c->state != CLIENT_OPEN) {
        drop(c);
        return;
    }
    c->state = CLIENT_CLOSING;
    const struct wire_method close = {
        .id = WIRE_CONNECTION_CLOSE,
        .connection_close = {.reply_code = 200, .reply_text = BYTES_LITERAL("bye")}};
    client_send(c, 0, &close);
    client_flush(c);
}

/* ---- time ---- */

/* True when a healthy server would have something to send. */
static bool waits_for_answer(const struct client *c)
{
    if (c->role != ROLE_PRODUCER) {
        /* A consumer of ours should see what our producers send. */
        return c->role == ROLE_CONSUMER && c->perf->phase == PHASE_RUN &&
               c->perf->options->producers > 0;
    }
    for (unsigned i = 0; i < c->channel_count; i++) {
        if (c->channels[i].p.outstanding > 0) {
            return true;
        }
    }
    return false;
}

void client_keep(struct client *c, uint64_t now)
{
    const struct options *o = c->perf->options;
    const uint64_t quiet_ns = now > c->received_ns ? now - c->received_ns : 0;
    switch (c->state) {
    case CLIENT_DOWN:
        if (!c->handle_active && now >= c->retry_ns && c->perf->phase != PHASE_CLOSING &&
            (c->failures > 0)) {
            begin_connect(c);
        }
        break;
    case CLIENT_CONNECTING:
        if (now - c->begun_ns > o->connect_timeout_ms * 1000000) {
            client_fail(c, "no answer within %" PRIu64 " ms", o->connect_timeout_ms);
        }
        break;
    case CLIENT_OPEN:
        if (c->heartbeat > 0 && now > c->sent_ns &&
            now - c->sent_ns > c->heartbeat * UINT64_C(500000000)) {
            (void)wire_heartbeat_write(client_reserve(c, WIRE_FRAME_OVERHEAD));
            client_commit(c, WIRE_FRAME_OVERHEAD);
            client_flush(c);
        }
        if (c->heartbeat > 0 && quiet_ns > c->heartbeat * UINT64_C(2000000000)) {
            client_fail(c, "no heartbeat");
        } else if (o->silence_ms > 0 && quiet_ns > o->silence_ms * 1000000 &&
                   (!c->was_ready || c->ready_count < c->channel_count || waits_for_answer(c))) {
            client_fail(c, "no answer within %" PRIu64 " ms", o->silence_ms);
        }
        break;
    case CLIENT_CLOSING:
        break;
    }
}
