#ifndef WR_NODE_ADMIN_H
#define WR_NODE_ADMIN_H
/*
 * What the files of admin*.c share: one request of warrenctl that changes or lists something, and
 * how it is answered. Each ends with exactly one of admin_ok, admin_result, admin_refuse, in a
 * later turn or at once; the request may be looked at until whoever was called returns.
 */
#include "warren/broker_admin.h"
#include "warren/broker_messages.h"
#include "warren/str.h"

#include "control.h"

#define ADMIN_ARGS_MAX 40u

struct admin {
    struct shard *shard;
    struct job *job;
    const struct admin_command *command;
    json_t *request; /* args, vhost and options are views into it */
    struct bytes args[ADMIN_ARGS_MAX];
    uint32_t count;
    struct bytes vhost;
    json_t *options;
    json_t *rows;
    bool stale;
    struct { /* admin_messages.c */
        bool bodies_whole;
        uint64_t bytes,
            cut; /* of bodies so far; position from which on nothing more fitted, or 0 */
        struct broker_page_result result;
    } page;
};

/* How errors are shown (RabbitMQ is not of one mind), and what a command is about. */
enum admin_style {
    ADMIN_VHOST_BARE = 1, /* a vhost that is not there: without "Error:", exit code 65 */
    ADMIN_PERMISSION = 2, /* "User u does not exist", "Virtual host v does not exist" */
    ADMIN_USER_69 = 4,    /* a user that is not there: exit code 69 */
    ADMIN_THIS_NODE = 8,  /* the node that is asked: no view and no barrier is needed */
};

struct admin_command {
    const char *name;
    void (*run)(struct admin *admin);
    uint32_t args_min, args_max;
    uint32_t style;
    bool lists; /* only reads: answered without a leader too, with a warning */
};

extern const struct admin_command admin_change_commands[], admin_list_commands[],
    admin_queue_commands[], admin_message_commands[], admin_settings_commands[],
    admin_flag_commands[];

void admin_ok(struct admin *admin);
void admin_result(struct admin *admin, json_t *owned_result);
void admin_rows(struct admin *admin); /* admin->rows is the result */
void admin_sort(struct admin *admin); /* the rows, by name */
void admin_refuse(struct admin *admin, int code, const char *fmt, ...) WR_PRINTF(3, 4);
void admin_fault(struct admin *admin, const struct broker_fault *fault);
/* broker_done_fn of whatever has no more to say than whether it worked. */
void admin_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                uint64_t b);
json_t *admin_row(struct admin *admin); /* a new one of admin->rows */

/* False: answered. */
bool admin_vhost_there(struct admin *admin, struct bytes name);

/* Options: NULL or false where there is none of that type. */
const char *admin_option(const struct admin *admin, const char *name);
bool admin_flag(const struct admin *admin, const char *name);

#endif
