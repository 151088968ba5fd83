/*
 * What: publishing: checks, routing, handing to the queues.
 *
 * Happy path: (exchange, key) is in the channel's route cache for the present view: the targets are
 * known and the permission was checked; a message without headers, expiration, user-id or reply-to
 * needs no further check. Otherwise: permission, existence, `internal`, properties, route.
 *
 * A look-up that misses (no such exchange, or nothing routed) waits for one read barrier and is
 * done again, so that what was declared or bound on another node a moment ago counts.
 *
 * Failure modes: faults as RabbitMQ's, in its order of checks. Spec: docs/broker.md, amqp-0-9-1 §9.
 */
#include "broker_internal.h"

#define CHECKED_PROPS (WIRE_PROP_HEADERS | WIRE_PROP_EXPIRATION | WIRE_PROP_USER_ID)

/* What the properties say about the way; the keys of CC and BCC are in broker->extra_keys (a
 * table's size bounds their number). */
struct routing {
    uint32_t extra_count;
    bool has_bcc;
};

/* --- properties ------------------------------------------------------------------------------- */

static bool check_expiration(struct bytes text, struct broker_fault *fault)
{
    uint64_t value = 0;
    size_t digits = 0;
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative ? 1 : 0;
    for (; at + digits < text.size && digits < 18 && text.data[at + digits] >= '0' &&
           text.data[at + digits] <= '9';
         digits++) {
        value = value * 10 + (uint64_t)(text.data[at + digits] - '0');
    }
    if (digits == 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': no_integer", FMT(text));
    } else if (at + digits < text.size) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {leftover_string,\"%.*s\"}",
                  FMT(text), (int)(text.size - at - digits), (const char *)text.data + at + digits);
    } else if (negative && value > 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_negative,-%llu}", FMT(text),
                  (unsigned long long)value);
    } else if (value > UINT64_C(315360000000)) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_too_large,%llu}", FMT(text),
                  (unsigned long long)value);
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

static bool add_keys(struct broker *broker, struct bytes headers, const char *name,
                     struct broker_fault *fault)
{
    struct wire_value v;
    struct bytes key;
    if (!wire_table_find(headers, name, &v)) {
        return true;
    }
    if (v.type != WIRE_FIELD_ARRAY) {
        fault_set(fault, 406, false, "invalid message: {unacceptable_type_in_header,\"%s\",%s}",
                  name, wire_field_name(v.type));
        return false;
    }
    struct wire_table_iter it;
    struct wire_value item;
    wire_array_iter_init(&it, v.bytes);
    while (wire_table_iter_next(&it, &key, &item)) {
        if (item.type == WIRE_FIELD_LONGSTR && item.bytes.size <= NAME_MAX_SIZE) {
            vec_push(&broker->extra_keys, item.bytes);
        }
    }
    return true;
}

static bool check_props(const struct broker_session *session, struct bytes raw,
                        struct routing *routing, struct broker_fault *fault)
{
    struct bytes value;
    uint16_t flags = raw.size >= 2 ? bytes_load_be16(raw.data) : 0;
    routing->extra_count = 0;
    routing->has_bcc = false;
    if (WR_LIKELY((flags & CHECKED_PROPS) == 0)) {
        return true;
    }
    if (wire_props_get(raw, WIRE_PROP_EXPIRATION, &value) && !check_expiration(value, fault)) {
        return false;
    }
    struct bytes headers = wire_props_headers(raw);
    if (headers.size > 0) {
        struct broker *broker = session->broker;
        struct wire_value v;
        vec_clear(&broker->extra_keys);
        routing->has_bcc = wire_table_find(headers, "BCC", &v);
        if (!add_keys(broker, headers, "CC", fault) || !add_keys(broker, headers, "BCC", fault)) {
            return false;
        }
        routing->extra_count = (uint32_t)broker->extra_keys.count;
    }
    return !wire_props_get(raw, WIRE_PROP_USER_ID, &value) || check_user(session, value, fault);
}

/* The same message without its BCC header. Consumes the reference, gives a new one. */
static struct message without_bcc(struct message owned)
{
    struct wire_props props;
    struct writer headers;
    if (wire_props_decode(message_props(&owned), &props) != WIRE_OK) {
        return owned; /* checked before: cannot be */
    }
    writer_init(&headers, props.headers.size + 16);
    wire_table_put_without(&headers, props.headers, bytes_from_cstr("BCC"));
    props.headers = writer_bytes(&headers);
    struct writer raw;
    writer_init(&raw, wire_props_size(&props));
    wire_props_put(&raw, &props);
    struct message_parts parts = {.exchange = message_exchange(&owned),
                                  .key = message_key(&owned),
                                  .props = writer_bytes(&raw),
                                  .ttl_ms = message_ttl_ms(&owned),
                                  .flags = message_flags(&owned),
                                  .priority = message_priority(&owned)};
    struct bytes body = message_body(&owned);
    uint32_t size = (uint32_t)message_record_size(&parts, body.size);
    struct buf *record = buf_new(size);
    uint8_t *at = message_write(record->data, &parts, (uint32_t)body.size);
    memcpy(at, body.data, body.size);
    record->size = size;
    writer_deinit(&raw);
    writer_deinit(&headers);
    message_unref(owned);
    return (struct message){.record = slice_of_buf(record)};
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

static void hand_over(struct broker_channel *ch, struct ch_queue *const *targets, size_t count,
                      struct message message, uint64_t token)
{
    bool sole = count == 1;
    ch->confirm_used = ch->confirm_used || token != 0;
    if (token != 0 && !sole) {
        (void)umap_put(&ch->multi, token, (void *)(uintptr_t)count);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t seq = queue_client_publish(targets[i]->client, message);
        ch_queue_note_publish(targets[i], seq);
        if (token != 0) {
            confirm_expect(targets[i], seq, token, sole);
        }
    }
    ch->published++;
    channel_note_published(ch, count);
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
    if (ch->write_serial == ch->broker->view_serial &&
        bytes_eq(exchange, (struct bytes){ch->write_exchange, ch->write_size})) {
        return true;
    }
    if (!auth_check(ch->session, PERMISSION_WRITE, "exchange", exchange, fault)) {
        return false;
    }
    ch->write_serial = ch->broker->view_serial;
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
        !check_props(ch->session, message_props(&message), &routing, fault)) {
        return BROKER_REFUSED;
    }
    struct route_input input = {.key = message_key(&message),
                                .props = message_props(&message),
                                .extra_keys = broker->extra_keys.items,
                                .extra_count = routing.extra_count};
    uint32_t count = route_message(broker->view, x, &input, &broker->route);
    if (count == 0) {
        return looked ? BROKER_UNROUTABLE : look_again(ch, retry, ctx);
    }
    VEC(struct ch_queue *) targets = {0};
    for (uint32_t i = 0; i < count; i++) {
        vec_push(&targets, ch_queue_open(ch, broker->route.queues[i]));
    }
    if (routing.has_bcc) {
        message_ref(message);
        struct message clean = without_bcc(message);
        hand_over(ch, targets.items, targets.count, clean, token);
        message_unref(clean);
    } else {
        hand_over(ch, targets.items, targets.count, message, token);
    }
    if (slot != NULL && routing.extra_count == 0 && !bytes_eq_cstr(x->type, "headers")) {
        cache_fill(ch, slot, name, input.key);
        vec_clear(&slot->targets);
        for (size_t i = 0; i < targets.count; i++) {
            vec_push(&slot->targets, targets.items[i]);
        }
    }
    vec_deinit(&targets);
    return BROKER_ROUTED;
}

/* The targets are known, but the properties must be looked at. False: more keys, or something to
 * take out: the slow way. */
static bool publish_checked(struct broker_channel *ch, const struct route_cache_slot *slot,
                            struct message message, uint64_t token, struct broker_fault *fault,
                            enum broker_publish_result *ret_result)
{
    struct routing routing;
    if (!check_props(ch->session, message_props(&message), &routing, fault)) {
        *ret_result = BROKER_REFUSED;
        return true;
    }
    if (routing.extra_count > 0 || routing.has_bcc) {
        return false;
    }
    hand_over(ch, slot->targets.items, slot->targets.count, message, token);
    *ret_result = BROKER_ROUTED;
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
        if (WR_LIKELY((flags & CHECKED_PROPS) == 0)) {
            hand_over(ch, slot->targets.items, slot->targets.count, message, token);
            ch->publish_looked = false;
            return BROKER_ROUTED;
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
        (result == BROKER_ROUTED || result == BROKER_UNROUTABLE)) {
        note_alarm(ch);
    }
    return result;
}
