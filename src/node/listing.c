/*
 * What: rows of warrenctl's listings from the catalog and from reports of queues, in RabbitMQ's
 * names. What RabbitMQ has and this broker does not is left to warrenctl to fill in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "warren/wire_table.h"

#include "listing.h"

static json_t *text_of(struct bytes b)
{
    json_t *text = b.size == 0 ? json_string("") : json_stringn((const char *)b.data, b.size);
    return text != NULL ? text : json_string("(not UTF-8)");
}

/* [[name, type, value], ...], as rabbitmqctl's JSON has tables. */
static json_t *table_json(struct bytes table)
{
    struct writer w;
    writer_init(&w, 64);
    wire_put_table_json(&w, table);
    struct bytes text = writer_bytes(&w);
    json_t *list = json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, NULL);
    writer_deinit(&w);
    return list != NULL ? list : json_array();
}

void listing_put_text(json_t *row, const char *name, struct bytes value)
{
    (void)json_object_set_new(row, name, text_of(value));
}

static void put_policy(json_t *row, const char *column, const struct catalog_policy *policy)
{
    listing_put_text(row, column, policy != NULL ? policy->spec.name : BYTES_NONE);
}

void listing_exchange(const struct catalog_exchange *x, json_t *rows)
{
    json_t *row = json_object();
    listing_put_text(row, "name", x->name);
    listing_put_text(row, "type", x->type);
    (void)json_object_set_new(row, "durable", json_boolean(x->durable));
    (void)json_object_set_new(row, "auto_delete", json_boolean(x->auto_delete));
    (void)json_object_set_new(row, "internal", json_boolean(x->internal));
    (void)json_object_set_new(row, "arguments", table_json(x->arguments));
    put_policy(row, "policy", x->policy);
    listing_put_text(row, "vhost", x->vhost);
    (void)json_array_append_new(rows, row);
}

static const char *name_of(json_t *fields, size_t i)
{
    return json_string_value(json_array_get(json_array_get(fields, i), 0));
}

/* A binding's arguments have no order; RabbitMQ keeps and shows them by name. */
static json_t *sorted(json_t *fields)
{
    for (size_t i = 1; i < json_array_size(fields); i++) {
        size_t to = i;
        while (to > 0 && strcmp(name_of(fields, to - 1), name_of(fields, i)) > 0) {
            to--;
        }
        if (to != i) {
            json_t *field = json_incref(json_array_get(fields, i));
            (void)json_array_remove(fields, i);
            (void)json_array_insert_new(fields, to, field);
        }
    }
    return fields;
}

static void binding_row(json_t *rows, struct bytes source, const char *kind,
                        struct bytes destination, struct bytes key, struct bytes arguments,
                        struct bytes vhost)
{
    json_t *row = json_object();
    listing_put_text(row, "source_name", source);
    (void)json_object_set_new(row, "source_kind", json_string("exchange"));
    listing_put_text(row, "destination_name", destination);
    (void)json_object_set_new(row, "destination_kind", json_string(kind));
    listing_put_text(row, "routing_key", key);
    (void)json_object_set_new(row, "arguments", sorted(table_json(arguments)));
    listing_put_text(row, "vhost", vhost);
    (void)json_array_append_new(rows, row);
}

void listing_default_binding(const struct catalog_queue *q, json_t *rows)
{
    binding_row(rows, BYTES_NONE, "queue", q->spec.name, q->spec.name, BYTES_NONE, q->spec.vhost);
}

void listing_binding(const struct catalog_binding *b, json_t *rows)
{
    binding_row(rows, b->source, b->destination_kind == CATALOG_TO_QUEUE ? "queue" : "exchange",
                b->destination, b->key, b->arguments, b->vhost);
}

json_t *listing_node_name(struct shard *shard, struct uid id)
{
    const struct catalog_node *node = shard->view == NULL ? NULL : catalog_node(shard->view, id);
    return node == NULL ? json_string("") : text_of(node->info.name);
}

static void put_members(json_t *row, struct shard *shard, const struct catalog_queue *q)
{
    json_t *members = json_array();
    json_t *online = json_array();
    if (q->spec.run == CATALOG_RUN_LOCAL) {
        (void)json_array_append_new(members, listing_node_name(shard, q->spec.local.node));
        (void)json_array_append_new(online, listing_node_name(shard, q->spec.local.node));
    }
    for (uint32_t i = 0; q->spec.run == CATALOG_RUN_GROUP && i < q->spec.group.member_count; i++) {
        struct uid node = q->spec.group.members[i].node;
        const struct peer *peer = links_peer(shard, node);
        (void)json_array_append_new(members, listing_node_name(shard, node));
        if (uid_eq(node, node_id_of(shard->node)) || (peer != NULL && peer->ready)) {
            (void)json_array_append_new(online, listing_node_name(shard, node));
        }
    }
    (void)json_object_set_new(row, "members", members);
    (void)json_object_set_new(row, "online", online);
}

static json_t *pid_json(const struct catalog_node *node, uint32_t boot, uint64_t number)
{
    char pid[LISTING_PID_MAX];
    (void)snprintf(pid, sizeof pid, "<%.*s.%u.%llu.0>", (int)node->info.name.size,
                   (const char *)node->info.name.data, boot, (unsigned long long)number);
    return json_string(pid);
}

static void put_pid(json_t *row, const char *column, const struct catalog_node *node, uint32_t boot,
                    uint64_t number)
{
    if (node != NULL) {
        (void)json_object_set_new(row, column, pid_json(node, boot, number));
    }
}

static void put_policies(json_t *row, const struct catalog_queue *q)
{
    struct writer w;
    put_policy(row, "policy", q->policy);
    put_policy(row, "operator_policy", q->operator_policy);
    if (q->policy == NULL && q->operator_policy == NULL) {
        return;
    }
    writer_init(&w, 128);
    policy_put_effective(&w, q->policy, q->operator_policy);
    (void)json_object_set_new(row, "effective_policy_definition", table_json(writer_bytes(&w)));
    writer_deinit(&w);
}

json_t *listing_queue(struct shard *shard, const struct catalog_queue *q)
{
    json_t *row = json_object();
    listing_put_text(row, "name", q->spec.name);
    listing_put_text(row, "vhost", q->spec.vhost);
    (void)json_object_set_new(row, "durable", json_boolean(q->spec.durable));
    (void)json_object_set_new(row, "auto_delete", json_boolean(q->spec.auto_delete));
    (void)json_object_set_new(row, "exclusive", json_boolean(q->spec.exclusive));
    (void)json_object_set_new(row, "arguments", table_json(q->spec.arguments));
    (void)json_object_set_new(row, "type",
                              json_string(q->spec.type == CATALOG_QUORUM ? "quorum" : "classic"));
    put_policies(row, q);
    (void)json_object_set_new(row, "id", json_integer((json_int_t)q->id));
    if (q->spec.exclusive) {
        put_pid(row, "owner_pid", catalog_node_by_boot(shard->view, q->spec.owner.boot),
                q->spec.owner.boot, q->spec.owner.connection);
    }
    put_members(row, shard, q);
    return row;
}

static void put_number(json_t *row, const char *name, uint64_t number)
{
    (void)json_object_set_new(row, name, json_integer((json_int_t)number));
}

static bool is_ready(const struct queue_report *report, struct uid node)
{
    for (uint32_t i = 0; i < report->ready_count; i++) {
        if (uid_eq(report->ready[i], node)) {
            return true;
        }
    }
    return false;
}

/* A mirrored queue's replicas but for the leader: those in reach, and those that have all of it. */
static void put_mirrors(json_t *row, struct shard *shard, const struct catalog_queue *q,
                        const struct queue_report *report)
{
    if (q->spec.type != CATALOG_CLASSIC || q->spec.run != CATALOG_RUN_GROUP ||
        q->settings.ha_mode == SETTINGS_HA_NONE) {
        return;
    }
    json_t *mirrors = json_array();
    json_t *synchronised = json_array();
    for (uint32_t i = 0; i < q->spec.group.member_count; i++) {
        const struct uid id = q->spec.group.members[i].node;
        const struct catalog_node *node = catalog_node(shard->view, id);
        const struct peer *peer = links_peer(shard, id);
        if (node == NULL || uid_eq(id, report->leader_node) ||
            !(uid_eq(id, node_id_of(shard->node)) || (peer != NULL && peer->ready))) {
            continue;
        }
        json_t *pid = pid_json(node, node->boot, q->id);
        (void)json_array_append(mirrors, pid);
        if (is_ready(report, id)) {
            (void)json_array_append(synchronised, pid);
        }
        json_decref(pid);
    }
    (void)json_object_set(row, "slave_pids", mirrors); /* the name until RabbitMQ 3.10 */
    (void)json_object_set(row, "synchronised_slave_pids", synchronised);
    (void)json_object_set_new(row, "mirror_pids", mirrors);
    (void)json_object_set_new(row, "synchronised_mirror_pids", synchronised);
}

void listing_put_report(json_t *row, struct shard *shard, const struct catalog_queue *q,
                        const struct queue_report *report)
{
    const struct queue_totals *t = &report->totals;
    const struct catalog_node *leader = catalog_node(shard->view, report->leader_node);
    put_number(row, "messages_ready", t->ready);
    put_number(row, "messages_unacknowledged", t->unacked);
    put_number(row, "messages", t->ready + t->unacked);
    put_number(row, "consumers", t->consumers);
    put_number(row, "message_bytes_ready", t->bytes_ready);
    put_number(row, "message_bytes_unacknowledged", t->bytes_unacked);
    put_number(row, "message_bytes", t->bytes_ready + t->bytes_unacked);
    /* what a durable queue holds is in the log, whatever the delivery mode */
    put_number(row, "messages_persistent", q->spec.durable ? t->ready + t->unacked : 0);
    put_number(row, "message_bytes_persistent",
               q->spec.durable ? t->bytes_ready + t->bytes_unacked : 0);
    (void)json_object_set_new(row, "leader", listing_node_name(shard, report->leader_node));
    put_pid(row, "pid", leader, leader != NULL ? leader->boot : 0, q->id);
    (void)json_object_set_new(row, "state", json_string("running"));
    put_number(row, "messages_delayed", t->delayed);
    put_number(row, "messages_dead_letters", t->dead);
    if (report->has_head_timestamp) {
        put_number(row, "head_message_timestamp", report->head_timestamp);
    }
    put_mirrors(row, shard, q, report);
    if (report->consumer_count == 1 && report->consumers[0].exclusive) {
        listing_put_text(row, "exclusive_consumer_tag", report->consumers[0].name);
        put_number(row, "client", report->consumers[0].client);
    }
}

/* RabbitMQ's words. One that waits for its turn may be on a node that is down: not told apart. */
static const char *activity_status(const struct queue_consumer_info *c)
{
    if (c->single_active) {
        return c->active ? "single_active" : "waiting";
    }
    return c->active ? "up" : "suspected_down";
}

void listing_consumers(const struct catalog_queue *q, const struct queue_report *report,
                       json_t *rows)
{
    for (uint32_t i = 0; i < report->consumer_count; i++) {
        const struct queue_consumer_info *c = &report->consumers[i];
        json_t *row = json_object();
        listing_put_text(row, "queue_name", q->spec.name);
        put_number(row, "client", c->client);
        listing_put_text(row, "consumer_tag", c->name);
        (void)json_object_set_new(row, "ack_required", json_boolean(!c->no_ack));
        put_number(row, "prefetch_count", c->prefetch);
        (void)json_object_set_new(row, "active", json_boolean(c->active));
        (void)json_object_set_new(row, "arguments", table_json(c->args));
        (void)json_object_set_new(row, "activity_status", json_string(activity_status(c)));
        listing_put_text(row, "vhost", q->spec.vhost);
        (void)json_array_append_new(rows, row);
    }
}

json_t *listing_replica(const char *node, const struct group_status *status)
{
    const char *state = status->leading ? "leader" : status->is_voter ? "follower" : "learner";
    json_t *row = json_pack("{s:s, s:s}", "Node Name", node, "Raft State", state);
    put_number(row, "Log Index", status->last);
    put_number(row, "Commit Index", status->commit);
    if (status->snapshot > 0) {
        put_number(row, "Snapshot Index", status->snapshot);
    } else {
        (void)json_object_set_new(row, "Snapshot Index", json_string("undefined"));
    }
    put_number(row, "Term", status->term);
    put_number(row, "Machine Version", status->machine_version);
    return row;
}

/* --- pids of channels ---------------------------------------------------------------------------
 */

static const char *client_key(json_t *client, char key[24])
{
    (void)snprintf(key, 24, "%llu", (unsigned long long)json_integer_value(client));
    return key;
}

/* A queue that holds publishers back, wherever they are. */
static void join_flow(json_t *rows, json_t *channels)
{
    json_t *ids = json_object();
    size_t i;
    size_t k;
    json_t *row;
    json_t *id;
    char key[24];
    json_array_foreach(channels, i, row) {
        json_array_foreach(json_object_get(row, "flow"), k, id) {
            (void)json_object_set_new(ids, client_key(id, key), json_true());
        }
    }
    json_array_foreach(rows, i, row) {
        id = json_object_get(row, "id");
        const char *state = json_string_value(json_object_get(row, "state"));
        if (id != NULL && state != NULL && strcmp(state, "running") == 0 &&
            json_object_get(ids, client_key(id, key)) != NULL) {
            (void)json_object_set_new(row, "state", json_string("flow"));
        }
    }
    json_decref(ids);
}

void listing_join_channels(json_t *rows, json_t *channels)
{
    join_flow(rows, channels);
    json_t *pids = json_object(); /* number of a queue client -> pid of its channel */
    size_t i;
    size_t k;
    json_t *row;
    json_t *client;
    char key[24];
    json_array_foreach(channels, i, row) {
        json_array_foreach(json_object_get(row, "clients"), k, client) {
            (void)json_object_set(pids, client_key(client, key), json_object_get(row, "pid"));
        }
    }
    json_array_foreach(rows, i, row) {
        bool consumer = json_object_get(row, "queue_name") != NULL;
        json_t *pid = (client = json_object_get(row, "client")) == NULL
                          ? NULL
                          : json_object_get(pids, client_key(client, key));
        if (pid != NULL) {
            (void)json_object_set(row, consumer ? "channel_pid" : "exclusive_consumer_pid", pid);
        }
    }
    json_decref(pids);
}

json_t *listing_full_pid(json_t *owned_pid, const char *node)
{
    const char *text = json_string_value(owned_pid);
    char pid[LISTING_PID_MAX];
    if (text == NULL || text[0] != '<') {
        return owned_pid;
    }
    (void)snprintf(pid, sizeof pid, "<%s.%s", node, text + 1);
    json_decref(owned_pid);
    return json_string(pid);
}
