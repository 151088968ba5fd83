/*
 * What: a deterministic cluster of Raft members for tests: hosts with a disk whose writes are
 * pending until completed, links whose messages wait until delivered, a machine (a hash chain), and
 * oracles checked after every step. Primitives only; who drives them is a unit test, a golden
 * script or the random simulation.
 *
 * Oracles (after each step of each member): raft_check; election safety; leader completeness; state
 * machine safety; commit durable on a majority; applied <= durable; membership == f(log prefix);
 * each message that claims durability is backed by the sender's disk at the moment it leaves.
 */
#ifndef WR_TEST_RAFT_CLUSTER_H
#define WR_TEST_RAFT_CLUSTER_H

#include "warren/raft.h"

#include <stdio.h>

#define SIM_NODES 16u /* ids 1 .. SIM_NODES - 1 */

struct blob {
    struct sim *sim;
    uint32_t refs;
    uint32_t size;
    uint8_t bytes[];
};

struct sim_entry {
    struct raft_term term;
    uint64_t index;
    enum raft_entry_kind kind;
    struct blob *blob;
};

struct sim_log {
    struct sim_entry *entries; /* contiguous */
    uint32_t count;
    uint32_t capacity;
};

enum sim_op_kind { SIM_OP_RESET, SIM_OP_TRUNCATE, SIM_OP_HARD, SIM_OP_ENTRIES };

struct sim_op {
    enum sim_op_kind kind;
    uint64_t at; /* when the simulation may complete it */
    uint64_t from;
    struct raft_hard_state hard;
    uint64_t generation;
    struct sim_log entries;
};

struct sim_disk {
    struct raft_hard_state hard;
    uint64_t base_index;
    struct raft_term base_term;
    struct raft_member base_members[RAFT_MEMBERS_MAX];
    uint32_t base_count;
    uint64_t machine_index; /* checkpoint of the machine, >= base_index */
    uint64_t machine_hash;
    struct sim_log log;
};

struct sim_node {
    bool exists;
    bool alive;
    struct raft *raft;
    struct sim_disk disk;
    struct sim_log log; /* what the disk will hold once all is written */
    struct sim_op ops[512];
    uint32_t op_count;
    uint64_t machine_index;
    uint64_t machine_hash;
    uint64_t seen_commit;
    bool was_leader;
    /* incoming snapshot */
    uint8_t stream[64];
    uint64_t stream_size;
    uint64_t installing; /* index, 0 = none */
    uint64_t installing_at;
    uint64_t install_hash;
    struct raft_term install_term;
    struct raft_member install_members[RAFT_MEMBERS_MAX];
    uint32_t install_count;
    /* liveness as this node's host sees it */
    bool seen_up[SIM_NODES];
    uint64_t seen_epoch[SIM_NODES];
    uint64_t reads_ok;
    uint64_t reads_failed;
    uint64_t read_index;
    struct raft_update last_update; /* flags and numbers only; its arrays are gone */
};

struct sim_message {
    struct raft_message m;
    uint64_t at;
    uint64_t epoch;
    struct raft_entry *entries; /* owned */
    struct raft_member *members;
    struct blob *chunk;
};

struct sim_committed {
    struct raft_term term;
    uint64_t hash;       /* of the entry */
    uint64_t chain_hash; /* of the machine after it */
};

struct sim {
    uint64_t seed;
    uint64_t random;
    uint64_t now_ms;
    struct raft_config cfg; /* tuning for all members */
    struct sim_node nodes[SIM_NODES];
    struct sim_message *messages;
    uint32_t message_count;
    uint32_t message_capacity;
    struct sim_committed *committed; /* [0] = index 1 */
    uint64_t committed_count;
    uint64_t committed_capacity;
    uint64_t *term_leader; /* leader's id by term */
    uint64_t term_capacity;
    bool cut[SIM_NODES][SIM_NODES]; /* messages from a to b are lost */
    uint64_t link_epoch[SIM_NODES][SIM_NODES];
    uint64_t link_last[SIM_NODES][SIM_NODES]; /* arrival of the last message */
    bool ordered_links;
    uint64_t (*message_at)(struct sim *s, uint64_t from, uint64_t to);
    uint64_t (*disk_at)(struct sim *s, uint64_t node);
    int64_t blobs; /* alive: leak check */
    uint32_t chunk_bytes;
    uint32_t read_fail_percent; /* of the reads of old entries */
    uint32_t trim_percent;      /* restored payloads left on disk */
    uint64_t steps;
    bool install_crashes;  /* some crash between the snapshot and the core's INSTALLED */
    bool answer_snapshots; /* hosts answer wants at once */
    FILE *trace;
};

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *s); /* checks that no payload reference leaked */

uint64_t sim_random(struct sim *s, uint64_t bound);
bool sim_chance(struct sim *s, uint32_t percent);

/* Creates member `id`; `members`: bootstrap, NULL = joins later. Starts it. */
void sim_create(struct sim *s, uint64_t id, const struct raft_member *members, uint32_t count);
void sim_create_voters(struct sim *s, uint32_t count);
/* Crash: pending writes beyond the first `kept` are lost. */
void sim_crash(struct sim *s, uint64_t id, uint32_t kept);
void sim_restart(struct sim *s, uint64_t id);

int sim_step(struct sim *s, uint64_t id, struct raft_event ev);
int sim_tick(struct sim *s, uint64_t id);
int sim_propose(struct sim *s, uint64_t id, const char *text); /* in its current term */
int sim_change(struct sim *s, uint64_t id, enum raft_change_type type, uint64_t member);
void sim_peer(struct sim *s, uint64_t id, uint64_t peer, bool up);
void sim_all_up(struct sim *s);
/* Completes the first `count` pending writes of a node; one PERSISTED for all if `merge`. */
void sim_disk(struct sim *s, uint64_t id, uint32_t count, bool merge);
void sim_compact(struct sim *s, uint64_t id, uint64_t base, uint64_t machine);
void sim_install_done(struct sim *s, uint64_t id);

/* Delivers message number i (removing it) unless the receiver is dead. */
void sim_deliver(struct sim *s, uint32_t i);
void sim_drop(struct sim *s, uint32_t i);
void sim_duplicate(struct sim *s, uint32_t i);
/* Delivers the first message from > to (0: any); false: none. */
bool sim_deliver_one(struct sim *s, uint64_t from, uint64_t to);
void sim_drop_all(struct sim *s, uint64_t from, uint64_t to);
/* Completes all writes and delivers all messages until nothing moves; ticks deadlines <= now + ms.
 */
void sim_settle(struct sim *s, uint64_t ms);
/* Settles until a leader that is ready exists; returns its id. */
uint64_t sim_elect(struct sim *s);
uint64_t sim_leader(const struct sim *s); /* with the highest term; 0: none */

struct raft *sim_raft(struct sim *s, uint64_t id);
void sim_check_logs(struct sim *s); /* log matching, all pairs */
void sim_fail(struct sim *s, const char *what);

#define SIM_CHECK(s, x)                                                                            \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            sim_fail((s), #x);                                                                     \
        }                                                                                          \
    } while (0)

static inline struct raft_id sim_id(uint64_t id)
{
    return (struct raft_id){0, id};
}

#endif
