/*
 * What: what the files of src/catalog share: the view's tables, the machine, constructors of
 * objects, and edits of the present view. Editing: catalog__edit gives the present view, private to
 * the machine (a copy when somebody holds it); edits replace objects in its tables and never change
 * an object that is in one. Upcalls are gathered and made when the command is done.
 */
#ifndef WR_CATALOG_INTERNAL_H
#define WR_CATALOG_INTERNAL_H

#include <stdatomic.h>

#include "warren/catalog.h"
#include "warren/vec.h"

/* Text with a reference count. */
struct catalog_text {
    struct pref ref;
    struct bytes text;
};

/* Bindings to one destination: identity -> struct catalog_binding. */
struct binding_set {
    struct pref ref;
    struct pmap *bindings;
};

struct catalog_view {
    _Atomic uint32_t refs;
    uint64_t serial;
    uint64_t access_serial;    /* `serial` of the last change of users, vhosts and limits */
    uint64_t index;            /* of the last command that changed it, or of the snapshot */
    struct uid cluster;        /* zero: not formed, and then all is empty */
    struct catalog_text *name; /* of the cluster; NULL: not formed */
    uint32_t boot_next;        /* number of the next start of any node */
    struct pmap *nodes;        /* uid -> struct catalog_node */
    struct pmap *vhosts;       /* name -> struct catalog_vhost */
    struct pmap *users;        /* name -> struct catalog_user */
    struct pmap *queues;       /* id -> struct catalog_queue */
    struct pmap *destinations; /* (kind, id) -> struct binding_set, never empty */
    struct pmap *parameters;   /* global ones: component, name -> struct catalog_parameter */
    struct pmap *seats;        /* boot, connection -> struct catalog_seat */
    size_t exchange_count;
    size_t binding_count;
};

enum event_kind {
    EVENT_QUEUE_CREATED,
    EVENT_QUEUE_REMOVED,
    EVENT_REPLICAS_CHANGED,
    EVENT_QUEUE_POLICY_CHANGED,
    EVENT_EXCHANGE_CREATED,
    EVENT_EXCHANGE_REMOVED,
    EVENT_NODE_CHANGED,
    EVENT_VHOST_CREATED,
    EVENT_VHOST_REMOVED,
    EVENT_USER_CHANGED,
    EVENT_USER_REMOVED,
};

struct event {
    enum event_kind kind;
    struct pref *before; /* Each holds a reference; which are set depends on the kind. */
    struct pref *after;
};

/* Outcomes of commands that their proposer may propose again (proposer.c). */
struct outcome {
    uint64_t number;
    uint64_t id;
    uint32_t status;
};

struct proposer {
    uint32_t boot, shard;
    uint64_t settled; /* it waits for none below */
    VEC(struct outcome) outcomes;
};
VEC_TYPE(proposer_vec, struct proposer);

struct catalog {
    struct catalog_view *view;
    struct proposer_vec proposers;
    uint64_t applied;
    uint64_t serial;                     /* of the newest view */
    const struct catalog_index_ops *ops; /* may be NULL */
    const struct catalog_sink *sink;     /* may be NULL */
    void *sink_ctx;
    VEC(struct event) events;
    bool access_changed; /* by the command at work */
};

/* --- keys of the tables --------------------------------------------------------------------------
 */

struct catalog_key {
    uint8_t data[UID_SIZE];
    uint8_t size;
};

struct catalog_key catalog__key_uid(struct uid id);
struct catalog_key catalog__key_id(uint64_t id);
struct catalog_key catalog__key_destination(uint8_t kind, uint64_t id);
struct catalog_key catalog__key_seat(uint32_t boot, uint64_t connection);
/* A key of two texts, into a writer that is cleared first. */
void catalog__key_pair(struct writer *w, struct bytes first, struct bytes second);

static inline struct bytes catalog__key_bytes(const struct catalog_key *key)
{
    return bytes_make(key->data, key->size);
}

/* Identity of a binding within its source, into a writer that is cleared first. */
void catalog__binding_identity(struct writer *w, uint64_t source_id, uint8_t destination_kind,
                               uint64_t destination_id, struct bytes key, struct bytes arguments);

/* --- objects (object.c): new ones have one reference, the caller's; all bytes are copied ---------
 */

struct catalog_text *catalog__text_new(struct bytes text);
struct binding_set *catalog__binding_set_new(struct pmap *bindings); /* takes its own reference */
struct catalog_node *catalog__node_new(const struct catalog_node_info *info);
struct catalog_node *catalog__node_copy(const struct catalog_node *node);
struct catalog_vhost *catalog__vhost_new(uint64_t id, const struct catalog_vhost_spec *spec);
struct catalog_vhost *catalog__vhost_copy(const struct catalog_vhost *vhost);
/* The same vhost with all that is in it, but with other texts. */
struct catalog_vhost *catalog__vhost_with(const struct catalog_vhost *vhost,
                                          const struct catalog_vhost_spec *spec);
struct catalog_user *catalog__user_new(const struct catalog_user_spec *spec);
struct catalog_user *catalog__user_copy(const struct catalog_user *user);
struct catalog_user *catalog__user_with(const struct catalog_user *user,
                                        const struct catalog_user_spec *spec);
struct catalog_permission *catalog__permission_new(struct bytes user, struct bytes vhost,
                                                   struct bytes configure, struct bytes write,
                                                   struct bytes read);
struct catalog_topic_permission *
catalog__topic_permission_new(struct bytes user, struct bytes vhost, struct bytes exchange,
                              struct bytes write, struct bytes read);
struct catalog_parameter *catalog__parameter_new(const struct catalog_parameter_spec *spec);
struct catalog_seat *catalog__seat_new(uint32_t boot, uint64_t connection, struct bytes vhost,
                                       struct bytes user, uint32_t channels);
struct catalog_policy *catalog__policy_new(const struct catalog_policy_spec *spec);
/* Empty, with room for `count`; the items hold references. */
struct catalog_ranking *catalog__ranking_new(uint32_t count);
/* No policies yet. */
struct catalog_exchange *catalog__exchange_new(uint64_t id, uint64_t vhost_id,
                                               const struct catalog_exchange_spec *spec);
struct catalog_exchange *catalog__exchange_copy(const struct catalog_exchange *exchange);
/* founders: none unless it runs elsewhere than it was declared to, by now. */
struct catalog_queue *catalog__queue_new(uint64_t id, uint64_t vhost_id, uint64_t version,
                                         const struct catalog_queue_spec *spec,
                                         struct catalog_members founders);
/* The same queue with the same policies, but run elsewhere. */
struct catalog_queue *catalog__queue_with(const struct catalog_queue *queue, uint64_t version,
                                          const struct catalog_queue_spec *spec);
/* Of an object that is in no view yet; references are taken. Either may be NULL. */
void catalog__queue_set_policies(struct catalog_queue *queue, struct catalog_policy *policy,
                                 struct catalog_policy *operator_policy);
void catalog__exchange_set_policy(struct catalog_exchange *exchange, struct catalog_policy *policy);
/* A binding between objects that exist. */
struct catalog_binding *catalog__binding_new(uint64_t id, const struct catalog_binding_spec *spec,
                                             uint64_t source_id, uint64_t destination_id,
                                             bool durable);

/* What an object was made from, as views into it. */
struct catalog_vhost_spec catalog__vhost_spec(const struct catalog_vhost *vhost);
struct catalog_user_spec catalog__user_spec(const struct catalog_user *user);
struct catalog_exchange_spec catalog__exchange_spec(const struct catalog_exchange *exchange);
struct catalog_binding_spec catalog__binding_spec(const struct catalog_binding *binding);

/* --- edits (edit.c)
 * ------------------------------------------------------------------------------- */

/* The present view, for changing. Valid until the next catalog_view_take. */
struct catalog_view *catalog__edit(struct catalog *c);

/* An empty view with one reference. */
struct catalog_view *catalog__view_new(uint64_t serial);

/* Gather an upcall; references are taken. */
void catalog__event(struct catalog *c, enum event_kind kind, struct pref *before,
                    struct pref *after);
void catalog__events_tell(struct catalog *c);

/* Put an object into its table(s) in place of what was there; consumes the caller's reference. */
void catalog__put_node(struct catalog_view *v, struct catalog_node *owned_node);
void catalog__put_vhost(struct catalog_view *v, struct catalog_vhost *owned_vhost);
void catalog__put_user(struct catalog_view *v, struct catalog_user *owned_user);
void catalog__put_exchange(struct catalog_view *v, struct catalog_exchange *owned_exchange);
void catalog__put_queue(struct catalog_view *v, struct catalog_queue *owned_queue);
void catalog__drop_exchange(struct catalog_view *v, const struct catalog_exchange *exchange);
void catalog__drop_queue(struct catalog_view *v, const struct catalog_queue *queue);

/* Adds the queue to (sign 1), or takes it off (-1), the derived load of its nodes. */
void catalog__count_load(struct catalog_view *v, const struct catalog_queue *queue, int sign);

/* --- what one kind of object needs of another ---------------------------------------------------
 */

const struct binding_set *catalog__bindings_to(const struct catalog_view *v, uint8_t kind,
                                               uint64_t id);
/* Adds the binding to the destination's set; or takes it off. */
void catalog__link_destination(struct catalog_view *v, struct catalog_binding *binding);
void catalog__unlink_destination(struct catalog_view *v, const struct catalog_binding *binding);

/* The exchange's own side of a binding: its table and the router's index. The exchange is in no
 * view yet. identity: catalog__binding_identity. */
void catalog__exchange_add(const struct catalog *c, struct catalog_exchange *exchange,
                           struct bytes identity, struct catalog_binding *binding);
/* The ends of a binding when they exist and may be bound; else the status that says why not. */
int catalog__find_ends(const struct catalog_view *v, const struct catalog_binding_spec *spec,
                       const struct catalog_exchange **ret_source, uint64_t *ret_destination_id,
                       bool *ret_durable);

/* Exchanges that have lost their last binding and go when they are auto-delete; processed by
 * catalog__collect_exchanges. Each holds a reference. */
VEC_TYPE(exchange_vec, struct catalog_exchange *);

/* Removes all bindings to the destination; sources that this empties are added to `emptied`. */
void catalog__unbind_destination(struct catalog *c, uint8_t kind, uint64_t id,
                                 struct exchange_vec *emptied);
/* Removes auto-delete exchanges without bindings, and what that empties in turn. */
void catalog__collect_exchanges(struct catalog *c, struct exchange_vec *emptied);

/* Removes an exchange with its bindings, both ways. */
void catalog__remove_exchange(struct catalog *c, const struct catalog_exchange *exchange,
                              struct exchange_vec *emptied);
/* Removes a queue with its bindings and the auto-delete exchanges that this empties. */
void catalog__remove_queue(struct catalog *c, const struct catalog_queue *queue);

/* Attaches the router to a new exchange. */
void catalog__find_router(const struct catalog *c, struct catalog_exchange *exchange);

/* A vhost with its predeclared exchanges. */
void catalog__create_vhost(struct catalog *c, uint64_t id, const struct catalog_vhost_spec *spec);
/* A permission, in place of the one before; the user exists. */
void catalog__grant(struct catalog *c, const struct catalog_user *user,
                    struct catalog_permission *owned_permission);
void catalog__create_user(struct catalog *c, const struct catalog_user_spec *spec);

/* Any in the vhost? And: without them; the user is in no view yet. */
bool catalog__has_topic_permissions(const struct catalog_user *user, struct bytes vhost);
void catalog__clear_topic_permissions(struct catalog_user *user, struct bytes vhost);
/* In place of the one before; the user is in no view yet. */
void catalog__add_topic_permission(struct catalog_user *user,
                                   struct catalog_topic_permission *owned_permission);

/* True when the members are a possible group: 1.., ids and nodes distinct, a voter among them. */
bool catalog__members_valid(const struct catalog_member *members, uint32_t count);
/* True when all members are on nodes of the cluster. */
bool catalog__members_known(const struct catalog_view *v, const struct catalog_member *members,
                            uint32_t count);
/* The table of a vhost that is in no view yet in which queues of the type are, by name. */
struct pmap **catalog__queue_table(struct catalog_vhost *vhost, uint8_t type);
/* CATALOG_OK when the queue is no history, or that of an exchange of the vhost as it is now. */
int catalog__check_history(const struct catalog_vhost *vhost,
                           const struct catalog_queue_spec *spec);
/* CATALOG_OK when where the queue runs and who owns it exists now. */
int catalog__check_home(const struct catalog_view *v, const struct catalog_queue_spec *spec);
/* The node among the members with the fewest preferred leaderships (ties: the first). */
struct uid catalog__least_leading(const struct catalog_view *v,
                                  const struct catalog_member *members, uint32_t count);

/* --- policies (policy.c, policy_keys.c, settings.c) ----------------------------------------------
 */

/* Kinds of objects whose keys the definition has all: bits as in struct catalog_policy. */
uint8_t catalog__policy_applicable(struct bytes definition);
/* The alternate exchange that the arguments, or else the policy, name. */
bool catalog__alternate(struct bytes arguments, const struct catalog_policy *policy,
                        struct bytes *ret_name);
/* Works out the settings of a queue that is in no view yet, from its arguments and policies. */
void catalog__settle(struct catalog_queue *queue);
/* Finds the policies of an object that is in no view yet. */
void catalog__match_queue(const struct catalog_vhost *vhost, struct catalog_queue *queue);
void catalog__match_exchange(const struct catalog_vhost *vhost, struct catalog_exchange *exchange);
/* Makes the ranking of one kind anew; the vhost is in no view yet. */
void catalog__rank(struct catalog_vhost *vhost, bool operator_policy);
bool catalog__policy_valid(const struct catalog_policy_spec *spec);

/* --- parameters, limits, seats (parameter.c, limits.c)
 * ------------------------------------------------ */

bool catalog__parameter_valid(struct bytes value);
/* Into a table of a vhost or view that is being built. */
void catalog__add_parameter(struct pmap **map, const struct catalog_parameter_spec *spec);
/* In the boot of a node that runs; vhost and user exist; something counts it. */
bool catalog__seat_wanted(const struct catalog_view *v, struct bytes vhost, struct bytes user);
/* With the counts of its vhost and its user. */
void catalog__put_seat(struct catalog_view *v, struct catalog_seat *owned_seat);
/* Drops seats of a boot (0: any), of a vhost, of a user (NULL: any); unwanted_only: and only those
 * that nothing counts any more. */
void catalog__drop_seats(struct catalog *c, uint32_t boot, const struct bytes *vhost,
                         const struct bytes *user, bool unwanted_only);

/* --- commands: each returns an enum catalog_status and sets *ret_id ----------------------------
 */

int catalog__apply_init(struct catalog *c, uint64_t index, const struct catalog_command *command);
int catalog__apply_join(struct catalog *c, uint64_t index, const struct catalog_node_info *info);
int catalog__apply_boot(struct catalog *c, const struct catalog_command *command, uint64_t *ret_id);
int catalog__apply_down(struct catalog *c, const struct catalog_command *command);
int catalog__apply_forget(struct catalog *c, uint64_t index, struct uid id);
int catalog__apply_put_vhost(struct catalog *c, uint64_t index,
                             const struct catalog_vhost_spec *spec, uint64_t *ret_id);
int catalog__apply_delete_vhost(struct catalog *c, struct bytes name, uint64_t *ret_id);
int catalog__apply_put_user(struct catalog *c, const struct catalog_user_spec *spec);
int catalog__apply_delete_user(struct catalog *c, struct bytes name);
int catalog__apply_permission(struct catalog *c, const struct catalog_command *command);
int catalog__apply_declare_exchange(struct catalog *c, uint64_t index,
                                    const struct catalog_exchange_spec *spec, uint64_t *ret_id);
int catalog__apply_delete_exchange(struct catalog *c, const struct catalog_command *command,
                                   uint64_t *ret_id);
int catalog__apply_declare_queue(struct catalog *c, uint64_t index,
                                 const struct catalog_queue_spec *spec, uint64_t *ret_id);
int catalog__apply_delete_queue(struct catalog *c, uint64_t id, uint64_t *ret_id);
int catalog__apply_replicas(struct catalog *c, uint64_t index,
                            const struct catalog_command *command, uint64_t *ret_id);
int catalog__apply_put_policy(struct catalog *c, const struct catalog_policy_spec *spec);
int catalog__apply_delete_policy(struct catalog *c, const struct catalog_policy_spec *spec);
int catalog__apply_put_parameter(struct catalog *c, const struct catalog_parameter_spec *spec);
int catalog__apply_delete_parameter(struct catalog *c, const struct catalog_parameter_spec *spec);
int catalog__apply_vhost_limits(struct catalog *c, const struct catalog_command *command);
int catalog__apply_user_limits(struct catalog *c, const struct catalog_command *command);
int catalog__apply_topic_permission(struct catalog *c, const struct catalog_command *command);
int catalog__apply_change_vhost(struct catalog *c, const struct catalog_command *command,
                                uint64_t *ret_id);
int catalog__apply_put_seat(struct catalog *c, const struct catalog_command *command,
                            uint64_t *ret_id);
int catalog__apply_drop_seat(struct catalog *c, const struct catalog_command *command);
int catalog__apply_bind(struct catalog *c, uint64_t index, const struct catalog_binding_spec *spec,
                        uint64_t *ret_id);
int catalog__apply_unbind(struct catalog *c, const struct catalog_binding_spec *spec,
                          uint64_t *ret_id);

/* restore.c: a view from a snapshot, or NULL with the error. */
struct catalog_view *catalog__view_decode(const struct catalog *c, uint64_t index,
                                          struct bytes snapshot, struct proposer_vec *ret_proposers,
                                          int *ret_error);

/* --- who proposed what (proposer.c) --------------------------------------------------------------
 */

/* True: it counts no more, and *ret_result is its answer. */
bool catalog__proposer_answers(struct catalog *c, const struct catalog_proposer *by,
                               struct catalog_result *ret_result);
void catalog__proposer_note(struct catalog *c, const struct catalog_proposer *by,
                            const struct catalog_result *result);
void catalog__proposers_end(struct catalog *c, uint32_t boot);
void catalog__proposers_free(struct proposer_vec *proposers);
void catalog__proposers_check(const struct catalog *c);

#endif
