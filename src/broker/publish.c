/*
 * What: publishing: checks, routing, handing to the queues.
 *
 * Happy path: (exchange, key) is in the channel's route cache for the present view: the targets are
 * known and the permission was checked; of a message without headers, user-id or reply-to only the
 * expiration is checked. Otherwise: permission, existence, `internal`, properties, route. The
 * cache takes only what the key alone decided (route_result.key_only).
 *
 * A look-up that misses (no such exchange, or nothing routed) waits for one read barrier and is
 * done again, so that what was declared or bound on another node a moment ago counts.
 *
 * Failure modes: faults as RabbitMQ's, in its order of checks. Spec: docs/broker.md, amqp-0-9-1 §9.
 */
#include "publish_internal.h"
#include "warren/plant.h"

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

/* --- handing over ----------------------------------------------------------------------------- */

/* What an exchange keeps does not expire; each replay begins its time anew. */
static uint64_t publish_to_history(struct ch_queue *q, struct message message,
                                   const struct queue_publish_more *more)
{
    if (wr_planted(WR_PLANT_history_forgotten)) {
        return queue_client_peek(q->client, INT64_MAX, 1, QUEUE_PLACE_READY);
    }
    if (message_ttl_ms(&message) == MESSAGE_TTL_NONE) {
        return queue_client_publish_more(q->client, message, more);
    }
    struct message lasting = publish_with_parts(message, message_props(&message), MESSAGE_TTL_NONE);
    uint64_t seq = queue_client_publish_more(q->client, lasting, more);
    message_unref(lasting);
    return seq;
}

/* One target; what it is told besides depends on what it looks at. */
static uint64_t publish_one(struct ch_queue *q, bool delayed, struct message message,
                            struct message *owned_late, const struct queue_publish_more *said)
{
    struct queue_publish_more more = *said;
    delayed = (delayed || q->delays) && more.delay_ms > 0 && !wr_planted(WR_PLANT_delay_forgotten);
    if (wr_planted(WR_PLANT_number_forgotten)) {
        more.publish_seq = 0;
        more.publisher = BYTES_NONE;
    }
    if (!q->wants_ids) {
        more.id = BYTES_NONE;
    }
    if (!delayed) {
        more.delay_ms = 0;
    } else if (owned_late->record.buf == NULL) {
        *owned_late = publish_with_delay_over(message);
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
    (void)publish_check_props(ch, message_props(&message), &routing, &ignored);
    uint64_t seq = publish_one(q, delayed, message, &late, &routing.more);
    if (late.record.buf != NULL) {
        message_unref(late);
    }
    return seq;
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
    struct message again = publish_with_parts(message, props, publish_expiration_ms(expiration));
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

/* --- routing ---------------------------------------------------------------------------------- */

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

/* The keys of CC and BCC route, too. They are known when the headers are found to be in order. */
static bool may_write_extra_topics(struct broker_channel *ch, const struct catalog_exchange *x,
                                   size_t extra_count, struct broker_fault *fault)
{
    bool ok = true;
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
        !auth_check_topic(ch->session, PERMISSION_WRITE, x, message_key(&message), fault) ||
        !publish_check_props(ch, message_props(&message), &routing, fault) ||
        !may_write_extra_topics(ch, x, routing.extra_count, fault)) {
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
    struct message built = publish_rebuild(ch, message, routing.has_bcc, routing.reply_here);
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
    if (!publish_check_props(ch, message_props(&message), &routing, fault)) {
        *ret_result = BROKER_REFUSED;
        return true;
    }
    if (routing.extra_count > 0 || routing.has_bcc) {
        return false;
    }
    const struct way way = {slot->targets.items, NULL, slot->targets.count};
    if (!routing.reply_here) {
        *ret_result = pass_on(ch, &way, message, token, &routing.more, fault);
        return true;
    }
    struct message built = publish_rebuild(ch, message, false, true);
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
        if (WR_LIKELY((flags & CHECKED_PROPS & ~WIRE_PROP_EXPIRATION) == 0 && !slot->wants_ids)) {
            const struct way way = {slot->targets.items, NULL, slot->targets.count};
            ch->publish_looked = false;
            if ((flags & WIRE_PROP_EXPIRATION) != 0 && !publish_check_expiration(props, fault)) {
                return BROKER_REFUSED;
            }
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

void broker_channel_alarm(struct broker_channel *ch)
{
    if (ch->broker->alarms != 0 && !ch->alarmed) {
        note_alarm(ch);
    }
}

enum broker_publish_result broker_publish(struct broker_channel *ch, struct message message,
                                          uint64_t token, struct broker_fault *fault,
                                          void (*retry)(void *ctx), void *ctx)
{
    enum broker_publish_result result = publish(ch, message, token, fault, retry, ctx);
    if (WR_UNLIKELY(ch->broker->alarms != 0) &&
        (result == BROKER_ROUTED || result == BROKER_KEPT || result == BROKER_UNROUTABLE)) {
        broker_channel_alarm(ch);
    }
    return result;
}
