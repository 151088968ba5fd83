/*
 * What: rabbitmqctl's commands that Warren has no use for, and what to do instead: a script, or a
 * hand that is used to them, is to be told so, and not that it mistyped something.
 */
#include <string.h>

#include "commands.h"

/* tidy: long function: a table */
const char *command_absent(const char *name)
{
    static const char no_erlang[] =
        "Warren is not written in Erlang: there is nothing that could evaluate it";
    static const char no_app[] = "a node is one process: stop it with 'warrenctl stop', start it "
                                 "with 'warren --config FILE'";
    static const char members[] =
        "the members of a cluster are those of its configuration "
        "(cluster_formation.classic_config.nodes); see docs/clustering.md";
    static const char catalog[] =
        "there is no other store to be looked at or forced: users, vhosts "
        "and queues are in the replicated catalog";
    static const char flags[] = "every feature is on: there are no feature flags";
    static const char mirrors[] =
        "replicas that lag behind are brought up to date without being told";
    static const char alarms[] = "the alarms of all nodes are in 'warrenctl cluster_status', with "
                                 "--formatter json as a list";
    static const char listeners[] = "'warrenctl status' lists the listeners";
    static const char replicas[] =
        "'warrenctl list_queues name leader members online' shows which replicas are in reach";
    static const char not_yet[] = "it is not there yet";
    static const char no_crypto[] = "values in the configuration are not encrypted";
    static const struct {
        const char *name, *instead;
    } absent[] = {
        {"eval", no_erlang},
        {"eval_file", no_erlang},
        {"exec", no_erlang},
        {"force_gc", "memory is not garbage collected"},
        {"hipe_compile", no_erlang},
        {"start_app", no_app},
        {"stop_app", no_app},
        {"shutdown", "use 'warrenctl stop', which returns when the node has ended"},
        {"wait", "use 'warrenctl await_startup'"},
        {"reset", "stop the node and remove its data directory"},
        {"force_reset", "stop the node and remove its data directory"},
        {"join_cluster", members},
        {"forget_cluster_node", members},
        {"rename_cluster_node", members},
        {"update_cluster_nodes", members},
        {"change_cluster_node_type", "every node keeps its data on disk"},
        {"force_boot", catalog},
        {"schema_info", catalog},
        {"await_online_nodes", "use 'warrenctl cluster_status', which lists the running nodes"},
        {"rotate_logs", "send the node SIGHUP: it opens its log file anew"},
        {"sync_queue", mirrors},
        {"cancel_sync_queue", mirrors},
        {"list_feature_flags", flags},
        {"enable_feature_flag", flags},
        {"encode", no_crypto},
        {"decode", no_crypto},
        {"list_ciphers", no_crypto},
        {"list_hashes", no_crypto},
        {"node_health_check", "use 'warrenctl status' and 'warrenctl ping'"},
        /* of rabbitmq-diagnostics, rabbitmq-queues, rabbitmq-upgrade */
        {"check_running", "use 'warrenctl await_startup', with -t for how long to wait"},
        {"is_running", "use 'warrenctl await_startup', with -t for how long to wait"},
        {"is_booting", "'warrenctl status' says the state"},
        {"check_alarms", alarms},
        {"check_local_alarms", alarms},
        {"alarms", alarms},
        {"listeners", listeners},
        {"check_port_listener", listeners},
        {"check_port_connectivity", listeners},
        {"check_protocol_listener", listeners},
        {"check_virtual_hosts", "vhosts cannot fail by themselves: use 'warrenctl ping'"},
        {"check_certificate_expiration", "'warrenctl status' says until when it is valid"},
        {"server_version", "'warrenctl status' says it"},
        {"erlang_version", no_erlang},
        {"memory_breakdown", "'warrenctl status' says how much is used"},
        {"quorum_status", replicas},
        {"check_if_node_is_quorum_critical", replicas},
        {"check_if_node_is_mirror_sync_critical", replicas},
        {"add_member", not_yet},
        {"delete_member", not_yet},
        {"grow", not_yet},
        {"shrink", not_yet},
        {"rebalance", not_yet},
        {"drain", not_yet},
        {"revive", not_yet},
        {"suspend_listeners", not_yet},
        {"resume_listeners", not_yet},
        {"export_definitions", not_yet},
        {"import_definitions", not_yet},
    };
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        if (strcmp(absent[i].name, name) == 0) {
            return absent[i].instead;
        }
    }
    return NULL;
}
