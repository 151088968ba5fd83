/*
 * What: the class basic but for publishing and deliveries: qos, consume, cancel, get, settle,
 * recover.
 *
 * Settling: unacked deliveries are kept as runs tag -> (queue, consumer, ordinal) in a rangemap; an
 * acknowledged range becomes settle runs, which are gathered and handed to the broker at the end of
 * the turn, or before any other broker call of the channel (so that order holds).
 *
 * In a transaction they are kept until the commit (ch_tx.c).
 *
 * Invariants: I1 every tag in ch->unacked was delivered and not settled. I2 ch->settle.count == 0
 * when nothing is pending.
 */
#include "amqp_internal.h"

/* --- settling --------------------------------------------------------------------------------- */

void ch_settle_flush(struct amqp_channel *ch)
{
    if (ch->settle.count > 0) {
        struct settle_run run = ch->settle;
        ch->settle.count = 0;
        if (ch->broker != NULL) {
            broker_settle(ch->broker, &run.first, run.count, run.outcome);
        }
    }
}

struct settling {
    struct amqp_channel *ch;
    enum queue_outcome outcome;
    bool kept;       /* until the transaction is committed */
    uint32_t pieces; /* handed to the broker by this call, or pending */
};

static void on_piece(void *ctx, const struct range_run *piece)
{
    struct settling *s = ctx;
    struct settle_run *pending = &s->ch->settle;
    const struct range_attr *attr = &piece->attr;
    if (s->kept) {
        tx_keep_ack(s->ch, piece, s->outcome);
        return;
    }
    if (pending->count > 0 && pending->outcome == s->outcome &&
        pending->first.queue == (uint32_t)attr->a && pending->first.consumer == (uint32_t)attr->b &&
        pending->first.ordinal + pending->count == attr->value) {
        pending->count += piece->count;
        return;
    }
    s->pieces++;
    ch_settle_flush(s->ch);
    *pending = (struct settle_run){.first = {.queue = (uint32_t)attr->a,
                                             .consumer = (uint32_t)attr->b,
                                             .ordinal = attr->value},
                                   .count = piece->count,
                                   .outcome = s->outcome};
}

/* Removes the unacked below a tag. What comes back from one queue in several pieces, because other
 * queues' deliveries are between, comes back together: the last piece does not wait for the end of
 * the turn, or the queue would hand out what came first before what stands before it is back. */
static void settle_below(struct amqp_channel *ch, uint64_t end, struct settling *s)
{
    (void)rangemap_remove(&ch->unacked, 0, end, on_piece, s);
    if (s->pieces > 1) {
        ch_settle_flush(ch);
    }
}

static void settle(struct amqp_channel *ch, enum wire_method_id method, uint64_t tag, bool multiple,
                   enum queue_outcome outcome)
{
    struct settling s = {.ch = ch, .outcome = outcome, .kept = ch->tx};
    channel_touch(ch);
    if (multiple && tag == 0) {
        settle_below(ch, UINT64_MAX, &s);
        return;
    }
    struct range_attr attr;
    if (!rangemap_get(&ch->unacked, tag, &attr)) {
        channel_fault(ch, 406, 60, wire_method_of(method), "unknown delivery tag %llu",
                      (unsigned long long)tag);
        return;
    }
    if (multiple) {
        settle_below(ch, tag + 1, &s);
    } else {
        (void)rangemap_remove(&ch->unacked, tag, 1, on_piece, &s);
    }
}

bool ch_settle_method(struct amqp_channel *ch, const struct wire_method *m)
{
    switch ((uint32_t)m->id) {
    case WIRE_BASIC_ACK:
        settle(ch, m->id, m->basic_ack.delivery_tag, m->basic_ack.multiple, QUEUE_ACK);
        return true;
    case WIRE_BASIC_NACK:
        settle(ch, m->id, m->basic_nack.delivery_tag, m->basic_nack.multiple,
               m->basic_nack.requeue ? QUEUE_REQUEUE : QUEUE_REJECT);
        return true;
    case WIRE_BASIC_REJECT:
        settle(ch, m->id, m->basic_reject.delivery_tag, false,
               m->basic_reject.requeue ? QUEUE_REQUEUE : QUEUE_REJECT);
        return true;
    default:
        return false;
    }
}

static void recover(struct amqp_channel *ch, bool requeue, bool reply)
{
    struct settling s = {.ch = ch, .outcome = QUEUE_REQUEUE};
    if (!requeue) {
        conn_fault(ch->conn, 540, 60, reply ? 110 : 100, "requeue=false");
        return;
    }
    channel_touch(ch);
    settle_below(ch, UINT64_MAX, &s);
    if (reply) {
        struct wire_method ok = {.id = WIRE_BASIC_RECOVER_OK};
        conn_send(ch->conn, ch->number, &ok);
    }
}

/* --- consumers -------------------------------------------------------------------------------- */

static void on_consuming(void *ctx, const struct broker_fault *fault, struct bytes tag, uint64_t a,
                         uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)a;
    (void)b;
    if (channel_finish(ch, fault) && !ch->no_wait) {
        struct wire_method ok = {.id = WIRE_BASIC_CONSUME_OK};
        ok.basic_consume_ok.consumer_tag = tag;
        conn_send(ch->conn, ch->number, &ok);
    }
    channel_resume(ch);
}

static void on_cancelled(void *ctx, const struct broker_fault *fault, struct bytes tag, uint64_t a,
                         uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)a;
    (void)b;
    if (channel_finish(ch, fault) && !ch->no_wait) {
        struct wire_method ok = {.id = WIRE_BASIC_CANCEL_OK};
        ok.basic_cancel_ok.consumer_tag = tag;
        conn_send(ch->conn, ch->number, &ok);
    }
    channel_resume(ch);
}

static uint32_t consume_flags(const struct wire_basic_consume *c)
{
    return (c->no_ack ? BROKER_NO_ACK : 0u) | (c->exclusive ? BROKER_EXCLUSIVE : 0u) |
           (c->no_local ? BROKER_NO_LOCAL : 0u);
}

static void consume(struct amqp_channel *ch, const struct wire_basic_consume *c)
{
    if (args_valid(ch, c->arguments, WIRE_BASIC_CONSUME)) {
        channel_begin(ch, WIRE_BASIC_CONSUME, c->no_wait);
        broker_consume(ch->broker, c->queue, c->consumer_tag, consume_flags(c), c->arguments,
                       on_consuming, ch);
    }
}

bool ch_basic_ahead(struct amqp_channel *ch, const struct wire_method *m)
{
    bool no_wait = false;
    bool begins = false;
    if (m->id == WIRE_BASIC_CONSUME) {
        const struct wire_basic_consume *c = &m->basic_consume;
        no_wait = c->no_wait;
        begins = wire_table_validate(c->arguments, NULL) == WIRE_OK &&
                 broker_consume_ahead(ch->broker, c->queue, c->consumer_tag, consume_flags(c),
                                      c->arguments, on_consuming, ch);
    } else if (m->id == WIRE_BASIC_CANCEL) {
        no_wait = m->basic_cancel.no_wait;
        begins = broker_cancel_ahead(ch->broker, m->basic_cancel.consumer_tag, on_cancelled, ch);
    }
    if (begins) {
        channel_begin(ch, m->id, no_wait);
    }
    return begins;
}

static void on_got(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t got,
                   uint64_t left)
{
    struct amqp_channel *ch = ctx;
    (void)name;
    (void)left;
    if (channel_finish(ch, fault) && got == 0) {
        struct wire_method empty = {.id = WIRE_BASIC_GET_EMPTY};
        conn_send(ch->conn, ch->number, &empty);
    }
    channel_resume(ch);
}

static void qos(struct amqp_channel *ch, const struct wire_basic_qos *q)
{
    if (q->prefetch_size != 0) {
        conn_fault(ch->conn, 540, 60, 10, "prefetch_size!=0 (%u)", q->prefetch_size);
        return;
    }
    ch_settle_flush(ch);
    broker_qos(ch->broker, q->prefetch_count, q->global);
    struct wire_method ok = {.id = WIRE_BASIC_QOS_OK};
    conn_send(ch->conn, ch->number, &ok);
}

bool ch_basic_method(struct amqp_channel *ch, const struct wire_method *m)
{
    switch ((uint32_t)m->id) {
    case WIRE_BASIC_QOS:
        qos(ch, &m->basic_qos);
        return true;
    case WIRE_BASIC_CONSUME:
        consume(ch, &m->basic_consume);
        return true;
    case WIRE_BASIC_CANCEL:
        channel_begin(ch, m->id, m->basic_cancel.no_wait);
        broker_cancel(ch->broker, m->basic_cancel.consumer_tag, on_cancelled, ch);
        return true;
    case WIRE_BASIC_GET:
        channel_begin(ch, m->id, false);
        broker_get(ch->broker, m->basic_get.queue, m->basic_get.no_ack, deliver_get, on_got, ch);
        return true;
    case WIRE_BASIC_RECOVER:
        recover(ch, m->basic_recover.requeue, true);
        return true;
    case WIRE_BASIC_RECOVER_ASYNC:
        recover(ch, m->basic_recover_async.requeue, false);
        return true;
    default:
        return false;
    }
}
