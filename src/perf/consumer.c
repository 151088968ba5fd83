/*
 * What: channels that consume. Deliveries are read in place: of the method only the delivery tag is
 * looked at, of the body only the time that the producer wrote into it. Acknowledgements are
 * collected in the connection's buffer and written once per read.
 */
#include "perf.h"

void consumer_open(struct channel *ch)
{
    struct client *c = ch->client;
    const struct options *o = c->perf->options;
    struct bytes queue = BYTES_LITERAL("");
    char name[256];
    char key[256];
    struct wire_method m;
    ch->c.unacked = 0;
    ch->c.wants_header = false;
    ch->c.body_left = 0;
    if (options_queue_count(o) > 0) {
        options_queue_name(o, ch->c.queue_index, name);
        queue = bytes_from_cstr(name);
    } else {
        m = (struct wire_method){.id = WIRE_QUEUE_DECLARE,
                                 .queue_declare = {.durable = o->durable,
                                                   .exclusive = o->exclusive,
                                                   .auto_delete = true,
                                                   .arguments = writer_bytes(&o->queue_args)}};
        client_send(c, ch->number, &m);
        ch->expected++;
        if (o->exchange[0] != '\0') {
            options_routing_key(o, 0, key);
            /* An empty queue name means the one declared last on the channel. */
            m = (struct wire_method){.id = WIRE_QUEUE_BIND,
                                     .queue_bind = {.exchange = bytes_from_cstr(o->exchange),
                                                    .routing_key = bytes_from_cstr(key)}};
            client_send(c, ch->number, &m);
            ch->expected++;
        }
    }
    if (o->qos > 0) {
        m = (struct wire_method){.id = WIRE_BASIC_QOS, .basic_qos = {.prefetch_count = o->qos}};
        client_send(c, ch->number, &m);
        ch->expected++;
    }
    m = (struct wire_method){.id = WIRE_BASIC_CONSUME,
                             .basic_consume = {.queue = queue, .no_ack = o->autoack}};
    client_send(c, ch->number, &m);
    ch->expected++;
}

/* All of a message is here. */
static void message_done(struct channel *ch, uint64_t now)
{
    struct consumer *k = &ch->c;
    struct perf *perf = ch->client->perf;
    const struct options *o = perf->options;
    k->received++;
    perf->interval.received++;
    if (ch->gap.last_ns != now) {
        gap_event(&ch->gap, now);
        gap_event(&perf->delivery_gap, now);
    }
    if (!o->autoack && ++k->unacked >= o->multi_ack) {
        uint8_t *out = client_reserve(ch->client, WIRE_ACK_FRAME_SIZE);
        (void)wire_ack_frame_write(out, ch->number, k->tag, o->multi_ack > 1);
        client_commit(ch->client, WIRE_ACK_FRAME_SIZE);
        k->unacked = 0;
    }
    if (o->consumer_messages > 0 && k->received == o->consumer_messages && !ch->finished) {
        ch->finished = true;
        run_channel_finished(ch);
    }
}

/* basic.deliver: consumer tag, delivery tag, and what is of no interest. */
static void on_deliver(struct channel *ch, struct bytes payload)
{
    struct reader r = reader_from(payload);
    (void)rd_be32(&r);
    const uint8_t tag_size = rd_u8(&r);
    (void)rd_skip(&r, tag_size);
    ch->c.tag = rd_be64(&r);
    if (r.failed || ch->c.wants_header || ch->c.body_left > 0) {
        client_fail(ch->client, "bad delivery from the server");
        return;
    }
    ch->c.wants_header = true;
}

static void on_header(struct channel *ch, struct bytes payload, uint64_t now)
{
    struct wire_header header;
    if (!ch->c.wants_header || wire_header_decode(payload, &header) != WIRE_OK) {
        client_fail(ch->client, "bad content header from the server");
        return;
    }
    ch->c.wants_header = false;
    ch->c.wants_stamp = header.body_size >= 12;
    ch->c.body_left = header.body_size;
    if (header.body_size == 0) {
        message_done(ch, now);
    }
}

static void on_body(struct channel *ch, struct bytes payload, uint64_t now)
{
    struct consumer *k = &ch->c;
    if (payload.size > k->body_left) {
        client_fail(ch->client, "more body than announced by the server");
        return;
    }
    if (k->wants_stamp && payload.size >= 12) {
        const uint64_t sent_ns = bytes_load_be64(payload.data + 4);
        /* Messages of another program or another host's clock would show nonsense. */
        if (sent_ns != 0 && sent_ns <= now) {
            hist_record(&ch->client->perf->consumer_interval, now - sent_ns);
        }
    }
    k->wants_stamp = false;
    k->body_left -= payload.size;
    if (k->body_left == 0) {
        message_done(ch, now);
    }
}

void consumer_frame(struct channel *ch, const struct wire_frame *frame, uint64_t now)
{
    switch (frame->type) {
    case WIRE_FRAME_METHOD:
        on_deliver(ch, frame->payload);
        break;
    case WIRE_FRAME_HEADER:
        on_header(ch, frame->payload, now);
        break;
    default:
        on_body(ch, frame->payload, now);
        break;
    }
}

void consumer_read_done(struct client *c)
{
    /* With multiple acknowledgements and a prefetch count, a rest smaller than the step would stop
     * the flow when the prefetch is not a multiple of it: send it when the server may be waiting.
     */
    const struct options *o = c->perf->options;
    if (o->autoack || o->multi_ack <= 1 || o->qos == 0 || o->multi_ack <= o->qos) {
        return;
    }
    for (unsigned i = 0; i < c->channel_count; i++) {
        struct channel *ch = &c->channels[i];
        if (ch->c.unacked >= o->qos) {
            uint8_t *out = client_reserve(c, WIRE_ACK_FRAME_SIZE);
            (void)wire_ack_frame_write(out, ch->number, ch->c.tag, true);
            client_commit(c, WIRE_ACK_FRAME_SIZE);
            ch->c.unacked = 0;
        }
    }
}
