#ifndef WR_REPLICA_GROUP_H
#define WR_REPLICA_GROUP_H
/*
 * One Raft group's replica: raft core, log positions, apply cursor, bound to a machine by struct
 * machine_ops (group.c, propose.c, apply.c, proof.c, members.c, old_entries.c), how it is brought
 * up to date (snap_send.c, snap_receive.c) and how replicas are compared (compare.c).
 */
#include "warren/list.h"
#include "warren/timer.h"
#include "warren/vec.h"

#include "parcel.h"

#define ENTRY_VERSION        1u
#define ENTRY_HEADER         9u                  /* u8 version, u64 leader's time */
#define ENTRY_BYTES_WANTED   (UINT32_C(1) << 20) /* an entry is closed at this size */
#define APPLY_BYTES_PER_TURN (UINT32_C(4) << 20)

struct group;
struct home;

struct report_wait {
    uint64_t index; /* answered when applied up to here */
    struct uid node;
    uint32_t shard;
    uint64_t request;
    uint32_t what; /* enum queue_report_what */
};
struct machine_ops {
    uint32_t version; /* of what is hashed */
    /* The same on replicas that are equal (compare.c). */
    uint64_t (*hash)(const struct group *group);
    /* One committed COMMAND. `payload` borrowed. < 0: this node cannot go on with the group. */
    int (*apply)(struct group *group, uint64_t index, struct raft_term term,
                 const struct slice *payload);
    void (*snapshot)(struct group *group, struct buf **out);
    int (*restore)(struct group *group, uint64_t index, struct bytes machine);
    void (*serving)(struct group *group, bool serving);
    void (*applied)(struct group *group); /* after a run of applies */
};
struct peer_node {
    struct raft_id member;
    struct uid node;
};
struct pending_entry {
    struct buf *buf;
};
struct snap_out;
struct snap_in;
struct compare;
struct group {
    struct host *host;
    uint64_t id;
    uint64_t incarnation;
    const struct machine_ops *ops;
    struct home *home; /* NULL: the catalog's */
    struct raft *raft; /* NULL until the creation is durable, unless it began alone */
    struct raft_id self;
    struct log_index *index;
    VEC(struct peer_node) peers;
    struct queue_config config; /* as declared; part of the creation record */
    uint8_t bootstrap[RAFT_MEMBERSHIP_BYTES_MAX];
    uint32_t bootstrap_size;
    bool ended;            /* LOG_GROUP_END is on its way */
    bool durable;          /* its LOG_GROUP record is */
    bool quick;            /* preferred leader */
    bool lazy;             /* it begins, and nobody wants anything of it yet (group_hurry) */
    char failed[160];      /* why it stands still for good, or "" */
    char quarantined[200]; /* why it is to be replaced, or "" (compare.c) */
    uint32_t segment_group, segment_hard,
        segment_checkpoint; /* where the newest record of each kind is; 0 = none */
    uint32_t meta_pending;  /* such records under way */
    uint64_t checkpoint_index;
    size_t checkpoint_place; /* in the job under way, if it is there at all */
    struct list dirty;       /* in host->dirty_groups */
    struct timer tick;
    struct timer reconcile;
    /* apply */
    uint64_t applied, apply_end; /* (applied, apply_end) waits */
    uint64_t ahead;              /* > applied: the machine is as after this (ahead.c) */
    bool recovered;              /* it was read from the disk, and has not served yet */
    bool apply_reading;
    struct timer
        read_again;   /* pending: a read failed that is tried again, by applying or relog.c */
    bool read_failed; /* and takes one file then, whatever there is */
    bool installing;
    VEC(struct slice) apply_cache; /* payloads read: of applied + 1 .. */
    size_t apply_cache_first;
    /* leader */
    enum raft_role role;
    struct raft_term term;
    struct raft_id leader;
    bool serving, ready_seen;
    uint64_t serve_at;
    struct buf *open;                    /* entry being filled */
    VEC(struct pending_entry) proposals; /* closed, not taken by raft yet */
    VEC(struct parcel *) waiting;        /* for serving */
    VEC(struct parcel *) unproven;       /* proof.c; of these the round under way serves ... */
    size_t proof_shared;                 /* ... the first so many */
    uint64_t proof_round;
    VEC(struct report_wait) reports;
    struct snap_out *snap_out;
    struct snap_in *snap_in;
    /* What unfinished transfers brought: all messages below `snap_have` that live at an index >=
     * snap_index are in the checkpoint store (snap_brought). */
    uint64_t snap_index, snap_have;
    bool not_member; /* the leader says so */
    /* compare.c */
    uint32_t compare_every;
    struct compare *compare; /* NULL until something was compared */
    uint64_t drifted_at;     /* planted (warren/plant.h); index, 0 = not */
};
/* ahead.c: the machine is as of `applied`. */
static inline bool ahead_is_settled(const struct group *group)
{
    return group->ahead <= group->applied;
}
struct group *group_find(struct host *host, uint64_t id);
struct group *group_new(struct host *host, uint64_t id, const struct machine_ops *ops,
                        struct raft_id self);
void group_free(struct group *group);
void group_create_record(struct group *group); /* appends LOG_GROUP */
void group_start(struct group *group, const struct raft_hard_state *hard,
                 const struct raft_snapshot_meta *meta);
void group_started(struct group *group, struct raft_update *update);
bool group_is_alone(const struct group *group); /* by its bootstrap membership */
void group_begin(struct group *group);
void group_hurry(struct group *group); /* somebody waits for it */
int group_step(struct group *group, struct raft_event *event);
void group_mark(struct group *group);
void group_work(struct group *group);
void group_on_message(struct group *group, struct parcel *parcel);
void group_end(struct group *group);
void group_fail(struct group *group, const char *why);
/* Its log cannot be opened for reading: if that may pass, it is tried again when `read_again`
 * fires; otherwise the group stands still. */
void group_read_failed(struct group *group, uint64_t index, int error);
void group_set_serving(struct group *group, bool serving);
void group_set_peer(struct group *group, struct raft_id member, struct uid node);
bool group_node_of(const struct group *group, struct raft_id member, struct uid *ret_node);
void group_reconcile(struct group *group);
/* That member was a replica of this node and is none any more: it never begins again here. */
void replica_ended(struct host *host, uint64_t group, struct raft_id member);
void ended_free(struct host *host);
void group_check_end(struct group *group);
void group_booted(struct host *host, const struct catalog_queue *record);
void group_tell_not_member(struct group *group, struct raft_id member, struct uid node);
void group_node_changed(struct group *group, struct uid node, bool up);
/* Of a RESUME: until this leads for sure. */
void proof_wait(struct group *group, struct parcel *owned);
void proof_on_read(struct group *group, const struct raft_read *read);
void proof_drop(struct group *group);
void group_propose(struct group *group); /* hands what was gathered to raft */
void group_readmit(struct group *group); /* what waited for it */
void group_append(struct group *group, struct bytes batches);
void group_append_batch(struct group *group, const struct queue_batch *batch);
void group_take_entry(struct group *group, struct buf *owned_entry);
void group_close_open(struct group *group);
void group_drop_proposals(struct group *group);
void group_apply(struct group *group);
void group_trim(struct group *group);
struct slice group_entry_slice(const struct raft_entry *entry);
void group_log(struct group *group, uint8_t kind, struct raft_term term, uint64_t index,
               uint8_t flags, uint64_t generation, struct slice owned_payload);
void group_log_hard_state(struct group *group, const struct raft_hard_state *hard,
                          uint64_t generation);
bool group_has_quorum_of_nodes(const struct group *group, uint32_t *ret_voters, uint32_t *ret_up);
extern const struct machine_ops queue_machine_ops;
extern const struct machine_ops catalog_machine_ops;
void group_entries_want(struct group *group, const struct raft_entries_want *want);
void snap_want(struct group *group, const struct raft_snapshot_want *want);
void snap_chunk(struct group *group, const struct raft_message *message);
void snap_abort(struct group *group);
void snap_out_free(struct group *group);
/* Messages below are in the store though the machine need not know them; 0: none. */
uint64_t snap_brought(const struct group *group);
/* What is fixed at the declaration, all else as when nothing is said: what every replica of a group
 * begins with, whenever it comes. The rest is in the log (QUEUE_OP_CONFIG). */
void queue_config_fixed(const struct catalog_queue *record, struct queue_config *config);
void queue_config_put(struct writer *w, const struct queue_config *config);
void queue_config_get(struct reader *r, struct queue_config *config);
/* After a new view: recovered groups whose queue is gone end, though no view before had it. */
void queue_groups_unnamed(struct host *host, bool first);
void queue_group_view(struct host *host, const struct catalog_queue *before,
                      const struct catalog_queue *after);

/* --- comparing replicas (compare.c) ---------------------------------------------------------- */
#define GROUP_QUARANTINED 1u /* flag of LOG_GROUP */
uint32_t compare_every(const struct host *host, bool catalog);
uint64_t compare_queue_hash(const struct queue *queue);
uint64_t compare_catalog_hash(const struct catalog *catalog);
void compare_applied(struct group *group);
void compare_leader_changed(struct group *group);
void compare_on_parcel(struct host *host, struct parcel *parcel);
void compare_on_durable(struct group *group); /* its LOG_GROUP record is */
void compare_recovered(struct group *group);  /* its LOG_GROUP record has the flag */
/* What an operator has to do about a quarantined catalog. */
void compare_catalog_advice(const struct group *group, char *text, size_t size);
/* Leader: the replica there is to be replaced, nobody takes bytes from it. */
bool compare_is_divergent(const struct group *group, struct uid node);
void compare_free(struct group *group);

#endif
