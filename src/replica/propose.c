/*
 * What: from ops to proposals. All ops of a turn, of all clients, go into one open entry (closed at
 * about 1 MiB), and all entries of a turn are one proposal. Failure modes: the core refuses (too
 * much uncommitted, a transfer is under way): entries wait here, in order, and are offered again
 * when something was applied; bounded by what clients may have pending. Leadership lost: they are
 * dropped; each client still has its ops and resumes. Ownership: entry buffers are shared with the
 * core, the log, the store and parcels once proposed, and never written again. Spec:
 * docs/replica.md, "Entries".
 */
#include "group.h"
#include "home.h"

static void open_entry(struct group *group, size_t extra)
{
    if (group->open != NULL && group->open->size > ENTRY_HEADER &&
        group->open->size + extra > ENTRY_BYTES_WANTED) {
        group_close_open(group);
    }
    if (group->open == NULL) {
        group->open = buf_new(ENTRY_HEADER + (extra < 4096 ? 4096 : extra));
        group->open->size = ENTRY_HEADER;
    }
    group_mark(group);
}

static void stamp(struct group *group, struct buf *entry)
{
    entry->data[0] = ENTRY_VERSION;
    bytes_store_le64(entry->data + 1, home_time(group->home));
}

void group_close_open(struct group *group)
{
    if (group->open == NULL) {
        return;
    }
    buf_fit(&group->open);
    vec_push(&group->proposals, (struct pending_entry){group->open});
    group->open = NULL;
}

/* Encoded batches, already checked. */
void group_append(struct group *group, struct bytes batches)
{
    open_entry(group, batches.size);
    buf_append(&group->open, batches.data, batches.size);
}

void group_append_batch(struct group *group, const struct queue_batch *batch)
{
    open_entry(group, 0);
    queue_batch_encode(&group->open, batch);
    if (group->open->size > ENTRY_BYTES_WANTED) {
        group_close_open(group);
    }
}

/* A finished entry. */
void group_take_entry(struct group *group, struct buf *owned_entry)
{
    group_close_open(group);
    buf_fit(&owned_entry);
    vec_push(&group->proposals, (struct pending_entry){owned_entry});
    group_mark(group);
}

void group_drop_proposals(struct group *group)
{
    buf_unref(group->open);
    group->open = NULL;
    for (size_t i = 0; i < group->proposals.count; i++) {
        buf_unref(group->proposals.items[i].buf);
    }
    vec_clear(&group->proposals);
}

void group_propose(struct group *group)
{
    group_close_open(group);
    if (group->proposals.count == 0 || !group->serving) {
        return;
    }
    struct raft_entry few[16];
    uint32_t offered = 0;
    size_t total = group->proposals.count;
    size_t done = 0;
    while (done < total) {
        for (offered = 0; offered < 16 && done + offered < total; offered++) {
            struct buf *b = group->proposals.items[done + offered].buf;
            if (group->home != NULL) {
                stamp(group, b);
            }
            few[offered] = (struct raft_entry){
                .kind = RAFT_ENTRY_COMMAND, .size = b->size, .data = b->data, .owner = b};
        }
        struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
        event.u.propose.term = group->term;
        event.u.propose.count = offered;
        event.u.propose.entries = few;
        int rc = group_step(group, &event);
        if (rc != 0) {
            if (rc != RAFT_E_BUSY) {
                group_mark(group); /* the role has changed: seen in the next round */
            }
            break;
        }
        for (uint32_t i = 0; i < offered; i++) {
            buf_unref(few[i].owner);
        }
        done += offered;
    }
    if (done > 0 && group->home != NULL) {
        pace_proposed(group->home, raft_last_index(group->raft));
    }
    if (done > 0) {
        size_t left = total - done;
        memmove(group->proposals.items, group->proposals.items + done,
                left * sizeof *group->proposals.items);
        group->proposals.count = left;
    }
}
