/*
 * What: the receiving half of deliveries by position. A client's node holds a replica of the queue:
 * the leader names positions, and the replica here puts the bytes in, from memory or its own disk,
 * before the effects go on to the client's shard. Happy path: relay_take -> (applied far enough,
 * bytes in the store) -> resolved -> the client's shard. Failure modes: no replica here (any more),
 * or bytes that are not here though the message is live: the client is shown a gap in the numbers
 * (at once: perhaps nothing else ever comes) and resumes with `inlined`, so that the leader sends
 * the bytes. The same when a message was consumed meanwhile (its delivery was overtaken): the
 * leader knows what is still to be delivered. Invariants: effects leave in the order in which they
 * came. Ownership: a home owns the bundles that wait here. Threads: the host's shard.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "parcel.h"
#include "store.h"

static void pass_on(struct host *host, uint64_t queue, struct effect_bundle *owned_bundle)
{
    WR_ASSERT(owned_bundle->by_position == 0);
    if (owned_bundle->shard >= host->options.shard_count) {
        effect_bundle_free(owned_bundle);
        return;
    }
    struct parcel *parcel =
        parcel_make(host, PARCEL_EFFECTS, 1, queue, host->options.node_id, owned_bundle->shard);
    if (owned_bundle->shard == host->options.shard) {
        effects_hand_over(host, host->options.node_id, owned_bundle);
        effect_bundle_free(owned_bundle);
        parcel_free(parcel);
        return;
    }
    parcel->local = owned_bundle;
    parcel->local_free = effect_bundle_free;
    parcel_send(host, parcel);
}

/* Goes on without the bytes: their items get a number that nobody expects. */
static void pass_on_gap(struct host *host, uint64_t queue, struct effect_bundle *owned_bundle)
{
    for (size_t i = 0; i < owned_bundle->items.count; i++) {
        struct effect_item *item = &owned_bundle->items.items[i];
        if (item->effect.kind == QUEUE_EFFECT_DELIVER && item->message_count < item->effect.count) {
            item->number = UINT64_MAX;
            item->message_count = 0;
        }
    }
    owned_bundle->by_position = 0;
    pass_on(host, queue, owned_bundle);
}

void relay_give_up(struct home *home)
{
    while (home->relay_first < home->relay.count) {
        struct effect_bundle *bundle = home->relay.items[home->relay_first];
        home->relay.items[home->relay_first++] = NULL;
        pass_on_gap(home->host, home->id, bundle);
    }
    vec_clear(&home->relay);
    home->relay_first = 0;
}

void relay_drop(struct home *home)
{
    for (size_t i = home->relay_first; i < home->relay.count; i++) {
        effect_bundle_free(home->relay.items[i]);
    }
    vec_clear(&home->relay);
    home->relay_first = 0;
}

void relay_take(struct host *host, uint64_t queue, struct effect_bundle *owned_bundle)
{
    struct home *home = home_find(host, queue);
    bool replica = home != NULL && home->group != NULL && !home->serving && !home->group->ended &&
                   home->group->quarantined[0] == 0;
    if (owned_bundle->by_position > 0 && !replica) {
        pass_on_gap(host, queue, owned_bundle);
    } else if (!replica ||
               (owned_bundle->by_position == 0 && home->relay.count == home->relay_first)) {
        pass_on(host, queue, owned_bundle);
    } else {
        vec_push(&home->relay, owned_bundle);
        relay_pump(home);
    }
}

enum outcome { RESOLVED, WAITS, LOST };

/* Appends the bytes of one item to `messages`. */
static enum outcome resolve_item(struct home *home, struct effect_bundle *bundle,
                                 struct effect_item *item)
{
    struct queue_effect *e = &item->effect;
    uint64_t have = item->message_count;
    while (have < e->count) {
        const struct slice *first;
        uint64_t position = e->position + have;
        uint64_t run = store_run(&home->store, position, e->count - have, &first);
        if (run == 0) {
            if (home->missing == position || !queue_is_live(home->queue, position)) {
                return LOST;
            }
            load_start(home, position);
            return WAITS;
        }
        if (have == 0) {
            item->message_first = (uint32_t)bundle->messages.count;
        }
        slices_ref(first, run);
        for (uint64_t i = 0; i < run; i++) {
            vec_push(&bundle->messages, (struct message){first[i]});
        }
        if (run == 1) {
            store_forget_stray(&home->store, position);
        }
        have += run;
        item->message_count = (uint32_t)have;
    }
    return RESOLVED;
}

static enum outcome resolve(struct home *home, struct effect_bundle *bundle)
{
    if (home->group->applied < bundle->applied) {
        return WAITS;
    }
    for (size_t i = 0; i < bundle->items.count && bundle->by_position > 0; i++) {
        struct effect_item *item = &bundle->items.items[i];
        if (item->effect.kind != QUEUE_EFFECT_DELIVER ||
            item->message_count == item->effect.count) {
            continue;
        }
        enum outcome outcome = resolve_item(home, bundle, item);
        if (outcome != RESOLVED) {
            return outcome;
        }
        bundle->by_position--;
    }
    return RESOLVED;
}

/* After something was applied or loaded. */
void relay_pump(struct home *home)
{
    while (home->relay_first < home->relay.count) {
        struct effect_bundle *bundle = home->relay.items[home->relay_first];
        enum outcome outcome = resolve(home, bundle);
        if (outcome == WAITS) {
            return;
        }
        home->relay.items[home->relay_first++] = NULL;
        if (outcome == LOST) {
            home->missing = 0;
            pass_on_gap(home->host, home->id, bundle);
        } else {
            pass_on(home->host, home->id, bundle);
        }
    }
    vec_clear(&home->relay);
    home->relay_first = 0;
}
