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
    uint64_t index;            /* of the last command that changed it, or of the snapshot */
    struct uid cluster;        /* zero: not formed, and then all is empty */
    struct catalog_text *name; /* of the cluster; NULL: not formed */
    uint32_t boot_next;        /* number of the next start of any node */
    struct pmap *nodes;        /* uid -> struct catalog_node */
    struct pmap *vhosts;       /* name -> struct catalog_vhost */
    struct pmap *users;        /* name -> struct catalog_user */
    struct pmap *queues;       /* id -> struct catalog_queue */
    struct pmap *destinations; /* (kind, id) -> struct binding_set, never empty */
    size_t exchange_count;
    size_t binding_count;
};

enum event_kind {
    EVENT_QUEUE_CREATED,
    EVENT_QUEUE_REMOVED,
    EVENT_REPLICAS_CHANGED,
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

struct catalog {
    struct catalog_view *view;
    uint64_t applied;
    uint64_t serial;                     /* of the newest view */
    const struct catalog_index_ops *ops; /* may be NULL */
    const struct catalog_sink *sink;     /* may be NULL */
    void *sink_ctx;
    VEC(struct event) events;
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
struct catalog_user *catalog__user_new(const struct catalog_user_spec *spec);
struct catalog_user *catalog__user_copy(const struct catalog_user *user);
struct catalog_permission *catalog__permission_new(struct bytes user, struct bytes vhost,
                                                   struct bytes configure, struct bytes write,
                                                   struct bytes read);
struct catalog_exchange *catalog__exchange_new(uint64_t id, uint64_t vhost_id,
                                               const struct catalog_exchange_spec *spec);
struct catalog_exchange *catalog__exchange_copy(const struct catalog_exchange *exchange);
struct catalog_queue *catalog__queue_new(uint64_t id, uint64_t vhost_id, uint64_t version,
                                         const struct catalog_queue_spec *spec);
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

/* True when the members are a possible group: 1.., ids and nodes distinct, a voter among them. */
bool catalog__members_valid(const struct catalog_member *members, uint32_t count);
/* True when all members are on nodes of the cluster. */
bool catalog__members_known(const struct catalog_view *v, const struct catalog_member *members,
                            uint32_t count);
/* CATALOG_OK when where the queue runs and who owns it exists now. */
int catalog__check_home(const struct catalog_view *v, const struct catalog_queue_spec *spec);
/* The node among the members with the fewest preferred leaderships (ties: the first). */
struct uid catalog__least_leading(const struct catalog_view *v,
                                  const struct catalog_member *members, uint32_t count);

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
int catalog__apply_bind(struct catalog *c, uint64_t index, const struct catalog_binding_spec *spec,
                        uint64_t *ret_id);
int catalog__apply_unbind(struct catalog *c, const struct catalog_binding_spec *spec,
                          uint64_t *ret_id);

/* restore.c: a view from a snapshot, or NULL with the error. */
struct catalog_view *catalog__view_decode(const struct catalog *c, uint64_t index,
                                          struct bytes snapshot, int *ret_error);

#endif
