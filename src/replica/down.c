/*
 * What: what becomes of nodes: from the node layer's liveness to events of the cores and ops of the
 * machines.
 * - lost: the link broke or fell silent: the cores hear PEER_DOWN (elections), clients look for a
 *   leader
 * - down: gone or silent for longer than the limit: its consumers are suspended, their messages
 *   returned (NODE_DOWN)
 * - up: reachable again: PEER_UP, NODE_UP
 * - its boot was ended, it has a newer one, or it was forgotten: clients of that boot are closed
 *   for good (NODE_GONE)
 * Only the leader of a group (or the owner of a local queue) turns this into ops; the ops are
 * idempotent.
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"

struct node_state *node_state_of(const struct host *host, struct uid node)
{
    for (size_t i = 0; i < host->nodes.count; i++) {
        if (uid_eq(host->nodes.items[i].node, node)) {
            return &host->nodes.items[i];
        }
    }
    return NULL;
}

enum node_reach host_reach(const struct host *host, struct uid node)
{
    if (host_is_self(host, node)) {
        return NODE_UP;
    }
    const struct node_state *state = node_state_of(host, node);
    return state == NULL ? NODE_UNKNOWN : state->reach;
}

enum node_reach host_boot_reach(const struct host *host, uint64_t boot)
{
    if (boot == host->boot) {
        return NODE_UP;
    }
    if (host->view == NULL) {
        return NODE_UNKNOWN;
    }
    const struct catalog_node *node = catalog_node_by_boot(host->view, (uint32_t)boot);
    if (node != NULL) {
        /* One that was ended is over, whether its node is started again or not: a node that lives
         * takes another. What its consumers held must not wait for that. */
        return node->running ? host_reach(host, node->info.id) : NODE_GONE;
    }
    /* One that this view has given and that is no node's any more is over, also if its node was the
     * last to start and is forgotten; any other is not known here yet. */
    return boot < catalog_boot_next(host->view) ? NODE_GONE : NODE_UNKNOWN;
}

static bool set_reach(struct host *host, struct uid node, enum node_reach reach)
{
    struct node_state *state = node_state_of(host, node);
    const bool changed = state == NULL || state->reach != reach;
    if (state == NULL) {
        vec_push(&host->nodes, (struct node_state){.node = node, .reach = reach});
    } else {
        state->reach = reach;
    }
    return changed;
}

static const struct catalog_node *node_of_boot(const struct home *home, uint64_t boot)
{
    const struct catalog_view *view = home->host->view;
    return view != NULL ? catalog_node_by_boot(view, (uint32_t)boot) : NULL;
}

/* Effects towards a node whose link broke may be lost: its clients' routes end, and they are asked
 * to resume when it is back (they may not have noticed: their own link is another one). */
static void home_node(struct home *home, struct uid node, bool up)
{
    if (home == NULL || !home->serving) {
        return;
    }
    if (!up) {
        LIST_FOREACH_SAFE(link, &home->routes_list) {
            struct route *route = WR_CONTAINER_OF(link, struct route, link);
            if (uid_eq(route->node, node)) {
                route_close(home, route->client);
            }
        }
        home_drops_flush(home);
        return;
    }
    uint64_t boots[CATALOG_NODES_MAX];
    uint32_t count = queue_boots(home->queue, boots, CATALOG_NODES_MAX);
    for (uint32_t i = 0; i < count && i < CATALOG_NODES_MAX; i++) {
        const struct catalog_node *owner = node_of_boot(home, boots[i]);
        if (owner == NULL) {
            home_note_untold(home, boots[i]);
        } else if (uid_eq(owner->info.id, node)) {
            home_announce_to(home, node);
            return;
        }
    }
}

void home_note_untold(struct home *home, uint64_t boot)
{
    for (size_t i = 0; i < home->untold.count; i++) {
        if (home->untold.items[i] == boot) {
            return;
        }
    }
    vec_push(&home->untold, boot);
}

/* Their clients may have nothing to say, and would never ask who leads. */
static void tell_untold(struct home *home)
{
    size_t left = 0;
    for (size_t i = 0; i < home->untold.count; i++) {
        const uint64_t boot = home->untold.items[i];
        const struct catalog_node *node = node_of_boot(home, boot);
        if (node != NULL) {
            home_announce_to(home, node->info.id);
        } else if (host_boot_reach(home->host, boot) != NODE_GONE) {
            home->untold.items[left++] = boot;
        }
    }
    home->untold.count = left;
}

void home_check_boots(struct home *home)
{
    if (!home->serving) {
        return;
    }
    uint64_t few[64];
    uint64_t *boots = few;
    uint32_t count = queue_boots(home->queue, boots, 64);
    if (count > 64) {
        boots = wr_calloc(count, sizeof *boots);
        count = queue_boots(home->queue, boots, count);
    }
    tell_untold(home);
    for (uint32_t i = 0; i < count; i++) {
        struct queue_op op = {.kind = 0, .first = boots[i]};
        bool suspended = queue_boot_suspended(home->queue, boots[i]);
        enum node_reach reach = host_boot_reach(home->host, boots[i]);
        if (reach == NODE_GONE) {
            op.kind = QUEUE_OP_NODE_GONE;
        } else if (reach == NODE_DEAD && !suspended) {
            op.kind = QUEUE_OP_NODE_DOWN;
        } else if (reach == NODE_UP && suspended) {
            op.kind = QUEUE_OP_NODE_UP;
        }
        if (op.kind != 0) {
            home_host_op(home, &op);
        }
    }
    if (boots != few) {
        wr_free(boots);
    }
}

static void homes_changed(struct host *host, struct uid node, bool up)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        home_node(((struct group *)it.value)->home, node, up);
    }
    it = umap_iterate(&host->locals);
    while (umap_next(&it)) {
        home_node(it.value, node, up);
    }
}

static void groups_changed(struct host *host, struct uid node, bool up)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        group_node_changed(it.value, node, up);
    }
}

void host_check_boots(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (group->home != NULL && group->serving) {
            home_check_boots(group->home);
        }
    }
    it = umap_iterate(&host->locals);
    while (umap_next(&it)) {
        home_check_boots(it.value);
    }
}

void host_node_up(struct host *host, struct uid node)
{
    host_refresh(host);
    set_reach(host, node, NODE_UP);
    spread_node_changed(host, node);
    groups_changed(host, node, true);
    homes_changed(host, node, true);
    host->boots_changed = true;
    client_node_up(host, node);
}

void host_node_lost(struct host *host, struct uid node)
{
    host_refresh(host);
    if (host_reach(host, node) == NODE_DEAD || !set_reach(host, node, NODE_LOST)) {
        return;
    }
    spread_node_changed(host, node);
    groups_changed(host, node, false);
    homes_changed(host, node, false);
    client_node_lost(host, node);
}

void host_node_down(struct host *host, struct uid node)
{
    host_refresh(host);
    enum node_reach before = host_reach(host, node);
    if (!set_reach(host, node, NODE_DEAD)) {
        return;
    }
    if (before != NODE_LOST) {
        spread_node_changed(host, node);
        groups_changed(host, node, false);
        homes_changed(host, node, false);
        client_node_lost(host, node);
    }
    host->boots_changed = true;
}
