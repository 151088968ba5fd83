/*
 * What: the host of a shard: its life, its inbox and its turn.
 * Happy path of a turn: parcels that came -> timers -> ops of clients -> groups (apply, propose) ->
 * homes that wait for bytes -> catalog upcalls -> again while that made new work (bounded) -> one
 * log batch -> parcels of effects. Failure modes: a log batch that came back with an error ends the
 * node (a failed sync proves nothing). Invariants I1  No sink is called outside host_turn. I2
 * Everything found by id may have ended: look-ups tell. Ownership: see replica_internal.h. Threads:
 * the shard that owns the host.
 */
#include "replica_internal.h"
#include "warren/route.h"

#include <stdio.h>

#define ROUNDS_MAX 8u /* of one turn; then other sources of events come first */

static void on_held(struct timer *timer);
static void on_pump(struct timer *timer);
static void on_kv_drops(struct timer *timer);

struct host *host_new(struct env *env, const struct host_options *options)
{
    struct host *host = wr_calloc(1, sizeof *host);
    host->env = env;
    host->options = *options;
    if (host->options.client_bytes_max == 0) {
        host->options.client_bytes_max = CLIENT_BYTES_ALL;
    }
    host->logger = options->logger;
    prng_init(&host->prng, options->seed);
    host->hash = (struct hash_seed){prng_u64(&host->prng), prng_u64(&host->prng)};
    host->now_ms = env->ops->mono_ns(env) / 1000000;
    timers_init(&host->timers, host->now_ms);
    umap_init(&host->groups, host->hash);
    umap_init(&host->locals, host->hash);
    umap_init(&host->clients, host->hash);
    umap_init(&host->queues, host->hash);
    umap_init(&host->ended, host->hash);
    umap_init(&host->kv_requests, host->hash);
    umap_init(&host->purges, host->hash);
    umap_init(&host->catalog_requests, host->hash);
    list_init(&host->catalog_proposals);
    umap_init(&host->reports, host->hash);
    list_init(&host->dirty_groups);
    list_init(&host->dirty_homes);
    list_init(&host->dirty_clients);
    list_init(&host->fetches);
    list_init(&host->log_jobs);
    timer_init(&host->held_timer);
    timer_init(&host->pump_timer);
    timer_init(&host->drop_timer);
    timer_init(&host->checkpoint_timer);
    timer_init(&host->postponed_timer);
    if (options->shard == 0) {
        host->catalog = catalog_new(&route_index_ops, NULL, NULL);
    }
    return host;
}

static void free_groups(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        group_free(it.value);
    }
    it = umap_iterate(&host->locals);
    while (umap_next(&it)) {
        home_free(it.value);
    }
}

void host_free(struct host *host)
{
    if (host == NULL) {
        return;
    }
    clients_free(host);
    reports_free(host);
    catalog_requests_free(host);
    fetches_free(host);
    checkpoint_free(host);
    recover_free(host);
    purges_free(host);
    free_groups(host);
    struct umap_iter it = umap_iterate(&host->kv_requests);
    while (umap_next(&it)) {
        wr_free(it.value);
    }
    for (size_t i = 0; i < host->inbox.count; i++) {
        parcel_free(host->inbox.items[i]);
    }
    for (size_t i = 0; i < host->held.count; i++) {
        parcel_free(host->held.items[i].parcel);
    }
    effects_drop(host);
    if (host->batch != NULL) {
        log_batch_free(host->batch);
    }
    catalog_free(host->catalog);
    catalog_view_unref(host->view);
    timers_deinit(&host->timers);
    umap_deinit(&host->groups);
    umap_deinit(&host->locals);
    umap_deinit(&host->clients);
    umap_deinit(&host->queues);
    ended_free(host);
    vec_deinit(&host->unnamed);
    umap_deinit(&host->kv_requests);
    umap_deinit(&host->catalog_requests);
    umap_deinit(&host->reports);
    vec_deinit(&host->nodes);
    vec_deinit(&host->inbox);
    vec_deinit(&host->held);
    vec_deinit(&host->dests);
    vec_deinit(&host->ops_dests);
    vec_deinit(&host->wanted_members);
    vec_deinit(&host->configs_due);
    wr_free(host);
}

void host_set_sink(struct host *host, const struct host_sink *sink)
{
    host->sink = *sink;
}

void host_mark_now(struct host *host)
{
    host->marked = true;
}

void host_log(struct host *host, const struct log_item *item)
{
    if (host->batch == NULL) {
        host->batch = log_batch_new();
    }
    log_batch_add(host->batch, item);
}

/* --- views ----------------------------------------------------------------------------------- */

static bool is_lost(const struct host *host, const struct catalog_queue *queue)
{
    if (queue->spec.run != CATALOG_RUN_LOCAL) {
        return false;
    }
    const struct catalog_node *node = catalog_node(host->view, queue->spec.local.node);
    return node == NULL || node->boot != queue->spec.local.boot;
}

static void on_queue_diff(void *ctx, const struct catalog_queue *before,
                          const struct catalog_queue *after)
{
    struct host *host = ctx;
    local_view_changed(host, before, after);
    queue_group_view(host, before, after);
    if (after == NULL) {
        client_queue_gone(host, before->id, is_lost(host, before));
    }
}

static void on_node_diff(void *ctx, const struct catalog_node *before,
                         const struct catalog_node *after)
{
    struct host *host = ctx;
    (void)before;
    (void)after;
    host->boots_changed = true;
}

static void readmit_held(struct host *host)
{
    for (size_t i = 0; i < host->held.count; i++) {
        vec_push(&host->inbox, host->held.items[i].parcel);
    }
    vec_clear(&host->held);
}

void host_set_view(struct host *host, struct catalog_view *view)
{
    struct catalog_view *before = host->view;
    if (before == view) {
        return;
    }
    host->view = catalog_view_ref(view);
    catalog_diff_nodes(before, view, on_node_diff, host);
    catalog_diff_queues(before, view, on_queue_diff, host);
    queue_groups_unnamed(host, before == NULL);
    catalog_view_unref(before);
    readmit_held(host);
    host_mark_now(host);
}

static void on_boot_scan(void *ctx, const struct catalog_queue *before,
                         const struct catalog_queue *after)
{
    local_view_changed(ctx, before, after);
    group_booted(ctx, after);
}

void host_set_boot(struct host *host, uint32_t boot)
{
    host->clients_outlived = host->clients_outlived || (host->boot != 0 && host->boot != boot);
    host->boot = boot;
    if (host->view != NULL) {
        catalog_diff_queues(NULL, host->view, on_boot_scan, host);
    }
    host->boots_changed = true;
    host_mark_now(host);
}

/* --- parcels --------------------------------------------------------------------------------- */

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

void host_on_parcel(struct host *host, struct parcel *owned)
{
    vec_push(&host->inbox, owned);
}

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

static void dispatch(struct host *host, struct parcel *parcel)
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
    case PARCEL_PROPOSE:
        group = group_find(host, HOST_CATALOG_GROUP);
        if (group != NULL) {
            catalog_on_propose(group, parcel);
        }
        break;
    case PARCEL_CATALOG_ASK:
        catalog_on_ask(host, parcel);
        break;
    case PARCEL_CATALOG_TOLD:
        catalog_on_told(host, parcel);
        break;
    case PARCEL_PROPOSED:
        catalog_on_proposed(host, parcel);
        break;
    default:
        break; /* of a newer version */
    }
    parcel_free(parcel);
}

/* --- completions ----------------------------------------------------------------------------- */

static void group_ended(struct group *group)
{
    struct host *host = group->host;
    uint64_t id = group->id;
    const struct raft_id member = group->self;
    group_free(group);
    purge_begin(host, id);
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, id) : NULL;
    if (record != NULL) {
        replica_ended(host, id, member);
        queue_group_view(host, NULL, record); /* named again meanwhile: a new replica begins */
    } else {
        purge_forget(host, id); /* ids are not used again */
    }
}

static void first_start(struct group *group)
{
    struct raft_member members[RAFT_MEMBERS_MAX];
    struct raft_snapshot_meta meta = {0};
    const struct raft_hard_state hard = {0};
    struct raft_update update;
    int rc = raft_membership_decode(group->bootstrap, group->bootstrap_size, members,
                                    &meta.membership.count);
    WR_ASSERT(rc == 0);
    meta.membership.members = members;
    group_start(group, &hard, &meta);
    rc = raft_start(group->raft, group->host->now_ms, &update);
    WR_ASSERT(rc == 0);
    group_started(group, &update);
    group_step(group, &(struct raft_event){.type = RAFT_EVENT_TICK});
    readmit_held(group->host);
}

static void on_meta_item(struct group *group, const struct log_item *item)
{
    WR_ASSERT(group->meta_pending > 0);
    group->meta_pending--;
    uint32_t *place = item->kind == LOG_GROUP        ? &group->segment_group
                      : item->kind == LOG_HARD_STATE ? &group->segment_hard
                                                     : &group->segment_checkpoint;
    *place = item->position.segment;
    if (item->kind == LOG_GROUP && (item->flags & GROUP_QUARANTINED) != 0) {
        compare_on_durable(group);
    }
    if (item->kind == LOG_GROUP && !group->durable) {
        group->durable = true;
        if (!group->ended) {
            first_start(group);
            group_check_end(group); /* a view that does not name it may have come meanwhile */
        }
    } else if (item->kind == LOG_HARD_STATE && item->generation != 0) {
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_HARD_STATE_PERSISTED,
                                               .u.hard_state_generation = item->generation});
    } else if (item->kind == LOG_CHECKPOINT) {
        checkpoint_on_item(group, item);
    }
}

static void tell_persisted(struct group *group, const struct log_item *last)
{
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
    event.u.persisted.term.v = last->term;
    event.u.persisted.index = last->index;
    event.u.persisted.generation = last->generation;
    group_step(group, &event);
}

static void on_batch(struct host *host, struct log_batch *batch)
{
    if (batch->result != 0) {
        char why[200];
        snprintf(why, sizeof why, "the log cannot be written: %s", wr_err_text(batch->result));
        host->env->ops->stop(host->env, 1, why);
        log_batch_free(batch);
        return;
    }
    struct group *group = NULL;
    const struct log_item *last = NULL; /* of this group's entries, not told yet */
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct log_item *item = &batch->items[i];
        bool same =
            group != NULL && group->id == item->group && (uint32_t)group->incarnation == item->pad2;
        if (last != NULL && (!same || item->kind != LOG_ENTRY)) {
            tell_persisted(group, last);
            last = NULL;
        }
        if (!same) {
            group = group_find(host, item->group);
            if (group != NULL && (uint32_t)group->incarnation != item->pad2) {
                group = NULL;
            }
        }
        if (group == NULL) {
            continue;
        }
        switch (item->kind) {
        case LOG_ENTRY:
            if (item->generation == RELOG_GENERATION) {
                checkpoint_on_item(group, item);
                break;
            }
            log_index_put(group->index, item->index,
                          &(struct log_location){item->position, item->payload.size, item->term,
                                                 item->flags});
            last = item;
            break;
        case LOG_TRUNCATE:
            log_index_truncate(group->index, item->index);
            break;
        case LOG_GROUP_END:
            group_ended(group);
            group = NULL;
            break;
        default:
            on_meta_item(group, item);
            break;
        }
    }
    if (last != NULL) {
        tell_persisted(group, last);
    }
    log_batch_free(batch);
}

static void on_log_state(struct host *host, const struct log_state_mail *state)
{
    bool trouble = state->blocked || state->low;
    if (host->options.shard == 0 && state->blocked && !host->log_blocked) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "disk",
               "nothing can be written: %s; everything that must be durable waits", state->why);
    } else if (host->options.shard == 0 && trouble && !host->log_blocked && !host->disk_low) {
        wr_log(host->logger, LOG_LEVEL_WARNING, "disk",
               "disk alarm: %s; publishers on all nodes are held back until there is more: make "
               "room, let "
               "consumers catch up, or lower disk_free_limit",
               state->why);
    } else if (host->options.shard == 0 && !trouble && (host->log_blocked || host->disk_low)) {
        wr_log(host->logger, LOG_LEVEL_INFO, "disk",
               "disk alarm cleared: there is enough free space again");
    }
    host->log_blocked = state->blocked;
    host->disk_low = trouble;
    snprintf(host->log_why, sizeof host->log_why, "%s", trouble ? state->why : "");
    host_mark_now(host);
}

bool host_disk_is_low(const struct host *host)
{
    return host->disk_low;
}

bool host_on_mail(struct host *host, struct mail *owned)
{
    host_refresh(host);
    if (owned->kind == LOG_MAIL_DONE) {
        on_batch(host, WR_CONTAINER_OF(owned, struct log_batch, mail));
    } else if (owned->kind == LOG_MAIL_RETIRE) {
        const struct log_retire_mail retire = *WR_CONTAINER_OF(owned, struct log_retire_mail, mail);
        owned->destroy(owned);
        if (retire.cheaply) {
            checkpoint_retire_cheaply(host, retire.segment, retire.bytes);
        } else {
            checkpoint_retire(host, retire.segment, retire.bytes);
        }
    } else if (owned->kind == LOG_MAIL_STATE) {
        on_log_state(host, WR_CONTAINER_OF(owned, struct log_state_mail, mail));
        owned->destroy(owned);
    } else {
        return false;
    }
    return true;
}

bool host_on_file(struct host *host, uint64_t token, int64_t result)
{
    host_refresh(host);
    return log_reader_on_file(host->options.reader, token, result);
}

bool host_on_kv(struct host *host, uint64_t token, int result, void *owned_reply)
{
    if (token < HOST_KV_TOKEN_BASE || token >= LOG_READER_TOKEN_BASE) {
        return false;
    }
    host_refresh(host);
    struct kv_request *request = umap_remove(&host->kv_requests, token);
    WR_ASSERT(request != NULL);
    if (request->done != NULL) {
        request->done(host, request, result, owned_reply);
    }
    kv_reply_free(owned_reply);
    wr_free(request);
    return true;
}

/* --- kv -------------------------------------------------------------------------------------- */

struct kv_request *kv_request_new(struct host *host)
{
    struct kv_request *request = wr_calloc(1, sizeof *request);
    request->token = HOST_KV_TOKEN_BASE + ++host->kv_token;
    umap_put(&host->kv_requests, request->token, request);
    return request;
}

static bool drop_keys(struct home *home, bool all)
{
    struct store *store = &home->store;
    if (store->kv_drops.count == 0 || (!all && store->kv_drops.count < 256)) {
        return false;
    }
    struct host *host = home->host;
    uint32_t count = (uint32_t)store->kv_drops.count;
    struct kv_op *ops = wr_calloc(count, sizeof *ops);
    for (uint32_t i = 0; i < count; i++) {
        const struct position_range *r = &store->kv_drops.items[i];
        ops[i].kind = KV_DELETE_RANGE;
        ops[i].key = checkpoint_message_key(home->id, r->position);
        ops[i].value = checkpoint_message_key(home->id, r->position + r->count);
    }
    vec_clear(&store->kv_drops);
    host->env->ops->kv_write(host->env, ops, count, kv_request_new(host)->token);
    return true;
}

/* Keys of dropped messages go lazily: deleting too late only costs space. */
static void on_kv_drops(struct timer *timer)
{
    struct host *host = WR_CONTAINER_OF(timer, struct host, drop_timer);
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (group->home != NULL && !group->installing) {
            (void)drop_keys(group->home, true);
        }
    }
}

void host_want_kv_drops(struct host *host)
{
    if (!timer_is_pending(&host->drop_timer)) {
        timer_add(&host->timers, &host->drop_timer, host->now_ms + 1000, on_kv_drops);
    }
}

/* --- turn ------------------------------------------------------------------------------------ */

static void on_pump(struct timer *timer)
{
    struct host *host = WR_CONTAINER_OF(timer, struct host, pump_timer);
    host->backlogged = false;
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (group->home != NULL && group->home->blocked_routes > 0) {
            home_mark(group->home);
        }
    }
    it = umap_iterate(&host->locals);
    while (umap_next(&it)) {
        struct home *home = it.value;
        if (home->blocked_routes > 0) {
            home_mark(home);
        }
    }
}

void host_refresh(struct host *host)
{
    uint64_t now = host->env->ops->mono_ns(host->env) / 1000000;
    host->now_ms = now > host->now_ms ? now : host->now_ms;
    host_mark_now(host);
}

static void read_inbox(struct host *host)
{
    /* What is put in meanwhile is read too: answers to oneself. */
    for (size_t i = 0; i < host->inbox.count; i++) {
        struct parcel *parcel = host->inbox.items[i];
        host->inbox.items[i] = NULL;
        dispatch(host, parcel);
    }
    vec_clear(&host->inbox);
}

static void work_groups(struct host *host)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &host->dirty_groups);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        group_work(WR_CONTAINER_OF(link, struct group, dirty));
    }
}

static void work_homes(struct host *host)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &host->dirty_homes);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        home_pump(WR_CONTAINER_OF(link, struct home, dirty));
    }
}

static bool has_work(const struct host *host)
{
    return host->inbox.count > 0 || !list_is_empty(&host->dirty_groups) ||
           !list_is_empty(&host->dirty_homes) || !list_is_empty(&host->dirty_clients) ||
           host->boots_changed || host->catalog_changed || host->clients_outlived;
}

static void round_of(struct host *host)
{
    read_inbox(host);
    if (host->boots_changed) {
        host->boots_changed = false;
        host_check_boots(host);
    }
    if (host->clients_outlived) {
        host->clients_outlived = false;
        clients_end_outlived(host);
    }
    client_turn(host);
    report_turn(host);
    work_groups(host);
    work_homes(host);
    checkpoint_work(host);
    catalog_turn(host);
}

void host_turn(struct host *host)
{
    WR_ASSERT(!host->in_turn);
    host->in_turn = true;
    host_refresh(host);
    host->marked = false;
    timers_run(&host->timers, host->now_ms);
    configs_turn(host);
    uint32_t rounds = 0;
    do {
        round_of(host);
    } while (++rounds < ROUNDS_MAX && has_work(host));
    if (host->batch != NULL) {
        struct log_batch *batch = host->batch;
        host->batch = NULL;
        log_submit(host->env, batch);
    }
    effects_flush(host);
    if (host->backlogged && !timer_is_pending(&host->pump_timer)) {
        timer_add(&host->timers, &host->pump_timer, host->now_ms + 5, on_pump);
    }
    host->in_turn = false;
}

uint64_t host_deadline_ns(const struct host *host)
{
    if (host->marked || has_work(host)) {
        return 0;
    }
    uint64_t deadline = timers_next_deadline(&host->timers);
    return deadline == TIMER_NO_DEADLINE ? UINT64_MAX : deadline * 1000000;
}

/* --- status ---------------------------------------------------------------------------------- */

static void explain(const struct host *host, const struct group *group, struct group_status *status)
{
    if (group->failed[0] != 0) {
        snprintf(status->why, sizeof status->why, "%s", group->failed);
    } else if (group->ended) {
        snprintf(status->why, sizeof status->why, "this replica is being removed");
    } else if (group->quarantined[0] != 0) {
        snprintf(status->why, sizeof status->why, "%.*s", (int)sizeof status->why - 1,
                 group->quarantined);
    } else if (host->log_blocked) {
        snprintf(status->why, sizeof status->why, "%.*s", (int)sizeof status->why - 1,
                 host->log_why);
    } else if (group->raft == NULL) {
        snprintf(status->why, sizeof status->why, "its creation is being written");
    } else if (uid_is_zero(status->leader_node)) {
        uint32_t away = status->voters - status->voters_up;
        if (status->voters == 0) {
            snprintf(status->why, sizeof status->why,
                     "waiting for the leader to contact this new member");
        } else if (status->voters_up <= status->voters / 2) {
            snprintf(status->why, sizeof status->why,
                     "no leader because %u of %u members are unreachable", away, status->voters);
        } else {
            snprintf(status->why, sizeof status->why, "no leader: an election is under way");
        }
    } else if (status->leading && !group->serving) {
        snprintf(status->why, sizeof status->why, "the new leader is catching up");
    }
}

static void fill_status(const struct host *host, const struct group *group,
                        struct group_status *ret)
{
    *ret = (struct group_status){.group = group->id, .exists = true};
    if (group->raft != NULL) {
        ret->term = raft_term(group->raft).v;
        ret->commit = raft_commit_index(group->raft);
        ret->applied = group->applied;
        ret->last = raft_last_index(group->raft);
        ret->leading = raft_role(group->raft) == RAFT_LEADER;
        ret->is_voter = raft_is_voter(group->raft);
        (void)group_node_of(group, raft_leader(group->raft), &ret->leader_node);
        (void)group_has_quorum_of_nodes(group, &ret->voters, &ret->voters_up);
    }
    explain(host, group, ret);
}

bool host_group_status(const struct host *host, uint64_t id, struct group_status *ret_status)
{
    const struct group *group = umap_get(&host->groups, id);
    if (group == NULL) {
        return false;
    }
    fill_status(host, group, ret_status);
    return true;
}

void host_each_group(const struct host *host,
                     void (*fn)(void *ctx, const struct group_status *status), void *ctx)
{
    struct umap_iter it = umap_iterate((struct umap *)(uintptr_t)&host->groups);
    while (umap_next(&it)) {
        struct group_status status;
        fill_status(host, it.value, &status);
        fn(ctx, &status);
    }
}

void host_transfer_leaders_away(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (group->raft != NULL && raft_role(group->raft) == RAFT_LEADER &&
            raft_progress_count(group->raft) > 0) {
            group_step(group, &(struct raft_event){.type = RAFT_EVENT_TRANSFER});
        }
    }
    host_mark_now(host);
}
