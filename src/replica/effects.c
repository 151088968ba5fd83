/*
 * What: carrying effects to clients: to a sink of this shard at once, to others gathered into one
 * parcel per host and turn. Happy path: route_effect -> bytes are in the store -> deliver_here /
 * gather; effects_flush at the end of the turn. Failure modes: a delivery whose bytes are not in
 * memory, or whose link is full, waits in its route; everything behind it for the same client waits
 * too (order), other clients go on. Bytes found nowhere are skipped and named in the log.
 * Invariants
 * I1  Effects of one client leave in the order in which the machine gave them.
 * I2  Messages handed to a sink are borrowed from the store: nothing drops them before the sink
 * returns. Ownership: a dest owns message references until its parcel is sent. Threads: the host's
 * shard.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "parcel.h"
#include "store.h"

#define VIA_BYTES (UINT64_C(16) << 10) /* runs with less bytes carry them */
#define VIA_COUNT 4096u
/* Then the parcel is sent before the end of the turn. It counts as heard when all of it has come:
 * on a slow link that must not take as long as a client waits for a sign (CONNECTED_RETRY_MS). */
#define DEST_BYTES_MAX (UINT64_C(256) << 10)
#define APART_MAX      64u /* messages of one item that lie apart */

/* Effects gathered for one host. */
struct dest {
    struct uid node;
    uint32_t shard;
    uint64_t queue;
    uint64_t bytes;
    bool via; /* by way of the queue's replica there */
    struct effect_bundle *bundle;
};

static void dest_send(struct host *host, struct dest *dest)
{
    struct parcel *parcel = parcel_make(host, PARCEL_EFFECTS, 1, dest->queue, dest->node,
                                        dest->via ? HOST_SHARD_BY_GROUP : dest->shard);
    if (host_is_self(host, dest->node)) {
        parcel->local = dest->bundle;
        parcel->local_free = effect_bundle_free;
    } else {
        effects_pack(parcel, dest->bundle);
    }
    dest->bundle = NULL;
    parcel_send(host, parcel);
}

/* Up to where a replica must have applied to know what is named now (the entry under way is not
 * counted as applied yet). */
static uint64_t applied_here(const struct home *home)
{
    if (home->group == NULL) {
        return 0;
    }
    return home->entry_index > home->group->applied ? home->entry_index : home->group->applied;
}

static struct effect_bundle *bundle_new(const struct home *home, uint32_t shard)
{
    struct effect_bundle *bundle = wr_calloc(1, sizeof *bundle);
    bundle->shard = shard;
    bundle->applied = applied_here(home);
    return bundle;
}

static struct dest *dest_of(struct home *home, const struct route *route)
{
    struct host *host = home->host;
    for (size_t i = host->dests.count; i-- > 0;) {
        struct dest *dest = host->dests.items[i];
        if (dest->queue == home->id && dest->shard == route->shard && dest->via == route->via &&
            uid_eq(dest->node, route->node)) {
            if (dest->bytes >= DEST_BYTES_MAX) {
                dest_send(host, dest);
                dest->bytes = 0;
                dest->bundle = bundle_new(home, route->shard);
            } else {
                dest->bundle->applied = applied_here(home);
            }
            return dest;
        }
    }
    struct dest *dest = wr_calloc(1, sizeof *dest);
    dest->node = route->node;
    dest->shard = route->shard;
    dest->queue = home->id;
    dest->via = route->via;
    dest->bundle = bundle_new(home, route->shard);
    vec_push(&host->dests, dest);
    return dest;
}

void effects_flush(struct host *host)
{
    for (size_t i = 0; i < host->dests.count; i++) {
        struct dest *dest = host->dests.items[i];
        if (dest->bundle->items.count > 0) {
            dest_send(host, dest);
        } else {
            effect_bundle_free(dest->bundle);
        }
        wr_free(dest);
    }
    vec_clear(&host->dests);
}

void effects_drop(struct host *host)
{
    for (size_t i = 0; i < host->dests.count; i++) {
        effect_bundle_free(host->dests.items[i]->bundle);
        wr_free(host->dests.items[i]);
    }
    vec_clear(&host->dests);
}

static bool is_here(const struct host *host, const struct route *route)
{
    return route->shard == host->options.shard && host_is_self(host, route->node);
}

/* Hands over one item with `count` messages that lie side by side. */
static void emit(struct home *home, struct route *route, const struct queue_effect *effect,
                 const struct slice *first, uint32_t count)
{
    struct host *host = home->host;
    struct effect_item item = {.effect = *effect,
                               .session = route->session,
                               .number = route->number++,
                               .message_count = count};
    if (is_here(host, route)) {
        client_on_effect(host, host->options.node_id, &item,
                         (const struct message *)(const void *)first, false);
        return;
    }
    struct dest *dest = dest_of(home, route);
    item.message_first = (uint32_t)dest->bundle->messages.count;
    if (count > 0) {
        slices_ref(first, count);
        vec_reserve(&dest->bundle->messages, count);
        memcpy(dest->bundle->messages.items + dest->bundle->messages.count, first,
               count * sizeof *first);
        dest->bundle->messages.count += count;
        for (uint32_t i = 0; i < count; i++) {
            dest->bytes += first[i].size;
        }
    }
    dest->bytes += 32;
    vec_push(&dest->bundle->items, item);
}

/* Names a run instead of carrying it. */
static void emit_positions(struct home *home, struct route *route,
                           const struct queue_effect *effect)
{
    struct effect_item item = {
        .effect = *effect, .session = route->session, .number = route->number++};
    struct dest *dest = dest_of(home, route);
    dest->bytes += 32;
    dest->bundle->by_position++;
    vec_push(&dest->bundle->items, item);
}

static bool link_full(struct home *home, const struct route *route)
{
    struct host *host = home->host;
    const struct host_transport *transport = &host->options.transport;
    if (host_is_self(host, route->node) || transport->backlog == NULL ||
        transport->backlog(transport->ctx, route->node) < BACKLOG_MAX) {
        return false;
    }
    host->backlogged = true;
    return true;
}

static void skip_missing(struct home *home, struct queue_effect *effect)
{
    if (home_wants(home, effect->position)) {
        wr_log(home->host->logger, LOG_LEVEL_ERROR, "queue",
               "queue %llu: the bytes of the message at position %llu are lost",
               (unsigned long long)home->id, (unsigned long long)effect->position);
    }
    home->missing = 0;
    effect->position++;
    effect->ordinal++;
    effect->count--;
}

/* How much of a run fits one item: by bytes, and at least one message. */
static uint32_t bounded(const struct slice *first, uint64_t count)
{
    uint64_t bytes = 0;
    uint32_t n = 0;
    while (n < count && n < UINT32_MAX && (n == 0 || bytes + first[n].size <= DEST_BYTES_MAX)) {
        bytes += first[n].size;
        n++;
    }
    return n;
}

/* By position pays when there are bytes to save, or when they would have to be read from disk here.
 */
static bool names_positions(const struct route *route, const struct queue_effect *effect,
                            const struct slice *first, uint64_t run)
{
    if (!route->via || effect->kind != QUEUE_EFFECT_DELIVER ||
        (effect->flags & QUEUE_NO_ACK) != 0) {
        return false;
    }
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < run && bytes < VIA_BYTES; i++) {
        bytes += first[i].size;
    }
    return run == 0 || bytes >= VIA_BYTES;
}

/* DELIVER, PEEK. False: waits (for bytes or the link); *effect is what is left. */
static bool deliver(struct home *home, struct route *route, struct queue_effect *effect)
{
    bool here = is_here(home->host, route);
    while (effect->count > 0) {
        const struct slice *first;
        if (!here && link_full(home, route)) {
            return false;
        }
        uint64_t run = store_run(&home->store, effect->position, effect->count, &first);
        if (names_positions(route, effect, first, run)) {
            struct queue_effect part = *effect;
            part.count = run == 0          ? (effect->count < VIA_COUNT ? effect->count : VIA_COUNT)
                         : run < VIA_COUNT ? run
                                           : VIA_COUNT;
            emit_positions(home, route, &part);
            effect->position += part.count;
            effect->ordinal += part.count;
            effect->count -= part.count;
            continue;
        }
        if (run == 0 && home->missing == effect->position) {
            skip_missing(home, effect);
            continue;
        }
        if (run == 0 && home->group == NULL) {
            /* Memory only: what is not here was dropped after this delivery was decided. */
            skip_missing(home, effect);
            continue;
        }
        if (run == 0) {
            load_start(home, effect->position);
            return false;
        }
        uint32_t n = here ? (uint32_t)(run < UINT32_MAX ? run : UINT32_MAX) : bounded(first, run);
        struct queue_effect part = *effect;
        part.count = n;
        emit(home, route, &part, first, n);
        if (home->group != NULL && n == 1) {
            store_forget_stray(&home->store, effect->position);
        }
        effect->position += n;
        effect->ordinal += n;
        effect->count -= n;
    }
    return true;
}

static bool send(struct home *home, struct route *route, struct queue_effect *effect)
{
    if (effect->kind == QUEUE_EFFECT_DELIVER || effect->kind == QUEUE_EFFECT_PEEK) {
        return deliver(home, route, effect);
    }
    struct queue_effect pace;
    if (effect->kind == QUEUE_EFFECT_APPLIED && pace_changes(home, route, &pace)) {
        emit(home, route, &pace, NULL, 0);
    }
    emit(home, route, effect, NULL, 0);
    return true;
}

/* The next part of what `first` begins: consecutive ordinals, whatever their positions. */
static bool goes_on(const struct queue_effect *first, const struct queue_effect *next,
                    uint64_t ordinal)
{
    return next->kind == QUEUE_EFFECT_DELIVER && next->client == first->client &&
           next->consumer == first->consumer && next->ordinal == ordinal &&
           next->delivery_count == first->delivery_count && next->flags == first->flags;
}

size_t route_deliver_apart(struct home *home, struct route *route,
                           const struct queue_effect *effects, size_t count)
{
    struct slice picked[APART_MAX];
    const struct queue_effect *first = &effects[0];
    uint64_t bytes = 0;
    uint32_t n = 0;
    size_t used = 0;
    if (route->blocked || first->kind != QUEUE_EFFECT_DELIVER || (first->flags & QUEUE_DEAD) != 0 ||
        (!is_here(home->host, route) && link_full(home, route))) {
        return 0;
    }
    while (used < count && goes_on(first, &effects[used], first->ordinal + n) &&
           effects[used].count <= APART_MAX - n && bytes < DEST_BYTES_MAX / 2 &&
           store_pick(&home->store, effects[used].position, (uint32_t)effects[used].count,
                      &picked[n], &bytes)) {
        n += (uint32_t)effects[used++].count;
    }
    if (used < 2) {
        return 0;
    }
    struct queue_effect whole = *first;
    whole.count = n;
    emit(home, route, &whole, picked, n);
    return used;
}

void route_effect(struct home *home, struct route *route, const struct queue_effect *effect)
{
    struct queue_effect rest = *effect;
    if (WR_LIKELY(!route->blocked) && send(home, route, &rest)) {
        return;
    }
    if (!route->blocked) {
        route->blocked = true;
        home->blocked_routes++;
    }
    vec_push(&route->waiting, rest);
}

static void pump_route(struct home *home, struct route *route)
{
    while (route->waiting_first < route->waiting.count) {
        /* A copy: the sink may make the vector move. */
        struct queue_effect rest = route->waiting.items[route->waiting_first];
        bool done = send(home, route, &rest);
        route->waiting.items[route->waiting_first] = rest;
        if (!done) {
            return;
        }
        route->waiting_first++;
    }
    vec_clear(&route->waiting);
    route->waiting_first = 0;
    route->blocked = false;
    home->blocked_routes--;
}

/* After a load, or when a link has drained. */
void home_pump(struct home *home)
{
    if (home->blocked_routes > 0) {
        LIST_FOREACH_SAFE(link, &home->routes_list) {
            struct route *route = WR_CONTAINER_OF(link, struct route, link);
            if (route->blocked) {
                pump_route(home, route);
            }
        }
    }
    home_drops_flush(home);
    relay_pump(home);
}
