/*
 * What: a catalog with a cluster of n nodes, builders of commands, a stand-in for the router's
 * index (a count and a sum over the bindings, so that lost or doubled updates show), and a log of
 * upcalls.
 */
#ifndef WR_TEST_CATALOG_FIXTURE_H
#define WR_TEST_CATALOG_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/catalog.h"
#include "warren/str.h"

struct fake_index {
    struct pref ref;
    uint64_t count;
    uint64_t sum; /* of ids */
};

static inline void fake_index_free(struct pref *owned_ref)
{
    wr_free(owned_ref);
}

static inline struct pref *fake_index_new(uint64_t count, uint64_t sum)
{
    if (count == 0) {
        return NULL;
    }
    struct fake_index *index = wr_alloc(sizeof(*index));
    pref_init(&index->ref, fake_index_free);
    index->count = count;
    index->sum = sum;
    return &index->ref;
}

static inline const struct exchange_type *fake_find_type(struct bytes type, struct bytes arguments)
{
    (void)arguments;
    static const char known;
    return bytes_eq_cstr(type, "strange") ? NULL : (const struct exchange_type *)&known;
}

static inline struct pref *fake_add(const struct exchange_type *type, struct pref *index,
                                    struct catalog_binding *binding)
{
    (void)type;
    const struct fake_index *before = (const struct fake_index *)index;
    return fake_index_new(before == NULL ? 1 : before->count + 1,
                          (before == NULL ? 0 : before->sum) + binding->id);
}

static inline struct pref *fake_remove(const struct exchange_type *type, struct pref *index,
                                       struct catalog_binding *binding)
{
    (void)type;
    const struct fake_index *before = (const struct fake_index *)index;
    return fake_index_new(before->count - 1, before->sum - binding->id);
}

static const struct catalog_index_ops fake_ops = {fake_find_type, fake_add, fake_remove};

struct fixture {
    struct catalog *catalog;
    uint64_t index;
    struct catalog_result result;
    char log[8192];
    struct strbuf events;
};

#define NAME(b) (int)(b).size, (const char *)(b).data

static inline void log_queue_created(void *ctx, const struct catalog_queue *q)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "+q:%.*s ", NAME(q->spec.name));
}
static inline void log_queue_removed(void *ctx, const struct catalog_queue *q)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "-q:%.*s ", NAME(q->spec.name));
}
static inline void log_replicas(void *ctx, const struct catalog_queue *a,
                                const struct catalog_queue *b)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "~q:%.*s:%u>%u ", NAME(b->spec.name),
                  a->spec.group.member_count, b->spec.group.member_count);
}
static inline void log_exchange_created(void *ctx, const struct catalog_exchange *e)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "+x:%.*s ", NAME(e->name));
}
static inline void log_exchange_removed(void *ctx, const struct catalog_exchange *e)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "-x:%.*s ", NAME(e->name));
}
static inline void log_node(void *ctx, const struct catalog_node *a, const struct catalog_node *b)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "%sn:%.*s:%u%s ",
                  a == NULL ? "+" : (b == NULL ? "-" : "~"), NAME((b == NULL ? a : b)->info.name),
                  (b == NULL ? a : b)->boot, b != NULL && b->running ? "up" : "");
}
static inline void log_vhost_created(void *ctx, const struct catalog_vhost *v)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "+v:%.*s ", NAME(v->name));
}
static inline void log_vhost_removed(void *ctx, const struct catalog_vhost *v)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "-v:%.*s ", NAME(v->name));
}
static inline void log_user(void *ctx, const struct catalog_user *u)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "~u:%.*s ", NAME(u->name));
}
static inline void log_user_removed(void *ctx, const struct catalog_user *u)
{
    strbuf_printf(&((struct fixture *)ctx)->events, "-u:%.*s ", NAME(u->name));
}

static const struct catalog_sink log_sink = {
    .on_queue_created = log_queue_created,
    .on_queue_removed = log_queue_removed,
    .on_replicas_changed = log_replicas,
    .on_exchange_created = log_exchange_created,
    .on_exchange_removed = log_exchange_removed,
    .on_node_changed = log_node,
    .on_vhost_created = log_vhost_created,
    .on_vhost_removed = log_vhost_removed,
    .on_user_changed = log_user,
    .on_user_removed = log_user_removed,
};

static inline struct bytes B(const char *text) {
    return bytes_from_cstr(text);
}

static inline struct uid
node_id(uint64_t n)
{
    return (struct uid){0xabcd, n};
}

static const char *const node_names[] = {"?",    "w1@h", "w2@h", "w3@h", "w4@h",
                                         "w5@h", "w6@h", "w7@h", "w8@h", "w9@h"};

static inline struct catalog_node_info node_info(uint64_t n)
{
    return (struct catalog_node_info){.id = node_id(n),
                                      .member = {1, n},
                                      .name = B(node_names[n]),
                                      .host = B("localhost"),
                                      .cluster_port = (uint16_t)(25672 + n),
                                      .amqp_port = (uint16_t)(5672 + n)};
}

/* Every command goes through its encoding: what the log would hold. */
static inline int apply(struct fixture *f, const struct catalog_command *c)
{
    struct buf *bytes = buf_new(256);
    catalog_command_encode(&bytes, c);
    /* Exactly as long as it is, for the sanitizers. */
    uint8_t *copy = wr_memdup(bytes->data, bytes->size);
    strbuf_init(&f->events, f->log, sizeof(f->log));
    cr_assert_eq(
        catalog_apply_bytes(f->catalog, ++f->index, bytes_make(copy, bytes->size), &f->result), 0);
    wr_free(copy);
    buf_unref(bytes);
    catalog_check(f->catalog);
    return f->result.status;
}

static inline int do_boot(struct fixture *f, uint64_t n, uint64_t token)
{
    const struct catalog_command c = {.kind = CATALOG_NODE_BOOT,
                                      .u.boot = {node_info(n), {9, token}}};
    return apply(f, &c);
}

static inline int do_down(struct fixture *f, uint64_t n, uint32_t boot)
{
    const struct catalog_command c = {.kind = CATALOG_NODE_DOWN, .u.down = {node_id(n), boot}};
    return apply(f, &c);
}

static inline int do_join(struct fixture *f, uint64_t n)
{
    const struct catalog_command c = {.kind = CATALOG_JOIN_NODE, .u.join = node_info(n)};
    return apply(f, &c);
}

static inline int do_forget(struct fixture *f, uint64_t n)
{
    const struct catalog_command c = {.kind = CATALOG_FORGET_NODE, .u.forget = {node_id(n)}};
    return apply(f, &c);
}

static inline int do_vhost(struct fixture *f, const char *name, bool create)
{
    const struct catalog_command c = {.kind = CATALOG_PUT_VHOST,
                                      .u.vhost = {.name = B(name), .create = create}};
    return apply(f, &c);
}

static inline int do_delete_vhost(struct fixture *f, const char *name)
{
    const struct catalog_command c = {.kind = CATALOG_DELETE_VHOST, .u.delete_vhost = {B(name)}};
    return apply(f, &c);
}

enum { X_DURABLE = 1, X_AUTO_DELETE = 2 };

static inline int do_exchange(struct fixture *f, const char *vhost, const char *name,
                              const char *type, int flags)
{
    const struct catalog_command c = {.kind = CATALOG_DECLARE_EXCHANGE,
                                      .u.exchange = {.vhost = B(vhost),
                                                     .name = B(name),
                                                     .type = B(type),
                                                     .durable = (flags & X_DURABLE) != 0,
                                                     .auto_delete = (flags & X_AUTO_DELETE) != 0}};
    return apply(f, &c);
}

static inline int do_delete_exchange(struct fixture *f, const char *vhost, const char *name,
                                     bool if_unused)
{
    const struct catalog_command c = {.kind = CATALOG_DELETE_EXCHANGE,
                                      .u.delete_exchange = {B(vhost), B(name), if_unused}};
    return apply(f, &c);
}

/* A transient queue on shard 0 of a boot; exclusive when a connection is given. */
static inline int do_local(struct fixture *f, const char *vhost, const char *name, uint64_t n,
                           uint32_t boot, uint64_t connection)
{
    const struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                      .u.queue = {.vhost = B(vhost),
                                                  .name = B(name),
                                                  .type = CATALOG_CLASSIC,
                                                  .run = CATALOG_RUN_LOCAL,
                                                  .exclusive = connection != 0,
                                                  .owner = {boot, connection},
                                                  .local = {node_id(n), boot, 0}}};
    return apply(f, &c);
}

/* A durable group with members on the nodes of the text ("123"); the first is preferred. */
static inline int do_group_of(struct fixture *f, const char *vhost, const char *name,
                              const char *nodes, uint8_t type, bool durable)
{
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t count = 0;
    for (; nodes[count] != '\0'; count++) {
        const uint64_t n = (uint64_t)(nodes[count] - '0');
        members[count] = (struct catalog_member){{f->index + 1, 100 - n}, node_id(n), false};
    }
    const struct catalog_command c = {
        .kind = CATALOG_DECLARE_QUEUE,
        .u.queue = {.vhost = B(vhost),
                    .name = B(name),
                    .type = type,
                    .run = CATALOG_RUN_GROUP,
                    .durable = durable,
                    .group = {members, count, count, members[0].node}}};
    return apply(f, &c);
}

static inline int do_group(struct fixture *f, const char *vhost, const char *name,
                           const char *nodes)
{
    return do_group_of(f, vhost, name, nodes, CATALOG_QUORUM, true);
}

/* Of the x-recent-history exchange of that name. */
static inline int do_history(struct fixture *f, const char *vhost, const char *name,
                             const char *nodes, bool durable)
{
    return do_group_of(f, vhost, name, nodes, CATALOG_HISTORY, durable);
}

static inline int do_delete_queue(struct fixture *f, uint64_t id)
{
    const struct catalog_command c = {.kind = CATALOG_DELETE_QUEUE, .u.delete_queue = {id}};
    return apply(f, &c);
}

static inline int do_bind_args(struct fixture *f, bool bind, const char *vhost, const char *source,
                               const char *destination, const char *key, int kind,
                               struct bytes arguments)
{
    const struct catalog_command c = {
        .kind = bind ? CATALOG_BIND : CATALOG_UNBIND,
        .u.binding = {B(vhost), B(source), B(destination), B(key), arguments, (uint8_t)kind}};
    return apply(f, &c);
}

static inline int do_bind(struct fixture *f, const char *source, const char *queue, const char *key)
{
    return do_bind_args(f, true, "/", source, queue, key, CATALOG_TO_QUEUE, BYTES_NONE);
}

static inline int do_bind_exchange(struct fixture *f, const char *source, const char *destination,
                                   const char *key)
{
    return do_bind_args(f, true, "/", source, destination, key, CATALOG_TO_EXCHANGE, BYTES_NONE);
}

static inline int do_unbind(struct fixture *f, const char *source, const char *queue,
                            const char *key)
{
    return do_bind_args(f, false, "/", source, queue, key, CATALOG_TO_QUEUE, BYTES_NONE);
}

static inline int do_user(struct fixture *f, const char *name, const char *hash, uint8_t parts)
{
    const struct bytes tags[] = {B("management"), B("monitoring")};
    const struct catalog_command c = {.kind = CATALOG_PUT_USER,
                                      .u.user = {.name = B(name),
                                                 .password_hash = B(hash),
                                                 .hashing = CATALOG_HASHING_SHA256,
                                                 .parts = parts,
                                                 .tags = {2, tags}}};
    return apply(f, &c);
}

static inline int do_permission(struct fixture *f, const char *user, const char *vhost, bool set)
{
    const struct catalog_command c = {
        .kind = set ? CATALOG_SET_PERMISSION : CATALOG_CLEAR_PERMISSION,
        .u.permission = {B(user), B(vhost), B("^c"), B("^w"), B("^r")}};
    return apply(f, &c);
}

static inline int do_init(struct fixture *f)
{
    const struct bytes tags[] = {B("administrator")};
    const struct catalog_command c = {.kind = CATALOG_CLUSTER_INIT,
                                      .u.init = {.cluster = {5, 6},
                                                 .name = B("warren"),
                                                 .node = node_info(1),
                                                 .vhost = B("/"),
                                                 .user = {.name = B("guest"),
                                                          .password_hash = B("saltdigest"),
                                                          .hashing = CATALOG_HASHING_SHA256,
                                                          .tags = {1, tags}}}};
    return apply(f, &c);
}

/* A cluster of `nodes` members, booted once each: boot i on node i. */
static inline struct fixture *fixture_new(uint64_t nodes)
{
    struct fixture *f = wr_calloc(1, sizeof(*f));
    f->catalog = catalog_new(&fake_ops, &log_sink, f);
    cr_assert_eq(do_init(f), CATALOG_OK);
    for (uint64_t n = 1; n <= nodes; n++) {
        if (n > 1) {
            cr_assert_eq(do_join(f, n), CATALOG_OK);
        }
        cr_assert_eq(do_boot(f, n, n), CATALOG_OK);
        cr_assert_eq(f->result.id, n);
    }
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    catalog_free(f->catalog);
    wr_free(f);
}

static inline const struct catalog_view *view_of(const struct fixture *f)
{
    return catalog_view_peek(f->catalog);
}

static inline const struct catalog_queue *find_queue(const struct fixture *f, const char *name)
{
    return catalog_queue(view_of(f), B("/"), B(name));
}

static inline const struct catalog_exchange *find_exchange(const struct fixture *f,
                                                           const char *name)
{
    return catalog_exchange(view_of(f), B("/"), B(name));
}

/* The index must be over exactly the exchange's bindings. */
static inline void check_indexes(const struct fixture *f)
{
    struct catalog_iter it;
    catalog_iter_exchanges(&it, view_of(f), NULL);
    for (const struct catalog_exchange *e; (e = catalog_iter_next(&it)) != NULL;) {
        uint64_t count = 0;
        uint64_t sum = 0;
        struct catalog_iter inner;
        catalog_iter_bindings_from(&inner, e);
        for (const struct catalog_binding *b; (b = catalog_iter_next(&inner)) != NULL;) {
            count++;
            sum += b->id;
        }
        const struct fake_index *index = (const struct fake_index *)e->index;
        if (e->router == NULL) {
            cr_assert_null(index);
            continue;
        }
        cr_assert_eq(index == NULL ? 0 : index->count, count);
        cr_assert_eq(index == NULL ? 0 : index->sum, sum);
    }
}

static inline struct buf *snapshot_of(const struct catalog *c)
{
    struct buf *out = buf_new(64);
    catalog_snapshot(c, &out);
    return out;
}

#endif
