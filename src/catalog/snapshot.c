/*
 * What: writing the whole state: [version, formed] or [version, formed, cluster id, name, next
 * boot, nodes, vhosts (with limits, policies, parameters, exchanges and queues), users (with
 * permissions and limits), bindings, global parameters, seats, proposers]. Invariants: the tables'
 * order of iteration depends on their content alone, integers and sizes have one form: equal states
 * give equal bytes. Derived things (indexes, loads, destination sets) are left out. Threads: the
 * machine's. Spec: docs/catalog.md, "Snapshot".
 */
#include "internal.h"
#include "snapshot.h"
#include "walk.h"

static void put_list(struct walk *k, const struct pmap *table)
{
    WR_ASSERT_OP(pmap_count(table), <=, UINT32_MAX);
    pack_put_array(&k->writer, (uint32_t)pmap_count(table));
}

static void put_nodes(struct walk *k, const struct catalog_view *v)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t count = catalog_nodes(v, nodes);
    pack_put_array(&k->writer, count);
    for (uint32_t i = 0; i < count; i++) {
        struct catalog_node node = *nodes[i];
        walk_snapshot_node(k, &node);
    }
}

static void put_policies(struct walk *k, const struct pmap *policies)
{
    struct pmap_iter it;
    put_list(k, policies);
    for (bool more = pmap_first(&it, policies); more; more = pmap_next(&it)) {
        struct catalog_policy_spec spec = ((const struct catalog_policy *)it.value)->spec;
        walk_policy_spec(k, &spec);
    }
}

static void put_parameters(struct walk *k, const struct pmap *parameters)
{
    struct pmap_iter it;
    put_list(k, parameters);
    for (bool more = pmap_first(&it, parameters); more; more = pmap_next(&it)) {
        const struct catalog_parameter *p = (const struct catalog_parameter *)it.value;
        struct catalog_parameter_spec spec = {p->vhost, p->component, p->name, p->value};
        walk_parameter_spec(k, &spec);
    }
}

static void put_queues(struct walk *k, const struct pmap *queues)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, queues); more; more = pmap_next(&it)) {
        const struct catalog_queue *q = (const struct catalog_queue *)it.value;
        struct catalog_queue_spec s = q->spec;
        uint64_t queue_id = q->id;
        uint64_t version = q->replicas_version;
        struct catalog_members founders = q->founders;
        walk_snapshot_queue(k, &queue_id, &version, &s, &founders, NULL);
    }
}

static void put_vhost(struct walk *k, const struct catalog_vhost *vhost)
{
    struct catalog_vhost_spec spec = catalog__vhost_spec(vhost);
    struct catalog_vhost_limits limits = vhost->limits;
    uint64_t id = vhost->id;
    walk_record(k, 8);
    walk_u64(k, &id);
    walk_vhost_spec(k, &spec);
    walk_vhost_limits(k, &limits);
    put_policies(k, vhost->policies);
    put_policies(k, vhost->operator_policies);
    put_parameters(k, vhost->parameters);
    put_list(k, vhost->exchanges);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, vhost->exchanges); more; more = pmap_next(&it)) {
        const struct catalog_exchange *e = (const struct catalog_exchange *)it.value;
        struct catalog_exchange_spec x = catalog__exchange_spec(e);
        uint64_t exchange_id = e->id;
        bool predeclared = e->predeclared;
        walk_snapshot_exchange(k, &exchange_id, &predeclared, &x);
    }
    const size_t queues = pmap_count(vhost->queues) + pmap_count(vhost->histories);
    WR_ASSERT_OP(queues, <=, UINT32_MAX);
    pack_put_array(&k->writer, (uint32_t)queues);
    put_queues(k, vhost->queues);
    put_queues(k, vhost->histories);
}

static void put_user(struct walk *k, const struct catalog_user *user)
{
    struct catalog_user_spec spec = catalog__user_spec(user);
    struct catalog_user_limits limits = user->limits;
    walk_record(k, 4);
    walk_user_spec(k, &spec);
    walk_user_limits(k, &limits);
    put_list(k, user->permissions);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, user->permissions); more; more = pmap_next(&it)) {
        const struct catalog_permission *p = (const struct catalog_permission *)it.value;
        struct snapshot_permission s = {p->vhost, p->configure, p->write, p->read};
        walk_snapshot_permission(k, &s);
    }
    put_list(k, user->topic_permissions);
    for (bool more = pmap_first(&it, user->topic_permissions); more; more = pmap_next(&it)) {
        const struct catalog_topic_permission *p =
            (const struct catalog_topic_permission *)it.value;
        struct snapshot_topic_permission s = {p->vhost, p->exchange, p->write, p->read};
        walk_snapshot_topic_permission(k, &s);
    }
}

static void put_bindings(struct walk *k, const struct catalog_view *v)
{
    WR_ASSERT_OP(v->binding_count, <=, UINT32_MAX);
    pack_put_array(&k->writer, (uint32_t)v->binding_count);
    struct catalog_iter it;
    catalog_iter_bindings(&it, v, NULL);
    for (const struct catalog_binding *b; (b = catalog_iter_next(&it)) != NULL;) {
        struct catalog_binding_spec spec = catalog__binding_spec(b);
        uint64_t id = b->id;
        walk_record(k, 2);
        walk_u64(k, &id);
        walk_binding_spec(k, &spec);
    }
}

void catalog_snapshot(const struct catalog *catalog, struct buf **out)
{
    const struct catalog_view *v = catalog->view;
    struct walk k = walk_put(out);
    const bool formed = v->name != NULL;
    pack_put_array(&k.writer, formed ? SNAPSHOT_FIELDS : 2);
    pack_put_uint(&k.writer, SNAPSHOT_VERSION);
    pack_put_bool(&k.writer, formed);
    if (!formed) {
        return;
    }
    pack_put_uid(&k.writer, v->cluster);
    pack_put_bin(&k.writer, v->name->text);
    pack_put_uint(&k.writer, v->boot_next);
    put_nodes(&k, v);
    put_list(&k, v->vhosts);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, v->vhosts); more; more = pmap_next(&it)) {
        put_vhost(&k, (const struct catalog_vhost *)it.value);
    }
    put_list(&k, v->users);
    for (bool more = pmap_first(&it, v->users); more; more = pmap_next(&it)) {
        put_user(&k, (const struct catalog_user *)it.value);
    }
    put_bindings(&k, v);
    put_parameters(&k, v->parameters);
    put_list(&k, v->seats);
    for (bool more = pmap_first(&it, v->seats); more; more = pmap_next(&it)) {
        const struct catalog_seat *seat = (const struct catalog_seat *)it.value;
        struct catalog_seat copy = {.boot = seat->boot,
                                    .connection = seat->connection,
                                    .vhost = seat->vhost,
                                    .user = seat->user,
                                    .channels = seat->channels};
        walk_snapshot_seat(&k, &copy);
    }
    catalog__proposers_put(&k, &catalog->proposers);
}

void walk_snapshot_node(struct walk *k, struct catalog_node *node)
{
    walk_record(k, 5);
    walk_node_info(k, &node->info);
    walk_u32(k, &node->boot);
    walk_bool(k, &node->running);
    walk_uid(k, &node->start);
    walk_u64(k, &node->joined);
}

void walk_snapshot_exchange(struct walk *k, uint64_t *id, bool *predeclared,
                            struct catalog_exchange_spec *spec)
{
    walk_record(k, 3);
    walk_u64(k, id);
    walk_bool(k, predeclared);
    walk_exchange_spec(k, spec);
}

void walk_snapshot_queue(struct walk *k, uint64_t *id, uint64_t *version,
                         struct catalog_queue_spec *spec, struct catalog_members *founders,
                         struct catalog_member storage[CATALOG_REPLICAS_MAX])
{
    walk_record(k, founders == NULL ? 3 : 4);
    walk_u64(k, id);
    walk_u64(k, version);
    walk_queue_spec(k, spec);
    if (founders != NULL) {
        struct catalog_member *members = k->members; /* the spec's are there */
        k->members = storage;
        walk_members(k, &founders->items, &founders->count);
        k->members = members;
    }
}

void walk_snapshot_permission(struct walk *k, struct snapshot_permission *p)
{
    walk_record(k, 4);
    walk_name(k, &p->vhost);
    walk_bytes(k, &p->configure, CATALOG_TEXT_MAX);
    walk_bytes(k, &p->write, CATALOG_TEXT_MAX);
    walk_bytes(k, &p->read, CATALOG_TEXT_MAX);
}

void walk_snapshot_topic_permission(struct walk *k, struct snapshot_topic_permission *p)
{
    walk_record(k, 4);
    walk_name(k, &p->vhost);
    walk_bytes(k, &p->exchange, CATALOG_NAME_MAX);
    walk_bytes(k, &p->write, CATALOG_TEXT_MAX);
    walk_bytes(k, &p->read, CATALOG_TEXT_MAX);
}

void walk_snapshot_seat(struct walk *k, struct catalog_seat *seat)
{
    walk_record(k, 5);
    walk_u32(k, &seat->boot);
    walk_u64(k, &seat->connection);
    walk_name(k, &seat->vhost);
    walk_name(k, &seat->user);
    walk_u32(k, &seat->channels);
}
