/*
 * What: the role of publishers that name themselves and number their messages (x-publisher-id,
 * x-publish-seq), through the broker: what was not confirmed when the channel was lost is sent
 * again with its number, through another node. A part goes through a delayed-message exchange
 * (x-delay).
 *
 * The checks are the ledger's: nothing confirmed is missing, no number comes twice without the
 * redelivered flag, nothing comes before it is due.
 */
#include "sim_client.h"

#include "warren/mem.h"

#define NUMBER_EXCHANGE "later"
#define PENDING_MAX     20u

enum number_step { NUMBER_EXCHANGES, NUMBER_DECLARES, NUMBER_BINDS, NUMBER_PUBLISHES };

static const char *queue_name(const struct channel *channel)
{
    return sim_of(channel)->ledger.queues[channel->queue].name;
}

static void set_up(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_EXCHANGE_DECLARE};
    struct writer w;
    if (channel->step == NUMBER_DECLARES) {
        role_declare(channel);
        return;
    }
    writer_init(&w, 64);
    if (channel->step == NUMBER_EXCHANGES) {
        wire_table_put_cstr(&w, "x-delayed-type", "direct");
        m.exchange_declare.exchange = BYTES_LITERAL(NUMBER_EXCHANGE);
        m.exchange_declare.type = BYTES_LITERAL("x-delayed-message");
        m.exchange_declare.durable = true;
        m.exchange_declare.arguments = writer_bytes(&w);
    } else {
        m.id = WIRE_QUEUE_BIND;
        m.queue_bind.queue = m.queue_bind.routing_key = bytes_from_cstr(queue_name(channel));
        m.queue_bind.exchange = BYTES_LITERAL(NUMBER_EXCHANGE);
    }
    role_send_op(channel, &m);
    writer_deinit(&w);
}

static void send_number(struct channel *channel, uint64_t seq)
{
    struct sim *sim = sim_of(channel);
    const struct sim_record *record = sim_ledger_record(sim, channel->publisher, seq);
    char id[32];
    uint8_t space[256];
    struct writer headers;
    (void)snprintf(id, sizeof id, "sim-%u", channel->publisher);
    writer_init(&headers, 128);
    wire_table_put_cstr(&headers, "x-publisher-id", id);
    wire_table_put_int64(&headers, "x-publish-seq", (int64_t)seq + 1);
    if (record->delay_ms > 0) {
        wire_table_put_int64(&headers, "x-delay", record->delay_ms);
    }
    const struct wire_props props = {.flags = WIRE_PROP_DELIVERY_MODE | WIRE_PROP_HEADERS,
                                     .delivery_mode = 2,
                                     .headers = writer_bytes(&headers)};
    WR_ASSERT_OP(wire_props_size(&props), <=, sizeof space);
    const struct bytes raw = bytes_make(space, (size_t)(wire_props_write(space, &props) - space));
    const struct wire_basic_publish m = {
        .exchange = record->delay_ms > 0 ? BYTES_LITERAL(NUMBER_EXCHANGE) : BYTES_NONE,
        .routing_key = bytes_from_cstr(queue_name(channel)),
        .mandatory = true};
    role_publish_as(channel, &m, raw, seq);
    writer_deinit(&headers);
}

static void send_again(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    while (channel->again.count > 0 && channel->unconfirmed.count < PENDING_MAX) {
        const struct outstanding item = vec_pop(&channel->again);
        SIM_SOMETIMES(sim, item.publisher != channel->client->node, SIM_SEEN_NUMBER_AMQP);
        send_number(channel, item.seq);
    }
}

static void publish_new(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    struct prng *prng = prng_of(channel);
    for (uint64_t i = prng_below(prng, 4); i > 0 && channel->unconfirmed.count < PENDING_MAX; i--) {
        const uint32_t size = SIM_BODY_MIN + (uint32_t)prng_below(prng, 300);
        /* An epoch each: what is sent again, or is late, need not come in order. */
        const uint64_t seq =
            sim_ledger_send(sim, channel->publisher, channel->queue, ++channel->commits, size);
        if (prng_ratio(prng, 1, 4)) {
            sim_ledger_record(sim, channel->publisher, seq)->delay_ms =
                1 + (uint32_t)prng_below(prng, 3000);
        }
        send_number(channel, seq);
    }
}

static void number_tick(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    if (channel->op_since != 0) {
        return;
    }
    if (channel->step != NUMBER_PUBLISHES) {
        set_up(channel);
        return;
    }
    if (!channel->client->blocked) {
        send_again(channel);
        if (!sim_of(channel)->liveness) {
            publish_new(channel);
            if (prng_ratio(prng, 1, 60)) { /* with confirms on their way */
                client_abort(channel->client, "its numbers are to come again");
                return;
            }
        }
    }
    role_wake_in(channel, 20 * SIM_MS + prng_below(prng, 80 * SIM_MS));
}

static void number_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id != WIRE_EXCHANGE_DECLARE_OK && m->id != WIRE_QUEUE_DECLARE_OK &&
        m->id != WIRE_QUEUE_BIND_OK) {
        sim_fail(sim_of(channel), "client %u: unexpected %s", channel->client->number,
                 wire_method_name(m->id));
    }
    channel->op_since = 0;
    channel->step++;
    role_wake_in(channel, 0);
}

/* `publisher` of what is to come again: the node that had it. */
static void number_lost(struct channel *channel)
{
    for (size_t i = 0; i < channel->unconfirmed.count; i++) {
        struct outstanding item = channel->unconfirmed.items[i];
        item.publisher = channel->client->node;
        vec_push(&channel->again, item);
    }
}

static bool number_settled(const struct channel *channel)
{
    return channel->step == NUMBER_PUBLISHES && channel->again.count == 0;
}

const struct role_ops number_role = {.name = "numbered publisher",
                                     .tick = number_tick,
                                     .method = number_method,
                                     .lost = number_lost,
                                     .settled = number_settled};
