/*
 * What: totals and consumers of a queue, from where it is served, after all ops sent before.
 * Happy path: request parcel -> the home answers once everything proposed so far is applied ->
 * done. Failure modes: nobody serves it, or the answer is lost: asked again (the likely leaders in
 * turn) until the time limit; soon at first, since a queue that was declared just now has its
 * leader in a few milliseconds. Ownership: a request lives until done was called, once.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"
#include "report_head.h"

#include <stdio.h>

#define ASK_FIRST_MS    4u
#define ASK_MAX_MS      200u
#define ASK_SOON_MAX    32u /* of more at a time (a listing) the answers are only slow */
#define REQUEST_NUMBERS 5u  /* request, what, the asker's node (2) and shard */
#define REPORT_NUMBERS  19u /* request, totals, sealed; */
#define HEAD_NUMBERS    2u  /* to who asked for it: is there a timestamp, and which */

struct report {
    struct host *host;
    uint64_t request, queue;
    uint32_t what;
    uint64_t until_ms;
    uint32_t candidate;
    uint32_t pause_ms; /* before it is asked again */
    struct timer timer;
    queue_report_fn done;
    void *ctx;
};

static void finish(struct report *report, struct queue_report *answer)
{
    struct host *host = report->host;
    umap_remove(&host->reports, report->request);
    timer_cancel(&host->timers, &report->timer);
    report->done(report->ctx, report->queue, answer);
    wr_free(report);
}

static void ask(struct report *report);

/* Nobody can serve it as long as nodes that are known to be down stay down. */
static bool is_down(const struct report *report, char *why, size_t size)
{
    const struct host *host = report->host;
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, report->queue) : NULL;
    if (record == NULL) {
        return false;
    }
    if (record->spec.run == CATALOG_RUN_LOCAL) {
        snprintf(why, size, "its node is down");
        return host_reach(host, record->spec.local.node) == NODE_DEAD;
    }
    uint32_t voters = 0;
    uint32_t dead = 0;
    for (uint32_t i = 0; i < record->spec.group.member_count; i++) {
        const struct catalog_member *member = &record->spec.group.members[i];
        voters += !member->learner;
        dead += !member->learner && host_reach(host, member->node) == NODE_DEAD;
    }
    if (voters == 1) {
        snprintf(why, size, "its node is down");
    } else {
        snprintf(why, size, "no leader: %u of its %u members are on nodes that are down", dead,
                 voters);
    }
    return voters > 0 && 2 * (voters - dead) <= voters;
}

static void on_timer(struct timer *timer)
{
    struct report *report = WR_CONTAINER_OF(timer, struct report, timer);
    struct host *host = report->host;
    char why[160];
    bool down = is_down(report, why, sizeof why);
    if (host->now_ms < report->until_ms && !down) {
        ask(report);
        return;
    }
    if (!down) {
        snprintf(why, sizeof why, "its leader does not answer");
    }
    struct group_status status;
    if (host_group_status(host, report->queue, &status) && status.why[0] != 0) {
        snprintf(why, sizeof why, "%s", status.why);
    }
    struct queue_report answer = {.error = WR_E_UNAVAILABLE, .why = why};
    finish(report, &answer);
}

static bool target(struct report *report, const struct catalog_queue *record, struct uid *ret_node,
                   uint32_t *ret_shard)
{
    struct host *host = report->host;
    if (record->spec.run == CATALOG_RUN_LOCAL) {
        *ret_node = record->spec.local.node;
        *ret_shard = record->spec.local.shard;
        return true;
    }
    *ret_shard = HOST_SHARD_BY_GROUP;
    struct group *group = group_find(host, report->queue);
    uint32_t at = report->candidate++;
    if (at == 0 && client_leader_of(host, report->queue, ret_node)) {
        return true; /* the way the ops before it went */
    }
    if (at == 0 && group != NULL && group->raft != NULL &&
        group_node_of(group, raft_leader(group->raft), ret_node)) {
        return true;
    }
    uint32_t count = record->spec.group.member_count;
    if (at <= 1 && !uid_is_zero(record->spec.group.preferred)) {
        *ret_node = record->spec.group.preferred;
        return true;
    }
    *ret_node = record->spec.group.members[at % count].node;
    return true;
}

static void ask(struct report *report)
{
    struct host *host = report->host;
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, report->queue) : NULL;
    if (record == NULL) {
        struct queue_report answer = {.error = WR_E_NOTFOUND, .why = "no such queue"};
        finish(report, &answer);
        return;
    }
    uint64_t next = host->now_ms + report->pause_ms;
    report->pause_ms = report->pause_ms < ASK_MAX_MS / 2 ? report->pause_ms * 2 : ASK_MAX_MS;
    timer_add(&host->timers, &report->timer, next < report->until_ms ? next : report->until_ms,
              on_timer);
    struct uid node;
    uint32_t shard;
    if (!target(report, record, &node, &shard)) {
        return;
    }
    struct parcel *parcel = parcel_make(host, PARCEL_REPORT, 2, report->queue, node, shard);
    const uint64_t numbers[REQUEST_NUMBERS] = {report->request, report->what,
                                               host->options.node_id.hi, host->options.node_id.lo,
                                               host->options.shard};
    numbers_pack(parcel, numbers, REQUEST_NUMBERS, SLICE_NONE);
    parcel_send(host, parcel);
}

/* New requests go out behind this turn's ops, so that what was sent before arrives before. */
void report_turn(struct host *host)
{
    for (size_t i = 0; i < host->fresh_reports.count; i++) {
        struct report *report = umap_get(&host->reports, host->fresh_reports.items[i]);
        if (report != NULL) {
            ask(report);
        }
    }
    vec_clear(&host->fresh_reports);
}

void host_queue_report(struct host *host, uint64_t queue_id, uint32_t what, uint32_t timeout_ms,
                       queue_report_fn done, void *ctx)
{
    struct report *report = wr_calloc(1, sizeof *report);
    report->host = host;
    report->request = ++host->request_counter;
    report->queue = queue_id;
    report->what = what;
    report->until_ms = host->now_ms + timeout_ms;
    report->pause_ms = host->reports.count < ASK_SOON_MAX ? ASK_FIRST_MS : ASK_MAX_MS;
    report->done = done;
    report->ctx = ctx;
    timer_init(&report->timer);
    umap_put(&host->reports, report->request, report);
    vec_push(&host->fresh_reports, report->request);
    host_mark_now(host);
}

/* --- the serving side ------------------------------------------------------------------------ */

static void put_consumer(void *ctx, const struct queue_consumer_info *info)
{
    struct pack_writer *w = ctx;
    pack_put_uint(w, info->client);
    pack_put_uint(w, info->consumer);
    pack_put_uint(w, info->prefetch);
    pack_put_int(w, info->priority);
    pack_put_uint(w, info->unacked);
    pack_put_bool(w, info->no_ack);
    pack_put_bool(w, info->exclusive);
    pack_put_bool(w, info->active);
    pack_put_bool(w, info->single_active);
    pack_put_bin(w, info->name);
    pack_put_bin(w, info->args);
}

static void count_consumer(void *ctx, const struct queue_consumer_info *info)
{
    (void)info;
    ++*(uint32_t *)ctx;
}

static bool is_named(const struct catalog_queue *record, struct raft_id id)
{
    bool named = false;
    for (uint32_t i = 0; i < record->spec.group.member_count && !named; i++) {
        named = raft_id_equal(raft_of_uid(record->spec.group.members[i].id), id);
    }
    return named;
}

/* Voters that would be a sound group of their own, with any majority of them. A replica that is to
 * make way for another one on its node does not count for that node. */
static void put_ready(struct pack_writer *w, const struct home *home, uint64_t index)
{
    const struct group *group = home->group;
    const struct host *host = home->host;
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, home->id) : NULL;
    struct uid ready[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    if (group != NULL && record != NULL && raft_is_voter(group->raft) &&
        is_named(record, group->self)) {
        ready[count++] = host->options.node_id;
    }
    for (uint32_t i = 0; group != NULL && record != NULL && i < raft_progress_count(group->raft);
         i++) {
        const struct raft_progress p = raft_progress_at(group->raft, i);
        struct uid node;
        if (p.role == RAFT_VOTER && p.up && p.match >= index && is_named(record, p.id) &&
            count < RAFT_MEMBERS_MAX && group_node_of(group, p.id, &node) &&
            !compare_is_divergent(group, node)) {
            ready[count++] = node;
        }
    }
    pack_put_uint(w, record != NULL ? record->replicas_version : 0);
    pack_put_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_put_uid(w, ready[i]);
    }
}

static void answer(struct home *home, const struct report_wait *wait)
{
    struct queue_totals t;
    uint64_t head = 0;
    queue_totals(home->queue, &t);
    struct buf *raw = buf_new(256);
    struct pack_writer w = pack_writer_make(&raw);
    uint32_t count = 0;
    const bool consumers = (wait->what & QUEUE_REPORT_CONSUMERS) != 0;
    if (consumers) {
        queue_each_consumer(home->queue, count_consumer, &count);
    }
    pack_put_array(&w, count);
    if (consumers) {
        queue_each_consumer(home->queue, put_consumer, &w);
    }
    put_ready(&w, home, wait->index);
    struct parcel *parcel =
        parcel_make(home->host, PARCEL_REPORTED, 2, home->id, wait->node, wait->shard);
    const bool asked = (wait->what & QUEUE_REPORT_HEAD) != 0;
    const bool known = asked && home_head_timestamp(home, &head);
    const uint64_t numbers[REPORT_NUMBERS + HEAD_NUMBERS] = {wait->request,
                                                             t.ready,
                                                             t.unacked,
                                                             t.consumers,
                                                             t.bytes_ready,
                                                             t.bytes_unacked,
                                                             t.delayed,
                                                             t.dead,
                                                             t.expired,
                                                             t.dropped,
                                                             t.refused,
                                                             t.duplicates,
                                                             t.next_position,
                                                             t.lowest_position,
                                                             t.published,
                                                             t.delivered,
                                                             t.acked,
                                                             t.redelivered,
                                                             queue_sealed(home->queue),
                                                             known,
                                                             head};
    /* Nodes from before the head was there do not ask for it, and read no more than the others. */
    numbers_pack(parcel, numbers, REPORT_NUMBERS + (asked ? HEAD_NUMBERS : 0), slice_of_buf(raw));
    parcel_send(home->host, parcel);
}

void home_answer_report(struct home *home, const struct report_wait *wait)
{
    if ((wait->what & QUEUE_REPORT_HEAD) == 0 || !heads_read(home, wait, answer)) {
        answer(home, wait);
    }
}

/* A replica that does not serve knows who does. Only what comes from the asker is passed on: no
 * request goes round in circles. */
static void pass_on(struct host *host, const struct parcel *parcel, const uint64_t *numbers)
{
    struct group *group = group_find(host, parcel->group);
    const struct uid asker = {numbers[2], numbers[3]};
    struct uid leader;
    if (group == NULL || group->raft == NULL || !uid_eq(asker, parcel->from_node) ||
        !group_node_of(group, raft_leader(group->raft), &leader) || host_is_self(host, leader)) {
        return;
    }
    struct parcel *copy =
        parcel_make(host, PARCEL_REPORT, 2, parcel->group, leader, HOST_SHARD_BY_GROUP);
    numbers_pack(copy, numbers, REQUEST_NUMBERS, SLICE_NONE);
    parcel_send(host, copy);
}

void report_on_request(struct host *host, struct parcel *parcel)
{
    uint64_t numbers[REQUEST_NUMBERS];
    struct slice raw;
    struct home *home = home_find(host, parcel->group);
    if (numbers_unpack(parcel, numbers, REQUEST_NUMBERS, &raw) != 0 ||
        (host_is_self(host, (struct uid){numbers[2], numbers[3]}) &&
         numbers[4] >= host->options.shard_count)) {
        return;
    }
    if (home != NULL && home->group != NULL) {
        group_hurry(home->group); /* it is asked again soon */
    }
    if (home == NULL || !home->serving) {
        pass_on(host, parcel, numbers);
        return;
    }
    struct report_wait wait = {.node = {numbers[2], numbers[3]},
                               .shard = (uint32_t)numbers[4],
                               .request = numbers[0],
                               .what = (uint32_t)numbers[1]};
    if (home->group == NULL) {
        home_answer_report(home, &wait);
        return;
    }
    group_propose(home->group);
    wait.index = raft_last_index(home->group->raft);
    vec_push(&home->group->reports, wait);
    group_mark(home->group);
}

void reports_ready(struct group *group)
{
    size_t done = 0;
    while (done < group->reports.count &&
           (group->reports.items[done].index <= group->applied || !group->serving)) {
        if (group->serving) {
            home_answer_report(group->home, &group->reports.items[done]);
        }
        done++;
    }
    if (done > 0) {
        group->reports.count -= done;
        memmove(group->reports.items, group->reports.items + done,
                group->reports.count * sizeof *group->reports.items);
    }
}

/* *ready has room for RAFT_MEMBERS_MAX. */
static bool get_lists(struct bytes raw, struct queue_consumer_info **ret_items, uint32_t *ret_count,
                      struct uid *ready, struct queue_report *ret_report)
{
    struct pack_reader r = pack_reader_make(raw);
    uint32_t count = pack_get_array(&r, 1000000);
    struct queue_consumer_info *items = wr_calloc((size_t)count + 1, sizeof *items);
    for (uint32_t i = 0; i < count && !pack_failed(&r); i++) {
        struct queue_consumer_info *c = &items[i];
        c->client = pack_get_uint(&r, UINT64_MAX);
        c->consumer = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        c->prefetch = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        c->priority = (int32_t)pack_get_int(&r);
        c->unacked = pack_get_uint(&r, UINT64_MAX);
        c->no_ack = pack_get_bool(&r);
        c->exclusive = pack_get_bool(&r);
        c->active = pack_get_bool(&r);
        c->single_active = pack_get_bool(&r);
        c->name = pack_get_bin(&r, UINT32_MAX);
        c->args = pack_get_bin(&r, UINT32_MAX);
    }
    ret_report->replicas_version = pack_get_uint(&r, UINT64_MAX);
    ret_report->ready_count = pack_get_array(&r, RAFT_MEMBERS_MAX);
    ret_report->ready = ready;
    for (uint32_t i = 0; i < ret_report->ready_count; i++) {
        ready[i] = pack_get_uid(&r);
    }
    if (!pack_done(&r)) {
        wr_free(items);
        return false;
    }
    *ret_items = items;
    *ret_count = count;
    return true;
}

void report_on_answer(struct host *host, struct parcel *parcel)
{
    uint64_t n[REPORT_NUMBERS + HEAD_NUMBERS] = {0};
    struct slice raw;
    /* A node from before the head was there takes the question for one about consumers. */
    int error = numbers_unpack_some(parcel, n, REPORT_NUMBERS, WR_ARRAY_SIZE(n), &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "a report", error);
        return;
    }
    struct report *report = umap_get(&host->reports, n[0]);
    struct queue_consumer_info *consumers = NULL;
    struct uid ready[RAFT_MEMBERS_MAX];
    struct queue_report answer = {.leader_node = parcel->from_node, .why = ""};
    if (report == NULL || report->queue != parcel->group ||
        !get_lists(bytes_from_slice(&raw), &consumers, &answer.consumer_count, ready, &answer)) {
        return;
    }
    answer.consumers = consumers;
    answer.totals = (struct queue_totals){.ready = n[1],
                                          .unacked = n[2],
                                          .consumers = n[3],
                                          .bytes_ready = n[4],
                                          .bytes_unacked = n[5],
                                          .delayed = n[6],
                                          .dead = n[7],
                                          .expired = n[8],
                                          .dropped = n[9],
                                          .refused = n[10],
                                          .duplicates = n[11],
                                          .next_position = n[12],
                                          .lowest_position = n[13],
                                          .published = n[14],
                                          .delivered = n[15],
                                          .acked = n[16],
                                          .redelivered = n[17]};
    answer.sealed = n[18] != 0;
    answer.has_head_timestamp = n[19] != 0;
    answer.head_timestamp = n[20];
    finish(report, &answer);
    wr_free(consumers);
}

void reports_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->reports);
    while (umap_next(&it)) {
        struct report *report = it.value;
        timer_cancel(&host->timers, &report->timer);
        wr_free(report);
    }
    vec_deinit(&host->fresh_reports);
}
