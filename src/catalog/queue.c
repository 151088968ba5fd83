/*
 * What: queues: declare, delete, and where their replicas are. The queue's id is the log index of
 * its declaration, and the id of its Raft group. Failure modes: a declaration that was decided for
 * a boot which is over by now is STALE: the home or the owner is gone (I5 of catalog.h). Threads:
 * the machine's. Spec: docs/catalog.md, "Queues".
 */
#include "internal.h"

bool catalog__members_valid(const struct catalog_member *members, uint32_t count)
{
    bool voter = false;
    for (uint32_t i = 0; i < count; i++) {
        voter |= !members[i].learner;
        if (uid_is_zero(members[i].id)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (uid_eq(members[i].id, members[k].id) || uid_eq(members[i].node, members[k].node)) {
                return false;
            }
        }
    }
    return voter;
}

bool catalog__members_known(const struct catalog_view *v, const struct catalog_member *members,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (catalog_node(v, members[i].node) == NULL) {
            return false;
        }
    }
    return true;
}

/* Zero, or a node that has a member. */
static bool preferred_valid(struct uid preferred, const struct catalog_member *members,
                            uint32_t count)
{
    bool found = uid_is_zero(preferred);
    for (uint32_t i = 0; i < count; i++) {
        found |= uid_eq(preferred, members[i].node);
    }
    return found;
}

int catalog__check_home(const struct catalog_view *v, const struct catalog_queue_spec *spec)
{
    if (spec->exclusive) {
        const struct catalog_node *owner = catalog_node_by_boot(v, spec->owner.boot);
        if (owner == NULL || !owner->running) {
            return CATALOG_STALE;
        }
    }
    if (spec->run == CATALOG_RUN_LOCAL) {
        const struct catalog_node *node = catalog_node(v, spec->local.node);
        if (node == NULL) {
            return CATALOG_NO_NODE;
        }
        return node->running && node->boot == spec->local.boot ? CATALOG_OK : CATALOG_STALE;
    }
    if (!catalog__members_valid(spec->group.members, spec->group.member_count) ||
        !preferred_valid(spec->group.preferred, spec->group.members, spec->group.member_count)) {
        return CATALOG_INVALID;
    }
    return catalog__members_known(v, spec->group.members, spec->group.member_count)
               ? CATALOG_OK
               : CATALOG_NO_NODE;
}

int catalog__check_history(const struct catalog_vhost *vhost, const struct catalog_queue_spec *spec)
{
    if (spec->type != CATALOG_HISTORY) {
        return CATALOG_OK;
    }
    if (spec->run != CATALOG_RUN_GROUP || spec->exclusive || spec->auto_delete) {
        return CATALOG_INVALID;
    }
    const struct catalog_exchange *e = catalog_vhost_exchange(vhost, spec->name);
    if (e == NULL) {
        return CATALOG_NO_EXCHANGE;
    }
    /* Another one of that name by now: its declaration makes its own. */
    return bytes_eq_cstr(e->type, CATALOG_HISTORY_EXCHANGE) && e->durable == spec->durable &&
                   bytes_eq(e->arguments, spec->arguments)
               ? CATALOG_OK
               : CATALOG_STALE;
}

int catalog__apply_declare_queue(struct catalog *c, uint64_t index,
                                 const struct catalog_queue_spec *spec, uint64_t *ret_id)
{
    const struct catalog_vhost *vhost = catalog_vhost(c->view, spec->vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    const bool history = spec->type == CATALOG_HISTORY;
    const struct catalog_queue *existing =
        history ? catalog_vhost_history(vhost, spec->name) : catalog_vhost_queue(vhost, spec->name);
    if (existing != NULL) {
        *ret_id = existing->id;
        return CATALOG_EXISTS;
    }
    if (!history && vhost->limits.queues_max >= 0 &&
        pmap_count(vhost->queues) >= (uint64_t)vhost->limits.queues_max) {
        return CATALOG_LIMIT;
    }
    int status = catalog__check_history(vhost, spec);
    status = status == CATALOG_OK ? catalog__check_home(c->view, spec) : status;
    if (status != CATALOG_OK) {
        return status;
    }
    struct catalog_queue *q =
        catalog__queue_new(index, vhost->id, index, spec, (struct catalog_members){0});
    catalog__match_queue(vhost, q);
    *ret_id = index;
    catalog__event(c, EVENT_QUEUE_CREATED, NULL, &q->ref);
    catalog__put_queue(catalog__edit(c), q);
    return CATALOG_OK;
}

void catalog__remove_queue(struct catalog *c, const struct catalog_queue *queue)
{
    struct catalog_queue *held = (struct catalog_queue *)(uintptr_t)queue;
    (void)pref_ref(&held->ref);
    struct exchange_vec emptied = {0};
    catalog__unbind_destination(c, CATALOG_TO_QUEUE, held->id, &emptied);
    catalog__drop_queue(catalog__edit(c), held);
    catalog__event(c, EVENT_QUEUE_REMOVED, &held->ref, NULL);
    catalog__collect_exchanges(c, &emptied);
    pref_unref(&held->ref);
}

int catalog__apply_delete_queue(struct catalog *c, uint64_t id, uint64_t *ret_id)
{
    const struct catalog_queue *q = catalog_queue_by_id(c->view, id);
    if (q == NULL) {
        return CATALOG_NOT_FOUND;
    }
    *ret_id = id;
    catalog__remove_queue(c, q);
    return CATALOG_OK;
}

struct catalog_members catalog_queue_founders(const struct catalog_queue *queue)
{
    const struct catalog_queue_spec *spec = &queue->spec;
    const bool as_declared = queue->replicas_version == queue->id;
    return as_declared && spec->run == CATALOG_RUN_GROUP
               ? (struct catalog_members){spec->group.members, spec->group.member_count}
               : queue->founders;
}

/* A voter before and after. Without one the record would ask for a group that shares no data with
 * the present one: new members get all they have from those who stay. */
static bool keeps_voter(const struct catalog_queue *before, const struct catalog_member *members,
                        uint32_t count)
{
    for (uint32_t i = 0; i < before->spec.group.member_count; i++) {
        const struct catalog_member *m = &before->spec.group.members[i];
        for (uint32_t k = 0; k < count && !m->learner; k++) {
            if (!members[k].learner && uid_eq(members[k].id, m->id) &&
                uid_eq(members[k].node, m->node)) {
                return true;
            }
        }
    }
    return false;
}

int catalog__apply_replicas(struct catalog *c, uint64_t index,
                            const struct catalog_command *command, uint64_t *ret_id)
{
    const struct catalog_queue *before = catalog_queue_by_id(c->view, command->u.replicas.id);
    if (before == NULL) {
        return CATALOG_NOT_FOUND;
    }
    *ret_id = before->id;
    if (before->spec.run != CATALOG_RUN_GROUP) {
        return CATALOG_REFUSED;
    }
    if (before->replicas_version != command->u.replicas.version) {
        return CATALOG_STALE;
    }
    const struct catalog_member *members = command->u.replicas.members;
    const uint32_t count = command->u.replicas.member_count;
    if (!catalog__members_valid(members, count) ||
        !preferred_valid(command->u.replicas.preferred, members, count)) {
        return CATALOG_INVALID;
    }
    if (!catalog__members_known(c->view, members, count)) {
        return CATALOG_NO_NODE;
    }
    if (!keeps_voter(before, members, count)) {
        return CATALOG_REFUSED;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_queue_spec spec = before->spec;
    spec.group.members = members;
    spec.group.member_count = count;
    spec.group.target_size = command->u.replicas.target_size;
    spec.group.preferred = command->u.replicas.preferred;
    struct catalog_queue *after = catalog__queue_with(before, index, &spec);
    catalog__event(c, EVENT_REPLICAS_CHANGED, (struct pref *)(uintptr_t)before, &after->ref);
    catalog__put_queue(v, after);
    return CATALOG_OK;
}
