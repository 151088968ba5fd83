/*
 * What: a home: where one queue is served. Applying batches, keeping the bytes, routes of clients,
 * requests of clients. Happy path: home_on_ops -> (local) home_apply / (group) an entry, later
 * home_apply -> effects.c. Failure modes: a client that is not known here is told so and resumes; a
 * request to a home that is not serving is held by its group until it is, or answered NOT_HERE with
 * a hint. Invariants I1  Effects reach a client only through its route, and a route exists only
 * while the home serves. I2  Items of a session are numbered without gaps: a client notices every
 * loss. Ownership: the host (local homes) or the group owns the home; the home owns its routes,
 * queue and store. Threads: the host's shard. Spec: docs/replica.md, "Clients".
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"
#include "report_head.h"
#include "store.h"

struct home *home_new(struct host *host, uint64_t id, struct queue *owned_queue,
                      struct group *group)
{
    struct home *home = wr_calloc(1, sizeof *home);
    home->host = host;
    home->id = id;
    home->incarnation = ++host->incarnations;
    home->queue = owned_queue;
    home->group = group;
    home->serving = group == NULL;
    store_init(&home->store, group == NULL, &host->store_bytes, host->hash);
    umap_init(&home->routes, host->hash);
    list_init(&home->routes_list);
    list_init(&home->dirty);
    timer_init(&home->expire);
    timer_init(&home->dead_again);
    return home;
}

static void route_free(struct home *home, struct route *route)
{
    if (route->blocked) {
        home->blocked_routes--;
    }
    if (home->last_route == route) {
        home->last_route = NULL;
    }
    home->remote_routes -= route->remote;
    list_remove(&route->link);
    vec_deinit(&route->waiting);
    wr_free(route);
}

void home_stop_serving(struct home *home)
{
    for (struct list *link; (link = list_first(&home->routes_list)) != NULL;) {
        struct route *route = WR_CONTAINER_OF(link, struct route, link);
        umap_remove(&home->routes, route->client);
        route_free(home, route);
    }
    WR_ASSERT(home->blocked_routes == 0 && home->remote_routes == 0);
    home_drops_flush(home);
    home->serving = false;
    home->unused_told = false;
    vec_clear(&home->untold);
    home->pacing = (struct pacing){0};
    home_upkeep_end(home);
}

void home_free(struct home *home)
{
    if (home == NULL) {
        return;
    }
    home_stop_serving(home);
    relay_drop(home);
    vec_deinit(&home->relay);
    umap_deinit(&home->routes);
    list_remove(&home->dirty);
    store_deinit(&home->store);
    queue_free(home->queue);
    heads_free(home);
    vec_deinit(&home->untold);
    vec_deinit(&home->effects);
    rangemap_deinit(&home->held_drops);
    vec_deinit(&home->behind);
    wr_free(home);
}

struct home *home_find(struct host *host, uint64_t id)
{
    struct home *home = umap_get(&host->locals, id);
    if (home != NULL) {
        return home;
    }
    struct group *group = group_find(host, id);
    return group != NULL ? group->home : NULL;
}

void home_mark(struct home *home)
{
    if (list_is_empty(&home->dirty)) {
        list_push_back(&home->host->dirty_homes, &home->dirty);
    }
}

/* --- routes ---------------------------------------------------------------------------------- */

struct route *route_open(struct home *home, uint64_t client, struct uid node, uint32_t shard,
                         uint32_t session)
{
    if (home->group != NULL) {
        group_hurry(home->group);
    }
    bool fresh;
    void **place = umap_entry(&home->routes, client, &fresh);
    struct route *route = *place;
    if (fresh) {
        route = wr_calloc(1, sizeof *route);
        route->client = client;
        list_push_back(&home->routes_list, &route->link);
        *place = route;
    }
    if (route->blocked) {
        route->blocked = false;
        home->blocked_routes--;
    }
    vec_clear(&route->waiting);
    route->waiting_first = 0;
    home->remote_routes -= route->remote;
    route->node = node;
    route->remote = !host_is_self(home->host, node);
    home->remote_routes += route->remote;
    route->shard = shard;
    route->session = session;
    route->number = 0;
    route->pace = 0;
    route->via = false;
    for (size_t i = 0;
         home->group != NULL && i < home->group->peers.count && !host_is_self(home->host, node);
         i++) {
        route->via = route->via || (uid_eq(home->group->peers.items[i].node, node) &&
                                    !compare_is_divergent(home->group, node));
    }
    return route;
}

void route_close(struct home *home, uint64_t client)
{
    struct route *route = umap_remove(&home->routes, client);
    if (route != NULL) {
        route_free(home, route);
    }
}

/* --- applying -------------------------------------------------------------------------------- */

/* Which enqueue of the entry this op is: the ops are looked at once each, in order. */
static uint32_t enqueue_number(struct home *home, const struct queue_op *op)
{
    while (home->count_from < op) {
        if (home->count_from->kind == QUEUE_OP_ENQUEUE) {
            home->enqueues++;
        }
        home->count_from++;
    }
    return home->enqueues;
}

static void on_store(void *ctx, uint64_t position, const struct message *message)
{
    struct home *home = ctx;
    if (home->applying != NULL) {
        /* The op is ours: its reference moves into the store. pad marks it as taken. */
        struct queue_op *op =
            WR_CONTAINER_OF((struct message *)(uintptr_t)message, struct queue_op, message);
        WR_ASSERT_SLOW(op >= home->applying);
        op->pad = 1;
        store_add(&home->store, position, message->record);
        return;
    }
    if (home->group != NULL) {
        const struct queue_op *op = WR_CONTAINER_OF_CONST(message, struct queue_op, message);
        store_note_where(&home->store, position, home->entry_index, enqueue_number(home, op));
    }
    store_add(&home->store, position, slice_ref(&message->record));
}

static void on_effect(void *ctx, const struct queue_effect *effect)
{
    struct home *home = ctx;
    vec_push(&home->effects, *effect);
}

void home_apply(struct home *home, uint64_t time_ms, const struct queue_batch *batch,
                uint64_t index, bool moves)
{
    const struct queue_store_ops store = {on_store, home};
    const struct queue_sink sink = {on_effect, home};
    if (home->entry_index != index) {
        home->entry_index = index;
        home->enqueues = 0;
    }
    home->count_from = batch->ops;
    home->applying = moves ? (struct queue_op *)(uintptr_t)batch->ops : NULL;
    queue_apply(home->queue, time_ms, batch, &store, &sink);
    home->applying = NULL;
    if (home->group != NULL) {
        (void)enqueue_number(home, batch->ops + batch->count);
    }
    home->count_from = NULL;
    pace_applied(home, batch);
    home_heard_time(home, time_ms);
    if (batch->client == 0) {
        home_upkeep_applied(home, batch);
    }
    home_carry_out(home);
    if (batch->client != 0 && batch->count > 0 &&
        batch->ops[batch->count - 1].kind == QUEUE_OP_CLOSE) {
        route_close(home, batch->client);
    }
    if (batch->client == 0 && home->group != NULL) {
        home_check_boots(home); /* the node may have come back while its NODE_DOWN was on its way */
    }
}

void home_drops_flush(struct home *home)
{
    if (home->blocked_routes > 0) {
        return;
    }
    for (struct range_run run; rangemap_pop_front(&home->held_drops, UINT64_MAX, &run);) {
        store_drop(&home->store, run.first, run.count);
    }
    struct queue_totals totals;
    if (home->store.behind || home->store.where.count - home->store.where_first > 256) {
        queue_totals(home->queue, &totals);
        store_trim_where(&home->store, totals.lowest_position);
        if (totals.lowest_position >= totals.next_position) {
            home->store.behind = false;
        }
    }
}

/* What waits for the log is put aside. */
static void keep_behind(struct home *home)
{
    size_t kept = 0;
    for (size_t i = 0; i < home->effects.count; i++) {
        if (ahead_takes_effect(home, &home->effects.items[i])) {
            home->effects.items[kept++] = home->effects.items[i];
        }
    }
    home->effects.count = kept;
}

/* Carries out what the machine said, in order (effects.c delivers). */
void home_carry_out(struct home *home)
{
    size_t step = 1;
    if (WR_UNLIKELY(home->ahead)) {
        keep_behind(home);
    }
    for (size_t i = 0; i < home->effects.count; i += step) {
        const struct queue_effect effect = home->effects.items[i];
        step = 1;
        if (effect.kind == QUEUE_EFFECT_DROP) {
            /* A delivery that settles itself comes before its DROP: the bytes stay while any
             * delivery waits for bytes. */
            if (home->blocked_routes > 0) {
                rangemap_insert(&home->held_drops, effect.position, effect.count,
                                &(struct range_attr){.value = effect.position});
            } else {
                store_drop(&home->store, effect.position, effect.count);
            }
            continue;
        }
        if (!home->serving) {
            continue;
        }
        if (effect.kind == QUEUE_EFFECT_UNUSED) {
            if (!home->unused_told && home->host->sink.on_queue_unused != NULL) {
                home->unused_told = true;
                home->host->sink.on_queue_unused(home->host->sink.ctx, home->id);
            }
            continue;
        }
        if (effect.kind == QUEUE_EFFECT_DEAD) {
            home_tell_dead(home);
            continue;
        }
        struct route *route = home->last_route;
        if (route == NULL || route->client != effect.client) {
            route = umap_get(&home->routes, effect.client);
            home->last_route = route;
        }
        if (route == NULL) {
            continue;
        }
        const size_t left = home->effects.count - i;
        if (left > 1 && home->effects.items[i + 1].kind == QUEUE_EFFECT_DELIVER) {
            step = route_deliver_apart(home, route, &home->effects.items[i], left);
        }
        if (step < 2) {
            route_effect(home, route, &effect);
            step = 1;
        }
    }
    vec_clear(&home->effects);
    if (home->store.behind || home->store.where.count - home->store.where_first > 1024) {
        home_drops_flush(home);
    }
    if (home->store.kv_drops.count > 0) {
        host_want_kv_drops(home->host);
    }
    if (home->serving) {
        home_arm_expire(home);
    }
}

void home_host_op(struct home *home, const struct queue_op *op)
{
    const struct queue_batch batch = {.client = 0, .count = 1, .ops = op};
    if (home->group != NULL) {
        group_append_batch(home->group, &batch);
    } else {
        home_apply(home, home_time(home), &batch, 0, false);
    }
}

/* --- requests of clients --------------------------------------------------------------------- */

static void answer_not_here(struct host *host, uint64_t queue, struct uid node, uint32_t shard,
                            uint64_t client, uint32_t session, struct uid hint)
{
    if (host_is_self(host, node) && shard == host->options.shard) {
        client_on_not_here(host, queue, client, session, hint);
        return;
    }
    struct parcel *parcel = parcel_make(host, PARCEL_NOT_HERE, 1, queue, node, shard);
    const uint64_t numbers[] = {client, session, hint.hi, hint.lo};
    numbers_pack(parcel, numbers, 4, SLICE_NONE);
    parcel_send(host, parcel);
}

/* The sections whose client may go on here; others are told to resume. */
static struct route *admit(struct home *home, struct uid node, uint32_t shard,
                           const struct ops_section *section)
{
    struct route *route = umap_get(&home->routes, section->client);
    if (route != NULL && route->session == section->session && uid_eq(route->node, node) &&
        route->shard == shard) {
        return route;
    }
    if (section->fresh && route == NULL &&
        queue_client_last_seq(home->queue, section->client) == 0) {
        return route_open(home, section->client, node, shard, section->session);
    }
    answer_not_here(home->host, home->id, node, shard, section->client, section->session,
                    home->host->options.node_id);
    return NULL;
}

static bool batches_ok(struct buf *owner, uint32_t begin, uint32_t end, uint64_t client,
                       uint64_t *ret_first, uint64_t *ret_last)
{
    struct queue_batch_reader reader;
    struct queue_batch batch;
    bool ok = true;
    int got = 0;
    *ret_first = UINT64_MAX;
    queue_batch_reader_init(&reader, owner, begin, end);
    while (ok && (got = queue_batch_reader_next(&reader, &batch)) == 1) {
        /* Ops of the host kind are the leader's own. */
        ok = batch.client == client;
        for (uint32_t i = 0; ok && i < batch.count; i++) {
            ok = queue_op_is_of_client(batch.ops[i].kind) && batch.ops[i].seq > 0;
            *ret_first = batch.ops[i].seq < *ret_first ? batch.ops[i].seq : *ret_first;
            *ret_last = batch.ops[i].seq > *ret_last ? batch.ops[i].seq : *ret_last;
        }
    }
    queue_batch_reader_deinit(&reader);
    return ok && got == 0;
}

static void apply_encoded(struct home *home, struct buf *owner, uint32_t begin, uint32_t end)
{
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, owner, begin, end);
    while (queue_batch_reader_next(&reader, &batch) == 1) {
        home_apply(home, home_time(home), &batch, 0, false);
    }
    queue_batch_reader_deinit(&reader);
}

static bool admit_all(struct home *home, struct uid node, uint32_t shard, struct ops_bundle *bundle)
{
    for (size_t i = 0; i < bundle->sections.count; i++) {
        const struct ops_section *s = &bundle->sections.items[i];
        struct route *route = admit(home, node, shard, s);
        if (route == NULL) {
            return false;
        }
        route->received = s->last_seq > route->received ? s->last_seq : route->received;
    }
    return true;
}

static void on_ops_encoded(struct home *home, struct uid node, uint32_t shard,
                           struct ops_bundle *bundle, struct slice raw)
{
    bool own = bundle->encoded != NULL; /* by this node's own hand: not checked again */
    if (own && home->group != NULL && bundle->encoded->size >= 4096 &&
        admit_all(home, node, shard, bundle)) {
        group_take_entry(home->group,
                         bundle->encoded); /* it has room for an entry's header: no copy */
        bundle->encoded = NULL;
        return;
    }
    for (size_t i = 0; i < bundle->sections.count; i++) {
        const struct ops_section *s = &bundle->sections.items[i];
        uint32_t begin = raw.offset + s->begin;
        uint32_t end = raw.offset + s->end;
        uint64_t first = 0;
        uint64_t last = s->last_seq;
        if (!own && !batches_ok(raw.buf, begin, end, s->client, &first, &last)) {
            wr_log(home->host->logger, LOG_LEVEL_ERROR, "queue",
                   "queue %llu: damaged operations of client %llu refused",
                   (unsigned long long)home->id, (unsigned long long)s->client);
            continue;
        }
        struct route *route = admit(home, node, shard, s);
        if (route == NULL) {
            continue;
        }
        if (!own && first != UINT64_MAX && first > route->received + 1) {
            /* Some before these did not come. To note these as received would tell the client that
             * those were: it asks where it stands and sends them again. */
            answer_not_here(home->host, home->id, node, shard, s->client, s->session,
                            home->host->options.node_id);
            continue;
        }
        route->received = last > route->received ? last : route->received;
        if (home->group != NULL) {
            group_append(home->group, bytes_make(raw.buf->data + begin, end - begin));
        } else {
            apply_encoded(home, raw.buf, begin, end);
        }
    }
}

void home_take_ops(struct home *home, struct uid node, uint32_t shard,
                   const struct ops_section *section, struct queue_op *ops, uint32_t count)
{
    struct route *route = admit(home, node, shard, section);
    if (route == NULL || count == 0) {
        return;
    }
    route->received = ops[count - 1].seq;
    const struct queue_batch batch = {section->client, count, ops};
    if (home->group != NULL) {
        group_append_batch(home->group, &batch);
        return;
    }
    home_apply(home, home_time(home), &batch, 0, true);
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].pad == 1) {
            ops[i].message.record = SLICE_NONE;
        }
    }
}

/* Ops handed over as a structure: the messages move into the store. */
static void on_ops_local(struct home *home, struct uid node, uint32_t shard,
                         struct ops_bundle *bundle)
{
    for (size_t i = 0; i < bundle->sections.count; i++) {
        const struct ops_section *s = &bundle->sections.items[i];
        home_take_ops(home, node, shard, s, bundle->ops.items + s->begin, s->end - s->begin);
    }
}

void home_on_ops(struct home *home, struct uid node, uint32_t shard,
                 struct ops_bundle *owned_bundle, struct slice raw)
{
    WR_ASSERT(home->serving);
    if (owned_bundle->encoded != NULL) {
        raw = (struct slice){owned_bundle->encoded, 0, owned_bundle->encoded->size};
    }
    if (raw.buf != NULL) {
        on_ops_encoded(home, node, shard, owned_bundle, raw);
    } else {
        on_ops_local(home, node, shard, owned_bundle);
    }
    ops_bundle_free(owned_bundle);
}

static void answer_resumed(struct home *home, const struct route *route,
                           const struct resumed_body *body)
{
    struct host *host = home->host;
    if (host_is_self(host, route->node) && route->shard == host->options.shard) {
        client_on_resumed(host, host->options.node_id, host->options.shard, body);
        return;
    }
    struct parcel *parcel =
        parcel_make(host, PARCEL_RESUMED, 1, home->id, route->node, route->shard);
    resumed_pack(parcel, body);
    parcel_send(host, parcel);
}

static void note_refused(void *ctx, const struct queue_effect *effect)
{
    struct resumed_body *answer = ctx;
    vec_push(&answer->refused, (struct seq_run){effect->seq, effect->count});
}

/* Where the client stands: said in one piece with what was refused, or it would take that for
 * stored. */
static void tell_resumed(struct home *home, struct route *route, const struct resume_body *body)
{
    struct resumed_body answer = {.client = body->client, .session = body->session};
    const struct queue_sink sink = {note_refused, &answer};
    answer.applied = queue_client_last_seq(home->queue, body->client);
    queue_repeat_nacked(home->queue, body->client, body->applied + 1, &sink);
    route->received = route->received > answer.applied ? route->received : answer.applied;
    answer.received = route->received;
    answer_resumed(home, route, &answer);
    vec_deinit(&answer.refused);
}

static void redeliver_effect(void *ctx, const struct queue_effect *effect)
{
    struct home *home = ctx;
    struct route *route = umap_get(&home->routes, effect->client);
    WR_ASSERT(route != NULL);
    route_effect(home, route, effect);
}

void home_on_resume(struct home *home, struct uid node, uint32_t shard,
                    const struct resume_body *body)
{
    WR_ASSERT(home->serving);
    struct route *old = umap_get(&home->routes, body->client);
    uint64_t received = old != NULL ? old->received : 0;
    if (old != NULL && (int32_t)(body->session - old->session) < 0) {
        return; /* overtaken by a later one, over another link: the client has gone on */
    }
    if (old != NULL && old->session == body->session && old->shard == shard &&
        uid_eq(old->node, node)) {
        /* Asked again, because the answer is slow: it and what follows it are on their way. */
        tell_resumed(home, old, body);
        return;
    }
    struct route *route = route_open(home, body->client, node, shard, body->session);
    route->via = route->via && !body->inlined;
    home_drops_flush(home);
    route->received = received;
    tell_resumed(home, route, body);
    const struct queue_sink sink = {redeliver_effect, home};
    for (size_t i = 0; i < body->consumers.count; i++) {
        queue_redeliver(home->queue, body->client, body->consumers.items[i].consumer,
                        body->consumers.items[i].next, &sink);
    }
}

/* It is served here: clients over there resume. */
void home_announce_to(struct home *home, struct uid node)
{
    struct host *host = home->host;
    struct parcel *parcel =
        parcel_make(host, PARCEL_LEADER, 1, home->id, node, HOST_SHARD_BY_GROUP);
    const uint64_t numbers[] = {host->options.node_id.hi, host->options.node_id.lo,
                                host->options.shard};
    numbers_pack(parcel, numbers, 3, SLICE_NONE);
    parcel_send(host, parcel);
}

/* Tells every section's client where to go instead. */
static void refuse(struct host *host, struct parcel *parcel, struct uid hint)
{
    struct slice raw;
    if (parcel->kind == PARCEL_RESUME) {
        struct resume_body body = {0};
        struct resume_body *local = parcel->local;
        if (local != NULL) {
            answer_not_here(host, parcel->group, parcel->from_node, parcel->from_shard,
                            local->client, local->session, hint);
        } else if (resume_unpack(parcel, &body) == 0) {
            answer_not_here(host, parcel->group, parcel->from_node, parcel->from_shard, body.client,
                            body.session, hint);
            vec_deinit(&body.consumers);
        }
        return;
    }
    struct ops_bundle *bundle = parcel->local;
    bool made = false;
    if (bundle == NULL) {
        if (ops_unpack(parcel, &bundle, &raw) != 0) {
            return;
        }
        made = true;
    }
    for (size_t i = 0; i < bundle->sections.count; i++) {
        answer_not_here(host, parcel->group, parcel->from_node, parcel->from_shard,
                        bundle->sections.items[i].client, bundle->sections.items[i].session, hint);
    }
    if (made) {
        ops_bundle_free(bundle);
    }
}

static void serve(struct home *home, struct parcel *parcel)
{
    if (parcel->kind == PARCEL_OPS) {
        struct ops_bundle *bundle = parcel->local;
        struct slice raw = SLICE_NONE;
        parcel->local = NULL;
        int error = bundle != NULL ? 0 : ops_unpack(parcel, &bundle, &raw);
        if (error != 0) {
            parcel_refused(home->host, parcel, "operations", error);
            return;
        }
        home_on_ops(home, parcel->from_node, parcel->from_shard, bundle, raw);
        return;
    }
    if (parcel->local != NULL) {
        home_on_resume(home, parcel->from_node, parcel->from_shard, parcel->local);
        return;
    }
    struct resume_body body = {0};
    int error = resume_unpack(parcel, &body);
    if (error != 0) {
        parcel_refused(home->host, parcel, "a client's return", error);
        return;
    }
    home_on_resume(home, parcel->from_node, parcel->from_shard, &body);
    vec_deinit(&body.consumers);
}

/* PARCEL_OPS and PARCEL_RESUME. */
void home_on_parcel(struct host *host, struct parcel *owned)
{
    struct home *home = home_find(host, owned->group);
    struct group *group = home == NULL ? group_find(host, owned->group) : home->group;
    if (home != NULL && home->serving && group != NULL && owned->kind == PARCEL_RESUME &&
        !ahead_is_settled(group) && group->waiting.count < HELD_PARCELS_MAX) {
        vec_push(&group->waiting, owned); /* it is told what is applied: that must not be undone */
        return;
    }
    if (home != NULL && home->serving && group != NULL && owned->kind == PARCEL_RESUME &&
        !owned->proven) {
        proof_wait(group, owned);
        return;
    }
    if (home != NULL && home->serving) {
        serve(home, owned);
    } else if (group != NULL && group->raft != NULL && raft_role(group->raft) == RAFT_LEADER &&
               group->waiting.count < HELD_PARCELS_MAX) {
        vec_push(&group->waiting, owned); /* until it serves or leads no more */
        return;
    } else if (group != NULL && group->raft != NULL) {
        struct uid hint = UID_NONE;
        (void)group_node_of(group, raft_leader(group->raft), &hint);
        refuse(host, owned, hint);
    } else if (home == NULL && host->view != NULL &&
               catalog_queue_by_id(host->view, owned->group) == NULL) {
        host_hold(host, owned); /* our view may be behind the sender's */
        return;
    } else {
        refuse(host, owned, UID_NONE);
    }
    parcel_free(owned);
}
