/*
 * What: basic.consume, cancel, get, settle, qos: consumers and their credit.
 *
 * Credit: a consumer's prefetch is enforced by the queue machine. Besides, every consumer has a
 * window of deliveries, counted in bytes by the average size, that is renewed as they are handed to
 * the front end, so that a slow socket never has more than a window queued. The first one is a
 * number of messages, a small one if the queue has messages that cannot be given back (no_ack);
 * once sizes are known it begins small, doubles with each renewal up to WINDOW_BYTES, and is halved
 * when the socket is slow. What comes over WINDOW_BYTES to a slow socket is given back. What one
 * of a higher priority has no credit for goes to others, so its windows begin large. The channel's
 * global limit is enforced in the machine per queue (QUEUE_OP_LIMIT), and over several queues in
 * turns.c.
 */
#include <stdio.h>

#include "broker_internal.h"
#include "dead.h"

#define RESUMED_WINDOWS 8u

/* Only those below it can show that it has a window: they would get what it has no credit for. */
static bool is_preferred(const struct consumer *c)
{
    return c->priority > 0;
}

static struct consumer *consumer_new(struct ch_queue *q, struct bytes tag, int32_t priority)
{
    struct consumer *c = wr_calloc(1, sizeof *c);
    c->queue = q;
    c->id =
        (uint32_t)q->consumers
            .count; /* ids are not used again within a client: late deliveries must find nobody */
    c->tag_size = (uint8_t)tag.size;
    memcpy(c->tag, tag.data, tag.size);
    c->priority = priority;
    c->window_bytes = is_preferred(c) ? WINDOW_BYTES : WINDOW_BYTES_LEAST;
    list_init(&c->stop_link);
    vec_push(&q->consumers, c);
    (void)map_put(&q->channel->consumers, tag, c);
    return c;
}

void consumer_free(struct consumer *c)
{
    struct ch_queue *q = c->queue;
    if (c->request != NULL) {
        request_let_go(c->request);
    }
    holding_leave(c);
    (void)map_remove(&q->channel->consumers, (struct bytes){c->tag, c->tag_size});
    q->consumers.items[c->id] = NULL;
    list_remove(&c->stop_link);
    slice_unref(&c->args);
    wr_free(c);
}

/* At least two, or half of it would be none. */
uint64_t consumer_window(const struct consumer *c)
{
    const uint64_t first = c->careful ? WINDOW_CAREFUL : WINDOW_FIRST;
    uint64_t window = c->average == 0 ? first : c->window_bytes / (c->average + 64u);
    return window < 2 ? 2 : window > WINDOW_MOST ? WINDOW_MOST : window;
}

/* More credit once half of the window is used up. */
void consumer_renew(struct consumer *c)
{
    if (!c->attached || c->stopped || c->queue->channel->held) {
        return;
    }
    if (c->doubt) {
        consumer_resumed(c);
    }
    if (c->credit > c->ordinal && (c->credit - c->ordinal) * c->average > 2 * WINDOW_BYTES) {
        c->credit = c->ordinal + consumer_window(c); /* it was granted before sizes were known */
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
        return;
    }
    if (c->credit < c->ordinal + consumer_window(c) / 2) {
        c->window_bytes = c->window_bytes < WINDOW_BYTES ? c->window_bytes * 2 : WINDOW_BYTES;
        c->credit = c->ordinal + consumer_window(c);
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
    }
}

/*
 * After a resume. What a suspended node's consumers had unacked was returned to the queue, and what
 * of it never got here took its credit along: the machine may have handed out everything up to
 * c->credit, though c->ordinal has not moved, and would wait for ever. So a window more is granted.
 * Most resumes lose nothing: the surplus is bounded, and gone with the next delivery.
 */
void consumer_resumed(struct consumer *c)
{
    uint64_t window = consumer_window(c);
    c->doubt = !c->attached || c->stopped || c->queue->channel->held;
    if (!c->doubt && c->credit < c->ordinal + RESUMED_WINDOWS * window) {
        c->credit += window;
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
    }
}

/* --- consume ---------------------------------------------------------------------------------- */

/* What was ready waits for nobody else: other consumers have as much as they can take. So only then
 * a small first window takes nothing away from whoever has a higher priority, or a turn. */
static void take_more_of_an_empty_queue(struct consumer *c)
{
    const uint64_t first = is_preferred(c) && !c->no_ack ? WINDOW_MOST : WINDOW_FIRST;
    c->careful = false;
    if (!c->stopped && !c->queue->channel->held && c->credit < c->ordinal + first) {
        c->credit = c->ordinal + first;
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
    }
}

static void attach(struct request *r, struct consumer *c);

/* The first in its turn only: consume-ok comes before the first delivery. */
static void begin_deliveries(struct consumer *c)
{
    c->attached = true;
    if (c->credit == 0 && !c->stopped && !c->queue->channel->held) {
        c->credit = consumer_window(c);
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
    }
    if (c->doubt) { /* the first window may be lost already */
        consumer_renew(c);
    }
}

/* r->answer, r->count: what the queue said. */
static void attach_over(struct request *r)
{
    struct consumer *c = r->consumer;
    const char *vhost = r->channel->session->vhost;
    request_let_go(r);
    if (r->answer == QUEUE_OK && c != NULL) {
        begin_deliveries(c);
        if ((c->careful || is_preferred(c)) && r->count == 0) {
            take_more_of_an_empty_queue(c);
        }
        r->count = 0;
        r->name = r->key; /* the tag */
        request_finish(r);
        return;
    }
    r->count = 0;
    if (r->answer == QUEUE_IN_EXCLUSIVE_USE) {
        request_fail(r, 403, false, "queue '%.*s' in vhost '%s' in exclusive use",
                     FMT(request_queue_name(r)), vhost);
    } else {
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(request_queue_name(r)),
                     vhost);
    }
    if (c != NULL) {
        consumer_free(c);
    }
}

static void on_attached(struct request *r, enum queue_status status, uint64_t ready,
                        uint64_t consumers)
{
    if (consumers == REPLY_NOT_KNOWN && r->consumer != NULL) {
        attach(r, r->consumer); /* asked again: it exists, or now it is known why it does not */
        return;
    }
    r->answer = status == QUEUE_EXISTS ? QUEUE_OK : status; /* ids are not used again */
    r->count = ready;
    r->sure = r->answer == QUEUE_OK && r->sure;
    if (r->ahead) {
        request_in_turn(r, attach_over);
    } else {
        attach_over(r);
    }
}

static void attach(struct request *r, struct consumer *c)
{
    const uint8_t no_ack = c->queue->safe ? QUEUE_NO_ACK : QUEUE_NO_ACK | QUEUE_SETTLES;
    const uint8_t flags =
        (uint8_t)((c->no_ack ? no_ack : 0) | (c->exclusive ? QUEUE_EXCLUSIVE_CONSUMER : 0u));
    request_await_reply(r, c->queue,
                        queue_client_attach(c->queue->client, c->id, flags, c->prefetch, c->credit,
                                            c->priority, r->key, r->args),
                        on_attached);
}

/* If one before it fails after all, nothing is left of it but what the channel's end undoes. */
static bool is_harmless(const struct catalog_queue *queue, uint32_t flags)
{
    return !queue->spec.auto_delete && (flags & BROKER_EXCLUSIVE) == 0;
}

static void consume_step(struct request *r)
{
    struct broker_channel *ch = r->channel;
    struct consume_args args = {.timeout_ms = ch->broker->options.consumer_timeout_ms};
    const struct catalog_queue *queue = request_find_queue(r, consume_step);
    if (queue == NULL) {
        return;
    }
    if (!args_check_consume(session_vhost(ch->session), queue, r->args, &args, &r->fault)) {
        request_defer_finish(r);
        return;
    }
    if (queue->spec.type == CATALOG_QUORUM && queue->settings.single_active_consumer) {
        r->flags &= ~(uint32_t)BROKER_EXCLUSIVE; /* RabbitMQ takes it there, without effect */
    }
    if ((r->flags & BROKER_EXCLUSIVE) != 0 && queue->settings.single_active_consumer) {
        fault_set(&r->fault, 403, false, "queue '%.*s' in vhost '%s' in exclusive use",
                  FMT(queue->spec.name), ch->session->vhost);
        request_defer_finish(r);
        return;
    }
    struct ch_queue *q = ch_queue_open(ch, queue);
    struct consumer *c = consumer_new(q, r->key, args.priority);
    c->no_ack = (r->flags & BROKER_NO_ACK) != 0;
    c->exclusive = (r->flags & BROKER_EXCLUSIVE) != 0;
    c->prefetch = ch->prefetch; /* without acks it is only shown: the machine does not count them */
    c->args = slice_copy(r->args.data, r->args.size);
    c->cancel_on_move = args.cancel_on_move;
    if (!c->no_ack) {
        holding_open(c, args.timeout_ms);
    }
    c->careful = c->no_ack;
    ch->has_priorities = ch->has_priorities || c->priority != 0;
    c->credit = r->ahead ? 0 : consumer_window(c); /* what would come before its turn waits there */
    if (channel_is_full(ch)) {
        c->credit = 0;
        consumer_put_among_stopped(c);
    }
    if (ch->global_limit > 0 && !q->limited) {
        q->limited = true;
        (void)queue_client_limit(q->client, ch->global_limit);
    }
    r->consumer = c;
    c->request = r;
    r->sure = is_harmless(queue, r->flags);
    attach(r, c);
}

static void consume(struct broker_channel *ch, struct bytes queue, struct bytes tag, uint32_t flags,
                    struct bytes args, bool ahead, broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    char generated[64];
    r->flags = flags;
    r->family = FAMILY_CONSUME;
    r->ahead = ahead;
    if (tag.size == 0) {
        broker_make_name(ch->broker, "amq.ctag-", generated);
        tag = bytes_from_cstr(generated);
    }
    request_keep(r, queue, BYTES_NONE, tag, args, BYTES_NONE);
    if (map_find(&ch->consumers, tag) != NULL) {
        request_fail(r, 530, true, "attempt to reuse consumer tag '%.*s'", FMT(tag));
        return;
    }
    uint32_t most = ch->broker->options.consumers_max;
    if (most > 0 && ch->consumers.count >= most) {
        request_fail(r, 530, true, "reached maximum (%u) of consumers per channel", most);
        return;
    }
    if (bytes_eq_cstr(request_queue_name(r), REPLY_QUEUE)) {
        reply_consume(r);
        return;
    }
    consume_step(r);
}

void broker_consume(struct broker_channel *ch, struct bytes queue, struct bytes tag, uint32_t flags,
                    struct bytes args, broker_done_fn done, void *ctx)
{
    consume(ch, queue, tag, flags, args, false, done, ctx);
}

bool broker_consume_ahead(struct broker_channel *ch, struct bytes name, struct bytes tag,
                          uint32_t flags, struct bytes args, broker_done_fn done, void *ctx)
{
    const struct broker_session *session = ch->session;
    const struct bytes vhost = session_vhost(session);
    const struct catalog_queue *queue = catalog_queue(ch->broker->view, vhost, name);
    const uint32_t most = ch->broker->options.consumers_max;
    struct consume_args known = {.timeout_ms = 0};
    struct broker_fault fault = {0};
    const bool begins = request_may_begin_ahead(ch, FAMILY_CONSUME) && queue != NULL &&
                        ch->global_limit == 0 && is_harmless(queue, flags) &&
                        map_find(&ch->consumers, tag) == NULL &&
                        (most == 0 || ch->consumers.count < most) &&
                        auth_check(ch->session, PERMISSION_READ, "queue", name, &fault) &&
                        owner_check(session, queue, &fault) &&
                        args_check_consume(vhost, queue, args, &known, &fault);
    if (begins) {
        consume(ch, name, tag, flags, args, true, done, ctx);
    }
    return begins;
}

/* --- cancel ----------------------------------------------------------------------------------- */

static void on_all_detached(struct request *r, enum queue_status status, uint64_t value,
                            uint64_t consumers);

/* Gone, whoever deleted it, and known to be so on every node; or no leader of the catalog was
 * reached in time: the consumer is cancelled all the same, and the queue will go. */
static void auto_deleted(struct request *r)
{
    request_defer_finish(r);
}

/* What ended with its last consumer is gone before anybody hears that this one was cancelled. The
 * queue's leader has it deleted too; whose proposal comes second finds nothing. */
static void after_detach(struct request *r, uint64_t consumers)
{
    struct ch_queue *q = umap_get(&r->channel->by_id, r->queue_id);
    if (r->auto_delete && consumers == REPLY_NOT_KNOWN && q != NULL) {
        /* Asked by a detach of nobody. */
        request_await_reply(r, q, queue_client_detach(q->client, 0, 0), on_all_detached);
        return;
    }
    if (r->auto_delete && consumers == 0) {
        struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
        command.u.delete_queue.id = r->queue_id;
        request_propose(r, &command, auto_deleted);
        return;
    }
    request_finish(r);
}

static void on_all_detached(struct request *r, enum queue_status status, uint64_t value,
                            uint64_t consumers)
{
    (void)status;
    (void)value;
    after_detach(r, consumers);
}

static void on_detached(struct request *r, enum queue_status status, uint64_t value,
                        uint64_t consumers)
{
    (void)status;
    (void)value;
    struct consumer *c = r->consumer;
    request_let_go(r);
    if (c != NULL) { /* else: gone with its queue meanwhile */
        consumer_free(c);
    }
    after_detach(r, consumers);
}

static void await_detached(struct request *r, struct ch_queue *q, uint64_t seq,
                           void (*on_reply)(struct request *r, enum queue_status status,
                                            uint64_t value, uint64_t consumers))
{
    r->queue_id = q->queue_id;
    r->auto_delete = q->auto_delete;
    request_await_reply(r, q, seq, on_reply);
}

static void cancel(struct broker_channel *ch, struct bytes tag, bool ahead, broker_done_fn done,
                   void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->family = FAMILY_CANCEL;
    r->ahead = ahead;
    r->sure = true; /* it cannot fail */
    request_keep(r, tag, BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE);
    struct consumer *c = map_get(&ch->consumers, tag);
    if (reply_cancel(ch, tag) || c == NULL) {
        request_defer_finish(r); /* cancelling what does not exist is fine */
        return;
    }
    r->consumer = c;
    c->request = r;
    await_detached(r, c->queue, queue_client_detach(c->queue->client, c->id, 0), on_detached);
}

void broker_cancel(struct broker_channel *ch, struct bytes tag, broker_done_fn done, void *ctx)
{
    cancel(ch, tag, false, done, ctx);
}

bool broker_cancel_ahead(struct broker_channel *ch, struct bytes tag, broker_done_fn done,
                         void *ctx)
{
    const struct consumer *c = map_get(&ch->consumers, tag);
    const bool begins = request_may_begin_ahead(ch, FAMILY_CANCEL) && c != NULL && c->attached &&
                        c->request == NULL;
    if (begins) {
        cancel(ch, tag, true, done, ctx);
    }
    return begins;
}

static void on_left_one(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                        uint64_t b)
{
    struct broker_channel *ch = ctx;
    const struct broker_fault none = {0};
    (void)fault; /* a queue without a leader keeps no channel from being closed */
    (void)name;
    (void)a;
    (void)b;
    if (--ch->leaving == 0) {
        ch->on_left(ch->left_ctx, &none, BYTES_NONE, 0, 0);
    }
}

/* Its consumers leave and what the channel has unacked goes back: seq of the last op of that, 0:
 * there is nothing to do. Here both stay on record until the channel is closed, and what still
 * comes for the consumers goes back. They leave first, or they would get what goes back. */
static uint64_t leave_queue(struct ch_queue *q, bool *ret_consumed)
{
    uint64_t seq = 0;
    *ret_consumed = false;
    for (size_t i = 1; i < q->consumers.count; i++) {
        struct consumer *c = q->consumers.items[i];
        if (c != NULL && c->attached && !c->cancelled) {
            c->cancelled = true;
            *ret_consumed = true;
            seq = queue_client_detach(q->client, c->id, QUEUE_DETACH_RETURN);
        }
    }
    const uint64_t returned = holdings_of_cancelled_return(q);
    seq = returned != 0 ? returned : seq;
    if (q->got_unacked > 0) {
        (void)queue_client_settle(q->client, 0, 1, q->got_last, QUEUE_REQUEUE);
        seq = queue_client_detach(q->client, 0, 0); /* of nobody: a settle has no reply */
    }
    return seq;
}

bool broker_channel_leave(struct broker_channel *ch, bool session_ends, broker_done_fn done,
                          void *ctx)
{
    WR_ASSERT_OP(ch->leaving, ==, 0);
    ch->on_left = done;
    ch->left_ctx = ctx;
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        struct ch_queue *q = it.value;
        if ((q->exclusive && session_ends) ||
            (!q->auto_delete && queue_client_is_near(q->client))) {
            continue;
        }
        bool consumed;
        const uint64_t seq = leave_queue(q, &consumed);
        if (seq != 0) {
            struct request *r = request_new(ch, on_left_one, ch);
            ch->leaving++;
            await_detached(r, q, seq, on_all_detached);
            r->auto_delete = q->auto_delete && consumed; /* one that never had a consumer stays */
            if (!r->auto_delete) { /* a queue without a leader gets it back when it has one */
                request_await_at_most(r, RETURN_WAIT_MS);
            }
        }
    }
    return ch->leaving > 0;
}

void consumers_take_no_more(struct broker_channel *ch)
{
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        const struct ch_queue *q = it.value;
        for (size_t i = 1; q->safe && i < q->consumers.count; i++) { /* else: deliver, then ack */
            struct consumer *c = q->consumers.items[i];
            if (c != NULL && c->no_ack && c->attached && !c->cancelled) {
                c->cancelled = true;
                (void)queue_client_detach(q->client, c->id, 0);
            }
        }
    }
}

/* --- get -------------------------------------------------------------------------------------- */

/* It is here: for a client that does not acknowledge it is settled by that. On its way here it
 * could have been lost, and what comes too late goes back (drop_got). */
static void take_got(const struct request *r, struct ch_queue *q)
{
    struct broker_delivery *delivery = &q->got_delivery;
    q->has_got = false;
    if ((r->flags & BROKER_NO_ACK) != 0 && delivery->ordinal != 0) {
        (void)queue_client_settle(q->client, 0, delivery->ordinal, 1, QUEUE_ACK);
        delivery->ordinal = 0;
    } else if (delivery->ordinal != 0) {
        q->got_last = delivery->ordinal;
        q->got_unacked++;
        r->channel->got_unacked++;
    }
}

static void on_got(struct request *r, enum queue_status status, uint64_t value, uint64_t value2)
{
    struct ch_queue *q = umap_get(&r->channel->by_id, r->queue_id);
    (void)value2;
    if (q != NULL && status != QUEUE_OK) {
        drop_got(q);
    }
    if (status == QUEUE_OK && q != NULL && q->has_got) {
        struct message message = q->got;
        take_got(r, q);
        r->on_get(r->ctx, &q->got_delivery, q->got_count > 0, q->got_count, &message, value);
        message_unref(message);
        r->count = 1;
        r->consumers = value;
        request_finish(r);
    } else if (status == QUEUE_SEALED) {
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(request_queue_name(r)),
                     r->channel->session->vhost);
    } else {
        r->count = 0;
        request_finish(r);
    }
}

/*
 * Who rejects a message and then gets it from the queue of dead letters finds it there with
 * RabbitMQ's classic queues, which let go of it at once. Here a majority must have said so first,
 * while a transient queue answers in microseconds.
 */
static bool rejects_elsewhere(const struct broker_channel *ch, const struct catalog_queue *queue)
{
    const struct ch_queue *q = umap_get(&ch->by_id, queue->id);
    return ch->rejecting > (q != NULL && q->rejected != 0);
}

static void get_step(struct request *r)
{
    const struct catalog_queue *queue = request_find_queue(r, get_step);
    if (queue == NULL) {
        return;
    }
    if (queue->spec.type == CATALOG_QUORUM && queue->settings.single_active_consumer) {
        fault_set(&r->fault, 405, false,
                  "cannot obtain access to locked queue '%.*s' in vhost '%s'. basic.get operations "
                  "are not supported by quorum queues with single active consumer",
                  FMT(queue->spec.name), r->channel->session->vhost);
        request_defer_finish(r);
        return;
    }
    if (!r->waited && rejects_elsewhere(r->channel, queue)) {
        request_await_deaths(r, get_step);
        return;
    }
    struct ch_queue *q = ch_queue_open(r->channel, queue);
    r->queue_id = queue->id;
    const bool no_ack = (r->flags & BROKER_NO_ACK) != 0 && q->safe; /* else: take_got */
    request_await_reply(r, q, queue_client_get(q->client, no_ack), on_got);
}

void broker_get(struct broker_channel *ch, struct bytes queue, bool no_ack,
                void (*on_get)(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                               uint32_t delivery_count, const struct message *message,
                               uint64_t left),
                broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->on_get = on_get;
    r->flags = no_ack ? BROKER_NO_ACK : 0u;
    request_keep(r, queue, BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE);
    get_step(r);
}

/* --- settle and qos --------------------------------------------------------------------------- */

static void note_reject(struct ch_queue *q, uint64_t seq)
{
    struct dead_settings settings;
    const struct catalog_queue *queue = catalog_queue_by_id(q->channel->broker->view, q->queue_id);
    if (queue != NULL && dead_settings_of(queue, &settings)) {
        q->channel->rejecting += q->rejected == 0;
        q->rejected = seq;
    }
}

uint64_t settle_now(struct broker_channel *ch, const struct broker_delivery *first, uint64_t count,
                    enum queue_outcome outcome)
{
    struct ch_queue *q = umap_get(&ch->by_handle, first->queue);
    if (q == NULL) {
        return 0; /* the queue was deleted: there is nothing left to settle */
    }
    ch->acked += count;
    if (first->consumer != 0) {
        consumer_lets_others_go_first(q, first->consumer);
    }
    uint64_t seq = queue_client_settle(q->client, first->consumer, first->ordinal, count, outcome);
    if (outcome == QUEUE_REJECT) {
        note_reject(q, seq);
    }
    if (first->consumer == 0) {
        const uint64_t settled = count < q->got_unacked ? count : q->got_unacked;
        q->got_unacked -= settled;
        ch->got_unacked -= settled;
    } else {
        ch->outstanding -= holding_settled(q, first->consumer, first->ordinal, count);
        if (ch->global_limit > 0) {
            deliver_resume(ch);
        }
    }
    return seq;
}

void broker_settle(struct broker_channel *ch, const struct broker_delivery *first, uint64_t count,
                   enum queue_outcome outcome)
{
    (void)settle_now(ch, first, count, outcome);
}

void broker_qos(struct broker_channel *ch, uint32_t prefetch, bool global)
{
    if (!global) {
        ch->prefetch = prefetch;
        if (ch->global_limit == 0) {
            return;
        }
        prefetch = 0; /* it lifts the limit over the channel, as in RabbitMQ */
    }
    ch->global_limit = prefetch;
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        struct ch_queue *q = it.value;
        if (q->limited || q->consumers.count > 1) {
            q->limited = prefetch > 0;
            (void)queue_client_limit(q->client, prefetch);
        }
    }
    deliver_resume(ch);
}
