#ifndef WR_REPLICA_HOST_INTERNAL_H
#define WR_REPLICA_HOST_INTERNAL_H
/*
 * The host of a shard, and its parts that are no groups or homes: clients (client*.c), the catalog
 * and where its changes are known (catalog_group.c, catalog_spread.c), reports, letters.
 * docs/replica.md has the picture.
 *
 *   host    one per shard: groups, local homes, clients; one turn at a time
 *   home    where one queue is served (home.h)
 *   group   one Raft group's replica (group.h)
 *   client  the asking side of a queue (client_internal.h)
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

#include "group.h"
#include "parcel.h"

#define HOST_CATALOG_GROUP  UINT64_C(1)
#define CLIENT_OPS_MAX      10000u
#define CLIENT_BYTES_MAX    (UINT64_C(16) << 20)
#define CLIENT_BYTES_LEAST  (UINT64_C(64) << 10) /* whatever the others have */
#define CLIENT_BYTES_ALL    (UINT64_C(64) << 20) /* default of client_bytes_max */
#define BACKLOG_MAX         (UINT64_C(8) << 20)  /* more queued to a node: deliveries wait */
#define RETRY_FIRST_MS      200u
#define RETRY_MAX_MS        1000u
#define CONNECTED_RETRY_MS  2000u   /* without progress, while the link stands, at first */
#define PATIENCE_MAX_MS     128000u /* ... at most: BACKLOG_MAX at 64 KiB/s */
#define RESUME_RETRY_MAX_MS 16000u
#define HELD_PARCELS_MAX    4096u
#define HELD_MS             1000u

struct checkpoint_job;
struct home;
struct recover;

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
    uint64_t catalog_posted; /* index of the view that was posted to all shards last */
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
void spread_posted(struct host *host, uint64_t index); /* that view is in all shards' mailboxes */
void spread_wants(struct host *host, uint64_t index);  /* asks whoever has not told of it */
bool spread_reached(struct host *host, uint64_t index);
void spread_node_changed(struct host *host, struct uid node);
void spread_on_parcel(struct host *host, struct parcel *parcel);

/* --- reports (report.c) ---------------------------------------------------------------------- */
void report_on_request(struct host *host, struct parcel *parcel);
void report_on_answer(struct host *host, struct parcel *parcel);
void reports_free(struct host *host);
void report_turn(struct host *host);
void reports_ready(struct group *group);

/* --- letters (letter.c) ---------------------------------------------------------------------- */
void letter_on_parcel(struct host *host, struct parcel *parcel);

#endif
