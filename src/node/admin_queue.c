/*
 * What: purge_queue and delete_queue of warrenctl: by a queue client of shard 0, as whoever may do
 * anything; then the catalog.
 *
 * Happy path: op -> on_reply notes what came -> in the control turn: answered, or the sealed queue
 * is taken out of the catalog first. Failure modes: no leader within the time limit: the client is
 * closed, and what it sent may have been done all the same. Threads: shard 0.
 */
#include "warren/err.h"

#include "admin.h"

#define QUEUE_MS 15000u

static void ignore_seq(void *ctx, uint64_t seq)
{
    (void)ctx;
    (void)seq;
}

static void ignore_cancel(void *ctx, uint32_t consumer)
{
    (void)ctx;
    (void)consumer;
}

static void ignore_blocked(void *ctx, bool blocked)
{
    (void)ctx;
    (void)blocked;
}

static void no_deliver(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                       uint32_t delivery_count, uint8_t flags, const struct message *messages,
                       uint32_t count)
{
    (void)ctx;
    (void)consumer;
    (void)first_ordinal;
    (void)delivery_count;
    (void)flags;
    (void)messages;
    (void)count;
}

static void answered(void *state);

static void on_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    struct admin *admin = ctx;
    (void)seq;
    (void)value2;
    admin->queue.status = status;
    admin->queue.messages = value;
    admin->queue.answered = true;
    control_job_defer(admin->job, answered);
}

static void on_gone(void *ctx, bool lost)
{
    struct admin *admin = ctx;
    (void)lost;
    if (!admin->queue.answered) {
        admin->queue.status = QUEUE_SEALED;
        control_job_defer(admin->job, answered);
    }
}

static const struct queue_client_sink sink = {
    .on_applied = ignore_seq,
    .on_nacked = ignore_seq,
    .on_reply = on_reply,
    .on_deliver = no_deliver,
    .on_cancel = ignore_cancel,
    .on_gone = on_gone,
    .on_blocked = ignore_blocked,
};

static bool deletes(const struct admin *admin)
{
    return admin->command == &admin_queue_commands[1];
}

static void not_found(struct admin *admin)
{
    if (deletes(admin)) {
        admin_refuse(admin, EXIT_USAGE, "Queue not found");
    } else {
        admin_refuse(admin, EXIT_UNAVAILABLE, "not_found");
    }
}

static void on_deleted(void *ctx, int status, const struct catalog_result *result)
{
    struct admin *admin = ctx;
    (void)result;
    if (status < 0) {
        admin_refuse(admin, EXIT_UNAVAILABLE,
                     "the cluster's catalog cannot be changed: no leader was reached within %u ms",
                     QUEUE_MS);
        return;
    }
    admin_result(admin, json_pack("{s:I}", "messages", (json_int_t)admin->queue.messages));
}

static void answered(void *state)
{
    struct admin *admin = state;
    control_job_limit(admin->job, 0, NULL); /* from here on nothing waits for the queue */
    queue_client_close(admin->queue.client);
    if (admin->queue.status == QUEUE_IN_USE) {
        admin_refuse(admin, EXIT_USAGE, "Queue is in use");
    } else if (admin->queue.status == QUEUE_NOT_EMPTY) {
        admin_refuse(admin, EXIT_USAGE, "Queue is not empty");
    } else if (admin->queue.status != QUEUE_OK) { /* somebody else deletes it */
        not_found(admin);
    } else if (!deletes(admin)) {
        admin_ok(admin);
    } else {
        struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
        command.u.delete_queue.id = admin->queue.id;
        host_catalog_propose(admin->shard->host, &command, QUEUE_MS, on_deleted, admin);
    }
}

static void late(void *state)
{
    struct admin *admin = state;
    queue_client_close(admin->queue.client);
    admin_refuse(admin, EXIT_UNAVAILABLE,
                 "timed out waiting for queue '%.*s' in vhost '%.*s': it has no leader",
                 BYTES_PRINTF(admin->args[0]), BYTES_PRINTF(admin->vhost));
}

static bool open_client(struct admin *admin)
{
    const struct catalog_queue *queue =
        catalog_queue(admin->shard->view, admin->vhost, admin->args[0]);
    if (queue == NULL) {
        not_found(admin);
        return false;
    }
    admin->queue.id = queue->id;
    admin->queue.client = queue_client_open(admin->shard->host, queue, &sink, admin);
    control_job_limit(admin->job, QUEUE_MS, late);
    return true;
}

static void purge_queue(struct admin *admin)
{
    if (open_client(admin)) {
        (void)queue_client_purge(admin->queue.client);
    }
}

static void delete_queue(struct admin *admin)
{
    if (open_client(admin)) {
        (void)queue_client_seal(admin->queue.client,
                                (uint8_t)((admin_flag(admin, "if-unused") ? QUEUE_IF_UNUSED : 0) |
                                          (admin_flag(admin, "if-empty") ? QUEUE_IF_EMPTY : 0)));
    }
}

const struct admin_command admin_queue_commands[] = {{"purge_queue", purge_queue, 1, 1, 0, false},
                                                     {"delete_queue", delete_queue, 1, 1, 0, false},
                                                     {.name = NULL}};
