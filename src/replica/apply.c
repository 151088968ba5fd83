/*
 * What: committed entries -> the machine, in order, bounded per turn.
 * Happy path: the payload is in the core's memory. After a restart, or when it was trimmed, it is
 * read from the log, up to 64 entries at a time, and applying goes on when they come. Failure
 * modes: an entry of a newer version stops the group on this node (it must not guess); a log that
 * cannot be read too. One that cannot be opened now (no descriptor is left) is tried again.
 * Invariants: entries are applied once each, ascending; the core hears of it after each run.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "store.h"

#include "warren/plant.h"

#define CACHED_LEAST 512u /* bytes of payloads: less is not worth the step */

struct apply_read {
    struct log_job job;
    struct host *host;
    uint64_t group, incarnation, first;
};

static void on_apply_read(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct apply_read *read = ctx;
    struct group *group = group_find(read->host, read->group);
    if (group != NULL && group->incarnation == read->incarnation) {
        group->apply_reading = false;
        if (error != 0) {
            group_fail(group, "its log cannot be read");
        } else if (read->first == group->applied + 1) {
            for (uint32_t i = 0; i < count; i++) {
                vec_push(&group->apply_cache, slice_ref(&payloads[i]));
            }
        }
        group_mark(group);
    }
    log_job_free(&read->job);
}

static void on_read_again(struct timer *timer)
{
    struct group *group = WR_CONTAINER_OF(timer, struct group, read_again);
    group_mark(group);
    host_mark_now(group->host); /* its entries may be wanted by relog.c, too */
}

void group_read_failed(struct group *group, uint64_t index, int error)
{
    struct host *host = group->host;
    if (error == WR_E_NOTFOUND) {
        group_fail(group, "its log cannot be opened for reading");
        return;
    }
    load_tell(host, group->id, "the log at entry", index, error);
    group->read_failed = true;
    timer_add(&host->timers, &group->read_again, host->now_ms + LOAD_AGAIN_MS, on_read_again);
}

static void read_ahead(struct group *group)
{
    struct log_location locations[LOAD_ENTRIES];
    uint32_t count = 0;
    uint64_t bytes = 0;
    if (group->apply_reading || timer_is_pending(&group->read_again)) {
        return;
    }
    const uint32_t most = group->read_failed ? 1 : LOAD_ENTRIES;
    for (uint64_t i = group->applied + 1;
         i <= group->apply_end - 1 && count < most && (count == 0 || bytes < LOAD_BYTES); i++) {
        if (raft_log_entry(group->raft, i) != NULL ||
            !log_index_find(group->index, i, &locations[count])) {
            break;
        }
        bytes += locations[count].size;
        count++;
    }
    if (count == 0) {
        group_fail(group, "a committed entry is neither in memory nor in the log");
        return;
    }
    struct apply_read *read = wr_calloc(1, sizeof *read);
    *read = (struct apply_read){.host = group->host,
                                .group = group->id,
                                .incarnation = group->incarnation,
                                .first = group->applied + 1};
    log_job_add(group->host, &read->job);
    int error = log_reader_read(group->host->options.reader, locations, count, on_apply_read, read);
    if (error != 0) {
        log_job_free(&read->job);
        group_read_failed(group, group->applied + 1, error);
        return;
    }
    group->read_failed = false;
    group->apply_reading = true;
}

/* The payload of the next entry: cache, or the core's memory. False: it must be read first. */
static bool next_payload(struct group *group, uint64_t index, struct slice *ret_payload,
                         uint8_t *ret_kind, struct raft_term *ret_term)
{
    int rc = raft_log_term(group->raft, index, ret_term);
    WR_ASSERT(rc == 0);
    const struct raft_entry *entry = raft_log_entry(group->raft, index);
    if (entry != NULL) {
        struct slice payload = group_entry_slice(entry);
        *ret_payload = slice_ref(&payload);
        *ret_kind = (uint8_t)entry->kind;
        if (group->apply_cache_first < group->apply_cache.count) {
            slice_unref(&group->apply_cache.items[group->apply_cache_first++]);
        }
        return true;
    }
    if (group->apply_cache_first == group->apply_cache.count) {
        return false;
    }
    struct log_location location;
    bool found = log_index_find(group->index, index, &location);
    *ret_kind = found ? location.flags : RAFT_ENTRY_COMMAND;
    *ret_payload = group->apply_cache.items[group->apply_cache_first++];
    return true;
}

static void reset_cache(struct group *group)
{
    if (group->apply_cache_first == group->apply_cache.count) {
        vec_clear(&group->apply_cache);
        group->apply_cache_first = 0;
    }
}

void group_apply(struct group *group)
{
    uint64_t begin = group->applied;
    uint64_t bytes = 0;
    while (group->applied + 1 < group->apply_end && bytes < APPLY_BYTES_PER_TURN &&
           !group->installing && !group->ended) {
        uint64_t index = group->applied + 1;
        struct slice payload;
        struct raft_term term;
        uint8_t kind;
        if (!next_payload(group, index, &payload, &kind, &term)) {
            reset_cache(group);
            read_ahead(group);
            break;
        }
        int rc = 0;
        if (index <= group->ahead) {
            ahead_committed(group, index);
        } else if (kind == RAFT_ENTRY_COMMAND) {
            rc = group->ops->apply(group, index, term, &payload);
        }
        bytes += payload.size + 64;
        slice_unref(&payload);
        if (rc != 0) {
            group_fail(group, rc == WR_E_VERSION
                                  ? "an entry was written by a newer version of Warren"
                                  : "a committed entry is damaged");
            return;
        }
        group->applied = index;
        if (index % group->compare_every == 0 || kind == RAFT_ENTRY_BARRIER) {
            compare_applied(group);
        }
    }
    reset_cache(group);
    if (group->applied > begin) {
        if (ahead_is_settled(group) && group->serving && group->waiting.count > 0) {
            group_readmit(group);
        }
        group->ops->applied(group);
        group_step(group,
                   &(struct raft_event){.type = RAFT_EVENT_APPLIED, .u.index = group->applied});
        group_mark(group);
    }
}

/* Payloads leave the core's memory when the log has them and no follower needs them soon. What is
 * left of each of very many groups adds up, and keeps messages in memory that were dropped. */
void group_trim(struct group *group)
{
    size_t cached = raft_cached_bytes(group->raft);
    if (cached < CACHED_LEAST) {
        return;
    }
    uint64_t upto = group->applied;
    if (cached < (size_t)8 << 20 && raft_role(group->raft) == RAFT_LEADER) {
        for (uint32_t i = 0; i < raft_progress_count(group->raft); i++) {
            struct raft_progress p = raft_progress_at(group->raft, i);
            if (p.up && p.match < upto) {
                upto = p.match;
            }
        }
    }
    if (upto >= raft_first_index(group->raft) && raft_log_entry(group->raft, upto) != NULL) {
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_TRIM, .u.index = upto});
    }
}

/* --- the queue machine as a machine of a group ----------------------------------------------- */

/* Planted (docs/simulation.md): of each group with at least three voters, the replica on the last
 * node takes note of the end of a boot that never was. No client can see the difference. */
static void drift(struct group *group, uint64_t time_ms, uint64_t index)
{
    const struct raft_membership members = raft_membership(group->raft);
    const struct uid self = group->host->options.node_id;
    const struct queue_op op = {.kind = QUEUE_OP_NODE_GONE, .first = UINT32_MAX - index};
    const struct queue_batch batch = {.client = 0, .count = 1, .ops = &op};
    uint32_t voters = 0;
    bool last = raft_is_voter(group->raft) && raft_role(group->raft) != RAFT_LEADER;
    for (uint32_t i = 0; i < members.count; i++) {
        struct uid node;
        voters += members.members[i].role == RAFT_VOTER;
        last =
            last && group_node_of(group, members.members[i].id, &node) && uid_cmp(node, self) <= 0;
    }
    if (last && voters >= 3 && group->drifted_at == 0 && prng_ratio(&group->host->prng, 1, 100)) {
        group->drifted_at = index;
        home_apply(group->home, time_ms, &batch, index, false);
        wr_log(group->host->logger, LOG_LEVEL_INFO, "queue", "planted: group %llu drifts at %llu",
               (unsigned long long)group->id, (unsigned long long)index);
    }
}

static int queue_machine_apply(struct group *group, uint64_t index, struct raft_term term,
                               const struct slice *payload)
{
    (void)term;
    if (payload->size < ENTRY_HEADER) {
        return WR_E_CORRUPT;
    }
    const uint8_t *data = slice_data(payload);
    if (data[0] != ENTRY_VERSION) {
        return WR_E_VERSION;
    }
    uint64_t time_ms = bytes_load_le64(data + 1);
    struct queue_batch_reader reader;
    struct queue_batch batch;
    int rc;
    queue_batch_reader_init(&reader, payload->buf, payload->offset + ENTRY_HEADER,
                            payload->offset + payload->size);
    while ((rc = queue_batch_reader_next(&reader, &batch)) == 1) {
        home_apply(group->home, time_ms, &batch, index, false);
    }
    queue_batch_reader_deinit(&reader);
    if (wr_planted_drift()) {
        drift(group, time_ms, index);
    }
    return rc;
}

static void queue_machine_snapshot(struct group *group, struct buf **out)
{
    queue_snapshot(group->home->queue, out);
}

static int queue_machine_restore(struct group *group, uint64_t index, struct bytes machine)
{
    (void)index;
    struct queue *queue;
    int error = queue_restore(machine, &queue);
    if (error != 0) {
        return error;
    }
    struct home *home = group->home;
    WR_ASSERT(!home->serving);
    queue_free(home->queue);
    home->queue = queue;
    home->load_serial++; /* reads under way belong to the old state */
    home->loading = false;
    home->missing = 0;
    rangemap_clear(&home->held_drops);
    store_clear(&home->store);
    struct queue_totals totals;
    queue_totals(queue, &totals);
    home->store.behind = totals.lowest_position < totals.next_position;
    home->store.kv_end = home->store.kv_unknown = totals.next_position;
    return 0;
}

static void queue_machine_serving(struct group *group, bool serving)
{
    (void)group;
    (void)serving;
}

static void queue_machine_applied(struct group *group)
{
    relay_pump(group->home);
}

static uint64_t queue_machine_hash(const struct group *group)
{
    return compare_queue_hash(group->home->queue);
}

const struct machine_ops queue_machine_ops = {
    .version = QUEUE_MACHINE_VERSION,
    .hash = queue_machine_hash,
    .apply = queue_machine_apply,
    .snapshot = queue_machine_snapshot,
    .restore = queue_machine_restore,
    .serving = queue_machine_serving,
    .applied = queue_machine_applied,
};
