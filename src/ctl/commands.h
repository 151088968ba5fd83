#ifndef WR_CTL_COMMANDS_H
#define WR_CTL_COMMANDS_H
/* The commands of warrenctl, their options, and what it says about them. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Options that only some commands have: X(ID, "--name", brief or NULL, kind). */
#define COMMAND_OPTIONS(X)                                                                         \
    X(PRIORITY, "--priority", NULL, OPTION_NUMBER)                                                 \
    X(APPLY_TO, "--apply-to", NULL, OPTION_TEXT)                                                   \
    X(DESCRIPTION, "--description", NULL, OPTION_TEXT)                                             \
    X(TAGS, "--tags", NULL, OPTION_TEXT)                                                           \
    X(DEFAULT_QUEUE_TYPE, "--default-queue-type", NULL, OPTION_TEXT)                               \
    X(HASHING, "--hashing-algorithm", NULL, OPTION_TEXT)                                           \
    X(USER, "--user", NULL, OPTION_TEXT)                                                           \
    X(OBJECT_TYPE, "--object-type", NULL, OPTION_TEXT)                                             \
    X(FILTER, "--filter", NULL, OPTION_TEXT)                                                       \
    X(WITHIN, "--within", NULL, OPTION_COUNT)                                                      \
    X(UNIT, "--unit", NULL, OPTION_TEXT)                                                           \
    X(PLACES, "--places", NULL, OPTION_TEXT)                                                       \
    X(COUNT, "--count", NULL, OPTION_COUNT)                                                        \
    X(LIMIT, "--limit", NULL, OPTION_COUNT)                                                        \
    X(DELAY, "--per-connection-delay", NULL, OPTION_COUNT)                                         \
    X(PID, "--pid", "-P", OPTION_COUNT)                                                            \
    X(QUEUE_TIMEOUT, "--queue-timeout", NULL, OPTION_COUNT)                                        \
    X(PRE_HASHED, "--pre-hashed-password", NULL, OPTION_FLAG)                                      \
    X(IF_EMPTY, "--if-empty", "-e", OPTION_FLAG)                                                   \
    X(IF_UNUSED, "--if-unused", "-u", OPTION_FLAG)                                                 \
    X(GLOBAL, "--global", NULL, OPTION_FLAG)                                                       \
    X(DRY_RUN, "--dry-run", NULL, OPTION_FLAG)                                                     \
    X(IDEMPOTENT, "--idempotent", NULL, OPTION_FLAG)                                               \
    X(ONLINE, "--online", NULL, OPTION_FLAG)                                                       \
    X(OFFLINE, "--offline", NULL, OPTION_FLAG)                                                     \
    X(LOCAL, "--local", NULL, OPTION_FLAG)

enum option_kind { OPTION_TEXT, OPTION_NUMBER, OPTION_COUNT, OPTION_FLAG };
enum option_id {
#define COMMAND_OPTION_ID(id, name, brief, kind) O_##id,
    COMMAND_OPTIONS(COMMAND_OPTION_ID)
#undef COMMAND_OPTION_ID
        O_ALL
};
#define OPTION_BIT(id) (UINT32_C(1) << (O_##id))

struct option_info {
    const char *name, *brief;
    enum option_kind kind;
};
extern const struct option_info command_options[O_ALL];

enum command_group {
    GROUP_HELP,
    GROUP_NODES,
    GROUP_CLUSTER,
    GROUP_USERS,
    GROUP_ACCESS,
    GROUP_MONITORING,
    GROUP_PARAMETERS,
    GROUP_POLICIES,
    GROUP_VHOSTS,
    GROUP_CONFIGURATION,
    GROUP_OPERATIONS,
    GROUP_QUEUES,
    GROUP_MESSAGES,
    GROUPS
};
extern const char *const command_groups[GROUPS];

enum command_kind {
    COMMAND_OWN,      /* main.c knows what is particular about it */
    COMMAND_ADMIN,    /* arguments and options go to the node as they are */
    COMMAND_CLOSE,    /* close.c */
    COMMAND_MESSAGES, /* messages.c */
    COMMAND_REPORT,   /* report.c */
    COMMAND_CHECK,    /* checks.c */
    COMMAND_WAIT,     /* wait.c */
    COMMAND_REPLICAS, /* replicas.c */
};

struct command {
    const char *name;
    enum command_group group;
    enum command_kind kind;
    const char *usage;
    const char *about;
    const char *banner;  /* %v vhost, %n node, %1 ... %9 arguments, %r those after the first, %q
                            priority; NULL: none */
    const char *done;    /* what is said when it has worked; NULL: nothing */
    const char *columns; /* default columns of a listing, or NULL */
    const char *all;     /* every column of a listing */
    uint32_t options;    /* OPTION_BIT, or-ed */
    uint8_t args_min, args_max; /* but for columns */
    bool per_vhost;
    bool picks;       /* its arguments are columns */
    bool fixed_order; /* the columns come in the order of `all`, whatever order was asked for */
    bool no_header;   /* a table without header, as rabbitmqctl has it */
    bool password;    /* the last argument may come from standard input */
};

const struct command *command_find(const char *name); /* NULL when there is none */
/* "Did you mean" for a word that is no command: the nearest, or NULL when none is near. */
const struct command *command_nearest(const char *word);
/* What to do instead of a command that only rabbitmqctl has; NULL: it has none of that name. */
const char *command_absent(const char *name);
/* In order of groups and names: NULL after the last. */
const struct command *command_at(size_t index);
void command_usage(FILE *out, const struct command *command); /* NULL: of the program */
void command_help(FILE *out, const struct command *command);  /* the same, and more */

#endif
