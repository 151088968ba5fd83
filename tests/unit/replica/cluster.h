#ifndef WR_TEST_CLUSTER_H
#define WR_TEST_CLUSTER_H
/*
 * One to three nodes in one process for the tests of src/replica: real hosts and logs over fake
 * envs, parcels carried by the test in order per pair of shards, everything else in an order drawn
 * from a seed. Links can be cut, nodes crashed and restarted. The catalog is the test's own (its
 * views are given to all hosts), except in tests of the catalog group.
 */
#include <criterion/criterion.h>

#include "fake_env.h"

#include "warren/logger.h"
#include "warren/replica.h"
#include "warren/route.h"
#include "warren/vec.h"

#define NODES_MAX     3
#define SHARDS_MAX    2
#define COMPARE_EVERY 16u /* machines are compared in all of these tests */

struct wire_parcel {
    struct parcel *parcel;
};
struct lane { /* parcels from one shard to a node, in order */
    VEC(struct parcel *) parcels;
    size_t first;
};
struct node_shard {
    struct test_cluster *cluster;
    uint32_t node, shard;
    struct fake_env env;
    struct host *host;
    struct log_reader *reader;
};
struct mail_lane {
    VEC(struct mail *) mails;
    size_t first;
};
struct parcel_mail {
    struct mail mail;
    struct parcel *parcel;
};
struct test_node {
    bool alive;
    struct uid id;
    uint32_t boot;
    struct sim_disk *disk;
    struct sim_kv *kv;
    struct node_shard shards[SHARDS_MAX];
    struct fake_env log_env;
    struct log *log;
    struct mail_lane mail[SHARDS_MAX + 1][SHARDS_MAX + 1]; /* [from][to] */
};
struct test_cluster {
    uint32_t node_count, shard_count;
    struct prng prng;
    struct test_node nodes[NODES_MAX];
    struct lane lanes[NODES_MAX][SHARDS_MAX][NODES_MAX];
    bool cut[NODES_MAX][NODES_MAX];
    struct catalog_view *view_at_restart; /* what a node that restarts knows; NULL: the newest */
    uint32_t lose_percent;                /* of parcels between nodes, while links stand */
    bool held[NODES_MAX][NODES_MAX];      /* a slow link, from and to: only what ... */
    uint32_t pass[NODES_MAX][NODES_MAX];  /* ... is let through comes */
    struct catalog *catalog;
    uint64_t catalog_index;
    uint64_t now_ns;
    uint32_t segment_size, segments_max;
    struct logger logger;
    uint64_t parcels, wire_bytes;
    uint32_t damage;     /* of so many parcels one arrives damaged as well; 0 = none */
    uint8_t damage_kind; /* only of this kind; 0 = any */
    bool damaged;        /* some did: what follows from it goes on */
    uint32_t snapshots_begun, snapshots_refused; /* as logged */
    /* What a leader said last: this replica is to be replaced. */
    uint32_t divergent_told;
    uint64_t divergent_queue;
    struct uid divergent_member;
    uint32_t unused_told, dead_told; /* of whichever queue */
    uint64_t unused_at_ms;           /* when it was told last, since the start */
    uint8_t lose_kind;               /* parcels of this kind between nodes are lost; 0 = none */
    int64_t wall_offset_ms[NODES_MAX];
    bool refuses; /* the next node does not start, because of: */
    char refusal[256];
};

/* What a peer that is broken might send; the caller's. */
struct parcel *cluster_damaged_copy(struct test_cluster *c, const struct parcel *parcel);
uint64_t cluster_seeds(uint64_t count); /* times WR_TEST_MORE */
uint64_t cluster_seed_first(void);      /* WR_TEST_FROM */
struct test_cluster *cluster_new(uint64_t seed, uint32_t nodes, uint32_t shards);
void cluster_free(struct test_cluster *c);
struct host *cluster_host(struct test_cluster *c, uint32_t node, uint32_t shard);
/* Declares; returns the record's id. local_shard >= 0: a local queue of node `nodes[0]`. */
uint64_t cluster_declare(struct test_cluster *c, const char *name, const uint32_t *nodes,
                         uint32_t count, int local_shard);
/* The same, with arguments (a field table) and, for groups, as a quorum queue. */
uint64_t cluster_declare_with(struct test_cluster *c, const char *name, const uint32_t *nodes,
                              uint32_t count, int local_shard, struct bytes arguments, bool quorum);
void cluster_delete(struct test_cluster *c, uint64_t id);
/* Members on nodes that stay keep their ids; a node that is new gets one made of `salt`. */
void cluster_set_replicas(struct test_cluster *c, uint64_t id, const uint32_t *nodes,
                          uint32_t count, uint64_t salt);
void cluster_set_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                         uint32_t count);
/* The same, and nobody hears of it yet. */
void cluster_put_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                         uint32_t count);
/* The others decided that the node is down: its boot is over, whether it comes back or not. */
void cluster_end_boot(struct test_cluster *c, uint32_t node);
const struct catalog_queue *cluster_queue(struct test_cluster *c, uint64_t id);
void cluster_apply(struct test_cluster *c, const struct catalog_command *command,
                   struct catalog_result *result);
void cluster_views(struct test_cluster *c);
/* Does one thing; false when nothing can be done without time passing. */
bool cluster_step(struct test_cluster *c);
/* Time passes until the next wish. */
void cluster_sleep(struct test_cluster *c, uint64_t ms_max);
/* Runs until done(ctx) or the limit of virtual time; true = done. */
bool cluster_run(struct test_cluster *c, bool (*done)(void *ctx), void *ctx, uint64_t ms_max);
void cluster_settle(struct test_cluster *c, uint64_t ms); /* lets virtual time pass */
void cluster_cut(struct test_cluster *c, uint32_t a, uint32_t b);
void cluster_join(struct test_cluster *c, uint32_t a, uint32_t b);
/* A process that is suspended: the others lose it, and it does not know. */
void cluster_suspend(struct test_cluster *c, uint32_t node);
/* It goes on: the others hear, it has not lost any of them. */
void cluster_wake(struct test_cluster *c, uint32_t node);
/* Power failure: unsynced writes are lost in part; its peers hear "lost", then "down". */
void cluster_crash(struct test_cluster *c, uint32_t node);
void cluster_restart(struct test_cluster *c, uint32_t node, bool new_boot);
/* A node alone is up again, and nobody has given it a boot yet: cluster_reboot does. */
void cluster_restart_unbooted(struct test_cluster *c, uint32_t node);
/* The cluster took the node for dead while it lived: it has a new boot from now on. */
void cluster_reboot(struct test_cluster *c, uint32_t node);
int cluster_leader(struct test_cluster *c, uint64_t group); /* node, or -1 */
/* What serves the queue, or a replica of it on that node; asserted to be there. */
struct home *cluster_home(struct test_cluster *c, uint32_t node, uint64_t queue);
uint64_t cluster_now_ms(const struct test_cluster *c); /* since the start */
#endif
