/*
 * What: basic.publish and its content: method, header, body frames -> one message record ->
 * broker_publish.
 *
 * Happy path: the record is made when the header is there (its size is then known): from the
 * server's arena, and the body is copied into it as it arrives: one copy in all. A body over
 * AMQP_BODY_AT_ONCE gets memory as it arrives, never as it is announced.
 *
 * Failure modes: header or body out of turn -> 505; body over the limit -> 406 when the header
 * announces it (its frames are dropped with the channel); more body than announced -> 501.
 * Invariants: I1 content.state tells which frame must come next. I2 received <= body_size.
 */
#include "amqp_internal.h"

/* --- room for large bodies --------------------------------------------------------------------
 *
 * A channel is held back only after it has published; so a thousand of them could each have a
 * message of 16 MiB on its way in. What is announced by those that are being received, and what
 * the queues have pending, is therefore bounded together: a large body that does not fit waits, its
 * frames are kept, its socket is paused. One at a time may always come: what is pending may be
 * stuck.
 */
static bool has_room(const struct amqp_server *server, uint64_t size)
{
    uint64_t room = broker_publish_room(server->broker);
    return server->room_taken == 0 ||
           (server->room_taken < room && size <= room - server->room_taken) ||
           conn_now_ms(server) - server->room_ms > AMQP_ROOM_STALL_MS;
}

static void take_room(struct amqp_channel *ch)
{
    struct amqp_server *server = ch->conn->server;
    ch->content.room = ch->content.body_size;
    ch->content.progress_ms = server->room_ms = conn_now_ms(server);
    server->room_taken += ch->content.room;
    list_push_back(&server->room_holders, &ch->room_link);
}

void content_give_back_room(struct amqp_channel *ch)
{
    ch->conn->server->room_taken -= ch->content.room;
    ch->content.room = 0;
    ch->waiting_room = false;
    list_remove(&ch->room_link);
}

/* Something of a large body came. */
static void note_progress(struct amqp_channel *ch)
{
    struct amqp_server *server = ch->conn->server;
    struct content *c = &ch->content;
    c->progress_ms = server->room_ms = conn_now_ms(server);
    if (c->received > c->room) { /* it was slow, and only counted as what was there */
        server->room_taken += c->received - c->room;
        c->room = c->received;
    }
}

/* Of a client that announced and stopped sending counts what is in memory, not what may never come.
 */
static void take_from_stalled(struct amqp_server *server)
{
    uint64_t now = conn_now_ms(server);
    LIST_FOREACH(link, &server->room_holders) {
        struct content *c = &WR_CONTAINER_OF(link, struct amqp_channel, room_link)->content;
        if (now - c->progress_ms >= AMQP_ROOM_STALL_MS && c->room > c->received) {
            server->room_taken -= c->room - c->received;
            c->room = c->received;
        }
    }
}

static void on_room_timer(struct timer *t)
{
    (void)t; /* amqp_turn looks */
}

void content_give_room(struct amqp_server *server)
{
    struct list *link;
    if (list_is_empty(&server->room_waits)) {
        return;
    }
    take_from_stalled(server);
    while ((link = list_first(&server->room_waits)) != NULL) {
        struct amqp_channel *ch = WR_CONTAINER_OF(link, struct amqp_channel, room_link);
        if (!has_room(server, ch->content.body_size)) {
            timer_add(&server->timers, &server->room_timer,
                      conn_now_ms(server) + AMQP_ROOM_STALL_MS / 2, on_room_timer);
            return;
        }
        list_remove(link);
        ch->waiting_room = false;
        take_room(ch);
        channel_resume(ch);
    }
}

void content_reset(struct amqp_channel *ch)
{
    struct content *c = &ch->content;
    content_give_back_room(ch);
    if (c->message.record.buf != NULL) {
        slice_unref(&c->message.record);
    }
    buf_unref(c->growing);
    c->growing = NULL;
    c->body = NULL;
    c->state = CONTENT_NONE;
}

void content_publish(struct amqp_channel *ch, const struct wire_basic_publish *publish)
{
    struct content *c = &ch->content;
    if (publish->immediate) {
        conn_fault(ch->conn, 540, 60, 40, "immediate=true");
        return;
    }
    c->state = CONTENT_HEADER;
    c->mandatory = publish->mandatory;
    c->exchange_size = (uint8_t)publish->exchange.size;
    c->key_size = (uint8_t)publish->routing_key.size;
    memcpy(c->exchange, publish->exchange.data, publish->exchange.size);
    memcpy(c->key, publish->routing_key.data, publish->routing_key.size);
}

/* --- publishing ------------------------------------------------------------------------------- */

static void on_retry(void *ctx);

/* Hands the finished record to the broker. */
static void publish(struct amqp_channel *ch)
{
    struct content *c = &ch->content;
    struct broker_fault fault;
    uint64_t token = ch->confirm ? ch->next_token : 0;
    fault.code = 0;
    if (ch->tx) {
        broker_tx_mandatory(ch->broker, c->mandatory);
    }
    if (ch->received_at <= ch->looked_at) {
        broker_publish_looked(ch->broker);
    }
    enum broker_publish_result result =
        broker_publish(ch->broker, c->message, token, &fault, on_retry, ch);
    switch (result) {
    case BROKER_KEPT:
        if (c->mandatory) {
            c->message = broker_returned(ch->broker, c->message);
            deliver_return(ch, &c->message);
        }
        ch->next_token += ch->confirm;
        break;
    case BROKER_ROUTED:
        ch->next_token += ch->confirm;
        break;
    case BROKER_UNROUTABLE:
        if (c->mandatory) {
            c->message = broker_returned(ch->broker, c->message);
            deliver_return(ch, &c->message);
        }
        if (ch->confirm) {
            confirm_add(ch, ch->next_token++, 1, true);
        }
        break;
    case BROKER_REFUSED:
        channel_broker_fault(ch, &fault, WIRE_BASIC_PUBLISH);
        break;
    case BROKER_WAIT:
        ch->waiting_publish = true;
        ch->looked_at = ch->conn->received_bytes;
        return; /* the message is kept */
    }
    slice_unref(&c->message.record);
}

static void on_retry(void *ctx)
{
    struct amqp_channel *ch = ctx;
    if (!ch->waiting_publish) {
        return;
    }
    ch->waiting_publish = false;
    publish(ch);
    channel_resume(ch);
}

static void finish(struct amqp_channel *ch)
{
    struct content *c = &ch->content;
    if (c->growing != NULL) {
        c->message.record = slice_of_buf(c->growing);
        c->growing = NULL;
        content_give_back_room(ch);
    }
    c->body = NULL;
    c->state = CONTENT_NONE;
    publish(ch);
}

/* --- header ----------------------------------------------------------------------------------- */

#define EXPIRATION_ENOUGH UINT64_C(1000000000000) /* too large already, whatever follows */

/* A decimal number of milliseconds; anything else is left to the broker to complain about. */
static uint64_t parse_expiration(struct bytes text)
{
    uint64_t value = 0;
    size_t first = text.size > 0 && (text.data[0] == '+' || text.data[0] == '-') ? 1 : 0;
    if (text.size == first) {
        return MESSAGE_TTL_NONE;
    }
    for (size_t i = first; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > EXPIRATION_ENOUGH) {
            return MESSAGE_TTL_NONE;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return value;
}

static bool decode_header(struct amqp_channel *ch, struct bytes payload, struct wire_header *header,
                          struct message_parts *parts)
{
    struct wire_props props;
    enum wire_fault fault = wire_header_decode(payload, header);
    if (fault != WIRE_OK) {
        conn_fault(ch->conn, wire_fault_code(fault), 60, 40, "%s", wire_fault_text(fault));
        return false;
    }
    if (header->class_id != WIRE_CLASS_BASIC) {
        conn_fault(ch->conn, 505, 60, 40,
                   "expected content header for class 60, got one for class %u instead",
                   header->class_id);
        return false;
    }
    if (header->weight != 0) {
        conn_fault(ch->conn, 505, 60, 40,
                   "expected content header for class 60, got non content header frame instead");
        return false;
    }
    if (header->body_size > MESSAGE_BODY_MAX) {
        conn_fault(ch->conn, 501, 60, 40, "content body size %llu exceeds maximum allowed size %u",
                   (unsigned long long)header->body_size, MESSAGE_BODY_MAX);
        return false;
    }
    fault = wire_props_validate(header->props, NULL, &props);
    if (fault != WIRE_OK) {
        conn_fault(ch->conn, wire_fault_code(fault), 60, 40, "%s", wire_fault_text(fault));
        return false;
    }
    parts->props = header->props;
    parts->flags = props.delivery_mode == 2 ? MESSAGE_PERSISTENT : 0;
    parts->priority = props.priority;
    parts->ttl_ms = wire_props_has(&props, WIRE_PROP_EXPIRATION)
                        ? parse_expiration(props.expiration)
                        : MESSAGE_TTL_NONE;
    return true;
}

static void wait_for_room(struct amqp_channel *ch)
{
    struct amqp_server *server = ch->conn->server;
    if (list_is_empty(&server->room_waits) && has_room(server, ch->content.body_size)) {
        take_room(ch);
        return;
    }
    ch->waiting_room = true;
    list_push_back(&server->room_waits, &ch->room_link);
    conn_dirty(ch->conn); /* the turn looks when it has to look again */
}

static void on_header(struct amqp_channel *ch, struct bytes payload)
{
    struct content *c = &ch->content;
    struct wire_header header;
    struct message_parts parts = {.exchange = {c->exchange, c->exchange_size},
                                  .key = {c->key, c->key_size}};
    if (!decode_header(ch, payload, &header, &parts)) {
        return;
    }
    if (header.body_size > ch->conn->server->options.message_size_max) {
        channel_fault(ch, 406, 60, 40, "message size %llu is larger than configured max size %llu",
                      (unsigned long long)header.body_size,
                      (unsigned long long)ch->conn->server->options.message_size_max);
        content_reset(ch);
        return;
    }
    c->body_size = header.body_size;
    c->received = 0;
    c->state = CONTENT_BODY;
    uint32_t head_size = (uint32_t)message_record_size(&parts, 0);
    if (header.body_size <= AMQP_BODY_AT_ONCE) {
        uint8_t *record = chunk_alloc(&ch->conn->server->arena,
                                      head_size + (uint32_t)header.body_size, &c->message.record);
        c->body = message_write(record, &parts, (uint32_t)header.body_size);
    } else {
        c->growing = buf_new(head_size);
        (void)message_write(c->growing->data, &parts, (uint32_t)header.body_size);
        c->growing->size = head_size;
        wait_for_room(ch);
    }
    if (header.body_size == 0) {
        finish(ch);
    }
}

void content_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct content *c = &ch->content;
    if (c->state == CONTENT_HEADER) {
        if (frame->type != WIRE_FRAME_HEADER) {
            conn_fault(
                ch->conn, 505, 60, 40,
                "expected content header for class 60, got non content header frame instead");
            return;
        }
        on_header(ch, frame->payload);
        return;
    }
    if (frame->type != WIRE_FRAME_BODY) {
        conn_fault(ch->conn, 505, 60, 40,
                   "expected content body, got non content body frame instead");
        return;
    }
    if (frame->payload.size > c->body_size - c->received) {
        conn_fault(ch->conn, 501, 60, 40, "content body frame exceeds remaining content size");
        return;
    }
    if (c->body != NULL) {
        memcpy(c->body + c->received, frame->payload.data, frame->payload.size);
    } else {
        buf_append(&c->growing, frame->payload.data, frame->payload.size);
    }
    c->received += frame->payload.size;
    if (c->growing != NULL) {
        note_progress(ch);
    }
    if (c->received == c->body_size) {
        finish(ch);
    }
}
