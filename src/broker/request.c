/*
 * What: one asynchronous call of a front end: what it waits for, and how it ends.
 *
 * A request is driven by its `step`, which is called again after each thing it waited for: a read
 * barrier, a proposal and the view that contains it, a queue's reply. Calls of one family may be
 * under way together on a channel; they end in the order of the calls. Failure modes: time limit
 * -> 541; its channel closed -> nobody is told, pending callbacks find channel == NULL and free it.
 *
 * Invariant: exactly one of {a catalog or report callback under way, queue->requests, view_waits,
 * death_waits, deferred, in_turn} holds a request.
 */
#include <stdarg.h>
#include <stdio.h>

#include "broker_internal.h"

struct request *request_new(struct broker_channel *ch, broker_done_fn done, void *ctx)
{
    struct request *request = wr_calloc(1, sizeof *request);
    request->broker = ch->broker;
    request->channel = ch;
    request->done = done;
    request->ctx = ctx;
    list_init(&request->wait_link);
    list_init(&request->reply_link);
    timer_init(&request->timeout);
    list_push_back(&ch->requests, &request->link);
    return request;
}

static struct bytes keep(struct buf *text, struct bytes b)
{
    struct bytes kept = {text->data + text->size, b.size};
    buf_append(&text, b.data, b.size); /* has the room: it does not move */
    return kept;
}

void request_keep(struct request *request, struct bytes name, struct bytes exchange,
                  struct bytes key, struct bytes args, struct bytes type)
{
    WR_ASSERT(request->text == NULL);
    request->text = buf_new(name.size + exchange.size + key.size + args.size + type.size + 1);
    request->name = keep(request->text, name);
    request->exchange = keep(request->text, exchange);
    request->key = keep(request->text, key);
    request->args = keep(request->text, args);
    request->type = keep(request->text, type);
}

void request_let_go(struct request *request)
{
    if (request->consumer != NULL) {
        request->consumer->request = NULL;
        request->consumer = NULL;
    }
}

static void request_free(struct request *request)
{
    list_remove(&request->link);
    list_remove(&request->reply_link);
    request_let_go(request);
    list_remove(&request->wait_link);
    timer_cancel(&request->broker->timers, &request->timeout);
    buf_unref(request->text);
    history_free(request->replay);
    wr_free(request);
}

/* --- calls under way together ----------------------------------------------------------------- */

void request_in_turn(struct request *request, void (*go_on)(struct request *request))
{
    WR_ASSERT(request->in_turn == NULL);
    if (list_first(&request->channel->requests) == &request->link) {
        broker_defer(request->broker, go_on, request);
    } else {
        request->in_turn = go_on;
    }
}

/* The oldest one has ended: the next one, if it waits for that, goes on in this turn. */
static void let_next_go_on(struct broker_channel *ch)
{
    struct list *link = list_first(&ch->requests);
    struct request *next = link == NULL ? NULL : WR_CONTAINER_OF(link, struct request, link);
    if (next != NULL && next->in_turn != NULL) {
        broker_defer(next->broker, next->in_turn, next);
        next->in_turn = NULL;
    }
}

bool request_may_begin_ahead(const struct broker_channel *ch, enum request_family family)
{
    LIST_FOREACH(link, &ch->requests) {
        const struct request *r = WR_CONTAINER_OF(link, struct request, link);
        if (!r->sure || r->fault.code != 0 || r->family != family) {
            return false;
        }
    }
    return true;
}

bool request_names(const struct broker_channel *ch, struct bytes name)
{
    LIST_FOREACH(link, &ch->requests) {
        if (bytes_eq(request_queue_name(WR_CONTAINER_OF(link, struct request, link)), name)) {
            return true;
        }
    }
    return false;
}

bool request_is_declaring(const struct broker_channel *ch, struct bytes name)
{
    LIST_FOREACH(link, &ch->requests) {
        const struct request *r = WR_CONTAINER_OF(link, struct request, link);
        if (r->declares && bytes_eq(r->name, name)) {
            return true;
        }
    }
    return false;
}

/* --- ends ------------------------------------------------------------------------------------- */

void request_finish(struct request *request)
{
    struct broker_channel *ch = request->channel;
    if (ch != NULL && request->ahead && list_first(&ch->requests) != &request->link) {
        request_in_turn(request, request_finish);
        return;
    }
    if (ch != NULL && request->is_last && request->fault.code == 0) {
        memcpy(ch->last_queue, request->name.data, request->name.size);
        ch->last_queue_size = (uint8_t)request->name.size;
        ch->has_last_queue = true;
    }
    if (ch != NULL) {
        list_remove(&request->link);
        let_next_go_on(ch);
    }
    if (ch != NULL && request->done != NULL) {
        broker_done_fn done = request->done;
        void *ctx = request->ctx;
        struct broker_fault fault = request->fault;
        struct bytes name = request->name;
        uint64_t count = request->count;
        uint64_t consumers = request->consumers;
        struct buf *text =
            request->text; /* outlives the request for the call: name points into it */
        request->text = NULL;
        request_free(request);
        done(ctx, &fault, name, count, consumers);
        buf_unref(text);
        return;
    }
    request_free(request);
}

void request_defer_finish(struct request *request)
{
    broker_defer(request->broker, request_finish, request);
}

void request_fail(struct request *request, uint16_t code, bool connection, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(request->fault.text, sizeof request->fault.text, fmt, args);
    va_end(args);
    request->fault.code = code;
    request->fault.connection = connection;
    request_defer_finish(request);
}

/* The channel goes: what still holds the request will free it, or broker_free when that never
 * calls. */
void request_abandon(struct request *request)
{
    if (request->made_exclusive) { /* whether it was made is not known, or nobody took note of it
                                      yet */
        broker_watch_orphan(request->channel->session, request->name);
    }
    list_remove(&request->link);
    list_push_back(&request->broker->abandoned, &request->link);
    request->channel = NULL;
    if (request->queue != NULL) {
        list_remove(&request->reply_link);
        request->queue = NULL;
        timer_cancel(&request->broker->timers, &request->timeout);
        request_defer_finish(request);
    } else if (!list_is_empty(&request->wait_link)) {
        list_remove(&request->wait_link);
        timer_cancel(&request->broker->timers, &request->timeout);
        request_defer_finish(request);
    } else if (request->in_turn != NULL) {
        request->in_turn = NULL;
        request_defer_finish(request);
    }
}

/* --- catalog ---------------------------------------------------------------------------------- */

static void on_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct request *request = ctx;
    (void)result;
    if (request->channel == NULL) {
        request_finish(request);
    } else if (status < 0) {
        request_fail(request, 541, true,
                     "the cluster's catalog cannot be read: no leader was reached within %u ms",
                     request->broker->options.operation_timeout_ms);
    } else {
        request->step(request);
    }
}

void request_barrier(struct request *request, void (*step)(struct request *request))
{
    request->looked = true;
    request->step = step;
    host_catalog_barrier(request->broker->host, request->broker->options.operation_timeout_ms,
                         on_barrier, request);
}

static void on_proposed(void *ctx, int status, const struct catalog_result *result)
{
    struct request *request = ctx;
    struct broker *broker = request->broker;
    request->status = status;
    if (result != NULL) {
        request->result = *result;
    }
    if (status < 0 && request->made_exclusive && request->channel != NULL) {
        broker_watch_orphan(request->channel->session, request->name);
    }
    if (request->channel == NULL) {
        request_finish(request);
    } else if (status >= 0 && result != NULL && result->index > broker->view_index) {
        request->wait_index = result->index;
        list_push_back(&broker->view_waits, &request->wait_link);
    } else {
        request->step(request);
    }
}

void request_propose(struct request *request, const struct catalog_command *command,
                     void (*step)(struct request *request))
{
    request->step = step;
    host_catalog_propose(request->broker->host, command,
                         request->broker->options.operation_timeout_ms, on_proposed, request);
}

bool request_unavailable(struct request *request)
{
    if (request->status >= 0) {
        return false;
    }
    request_fail(request, 541, true,
                 "the cluster's catalog cannot be changed: no leader was reached within %u ms",
                 request->broker->options.operation_timeout_ms);
    return true;
}

/* --- what the channel rejected ---------------------------------------------------------------- */

static void deaths_end(struct request *request)
{
    list_remove(&request->wait_link);
    timer_cancel(&request->broker->timers, &request->timeout);
    broker_defer(request->broker, request->step, request);
}

static void on_deaths_timeout(struct timer *t)
{
    struct request *request = WR_CONTAINER_OF(t, struct request, timeout);
    request->waited = true; /* that queue has no leader: the one that is asked may have */
    deaths_end(request);
}

void request_await_deaths(struct request *request, void (*step)(struct request *request))
{
    request->step = step;
    list_push_back(&request->channel->death_waits, &request->wait_link);
    timer_add(&request->broker->timers, &request->timeout,
              broker_now_ms(request->broker) + DEATHS_WAIT_MS, on_deaths_timeout);
}

void request_deaths_over(struct broker_channel *ch)
{
    LIST_FOREACH_SAFE(link, &ch->death_waits) {
        deaths_end(WR_CONTAINER_OF(link, struct request, wait_link));
    }
}

/* --- queues ----------------------------------------------------------------------------------- */

static void on_reply_timeout(struct timer *t)
{
    struct request *request = WR_CONTAINER_OF(t, struct request, timeout);
    const struct ch_queue *q = request->queue;
    list_remove(&request->reply_link);
    request->queue = NULL;
    if (request->replay != NULL) { /* the binding is made: that is what was asked for */
        history_cut_short(request);
        return;
    }
    request_fail(request, 541, true,
                 "timed out waiting for queue '%s' in vhost '%s': it has no leader", q->name,
                 request->channel->session->vhost);
}

void request_await_reply(struct request *request, struct ch_queue *queue, uint64_t seq,
                         void (*on_reply)(struct request *request, enum queue_status status,
                                          uint64_t value, uint64_t value2))
{
    WR_ASSERT(request->queue == NULL && !request->channel->closed);
    request->queue = queue;
    request->on_reply = on_reply;
    request->reply_seq = seq;
    list_push_back(&queue->requests, &request->reply_link);
    timer_add(&request->broker->timers, &request->timeout,
              broker_now_ms(request->broker) + request->broker->options.operation_timeout_ms,
              on_reply_timeout);
}

void request_await_at_most(struct request *request, uint64_t ms)
{
    timer_add(&request->broker->timers, &request->timeout, broker_now_ms(request->broker) + ms,
              on_reply_timeout);
}

static void answer_gone(struct request *request)
{
    request->on_reply(request, QUEUE_SEALED, 0, 0); /* nobody is left */
}

void request_queue_gone(struct request *request)
{
    WR_ASSERT(request->queue != NULL);
    list_remove(&request->reply_link);
    request->queue = NULL;
    request_let_go(request); /* freed with its queue */
    timer_cancel(&request->broker->timers, &request->timeout);
    broker_defer(request->broker, answer_gone, request);
}

struct bytes request_queue_name(const struct request *request)
{
    return request->name.size == 0 ? channel_last_queue(request->channel) : request->name;
}

const struct catalog_queue *request_find_queue(struct request *request,
                                               void (*step)(struct request *request))
{
    struct broker_channel *ch = request->channel;
    struct bytes vhost = session_vhost(ch->session);
    struct bytes name = request->name;
    if (name.size == 0) {
        if (!ch->has_last_queue) {
            request_fail(request, 404, false, "no previously declared queue");
            return NULL;
        }
        name = channel_last_queue(ch);
    }
    /* Before the look-up: whoever may not is not told what there is. */
    if (!auth_check(ch->session, PERMISSION_READ, "queue", name, &request->fault)) {
        request_defer_finish(request);
        return NULL;
    }
    const struct catalog_queue *queue = catalog_queue(request->broker->view, vhost, name);
    if (queue == NULL && !request->looked) {
        request_barrier(request, step);
        return NULL;
    }
    if (queue == NULL) {
        request_fail(request, 404, false, "no queue '%.*s' in vhost '%.*s'", FMT(name), FMT(vhost));
        return NULL;
    }
    if (!owner_check(ch->session, queue, &request->fault)) {
        request_defer_finish(request);
        return NULL;
    }
    return queue;
}
