#ifndef WR_SIM_H
#define WR_SIM_H
/*
 * What the files of the cluster simulator share (docs/simulation.md): one struct sim is one run
 * from one seed. Hosts 0 .. node_count-1 run nodes (the real src/node on a simulated env), the
 * hosts after them run clients, which use the same env.
 *
 *   sim_sched.c   time and the queue of events        sim_node.c     hosts: start, kill, restart
 *   sim_env.c     struct env_ops, contexts and turns  sim_faults.c   what goes wrong, and when
 *   sim_net.c     routes, partitions, resets          sim_client.c   AMQP from the client's side
 *   sim_pipe.c, sim_conn.c   bytes under way; an env's connections
 *   sim_role.c    publishers, consumers, getters      sim_ledger.c   what messages may be expected
 *   sim_check.c   white-box invariants                sim_run.c      options, phases, verdict
 *   sim_inner.c   queue clients inside nodes          sim_policy.c   policies
 *   sim_mover.c   messages that are moved             sim_seat.c     connections that are counted
 *
 * Determinism: everything random is drawn from prngs forked from the seed by label; events are
 * ordered by (time, sequence); nothing depends on an address. Threads: one.
 */
#include <stdio.h>

#include "sim_confirm.h"
#include "sim_cover.h"
#include "sim_file.h"
#include "sim_frames.h"
#include "sim_kv.h"

#include "warren/bytes.h"
#include "warren/env.h"
#include "warren/heap.h"
#include "warren/list.h"
#include "warren/logger.h"
#include "warren/map.h"
#include "warren/node.h"
#include "warren/prng.h"
#include "warren/uid.h"
#include "warren/vec.h"

#include "node/config.h"

#define SIM_US            UINT64_C(1000)
#define SIM_MS            UINT64_C(1000000)
#define SIM_S             UINT64_C(1000000000)
#define SIM_NODES_MAX     7u
#define SIM_CLIENTS_MAX   22u
#define SIM_HOSTS_MAX     (SIM_NODES_MAX + SIM_CLIENTS_MAX)
#define SIM_SHARDS_MAX    3u
#define SIM_QUEUES_MAX    10u
#define SIM_AMQP_PORT     5672
#define SIM_COMPARE_EVERY 16u /* applied indexes at which replicas compare their machines */
#define SIM_CLUSTER_PORT  25672
#define SIM_LISTENERS     5u /* enum env_listener as index */

struct sim;
struct sim_host;
struct client;
struct channel;

/* --- events (sim_sched.c) ------------------------------------------------------------ */

typedef void (*sim_fn)(struct sim *sim, void *arg, uint64_t a, uint64_t b);

struct sim_event {
    struct heap_node node;
    uint64_t at, sequence;
    sim_fn fn;
    void *arg;
    uint64_t a, b;
    /* Set: the event belongs to that start of that host's process and is dropped (arg destroyed)
     * when it is over. */
    struct sim_host *host;
    uint64_t incarnation;
    void (*destroy)(void *arg);
};

/* fn runs at `at` (not before now). */
void sim_at(struct sim *sim, uint64_t at, sim_fn fn, void *arg, uint64_t a, uint64_t b);
/* The same, bound to the current incarnation of a host; destroy may be NULL. */
void sim_at_host(struct sim *sim, struct sim_host *host, uint64_t at, sim_fn fn, void *arg,
                 uint64_t a, uint64_t b, void (*destroy)(void *arg));
/* Runs the next event. False: there is none. */
bool sim_step(struct sim *sim);
void sim_sched_drop_host(struct sim *sim, struct sim_host *host); /* its incarnation is over */
void sim_sched_init(struct sim *sim);
void sim_sched_deinit(struct sim *sim);
/* Mixes a value or bytes into the trace hash: every event of the seam goes through here. */
void sim_mix(struct sim *sim, uint64_t value);
void sim_mix_bytes(struct sim *sim, const void *data, size_t size);
/* A line of the trace, printed with --trace and kept for the report of a failure. */
void sim_trace(struct sim *sim, const char *fmt, ...) WR_PRINTF(2, 3);
/* An invariant is violated: reports and ends the process. */
WR_NORETURN void sim_fail(struct sim *sim, const char *fmt, ...) WR_PRINTF(2, 3);

/* --- contexts (sim_env.c) ------------------------------------------------------------
 */

enum sim_item_kind {
    SIM_ITEM_MAIL,
    SIM_ITEM_FILE,
    SIM_ITEM_KV,
    SIM_ITEM_EXEC,
    SIM_ITEM_ACCEPT,
    SIM_ITEM_CONNECTED,
    SIM_ITEM_READABLE,
    SIM_ITEM_DRAINED,
    SIM_ITEM_CLOSED,
    SIM_ITEM_MOVED,
};

/* An upcall that waits for its context's next step. */
struct sim_item {
    struct list link;
    enum sim_item_kind kind;
    uint64_t token;
    int64_t result;
    void *pointer; /* kv reply, read buffer, or exec job */
    struct env_conn *conn;
    uint64_t pipe; /* READABLE: connection and side, which may be gone by then */
    uint32_t side;
    enum env_listener listener;
};

struct sim_context {
    struct env env; /* first: env pointer = context pointer */
    struct sim *sim;
    struct sim_host *host;
    const struct env_sink *sink;
    void *sink_ctx;
    struct list items, conns, files;
    struct list mailbox; /* posted and not handed over, in order (struct sim_mail) */
    uint64_t mail_at;    /* when the last of it is due */
    uint32_t mail_early; /* handed over before they were due, for bytes that were sent later */
    bool step_scheduled, dirty, in_upcall;
    uint64_t wake_at; /* in the host's monotonic time; UINT64_MAX = none */
    uint64_t wake_serial;
    uint64_t taken_token;
    struct buf *taken; /* data of the read whose completion is being handed over */
    uint64_t steps;
};

void sim_context_init(struct sim_context *context, struct sim_host *host, uint32_t number,
                      uint32_t count);
void sim_context_deinit(struct sim_context *context); /* destroys what waits; after node_free */
struct sim_item *sim_item_push(struct sim_context *context, enum sim_item_kind kind);
/* Hands over what was posted to the context up to sim->posts = `posts` (I6 of env.h). */
void sim_mail_first(struct sim_context *context, uint64_t posts);
/* Waits there mail in its mailbox that `fits`? */
bool sim_mail_waits(const struct sim_context *context,
                    bool (*fits)(const struct mail *mail, uint64_t number), uint64_t number);
/* A step soon; with_turn: even when no upcall waits. */
void sim_context_schedule(struct sim_context *context, bool with_turn);
extern const struct env_ops sim_env_ops;
uint64_t sim_host_mono(const struct sim_host *host);
uint64_t sim_host_wall(const struct sim_host *host);

/* --- network (sim_net.c)
 * ------------------------------------------------------------ */

struct sim_route {    /* one direction between two hosts */
    uint32_t blocked; /* reasons for which nothing passes */
    uint64_t latency_min, latency_spread;
    uint64_t clogged_until;   /* everything arrives after this */
    struct sim_tamper tamper; /* of frames between nodes */
};

struct sim_net {
    struct prng prng, frame_prng;
    struct sim_route routes[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
    struct umap pipes;
    uint64_t pipe_counter;
    size_t window;        /* bytes in flight per direction of a connection */
    uint32_t cut_percent; /* how often bytes are cut into small pieces */
    uint64_t bytes, connections, resets;
};

void sim_net_init(struct sim *sim);
void sim_net_deinit(struct sim *sim);
void sim_net_block(struct sim *sim, uint32_t from, uint32_t to);
void sim_net_unblock(struct sim *sim, uint32_t from, uint32_t to);
bool sim_net_blocked(const struct sim *sim, uint32_t from, uint32_t to);
/* Stalled bytes move again: after a heal, or when a host is back. */
void sim_net_kick(struct sim *sim);
/* Resets one connection of two hosts (any when to == UINT32_MAX), chosen at random: false when
 * there is none. */
bool sim_net_reset_some(struct sim *sim, uint32_t host);
/* Breaks the connections of a direction in which frames were lost, doubled or reordered. */
void sim_net_reset_tampered(struct sim *sim, uint32_t from, uint32_t to);
/* The process is gone. silent: so is its kernel (power), nobody is told. */
void sim_net_host_gone(struct sim *sim, struct sim_host *host, bool silent);
void sim_net_item(struct sim_context *context,
                  struct sim_item *item);        /* delivers ACCEPT .. MOVED */
void sim_net_flush(struct sim_context *context); /* end of a turn */
void sim_conn_free_all(struct sim_context *context);
/* The network part of env_ops. */
int sim_listen(struct env *env, enum env_listener kind, const struct net_addr *addr, char *errmsg);
const struct env_tls *sim_conn_tls(const struct env_conn *conn); /* NULL: there is no TLS here */
void sim_unlisten(struct env *env, enum env_listener kind);
struct env_conn *sim_connect(struct env *env, const struct net_addr *addr, void *user);
void sim_conn_send(struct env_conn *conn, struct slice *owned, uint32_t count);
size_t sim_conn_backlog(const struct env_conn *conn);
size_t sim_conn_unacked(const struct env_conn *conn);
void sim_conn_set_watermarks(struct env_conn *conn, size_t low, size_t high);
void sim_conn_pause(struct env_conn *conn, bool paused);
void sim_conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms);
void *sim_conn_user(const struct env_conn *conn);
void sim_conn_set_user(struct env_conn *conn, void *user);
void sim_conn_move(struct env_conn *conn, uint32_t context, void *user);

/* --- hosts (sim_node.c)
 * ------------------------------------------------------------ */

enum sim_end {                /* how a process ends */
               SIM_END_KILL,  /* SIGKILL: the kernel and its cache live on */
               SIM_END_POWER, /* power failure: what was not synced may be lost, peers hear nothing
                               */
               SIM_END_EXIT,  /* by itself, after node_stop or a fatal error */
};

struct sim_host {
    struct sim *sim;
    uint32_t index;
    bool is_node, running, powered;
    bool dead;      /* for good: it does not start again ... */
    bool forgotten; /* ... and the cluster knows, if not it, when it is started nevertheless */
    bool member;    /* nodes: takes part in the cluster (started at least once) */
    uint64_t incarnation;
    uint64_t returned_at; /* a forgotten one was started then, or there were faults still */
    struct prng prng, disk_prng;
    /* clock: monotonic = mono_base + now * (1 + drift); wall = base + offset */
    int64_t drift_ppm;
    uint64_t mono_base;
    int64_t wall_offset_ms;
    uint64_t paused_until;
    struct sim_context *contexts;
    uint32_t context_count;
    uint16_t listening[SIM_LISTENERS]; /* port, 0 = not */
    uint32_t next_accept;
    /* nodes */
    struct sim_disk *disk;
    struct sim_kv *kv;
    struct uid node_id;
    struct config config;
    struct logger logger;
    struct node *node;
    bool stop_asked, stopped;
    int exit_code;
    char stop_why[256];
    uint64_t slow_disk_until;
    uint64_t memory_high_until;
    uint64_t restarts;
    /* clients */
    struct client *client;
};

void sim_hosts_init(struct sim *sim);
void sim_hosts_deinit(struct sim *sim);
void sim_node_start(struct sim *sim, uint32_t index);
void sim_node_end(struct sim *sim, uint32_t index, enum sim_end how);
void sim_node_ask_stop(struct sim *sim, uint32_t index); /* SIGTERM */
uint32_t sim_nodes_running(const struct sim *sim);
uint32_t sim_nodes_wanted(const struct sim *sim);      /* those that are not dead for good */
void sim_disk_event(struct sim_host *host, bool sync); /* an operation was submitted */
void sim_kv_event(struct sim_host *host);

/* --- options (sim_run.c): the swarm
 * ------------------------------------------------------------ */

enum sim_fault_kind {
    SIM_FAULT_KILL,
    SIM_FAULT_POWER,
    SIM_FAULT_RESTART, /* orderly */
    SIM_FAULT_PAUSE,
    SIM_FAULT_PARTITION,
    SIM_FAULT_ONE_WAY,
    SIM_FAULT_ISOLATE,
    SIM_FAULT_BRIDGE,
    SIM_FAULT_CLOG,
    SIM_FAULT_RESET,
    SIM_FAULT_CLOCK,
    SIM_FAULT_SLOW_DISK,
    SIM_FAULT_BLACKOUT, /* power failure of all nodes */
    SIM_FAULT_LOSSY,    /* links between nodes lose parcels ... */
    SIM_FAULT_DOUBLING, /* ... deliver them twice ... */
    SIM_FAULT_REORDER,  /* ... or late; for a while, then they break */
    SIM_FAULT_HUNT,     /* leaders are killed, cut off or paused, one after the other */
    SIM_FAULT_SWIZZLE,  /* nodes are cut off one by one, and come back in another order */
    SIM_FAULT_MEMBERS,  /* replicas are added, removed and replaced, leaders handed over */
    SIM_FAULT_FORGET,   /* a node dies for good and is forgotten (once) */
    SIM_FAULT_MEMORY,   /* a node is short of memory for a while */
    SIM_FAULT_KIND_COUNT,
};

enum sim_queue_kind { SIM_QUEUE_QUORUM, SIM_QUEUE_CLASSIC, SIM_QUEUE_TRANSIENT };

struct sim_queue {
    char name[32];
    enum sim_queue_kind kind;
    bool strict;    /* confirmed messages must arrive */
    uint64_t group; /* once it is known (sim_confirm.c) */
    /* its rules, 0 = none */
    uint32_t ttl_ms, length_max, delivery_limit;
    bool rejects; /* at length_max; else the oldest go */
    bool single_active;
    uint32_t consumer_timeout_ms;
    bool drained;    /* nothing is left in it in the end */
    uint32_t graves; /* where its dead letters go: index + 1 */
};

/* Those behind the `queues` that publishers and consumers are drawn for. */
enum sim_queue_at {
    SIM_AT_EXCLUSIVE,
    SIM_AT_BUILT,
    SIM_AT_GRAVES,
    SIM_AT_ATTIC,  /* no consumer: an operator moves what is there to the graves */
    SIM_AT_RECENT, /* no queue but an exchange with a history */
    SIM_AT_HELD,   /* its consumer sleeps */
    SIM_AT_COUNT
};

struct sim_options {
    uint64_t seed;
    bool trace;
    uint32_t nodes, shards, late_nodes; /* late ones join during the run */
    uint32_t publishers, consumers, getters;
    uint32_t rivals, builders, autos;        /* whose queues come and go (sim_role_queue.c) */
    uint32_t numbered, historians, sleepers; /* sim_role_number.c, _history.c, _sleeper.c */
    uint32_t seated;                         /* clients of one user (sim_seat.c) */
    bool moves;                              /* an operator moves messages (sim_mover.c) */
    bool copies, deletes;                    /* ... and copies them, and deletes small ones */
    bool lone;                               /* queues have one replica, and nodes end */
    uint32_t queues;
    uint32_t events; /* faults at most; UINT32_MAX = by time */
    uint64_t safety_ns;
    bool faults[SIM_FAULT_KIND_COUNT];
    uint64_t fault_every_ns;
    uint32_t body_max;
    uint32_t window;
    uint32_t rate_us; /* mean time between two publishes of a publisher */
};

/* --- messages (sim_ledger.c): what clients may expect
 * ------------------------------------------------------- */

struct sim_record {
    uint32_t queue, epoch;
    uint32_t size;
    uint64_t sent_at, delivered_at;
    uint32_t received, received_first; /* all deliveries; those without the redelivered flag */
    uint32_t buried, buried_first;     /* deliveries as a dead letter, or after a move */
    uint32_t delay_ms;                 /* it may not come before */
    bool confirmed, nacked, returned, settled;
    bool ended;   /* was confirmed before its queue was deleted */
    bool dropped; /* its transaction was rolled back, or never committed */
    uint32_t tx;  /* the commit it was part of, counted per publisher; 0: none */
};

struct sim_publisher { /* one source of numbered messages */
    VEC(struct sim_record) records;
};

struct sim_ledger {
    VEC(struct sim_publisher) publishers;
    struct sim_queue queues[SIM_QUEUES_MAX];
    uint64_t sent, confirmed, nacked, received, redelivered, settled;
};

void sim_ledger_deinit(struct sim *sim);
/* Writes the body of message `seq` of a publisher (size bytes, at least SIM_BODY_MIN). */
#define SIM_BODY_MIN 24u
void sim_body_write(uint8_t *out, uint32_t publisher, uint64_t seq, uint32_t queue, uint32_t size);
uint64_t sim_ledger_send(struct sim *sim, uint32_t publisher, uint32_t queue, uint32_t epoch,
                         uint32_t size); /* returns its seq */
struct sim_record *sim_ledger_record(struct sim *sim, uint32_t publisher, uint64_t seq);
void sim_ledger_confirm(struct sim *sim, uint32_t publisher, uint64_t seq, bool ack);
/* Verifies a delivered body; sets what it is. Any mismatch is a failure. */
struct sim_record *sim_ledger_receive(struct sim *sim, struct bytes body, uint32_t queue,
                                      bool redelivered, uint32_t *ret_publisher, uint64_t *ret_seq);
/* Only what it is; any mismatch is a failure. */
struct sim_record *sim_ledger_recognise(struct sim *sim, struct bytes body, uint32_t queue,
                                        uint32_t *ret_publisher, uint64_t *ret_seq);
/* Confirmed, and neither did it arrive nor do the rules of its queue let it go. */
bool sim_ledger_is_missing(const struct sim *sim, const struct sim_record *record);
/* Every confirmed message of strict queues was received. False: *ret_missing tells how many are
 * not. */
bool sim_ledger_complete(struct sim *sim, uint64_t *ret_missing);
/* In the end: what arrived of each commit to a strict queue are its first messages. */
void sim_ledger_check_commits(struct sim *sim);

/* --- clients
 * ------------------------------------------------------------
 */

void sim_clients_init(struct sim *sim);
void sim_clients_describe(struct sim *sim); /* in the trace, for the report of a failure */
void sim_clients_deinit(struct sim *sim);
bool sim_clients_settled(struct sim *sim, char *why,
                         size_t size); /* liveness: nothing outstanding */

/* --- queue clients inside nodes (sim_inner.c): what AMQP does not reach (yet)
 * ------------------------------------------------------------ */

void sim_inner_init(struct sim *sim);
void sim_inner_deinit(struct sim *sim);
void sim_inner_node_gone(struct sim *sim, uint32_t node); /* before node_free */
bool sim_inner_settled(struct sim *sim, char *why, size_t size);

/* --- an operator who moves messages (sim_mover.c)
 * ------------------------------------------------------------ */

void sim_mover_init(struct sim *sim);
void sim_mover_deinit(struct sim *sim);
void sim_mover_node_gone(struct sim *sim, uint32_t node); /* before node_free */
/* The end of a calm run: what was moved, copied and deleted is what came, and did not come. */
/* Some page ended by its time limit: it may have done more than it told. */
bool sim_mover_was_cut_short(const struct sim *sim);
void sim_mover_check(struct sim *sim);
#define SIM_DOOMED_SIZE 28u /* smaller ones may be deleted */

/* --- connections that are counted (sim_seat.c)
 * ------------------------------------------------------------ */

#define SIM_SEATS 2u /* that the user has */
void sim_seats_init(struct sim *sim);
void sim_seats_deinit(struct sim *sim);
void sim_seats_node_gone(struct sim *sim, uint32_t node); /* before node_free */
bool sim_seats_settled(struct sim *sim, char *why, size_t size);

/* --- policies that change (sim_policy.c)
 * ------------------------------------------------------------ */

void sim_policy_init(struct sim *sim);
void sim_policy_deinit(struct sim *sim);
bool sim_policy_settled(struct sim *sim, char *why, size_t size);

/* --- checks (sim_check.c)
 * ------------------------------------------------------------ */

struct sim_check;
void sim_check_init(struct sim *sim);
void sim_check_deinit(struct sim *sim);
void sim_check_step(struct sim_context *context);
void sim_check_node_gone(struct sim *sim, struct sim_host *host);
/* One leader per group, replicas equal. why: what is missing. */
void sim_check_describe(struct sim *sim); /* traces the state of every replica */
bool sim_check_converged(struct sim *sim, char *why, size_t size);

/* --- faults
 * ------------------------------------------------------------
 */

void sim_faults_start(struct sim *sim);
void sim_faults_heal(struct sim *sim);
void sim_faults_ahead(struct sim *sim, uint32_t node);
/* it has handed out what its log does not know of */ /* no new ones; those at work end by
                                                         themselves */
void sim_faults_node_down(struct sim *sim); /* a node is away from now on, until node_up */
void sim_faults_node_up(struct sim *sim);

/* --- an operator (sim_operator.c)
 * ------------------------------------------------------------
 */

struct catalog_result;
void sim_operator_act(struct sim *sim); /* one change of replicas, or of leaders */
/* Fails the run if a change is answered that not all shards know. */
void sim_change_answered(struct sim *sim, int status, const struct catalog_result *result);
void sim_operator_bury(struct sim *sim); /* a node dies for good, if the data need not */

/* --- the run
 * ------------------------------------------------------------
 */

#define SIM_LINES 60u
struct sim {
    struct sim_options options;
    struct prng prng;
    uint64_t now, sequence, events, steps;
    uint64_t posts; /* of mail, so far */
    uint64_t hash;
    struct heap heap;
    struct list free_events;
    struct sim_net net;
    struct sim_host hosts[SIM_HOSTS_MAX];
    uint32_t node_count, host_count;
    struct sim_ledger ledger;
    struct sim_check *check;
    struct sim_inner *inner;
    struct sim_policy *policy;
    struct sim_mover *mover;
    struct sim_seats *seats;
    struct prng fault_prng;
    bool liveness, ending, faults_on, buried;
    uint64_t ahead_hunt_until; /* the first node that is ahead of its log ends */
    uint32_t faults_active;
    uint64_t quiet_since; /* no fault at work since then; UINT64_MAX = one is */
    uint32_t fault_count[SIM_FAULT_KIND_COUNT];
    uint32_t cuts; /* partitions in force */
    uint64_t seen[SIM_SEEN_COUNT], confirms_seen, leader_changed_at;
    const struct channel *rival_owner; /* of the exclusive queue, as far as clients know */
    const struct client *rival_last;
    uint64_t rival_since, rival_released;
    uint64_t closes[8]; /* channel and connection closes seen by clients, for the statistics */
    char lines[SIM_LINES][256];
    uint64_t line_count;
};

void sim_options_draw(struct sim_options *options, uint64_t seed);
/* A cluster whose nodes start, without faults yet; and its end, whatever it was doing. */
struct sim *sim_open(const struct sim_options *options);
void sim_run_until(struct sim *sim, uint64_t until_ns);
void sim_close(struct sim *sim);
/* The whole run; returns when it passed, ends the process otherwise. */
struct sim_outcome {
    uint64_t hash, sim_ns;
    uint64_t seen[SIM_SEEN_COUNT];
};
void sim_run(const struct sim_options *options, struct sim_outcome *ret_outcome);

#endif
