/* What the tests change in their catalog. */
#include "cluster.h"

static uint64_t change(struct test_cluster *c, const struct catalog_command *command)
{
    struct catalog_result result;
    cluster_apply(c, command, &result);
    cr_assert_eq(result.status, CATALOG_OK, "%s", catalog_status_text(result.status));
    return result.id;
}

const struct catalog_queue *cluster_queue(struct test_cluster *c, uint64_t id)
{
    return catalog_queue_by_id(catalog_view_peek(c->catalog), id);
}

static struct catalog_member member_of(struct test_cluster *c, uint64_t group, uint32_t node,
                                       uint64_t salt)
{
    return (struct catalog_member){.id = {group * 1000 + salt, node + 1},
                                   .node = c->nodes[node].id};
}

uint64_t cluster_declare(struct test_cluster *c, const char *name, const uint32_t *nodes,
                         uint32_t count, int local_shard)
{
    return cluster_declare_with(c, name, nodes, count, local_shard, BYTES_NONE, false);
}

uint64_t cluster_declare_with(struct test_cluster *c, const char *name, const uint32_t *nodes,
                              uint32_t count, int local_shard, struct bytes arguments, bool quorum)
{
    struct catalog_command command = {.kind = CATALOG_DECLARE_QUEUE};
    struct catalog_member members[NODES_MAX];
    struct catalog_queue_spec *spec = &command.u.queue;
    spec->vhost = BYTES_LITERAL("/");
    spec->name = bytes_from_cstr(name);
    spec->type = quorum ? CATALOG_QUORUM : CATALOG_CLASSIC;
    spec->arguments = arguments;
    if (local_shard >= 0) {
        spec->run = CATALOG_RUN_LOCAL;
        spec->local.node = c->nodes[nodes[0]].id;
        spec->local.boot = c->nodes[nodes[0]].boot;
        spec->local.shard = (uint32_t)local_shard;
    } else {
        for (uint32_t i = 0; i < count; i++) {
            members[i] = member_of(c, c->catalog_index + 1, nodes[i], 0);
        }
        spec->run = CATALOG_RUN_GROUP;
        spec->durable = true;
        spec->group.member_count = count;
        spec->group.members = members;
        spec->group.target_size = count;
        spec->group.preferred = c->nodes[nodes[0]].id;
    }
    const uint64_t id = change(c, &command);
    cluster_views(c);
    return id;
}

void cluster_delete(struct test_cluster *c, uint64_t id)
{
    struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
    command.u.delete_queue.id = id;
    change(c, &command);
    cluster_views(c);
}

void cluster_put_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                         uint32_t count)
{
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    command.u.replicas.id = id;
    command.u.replicas.version = cluster_queue(c, id)->replicas_version;
    command.u.replicas.members = members;
    command.u.replicas.member_count = count;
    command.u.replicas.target_size = count;
    command.u.replicas.preferred = members[0].node;
    change(c, &command);
}

void cluster_set_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                         uint32_t count)
{
    cluster_put_members(c, id, members, count);
    cluster_views(c);
}

void cluster_set_replicas(struct test_cluster *c, uint64_t id, const uint32_t *nodes,
                          uint32_t count, uint64_t salt)
{
    const struct catalog_queue *q = cluster_queue(c, id);
    struct catalog_member members[NODES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        members[i] = member_of(c, id, nodes[i], salt);
        for (uint32_t k = 0; k < q->spec.group.member_count; k++) {
            if (uid_eq(q->spec.group.members[k].node, members[i].node)) {
                members[i] = q->spec.group.members[k];
            }
        }
    }
    cluster_set_members(c, id, members, count);
}

void cluster_end_boot(struct test_cluster *c, uint32_t node)
{
    struct catalog_command command = {.kind = CATALOG_NODE_DOWN};
    command.u.down.node = c->nodes[node].id;
    command.u.down.boot = c->nodes[node].boot;
    change(c, &command);
    cluster_views(c);
}
