/*
 * What: the table of warrenctl's commands, their usage, and the guess at a mistyped one.
 */
#include <stdlib.h>
#include <string.h>

#include "commands.h"

static const struct command commands[] = {
    {.name = "await_startup",
     .usage = "[--timeout <timeout>]",
     .about = "Waits until the node serves clients"},
    {.name = "cluster_status",
     .usage = "[--timeout <timeout>]",
     .about = "Shows the members of the cluster",
     .banner = "Cluster status of node %s ..."},
    {.name = "help", .usage = "[<command>]", .about = "Shows the usage of a command"},
    {.name = "list_bindings",
     .usage = "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
     .about = "Lists all bindings of a vhost",
     .banner = "Listing bindings for vhost %s...",
     .columns = "source_name source_kind destination_name destination_kind routing_key arguments",
     .all = "source_name source_kind destination_name destination_kind routing_key arguments vhost",
     .per_vhost = true},
    {.name = "list_channels",
     .usage = "[--no-table-headers] [<column> ...] [--timeout <timeout>]",
     .about = "Lists all channels of the cluster",
     .banner = "Listing channels ...",
     .columns = "pid user consumer_count messages_unacknowledged",
     .all = "pid connection name number user vhost transactional confirm consumer_count "
            "messages_unacknowledged messages_uncommitted acks_uncommitted "
            "messages_unconfirmed prefetch_count global_prefetch_count state node"},
    {.name = "list_connections",
     .usage = "[--no-table-headers] [<column> ...] [--timeout <timeout>]",
     .about = "Lists AMQP 0-9-1 connections of the cluster",
     .banner = "Listing connections ...",
     .columns = "user peer_host peer_port state",
     .all = "pid name user_provided_name user vhost state peer_host peer_port host port ssl "
            "ssl_protocol ssl_key_exchange ssl_cipher ssl_hash peer_cert_subject peer_cert_issuer "
            "peer_cert_validity protocol auth_mechanism timeout frame_max channel_max channels "
            "recv_oct recv_cnt send_oct send_cnt send_pend connected_at client_properties node"},
    {.name = "list_consumers",
     .usage = "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
     .about = "Lists all consumers of a vhost",
     .banner = "Listing consumers in vhost %s ...",
     .columns = "queue_name channel_pid consumer_tag ack_required prefetch_count active arguments",
     .all = "queue_name channel_pid consumer_tag ack_required prefetch_count active "
            "activity_status arguments vhost",
     .per_vhost = true,
     .fixed_order = true},
    {.name = "list_exchanges",
     .usage = "[--vhost <vhost>] [--no-table-headers] [<column> ...] [--timeout <timeout>]",
     .about = "Lists exchanges of a vhost",
     .banner = "Listing exchanges for vhost %s ...",
     .columns = "name type",
     .all = "name type durable auto_delete internal arguments policy vhost",
     .per_vhost = true},
    {.name = "list_queues",
     .usage = "[--vhost <vhost>] [--online] [--offline] [--local] [--no-table-headers] "
              "[<column>, ...] [--timeout <timeout>]",
     .about = "Lists queues of a vhost",
     .banner = "Listing queues for vhost %s ...",
     .columns = "name messages",
     .all = "name durable auto_delete arguments policy operator_policy "
            "effective_policy_definition pid owner_pid exclusive exclusive_consumer_pid "
            "exclusive_consumer_tag messages_ready messages_unacknowledged messages "
            "messages_ready_ram messages_unacknowledged_ram messages_ram messages_persistent "
            "message_bytes message_bytes_ready message_bytes_unacknowledged message_bytes_ram "
            "message_bytes_persistent head_message_timestamp disk_reads disk_writes consumers "
            "consumer_utilisation consumer_capacity memory slave_pids synchronised_slave_pids "
            "mirror_pids synchronised_mirror_pids state type leader members online id vhost why",
     .per_vhost = true},
    {.name = "ping",
     .usage = "[--timeout <timeout>]",
     .about = "Checks that the node can be reached and takes our cookie",
     .banner = "Will ping %s. This only checks if the OS process is running and can authenticate."},
    {.name = "status",
     .usage = "[--timeout <timeout>]",
     .about = "Shows the state of the node",
     .banner = "Status of node %s ..."},
    {.name = "stop",
     .usage = "[--idempotent] [<pidfile>]",
     .about = "Stops the node; with a PID file, waits until that process has ended",
     .banner = "Stopping and halting node %s ..."},
    {.name = "version", .usage = "", .about = "Shows the version of RabbitMQ that this is like"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])
#define WORD_MAX 64

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* Letters to insert, delete or replace; words longer than WORD_MAX are cut. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1];
    size_t size = strnlen(b, WORD_MAX);
    for (size_t k = 0; k <= size; k++) {
        row[k] = k;
    }
    for (size_t i = 0; a[i] != 0 && i < WORD_MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 1; k <= size; k++) {
            size_t best = diagonal + (a[i] != b[k - 1]);
            diagonal = row[k];
            best = row[k] + 1 < best ? row[k] + 1 : best;
            row[k] = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
        }
    }
    return row[size];
}

const struct command *command_nearest(const char *word)
{
    const struct command *best = NULL;
    size_t best_distance = 4; /* more letters wrong is another word */
    for (size_t i = 0; i < COMMANDS; i++) {
        size_t d = distance(word, commands[i].name);
        if (d < best_distance && d < strlen(commands[i].name) / 2) {
            best = &commands[i];
            best_distance = d;
        }
    }
    return best;
}

static void print_words(FILE *out, const char *words, const char *separator)
{
    for (; *words != 0; words++) {
        (void)fputs(*words == ' ' ? separator : (char[2]){*words, 0}, out);
    }
}

static void options(FILE *out)
{
    (void)fputs(
        "\nOptions:\n"
        "   -n, --node NAME      node to talk to (default: RABBITMQ_NODENAME, else "
        "warren1@localhost)\n"
        "   -p, --vhost VHOST    virtual host (default /)\n"
        "   -q, --quiet          no banner\n"
        "   -s, --silent         no banner, no table header (the latter alone: "
        "--no-table-headers)\n"
        "   -t, --timeout SEC    how long to wait for the answer (default 60)\n"
        "   --formatter F        table, pretty_table, json, csv or erlang\n"
        "   --config FILE        the node's configuration file (where it listens, its cookie)\n"
        "   --erlang-cookie C    the cluster's cookie (else from --config, the node's note or "
        "RABBITMQ_ERLANG_COOKIE)\n",
        out);
}

void command_usage(FILE *out, const struct command *command)
{
    if (command != NULL) {
        (void)fprintf(out, "\nUsage\n\nwarrenctl [--node <node>] [--longnames] [--quiet] %s %s\n",
                      command->name, command->usage);
        if (command->all != NULL) {
            (void)fputs("\n<column>\n\tmust be one of ", out);
            print_words(out, command->all, ", ");
            (void)fputc('\n', out);
        }
        return;
    }
    (void)fputs("\nUsage\n\nwarrenctl [--node <node>] [--timeout <timeout>] [--longnames] "
                "[--quiet] <command> [<command options>]\n\nAvailable commands:\n\n",
                out);
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)fprintf(out, "   %-18s %s\n", commands[i].name, commands[i].about);
    }
    options(out);
}
