/*
 * What: RabbitMQ's feature flags, for scripts that switch them on before or after an upgrade: what
 * of them a node of this broker does is always on, and what it does not do cannot be.
 * Threads: shard 0. Spec: docs/warrenctl.md.
 */
#include <string.h>

#include "admin.h"

static const struct {
    const char *name, *about;
    bool there;
} flags[] = {
    {"classic_mirrored_queue_version", "Versions of classic mirrored queues", true},
    {"implicit_default_bindings", "Bindings of the default exchange are not stored", true},
    {"maintenance_mode_status", "Maintenance mode", false},
    {"quorum_queue", "Queues of type `quorum`", true},
    {"stream_queue", "Queues of type `stream`", false},
    {"user_limits", "Limits for the connections and channels of a user", true},
    {"virtual_host_metadata", "Descriptions and tags of virtual hosts", true},
};

static void list_flags(struct admin *admin)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(flags); i++) {
        json_t *row = admin_row(admin);
        (void)json_object_set_new(row, "name", json_string(flags[i].name));
        (void)json_object_set_new(row, "state",
                                  json_string(flags[i].there ? "enabled" : "unavailable"));
        (void)json_object_set_new(row, "stability", json_string("stable"));
        (void)json_object_set_new(row, "desc", json_string(flags[i].about));
        (void)json_object_set_new(row, "provided_by", json_string("warren"));
    }
    admin_rows(admin);
}

static void enable_flag(struct admin *admin)
{
    const struct bytes name = admin->args[0];
    bool there = bytes_eq_cstr(name, "all");
    for (size_t i = 0; i < WR_ARRAY_SIZE(flags); i++) {
        there = there || (flags[i].there && bytes_eq_cstr(name, flags[i].name));
    }
    if (there) {
        admin_ok(admin);
    } else {
        admin_refuse(admin, EXIT_USAGE, "This feature flag is not supported by node %s",
                     admin->shard->config->nodename);
    }
}

const struct admin_command admin_flag_commands[] = {
    {"list_feature_flags", list_flags, 0, 0, ADMIN_THIS_NODE, true},
    {"enable_feature_flag", enable_flag, 1, 1, ADMIN_THIS_NODE, true},
    {.name = NULL}};
