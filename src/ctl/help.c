/*
 * What: warrenctl's help, in the order and words of rabbitmqctl's.
 */
#include <string.h>

#include "commands.h"

static void print_words(FILE *out, const char *words, const char *separator)
{
    for (; *words != 0; words++) {
        (void)fputs(*words == ' ' ? separator : (char[2]){*words, 0}, out);
    }
}

static const char *about_option(enum option_id id)
{
    static const char *const texts[O_ALL] = {
        [O_PRIORITY] = "priority: the policy with the highest applies (default 0)",
        [O_APPLY_TO] = "queues, classic_queues, quorum_queues, streams, exchanges or all (default)",
        [O_DESCRIPTION] = "free text",
        [O_TAGS] = "words, separated by commas",
        [O_DEFAULT_QUEUE_TYPE] = "of queues that are declared without x-queue-type",
        [O_HASHING] = "of the hash given, default rabbit_password_hashing_sha256",
        [O_USER] = "whose limits (default guest)",
        [O_OBJECT_TYPE] = "queue (default) or exchange",
        [O_FILTER] = "only messages for which it is true: \"priority >= 5 and headers.x-retries > "
                     "3\", \"routing_key like 'order.%'\", \"size between 1 and 1024\"",
        [O_WITHIN] = "so many --unit, default 4",
        [O_UNIT] =
            "of sizes: bytes, mb or gb (default); of times: days, weeks (default), months or "
            "years",
        [O_PLACES] = "where to look: ready (default), delayed, dead; separated by commas",
        [O_COUNT] = "how many messages to show (default 10)",
        [O_LIMIT] = "at most so many",
        [O_DELAY] = "milliseconds to wait after each",
        [O_QUEUE_TIMEOUT] = "milliseconds that a queue has to answer",
        [O_PRE_HASHED] = "the password is a hash as hash_password prints it",
        [O_IF_EMPTY] = "only if it has no messages",
        [O_IF_UNUSED] = "only if it has no consumers",
        [O_GLOBAL] = "all of the cluster",
        [O_DRY_RUN] = "only counts",
        [O_IDEMPOTENT] = "no error when the node is down",
        [O_ONLINE] = "only queues that are in reach",
        [O_OFFLINE] = "only queues that are not",
        [O_LOCAL] = "only queues led by the node that is asked",
    };
    return texts[id];
}

static void options(FILE *out)
{
    (void)fputs(
        "\nGeneral Options\n\n"
        "   -n, --node NAME      node to talk to (default: RABBITMQ_NODENAME, else "
        "warren1@localhost)\n"
        "   -p, --vhost VHOST    virtual host, for commands that are about one (default /)\n"
        "   -q, --quiet          no banner\n"
        "   -s, --silent         no banner, no table header (the latter alone: "
        "--no-table-headers)\n"
        "   -t, --timeout SEC    how long to wait for the answer (default 60)\n"
        "   --formatter F        table, pretty_table, json, json_stream, csv or erlang\n"
        "   --config FILE        the node's configuration file (where it listens, its cookie)\n"
        "   --erlang-cookie C    the cluster's cookie (else from --config, the node's note or "
        "RABBITMQ_ERLANG_COOKIE)\n"
        "\nOptions may stand anywhere; after -- everything is an argument.\n",
        out);
}

void command_usage(FILE *out, const struct command *command)
{
    const struct command *c;
    if (command != NULL) {
        (void)fprintf(out, "\nUsage\n\nwarrenctl [--node <node>] [--longnames] [--quiet] %s%s%s\n",
                      command->name, command->usage[0] != 0 ? " " : "", command->usage);
        return;
    }
    (void)fputs("\nUsage\n\nwarrenctl [--node <node>] [--timeout <timeout>] [--longnames] "
                "[--quiet] <command> [<command options>]\n\nAvailable commands:\n",
                out);
    enum command_group group = GROUPS;
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        if (c->group != group) {
            (void)fprintf(out, "\n%s:\n\n", command_groups[c->group]);
            group = c->group;
        }
        (void)fprintf(out, "   %-29s %s\n", c->name, c->about);
    }
    options(out);
    (void)fputs("\nUse 'warrenctl help <command>' to learn more about a specific command\n", out);
}

void command_help(FILE *out, const struct command *command)
{
    command_usage(out, command);
    if (command == NULL) {
        return;
    }
    (void)fprintf(out, "\n%s\n", command->about);
    if (command->options != 0 || command->picks) {
        (void)fputs("\nArguments and Options\n", out);
    }
    if (command->picks) {
        (void)fputs("\n<column>\n\tmust be one of ", out);
        print_words(out, command->all, ", ");
        (void)fputc('\n', out);
    }
    for (int id = 0; id < O_ALL; id++) {
        if ((command->options >> id & 1) != 0) {
            const struct option_info *o = &command_options[id];
            (void)fprintf(out, "\n%s%s%s%s\n\t%s\n", o->brief != NULL ? o->brief : "",
                          o->brief != NULL ? ", " : "", o->name,
                          o->kind == OPTION_FLAG ? "" : " <value>", about_option(id));
        }
    }
    options(out);
}
