/*
 * What: purging and deleting queues for whoever administers the cluster: by a queue client of their
 * own, without a channel and its owner's rights.
 *
 * Happy path: op -> on_reply -> answered; a delete: seal -> on_reply -> the sealed queue is taken
 * out of the catalog -> answered. Failure modes: no leader within the time limit: the client is
 * closed, and what it sent may have been done all the same. Invariants: what comes after the call
 * has its answer is not looked at. Threads: the shard's. Spec: docs/broker.md.
 */
#include "admin.h"

static void on_deleted(void *ctx, int status, const struct catalog_result *result)
{
    struct admin_call *call = ctx;
    if (status < 0) {
        admin_unavailable(call);
        return;
    }
    call->wait_index = result == NULL ? 0 : result->index;
    call->ready = call->wait_index == 0;
}

static void delete_sealed(struct admin_call *call)
{
    struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
    command.u.delete_queue.id = call->queue_id;
    call->proposed = true;
    host_catalog_propose(call->broker->host, &command, call->broker->options.operation_timeout_ms,
                         on_deleted, call);
}

static void not_found(struct admin_call *call)
{
    admin_fail(call, BROKER_ADMIN_NOT_FOUND, "no queue '%.*s' in vhost '%.*s'", FMT(call->name),
               FMT(call->vhost));
}

static void on_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    struct admin_call *call = ctx;
    (void)seq;
    (void)value2;
    if (call->ready) {
        return;
    }
    timer_cancel(&call->broker->timers, &call->delay);
    call->a = value;
    if (status == QUEUE_IN_USE) {
        admin_fail(call, BROKER_ADMIN_IN_USE, "Queue is in use");
    } else if (status == QUEUE_NOT_EMPTY) {
        admin_fail(call, BROKER_ADMIN_NOT_EMPTY, "Queue is not empty");
    } else if (status != QUEUE_OK) { /* somebody else deletes it */
        not_found(call);
    } else if (call->deletes) {
        delete_sealed(call);
    } else {
        admin_answer(call);
    }
}

static void on_gone(void *ctx, bool lost)
{
    struct admin_call *call = ctx;
    (void)lost;
    if (!call->ready && !call->proposed) {
        not_found(call);
    }
}

static const struct queue_client_sink sink = {.on_reply = on_reply, .on_gone = on_gone};

static void late(struct timer *timer)
{
    struct admin_call *call = WR_CONTAINER_OF(timer, struct admin_call, delay);
    admin_fail(call, BROKER_ADMIN_UNAVAILABLE,
               "timed out waiting for queue '%.*s' in vhost '%.*s': it has no leader",
               FMT(call->name), FMT(call->vhost));
}

/* False: it is not there, and the call has its answer. */
static bool open_client(struct admin_call *call)
{
    struct broker *broker = call->broker;
    const struct catalog_queue *queue =
        broker->view == NULL ? NULL : catalog_queue(broker->view, call->vhost, call->name);
    if (queue == NULL) {
        not_found(call);
        return false;
    }
    call->queue_id = queue->id;
    call->client = queue_client_open(broker->host, queue, &sink, call);
    timer_add(&broker->timers, &call->delay,
              broker_now_ms(broker) + broker->options.operation_timeout_ms, late);
    return true;
}

void broker_admin_purge(struct broker *broker, struct bytes vhost, struct bytes name,
                        broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, name);
    if (open_client(call)) {
        (void)queue_client_purge(call->client);
    }
}

void broker_admin_delete(struct broker *broker, struct bytes vhost, struct bytes name,
                         uint32_t flags, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, name);
    call->deletes = true;
    if (open_client(call)) {
        (void)queue_client_seal(call->client,
                                (uint8_t)(((flags & BROKER_IF_UNUSED) != 0 ? QUEUE_IF_UNUSED : 0) |
                                          ((flags & BROKER_IF_EMPTY) != 0 ? QUEUE_IF_EMPTY : 0)));
    }
}
