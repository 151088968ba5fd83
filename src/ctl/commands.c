/*
 * What: warrenctl's commands as one table, and the guess at a mistyped one.
 */
#include <stdlib.h>
#include <string.h>

#include "command_tables.h"

const struct option_info command_options[O_ALL] = {
#define COMMAND_OPTION_INFO(id, name, brief, kind) {name, brief, kind},
    COMMAND_OPTIONS(COMMAND_OPTION_INFO)
#undef COMMAND_OPTION_INFO
};

const char *const command_groups[GROUPS] = {
    [GROUP_HELP] = "Help",
    [GROUP_NODES] = "Nodes",
    [GROUP_CLUSTER] = "Cluster",
    [GROUP_USERS] = "Users",
    [GROUP_ACCESS] = "Access Control",
    [GROUP_MONITORING] = "Monitoring, observability and health checks",
    [GROUP_PARAMETERS] = "Parameters",
    [GROUP_POLICIES] = "Policies",
    [GROUP_VHOSTS] = "Virtual hosts",
    [GROUP_CONFIGURATION] = "Configuration and Environment",
    [GROUP_OPERATIONS] = "Operations",
    [GROUP_QUEUES] = "Queues",
    [GROUP_MESSAGES] = "Messages",
};

#define WORD_MAX 64

static const struct command *const tables[] = {commands_nodes, commands_access, commands_lists,
                                               commands_settings, commands_queues};

const struct command *command_at(size_t index)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const struct command *c = tables[i]; c->name != NULL; c++) {
            if (index-- == 0) {
                return c;
            }
        }
    }
    return NULL;
}

const struct command *command_find(const char *name)
{
    const struct command *c;
    for (size_t i = 0; (c = command_at(i)) != NULL && strcmp(c->name, name) != 0; i++) {
    }
    return c;
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
    const struct command *c;
    size_t best_distance = 4; /* more letters wrong is another word */
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t d = distance(word, c->name);
        if (d < best_distance && d < strlen(c->name) / 2) {
            best = c;
            best_distance = d;
        }
    }
    return best;
}
