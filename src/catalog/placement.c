/*
 * What: choosing nodes for replicas, leaders and the catalog's own voters. Pure functions of a
 * view; the loads they look at are kept in the node records by every queue's change. Threads:
 * whoever holds the view. Spec: DESIGN §7; docs/catalog.md, "Placement".
 */
#include "internal.h"

/* The catalog's voters at most (DESIGN §7). */
#define VOTERS_MAX 7u

/* What a node carries already. */
static uint32_t node_load(const struct catalog_node *node)
{
    return node->replica_count + node->local_count;
}

/* Before the other: the declaring node, then less load, then the lower id. */
static bool comes_before(const struct catalog_node *a, const struct catalog_node *b,
                         struct uid declaring)
{
    const bool a_declares = uid_eq(a->info.id, declaring);
    const bool b_declares = uid_eq(b->info.id, declaring);
    if (a_declares != b_declares) {
        return a_declares;
    }
    if (node_load(a) != node_load(b)) {
        return node_load(a) < node_load(b);
    }
    return uid_cmp(a->info.id, b->info.id) < 0;
}

static bool is_candidate(const struct catalog_placement *p, const struct catalog_node *node)
{
    if (p->candidates == NULL) {
        return node->running;
    }
    for (uint32_t i = 0; i < p->candidate_count; i++) {
        if (uid_eq(p->candidates[i], node->info.id)) {
            return true;
        }
    }
    return false;
}

uint32_t catalog_place(const struct catalog_view *view, const struct catalog_placement *placement,
                       struct uid nodes[CATALOG_REPLICAS_MAX], struct uid *ret_leader)
{
    const struct catalog_node *members[CATALOG_NODES_MAX];
    const struct catalog_node *chosen[CATALOG_NODES_MAX];
    const uint32_t member_count = catalog_nodes(view, members);
    uint32_t count = 0;
    for (uint32_t i = 0; i < member_count; i++) {
        if (!is_candidate(placement, members[i])) {
            continue;
        }
        uint32_t at = count++;
        for (; at > 0 && comes_before(members[i], chosen[at - 1], placement->declaring_node);
             at--) {
            chosen[at] = chosen[at - 1];
        }
        chosen[at] = members[i];
    }
    const uint32_t wanted =
        placement->size < CATALOG_REPLICAS_MAX ? placement->size : CATALOG_REPLICAS_MAX;
    count = count < wanted ? count : wanted;
    if (count == 0) {
        return 0;
    }
    const struct catalog_node *leader = chosen[0];
    for (uint32_t i = 0; i < count; i++) {
        nodes[i] = chosen[i]->info.id;
        if (!placement->leader_local && chosen[i]->leader_count < leader->leader_count) {
            leader = chosen[i];
        }
    }
    *ret_leader = leader->info.id;
    return count;
}

struct uid catalog__least_leading(const struct catalog_view *v,
                                  const struct catalog_member *members, uint32_t count)
{
    const struct catalog_node *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct catalog_node *node = catalog_node(v, members[i].node);
        if (node != NULL && !members[i].learner &&
            (best == NULL || node->leader_count < best->leader_count)) {
            best = node;
        }
    }
    return best == NULL ? UID_NONE : best->info.id;
}

uint32_t catalog_voters(const struct catalog_view *view,
                        const struct catalog_node *nodes[CATALOG_NODES_MAX],
                        bool voter[CATALOG_NODES_MAX])
{
    const uint32_t count = catalog_nodes(view, nodes);
    for (uint32_t i = 0; i < count; i++) {
        /* How many are members for longer; ties (never in a real history) by id. */
        uint32_t older = 0;
        for (uint32_t k = 0; k < count; k++) {
            older += nodes[k]->joined < nodes[i]->joined ||
                     (nodes[k]->joined == nodes[i]->joined && k < i);
        }
        voter[i] = older < VOTERS_MAX;
    }
    return count;
}
