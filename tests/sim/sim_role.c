/*
 * What: the roles of channels: set up, and who is told what. What each does is in the files beside
 * this one: sim_role_publish.c, _consume.c, _exclusive.c, _queue.c, _rpc.c, and those with struct
 * role_ops.
 */
#include "sim_client.h"

void role_wake_in(struct channel *channel, uint64_t ns)
{
    uint64_t at = sim_of(channel)->now + ns;
    channel->wake_at = at < channel->wake_at ? at : channel->wake_at;
}

void role_send_op(struct channel *channel, const struct wire_method *m)
{
    channel->op_since = sim_of(channel)->now;
    channel_send(channel, m);
}

/* NULL: it is one of this file, of sim_role_queue.c or of sim_role_rpc.c. */
static const struct role_ops *ops_of(const struct channel *channel)
{
    return channel->role == ROLE_NUMBERED    ? &number_role
           : channel->role == ROLE_HISTORIAN ? &history_role
           : channel->role == ROLE_SLEEPER   ? &sleeper_role
                                             : NULL;
}

void role_init(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    static const uint32_t prefetches[] = {0, 1, 2, 5, 20, 100};
    channel->publisher = UINT32_MAX;
    if (channel->role == ROLE_PUBLISHER || channel->role == ROLE_EXCLUSIVE ||
        channel->role == ROLE_BUILDER || channel->role >= ROLE_NUMBERED) {
        struct sim_ledger *ledger = &sim_of(channel)->ledger;
        channel->publisher = (uint32_t)ledger->publishers.count;
        (void)vec_add(&ledger->publishers);
    }
    channel->tx = channel->role == ROLE_PUBLISHER && channel->publisher % 3 == 2;
    if (channel->role == ROLE_EXCLUSIVE) {
        channel->queue = sim_of(channel)->options.queues + SIM_AT_EXCLUSIVE;
    }
    channel->prefetch = prefetches[prng_below(prng, WR_ARRAY_SIZE(prefetches))];
    if (sim_of(channel)->options.lone) {
        channel->prefetch = 1 + channel->prefetch % 3;
    }
    channel->ack_delay_us = prng_ratio(prng, 1, 2) ? 0 : (uint32_t)prng_below(prng, 200000);
    channel->nack_percent = prng_ratio(prng, 1, 2) ? 0 : (uint32_t)prng_below(prng, 30);
    channel->multiple_percent = (uint32_t)prng_below(prng, 100);
}

void role_deinit(struct channel *channel)
{
    vec_deinit(&channel->body);
    vec_deinit(&channel->unconfirmed);
    vec_deinit(&channel->unacked);
    vec_deinit(&channel->applying);
    vec_deinit(&channel->barrier);
    vec_deinit(&channel->newest);
    vec_deinit(&channel->again);
    vec_deinit(&channel->seqs);
}

void role_lost(struct channel *channel)
{
    SIM_SOMETIMES(sim_of(channel), channel->committing, SIM_SEEN_COMMIT_CUT);
    if (channel->tx && !channel->committing) {
        role_tx_dropped(channel);
    }
    channel->committing = false;
    if (ops_of(channel) != NULL) {
        ops_of(channel)->lost(channel);
    }
    channel->unconfirmed.count = 0;
    channel->unacked.count = 0;
    channel->applying.count = 0;
    channel->barrier.count = 0;
    channel->newest.count = 0;
    channel->cancelled = false;
    queue_role_lost(channel);
}

void role_refused(struct channel *channel, uint16_t code)
{
    queue_role_refused(channel, code);
}

/* --- set up --------------------------------------------------------------- */

static void put_rules(struct writer *w, const struct sim *sim, const struct sim_queue *queue)
{
    if (queue->ttl_ms > 0) {
        wire_table_put_int64(w, "x-message-ttl", queue->ttl_ms);
    }
    if (queue->length_max > 0) {
        wire_table_put_int64(w, "x-max-length", queue->length_max);
    }
    if (queue->rejects) {
        wire_table_put_cstr(w, "x-overflow", "reject-publish");
    }
    if (queue->delivery_limit > 0) {
        wire_table_put_int64(w, "x-delivery-limit", queue->delivery_limit);
    }
    if (queue->single_active) {
        wire_table_put_bool(w, "x-single-active-consumer", true);
    }
    if (queue->consumer_timeout_ms > 0) {
        wire_table_put_int64(w, "x-consumer-timeout", queue->consumer_timeout_ms);
    }
    if (queue->graves > 0) {
        wire_table_put_cstr(w, "x-dead-letter-exchange", "");
        wire_table_put_cstr(w, "x-dead-letter-routing-key",
                            sim->ledger.queues[queue->graves - 1].name);
    }
}

static void send_declare_of(struct channel *channel, const struct sim_queue *queue, bool passive)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    struct writer w;
    writer_init(&w, 64);
    if (queue->kind == SIM_QUEUE_QUORUM) {
        wire_table_put_cstr(&w, "x-queue-type", "quorum");
    }
    put_rules(&w, sim_of(channel), queue);
    m.queue_declare.queue = bytes_from_cstr(queue->name);
    m.queue_declare.passive = passive;
    m.queue_declare.durable = queue->kind != SIM_QUEUE_TRANSIENT;
    m.queue_declare.arguments = bytes_make(w.buf->data, w.buf->size);
    role_send_op(channel, &m);
    writer_deinit(&w);
}

void role_declare_as(struct channel *channel, bool passive)
{
    send_declare_of(channel, queue_of(channel), passive);
}

void role_declare(struct channel *channel)
{
    role_declare_as(channel, false);
}

void role_consume(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_BASIC_CONSUME};
    m.basic_consume.queue = bytes_from_cstr(queue_of(channel)->name);
    m.basic_consume.consumer_tag = BYTES_LITERAL("c");
    channel->newest.count = 0;
    channel->subscribed_tag = channel->last_tag;
    channel->subscribed_at = sim_of(channel)->now;
    role_send_op(channel, &m);
}

void role_opened(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_CONFIRM_SELECT};
    channel->next_tag = 1;
    channel->graves_first = false;
    channel->last_tag = channel->subscribed_tag = 0;
    channel->rounds = channel->put = channel->got = 0;
    if (channel->role == ROLE_RPC) {
        rpc_role_opened(channel);
        return;
    }
    if (channel->role >= ROLE_EXCLUSIVE) {
        role_send_op(channel, &m);
    } else if (queue_of(channel)->graves >
               0) { /* what cannot be routed is dropped: they come first */
        channel->graves_first = true;
        send_declare_of(channel, &sim_of(channel)->ledger.queues[queue_of(channel)->graves - 1],
                        false);
    } else {
        role_declare_as(channel, false);
    }
}

static void setup_next(struct channel *channel, const struct wire_method *got)
{
    struct wire_method m = {.id = WIRE_METHOD_NONE};
    channel->op_since = 0;
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->graves_first) {
        channel->graves_first = false;
        role_declare_as(channel, false);
        return;
    }
    if (channel->role == ROLE_RPC && !rpc_role_setup(channel)) {
        return;
    }
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->role == ROLE_PUBLISHER) {
        m.id = channel->tx ? WIRE_TX_SELECT : WIRE_CONFIRM_SELECT;
        role_send_op(channel, &m);
        return;
    }
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->role == ROLE_CONSUMER) {
        m.id = WIRE_BASIC_QOS;
        m.basic_qos.prefetch_count = (uint16_t)channel->prefetch;
        role_send_op(channel, &m);
        return;
    }
    if (got->id == WIRE_BASIC_QOS_OK) {
        role_consume(channel);
        return;
    }
    channel->state = CHANNEL_RUNNING;
    channel->step = 0;
    role_wake_in(channel, 0);
}

/* --- dispatch ------------------------------------------------------------- */

static void running_method(struct channel *channel, const struct wire_method *m)
{
    struct wire_method ok = {.id = WIRE_BASIC_CANCEL_OK};
    switch ((uint32_t)m->id) {
    case WIRE_QUEUE_DECLARE_OK:
        channel->op_since = 0;
        if (channel->role == ROLE_EXCLUSIVE) {
            channel->step = 1;
            role_wake_in(channel, 0);
        } else {
            role_end_barrier(channel);
            role_wake_in(channel, 0);
        }
        break;
    case WIRE_QUEUE_DELETE_OK:
        channel->op_since = 0;
        channel->step = 0;
        channel->rounds++;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
        break;
    case WIRE_BASIC_GET_EMPTY:
        channel->op_since = 0;
        if (channel->role == ROLE_EXCLUSIVE) {
            role_exclusive_got(channel, 0, false);
        } else {
            role_wake_in(channel, 50 * SIM_MS);
        }
        break;
    case WIRE_BASIC_CANCEL:
        (void)ok;
        channel->cancelled = true;
        role_wake_in(channel, 0);
        break;
    case WIRE_BASIC_CANCEL_OK:
        role_consume(channel);
        break;
    case WIRE_TX_COMMIT_OK:
    case WIRE_TX_ROLLBACK_OK:
        role_tx_answered(channel, m->id == WIRE_TX_COMMIT_OK);
        break;
    case WIRE_BASIC_CONSUME_OK:
        channel->op_since = 0;
        role_wake_in(channel, 0);
        break;
    default:
        sim_fail(sim_of(channel), "client %u: unexpected %s", channel->client->number,
                 wire_method_name(m->id));
    }
}

void role_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id == WIRE_BASIC_ACK) {
        role_on_confirm(channel, m->basic_ack.delivery_tag, m->basic_ack.multiple, true);
    } else if (m->id == WIRE_BASIC_NACK) {
        role_on_confirm(channel, m->basic_nack.delivery_tag, m->basic_nack.multiple, false);
    } else if (channel->state == CHANNEL_SETUP) {
        if (m->id == WIRE_BASIC_CANCEL) {
            channel->cancelled = true;
            return;
        }
        setup_next(channel, m);
    } else if (ops_of(channel) != NULL) {
        ops_of(channel)->method(channel, m);
    } else if (channel->role >= ROLE_RIVAL) {
        queue_role_method(channel, m);
    } else {
        running_method(channel, m);
    }
}

void role_content(struct channel *channel, const struct wire_method *m, struct bytes body)
{
    if (channel->role == ROLE_RPC) {
        rpc_role_content(channel, body);
        return;
    }
    const struct role_ops *ops = ops_of(channel);
    if (ops != NULL && ops->content != NULL && ops->content(channel, m, body)) {
        return;
    }
    if (m->id == WIRE_BASIC_DELIVER) {
        role_on_delivery(channel, m->basic_deliver.delivery_tag, m->basic_deliver.redelivered,
                         body);
        return;
    }
    if (m->id == WIRE_BASIC_RETURN) {
        if (body.size >= SIM_BODY_MIN) {
            struct sim_record *record = sim_ledger_record(
                sim_of(channel), bytes_load_le32(body.data + 4), bytes_load_le64(body.data + 8));
            if (record != NULL) {
                record->returned = true;
            }
            if (queue_of(channel)->strict) {
                sim_fail(sim_of(channel), "a message for queue %s was returned as unroutable",
                         queue_of(channel)->name);
            }
        }
        return;
    }
    channel->op_since = 0;
    if (channel->role == ROLE_BUILDER) {
        queue_role_got(channel, m, body);
        return;
    }
    if (channel->role == ROLE_EXCLUSIVE) {
        uint32_t publisher = 0;
        uint64_t seq = 0;
        (void)sim_ledger_receive(sim_of(channel), body, channel->queue, m->basic_get_ok.redelivered,
                                 &publisher, &seq);
        role_exclusive_got(channel, seq, true);
        return;
    }
    role_on_delivery(channel, m->basic_get_ok.delivery_tag, m->basic_get_ok.redelivered, body);
}

void role_tick(struct channel *channel)
{
    switch (channel->role) {
    case ROLE_PUBLISHER:
        role_publisher_tick(channel);
        break;
    case ROLE_CONSUMER:
        role_consumer_tick(channel);
        break;
    case ROLE_GETTER:
        role_getter_tick(channel);
        break;
    case ROLE_EXCLUSIVE:
        role_exclusive_tick(channel);
        break;
    case ROLE_RIVAL:
    case ROLE_BUILDER:
    case ROLE_AUTO:
        queue_role_tick(channel);
        break;
    case ROLE_RPC:
        rpc_role_tick(channel);
        break;
    case ROLE_NUMBERED:
    case ROLE_HISTORIAN:
    case ROLE_SLEEPER:
        ops_of(channel)->tick(channel);
        break;
    }
}

bool role_settled(const struct channel *channel, char *why, size_t size)
{
    static const char *const names[] = {"publisher",
                                        "consumer",
                                        "getter",
                                        "owner of exclusive queues",
                                        "rival",
                                        "builder",
                                        "user of auto-delete queues",
                                        "asker and answerer"};
    const char *what = NULL;
    if (channel->state != CHANNEL_RUNNING) {
        what = "its channel is not open and set up";
    } else if (channel->unconfirmed.count > 0) {
        what = "waits for confirms";
    } else if (channel->unacked.count > 0 || channel->applying.count > 0) {
        what = "has deliveries it has not settled";
    } else if (channel->op_since != 0) {
        what = "waits for the answer to a method";
    } else if (ops_of(channel) != NULL) {
        what = ops_of(channel)->settled(channel) ? NULL : "is not done";
    } else if (channel->role == ROLE_RPC) {
        what = channel->got == 0 ? "has no reply yet" : NULL;
    } else if (channel->role == ROLE_EXCLUSIVE && channel->step != 0) {
        what = "is not done with its queue";
    } else if (channel->role >= ROLE_RIVAL && !queue_role_settled(channel)) {
        what = "is not done with its queue";
    }
    if (what != NULL) {
        (void)snprintf(why, size,
                       "client %u, %s of %s, node %u: %s (state %d, step %u, operation since %llu "
                       "ms, %zu unconfirmed, "
                       "%zu unacked, %zu acked, %zu in a barrier)",
                       channel->client->number,
                       ops_of(channel) != NULL ? ops_of(channel)->name : names[channel->role],
                       queue_of(channel)->name, channel->client->node, what, (int)channel->state,
                       channel->step, (unsigned long long)(channel->op_since / SIM_MS),
                       channel->unconfirmed.count, channel->unacked.count, channel->applying.count,
                       channel->barrier.count);
    }
    return what == NULL;
}
