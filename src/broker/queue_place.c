/*
 * What: where a new durable queue begins: its founding members and who of them should lead. A
 * quorum queue begins with as many as it asks for, a classic queue with those that its mirroring
 * policy asks for: what is confirmed right after the declaration is to outlive a node, too. What it
 * gets later, or loses, is the placement loop's work (src/node/replicas.c). Failure modes: no node
 * is running: no members.
 */
#include "broker_internal.h"

struct wanted {
    uint32_t size, target;
    bool local;            /* the declaring node leads */
    uint32_t listed_count; /* 0 = any running node will do */
    struct uid listed[CATALOG_NODES_MAX];
};

static void want_quorum(const struct broker *broker, const struct catalog_queue_spec *spec,
                        struct wanted *ret)
{
    int64_t size = broker->options.quorum_initial_size;
    if (spec->type == CATALOG_QUORUM) {
        (void)wire_table_get_integer(spec->arguments, "x-quorum-initial-group-size", &size);
    }
    /* Any number will do: all nodes then. */
    ret->size = size < CATALOG_REPLICAS_MAX ? (uint32_t)size : CATALOG_REPLICAS_MAX;
    ret->target = ret->size;
    ret->local = size == 1;
}

/* Who of those that are named runs; when none of them does, it begins here and is moved later. */
static void want_named(const struct queue_settings *settings, const struct catalog_node **nodes,
                       uint32_t count, struct wanted *ret)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i]->running && queue_settings_names_node(settings, nodes[i]->info.name)) {
            ret->listed[ret->listed_count++] = nodes[i]->info.id;
        }
    }
    ret->size = ret->listed_count > 0 ? ret->listed_count : 1;
}

/* Its own number of replicas is one; the policy's lasts only as long as the policy. */
static void want_classic(const struct broker *broker, const struct catalog_queue_spec *spec,
                         struct wanted *ret)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t count = catalog_nodes(broker->view, nodes);
    struct queue_settings settings;
    *ret = (struct wanted){.size = 1, .target = 1, .local = true};
    catalog_settings_of_new(broker->view, spec, &settings);
    if (settings.ha_mode == SETTINGS_HA_ALL) {
        ret->size = count;
    } else if (settings.ha_mode == SETTINGS_HA_EXACTLY) {
        ret->size = settings.ha_count;
    } else if (settings.ha_mode == SETTINGS_HA_NODES) {
        want_named(&settings, nodes, count, ret);
    }
}

static struct uid random_uid(struct broker *broker)
{
    struct uid id;
    broker->env->ops->random_secret(broker->env, &id, sizeof id);
    return id;
}

void queue_place_group(struct request *r, struct catalog_queue_spec *spec,
                       struct catalog_member *members)
{
    struct broker *broker = r->broker;
    struct uid nodes[CATALOG_REPLICAS_MAX];
    struct bytes locator;
    struct wanted wanted = {0};
    if (spec->type == CATALOG_CLASSIC) {
        want_classic(broker, spec, &wanted);
    } else {
        want_quorum(broker, spec, &wanted);
    }
    if (wire_table_get_string(spec->arguments, "x-queue-leader-locator", &locator)) {
        wanted.local = bytes_eq_cstr(locator, "client-local");
    }
    const struct catalog_placement placement = {.declaring_node = broker->options.node_id,
                                                .size = wanted.size,
                                                .candidates =
                                                    wanted.listed_count > 0 ? wanted.listed : NULL,
                                                .candidate_count = wanted.listed_count,
                                                .leader_local = wanted.local};
    spec->group.member_count =
        catalog_place(broker->view, &placement, nodes, &spec->group.preferred);
    spec->group.target_size = wanted.target;
    for (uint32_t i = 0; i < spec->group.member_count; i++) {
        members[i] = (struct catalog_member){.id = random_uid(broker), .node = nodes[i]};
    }
    spec->group.members = members;
}
