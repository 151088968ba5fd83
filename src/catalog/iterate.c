/*
 * What: cursors over the objects of a view, one to three tables deep (vhosts, their exchanges,
 * their bindings). Invariants: the cursor is always one step ahead of what it gave; the view keeps
 * it all alive. Threads: whoever holds the view.
 */
#include "internal.h"

enum iter_level {
    ITER_FLAT,      /* inner only */
    ITER_EXCHANGES, /* outer: vhosts; inner: their exchanges */
    ITER_QUEUES,    /* outer: vhosts; inner: their queues */
    ITER_BINDINGS,  /* outer: vhosts; middle: their exchanges; inner: their bindings */
};

static void start(struct catalog_iter *it, enum iter_level level)
{
    memset(it, 0, sizeof(*it));
    it->level = (uint8_t)level;
}

static void start_flat(struct catalog_iter *it, const struct pmap *table)
{
    start(it, ITER_FLAT);
    it->inner_more = pmap_first(&it->inner, table);
}

/* Begins with the vhost's tables. */
static void enter_vhost(struct catalog_iter *it, const struct catalog_vhost *vhost)
{
    if (it->level == ITER_QUEUES) {
        it->inner_more = pmap_first(&it->inner, vhost->queues);
    } else if (it->level == ITER_EXCHANGES) {
        it->inner_more = pmap_first(&it->inner, vhost->exchanges);
    } else {
        it->middle_more = pmap_first(&it->middle, vhost->exchanges);
    }
}

static void start_deep(struct catalog_iter *it, enum iter_level level,
                       const struct catalog_view *view, const struct catalog_vhost *vhost)
{
    start(it, level);
    if (vhost != NULL) {
        enter_vhost(it, vhost);
    } else {
        it->outer_more = pmap_first(&it->outer, view->vhosts);
    }
}

void catalog_iter_vhosts(struct catalog_iter *it, const struct catalog_view *view)
{
    start_flat(it, view->vhosts);
}

void catalog_iter_users(struct catalog_iter *it, const struct catalog_view *view)
{
    start_flat(it, view->users);
}

void catalog_iter_exchanges(struct catalog_iter *it, const struct catalog_view *view,
                            const struct catalog_vhost *vhost)
{
    start_deep(it, ITER_EXCHANGES, view, vhost);
}

void catalog_iter_queues(struct catalog_iter *it, const struct catalog_view *view,
                         const struct catalog_vhost *vhost)
{
    start_deep(it, ITER_QUEUES, view, vhost);
}

void catalog_iter_machines(struct catalog_iter *it, const struct catalog_view *view)
{
    start_flat(it, view->queues);
}

void catalog_iter_bindings(struct catalog_iter *it, const struct catalog_view *view,
                           const struct catalog_vhost *vhost)
{
    start_deep(it, ITER_BINDINGS, view, vhost);
}

void catalog_iter_bindings_from(struct catalog_iter *it, const struct catalog_exchange *source)
{
    start_flat(it, source->bindings);
}

void catalog_iter_bindings_to(struct catalog_iter *it, const struct catalog_view *view,
                              enum catalog_destination kind, uint64_t id)
{
    const struct binding_set *set = catalog__bindings_to(view, (uint8_t)kind, id);
    start_flat(it, set == NULL ? NULL : set->bindings);
}

void catalog_iter_permissions_of(struct catalog_iter *it, const struct catalog_user *user)
{
    start_flat(it, user->permissions);
}

void catalog_iter_topic_permissions_of(struct catalog_iter *it, const struct catalog_user *user)
{
    start_flat(it, user->topic_permissions);
}

void catalog_iter_parameters(struct catalog_iter *it, const struct catalog_view *view,
                             const struct catalog_vhost *vhost)
{
    start_flat(it, vhost == NULL ? view->parameters : vhost->parameters);
}

void catalog_iter_seats(struct catalog_iter *it, const struct catalog_view *view)
{
    start_flat(it, view->seats);
}

const void *catalog_iter_next(struct catalog_iter *it)
{
    for (;;) {
        if (it->inner_more) {
            const void *value = it->inner.value;
            it->inner_more = pmap_next(&it->inner);
            return value;
        }
        if (it->middle_more) {
            const struct catalog_exchange *e = (const struct catalog_exchange *)it->middle.value;
            it->middle_more = pmap_next(&it->middle);
            it->inner_more = pmap_first(&it->inner, e->bindings);
            continue;
        }
        if (!it->outer_more) {
            return NULL;
        }
        const struct catalog_vhost *vhost = (const struct catalog_vhost *)it->outer.value;
        it->outer_more = pmap_next(&it->outer);
        enter_vhost(it, vhost);
    }
}

uint32_t catalog_nodes(const struct catalog_view *view,
                       const struct catalog_node *nodes[CATALOG_NODES_MAX])
{
    uint32_t count = 0;
    struct pmap_iter it;
    for (bool more = pmap_first(&it, view->nodes); more; more = pmap_next(&it)) {
        const struct catalog_node *node = (const struct catalog_node *)it.value;
        WR_ASSERT_OP(count, <, CATALOG_NODES_MAX);
        uint32_t at = count++;
        for (; at > 0 && uid_cmp(nodes[at - 1]->info.id, node->info.id) > 0; at--) {
            nodes[at] = nodes[at - 1];
        }
        nodes[at] = node;
    }
    return count;
}
