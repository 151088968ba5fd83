/*
 * What: a leader proves that it still leads before it tells a client that returns where it stands.
 * One that was suspended, or is cut off and does not know it yet, has an older machine: it may not
 * know the client, which would then end and leave what it holds unacked for good; and it would
 * deliver what has long been somebody else's.
 *
 * Happy path: RESUME -> held -> READ_INDEX -> a majority has echoed -> through the inbox again,
 * proven. All that come while a round is under way share the next one. Failure modes: leadership
 * is lost: through the inbox unproven, and refused there. Too many wait: dropped, the client asks
 * again.
 *
 * Invariants: I1 A round serves only what came before it began. I2 While any wait, a round is
 * under way. Ownership: the group owns the parcels that wait. Threads: the host's shard. Spec:
 * Raft thesis 6.4.
 */
#include "group.h"
#include "host_internal.h"

static void begin_round(struct group *group)
{
    struct raft_event event = {.type = RAFT_EVENT_READ_INDEX, .u.context = ++group->proof_round};
    group->proof_shared = group->unproven.count;
    if (group_step(group, &event) != 0) {
        /* It has just ceased to lead: whoever waits for it to serve hears of that in this turn. */
        for (size_t i = 0; i < group->unproven.count; i++) {
            vec_push(&group->waiting, group->unproven.items[i]);
        }
        vec_clear(&group->unproven);
    }
}

void proof_wait(struct group *group, struct parcel *owned)
{
    if (group->unproven.count >= HELD_PARCELS_MAX) {
        parcel_free(owned);
        return;
    }
    vec_push(&group->unproven, owned);
    group_hurry(group);
    if (group->unproven.count == 1) {
        begin_round(group);
    }
}

static void admit(struct group *group, size_t proven)
{
    for (size_t i = 0; i < group->unproven.count; i++) {
        group->unproven.items[i]->proven = i < proven;
        vec_push(&group->host->inbox, group->unproven.items[i]);
    }
    vec_clear(&group->unproven);
    host_mark_now(group->host);
}

/* The core's answer. Who came too late for this round begins the next, from the inbox. */
void proof_on_read(struct group *group, const struct raft_read *read)
{
    if (read->context == group->proof_round) {
        admit(group, read->status == 0 ? group->proof_shared : 0);
    }
}

/* It leads no more, or ends. */
void proof_drop(struct group *group)
{
    group->proof_round++;
    admit(group, 0);
}
