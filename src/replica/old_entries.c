/*
 * What: entries that left memory and a follower needs (ENTRIES_READ): read from the log.
 * Failure modes: what the log has no more, or cannot read, is answered with nothing; the core then
 * sends a snapshot (snap_send.c). Ownership: a read under way is the host's (log_job). Threads: the
 * host's shard.
 */
#include "group.h"
#include "host_internal.h"
#include "load.h"

struct entries_read {
    struct log_job job;
    struct host *host;
    uint64_t group, incarnation, begin;
    struct raft_id peer;
    uint32_t count;
    uint8_t kinds[LOAD_ENTRIES];
    uint64_t terms[LOAD_ENTRIES];
};

static void answer_entries(struct group *group, struct raft_id peer,
                           const struct raft_entry *entries, uint32_t count)
{
    struct raft_event event = {.type = RAFT_EVENT_ENTRIES_READ};
    event.u.entries_read.peer = peer;
    event.u.entries_read.count = count;
    event.u.entries_read.entries = entries;
    group_step(group, &event);
}

static void on_entries(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct entries_read *read = ctx;
    struct group *group = group_find(read->host, read->group);
    struct raft_entry entries[LOAD_ENTRIES];
    if (group != NULL && group->incarnation == read->incarnation) {
        for (uint32_t i = 0; error == 0 && i < count; i++) {
            entries[i] =
                (struct raft_entry){.term = {read->terms[i]},
                                    .index = read->begin + i,
                                    .kind = (enum raft_entry_kind)read->kinds[i],
                                    .size = payloads[i].size,
                                    .data = slice_data(&payloads[i]),
                                    .owner = payloads[i].size > 0 ? payloads[i].buf : NULL};
        }
        answer_entries(group, read->peer, entries, error == 0 ? count : 0);
    }
    log_job_free(&read->job);
}

void group_entries_want(struct group *group, const struct raft_entries_want *want)
{
    struct entries_read *read = wr_calloc(1, sizeof *read);
    struct log_location locations[LOAD_ENTRIES];
    uint64_t bytes = 0;
    *read = (struct entries_read){.host = group->host,
                                  .group = group->id,
                                  .incarnation = group->incarnation,
                                  .begin = want->begin,
                                  .peer = want->peer};
    log_job_add(group->host, &read->job);
    for (uint64_t i = want->begin; i < want->end && read->count < LOAD_ENTRIES &&
                                   (read->count == 0 || bytes < want->bytes_max);
         i++) {
        struct log_location *at = &locations[read->count];
        if (!log_index_find(group->index, i, at)) {
            break;
        }
        read->kinds[read->count] = at->flags;
        read->terms[read->count] = at->term;
        bytes += at->size;
        read->count++;
    }
    if (read->count == 0 || log_reader_read(group->host->options.reader, locations, read->count,
                                            on_entries, read) != 0) {
        answer_entries(group, want->peer, NULL, 0);
        log_job_free(&read->job);
    }
}
