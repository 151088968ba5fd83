/*
 * What: the host of a shard: its life, its view of the catalog and its turn.
 * Happy path of a turn: parcels that came (host_inbox.c) -> timers -> ops of clients -> groups
 * (apply, propose) -> homes that wait for bytes -> catalog upcalls -> again while that made new
 * work (bounded) -> one log batch -> parcels of effects. Invariants I1  No sink is called outside
 * host_turn. I2  Everything found by id may have ended: look-ups tell. Ownership: see
 * host_internal.h. Threads: the shard that owns the host.
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "warren/route.h"

#define ROUNDS_MAX 8u /* of one turn; then other sources of events come first */

static void on_pump(struct timer *timer);

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

void host_log(struct host *host, const struct log_item *item, bool lazy)
{
    if (host->batch == NULL) {
        host->batch = log_batch_new();
        host->batch->lazy = true;
    }
    host->batch->lazy = host->batch->lazy && lazy;
    log_batch_add(host->batch, item);
}

/* --- views ------------------------------------------------------------------------------------ */

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
    host_readmit_held(host);
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

/* --- turn ------------------------------------------------------------------------------------- */

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
        host_dispatch(host, parcel);
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
        batch->lazy = batch->lazy && !host->hurry;
        log_submit(host->env, batch); /* one that is not lazy takes all before it along */
    } else if (host->hurry) {
        log_hurry(host->env);
    }
    host->hurry = false;
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
