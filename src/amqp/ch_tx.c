/*
 * What: the class tx: select, commit, rollback, and the settles that wait for a commit.
 *
 * Happy path: the broker keeps the publishes; the acks, nacks and rejects are kept here, as what
 * they took out of ch->unacked, in order, so that a rollback can put it back. A commit gives the
 * broker the settles and waits for it like any other call. Failure modes: 406 for modes that do not
 * mix; a frame that comes while publishes are being confirmed ends the connection (channel.c).
 *
 * Invariant: a delivery is in at most one of ch->unacked and ch->tx_acks.
 * Spec: docs/broker.md, "Transactions".
 */
#include "amqp_internal.h"

void tx_keep_ack(struct amqp_channel *ch, const struct range_run *piece, enum queue_outcome outcome)
{
    ch->tx_ack_count += piece->count;
    broker_tx_note_acks(ch->broker, ch->tx_ack_count);
    if (ch->tx_acks.count > 0) {
        struct tx_ack *last = &vec_last(&ch->tx_acks);
        struct range_run *run = &last->run;
        if (last->outcome == outcome && run->first + run->count == piece->first &&
            run->attr.a == piece->attr.a && run->attr.b == piece->attr.b &&
            run->attr.value + run->count == piece->attr.value) {
            run->count += piece->count;
            return;
        }
    }
    vec_push(&ch->tx_acks, ((struct tx_ack){*piece, outcome}));
}

static void answer(struct amqp_channel *ch, enum wire_method_id id)
{
    struct wire_method ok = {.id = id};
    conn_send(ch->conn, ch->number, &ok);
}

static void forget_acks(struct amqp_channel *ch)
{
    vec_clear(&ch->tx_acks);
    ch->tx_ack_count = 0;
    broker_tx_note_acks(ch->broker, 0);
}

static void on_select(struct amqp_channel *ch)
{
    if (ch->confirm) {
        channel_fault(ch, 406, 90, 10, "cannot switch from confirm to tx mode");
        return;
    }
    ch_settle_flush(ch); /* what came before is no part of it */
    ch->tx = true;
    broker_tx_select(ch->broker);
    answer(ch, WIRE_TX_SELECT_OK);
}

static void on_committed(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                         uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)name;
    (void)a;
    (void)b;
    ch->committing = false;
    if (channel_finish(ch, fault)) {
        answer(ch, WIRE_TX_COMMIT_OK);
    }
    channel_resume(ch);
}

static void on_commit(struct amqp_channel *ch)
{
    for (size_t i = 0; i < ch->tx_acks.count; i++) {
        const struct tx_ack *ack = &ch->tx_acks.items[i];
        const struct range_attr *attr = &ack->run.attr;
        struct broker_delivery first = {
            .queue = (uint32_t)attr->a, .consumer = (uint32_t)attr->b, .ordinal = attr->value};
        broker_tx_settle(ch->broker, &first, ack->run.count, ack->outcome);
    }
    forget_acks(ch);
    channel_begin(ch, WIRE_TX_COMMIT, false);
    ch->committing = broker_tx_commit(ch->broker, on_committed, ch);
}

static void on_rollback(struct amqp_channel *ch)
{
    for (size_t i = 0; i < ch->tx_acks.count; i++) {
        const struct range_run *run = &ch->tx_acks.items[i].run;
        rangemap_insert(&ch->unacked, run->first, run->count, &run->attr);
    }
    forget_acks(ch);
    broker_tx_rollback(ch->broker);
    answer(ch, WIRE_TX_ROLLBACK_OK);
}

bool ch_tx_method(struct amqp_channel *ch, const struct wire_method *method)
{
    bool known = method->id == WIRE_TX_SELECT || method->id == WIRE_TX_COMMIT ||
                 method->id == WIRE_TX_ROLLBACK;
    if (!known) {
        return false;
    }
    if (method->id == WIRE_TX_SELECT) {
        on_select(ch);
    } else if (!ch->tx) {
        channel_fault(ch, 406, 90, wire_method_of(method->id), "channel is not transactional");
    } else if (method->id == WIRE_TX_COMMIT) {
        on_commit(ch);
    } else {
        on_rollback(ch);
    }
    return true;
}
