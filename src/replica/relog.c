/*
 * What: entries that are not applied when the segments they lie in are to go (checkpoint.c) are
 * written again to the newest segment, and all that follow them, so that places never fall.
 *
 * Happy path: from memory, or read from the log 64 at a time -> LOG_ENTRY records -> durable -> the
 * log index gets the new places. Failure modes: the log cannot be read: the group stands still; it
 * cannot be opened now: that is tried again, and the segments stay. A suffix that is replaced
 * meanwhile is left out: it is in a newer segment anyway.
 *
 * Invariants: I1 An entry written again has the index and term of the first: recovery does not take
 * it for a truncation. I2 What was appended while entries were read is written again too, in the
 * turn in which the end is reached. Ownership: a job's group owns its struct relog. Threads: the
 * host's shard.
 */
#include "checkpoint.h"
#include "group.h"
#include "host_internal.h"
#include "load.h"

uint64_t relog_bytes(const struct host *host, uint32_t segment, uint64_t most)
{
    uint64_t bytes = 0;
    struct umap_iter it = umap_iterate((struct umap *)(uintptr_t)&host->groups);
    while (bytes <= most && umap_next(&it)) {
        const struct group *group = it.value;
        struct log_location location;
        if (group->ended || group->raft == NULL ||
            !log_index_find(group->index, group->applied + 1, &location) ||
            location.position.segment > segment) {
            continue;
        }
        const uint64_t last = raft_last_index(group->raft);
        for (uint64_t i = group->applied + 1; i <= last && bytes <= most; i++) {
            bytes += log_index_find(group->index, i, &location) ? location.size : 0;
        }
    }
    return bytes;
}

static void relog_one(struct group *group, struct relog *r, struct raft_term term, uint8_t kind,
                      const struct slice *payload)
{
    group_log(group, LOG_ENTRY, term, r->next, kind, RELOG_GENERATION, slice_ref(payload));
    r->next++;
    r->pending++;
}

struct relog_read {
    struct log_job job;
    struct host *host;
    uint64_t group, incarnation, first;
    uint32_t count;
    uint64_t terms[LOAD_ENTRIES];
    uint8_t kinds[LOAD_ENTRIES];
};

static void relog(struct group *group, struct relog *r);

static void on_relog_read(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct relog_read *read = ctx;
    struct group *group = group_find(read->host, read->group);
    const bool same = group != NULL && group->incarnation == read->incarnation;
    struct relog *r = same ? checkpoint_relog(group) : NULL;
    if (r != NULL) {
        r->reading = false;
        if (error != 0) {
            group_fail(group, "its log cannot be read");
        }
        for (uint32_t i = 0; error == 0 && i < count && r->next == read->first + i; i++) {
            struct raft_term term;
            if (raft_log_term(group->raft, r->next, &term) != 0 || term.v != read->terms[i]) {
                break; /* replaced meanwhile: it is in a newer segment */
            }
            relog_one(group, r, term, read->kinds[i], &payloads[i]);
        }
        if (error == 0) {
            relog(group, r); /* in this turn: what was appended while this was read lies before */
        }
        host_mark_now(read->host);
    }
    log_job_free(&read->job);
}

static void relog_from_disk(struct group *group, struct relog *r)
{
    struct relog_read *read = wr_calloc(1, sizeof *read);
    struct log_location locations[LOAD_ENTRIES];
    *read = (struct relog_read){.host = group->host,
                                .group = group->id,
                                .incarnation = group->incarnation,
                                .first = r->next};
    log_job_add(group->host, &read->job);
    uint64_t bytes = 0;
    const uint32_t most = group->read_failed ? 1 : LOAD_ENTRIES;
    for (uint64_t i = r->next; i < r->end && read->count < most && bytes < LOAD_BYTES; i++) {
        struct log_location *at = &locations[read->count];
        if (raft_log_entry(group->raft, i) != NULL || !log_index_find(group->index, i, at)) {
            break;
        }
        read->terms[read->count] = at->term;
        read->kinds[read->count] = at->flags;
        bytes += at->size;
        read->count++;
    }
    if (read->count == 0) {
        group_fail(group, "an entry to be kept is neither in memory nor in the log");
        log_job_free(&read->job);
        return;
    }
    const int error =
        log_reader_read(group->host->options.reader, locations, read->count, on_relog_read, read);
    if (error != 0) {
        group_read_failed(group, r->next, error);
        log_job_free(&read->job);
        return;
    }
    group->read_failed = false;
    r->reading = true;
}

/* Entries after the snapshot that lie in the segments, and all that follow them: up to what is the
 * last one in the very turn in which the end is reached, so that positions never fall (what is
 * appended after that turn comes after it in the log). */
static void relog(struct group *group, struct relog *r)
{
    while (!r->reading && group->failed[0] == 0) {
        if (r->next < raft_first_index(group->raft)) {
            r->next = raft_first_index(group->raft); /* a snapshot was installed meanwhile */
        }
        r->end = raft_last_index(group->raft) + 1;
        if (r->next >= r->end) {
            r->end = r->next;
            return;
        }
        const struct raft_entry *entry = raft_log_entry(group->raft, r->next);
        if (entry == NULL) {
            if (!timer_is_pending(&group->read_again)) {
                relog_from_disk(group, r);
            }
            return;
        }
        struct slice payload = group_entry_slice(entry);
        relog_one(group, r, entry->term, (uint8_t)entry->kind, &payload);
    }
}

/* From `first` on. */
void relog_begin(struct group *group, struct relog *r, uint64_t first)
{
    r->next = first;
    r->end = raft_last_index(group->raft) + 1;
    relog(group, r);
}

void relog_go_on(struct group *group, struct relog *r)
{
    if (r->next < r->end) {
        relog(group, r);
    }
}

bool relog_is_done(const struct relog *r)
{
    return r->pending == 0 && !r->reading && r->next >= r->end;
}

/* One of them is durable. */
void relog_written(struct relog *r, const struct log_item *item)
{
    const struct relogged place = {
        item->index, item->term, {item->position, item->payload.size, item->term, item->flags}};
    r->pending--;
    vec_push(&r->places, place);
}

void relog_deinit(struct relog *r)
{
    vec_deinit(&r->places);
}

/* The new places of entries written again, and those after them, in order. A place of an entry that
 * was replaced since is neither: the index has it until the truncation is durable, and what was
 * written again comes later in the log. */
void relog_take_places(struct group *group, struct relog *r)
{
    if (r->places.count == 0) {
        return;
    }
    VEC(struct relogged) all = {0};
    uint64_t last = raft_last_index(group->raft);
    size_t at = 0;
    for (uint64_t i = r->places.items[0].index; i <= last; i++) {
        struct raft_term term;
        struct relogged place = {.index = i};
        bool found = false;
        while (at < r->places.count && r->places.items[at].index < i) {
            at++;
        }
        const bool known = raft_log_term(group->raft, i, &term) == 0;
        if (at < r->places.count && r->places.items[at].index == i && known &&
            term.v == r->places.items[at].term) {
            place = r->places.items[at];
            found = true;
        }
        struct log_location newest;
        if (log_index_find(group->index, i, &newest) && (!known || newest.term == term.v) &&
            (!found || newest.position.segment > place.location.position.segment)) {
            place.location = newest;
            found = true;
        }
        if (found) {
            vec_push(&all, place);
        }
    }
    for (size_t i = 0; i < all.count; i++) {
        log_index_put(group->index, all.items[i].index, &all.items[i].location);
    }
    vec_deinit(&all);
    vec_clear(&r->places);
}
