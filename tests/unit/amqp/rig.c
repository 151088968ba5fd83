/* The rig: see rig.h. */
#include "rig.h"

struct rig rig;

/* --- the env ---------------------------------------------------------------------------------- */

static uint64_t mono_ns(struct env *env)
{
    (void)env;
    return rig.now_ms * 1000000;
}

static void conn_send(struct env_conn *conn, struct slice *owned, uint32_t count)
{
    cr_assert(!conn->closed, "sent on a closed connection");
    for (uint32_t i = 0; i < count; i++) {
        buf_append(&conn->out, slice_data(&owned[i]), owned[i].size);
        slice_unref(&owned[i]);
    }
}

static size_t conn_backlog(const struct env_conn *conn)
{
    return conn->backlog;
}

static void conn_set_watermarks(struct env_conn *conn, size_t low, size_t high)
{
    (void)conn;
    cr_assert_lt(low, high);
}

static void conn_pause(struct env_conn *conn, bool paused)
{
    cr_assert(!conn->reported);
    cr_assert_neq(conn->paused, paused);
    conn->paused = paused;
}

static void conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms)
{
    (void)linger_ms;
    cr_assert(!conn->closed && !conn->reported);
    conn->closed = true;
    conn->graceful = graceful;
}

static void conn_set_user(struct env_conn *conn, void *user)
{
    conn->user = user;
}

static const struct env_tls *conn_tls(const struct env_conn *conn)
{
    (void)conn;
    return rig.tls;
}

static const struct env_ops ops = {
    .mono_ns = mono_ns,
    .conn_send = conn_send,
    .conn_backlog = conn_backlog,
    .conn_set_watermarks = conn_set_watermarks,
    .conn_pause = conn_pause,
    .conn_close = conn_close,
    .conn_set_user = conn_set_user,
    .conn_tls = conn_tls,
};

/* --- driving ---------------------------------------------------------------------------------- */

void rig_init(void)
{
    memset(&rig, 0, sizeof rig);
    rig.room = UINT64_MAX;
    rig.env.ops = &ops;
    rig.now_ms = 1000;
    rig.options = (struct amqp_options){.handshake_timeout_ms = 10000,
                                        .heartbeat_s = 60,
                                        .frame_max = 131072,
                                        .initial_frame_max = 8192,
                                        .channel_max = 8,
                                        .message_size_max = 1u << 20,
                                        .product = "Warren",
                                        .version = "0.1",
                                        .platform = "test",
                                        .cluster_name = "c",
                                        .node_name = "n",
                                        .seed = 1};
    rig.answer = true;
    strbuf_init(&rig.calls, rig.calls_text, sizeof rig.calls_text);
    rig.server = amqp_server_new(&rig.env, NULL, &rig.options);
}

void rig_connect(const char *peer)
{
    struct net_addr from = {.port = 1234};
    struct net_addr to = {.host = "127.0.0.1", .port = 5672};
    (void)snprintf(from.host, sizeof from.host, "%s", peer);
    rig.conn = (struct env_conn){.out = buf_new(1024)};
    wire_frame_reader_init(&rig.reader, 0);
    amqp_accept(rig.server, &rig.conn, &from, &to);
}

static void report_closed(int error)
{
    if (!rig.conn.reported) {
        rig.conn.reported = true;
        amqp_on_closed(rig.server, rig.conn.user, error);
    }
}

void rig_hang_up(void)
{
    report_closed(0);
    rig_turn();
}

void rig_deinit(void)
{
    amqp_server_free(rig.server);
    vec_deinit(&rig.waiting);
    vec_deinit(&rig.tokens);
    wire_frame_reader_deinit(&rig.reader);
    buf_unref(rig.conn.out);
}

void rig_feed(const void *data, size_t size)
{
    if (!rig.conn.closed && !rig.conn.reported) {
        uint8_t *copy = wr_memdup(data, size); /* exactly as long as it is, for the sanitizers */
        amqp_on_bytes(rig.server, rig.conn.user, copy, size);
        wr_free(copy);
    }
}

void rig_header(void)
{
    rig_feed(wire_protocol_header, sizeof wire_protocol_header);
}

void rig_send(uint16_t channel, const struct wire_method *method)
{
    size_t size = wire_method_frame_size(method);
    uint8_t *frame = wr_alloc(size);
    (void)wire_method_frame_write(frame, channel, method);
    rig_feed(frame, size);
    wr_free(frame);
}

void rig_frame(uint8_t type, uint16_t channel, const void *payload, size_t size)
{
    uint8_t *frame = wr_alloc(size + WIRE_FRAME_OVERHEAD);
    uint8_t *at = wire_frame_begin(frame, type, channel, (uint32_t)size);
    if (size > 0) {
        memcpy(at, payload, size);
    }
    at[size] = WIRE_FRAME_END;
    rig_feed(frame, size + WIRE_FRAME_OVERHEAD);
    wr_free(frame);
}

void rig_session_gone(void)
{
    if (rig.session.open && rig.session.closing) {
        rig.session.open = false;
        rig.session.done(rig.session.done_ctx);
    }
}

void rig_answer(uint16_t code, bool connection, const char *text, uint64_t a, uint64_t b)
{
    cr_assert_gt(rig.waiting.count, 0);
    struct fake_call c = rig.waiting.items[0];
    struct broker_fault fault = {.code = code, .connection = connection};
    vec_remove(&rig.waiting, 0);
    (void)snprintf(fault.text, sizeof fault.text, "%s", text == NULL ? "" : text);
    char *name = strchr(
        c.name, '\''); /* the answer names the first name of the call, or for consume the second */
    if (name != NULL && strstr(c.name, " consume ") != NULL) {
        name = strchr(strchr(name + 1, '\'') + 1, '\'');
    }
    struct bytes first = BYTES_NONE;
    if (name != NULL) {
        first = bytes_make(name + 1, (size_t)(strchr(name + 1, '\'') - name - 1));
    }
    if (c.get && code == 0 && a == 1) {
        struct message m = rig_message("x", "k", "got", 3);
        struct broker_delivery d = {
            .queue = 7, .consumer = 0, .ordinal = strstr(c.name, "no_ack") != NULL ? 0 : 1};
        c.on_get(c.ctx, &d, false, 0, &m, b);
        message_unref(m);
    }
    c.done(c.ctx, &fault, first, a, b);
}

void rig_turn(void)
{
    for (int round = 0; round < 3;
         round++) { /* as a shard's turn: broker, front end, broker, front end */
        while (rig.answer && rig.waiting.count > 0) {
            rig_answer(0, false, NULL, 0, 0);
        }
        if (!rig.hold_session) {
            rig_session_gone();
        }
        amqp_turn(rig.server);
    }
    if (rig.conn.closed) {
        report_closed(0);
        amqp_turn(rig.server);
    }
}

void rig_pass(uint64_t ms)
{
    uint64_t end = rig.now_ms + ms;
    while (rig.now_ms < end) {
        uint64_t next = amqp_deadline_ns(rig.server) / 1000000;
        rig.now_ms = next <= rig.now_ms ? rig.now_ms + 1 : next < end ? next : end;
        rig_turn();
    }
}

static void describe_frame(struct strbuf *s, const struct wire_frame *frame)
{
    struct wire_method method;
    struct wire_header header;
    struct wire_props props;
    if (frame->type == WIRE_FRAME_METHOD) {
        cr_assert_eq(wire_method_decode(frame->payload, &method), WIRE_OK);
        strbuf_printf(s, "%u ", frame->channel);
        wire_describe_method(s, &method);
    } else if (frame->type == WIRE_FRAME_HEADER) {
        cr_assert_eq(wire_header_decode(frame->payload, &header), WIRE_OK);
        cr_assert_eq(wire_props_decode(header.props, &props), WIRE_OK);
        strbuf_printf(s, "%u header %llu ", frame->channel, (unsigned long long)header.body_size);
        wire_describe_props(s, &props);
    } else if (frame->type == WIRE_FRAME_BODY && frame->payload.size <= 32) {
        strbuf_printf(s, "%u body '%.*s'", frame->channel, S(frame->payload));
    } else if (frame->type == WIRE_FRAME_BODY) {
        strbuf_printf(s, "%u body %zu", frame->channel, frame->payload.size);
    } else {
        strbuf_printf(s, "%u heartbeat", frame->channel);
    }
    strbuf_add_char(s, '\n');
}

const char *rig_out(void)
{
    struct strbuf s;
    strbuf_init(&s, rig.out_text, sizeof rig.out_text);
    rig_turn();
    struct bytes input = bytes_make(rig.conn.out->data, rig.conn.out->size);
    struct wire_frame frame;
    enum wire_read got;
    while ((got = wire_frame_next(&rig.reader, &input, &frame)) == WIRE_READ_FRAME) {
        describe_frame(&s, &frame);
    }
    cr_assert_eq(got, WIRE_READ_MORE);
    cr_assert_null(rig.reader.partial, "only whole frames are sent");
    rig.conn.out->size = 0;
    if (rig.conn.closed) {
        strbuf_printf(&s, "%s\n", rig.conn.graceful ? "end" : "reset");
    }
    cr_assert(!s.truncated);
    return rig.out_text;
}

const char *rig_calls(void)
{
    static char copy[sizeof rig.calls_text];
    rig_turn();
    cr_assert(!rig.calls.truncated);
    memcpy(copy, rig.calls_text, sizeof copy);
    strbuf_init(&rig.calls, rig.calls_text, sizeof rig.calls_text);
    return copy;
}

/* --- making things ---------------------------------------------------------------------------- */

struct wire_method rig_start_ok(const char *mechanism, struct bytes response,
                                struct bytes properties)
{
    struct wire_method m = {.id = WIRE_CONNECTION_START_OK};
    m.connection_start_ok.client_properties = properties;
    m.connection_start_ok.mechanism = B(mechanism);
    m.connection_start_ok.response = response;
    m.connection_start_ok.locale = B("en_US");
    return m;
}

void rig_open_with(uint32_t frame_max, uint16_t heartbeat)
{
    struct writer w;
    writer_init(&w, 64);
    uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
    wire_table_put_bool(&w, "consumer_cancel_notify", true);
    wire_table_put_bool(&w, "authentication_failure_close", true);
    wire_table_put_bool(&w, "connection.blocked", true);
    wire_value_put_end(&w, mark);
    wire_table_put_cstr(&w, "connection_name", "me");
    rig_connect("127.0.0.1");
    rig_header();
    struct wire_method m =
        rig_start_ok("PLAIN", bytes_make("\0guest\0guest", 12), writer_bytes(&w));
    rig_send(0, &m);
    writer_deinit(&w);
    m = (struct wire_method){.id = WIRE_CONNECTION_TUNE_OK};
    m.connection_tune_ok.channel_max = 8;
    m.connection_tune_ok.frame_max = frame_max;
    m.connection_tune_ok.heartbeat = heartbeat;
    rig_send(0, &m);
    m = (struct wire_method){.id = WIRE_CONNECTION_OPEN};
    m.connection_open.virtual_host = B("/");
    rig_send(0, &m);
    cr_assert(strstr(rig_out(), "0 connection.open-ok\n") != NULL);
    (void)rig_calls();
}

void rig_open(void)
{
    rig_open_with(131072, 0);
}

void rig_channel(uint16_t number)
{
    struct wire_method m = {.id = WIRE_CHANNEL_OPEN};
    char expected[40];
    rig_send(number, &m);
    (void)snprintf(expected, sizeof expected, "%u channel.open-ok\n", number);
    EXPECT_OUT(expected);
}

struct message rig_message(const char *exchange, const char *key, const void *body, size_t size)
{
    return rig_message_with(exchange, key, wire_props_empty, body, size);
}

struct message rig_message_with(const char *exchange, const char *key, struct bytes props,
                                const void *body, size_t size)
{
    struct message_parts parts = {
        .exchange = B(exchange), .key = B(key), .props = props, .ttl_ms = MESSAGE_TTL_NONE};
    uint32_t whole = (uint32_t)message_record_size(&parts, size);
    struct buf *record = buf_new(whole);
    memcpy(message_write(record->data, &parts, (uint32_t)size), body, size);
    record->size = whole;
    return (struct message){.record = slice_of_buf(record)};
}

void rig_deliver(uint16_t channel, const char *tag, uint32_t queue, uint32_t consumer,
                 uint64_t ordinal, bool no_ack, const char *body)
{
    struct message m = rig_message("x", "k", body, strlen(body));
    struct broker_delivery d = {.queue = queue, .consumer = consumer, .ordinal = ordinal};
    rig_deliver_message(channel, tag, &d, 0, no_ack, m);
}

void rig_deliver_message(uint16_t channel, const char *tag, const struct broker_delivery *delivery,
                         uint32_t delivery_count, bool no_ack, struct message owned)
{
    struct broker_channel *ch = &rig.channels[channel];
    cr_assert(ch->used);
    ch->sink->on_deliver(ch->ctx, B(tag), delivery, delivery_count > 0, delivery_count, no_ack,
                         &owned);
    message_unref(owned);
}

struct wire_method rig_publish(const char *exchange, const char *key)
{
    struct wire_method m = {.id = WIRE_BASIC_PUBLISH};
    m.basic_publish.exchange = B(exchange);
    m.basic_publish.routing_key = B(key);
    return m;
}

void rig_content(uint16_t channel, uint64_t body_size)
{
    uint8_t payload[14] = {0, 60};
    bytes_store_be64(payload + 4, body_size);
    rig_frame(WIRE_FRAME_HEADER, channel, payload, sizeof payload);
}
