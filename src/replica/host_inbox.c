/*
 * What: parcels that came to a host, and who gets them.
 * Happy path: the inbox -> the kind's handler, in the turn. Failure modes: a parcel for something
 * that this node does not know yet is held until the next view, or a second; one that cannot be
 * understood is refused and said so; one of a kind that a newer version made is thrown away.
 * Ownership: whoever handles a parcel frees it; a held one is the host's. Threads: the shard that
 * owns the host.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"

/* --- held ------------------------------------------------------------------------------------- */

static void on_held(struct timer *timer)
{
    struct host *host = WR_CONTAINER_OF(timer, struct host, held_timer);
    size_t kept = 0;
    for (size_t i = 0; i < host->held.count; i++) {
        if (host->held.items[i].until_ms <= host->now_ms) {
            parcel_free(host->held.items[i].parcel);
        } else {
            host->held.items[kept++] = host->held.items[i];
        }
    }
    host->held.count = kept;
    if (kept > 0) {
        timer_add(&host->timers, timer, host->held.items[0].until_ms, on_held);
    }
}

/* For something that this node does not know yet: until the next view, or not for long. */
void host_hold(struct host *host, struct parcel *owned)
{
    if (host->held.count >= HELD_PARCELS_MAX) {
        parcel_free(owned);
        return;
    }
    vec_push(&host->held, (struct held_parcel){owned, host->now_ms + HELD_MS});
    if (!timer_is_pending(&host->held_timer)) {
        timer_add(&host->timers, &host->held_timer, host->now_ms + HELD_MS, on_held);
    }
}

void host_readmit_held(struct host *host)
{
    for (size_t i = 0; i < host->held.count; i++) {
        vec_push(&host->inbox, host->held.items[i].parcel);
    }
    vec_clear(&host->held);
}

void host_on_parcel(struct host *host, struct parcel *owned)
{
    vec_push(&host->inbox, owned);
}

/* --- handlers --------------------------------------------------------------------------------- */

void effects_hand_over(struct host *host, struct uid from, const struct effect_bundle *bundle)
{
    for (size_t i = 0; i < bundle->items.count; i++) {
        const struct effect_item *item = &bundle->items.items[i];
        const struct message *messages =
            item->message_count > 0 ? &bundle->messages.items[item->message_first] : NULL;
        client_on_effect(host, from, item, messages, true);
    }
}

static void on_effects(struct host *host, struct parcel *parcel)
{
    struct effect_bundle *bundle = parcel->local;
    parcel->local = NULL;
    if (bundle == NULL) {
        int error = effects_unpack(parcel, &bundle);
        if (error != 0) {
            parcel_refused(host, parcel, "effects", error);
            return;
        }
    }
    struct home *home = home_find(host, parcel->group);
    bool queued = home != NULL && home->relay.count > home->relay_first;
    if (bundle->shard == host->options.shard && bundle->by_position == 0 && !queued) {
        effects_hand_over(host, parcel->from_node, bundle);
        effect_bundle_free(bundle);
    } else {
        relay_take(host, parcel->group, bundle);
    }
}

static void on_leader(struct host *host, struct parcel *parcel)
{
    uint64_t n[3] = {0};
    struct slice raw;
    int error = numbers_unpack(parcel, n, 3, &raw);
    struct uid node = {n[0], n[1]};
    if (error == 0 && host_is_self(host, node) && n[2] >= host->options.shard_count) {
        error = WR_E_CORRUPT; /* what is sent to that shard would be our own fault */
    }
    if (error != 0) {
        parcel_refused(host, parcel, "an announcement", error);
        return;
    }
    /* It came to the shard of the group, or from there: the first one tells the node's other
     * shards. */
    bool first = !host_is_self(host, parcel->from_node) || host_is_self(host, node);
    bool by_group =
        host_shard_of_group(parcel->group, host->options.shard_count) == host->options.shard;
    for (uint32_t i = 0; first && by_group && i < host->options.shard_count; i++) {
        if (i != host->options.shard) {
            struct parcel *copy =
                parcel_make(host, PARCEL_LEADER, 1, parcel->group, host->options.node_id, i);
            numbers_pack(copy, n, 3, SLICE_NONE);
            parcel_send(host, copy);
        }
    }
    client_on_leader(host, parcel->group, node, (uint32_t)n[2]);
}

static void on_not_member(struct host *host, struct parcel *parcel)
{
    uint64_t n[2];
    struct slice raw;
    struct group *group = group_find(host, parcel->group);
    int error = numbers_unpack(parcel, n, 2, &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "a dismissal", error);
    } else if (group != NULL && raft_id_equal(group->self, (struct raft_id){n[0], n[1]})) {
        group->not_member = true;
        group_check_end(group);
    }
}

static void on_member(struct host *host, struct parcel *parcel)
{
    uint64_t n[2];
    struct slice raw;
    struct group *group = group_find(host, parcel->group);
    int error = numbers_unpack(parcel, n, 2, &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "a member's question", error);
    } else if (group != NULL) {
        group_tell_not_member(group, (struct raft_id){n[0], n[1]}, parcel->from_node);
    }
}

static void on_not_here(struct host *host, struct parcel *parcel)
{
    uint64_t n[4];
    struct slice raw;
    int error = numbers_unpack(parcel, n, 4, &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "an answer to a client", error);
        return;
    }
    client_on_not_here(host, parcel->group, n[0], (uint32_t)n[1], (struct uid){n[2], n[3]});
}

static void on_resumed(struct host *host, struct parcel *parcel)
{
    struct resumed_body body;
    int error = resumed_unpack(parcel, &body);
    if (error != 0) {
        parcel_refused(host, parcel, "an answer to a client's return", error);
        return;
    }
    client_on_resumed(host, parcel->from_node, parcel->from_shard, &body);
    vec_deinit(&body.refused);
}

/* One that is of a newer version says nothing here. */
static void catalog_dispatch(struct host *host, struct parcel *parcel)
{
    struct group *group = group_find(host, HOST_CATALOG_GROUP);
    switch (parcel->kind) {
    case PARCEL_PROPOSE:
        if (group != NULL) {
            catalog_on_propose(group, parcel);
        }
        return;
    case PARCEL_PROPOSED:
        catalog_on_proposed(host, parcel);
        return;
    case PARCEL_CATALOG_ASK:
        catalog_on_ask(host, parcel);
        return;
    case PARCEL_CATALOG_TOLD:
        catalog_on_told(host, parcel);
        return;
    case PARCEL_VIEW_ASK:
    case PARCEL_VIEW_AT:
        spread_on_parcel(host, parcel);
        return;
    default:
        return;
    }
}

void host_dispatch(struct host *host, struct parcel *parcel)
{
    struct group *group;
    switch (parcel->kind) {
    case PARCEL_OPS:
    case PARCEL_RESUME:
        home_on_parcel(host, parcel);
        return;
    case PARCEL_RAFT:
        group = group_find(host, parcel->group);
        if (group == NULL || !group->durable) {
            host_hold(host, parcel);
            return;
        }
        group_on_message(group, parcel);
        break;
    case PARCEL_EFFECTS:
        on_effects(host, parcel);
        break;
    case PARCEL_RESUMED:
        on_resumed(host, parcel);
        break;
    case PARCEL_NOT_HERE:
        on_not_here(host, parcel);
        break;
    case PARCEL_LEADER:
        on_leader(host, parcel);
        break;
    case PARCEL_REPORT:
        report_on_request(host, parcel);
        break;
    case PARCEL_REPORTED:
        report_on_answer(host, parcel);
        break;
    case PARCEL_NOT_MEMBER:
        on_not_member(host, parcel);
        break;
    case PARCEL_MEMBER:
        on_member(host, parcel);
        break;
    case PARCEL_HASH:
    case PARCEL_QUARANTINE:
    case PARCEL_QUARANTINED:
    case PARCEL_COMPARE:
        compare_on_parcel(host, parcel);
        break;
    case PARCEL_LETTER:
        letter_on_parcel(host, parcel);
        break;
    default:
        catalog_dispatch(host, parcel);
        break;
    }
    parcel_free(parcel);
}
