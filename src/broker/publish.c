/*
 * What: publishing: checks, routing, handing to the queues.
 *
 * Happy path: (exchange, key) is in the channel's route cache for the present view: the targets are
 * known and the permission was checked; a message without headers, expiration, user-id or reply-to
 * needs no further check. Otherwise: permission, existence, `internal`, properties, route. The
 * cache takes only what the key alone decided (route_result.key_only).
 *
 * A look-up that misses (no such exchange, or nothing routed) waits for one read barrier and is
 * done again, so that what was declared or bound on another node a moment ago counts.
 *
 * Failure modes: faults as RabbitMQ's, in its order of checks. Spec: docs/broker.md, amqp-0-9-1 §9.
 */
#include "broker_internal.h"

#define TTL_MAX_MS UINT64_C(315360000000)

#define CHECKED_PROPS                                                                              \
    (WIRE_PROP_HEADERS | WIRE_PROP_EXPIRATION | WIRE_PROP_USER_ID | WIRE_PROP_REPLY_TO)

#define DELAY_MAX_MS INT64_C(315360000000) /* ten years */

/* What the properties say about the way; the keys of CC and BCC are in broker->extra_keys (a
 * table's size bounds their number). */
struct routing {
    uint32_t extra_count;
    bool has_bcc;
    bool reply_here;                /* its reply-to is the pseudo-queue */
    struct queue_publish_more more; /* for queues that look at it */
};

/* --- properties ------------------------------------------------------------------------------- */

/* The digits from `at` on as a number is written. */
static struct bytes without_zeros(struct bytes text, size_t at)
{
    while (at + 1 < text.size && text.data[at] == '0') {
        at++;
    }
    return (struct bytes){text.data + at, text.size - at};
}

static bool check_expiration(struct bytes text, struct broker_fault *fault)
{
    uint64_t value = 0;
    size_t digits = 0;
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative || (text.size > 0 && text.data[0] == '+') ? 1 : 0;
    for (;
         at + digits < text.size && text.data[at + digits] >= '0' && text.data[at + digits] <= '9';
         digits++) {
        if (value <= TTL_MAX_MS) { /* longer ones are too large, whatever follows */
            value = value * 10 + (uint64_t)(text.data[at + digits] - '0');
        }
    }
    if (digits == 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': no_integer", FMT(text));
    } else if (at + digits < text.size) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {leftover_string,\"%.*s\"}",
                  FMT(text), (int)(text.size - at - digits), (const char *)text.data + at + digits);
    } else if (negative && value > 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_negative,-%.*s}", FMT(text),
                  FMT(without_zeros(text, at)));
    } else if (value > TTL_MAX_MS) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_too_large,%.*s}", FMT(text),
                  FMT(without_zeros(text, at)));
    } else {
        return true;
    }
    return false;
}

static bool check_user(const struct broker_session *session, struct bytes user_id,
                       struct broker_fault *fault)
{
    if (bytes_eq_cstr(user_id, session->user)) {
        return true;
    }
    const struct catalog_user *user = catalog_user(session->broker->view, session_user(session));
    for (uint32_t i = 0; user != NULL && i < user->tags.count; i++) {
        if (bytes_eq_cstr(user->tags.items[i], "impersonator")) {
            return true;
        }
    }
    fault_set(fault, 406, false, "user_id property set to '%.*s' but authenticated user was '%s'",
              FMT(user_id), session->user);
    return false;
}

static bool bad_header(const char *name, uint8_t type, struct broker_fault *fault)
{
    fault_set(fault, 406, false, "invalid message: {unacceptable_type_in_header,\"%s\",%s}", name,
              wire_field_name(type));
    return false;
}

static bool add_keys(struct broker *broker, const struct wire_value *v, const char *name,
                     struct broker_fault *fault)
{
    struct bytes none;
    if (v->type != WIRE_FIELD_ARRAY) {
        return bad_header(name, v->type, fault);
    }
    struct wire_table_iter it;
    struct wire_value item;
    wire_array_iter_init(&it, v->bytes);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_LONGSTR && item.bytes.size <= NAME_MAX_SIZE) {
            vec_push(&broker->extra_keys, item.bytes);
        }
    }
    return true;
}

void publish_add_keys(struct broker *broker, struct bytes headers, const char *name)
{
    struct wire_value v;
    struct broker_fault ignored;
    if (wire_table_find(headers, name, &v)) {
        (void)add_keys(broker, &v, name, &ignored);
    }
}

/* The headers that RabbitMQ looks at: the first of a name counts. */
struct headers_seen {
    bool cc, bcc, delay, publisher, number;
    struct wire_value cc_value, bcc_value; /* looked at in this order */
};

/* One header; x-delay and the publisher's numbering. */
static bool check_header(struct bytes key, const struct wire_value *v, struct headers_seen *seen,
                         struct routing *routing, struct broker_fault *fault)
{
    if (bytes_eq_cstr(key, "CC") && !seen->cc) {
        seen->cc = true;
        seen->cc_value = *v;
    } else if (bytes_eq_cstr(key, "BCC") && !seen->bcc) {
        seen->bcc = true;
        seen->bcc_value = *v;
    } else if (bytes_eq_cstr(key, "x-delay") && !seen->delay) {
        seen->delay = true;
        if (wire_value_is_integer(v) && v->integer > 0 && v->integer <= DELAY_MAX_MS) {
            routing->more.delay_ms = (uint64_t)v->integer;
        }
    } else if (bytes_eq_cstr(key, "x-publisher-id") && !seen->publisher) {
        seen->publisher = true;
        if (v->type != WIRE_FIELD_LONGSTR) {
            return bad_header("x-publisher-id", v->type, fault);
        }
        if (v->bytes.size == 0 || v->bytes.size > NAME_MAX_SIZE) {
            fault_set(fault, 406, false,
                      "invalid message: header x-publisher-id must have 1 to %u bytes",
                      NAME_MAX_SIZE);
            return false;
        }
        routing->more.publisher = v->bytes;
    } else if (bytes_eq_cstr(key, "x-publish-seq") && !seen->number) {
        seen->number = true;
        if (!wire_value_is_integer(v)) {
            return bad_header("x-publish-seq", v->type, fault);
        }
        if (v->integer <= 0) {
            fault_set(fault, 406, false,
                      "invalid message: header x-publish-seq must be positive, not %lld",
                      (long long)v->integer);
            return false;
        }
        routing->more.publish_seq = (uint64_t)v->integer;
    }
    return true;
}

static bool check_headers(const struct broker_session *session, struct bytes headers,
                          struct routing *routing, struct broker_fault *fault)
{
    struct headers_seen seen = {0};
    struct broker *broker = session->broker;
    struct wire_table_iter it;
    struct wire_value v;
    struct bytes key;
    vec_clear(&broker->extra_keys);
    wire_table_iter_init(&it, headers);
    while (wire_table_iter_next(&it, &key, &v)) {
        if (!check_header(key, &v, &seen, routing, fault)) {
            return false;
        }
    }
    routing->has_bcc = seen.bcc;
    if ((seen.cc && !add_keys(broker, &seen.cc_value, "CC", fault)) ||
        (seen.bcc && !add_keys(broker, &seen.bcc_value, "BCC", fault))) {
        return false;
    }
    routing->extra_count = (uint32_t)broker->extra_keys.count;
    if (routing->more.publish_seq == 0) {
        routing->more.publisher = BYTES_NONE; /* a name alone says nothing */
    } else if (routing->more.publisher.size == 0) {
        routing->more.publisher = session->publisher;
        if (routing->more.publisher.size == 0) {
            fault_set(
                fault, 406, false,
                "invalid message: x-publish-seq without x-publisher-id, which may be a header "
                "or a client property");
            return false;
        }
    }
    return true;
}

static bool check_reply_to(const struct broker_channel *ch, struct bytes raw,
                           struct routing *routing, struct broker_fault *fault)
{
    struct bytes value;
    routing->reply_here =
        wire_props_get(raw, WIRE_PROP_REPLY_TO, &value) && bytes_eq_cstr(value, REPLY_QUEUE);
    if (routing->reply_here && ch->reply == NULL) {
        fault_set(fault, 406, false, "fast reply consumer does not exist");
        return false;
    }
    return true;
}

static bool check_props(const struct broker_channel *ch, struct bytes raw, struct routing *routing,
                        struct broker_fault *fault)
{
    const struct broker_session *session = ch->session;
    struct bytes value;
    uint16_t flags = raw.size >= 2 ? bytes_load_be16(raw.data) : 0;
    *routing = (struct routing){0};
    if (WR_LIKELY((flags & (CHECKED_PROPS | WIRE_PROP_MESSAGE_ID)) == 0)) {
        return true;
    }
    if (!check_reply_to(ch, raw, routing, fault)) {
        return false;
    }
    if (wire_props_get(raw, WIRE_PROP_EXPIRATION, &value) && !check_expiration(value, fault)) {
        return false;
    }
    struct bytes headers = wire_props_headers(raw);
    if (headers.size > 0 && !check_headers(session, headers, routing, fault)) {
        return false;
    }
    (void)wire_props_get(raw, WIRE_PROP_MESSAGE_ID, &routing->more.id);
    return !wire_props_get(raw, WIRE_PROP_USER_ID, &value) || check_user(session, value, fault);
}

/* The message with other properties, another time to live, other keys of BCC. Borrows it; the
 * caller owns the result. */
static struct message with_parts(struct message message, struct bytes props, uint64_t ttl_ms,
                                 struct bytes bcc)
{
    struct message_parts parts = {.exchange = message_exchange(&message),
                                  .key = message_key(&message),
                                  .props = props,
                                  .bcc = bcc,
                                  .ttl_ms = ttl_ms,
                                  .flags = message_flags(&message),
                                  .priority = message_priority(&message)};
    struct bytes body = message_body(&message);
    uint32_t size = (uint32_t)message_record_size(&parts, body.size);
    struct buf *record = buf_new(size);
    uint8_t *at = message_write(record->data, &parts, (uint32_t)body.size);
    if (body.size > 0) {
        memcpy(at, body.data, body.size);
    }
    record->size = size;
    return (struct message){.record = slice_of_buf(record)};
}

static struct message with_props(struct message message, const struct wire_props *props,
                                 struct bytes bcc)
{
    struct writer raw;
    writer_init(&raw, wire_props_size(props));
    wire_props_put(&raw, props);
    struct message result = with_parts(message, writer_bytes(&raw), message_ttl_ms(&message), bcc);
    writer_deinit(&raw);
    return result;
}

/* The keys of a BCC header as a record has them; they route the message again when it is dead. */
static void put_bcc(struct writer *out, struct bytes headers)
{
    struct wire_value v;
    struct wire_value item;
    struct wire_table_iter it;
    struct bytes none;
    if (!wire_table_find(headers, "BCC", &v) || v.type != WIRE_FIELD_ARRAY) {
        return;
    }
    wire_array_iter_init(&it, v.bytes);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_LONGSTR && item.bytes.size <= NAME_MAX_SIZE) {
            put_u8(out, (uint8_t)item.bytes.size);
            put_bytes(out, item.bytes.data, item.bytes.size);
        }
    }
}

/* The same message as its queues are to have it: without its BCC header, and with a name in its
 * reply-to. A reference for the caller. */
static struct message rebuild(const struct broker_channel *ch, struct message message,
                              bool without_bcc, bool reply_here)
{
    struct wire_props props;
    struct writer headers;
    struct writer bcc;
    uint8_t name[REPLY_NAME_SIZE];
    if ((!without_bcc && !reply_here) ||
        wire_props_decode(message_props(&message), &props) != WIRE_OK) {
        message_ref(message); /* the latter was checked before: cannot be */
        return message;
    }
    writer_init(&headers, props.headers.size + 16);
    writer_init(&bcc, 64);
    if (without_bcc) {
        put_bcc(&bcc, props.headers);
        wire_table_put_without(&headers, props.headers, bytes_from_cstr("BCC"));
        props.headers = writer_bytes(&headers);
    }
    if (reply_here) {
        props.reply_to = reply_name(ch, name);
    }
    struct message result = with_props(message, &props, writer_bytes(&bcc));
    writer_deinit(&bcc);
    writer_deinit(&headers);
    return result;
}

/* What a consumer sees of a delay that is over: the number, negative. */
static struct message with_delay_over(struct message message)
{
    struct wire_props props;
    struct wire_table_iter it;
    struct wire_value v;
    struct bytes key;
    struct writer headers;
    if (wire_props_decode(message_props(&message), &props) != WIRE_OK) {
        message_ref(message); /* checked before: cannot be */
        return message;
    }
    writer_init(&headers, props.headers.size + 16);
    wire_table_iter_init(&it, props.headers);
    while (wire_table_iter_next(&it, &key, &v)) {
        wire_put_key(&headers, key);
        if (!bytes_eq_cstr(key, "x-delay") || !wire_value_is_integer(&v)) {
            wire_value_put(&headers, &v);
        } else if (v.integer <= INT32_MAX) {
            wire_value_put_int32(&headers, -(int32_t)v.integer);
        } else {
            wire_value_put_int64(&headers, -v.integer);
        }
    }
    props.headers = writer_bytes(&headers);
    struct message result = with_props(message, &props, message_bcc(&message));
    writer_deinit(&headers);
    return result;
}

struct message broker_returned(struct message owned)
{
    struct wire_value v;
    struct bytes headers = wire_props_headers(message_props(&owned));
    if (headers.size == 0 || !wire_table_find(headers, "BCC", &v)) {
        return owned;
    }
    struct message result = rebuild(NULL, owned, true, false);
    message_unref(owned);
    return result;
}

/* --- cache ------------------------------------------------------------------------------------ */

static struct route_cache_slot *cache_slot(struct broker_channel *ch, struct bytes exchange,
                                           struct bytes key)
{
    if (exchange.size + key.size > ROUTE_CACHE_TEXT) {
        return NULL;
    }
    if (ch->cache == NULL) {
        ch->cache = wr_calloc(ROUTE_CACHE_SLOTS, sizeof *ch->cache);
    }
    uint32_t hash = (uint32_t)exchange.size * 31u;
    for (size_t i = 0; i < key.size; i++) {
        hash = hash * 31u + key.data[i];
    }
    return &ch->cache[(hash ^ (hash >> 11)) % ROUTE_CACHE_SLOTS];
}

static bool cache_holds(const struct broker_channel *ch, const struct route_cache_slot *slot,
                        struct bytes exchange, struct bytes key)
{
    return slot->serial == ch->broker->view_serial && slot->exchange_size == exchange.size &&
           slot->key_size == key.size && memcmp(slot->text, exchange.data, exchange.size) == 0 &&
           memcmp(slot->text + exchange.size, key.data, key.size) == 0;
}

static void cache_fill(struct broker_channel *ch, struct route_cache_slot *slot,
                       struct bytes exchange, struct bytes key)
{
    slot->serial = ch->broker->view_serial;
    slot->exchange_size = (uint8_t)exchange.size;
    slot->key_size = (uint8_t)key.size;
    memcpy(slot->text, exchange.data, exchange.size);
    memcpy(slot->text + exchange.size, key.data, key.size);
}

/* --- publish ---------------------------------------------------------------------------------- */

/* What an exchange keeps does not expire; each replay begins its time anew. */
static uint64_t publish_to_history(struct ch_queue *q, struct message message,
                                   const struct queue_publish_more *more)
{
    if (message_ttl_ms(&message) == MESSAGE_TTL_NONE) {
        return queue_client_publish_more(q->client, message, more);
    }
    struct message lasting =
        with_parts(message, message_props(&message), MESSAGE_TTL_NONE, message_bcc(&message));
    uint64_t seq = queue_client_publish_more(q->client, lasting, more);
    message_unref(lasting);
    return seq;
}

/* One target; what it is told besides depends on what it looks at. */
static uint64_t publish_one(struct ch_queue *q, bool delayed, struct message message,
                            struct message *owned_late, const struct queue_publish_more *said)
{
    struct queue_publish_more more = *said;
    delayed = (delayed || q->delays) && more.delay_ms > 0;
    if (!q->wants_ids) {
        more.id = BYTES_NONE;
    }
    if (!delayed) {
        more.delay_ms = 0;
    } else if (owned_late->record.buf == NULL) {
        *owned_late = with_delay_over(message);
    }
    if (q->history) {
        return publish_to_history(q, delayed ? *owned_late : message, &more);
    }
    if (more.publish_seq == 0 && more.id.size == 0 && !delayed) {
        return queue_client_publish(q->client, message);
    }
    return queue_client_publish_more(q->client, delayed ? *owned_late : message, &more);
}

uint64_t publish_kept(struct broker_channel *ch, struct ch_queue *q, bool delayed,
                      struct message message)
{
    struct routing routing;
    struct broker_fault ignored; /* it was checked when it came */
    struct message late = {0};
    (void)check_props(ch, message_props(&message), &routing, &ignored);
    uint64_t seq = publish_one(q, delayed, message, &late, &routing.more);
    if (late.record.buf != NULL) {
        message_unref(late);
    }
    return seq;
}

/* Digits, which were checked when the message came. */
static uint64_t expiration_ms(struct bytes text)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.size && value <= TTL_MAX_MS; i++) {
        if (text.data[i] >= '0' && text.data[i] <= '9') {
            value = value * 10 + (uint64_t)(text.data[i] - '0');
        }
    }
    return value;
}

uint64_t publish_replayed(struct ch_queue *q, struct message message)
{
    const struct bytes props = message_props(&message);
    struct queue_publish_more more = {0}; /* no numbers: they are the publisher's, to each queue */
    struct message late = {0};
    struct bytes expiration;
    (void)wire_props_get(props, WIRE_PROP_MESSAGE_ID, &more.id);
    if (!wire_props_get(props, WIRE_PROP_EXPIRATION, &expiration)) {
        return publish_one(q, false, message, &late, &more);
    }
    struct message again =
        with_parts(message, props, expiration_ms(expiration), message_bcc(&message));
    uint64_t seq = publish_one(q, false, again, &late, &more);
    message_unref(again);
    return seq;
}

/* Where a message goes. */
struct way {
    struct ch_queue *const *targets;
    const bool *delayed; /* parallel: reached through a delayed-message exchange; NULL: none is */
    size_t count;
};

/* more NULL: there is nothing to say but the message. */
static void hand_over(struct broker_channel *ch, const struct way *way, struct message message,
                      uint64_t token, const struct queue_publish_more *more)
{
    bool sole = way->count == 1;
    struct message late = {0};
    ch->confirm_used = ch->confirm_used || token != 0;
    if (token != 0 && !sole) {
        (void)umap_put(&ch->multi, token, (void *)(uintptr_t)way->count);
    }
    for (size_t i = 0; i < way->count; i++) {
        struct ch_queue *q = way->targets[i];
        uint64_t seq = more == NULL ? queue_client_publish(q->client, message)
                                    : publish_one(q, way->delayed != NULL && way->delayed[i],
                                                  message, &late, more);
        ch_queue_note_publish(q, seq);
        if (token != 0) {
            confirm_expect(q, seq, token, sole);
        }
    }
    if (late.record.buf != NULL) {
        message_unref(late);
    }
    ch->published++;
    channel_note_published(ch, way->count);
}

/* To its queues, or for the time being to the transaction. */
static enum broker_publish_result pass_on(struct broker_channel *ch, const struct way *way,
                                          struct message message, uint64_t token,
                                          const struct queue_publish_more *more,
                                          struct broker_fault *fault)
{
    struct broker *broker = ch->broker;
    if (WR_UNLIKELY(ch->tx != NULL)) {
        return tx_publish(ch, way->targets, way->delayed, way->count, message, fault)
                   ? BROKER_ROUTED
                   : BROKER_REFUSED;
    }
    for (size_t i = 0; i < broker->reply_to.count; i++) {
        reply_send(broker, &broker->reply_to.items[i], message);
    }
    if (way->count == 0) {
        return BROKER_UNROUTABLE;
    }
    hand_over(ch, way, message, token, more);
    return BROKER_ROUTED;
}

static void on_looked(struct request *r)
{
    r->channel->publish_looked = true;
    request_finish(r);
}

void broker_publish_looked(struct broker_channel *ch)
{
    ch->publish_looked = true;
}

uint64_t broker_publish_room(const struct broker *broker)
{
    return host_client_room(broker->host);
}

/* The barrier is done (the publish is tried again) or failed (the front end hears of it). */
static void on_look_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                         uint64_t b)
{
    struct broker_channel *ch = ctx;
    (void)name;
    (void)a;
    (void)b;
    if (fault->code != 0) {
        ch->sink->on_fault(ch->ctx, fault, 60, 40);
    } else {
        ch->retry(ch->retry_ctx);
    }
}

static enum broker_publish_result look_again(struct broker_channel *ch, void (*retry)(void *ctx),
                                             void *ctx)
{
    struct request *r = request_new(ch, on_look_done, ch);
    ch->retry = retry;
    ch->retry_ctx = ctx;
    request_barrier(r, on_looked);
    return BROKER_WAIT;
}

/* Write permission: asked once for publishes to the same exchange as long as the view stays. */
static bool may_write(struct broker_channel *ch, struct bytes exchange, struct broker_fault *fault)
{
    if (ch->write_serial == ch->broker->access_serial &&
        bytes_eq(exchange, (struct bytes){ch->write_exchange, ch->write_size})) {
        return true;
    }
    if (!auth_check(ch->session, PERMISSION_WRITE, "exchange", exchange, fault)) {
        return false;
    }
    ch->write_serial = ch->broker->access_serial;
    ch->write_size = (uint32_t)exchange.size;
    memcpy(ch->write_exchange, exchange.data, exchange.size);
    return true;
}

static bool check_exchange(struct broker_channel *ch, const struct catalog_exchange *x,
                           struct bytes name, struct broker_fault *fault)
{
    if (x == NULL) {
        fault_set(fault, 404, false, "no exchange '%.*s' in vhost '%s'", FMT(name),
                  ch->session->vhost);
        return false;
    }
    if (x->internal) {
        fault_set(fault, 403, false, "cannot publish to internal exchange '%.*s' in vhost '%s'",
                  FMT(name), ch->session->vhost);
        return false;
    }
    return true;
}

/* Every key that routes, CC and BCC too. */
static bool may_write_topics(struct broker_channel *ch, const struct catalog_exchange *x,
                             struct bytes key, size_t extra_count, struct broker_fault *fault)
{
    bool ok = auth_check_topic(ch->session, PERMISSION_WRITE, x, key, fault);
    for (size_t i = 0; i < extra_count && ok; i++) {
        ok = auth_check_topic(ch->session, PERMISSION_WRITE, x, ch->broker->extra_keys.items[i],
                              fault);
    }
    return ok;
}

/* The default exchange: keys that name reply consumers. True when all of them do, and so no queue
 * can be meant. */
static bool find_replies(struct broker *broker, struct bytes key, uint32_t extra_count)
{
    bool all = reply_is_name(key);
    if (all) {
        reply_find(broker, key);
    }
    for (uint32_t i = 0; i < extra_count; i++) {
        struct bytes extra = broker->extra_keys.items[i];
        if (reply_is_name(extra)) {
            reply_find(broker, extra);
        } else {
            all = false;
        }
    }
    return all;
}

static enum broker_publish_result publish_slowly(struct broker_channel *ch, struct message message,
                                                 uint64_t token, struct broker_fault *fault,
                                                 struct route_cache_slot *slot,
                                                 void (*retry)(void *ctx), void *ctx)
{
    struct broker *broker = ch->broker;
    struct bytes name = message_exchange(&message);
    struct routing routing;
    bool looked = ch->publish_looked;
    ch->publish_looked = false;
    if (!may_write(ch, name, fault)) {
        return BROKER_REFUSED;
    }
    const struct catalog_exchange *x =
        catalog_exchange(broker->view, session_vhost(ch->session), name);
    if (x == NULL && !looked) {
        return look_again(ch, retry, ctx);
    }
    if (!check_exchange(ch, x, name, fault) ||
        !check_props(ch, message_props(&message), &routing, fault) ||
        !may_write_topics(ch, x, message_key(&message), routing.extra_count, fault)) {
        return BROKER_REFUSED;
    }
    struct route_input input = {.key = message_key(&message),
                                .props = message_props(&message),
                                .extra_keys = broker->extra_keys.items,
                                .extra_count = routing.extra_count,
                                .random = prng_u64(&broker->prng),
                                .node = broker->options.node_id};
    uint32_t count = route_message(broker->view, x, &input, &broker->route);
    vec_clear(&broker->reply_to);
    bool final = name.size == 0 && find_replies(broker, input.key, routing.extra_count);
    const bool routed = count > broker->route.kept; /* to be kept is not to be routed */
    if (!routed && !looked && !final) {
        return look_again(ch, retry, ctx);
    }
    VEC(struct ch_queue *) targets = {0};
    for (uint32_t i = 0; i < count; i++) {
        vec_push(&targets, ch_queue_open(ch, broker->route.queues[i]));
    }
    const struct way way = {targets.items, broker->route.delayed, targets.count};
    struct message built = rebuild(ch, message, routing.has_bcc, routing.reply_here);
    enum broker_publish_result result = pass_on(ch, &way, built, token, &routing.more, fault);
    if (result == BROKER_ROUTED && !routed && count > 0 && ch->tx == NULL) {
        result = BROKER_KEPT;
    }
    message_unref(built);
    vec_clear(&broker->reply_to);
    if (count > 0 && slot != NULL && routing.extra_count == 0 && broker->route.key_only) {
        cache_fill(ch, slot, name, input.key);
        vec_clear(&slot->targets);
        slot->wants_ids = false;
        for (size_t i = 0; i < targets.count; i++) {
            vec_push(&slot->targets, targets.items[i]);
            slot->wants_ids = slot->wants_ids || targets.items[i]->wants_ids;
        }
    }
    vec_deinit(&targets);
    return result;
}

/* The targets are known, but the properties must be looked at. False: more keys, or something to
 * take out: the slow way. */
static bool publish_checked(struct broker_channel *ch, const struct route_cache_slot *slot,
                            struct message message, uint64_t token, struct broker_fault *fault,
                            enum broker_publish_result *ret_result)
{
    struct routing routing;
    if (!check_props(ch, message_props(&message), &routing, fault)) {
        *ret_result = BROKER_REFUSED;
        return true;
    }
    if (routing.extra_count > 0 || routing.has_bcc) {
        return false;
    }
    const struct way way = {slot->targets.items, NULL, slot->targets.count};
    struct message built = rebuild(ch, message, false, routing.reply_here);
    *ret_result = pass_on(ch, &way, built, token, &routing.more, fault);
    message_unref(built);
    return true;
}

static enum broker_publish_result publish(struct broker_channel *ch, struct message message,
                                          uint64_t token, struct broker_fault *fault,
                                          void (*retry)(void *ctx), void *ctx)
{
    struct bytes exchange = message_exchange(&message);
    struct bytes key = message_key(&message);
    struct route_cache_slot *slot = cache_slot(ch, exchange, key);
    if (WR_LIKELY(slot != NULL && cache_holds(ch, slot, exchange, key))) {
        struct bytes props = message_props(&message);
        uint16_t flags = props.size >= 2 ? bytes_load_be16(props.data) : 0;
        if (WR_LIKELY((flags & CHECKED_PROPS) == 0 && !slot->wants_ids)) {
            const struct way way = {slot->targets.items, NULL, slot->targets.count};
            ch->publish_looked = false;
            return pass_on(ch, &way, message, token, NULL, fault);
        }
        enum broker_publish_result result;
        if (publish_checked(ch, slot, message, token, fault, &result)) {
            ch->publish_looked = false;
            return result;
        }
    }
    return publish_slowly(ch, message, token, fault, slot, retry, ctx);
}

/* RabbitMQ's words, and its order. */
static const char *alarm_reason(uint32_t alarms)
{
    switch (alarms) {
    case BROKER_ALARM_DISK:
        return "low on disk";
    case BROKER_ALARM_MEMORY:
        return "low on memory";
    default:
        return "low on disk & memory";
    }
}

/* Under an alarm the channel is held back once it has published, wherever that went. */
static void note_alarm(struct broker_channel *ch)
{
    ch->alarmed = true;
    if (ch->sink->on_alarm != NULL) {
        ch->sink->on_alarm(ch->ctx, alarm_reason(ch->broker->alarms));
    }
    channel_check_blocked(ch);
}

enum broker_publish_result broker_publish(struct broker_channel *ch, struct message message,
                                          uint64_t token, struct broker_fault *fault,
                                          void (*retry)(void *ctx), void *ctx)
{
    enum broker_publish_result result = publish(ch, message, token, fault, retry, ctx);
    if (WR_UNLIKELY(ch->broker->alarms != 0 && !ch->alarmed) &&
        (result == BROKER_ROUTED || result == BROKER_KEPT || result == BROKER_UNROUTABLE)) {
        note_alarm(ch);
    }
    return result;
}
