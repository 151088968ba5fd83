#ifndef WR_REPLICA_INTERNAL_H
#define WR_REPLICA_INTERNAL_H
/*
 * What the files of src/replica share: the host of a shard and what it is made of. docs/replica.md
 * has the picture.
 *
 *   host    one per shard: groups, local homes, clients; one turn at a time
 *   home    where one queue is served: its machine, its store of message bytes, its routes (group:
 * a replica; or local) group   one Raft group's replica: raft core, log positions, apply cursor;
 * bound to a machine by struct machine_ops route   the serving side of one client: where its
 * effects go, and those that wait for bytes client  the asking side (client.c)
 *
 * Ownership: the host owns all of them; ids (not pointers) are kept across turns and in
 * asynchronous requests, so whatever ends in between is simply not found any more.
 */
#include <string.h>

#include "warren/assert.h"
#include "warren/buf.h"
#include "warren/bytes.h"
#include "warren/err.h"
#include "warren/list.h"
#include "warren/logger.h"
#include "warren/map.h"
#include "warren/mem.h"
#include "warren/pack.h"
#include "warren/prng.h"
#include "warren/replica.h"
#include "warren/timer.h"
#include "warren/vec.h"

#define HOST_CATALOG_GROUP   UINT64_C(1)
#define HOST_KV_TOKEN_BASE   (UINT64_C(1) << 61) /* the host's kv tokens; below the log reader's */
#define ENTRY_VERSION        1u
#define ENTRY_HEADER         9u                  /* u8 version, u64 leader's time */
#define ENTRY_BYTES_WANTED   (UINT32_C(1) << 20) /* an entry is closed at this size */
#define APPLY_BYTES_PER_TURN (UINT32_C(4) << 20)
#define STORE_QUEUE_BYTES                                                                          \
    (UINT64_C(16) << 20) /* most bytes of one group queue kept in memory ... */
#define STORE_HOST_BYTES                                                                           \
    (UINT64_C(64) << 20) /* ... while all of the host's have no more than this ... */
#define STORE_QUEUE_FLOOR   (UINT64_C(64) << 10) /* ... this much is always allowed */
#define LOAD_BYTES          (UINT32_C(1) << 20)
#define LOAD_ENTRIES        64u
#define CLIENT_OPS_MAX      10000u
#define CLIENT_BYTES_MAX    (UINT64_C(16) << 20)
#define CLIENT_BYTES_LEAST  (UINT64_C(64) << 10) /* whatever the others have */
#define CLIENT_BYTES_ALL    (UINT64_C(64) << 20) /* default of client_bytes_max */
#define BACKLOG_MAX         (UINT64_C(8) << 20)  /* more queued to a node: deliveries wait */
#define RETRY_FIRST_MS      200u
#define RETRY_MAX_MS        1000u
#define CONNECTED_RETRY_MS  2000u /* without progress, while the link stands */
#define RESUME_RETRY_MAX_MS 16000u
#define HELD_PARCELS_MAX    4096u
#define HELD_MS             1000u

struct group;
struct home;
struct client_link;

static inline struct uid uid_of_raft(struct raft_id id)
{
    return (struct uid){id.hi, id.lo};
}
static inline struct raft_id raft_of_uid(struct uid id)
{
    return (struct raft_id){id.hi, id.lo};
}

/* --- parcels (parcel.c, parcel_codec.c) ------------------------------------------------------ */
enum parcel_kind { /* frozen: nodes of different versions */
                   PARCEL_RAFT = 1,
                   PARCEL_OPS = 2,     /* client's host -> home */
                   PARCEL_RESUME = 3,  /* client's host -> home */
                   PARCEL_EFFECTS = 4, /* home -> client's host */
                   PARCEL_RESUMED = 5, /* home -> client's host */
                   PARCEL_NOT_HERE =
                       6,             /* home -> client's host: not served here; hint: who leads */
                   PARCEL_LEADER = 7, /* home -> every host with clients: served here now */
                   PARCEL_REPORT = 8, /* ask for totals */
                   PARCEL_REPORTED = 9,
                   PARCEL_NOT_MEMBER = 10, /* leader -> a replica that is no member any more */
                   PARCEL_PROPOSE = 11,    /* catalog command to the leader */
                   PARCEL_PROPOSED = 12,
                   PARCEL_CATALOG_ASK =
                       20, /* within a node: another shard's proposal or barrier, to shard 0 */
                   PARCEL_CATALOG_TOLD = 21, /* within a node: its outcome */
                   PARCEL_MEMBER = 13, /* a replica that its record does not name: am I a member?
                                          Answered with NOT_MEMBER, or not */
                   PARCEL_HASH = 14,   /* member -> leader: what its machine was at an index */
                   PARCEL_QUARANTINE = 15,  /* leader -> member: it differs from the majority */
                   PARCEL_QUARANTINED = 16, /* member -> leader: it was found to differ */
                   PARCEL_COMPARE = 17,     /* leader -> member: who has applied just that, tells */
                   PARCEL_LETTER = 18,      /* broker -> broker */
                   PARCEL_VIEW_ASK = 22,    /* node -> node: when do you have that index? */
                   PARCEL_VIEW_AT = 23,     /* node -> node: all shards here have it */
                   PARCEL_VIEW_PASS = 24,   /* within a node: behind a view, to the other shards */
                   PARCEL_VIEW_PASSED = 25, /* within a node: they have it */
};

/* One run of ops of a client within a PARCEL_OPS. */
struct ops_section {
    uint64_t client;
    uint32_t session;
    bool fresh;          /* nothing of this client was ever sent before: no resume needed */
    uint32_t begin, end; /* in the encoded bytes; or in ops */
    uint64_t last_seq;   /* of its last op; not sent (found by checking) */
};
struct ops_bundle { /* PARCEL_OPS within a node */
    VEC(struct ops_section) sections;
    struct buf *encoded;      /* ENTRY_HEADER bytes of room, then queue batches; or NULL: */
    VEC(struct queue_op) ops; /* for a local home: owned (ops_release) */
};
struct effect_item {
    struct queue_effect effect;
    uint32_t session;
    uint64_t number; /* counts the items of one session: a gap tells a loss */
    uint32_t message_first, message_count;
};
struct effect_bundle { /* PARCEL_EFFECTS within a node */
    uint32_t shard;    /* of the clients */
    uint64_t
        applied; /* the leader had applied this much: what it names by position exists up to here */
    uint32_t by_position; /* DELIVER items without bytes: the receiving node's replica has them
                             (relay.c) */
    VEC(struct effect_item) items;
    VEC(struct message) messages; /* owned references */
};
struct consumer_expect {
    uint32_t consumer;
    uint64_t next; /* ordinal */
};
struct resume_body {
    uint64_t client;
    uint32_t session;
    bool inlined;     /* bytes by position did not come: send them along */
    uint64_t applied; /* what the client knows of; which later ones were refused it must be told */
    VEC(struct consumer_expect) consumers;
};
struct seq_run {
    uint64_t first, count;
};
struct resumed_body {
    uint64_t client;
    uint32_t session;
    uint64_t applied, received;  /* ops applied; ops in the leader's hands */
    VEC(struct seq_run) refused; /* of those applied: enqueues that were not taken; ascending */
};

struct parcel *parcel_make(struct host *host, uint8_t kind, uint8_t priority, uint64_t group,
                           struct uid node, uint32_t shard);
void parcel_set_body(struct parcel *parcel, struct buf *owned_head, struct slice *owned_raw,
                     uint32_t raw_count);
/* Head and raw part of an encoded body, in one buffer (gathered when it came in pieces).
 * WR_E_CORRUPT. */
int parcel_body(struct parcel *parcel, struct bytes *ret_head, struct slice *ret_raw);
/* Sends or, to the own shard, puts into the inbox. */
void parcel_send(struct host *host, struct parcel *owned);
void parcel_refused(struct host *host, const struct parcel *parcel, const char *what, int error);

void raft_message_pack(struct parcel *parcel, const struct raft_message *message);
int raft_message_unpack(struct parcel *parcel, struct raft_message *ret,
                        struct raft_entry **ret_entries, struct raft_member *members);

void ops_bundle_free(void *bundle);
void effect_bundle_free(void *bundle);
void resume_body_free(void *body);
void ops_pack(struct parcel *parcel, struct ops_bundle *owned_bundle);
int ops_unpack(struct parcel *parcel, struct ops_bundle **ret_bundle, struct slice *ret_raw);
void effects_pack(struct parcel *parcel, struct effect_bundle *owned_bundle);
int effects_unpack(struct parcel *parcel, struct effect_bundle **ret_bundle);
void resume_pack(struct parcel *parcel, const struct resume_body *body);
int resume_unpack(struct parcel *parcel, struct resume_body *ret_body);
void resumed_pack(struct parcel *parcel, const struct resumed_body *body);
/* The caller frees ret_body->refused. */
int resumed_unpack(struct parcel *parcel, struct resumed_body *ret_body);
/* A body of plain numbers, for the small kinds. */
void numbers_pack(struct parcel *parcel, const uint64_t *numbers, uint32_t count,
                  struct slice owned_raw);
int numbers_unpack(struct parcel *parcel, uint64_t *numbers, uint32_t count, struct slice *ret_raw);

/* --- ops (ops.c) ----------------------------------------------------------------------------- */
VEC_TYPE(op_vec, struct queue_op);
void op_release(struct queue_op *op); /* its message reference and copies of name and args */
void ops_release(struct queue_op *ops, size_t count);
void buf_ref_many(struct buf *b, uint32_t n);
void buf_unref_many(struct buf *b, uint32_t n);
void slices_ref(const struct slice *slices,
                size_t count); /* one atomic operation per run of one buffer */
void slices_unref(const struct slice *slices, size_t count);

/* --- store (store.c, load.c) ----------------------------------------------------------------- */
struct position_range {
    uint64_t position, count;
};
/* Positions position.. are the enqueues number nth.. of log entry `index`. */
struct where_run {
    uint64_t position, index;
    uint32_t nth, count;
};
struct store {
    struct slice *ring; /* [base, end): bytes in memory; slots may be empty */
    uint32_t capacity;  /* power of two or 0 */
    uint64_t base, end;
    uint64_t live;     /* full slots */
    struct umap stray; /* position -> heap slice: full slots that were in the way */
    uint64_t bytes;    /* of all slices in memory */
    uint64_t *host_bytes;
    bool memory_only; /* local queues: nothing is ever given up */
    bool behind; /* the newest messages are on disk only: the ring must catch up before it takes new
                    ones */
    VEC(struct where_run) where; /* [where_first, count), ascending; groups only */
    size_t where_first;
    uint64_t kv_end;     /* messages below may be in the checkpoint store */
    uint64_t kv_unknown; /* what is there from here on is not needed: a transfer that was cut short
                            by the end of the process left it. UINT64_MAX: nothing is */
    bool kv_swept; /* since the start: below, there is nothing but what lives or will be dropped */
    VEC(struct position_range) kv_drops; /* to be deleted there */
};
void store_init(struct store *store, bool memory_only, uint64_t *host_bytes, struct hash_seed seed);
void store_deinit(struct store *store);
void store_clear(struct store *store);
/* A new message; takes over the reference, and may give the bytes up at once (groups). */
void store_add(struct store *store, uint64_t position, struct slice owned_record);
void store_note_where(struct store *store, uint64_t position, uint64_t index, uint32_t nth);
/* Bytes read back from disk, for position. Kept until dropped or delivered. */
void store_add_loaded(struct store *store, uint64_t position, struct slice owned_record);
void store_make_room(struct store *store, uint64_t position);
bool store_has_room(const struct store *store);
void store_drop(struct store *store, uint64_t position, uint64_t count);
/* How many from `position` on lie side by side in memory, at most `max`; *ret_first = the first. */
uint64_t store_run(const struct store *store, uint64_t position, uint64_t max,
                   const struct slice **ret_first);
/* Copies the (borrowed) slices of these positions and adds their bytes to *bytes; false when one is
 * not in the ring. */
bool store_pick(const struct store *store, uint64_t position, uint32_t count,
                struct slice *ret_slices, uint64_t *bytes);
void store_forget_stray(struct store *store, uint64_t position);
const struct where_run *store_where(const struct store *store, uint64_t position);
/* Forgets where messages below `position` are. */
void store_trim_where(struct store *store, uint64_t position);

/* --- routes and homes (home.c, effects.c, local.c) ------------------------------------------- */
struct pacing {        /* pace.c */
    uint64_t until_ns; /* consumers are hungry until then; 0: they never were */
    uint64_t period;   /* in which publishers are counted: */
    uint32_t now, before;
    uint64_t sample, sampled_ns, commit_ns; /* an entry that was proposed (0: none), and when */
    bool enqueued;                          /* the batch whose effects go out published something */
};
struct route {
    struct list link; /* in home->routes_list, for an order that does not depend on hashing */
    uint64_t client;
    struct uid node;
    uint32_t shard;
    uint32_t session;
    uint64_t number;                  /* of the next item */
    uint64_t received;                /* highest seq accepted in this term */
    VEC(struct queue_effect) waiting; /* from waiting_first on */
    size_t waiting_first;
    uint64_t pace, pace_period; /* what its client was told last; pace.c */
    bool blocked;               /* waiting is not empty */
    bool via; /* its node has a replica: deliveries may name positions instead of carrying bytes */
    bool remote; /* counted in home->remote_routes */
};
struct behind_effect { /* of an entry that was applied before the log had it (ahead.c) */
    uint64_t index;
    struct queue_effect effect;
};
struct report_wait {
    uint64_t index; /* answered when applied up to here */
    struct uid node;
    uint32_t shard;
    uint64_t request;
    bool consumers;
};
struct home {
    struct host *host;
    uint64_t id;
    uint64_t incarnation;
    struct queue *queue;
    struct store store;
    struct group *group; /* NULL: local */
    bool serving; /* local: always; group: leader that has applied an entry of its own term */
    struct umap routes;
    struct list routes_list;
    struct route *last_route;
    VEC(struct queue_effect) effects;
    VEC(struct position_range) held_drops;
    uint32_t blocked_routes;
    uint32_t remote_routes; /* to other nodes */
    /* ahead.c: */
    bool ahead;                       /* what is applied now, the log does not have yet */
    uint64_t ahead_out;               /* messages handed out by such entries */
    VEC(struct behind_effect) behind; /* what waits for their commit; from behind_first on */
    size_t behind_first;
    struct pacing pacing;
    VEC(uint64_t) untold; /* boots of clients that the view does not know yet (down.c) */
    bool loading;
    uint64_t load_serial;
    uint64_t load_next;           /* behind what was loaded last */
    uint64_t missing;             /* a load found no bytes for this position; 0 = none */
    uint64_t time_ms, time_at_ns; /* highest time heard, and when (monotonic clock, read anew) */
    /* upkeep.c: */
    struct timer expire, dead_again;
    bool expire_asked;      /* an EXPIRE is under way */
    bool config_due;        /* it is in host->configs_due */
    uint32_t configs_asked; /* CONFIGs under way, the last of them: */
    struct queue_config config_asked;
    /* while one batch is applied: */
    struct queue_op *applying; /* its ops, when the bytes may be taken over; else NULL */
    const struct queue_op *count_from;
    uint64_t entry_index;
    uint32_t enqueues;
    bool unused_told;
    struct list dirty; /* in host->dirty_homes: routes to pump */
    VEC(struct effect_bundle *)
    relay; /* not serving: effects whose bytes are taken from here, in order (relay.c) */
    size_t relay_first;
};
struct home *home_new(struct host *host, uint64_t id, struct queue *owned_queue,
                      struct group *group);
void home_free(struct home *home);
struct home *home_find(struct host *host, uint64_t id);
void home_stop_serving(struct home *home); /* routes end; held drops are done */
/* Applies and carries out. `moves`: ops are ours and stored records may be taken out of them
 * (op->pad is set then). */
void home_apply(struct home *home, uint64_t time_ms, const struct queue_batch *batch,
                uint64_t index, bool moves);
void home_carry_out(struct home *home); /* home->effects */
void home_pump(struct home *home);
/* ahead.c. Applies what may be applied before it is in the log, of what was proposed. */
void ahead_apply(struct group *group);
/* Of an entry that is applied now: does the effect go out already? Else it was put aside. */
bool ahead_takes_effect(struct home *home, const struct queue_effect *effect);
/* An entry <= group->ahead is committed: what it held back goes out. */
void ahead_committed(struct group *group, uint64_t index);
/* It serves for the first time since it was read from the disk. */
void ahead_recovered(struct home *home);
/* pace.c: an entry of the queue was proposed; the machine has applied the batch, its effects are
 * about to go out. */
void pace_proposed(struct home *home, uint64_t index);
void pace_applied(struct home *home, const struct queue_batch *batch);
void pace_committed(struct home *home, uint64_t index);
/* Whether the client of an APPLIED is to be told another pace before: with that effect. */
bool pace_changes(struct home *home, struct route *route, struct queue_effect *ret_effect);
void home_mark(struct home *home);
void home_drops_flush(struct home *home);
/* The bytes may be asked for still: it is live, or done with, and its delivery, or the log's word
 * that it is done with, is waited for. */
bool home_wants(const struct home *home, uint64_t position);
struct route *route_open(struct home *home, uint64_t client, struct uid node, uint32_t shard,
                         uint32_t session);
void route_close(struct home *home, uint64_t client);
/* One host-originated op: proposed by a group, applied at once by a local home. */
void home_host_op(struct home *home, const struct queue_op *op);
void home_on_parcel(struct host *host, struct parcel *owned);
void home_on_ops(struct home *home, struct uid node, uint32_t shard,
                 struct ops_bundle *owned_bundle, struct slice raw);
/* Ops of one client. A local home moves their messages into its store (the records are then empty);
 * a group copies them. */
void home_take_ops(struct home *home, struct uid node, uint32_t shard,
                   const struct ops_section *section, struct queue_op *ops, uint32_t count);
void home_on_resume(struct home *home, struct uid node, uint32_t shard,
                    const struct resume_body *body);
/* upkeep.c: the queue's time, configuration, dead letters. */
uint64_t home_time(struct home *home); /* now; never falls */
void home_heard_time(struct home *home, uint64_t time_ms);
void home_arm_expire(struct home *home);
void home_config_due(struct home *home); /* its record may have changed */
void home_tell_dead(struct home *home);
void home_booted(struct home *home); /* the node has a boot: its dead letters can be told of */
void home_upkeep_begin(struct home *home); /* it serves from now on */
void home_upkeep_end(struct home *home);
void home_upkeep_applied(struct home *home, const struct queue_batch *batch);
void configs_turn(struct host *host);
void home_answer_report(struct home *home, const struct report_wait *wait);
void home_announce_to(struct home *home, struct uid node);
void home_check_boots(struct home *home);
/* down.c: the view knows no node of this boot yet; when it does, that is told who leads. */
void home_note_untold(struct home *home, uint64_t boot);
void route_effect(struct home *home, struct route *route, const struct queue_effect *effect);
/* Messages that are delivered one after the other but lie apart, as by priority, go as one item.
 * Returns how many of the effects that were; 0: the first one goes alone. */
size_t route_deliver_apart(struct home *home, struct route *route,
                           const struct queue_effect *effects, size_t count);
void effects_flush(struct host *host);
void effects_drop(struct host *host);
void load_start(struct home *home, uint64_t position);
void relay_take(struct host *host, uint64_t queue, struct effect_bundle *owned_bundle);
void relay_pump(struct home *home);
void relay_give_up(struct home *home); /* the replica ends: clients are to ask for the bytes */
void relay_drop(struct home *home);    /* nobody waits for it any more */
void effects_hand_over(struct host *host, struct uid from, const struct effect_bundle *bundle);
struct fetched {
    uint64_t position;
    struct slice record; /* borrowed */
};
/* Reads messages from `position` on from disk; not all that come were asked for, and none may come.
 * fn is called later, unless the group ended. */
typedef void (*fetch_fn)(struct group *group, uint64_t position, const struct fetched *items,
                         size_t count, uint64_t a, uint64_t b);
enum fetch_how {
    FETCH_ONE = 0, /* nobody reads in order: little more than this one */
    FETCH_AHEAD = 1,
};
void fetch_start(struct group *group, uint64_t position, enum fetch_how how, fetch_fn fn,
                 uint64_t a, uint64_t b);
struct fetch;
void fetch_free(struct fetch *fetch);
void fetches_free(struct host *host);
/* What a read of the log is for, first in its context: freed with the host when never answered. */
struct log_job {
    struct list link; /* host->log_jobs */
};
void log_job_add(struct host *host, struct log_job *job);
void log_job_free(struct log_job *job);
void local_view_changed(struct host *host, const struct catalog_queue *before,
                        const struct catalog_queue *after);

/* --- groups ---------------------------------------------------------------------------------- */
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

/* --- checkpoint, recovery -------------------------------------------------------------------- */
struct checkpoint_job;
struct relogged { /* where an entry that was written again lies now */
    uint64_t index, term;
    struct log_location location;
};
struct relog { /* relog.c: entries of one group to write again: [next, end) */
    uint64_t next, end;
    uint32_t pending; /* on their way to the disk */
    bool reading;
    VEC(struct relogged) places;
};
void relog_begin(struct group *group, struct relog *r, uint64_t first);
void relog_go_on(struct group *group, struct relog *r);
bool relog_is_done(const struct relog *r);
void relog_written(struct relog *r, const struct log_item *item);
void relog_take_places(struct group *group, struct relog *r);
void relog_deinit(struct relog *r);
/* Bytes that would have to be written again; not much above `most`. */
uint64_t relog_bytes(const struct host *host, uint32_t segment, uint64_t most);
/* Of the job under way; NULL: it has ended. */
struct relog *checkpoint_relog(const struct group *group);
struct kv_request {
    uint64_t token;
    void (*done)(struct host *host, struct kv_request *request, int result,
                 struct kv_reply *reply); /* reply borrowed */
    uint64_t group, incarnation, a, b;
    void *user;
};
struct kv_request *kv_request_new(struct host *host);
/* Of deletions of one group's messages: those that fail are made up for later. */
struct kv_request *kv_delete_request(struct host *host, uint64_t group);
/* bytes: of the segments that would go. */
void checkpoint_retire(struct host *host, uint32_t segment, uint64_t bytes);
void checkpoint_retire_cheaply(struct host *host, uint32_t segment, uint64_t bytes);
void checkpoint_work(struct host *host);
#define RELOG_GENERATION UINT64_MAX /* an entry written again because its segment goes */
void checkpoint_free(struct host *host);
void host_want_kv_drops(struct host *host);
/* Appends what deletes the messages below `end` that do not live; at most `max` ranges. */
VEC_TYPE(kv_op_vec, struct kv_op);
void checkpoint_sweep(struct group *group, uint64_t end, size_t max, struct kv_op_vec *ops);
void checkpoint_on_item(struct group *group, const struct log_item *item);
/* Machine snapshot as stored: where-runs of bodies that stay in the log, then the machine. */
void stored_machine_encode(struct group *group, uint32_t segment, bool with_where,
                           struct buf **out);
int stored_machine_decode(struct group *group, uint64_t index, struct bytes stored);
/* purge.c: what ended replicas leave in the checkpoint store. */
void purge_begin(struct host *host, uint64_t group);
bool purge_is_pending(struct host *host, uint64_t group);
void purge_forget(struct host *host, uint64_t group);
void purges_free(struct host *host);
struct recover;
void recover_free(struct host *host);

/* --- clients --------------------------------------------------------------------------------- */
void client_turn(struct host *host);
/* Where a client of this host found the queue served. */
bool client_leader_of(const struct host *host, uint64_t queue, struct uid *ret_node);
void client_on_effect(struct host *host, struct uid from, const struct effect_item *item,
                      const struct message *messages, bool counted);
void client_on_resumed(struct host *host, struct uid node, uint32_t shard,
                       const struct resumed_body *body);
void client_on_not_here(struct host *host, uint64_t queue, uint64_t client, uint32_t session,
                        struct uid hint);
void client_on_leader(struct host *host, uint64_t queue, struct uid node, uint32_t shard);
void client_node_lost(struct host *host, struct uid node);
void client_node_up(struct host *host, struct uid node);
void client_queue_gone(struct host *host, uint64_t queue, bool lost);
void client_queue_changed(struct host *host, const struct catalog_queue *queue);
void clients_end_outlived(struct host *host);
void clients_free(struct host *host);
void client_flush_dests(struct host *host);

/* --- catalog (catalog_group.c) --------------------------------------------------------------- */
void catalog_turn(struct host *host);
void catalog_on_propose(struct group *group, struct parcel *parcel);
void catalog_on_ask(struct host *host, struct parcel *parcel);
void catalog_on_told(struct host *host, struct parcel *parcel);
void catalog_on_proposed(struct host *host, struct parcel *parcel);
void catalog_on_read(struct host *host, const struct raft_read *read);
void catalog_requests_free(struct host *host);

/* --- where the catalog's changes are known (catalog_spread.c) -------------------------------- */
void spread_applied(struct host *host, uint64_t index); /* here, and given to the other shards */
void spread_wants(struct host *host, uint64_t index);   /* asks whoever has not told of it */
bool spread_reached(struct host *host, uint64_t index);
void spread_node_changed(struct host *host, struct uid node);
void spread_on_parcel(struct host *host, struct parcel *parcel);
void spread_free(struct host *host);

/* --- reports (report.c) ---------------------------------------------------------------------- */
void report_on_request(struct host *host, struct parcel *parcel);
void report_on_answer(struct host *host, struct parcel *parcel);
void reports_free(struct host *host);
void report_turn(struct host *host);
void reports_ready(struct group *group);

/* --- letters (letter.c) ---------------------------------------------------------------------- */
void letter_on_parcel(struct host *host, struct parcel *parcel);

/* --- host ------------------------------------------------------------------------------------ */
enum node_reach {
    NODE_UNKNOWN = 0,
    NODE_UP,
    NODE_LOST,
    NODE_DEAD,
    NODE_GONE /* boots only: never comes back */
};
struct node_state {
    struct uid node;
    enum node_reach reach;
    uint64_t view_at, view_asked;   /* catalog indexes: what it has; what it was asked for */
    uint64_t view_wants, view_told; /* what it asked for; what it was told */
};
struct spread { /* what of the catalog this node's shards have (catalog_spread.c) */
    uint64_t applied, passing, wanted;
    uint64_t *passed; /* by shard */
};
struct catalog_wait { /* a proposal in the log: a request of this node, or of another one */
    uint64_t index, term;
    struct uid node;
    uint32_t shard;
    uint64_t request;
};
struct held_parcel {
    struct parcel *parcel;
    uint64_t until_ms;
};
struct dest;     /* effects gathered for one host (effects.c) */
struct ops_dest; /* ops gathered for one home (client.c) */
struct host {
    struct env *env;
    struct host_options options;
    const struct logger *logger;
    struct host_sink sink;
    struct hash_seed hash;
    struct prng prng;
    struct timers timers;
    uint64_t now_ms;
    uint32_t boot;
    uint32_t client_counter;
    uint64_t incarnations;
    struct catalog_view *view;
    struct umap groups, locals, clients, queues;
    VEC(uint64_t)
    unnamed; /* recovered groups, by id: those from unnamed_at on no view has named yet */
    size_t unnamed_at;
    struct umap ended; /* group -> members that were replicas here and ended (members.c) */
    VEC(struct node_state) nodes;
    struct list dirty_groups, dirty_homes, dirty_clients;
    VEC(struct parcel *) inbox;
    VEC(struct held_parcel) held;
    struct log_batch *batch; /* lazy as long as nobody waits for any of it */
    bool hurry;              /* somebody waits for what was submitted as lazy */
    bool log_blocked, disk_low;
    char log_why[200];
    VEC(struct dest *) dests;
    VEC(struct ops_dest *) ops_dests;
    VEC(struct message) scratch;
    uint64_t store_bytes;
    uint64_t client_bytes; /* pending, of all clients */
    struct umap kv_requests;
    struct umap purges; /* of groups whose replica here ended (purge.c) */
    struct list fetches, log_jobs;
    uint64_t
        read_told_ms; /* when a read that is tried again was in the event log last; 0 = never */
    uint64_t kv_token;
    struct checkpoint_job *checkpoint;
    struct recover *recover;
    struct timer held_timer, pump_timer, drop_timer, checkpoint_timer, postponed_timer;
    uint32_t postponed_segment; /* the release of these segments waits: too much is not applied */
    uint64_t postponed_bytes;
    bool backlogged; /* some route waits for a link to drain */
    bool in_turn, marked;
    bool boots_changed;        /* nodes or boots changed: homes look at their clients' boots */
    VEC(uint64_t) configs_due; /* homes whose record may have changed */
    bool clients_outlived;     /* there may be clients of an earlier boot */
    /* catalog, shard 0 */
    struct catalog *catalog;
    VEC(struct peer_node) wanted_members; /* host_catalog_set_members */
    bool wanted_set;
    struct umap catalog_requests;
    struct list catalog_proposals; /* those of them that this shard proposes, the oldest first */
    VEC(struct catalog_wait) catalog_waits; /* proposals here whose outcome is wanted, by index */
    bool catalog_answers;                   /* some request may be complete */
    struct spread *spread;
    uint64_t request_counter;
    bool catalog_changed;
    struct umap reports;
    VEC(uint64_t) fresh_reports; /* to be asked for the first time */
};
void host_mark_now(struct host *host);
/* NULL: nothing was said of it yet, or it is this one. Valid until the next node is heard of. */
struct node_state *node_state_of(const struct host *host, struct uid node);
enum node_reach host_reach(const struct host *host, struct uid node);
enum node_reach host_boot_reach(const struct host *host, uint64_t boot);
void host_log(struct host *host, const struct log_item *item, bool lazy);
void host_hold(struct host *host, struct parcel *owned);
void host_readmit_held(struct host *host);
void host_dispatch(struct host *host, struct parcel *owned);
void host_refresh(struct host *host);
void host_check_boots(struct host *host);
static inline bool host_is_self(const struct host *host, struct uid node)
{
    return uid_eq(host->options.node_id, node);
}

#endif
