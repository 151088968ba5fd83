/*
 * What: the client's side of AMQP 0-9-1 over the simulated network, with the codec of src/wire.
 *
 * Happy path: connect to some node, handshake, open the channels, hand methods and contents to the
 * roles. Failure modes: whatever ends the connection or a channel is met by waiting a little and
 * connecting to a node chosen at random; a handshake or a synchronous method that takes too long
 * ends the connection. What a correct broker never says (a framing or state error, an unknown
 * delivery tag) fails the run.
 *
 * Invariants: I1 roles are told of every loss (role_lost) before the channel is used again.
 */
#include <string.h>

#include "sim_client.h"

#include "warren/err.h"
#include "warren/mem.h"

#define HANDSHAKE_NS (8 * SIM_S)
#define OPERATION_NS (45 * SIM_S)

static uint64_t now_of(const struct client *client)
{
    return client->sim->now;
}

static struct bytes text(const char *s)
{
    return bytes_from_cstr(s);
}

/* --- sending -------------------------------------------------------------- */

void client_send(struct client *client, uint16_t number, const struct wire_method *method)
{
    if (client->conn != NULL && client->state != CLIENT_CLOSING) {
        wire_send_method(&client->out, number, method);
    }
}

void channel_send(struct channel *channel, const struct wire_method *method)
{
    client_send(channel->client, channel->number, method);
}

static void flush(struct client *client)
{
    struct slice pieces[64];
    int n;
    while (client->conn != NULL && (n = outq_take(&client->out, pieces, 64)) > 0) {
        sim_conn_send(client->conn, pieces, (uint32_t)n);
        client->beat_at = now_of(client) + client->heartbeat_s * SIM_S / 2;
    }
}

/* --- life ----------------------------------------------------------------- */

static void connection_over(struct client *client, const char *why)
{
    sim_trace(client->sim, "client %u lost its connection to node %u: %s", client->number,
              client->node, why);
    client->conn = NULL;
    client->state = CLIENT_DOWN;
    client->left_at = now_of(client);
    client->losses++;
    client->attempt_at = now_of(client) + prng_below(&client->prng, 300 * SIM_MS);
    wire_frame_reader_deinit(&client->reader);
    outq_deinit(&client->out);
    for (uint32_t i = 0; i < client->channel_count; i++) {
        struct channel *channel = &client->channels[i];
        channel_broken(channel, 0);
    }
}

void client_abort(struct client *client, const char *why)
{
    if (client->conn != NULL && client->state != CLIENT_CLOSING) {
        sim_trace(client->sim, "client %u gives up its connection to node %u: %s", client->number,
                  client->node, why);
        client->state = CLIENT_CLOSING;
        client->state_since = now_of(client);
        sim_conn_close(client->conn, false, 0);
    }
}

void channel_broken(struct channel *channel, uint64_t after_ns)
{
    if (channel->state != CHANNEL_CLOSED) {
        role_lost(channel);
    }
    channel->state = CHANNEL_CLOSED;
    channel->op_since = 0;
    channel->closing = false;
    channel->in_content = false;
    channel->wake_at = channel->client->sim->now + after_ns;
}

void channel_close_by_us(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_CHANNEL_CLOSE};
    m.channel_close.reply_code = 200;
    channel_send(channel, &m);
    channel->closing = true;
    channel->op_since = now_of(channel->client);
}

static void connect_somewhere(struct client *client)
{
    struct sim *sim = client->sim;
    struct net_addr addr = {.port = SIM_AMQP_PORT};
    do {
        client->node = (uint32_t)prng_below(&client->prng, sim->node_count);
    } while (sim->hosts[client->node].forgotten);
    (void)snprintf(addr.host, sizeof addr.host, "sim%u", client->node);
    client->state = CLIENT_CONNECTING;
    client->state_since = now_of(client);
    client->blocked = false;
    outq_init(&client->out);
    wire_frame_reader_init(&client->reader, 0);
    client->conn = sim_connect(client->env, &addr, NULL);
}

/* --- handshake ------------------------------------------------------------ */

static void on_start(struct client *client)
{
    static const uint8_t guest[] = "\0guest\0guest";
    static const uint8_t seated[] = "\0seated\0seated";
    struct writer w;
    struct wire_method m = {.id = WIRE_CONNECTION_START_OK};
    writer_init(&w, 256);
    uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
    wire_table_put_bool(&w, "consumer_cancel_notify", true);
    wire_table_put_bool(&w, "publisher_confirms", true);
    wire_table_put_bool(&w, "basic.nack", true);
    wire_table_put_bool(&w, "connection.blocked", true);
    wire_table_put_bool(&w, "authentication_failure_close", true);
    wire_value_put_end(&w, mark);
    m.connection_start_ok.client_properties = bytes_make(w.buf->data, w.buf->size);
    m.connection_start_ok.mechanism = text("PLAIN");
    m.connection_start_ok.response = client->seated ? bytes_make(seated, sizeof seated - 1)
                                                    : bytes_make(guest, sizeof guest - 1);
    m.connection_start_ok.locale = text("en_US");
    client_send(client, 0, &m);
    writer_deinit(&w);
}

static void on_tune(struct client *client, const struct wire_connection_tune *tune)
{
    struct wire_method m = {.id = WIRE_CONNECTION_TUNE_OK};
    static const uint32_t maxima[] = {4096, 4097, 16384, 131072};
    client->frame_max = maxima[prng_below(&client->prng, WR_ARRAY_SIZE(maxima))];
    client->frame_max = client->frame_max > tune->frame_max ? tune->frame_max : client->frame_max;
    client->heartbeat_s = 2 + (uint32_t)prng_below(&client->prng, 8);
    m.connection_tune_ok.channel_max = tune->channel_max;
    m.connection_tune_ok.frame_max = client->frame_max;
    m.connection_tune_ok.heartbeat = (uint16_t)client->heartbeat_s;
    client_send(client, 0, &m);
    wire_frame_reader_set_max(&client->reader, client->frame_max);
    struct wire_method open = {.id = WIRE_CONNECTION_OPEN};
    open.connection_open.virtual_host = text("/");
    client_send(client, 0, &open);
}

static void count_close(struct sim *sim, uint16_t code)
{
    static const uint16_t codes[] = {320, 404, 405, 406, 506, 541};
    for (uint32_t i = 0; i < WR_ARRAY_SIZE(codes); i++) {
        if (codes[i] == code) {
            sim->closes[i]++;
            return;
        }
    }
    sim->closes[7]++;
}

/* What a server may answer when parts of the cluster are away; everything else is its mistake or
 * ours. */
static void check_close(struct client *client, uint16_t code, struct bytes reason, const char *what)
{
    sim_trace(client->sim, "client %u: node %u closes the %s: %u %.*s", client->number,
              client->node, what, code, (int)reason.size, (const char *)reason.data);
    count_close(client->sim, code);
    bool allowed = code == 320 || code == 404 || code == 405 || code == 506 || code == 541;
    /* Seats are taken, or the node does not know the user yet, or not what he may. */
    allowed = allowed || (client->seated && (code == 530 || code == 403));
    /* The home of a transient queue is gone, and publishes of the commit with it. */
    allowed =
        allowed || (code == 406 && memmem(reason.data, reason.size, "partial tx", 10) != NULL);
    if (!allowed) {
        sim_fail(client->sim, "client %u: node %u closed the %s with %u %.*s", client->number,
                 client->node, what, code, (int)reason.size, (const char *)reason.data);
    }
}

static void connection_method(struct client *client, const struct wire_method *m)
{
    struct wire_method ok = {.id = WIRE_METHOD_NONE};
    switch ((uint32_t)m->id) {
    case WIRE_CONNECTION_START:
        on_start(client);
        break;
    case WIRE_CONNECTION_TUNE:
        on_tune(client, &m->connection_tune);
        break;
    case WIRE_CONNECTION_OPEN_OK:
        client->state = CLIENT_OPEN;
        client->state_since = now_of(client);
        client->connects++;
        if (client->seated) {
            seat_opened(client);
        }
        for (uint32_t i = 0; i < client->channel_count; i++) {
            client->channels[i].wake_at = now_of(client);
        }
        break;
    case WIRE_CONNECTION_CLOSE:
        check_close(client, m->connection_close.reply_code, m->connection_close.reply_text,
                    "connection");
        if (client->seated && client->state != CLIENT_OPEN &&
            memmem(m->connection_close.reply_text.data, m->connection_close.reply_text.size,
                   "connection limit", 16) != NULL) {
            seat_refused(client);
        }
        ok.id = WIRE_CONNECTION_CLOSE_OK;
        client_send(client, 0, &ok);
        flush(client);
        client->state = CLIENT_CLOSING;
        client->state_since = now_of(client);
        sim_conn_close(client->conn, true, 1000);
        break;
    case WIRE_CONNECTION_CLOSE_OK:
        client->state = CLIENT_CLOSING;
        client->state_since = now_of(client);
        sim_conn_close(client->conn, true, 1000);
        break;
    case WIRE_CONNECTION_BLOCKED:
        SIM_SOMETIMES(client->sim, true, SIM_SEEN_BLOCKED);
        client->blocked = true;
        break;
    case WIRE_CONNECTION_UNBLOCKED:
        client->blocked = false;
        break;
    default:
        sim_fail(client->sim, "client %u: unexpected %s on channel 0", client->number,
                 wire_method_name(m->id));
    }
}

/* --- channels ------------------------------------------------------------- */

static void channel_method(struct channel *channel, const struct wire_method *m)
{
    struct client *client = channel->client;
    struct wire_method ok = {.id = WIRE_CHANNEL_CLOSE_OK};
    switch ((uint32_t)m->id) {
    case WIRE_CHANNEL_OPEN_OK:
        channel->op_since = 0;
        channel->state = CHANNEL_SETUP;
        channel->step = 0;
        channel->epoch++;
        role_opened(channel);
        break;
    case WIRE_CHANNEL_CLOSE:
        check_close(client, m->channel_close.reply_code, m->channel_close.reply_text, "channel");
        role_refused(channel, m->channel_close.reply_code);
        channel_send(channel, &ok);
        channel->failures++;
        channel_broken(channel, 100 * SIM_MS + prng_below(&client->prng, 2 * SIM_S));
        break;
    case WIRE_CHANNEL_CLOSE_OK:
        channel_broken(channel, prng_below(&client->prng, 100 * SIM_MS));
        break;
    case WIRE_BASIC_DELIVER:
    case WIRE_BASIC_GET_OK:
    case WIRE_BASIC_RETURN:
        channel->method = *m;
        channel->in_content = true;
        channel->content_left = UINT64_MAX; /* the header comes first */
        channel->body.count = 0;
        break;
    default:
        role_method(channel, m);
    }
}

static void content_over(struct channel *channel)
{
    channel->in_content = false;
    role_content(channel, &channel->method, bytes_make(channel->body.items, channel->body.count));
}

static void on_frame(struct client *client, const struct wire_frame *frame)
{
    struct sim *sim = client->sim;
    if (frame->type == WIRE_FRAME_HEARTBEAT) {
        return;
    }
    struct channel *channel = NULL;
    if (frame->channel != 0) {
        if (frame->channel > client->channel_count) {
            sim_fail(sim, "client %u: frame for channel %u", client->number, frame->channel);
        }
        channel = &client->channels[frame->channel - 1];
    }
    if (frame->type == WIRE_FRAME_METHOD) {
        struct wire_method m;
        if (wire_method_decode(frame->payload, &m) != WIRE_OK ||
            (channel != NULL && channel->in_content)) {
            sim_fail(sim, "client %u: bad method frame, or a method inside a content",
                     client->number);
        }
        if (channel == NULL) {
            connection_method(client, &m);
        } else if (channel->state != CHANNEL_CLOSED || m.id == WIRE_CHANNEL_OPEN_OK) {
            channel_method(channel, &m);
        }
        return;
    }
    if (channel == NULL || !channel->in_content) {
        sim_fail(sim, "client %u: content frame without a method", client->number);
    }
    if (frame->type == WIRE_FRAME_HEADER) {
        struct wire_header header;
        if (channel->content_left != UINT64_MAX ||
            wire_header_decode(frame->payload, &header) != WIRE_OK) {
            sim_fail(sim, "client %u: bad content header", client->number);
        }
        struct bytes reply_to = BYTES_NONE;
        (void)wire_props_get(header.props, WIRE_PROP_REPLY_TO, &reply_to);
        (void)snprintf(channel->reply_to, sizeof channel->reply_to, "%.*s", (int)reply_to.size,
                       (const char *)reply_to.data);
        channel->content_left = header.body_size;
    } else {
        if (frame->payload.size > channel->content_left ||
            frame->payload.size + 8 > client->frame_max) {
            sim_fail(sim, "client %u: body frame of %zu bytes is too long", client->number,
                     frame->payload.size);
        }
        vec_reserve(&channel->body, frame->payload.size);
        memcpy(channel->body.items + channel->body.count, frame->payload.data, frame->payload.size);
        channel->body.count += frame->payload.size;
        channel->content_left -= frame->payload.size;
    }
    if (channel->content_left == 0) {
        content_over(channel);
    }
}

/* --- the env's upcalls ---------------------------------------------------- */

static void up_accept(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local)
{
    (void)ctx;
    (void)conn;
    (void)kind;
    (void)peer;
    (void)local;
    WR_UNREACHABLE();
}

static void up_connected(void *ctx, struct env_conn *conn, int error)
{
    struct client *client = ctx;
    (void)conn;
    if (error != 0) {
        connection_over(client, wr_err_text(error));
        return;
    }
    client->state = CLIENT_HANDSHAKE;
    client->state_since = client->heard_at = now_of(client);
    client->heartbeat_s = 0;
    client->frame_max = 131072;
    outq_append_bytes(&client->out, wire_protocol_header, WIRE_PROTOCOL_HEADER_SIZE);
}

static void up_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct client *client = ctx;
    struct bytes input = bytes_make(data, size);
    struct wire_frame frame;
    (void)conn;
    client->heard_at = now_of(client);
    while (client->state != CLIENT_CLOSING) {
        enum wire_read got = wire_frame_next(&client->reader, &input, &frame);
        if (got == WIRE_READ_MORE) {
            return;
        }
        if (got == WIRE_READ_FAULT) {
            sim_fail(client->sim, "client %u: cannot read the frames of node %u", client->number,
                     client->node);
        }
        on_frame(client, &frame);
    }
}

static void up_closed(void *ctx, struct env_conn *conn, int error)
{
    (void)conn;
    connection_over(ctx, wr_err_text(error));
}

static void up_drained(void *ctx, struct env_conn *conn)
{
    (void)ctx;
    (void)conn;
}

static void up_moved(void *ctx, struct env_conn *conn, void *user)
{
    (void)ctx;
    (void)conn;
    (void)user;
    WR_UNREACHABLE();
}

static void up_mail(void *ctx, struct mail *owned_mail)
{
    (void)ctx;
    (void)owned_mail;
    WR_UNREACHABLE();
}

static void up_file(void *ctx, uint64_t token, int64_t result)
{
    (void)ctx;
    (void)token;
    (void)result;
    WR_UNREACHABLE();
}

static void up_kv(void *ctx, uint64_t token, int result, void *reply)
{
    (void)ctx;
    (void)token;
    (void)result;
    (void)reply;
    WR_UNREACHABLE();
}

static void up_exec(void *ctx, uint64_t token, int result)
{
    (void)ctx;
    (void)token;
    (void)result;
    WR_UNREACHABLE();
}

static void tick_channel(struct channel *channel)
{
    struct client *client = channel->client;
    if (channel->op_since != 0 && now_of(client) > channel->op_since + OPERATION_NS) {
        client_abort(client, "an operation takes too long");
        return;
    }
    if (channel->wake_at > now_of(client)) {
        return;
    }
    channel->wake_at = UINT64_MAX;
    if (channel->closing) {
        return;
    }
    if (channel->state == CHANNEL_CLOSED) {
        struct wire_method m = {.id = WIRE_CHANNEL_OPEN};
        channel->state = CHANNEL_OPENING;
        channel->op_since = now_of(client);
        channel_send(channel, &m);
    } else if (channel->state == CHANNEL_RUNNING) {
        role_tick(channel);
    }
}

static void tick(struct client *client)
{
    const uint64_t now = now_of(client);
    switch (client->state) {
    case CLIENT_DOWN:
        if (now >= client->attempt_at && !client->sim->ending &&
            (!client->seated || seat_may_connect(client))) {
            connect_somewhere(client);
        }
        break;
    case CLIENT_CONNECTING:
    case CLIENT_HANDSHAKE:
        if (now > client->state_since + HANDSHAKE_NS) {
            client_abort(client, "no connection within the time limit");
        }
        break;
    case CLIENT_OPEN:
        if (now > client->heard_at + client->heartbeat_s * 2 * SIM_S + SIM_S) {
            client_abort(client, "missed heartbeats from the server");
            break;
        }
        if (now >= client->beat_at) {
            wire_send_heartbeat(&client->out);
        }
        if (client->seated) {
            seat_tick(client);
        }
        for (uint32_t i = 0; i < client->channel_count && client->state == CLIENT_OPEN; i++) {
            tick_channel(&client->channels[i]);
        }
        break;
    case CLIENT_CLOSING:
        break;
    }
}

static uint64_t next_wake(const struct client *client)
{
    uint64_t next = now_of(client) + 500 * SIM_MS;
    if (client->state == CLIENT_DOWN && client->attempt_at < next) {
        next = client->attempt_at;
    }
    for (uint32_t i = 0; i < client->channel_count && client->state == CLIENT_OPEN; i++) {
        next = client->channels[i].wake_at < next ? client->channels[i].wake_at : next;
    }
    return next < now_of(client) ? now_of(client) : next;
}

static void up_turn(void *ctx)
{
    struct client *client = ctx;
    tick(client);
    flush(client);
    /* The client's clock is the simulation's, but for drift, which is of no interest here. */
    const uint64_t mono = sim_host_mono(client->host);
    client->env->ops->wake_at(client->env, mono + (next_wake(client) - now_of(client)));
}

const struct env_sink client_sink = {
    .on_accept = up_accept,
    .on_connected = up_connected,
    .on_bytes = up_bytes,
    .on_drained = up_drained,
    .on_closed = up_closed,
    .on_moved = up_moved,
    .on_mail = up_mail,
    .on_file = up_file,
    .on_kv = up_kv,
    .on_exec = up_exec,
    .turn = up_turn,
};
