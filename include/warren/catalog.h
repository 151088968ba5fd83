/*
 * What: the catalog: the replicated machine of cluster-wide definitions, and the views that the
 * rest of a node reads. A machine (one per node) applies committed commands in order of the log;
 * what it holds is a *view*: an immutable set of tables that shares all it can with the view
 * before. A shard holds a reference of one view, reads it without locks or counting, and moves to
 * the newest between two turns. Invariants I1  Equal commands from equal states give equal states
 * (catalog_hash), results and upcalls. I2  A view that anybody holds never changes. I3  Ids
 * (queues, exchanges, vhosts, bindings: the log index of the command; boots: a counter) are never
 * used again. I4  Every binding's ends exist, in the vhost of the binding. I5  Every exclusive or
 * LOCAL queue belongs to a boot that is its node's newest. Threads: the machine belongs to one
 * thread. Views: reference counting from any thread, reading by whoever holds a reference. Spec:
 * docs/catalog.md; DESIGN §7.
 */
#ifndef WR_CATALOG_H
#define WR_CATALOG_H

#include "warren/catalog_command.h"
#include "warren/catalog_types.h"

/* --- the machine ------------------------------------------------------------------------------ */

struct catalog;
struct catalog_view;

/*
 * Indexes for routing, kept in each exchange (`router`, `index`): filled in by src/route
 * (route_index_ops), NULL where nothing is routed. All are pure; `index` NULL = empty.
 */
struct catalog_index_ops {
    /* NULL: cannot be routed through. The arguments are the exchange's. */
    const struct exchange_type *(*find_type)(struct bytes type, struct bytes arguments);
    /* A new index with (without) the binding; the old one is borrowed and unchanged. The result is
     * one reference, NULL when empty. */
    struct pref *(*add)(const struct exchange_type *type, struct pref *index,
                        struct catalog_binding *binding);
    struct pref *(*remove)(const struct exchange_type *type, struct pref *index,
                           struct catalog_binding *binding);
};

/*
 * What happened, told during catalog_apply, after the state has changed (not during restore:
 * compare views then). Objects are borrowed for the call. Any member may be NULL.
 */
struct catalog_sink {
    void (*on_queue_created)(void *ctx, const struct catalog_queue *queue);
    void (*on_queue_removed)(void *ctx, const struct catalog_queue *queue);
    void (*on_replicas_changed)(void *ctx, const struct catalog_queue *before,
                                const struct catalog_queue *after);
    /* Another policy, or another definition of it: settings may differ. */
    void (*on_queue_policy_changed)(void *ctx, const struct catalog_queue *before,
                                    const struct catalog_queue *after);
    void (*on_exchange_created)(void *ctx, const struct catalog_exchange *exchange);
    void (*on_exchange_removed)(void *ctx, const struct catalog_exchange *exchange);
    /* before NULL: became a member; after NULL: is a member no more; both: booted, went down. */
    void (*on_node_changed)(void *ctx, const struct catalog_node *before,
                            const struct catalog_node *after);
    void (*on_vhost_created)(void *ctx, const struct catalog_vhost *vhost);
    void (*on_vhost_removed)(void *ctx, const struct catalog_vhost *vhost);
    void (*on_user_changed)(void *ctx, const struct catalog_user *after); /* also permissions */
    void (*on_user_removed)(void *ctx, const struct catalog_user *user);
};

/* An empty catalog (no cluster, index 0). ops and sink may be NULL and must outlive it. */
struct catalog *catalog_new(const struct catalog_index_ops *ops, const struct catalog_sink *sink,
                            void *sink_ctx) __attribute__((returns_nonnull));
void catalog_free(struct catalog *owned_catalog);

/*
 * Applies one command. index: of its log entry; greater than the last one (asserted). The command
 * is borrowed. *ret_result is always set; a command that cannot be applied changes nothing.
 */
void catalog_apply(struct catalog *catalog, uint64_t index, const struct catalog_command *command,
                   struct catalog_result *ret_result);

/*
 * The same for the bytes of a log entry. 0: applied (damaged bytes answer CATALOG_INVALID, on all
 * nodes alike). WR_E_VERSION: this node is too old to know the command; nothing has changed, and it
 * must not go on.
 */
WR_MUST_USE int catalog_apply_bytes(struct catalog *catalog, uint64_t index, struct bytes command,
                                    struct catalog_result *ret_result);

/* The present state. The caller owns one reference. Two calls without an apply that changed
 * something in between give the same view. */
struct catalog_view *catalog_view_take(struct catalog *catalog) __attribute__((returns_nonnull));

/* The same, borrowed until the next apply or restore. */
const struct catalog_view *catalog_view_peek(const struct catalog *catalog);

/* Index of the last command applied (or of the snapshot restored). */
uint64_t catalog_applied(const struct catalog *catalog);

/* Appends the whole state. Equal states give equal bytes, whatever their histories. */
void catalog_snapshot(const struct catalog *catalog, struct buf **out);

/*
 * Replaces the state by a snapshot taken at `index`. Views given out before live on. On
 * WR_E_CORRUPT or WR_E_VERSION nothing has changed. Untrusted input is safe. No upcalls.
 */
WR_MUST_USE int catalog_restore(struct catalog *catalog, uint64_t index, struct bytes snapshot);

#define CATALOG_MACHINE_VERSION 5u /* of snapshots, and so of what is hashed */
/* A hash of the state, the same on all nodes at the same index. Costs a snapshot. */
uint64_t catalog_hash(const struct catalog *catalog);

/* Checks I4, I5 and that all tables agree; asserts. For tests and simulation. */
void catalog_check(const struct catalog *catalog);

/* --- views ------------------------------------------------------------------------------------ */

struct catalog_view *catalog_view_ref(struct catalog_view *view);
void catalog_view_unref(struct catalog_view *owned_view); /* NULL is allowed. */

/* Grows with every change of this node's machine, restores included: tells one view from another.
 */
uint64_t catalog_view_serial(const struct catalog_view *view);

/* The same of what decides about access: users, permissions, limits, and which vhosts there are.
 * While it stays the same, what was allowed still is. */
uint64_t catalog_access_serial(const struct catalog_view *view);

/* Index of the last command that changed it, or of the snapshot it comes from: whatever has an id
 * up to here and is not in it is gone, not yet to come. */
uint64_t catalog_view_index(const struct catalog_view *view);

struct uid catalog_cluster_id(const struct catalog_view *view);     /* zero: not formed */
struct bytes catalog_cluster_name(const struct catalog_view *view); /* "" when not formed */

/* Look-ups: borrowed from the view; NULL when there is none. */
const struct catalog_vhost *catalog_vhost(const struct catalog_view *view, struct bytes name);
const struct catalog_exchange *catalog_exchange(const struct catalog_view *view, struct bytes vhost,
                                                struct bytes name);
const struct catalog_queue *catalog_queue(const struct catalog_view *view, struct bytes vhost,
                                          struct bytes name);
const struct catalog_queue *catalog_queue_by_id(const struct catalog_view *view, uint64_t id);
/* The members it was declared with, with which its group begins; borrowed from the record. None: it
 * runs on one node's memory, or is of a release that did not keep them. */
struct catalog_members catalog_queue_founders(const struct catalog_queue *queue);
const struct catalog_user *catalog_user(const struct catalog_view *view, struct bytes name);
const struct catalog_permission *catalog_permission(const struct catalog_view *view,
                                                    struct bytes user, struct bytes vhost);
const struct catalog_node *catalog_node(const struct catalog_view *view, struct uid id);
const struct catalog_node *catalog_node_by_name(const struct catalog_view *view,
                                                struct bytes name); /* O(nodes) */
/* The node whose newest boot this is. O(nodes). */
const struct catalog_node *catalog_node_by_boot(const struct catalog_view *view, uint32_t boot);
/* All boots below have been given; the next start of any node gets this one. */
uint32_t catalog_boot_next(const struct catalog_view *view);
const struct catalog_binding *catalog_binding(const struct catalog_view *view,
                                              const struct catalog_binding_spec *spec);

/* NULL also when there is no such vhost. operator_policy: which of the two kinds. */
const struct catalog_policy *catalog_policy(const struct catalog_view *view, struct bytes vhost,
                                            struct bytes name, bool operator_policy);
/* vhost "": a global one. */
const struct catalog_parameter *catalog_parameter(const struct catalog_view *view,
                                                  struct bytes vhost, struct bytes component,
                                                  struct bytes name);
const struct catalog_topic_permission *catalog_topic_permission(const struct catalog_view *view,
                                                                struct bytes user,
                                                                struct bytes vhost,
                                                                struct bytes exchange);
const struct catalog_seat *catalog_seat(const struct catalog_view *view, uint32_t boot,
                                        uint64_t connection);

/* The same within a vhost of the view: one look-up less. */
const struct catalog_exchange *catalog_vhost_exchange(const struct catalog_vhost *vhost,
                                                      struct bytes name);
const struct catalog_queue *catalog_vhost_queue(const struct catalog_vhost *vhost,
                                                struct bytes name);
/* The history of an exchange, which no other look-up by name finds. NULL: it has none (yet). */
const struct catalog_queue *catalog_vhost_history(const struct catalog_vhost *vhost,
                                                  struct bytes exchange);

/* Totals over the view (vhosts, queues ...). */
struct catalog_totals {
    size_t nodes, vhosts, users, exchanges, bindings;
    size_t queues, histories; /* not counted twice */
    size_t policies;          /* both kinds */
    size_t parameters;
    size_t seats;
};
void catalog_count(const struct catalog_view *view, struct catalog_totals *ret_totals);

/* True when the exchange is the source of a binding. */
bool catalog_exchange_in_use(const struct catalog_exchange *exchange);

/*
 * Iteration, in an order that depends on the content only (nodes: by id). The view must be held
 * meanwhile. Start with the function for the kind, go on with next until NULL:
 *   struct catalog_iter it;
 *   catalog_iter_queues(&it, view, NULL);
 *   for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) { ... }
 */
struct catalog_iter {
    struct pmap_iter outer; /* vhosts or users, when all of them are visited */
    struct pmap_iter inner;
    bool outer_more, inner_more;
    uint8_t level; /* private */
    struct pmap_iter middle;
    bool middle_more;
};
void catalog_iter_vhosts(struct catalog_iter *it, const struct catalog_view *view);
void catalog_iter_users(struct catalog_iter *it, const struct catalog_view *view);
/* vhost NULL: of all vhosts. */
void catalog_iter_exchanges(struct catalog_iter *it, const struct catalog_view *view,
                            const struct catalog_vhost *vhost);
void catalog_iter_queues(struct catalog_iter *it, const struct catalog_view *view,
                         const struct catalog_vhost *vhost);
/* Histories too, of all vhosts: whatever runs somewhere. */
void catalog_iter_machines(struct catalog_iter *it, const struct catalog_view *view);
void catalog_iter_bindings(struct catalog_iter *it, const struct catalog_view *view,
                           const struct catalog_vhost *vhost);
void catalog_iter_bindings_from(struct catalog_iter *it, const struct catalog_exchange *source);
void catalog_iter_bindings_to(struct catalog_iter *it, const struct catalog_view *view,
                              enum catalog_destination kind, uint64_t id);
void catalog_iter_permissions_of(struct catalog_iter *it, const struct catalog_user *user);
void catalog_iter_topic_permissions_of(struct catalog_iter *it, const struct catalog_user *user);
/* vhost NULL: the global ones. */
void catalog_iter_parameters(struct catalog_iter *it, const struct catalog_view *view,
                             const struct catalog_vhost *vhost);
void catalog_iter_seats(struct catalog_iter *it, const struct catalog_view *view);
/* The next object (of the kind that was started: struct catalog_vhost and so on), NULL at the end.
 */
const void *catalog_iter_next(struct catalog_iter *it);

/* Members of the cluster, sorted by id; returns their number. */
uint32_t catalog_nodes(const struct catalog_view *view,
                       const struct catalog_node *nodes[CATALOG_NODES_MAX]);

/*
 * What differs between two views of one machine, at the cost of what differs. before NULL in the
 * upcall: is new; after NULL: is gone; a queue deleted and declared again has a new id and comes as
 * both. Order depends on the ids only. Either view may be NULL (= empty).
 */
typedef void (*catalog_queue_diff_fn)(void *ctx, const struct catalog_queue *before,
                                      const struct catalog_queue *after);
void catalog_diff_queues(const struct catalog_view *before, const struct catalog_view *after,
                         catalog_queue_diff_fn fn, void *ctx);
typedef void (*catalog_node_diff_fn)(void *ctx, const struct catalog_node *before,
                                     const struct catalog_node *after);
/* Only what matters outside: address, boot, running (not the derived load). */
void catalog_diff_nodes(const struct catalog_view *before, const struct catalog_view *after,
                        catalog_node_diff_fn fn, void *ctx);

/* --- placement: pure choices, for whoever proposes -------------------------------------------- */

struct catalog_placement {
    struct uid declaring_node; /* Gets a replica first, when it is a candidate. */
    uint32_t size; /* Wanted replicas; fewer are chosen when there are fewer candidates. */
    const struct uid
        *candidates; /* Nodes to choose from (reachable ones); NULL: all running members. */
    uint32_t candidate_count;
    bool leader_local; /* client-local: the declaring node leads; false: balanced */
};

/*
 * Chooses nodes for the replicas of a new queue: the declaring node, then those with the fewest
 * replicas (ties: by id). *ret_leader: the node that should lead: the one with the fewest preferred
 * leaderships among the chosen (ties: the order of choice). Returns the number chosen, 0 when there
 * is no candidate that is a member.
 */
uint32_t catalog_place(const struct catalog_view *view, const struct catalog_placement *placement,
                       struct uid nodes[CATALOG_REPLICAS_MAX], struct uid *ret_leader);

/* Voters of the catalog's group: all members up to seven, then those with the oldest membership;
 * the others are learners. Sets voter[i] for nodes[i] of catalog_nodes; returns the number of
 * nodes. */
uint32_t catalog_voters(const struct catalog_view *view,
                        const struct catalog_node *nodes[CATALOG_NODES_MAX],
                        bool voter[CATALOG_NODES_MAX]);

#endif
