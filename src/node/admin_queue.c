/*
 * What: purge_queue and delete_queue of warrenctl, in rabbitmqctl's words. The broker does the
 * work. Threads: shard 0.
 */
#include "admin.h"

static void on_purged(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                      uint64_t b)
{
    if (fault->code == BROKER_ADMIN_NOT_FOUND) {
        admin_refuse(ctx, EXIT_UNAVAILABLE, "not_found");
    } else {
        admin_done(ctx, fault, name, a, b);
    }
}

static void on_deleted(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                       uint64_t b)
{
    (void)name;
    (void)b;
    switch (fault->code) {
    case 0:
        admin_result(ctx, json_pack("{s:I}", "messages", (json_int_t)a));
        break;
    case BROKER_ADMIN_NOT_FOUND:
        admin_refuse(ctx, EXIT_USAGE, "Queue not found");
        break;
    case BROKER_ADMIN_IN_USE:
    case BROKER_ADMIN_NOT_EMPTY:
        admin_refuse(ctx, EXIT_USAGE, "%s", fault->text);
        break;
    default:
        admin_fault(ctx, fault);
    }
}

static void purge_queue(struct admin *admin)
{
    broker_admin_purge(admin->shard->broker, admin->vhost, admin->args[0], on_purged, admin);
}

static void delete_queue(struct admin *admin)
{
    const uint32_t flags = (admin_flag(admin, "if-unused") ? (uint32_t)BROKER_IF_UNUSED : 0) |
                           (admin_flag(admin, "if-empty") ? (uint32_t)BROKER_IF_EMPTY : 0);
    broker_admin_delete(admin->shard->broker, admin->vhost, admin->args[0], flags, on_deleted,
                        admin);
}

const struct admin_command admin_queue_commands[] = {{"purge_queue", purge_queue, 1, 1, 0, false},
                                                     {"delete_queue", delete_queue, 1, 1, 0, false},
                                                     {.name = NULL}};
