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
    static const char health[] =
        "'warrenctl status', 'cluster_status' and 'environment' say what a node has to say";
    static const char plugins[] =
        "there are no plugins to switch on or off: what Warren has of them is always on "
        "(docs/features.md)";
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
        {"reset", "stop the node and remove its data directory"},
        {"force_reset", "stop the node and remove its data directory"},
        {"join_cluster", members},
        {"forget_cluster_node", members},
        {"rename_cluster_node", members},
        {"update_cluster_nodes", members},
        {"change_cluster_node_type", "every node keeps its data on disk"},
        {"force_boot", catalog},
        {"schema_info", catalog},
        {"encode", no_crypto},
        {"decode", no_crypto},
        {"list_ciphers", no_crypto},
        {"list_hashes", no_crypto},
        {"node_health_check", "use 'warrenctl check_running' and 'warrenctl check_local_alarms'"},
        /* of rabbitmq-diagnostics, rabbitmq-queues, rabbitmq-upgrade, rabbitmq-plugins */
        {"certificates", "'warrenctl status' shows the certificate"},
        {"cipher_suites", "see docs/tls.md"},
        {"tls_versions", "see docs/tls.md"},
        {"command_line_arguments", health},
        {"os_env", health},
        {"discover_peers", members},
        {"erlang_cookie_hash", no_erlang},
        {"erlang_cookie_sources", no_erlang},
        {"maybe_stuck", no_erlang},
        {"observer", no_erlang},
        {"remote_shell", no_erlang},
        {"runtime_thread_stats", no_erlang},
        {"list_network_interfaces", health},
        {"resolve_hostname", health},
        {"resolver_info", health},
        {"log_tail", "'warrenctl log_location' says where the log is"},
        {"log_tail_stream", "'warrenctl log_location' says where the log is"},
        {"consume_event_stream", not_yet},
        {"reclaim_quorum_memory", "memory is not garbage collected"},
        {"stream_status", not_yet},
        {"list", plugins},
        {"enable", plugins},
        {"disable", plugins},
        {"set", plugins},
        {"is_enabled", plugins},
        {"directories", plugins},
        {"federation_status", not_yet},
        {"shovel_status", not_yet},
        {"erlang_version", no_erlang},
        {"add_member", not_yet},
        {"delete_member", not_yet},
        {"grow", not_yet},
        {"shrink", not_yet},
        {"rebalance", not_yet},
        {"drain", not_yet},
        {"revive", not_yet},
        {"suspend_listeners", not_yet},
        {"resume_listeners", not_yet},
        {"list_node_auth_attempt_stats", health},
        {"reset_node_auth_attempt_metrics", health},
        {"enable_auth_attempt_source_tracking", health},
        {"disable_auth_attempt_source_tracking", health},
        {"post_upgrade", "nothing is to be done after an upgrade"},
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
