/*
 * What: rows for listings: this shard's connections and channels, as names and JSON values.
 */
#include "warren/wire_table.h"

#include "broker_internal.h"

#define ROW_MAX 40

struct row {
    const char *names[ROW_MAX];
    const char *values[ROW_MAX];
    struct writer texts[ROW_MAX];
    uint32_t count;
};

static struct writer *row_add(struct row *row, const char *name)
{
    WR_ASSERT_OP(row->count, <, ROW_MAX);
    row->names[row->count] = name;
    struct writer *w = &row->texts[row->count++];
    writer_init(w, 32);
    return w;
}

static void row_text(struct row *row, const char *name, struct bytes text)
{
    put_json_string(row_add(row, name), text);
}

static void row_number(struct row *row, const char *name, uint64_t number)
{
    put_printf(row_add(row, name), "%llu", (unsigned long long)number);
}

static void row_bool(struct row *row, const char *name, bool value)
{
    put_cstr(row_add(row, name), value ? "true" : "false");
}

static void row_emit(struct row *row, broker_row_fn fn, void *ctx)
{
    for (uint32_t i = 0; i < row->count; i++) {
        put_u8(&row->texts[i], 0);
        row->values[i] = (const char *)writer_bytes(&row->texts[i]).data;
    }
    fn(ctx, row->names, row->values, row->count);
    for (uint32_t i = 0; i < row->count; i++) {
        writer_deinit(&row->texts[i]);
    }
    row->count = 0;
}

static void row_pid(struct row *row, const struct broker_session *session, uint16_t channel)
{
    struct writer *w = row_add(row, "pid");
    put_printf(w, "\"<%u.%llu.%u>\"", session->broker->boot, (unsigned long long)session->id,
               channel);
}

static uint32_t channel_count(const struct broker_session *session)
{
    uint32_t n = 0;
    LIST_FOREACH(link, &session->channels) {
        n++;
    }
    return n;
}

/* RabbitMQ's words: blocked = it published under an alarm, blocking = it has not yet. */
static const char *connection_state(const struct broker_session *s)
{
    uint64_t now = broker_now_ms(s->broker);
    bool blocked = false;
    bool flow = false;
    LIST_FOREACH(link, &s->channels) {
        const struct broker_channel *ch = WR_CONTAINER_OF_CONST(link, struct broker_channel, link);
        blocked = blocked || ch->alarmed;
        flow = flow || channel_in_flow(ch, now, FLOW_CONNECTION_MS);
    }
    if (s->broker->alarms != 0) {
        return blocked ? "blocked" : "blocking";
    }
    return flow ? "flow" : s->state;
}

/* Columns that do not apply are left out: the listing shows them empty. */
static void row_tls(struct row *row, const struct env_tls *tls)
{
    row_bool(row, "ssl", tls != NULL);
    if (tls == NULL) {
        return;
    }
    row_text(row, "ssl_protocol", bytes_from_cstr(tls->protocol));
    row_text(row, "ssl_key_exchange", bytes_from_cstr(tls->key_exchange));
    row_text(row, "ssl_cipher", bytes_from_cstr(tls->cipher));
    row_text(row, "ssl_hash", bytes_from_cstr(tls->hash));
    if (tls->verified) {
        row_text(row, "peer_cert_subject", bytes_from_slice(&tls->subject));
        row_text(row, "peer_cert_issuer", bytes_from_slice(&tls->issuer));
        row_text(row, "peer_cert_validity", bytes_from_slice(&tls->validity));
    }
}

static void emit_connection(const struct broker_session *s, broker_row_fn fn, void *ctx)
{
    struct row row = {.count = 0};
    row_pid(&row, s, 0);
    row_text(&row, "name", bytes_from_cstr(s->name));
    row_text(&row, "user_provided_name", bytes_from_cstr(s->provided_name));
    row_text(&row, "user", session_user(s));
    row_text(&row, "vhost", session_vhost(s));
    row_text(&row, "state", bytes_from_cstr(connection_state(s)));
    row_text(&row, "peer_host", bytes_from_cstr(s->peer.host));
    row_number(&row, "peer_port", s->peer.port);
    row_text(&row, "host", bytes_from_cstr(s->local.host));
    row_number(&row, "port", s->local.port);
    row_tls(&row, s->tls);
    row_text(&row, "protocol", bytes_from_cstr(s->protocol));
    row_text(&row, "auth_mechanism", bytes_from_cstr(s->auth_mechanism));
    row_number(&row, "timeout", s->heartbeat_s);
    row_number(&row, "frame_max", s->frame_max);
    row_number(&row, "channel_max", s->channel_max);
    row_number(&row, "channels", channel_count(s));
    row_number(&row, "recv_oct", s->recv_bytes);
    row_number(&row, "send_oct", s->send_bytes);
    row_number(&row, "connected_at", s->connected_ms);
    wire_put_table_json(row_add(&row, "client_properties"),
                        bytes_from_slice(&s->client_properties));
    row_emit(&row, fn, ctx);
}

void broker_list_connections(struct broker *broker, broker_row_fn fn, void *ctx)
{
    LIST_FOREACH(link, &broker->sessions) {
        emit_connection(WR_CONTAINER_OF(link, struct broker_session, link), fn, ctx);
    }
}

/* The ids of the queues that hold the channel back, or did a moment ago: their state is flow. */
static void put_flow(struct writer *w, const struct broker_channel *ch)
{
    uint64_t now = broker_now_ms(ch->broker);
    put_u8(w, '[');
    for (struct umap_iter it = umap_iterate(&ch->by_id); umap_next(&it);) {
        const struct ch_queue *q = it.value;
        if (q->blocked || (q->flow_ms != 0 && now - q->flow_ms < FLOW_CHANNEL_MS)) {
            put_printf(w, "%s%llu", writer_size(w) > 1 ? "," : "", (unsigned long long)q->queue_id);
        }
    }
    put_u8(w, ']');
}

static void emit_channel(const struct broker_channel *ch, broker_row_fn fn, void *ctx)
{
    struct row row = {.count = 0};
    struct writer *name;
    uint64_t unconfirmed = ch->multi.count;
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        const struct ch_queue *q = it.value;
        for (size_t k = q->confirms_first; k < q->confirms.count; k++) {
            unconfirmed += q->confirms.items[k].sole ? q->confirms.items[k].count : 0;
        }
    }
    struct writer *clients = row_add(&row, "clients");
    put_u8(clients, '[');
    for (it = umap_iterate(&ch->by_id); umap_next(&it);) {
        const struct ch_queue *q = it.value;
        put_printf(clients, "%s%llu", writer_size(clients) > 1 ? "," : "",
                   (unsigned long long)queue_client_id(q->client));
    }
    put_u8(clients, ']');
    put_flow(row_add(&row, "flow"), ch);
    char text[640];
    struct strbuf full;
    strbuf_init(&full, text, sizeof text);
    strbuf_printf(&full, "%s (%u)", ch->session->name, ch->number);
    row_pid(&row, ch->session, ch->number);
    name = row_add(&row, "connection");
    put_printf(name, "\"<%u.%llu.0>\"", ch->broker->boot, (unsigned long long)ch->session->id);
    row_text(&row, "name", strbuf_bytes(&full));
    row_number(&row, "number", ch->number);
    row_text(&row, "user", session_user(ch->session));
    row_text(&row, "vhost", session_vhost(ch->session));
    row_bool(&row, "transactional", ch->tx != NULL);
    row_bool(&row, "confirm", ch->confirm_used);
    row_number(&row, "consumer_count", ch->consumers.count);
    row_number(&row, "messages_unacknowledged", ch->outstanding + ch->got_unacked);
    row_number(&row, "messages_uncommitted", tx_uncommitted(ch));
    row_number(&row, "acks_uncommitted", tx_uncommitted_acks(ch));
    row_number(&row, "messages_unconfirmed", unconfirmed);
    row_number(&row, "prefetch_count", ch->prefetch);
    row_number(&row, "global_prefetch_count", ch->global_limit);
    row_text(&row, "state",
             bytes_from_cstr(channel_in_flow(ch, broker_now_ms(ch->broker), FLOW_CHANNEL_MS)
                                 ? "flow"
                                 : "running"));
    row_emit(&row, fn, ctx);
}

void broker_list_channels(struct broker *broker, broker_row_fn fn, void *ctx)
{
    LIST_FOREACH(link, &broker->sessions) {
        const struct broker_session *session = WR_CONTAINER_OF(link, struct broker_session, link);
        LIST_FOREACH(at, &session->channels) {
            emit_channel(WR_CONTAINER_OF(at, struct broker_channel, link), fn, ctx);
        }
    }
}
