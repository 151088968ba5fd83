/*
 * What: the invariants of the state, checked from scratch, for tests and simulation: all tables
 * agree with each other and with what is derived from them. Threads: the machine's.
 */
#include "internal.h"

struct loads {
    uint32_t replicas, leaders, locals;
};

static void check_binding(const struct catalog_view *v, const struct catalog_exchange *source,
                          const struct catalog_binding *b)
{
    WR_ASSERT(b->source_id == source->id);
    WR_ASSERT(bytes_eq(b->source, source->name) && bytes_eq(b->vhost, source->vhost));
    const struct catalog_binding_spec spec = catalog__binding_spec(b);
    WR_ASSERT(catalog_binding(v, &spec) == b); /* Both ends exist (I4) under these names. */
    const struct binding_set *set = catalog__bindings_to(v, b->destination_kind, b->destination_id);
    const struct catalog_key id = catalog__key_id(b->id);
    WR_ASSERT(set != NULL && pmap_get(set->bindings, catalog__key_bytes(&id)) == &b->ref);
}

static void check_queue(const struct catalog_view *v, const struct catalog_vhost *vhost,
                        const struct catalog_queue *q)
{
    WR_ASSERT(q->vhost_id == vhost->id && bytes_eq(q->spec.vhost, vhost->name));
    WR_ASSERT(catalog_queue_by_id(v, q->id) == q);
    WR_ASSERT(catalog__check_home(v, &q->spec) == CATALOG_OK); /* I5 */
    WR_ASSERT(q->founders.count == 0 ||
              (q->replicas_version != q->id &&
               catalog__members_valid(q->founders.items, q->founders.count)));
    /* What is in force is what a queue declared now would have. */
    struct catalog_queue *fresh =
        catalog__queue_new(q->id, q->vhost_id, q->id, &q->spec, (struct catalog_members){0});
    catalog__match_queue(vhost, fresh);
    WR_ASSERT(fresh->policy == q->policy && fresh->operator_policy == q->operator_policy);
    WR_ASSERT(queue_settings_equal(&fresh->settings, &q->settings));
    pref_unref(&fresh->ref);
}

static void check_exchange_policy(const struct catalog_vhost *vhost,
                                  const struct catalog_exchange *e)
{
    struct catalog_exchange *fresh = catalog__exchange_copy(e);
    catalog__exchange_set_policy(fresh, NULL);
    catalog__match_exchange(vhost, fresh);
    WR_ASSERT(fresh->policy == e->policy && fresh->has_alternate == e->has_alternate &&
              bytes_eq(fresh->alternate, e->alternate));
    pref_unref(&fresh->ref);
}

static void check_policies(const struct catalog_vhost *vhost)
{
    for (int kind = 0; kind < 2; kind++) {
        const struct pmap *policies = kind == 1 ? vhost->operator_policies : vhost->policies;
        const struct catalog_ranking *ranking =
            kind == 1 ? vhost->operator_ranking : vhost->ranking;
        WR_ASSERT_OP(ranking == NULL ? 0 : ranking->count, ==, pmap_count(policies));
        for (uint32_t i = 0; ranking != NULL && i < ranking->count; i++) {
            const struct catalog_policy *p = ranking->items[i];
            WR_ASSERT(pmap_get(policies, p->spec.name) == &p->ref);
            WR_ASSERT(bytes_eq(p->spec.vhost, vhost->name));
            WR_ASSERT(p->spec.operator_policy == (kind == 1));
            WR_ASSERT(i == 0 || ranking->items[i - 1]->spec.priority >= p->spec.priority);
        }
    }
}

static void check_seats(const struct catalog_view *v)
{
    struct catalog_iter it;
    uint64_t vhosts = 0;
    uint64_t users = 0;
    uint64_t channels = 0;
    catalog_iter_vhosts(&it, v);
    for (const struct catalog_vhost *vhost; (vhost = catalog_iter_next(&it)) != NULL;) {
        vhosts += vhost->connection_count;
    }
    catalog_iter_users(&it, v);
    for (const struct catalog_user *user; (user = catalog_iter_next(&it)) != NULL;) {
        users += user->connection_count;
        channels += user->channel_count;
        struct catalog_iter inner;
        catalog_iter_topic_permissions_of(&inner, user);
        for (const struct catalog_topic_permission *p; (p = catalog_iter_next(&inner)) != NULL;) {
            WR_ASSERT(catalog_vhost(v, p->vhost) != NULL && bytes_eq(p->user, user->name));
        }
    }
    catalog_iter_seats(&it, v);
    for (const struct catalog_seat *seat; (seat = catalog_iter_next(&it)) != NULL;) {
        const struct catalog_node *node = catalog_node_by_boot(v, seat->boot);
        WR_ASSERT(node != NULL && node->running);
        WR_ASSERT(catalog__seat_wanted(v, seat->vhost, seat->user));
        WR_ASSERT(catalog_vhost(v, seat->vhost)->connection_count > 0);
        channels -= seat->channels;
    }
    WR_ASSERT_OP(vhosts, ==, pmap_count(v->seats));
    WR_ASSERT_OP(users, ==, pmap_count(v->seats));
    WR_ASSERT_OP(channels, ==, 0);
}

static void check_node_load(const struct catalog_view *v, const struct catalog_node *node)
{
    struct loads loads = {0};
    struct catalog_iter it;
    catalog_iter_machines(&it, v);
    for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
        if (q->spec.run == CATALOG_RUN_LOCAL) {
            loads.locals += uid_eq(q->spec.local.node, node->info.id);
            continue;
        }
        for (uint32_t i = 0; i < q->spec.group.member_count; i++) {
            loads.replicas += uid_eq(q->spec.group.members[i].node, node->info.id);
        }
        loads.leaders += uid_eq(q->spec.group.preferred, node->info.id);
    }
    WR_ASSERT_OP(loads.replicas, ==, node->replica_count);
    WR_ASSERT_OP(loads.leaders, ==, node->leader_count);
    WR_ASSERT_OP(loads.locals, ==, node->local_count);
}

void catalog_check(const struct catalog *catalog)
{
    const struct catalog_view *v = catalog->view;
    size_t exchanges = 0;
    size_t queues = 0;
    size_t bindings = 0;
    struct catalog_iter vhosts;
    catalog_iter_vhosts(&vhosts, v);
    for (const struct catalog_vhost *vhost; (vhost = catalog_iter_next(&vhosts)) != NULL;) {
        struct catalog_iter it;
        check_policies(vhost);
        catalog_iter_queues(&it, v, vhost);
        for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
            check_queue(v, vhost, q);
            queues++;
        }
        struct pmap_iter kept;
        for (bool more = pmap_first(&kept, vhost->histories); more; more = pmap_next(&kept)) {
            const struct catalog_queue *q = (const struct catalog_queue *)kept.value;
            WR_ASSERT(catalog_queue_by_id(v, q->id) == q && q->policy == NULL);
            WR_ASSERT_OP(q->spec.type, ==, CATALOG_HISTORY);
            WR_ASSERT_OP(catalog__check_history(vhost, &q->spec), ==, CATALOG_OK);
            queues++;
        }
        catalog_iter_exchanges(&it, v, vhost);
        for (const struct catalog_exchange *e; (e = catalog_iter_next(&it)) != NULL;) {
            WR_ASSERT(e->vhost_id == vhost->id && bytes_eq(e->vhost, vhost->name));
            check_exchange_policy(vhost, e);
            exchanges++;
            struct catalog_iter inner;
            catalog_iter_bindings_from(&inner, e);
            for (const struct catalog_binding *b; (b = catalog_iter_next(&inner)) != NULL;) {
                check_binding(v, e, b);
                bindings++;
            }
        }
    }
    catalog__proposers_check(catalog);
    WR_ASSERT_OP(exchanges, ==, v->exchange_count);
    WR_ASSERT_OP(queues, ==, pmap_count(v->queues));
    WR_ASSERT_OP(bindings, ==, v->binding_count);
    check_seats(v);
    size_t linked = 0;
    struct pmap_iter sets;
    for (bool more = pmap_first(&sets, v->destinations); more; more = pmap_next(&sets)) {
        const size_t count = pmap_count(((const struct binding_set *)sets.value)->bindings);
        WR_ASSERT(count > 0);
        linked += count;
    }
    WR_ASSERT_OP(linked, ==, bindings);
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t node_count = catalog_nodes(v, nodes);
    for (uint32_t i = 0; i < node_count; i++) {
        WR_ASSERT(nodes[i]->boot < v->boot_next);
        check_node_load(v, nodes[i]);
    }
}
