/*
 * What: members of the cluster and their starts. A start (boot) has a number that no other start of
 * any node ever has; what lives in a node's memory only (LOCAL queues, exclusive queues of its
 * connections) belongs to a boot and ends with it.
 * Invariants: I5 of catalog.h. A boot ends by NODE_DOWN, by the node's next NODE_BOOT, or with the
 * node.
 * Non-durable exchanges end when the whole cluster was down: as far as the catalog can know, when a
 * node boots while no other one is marked running.
 * Threads: the machine's. Spec: docs/catalog.md, "Nodes and boots".
 */
#include "internal.h"

/* Names are unique among members. */
static bool name_is_taken(const struct catalog_view *v, const struct catalog_node_info *info)
{
    const struct catalog_node *other = catalog_node_by_name(v, info->name);
    return other != NULL && !uid_eq(other->info.id, info->id);
}

int catalog__apply_join(struct catalog *c, uint64_t index, const struct catalog_node_info *info)
{
    const struct catalog_node *before = catalog_node(c->view, info->id);
    if (before != NULL && uid_eq(before->info.member, info->member)) {
        return CATALOG_EXISTS;
    }
    if (before != NULL && before->boot != 0) {
        return CATALOG_REFUSED; /* It had a replica, and asks as if it had none: its data is lost.
                                 */
    }
    if (name_is_taken(c->view, info)) {
        return CATALOG_REFUSED;
    }
    if (before == NULL && pmap_count(c->view->nodes) >= CATALOG_NODES_MAX) {
        return CATALOG_LIMIT;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_node *node = catalog__node_new(info);
    node->joined = index;
    if (before !=
        NULL) { /* It crashed before it knew that it was in, and comes as a new replica. */
        node->replica_count = before->replica_count;
        node->leader_count = before->leader_count;
        node->local_count = before->local_count;
    }
    catalog__event(c, EVENT_NODE_CHANGED, (struct pref *)(uintptr_t)before, &node->ref);
    catalog__put_node(v, node);
    return CATALOG_OK;
}

static bool others_running(const struct catalog_view *v, struct uid id)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, v->nodes); more; more = pmap_next(&it)) {
        const struct catalog_node *node = (const struct catalog_node *)it.value;
        if (node->running && !uid_eq(node->info.id, id)) {
            return true;
        }
    }
    return false;
}

/* Removes what belonged to the node's boot `boot_over`; other LOCAL queues of the node go too,
 * unless they belong to boot_kept. */
static void end_boot(struct catalog *c, struct uid id, uint32_t boot_over, uint32_t boot_kept)
{
    struct catalog_view *v = catalog__edit(c);
    struct pmap *queues = pmap_ref(v->queues);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, queues); more; more = pmap_next(&it)) {
        const struct catalog_queue *q = (const struct catalog_queue *)it.value;
        const bool homed = q->spec.run == CATALOG_RUN_LOCAL && uid_eq(q->spec.local.node, id) &&
                           q->spec.local.boot != boot_kept;
        const bool owned = q->spec.exclusive && boot_over != 0 && q->spec.owner.boot == boot_over;
        if (homed || owned) {
            catalog__remove_queue(c, q);
        }
    }
    pmap_unref(queues);
    if (boot_over != 0) {
        catalog__proposers_end(c, boot_over);
        catalog__drop_seats(c, boot_over, NULL, NULL, false);
    }
}

static void remove_transient_exchanges(struct catalog *c)
{
    struct exchange_vec doomed = {0};
    struct catalog_iter it;
    catalog_iter_exchanges(&it, c->view, NULL);
    for (const struct catalog_exchange *e; (e = catalog_iter_next(&it)) != NULL;) {
        if (!e->durable) {
            struct catalog_exchange *held = (struct catalog_exchange *)(uintptr_t)e;
            (void)pref_ref(&held->ref);
            vec_push(&doomed, held);
        }
    }
    struct exchange_vec emptied = {0};
    for (size_t i = 0; i < doomed.count; i++) {
        struct catalog_exchange *held = doomed.items[i];
        const struct catalog_exchange *now = catalog_exchange(c->view, held->vhost, held->name);
        if (now != NULL && now->id == held->id) {
            catalog__remove_exchange(c, now, &emptied);
            catalog__collect_exchanges(c, &emptied);
        }
        pref_unref(&held->ref);
    }
    vec_deinit(&emptied);
    vec_deinit(&doomed);
}

int catalog__apply_boot(struct catalog *c, const struct catalog_command *command, uint64_t *ret_id)
{
    const struct catalog_node_info *info = &command->u.boot.node;
    const struct catalog_node *before = catalog_node(c->view, info->id);
    if (before == NULL) {
        return CATALOG_NO_NODE;
    }
    if (before->running && uid_eq(before->start, command->u.boot.start)) {
        *ret_id = before->boot; /* The same command again. */
        return CATALOG_OK;
    }
    if (name_is_taken(c->view, info)) {
        return CATALOG_REFUSED;
    }
    if (c->view->boot_next == UINT32_MAX) {
        return CATALOG_LIMIT;
    }
    const bool alone = !others_running(c->view, info->id);
    const uint32_t boot_over = before->boot;
    struct catalog_view *v = catalog__edit(c);
    struct catalog_node *after = catalog__node_new(info);
    after->info.member = uid_is_zero(info->member) ? before->info.member : info->member;
    after->joined = before->joined;
    after->replica_count = before->replica_count;
    after->leader_count = before->leader_count;
    after->local_count = before->local_count;
    after->boot = v->boot_next++;
    after->running = true;
    after->start = command->u.boot.start;
    const uint32_t boot = after->boot;
    *ret_id = boot;
    catalog__event(c, EVENT_NODE_CHANGED, (struct pref *)(uintptr_t)before, &after->ref);
    catalog__put_node(v, after);
    end_boot(c, info->id, boot_over, boot);
    if (alone) {
        remove_transient_exchanges(c);
    }
    return CATALOG_OK;
}

int catalog__apply_down(struct catalog *c, const struct catalog_command *command)
{
    const struct catalog_node *before = catalog_node(c->view, command->u.down.node);
    if (before == NULL) {
        return CATALOG_NO_NODE;
    }
    if (before->boot != command->u.down.boot) {
        return CATALOG_STALE;
    }
    if (!before->running) {
        return CATALOG_OK;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_node *after = catalog__node_copy(before);
    after->running = false;
    catalog__event(c, EVENT_NODE_CHANGED, (struct pref *)(uintptr_t)before, &after->ref);
    catalog__put_node(v, after);
    end_boot(c, command->u.down.node, command->u.down.boot, 0);
    return CATALOG_OK;
}

/* The group without its members on the node. Without a voter left, the queue ends: what it had was
 * on the node that is forgotten. */
static void shrink_group(struct catalog *c, uint64_t index, const struct catalog_queue *q,
                         struct uid id)
{
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < q->spec.group.member_count; i++) {
        if (!uid_eq(q->spec.group.members[i].node, id)) {
            members[count++] = q->spec.group.members[i];
        }
    }
    if (count == q->spec.group.member_count) {
        return;
    }
    if (!catalog__members_valid(members, count)) {
        catalog__remove_queue(c, q);
        return;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_queue_spec spec = q->spec;
    spec.group.members = members;
    spec.group.member_count = count;
    if (uid_eq(spec.group.preferred, id)) {
        spec.group.preferred = catalog__least_leading(v, members, count);
    }
    struct catalog_queue *after = catalog__queue_with(q, index, &spec);
    catalog__event(c, EVENT_REPLICAS_CHANGED, (struct pref *)(uintptr_t)q, &after->ref);
    catalog__put_queue(v, after);
}

int catalog__apply_forget(struct catalog *c, uint64_t index, struct uid id)
{
    const struct catalog_node *node = catalog_node(c->view, id);
    if (node == NULL) {
        return CATALOG_NOT_FOUND;
    }
    if (pmap_count(c->view->nodes) == 1) {
        return CATALOG_REFUSED; /* The last member. */
    }
    const uint32_t boot_over = node->boot;
    struct catalog_view *v = catalog__edit(c);
    const struct catalog_key key = catalog__key_uid(id);
    catalog__event(c, EVENT_NODE_CHANGED, (struct pref *)(uintptr_t)node, NULL);
    pmap_remove_in(&v->nodes, catalog__key_bytes(&key));
    end_boot(c, id, boot_over, 0);
    struct pmap *queues = pmap_ref(v->queues);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, queues); more; more = pmap_next(&it)) {
        const struct catalog_queue *q = (const struct catalog_queue *)it.value;
        /* The end of one may have been that of an auto-delete exchange, and so of its history. */
        if (q->spec.run == CATALOG_RUN_GROUP && catalog_queue_by_id(c->view, q->id) != NULL) {
            shrink_group(c, index, q, id);
        }
    }
    pmap_unref(queues);
    return CATALOG_OK;
}
