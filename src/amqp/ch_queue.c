/*
 * What: the classes queue and exchange: arguments from the wire, broker calls, -ok replies. CR and
 * LF are taken out of names, as RabbitMQ does.
 */
#include "amqp_internal.h"

/* Names without CR and LF: stripped copies live in `space`. */
static struct bytes strip(struct bytes name, uint8_t space[255])
{
    if (name.size == 0 || (memchr(name.data, '\r', name.size) == NULL &&
                           memchr(name.data, '\n', name.size) == NULL)) {
        return name;
    }
    size_t n = 0;
    for (size_t i = 0; i < name.size && n < 255; i++) {
        if (name.data[i] != '\r' && name.data[i] != '\n') {
            space[n++] = name.data[i];
        }
    }
    return bytes_make(space, n);
}

bool args_valid(struct amqp_channel *ch, struct bytes args, enum wire_method_id method)
{
    enum wire_fault fault = wire_table_validate(args, NULL);
    if (fault != WIRE_OK) {
        conn_fault(ch->conn, wire_fault_code(fault), wire_class_of(method), wire_method_of(method),
                   "%s", wire_fault_text(fault));
        return false;
    }
    return true;
}

/* Any reply without fields that follows its request: the id differs by one (exchange.unbind-ok by
 * eleven). */
static void on_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                    uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)name;
    (void)a;
    (void)b;
    if (channel_finish(ch, fault) && !ch->no_wait) {
        uint32_t id = (uint32_t)ch->request;
        struct wire_method ok = {.id = (enum wire_method_id)(id == WIRE_EXCHANGE_UNBIND
                                                                 ? (uint32_t)WIRE_EXCHANGE_UNBIND_OK
                                                                 : id + 1)};
        conn_send(ch->conn, ch->number, &ok);
    }
    channel_resume(ch);
}

static void on_declared(void *ctx, const struct broker_fault *fault, struct bytes name,
                        uint64_t messages, uint64_t consumers)
{
    struct amqp_channel *ch = ctx;
    if (channel_finish(ch, fault) && !ch->no_wait) {
        struct wire_method ok = {.id = WIRE_QUEUE_DECLARE_OK};
        ok.queue_declare_ok.queue = name;
        ok.queue_declare_ok.message_count = messages > UINT32_MAX ? UINT32_MAX : (uint32_t)messages;
        ok.queue_declare_ok.consumer_count = (uint32_t)consumers;
        conn_send(ch->conn, ch->number, &ok);
    }
    channel_resume(ch);
}

static void on_counted(void *ctx, const struct broker_fault *fault, struct bytes name,
                       uint64_t messages, uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)name;
    (void)b;
    const bool goes_on = channel_finish(ch, fault);
    if (goes_on && !ch->no_wait) {
        uint32_t count = messages > UINT32_MAX ? UINT32_MAX : (uint32_t)messages;
        struct wire_method ok = {.id = ch->request == WIRE_QUEUE_PURGE ? WIRE_QUEUE_PURGE_OK
                                                                       : WIRE_QUEUE_DELETE_OK};
        if (ok.id == WIRE_QUEUE_PURGE_OK) {
            ok.queue_purge_ok.message_count = count;
        } else {
            ok.queue_delete_ok.message_count = count;
        }
        conn_send(ch->conn, ch->number, &ok);
    }
    deliver_late_cancels(ch, goes_on);
    channel_resume(ch);
}

static uint32_t declare_flags(const struct wire_queue_declare *d)
{
    return (d->passive ? BROKER_PASSIVE : 0u) | (d->durable ? BROKER_DURABLE : 0u) |
           (d->exclusive ? BROKER_EXCLUSIVE : 0u) | (d->auto_delete ? BROKER_AUTO_DELETE : 0u);
}

static uint32_t delete_flags(const struct wire_queue_delete *d)
{
    return (d->if_unused ? BROKER_IF_UNUSED : 0u) | (d->if_empty ? BROKER_IF_EMPTY : 0u);
}

static void declare_queue(struct amqp_channel *ch, const struct wire_queue_declare *d)
{
    uint8_t space[255];
    if (args_valid(ch, d->arguments, WIRE_QUEUE_DECLARE)) {
        channel_begin(ch, WIRE_QUEUE_DECLARE, d->no_wait);
        broker_queue_declare(ch->broker, strip(d->queue, space), declare_flags(d), d->arguments,
                             on_declared, ch);
    }
}

static void bind_queue(struct amqp_channel *ch, struct bytes queue, struct bytes exchange,
                       struct bytes key, struct bytes args, enum wire_method_id method,
                       bool no_wait)
{
    uint8_t queue_space[255];
    uint8_t exchange_space[255];
    if (args_valid(ch, args, method)) {
        channel_begin(ch, method, no_wait);
        broker_queue_bind(ch->broker, strip(queue, queue_space), strip(exchange, exchange_space),
                          key, args, method == WIRE_QUEUE_UNBIND, on_done, ch);
    }
}

static bool declare_ahead(struct amqp_channel *ch, const struct wire_queue_declare *d)
{
    uint8_t space[255];
    return wire_table_validate(d->arguments, NULL) == WIRE_OK &&
           broker_queue_declare_ahead(ch->broker, strip(d->queue, space), declare_flags(d),
                                      d->arguments, on_declared, ch);
}

static bool bind_ahead(struct amqp_channel *ch, const struct wire_queue_bind *b)
{
    uint8_t queue_space[255];
    uint8_t exchange_space[255];
    return wire_table_validate(b->arguments, NULL) == WIRE_OK &&
           broker_queue_bind_ahead(ch->broker, strip(b->queue, queue_space),
                                   strip(b->exchange, exchange_space), b->routing_key, b->arguments,
                                   on_done, ch);
}

static bool unbind_ahead(struct amqp_channel *ch, const struct wire_queue_unbind *u)
{
    uint8_t queue_space[255];
    uint8_t exchange_space[255];
    return wire_table_validate(u->arguments, NULL) == WIRE_OK &&
           broker_queue_unbind_ahead(ch->broker, strip(u->queue, queue_space),
                                     strip(u->exchange, exchange_space), u->routing_key,
                                     u->arguments, on_done, ch);
}

static bool delete_ahead(struct amqp_channel *ch, const struct wire_queue_delete *d)
{
    uint8_t space[255];
    return broker_queue_delete_ahead(ch->broker, strip(d->queue, space), delete_flags(d),
                                     on_counted, ch);
}

bool ch_queue_ahead(struct amqp_channel *ch, const struct wire_method *m)
{
    bool no_wait = false;
    bool begins = false;
    if (m->id == WIRE_QUEUE_DECLARE) {
        no_wait = m->queue_declare.no_wait;
        begins = declare_ahead(ch, &m->queue_declare);
    } else if (m->id == WIRE_QUEUE_BIND) {
        no_wait = m->queue_bind.no_wait;
        begins = bind_ahead(ch, &m->queue_bind);
    } else if (m->id == WIRE_QUEUE_UNBIND) {
        begins = unbind_ahead(ch, &m->queue_unbind);
    } else if (m->id == WIRE_QUEUE_DELETE) {
        no_wait = m->queue_delete.no_wait;
        begins = delete_ahead(ch, &m->queue_delete);
    }
    if (begins) {
        channel_begin(ch, m->id, no_wait);
    }
    return begins;
}

bool ch_queue_method(struct amqp_channel *ch, const struct wire_method *m)
{
    uint8_t space[255];
    switch ((uint32_t)m->id) {
    case WIRE_QUEUE_DECLARE:
        declare_queue(ch, &m->queue_declare);
        return true;
    case WIRE_QUEUE_BIND:
        bind_queue(ch, m->queue_bind.queue, m->queue_bind.exchange, m->queue_bind.routing_key,
                   m->queue_bind.arguments, m->id, m->queue_bind.no_wait);
        return true;
    case WIRE_QUEUE_UNBIND:
        bind_queue(ch, m->queue_unbind.queue, m->queue_unbind.exchange, m->queue_unbind.routing_key,
                   m->queue_unbind.arguments, m->id, false);
        return true;
    case WIRE_QUEUE_PURGE:
        channel_begin(ch, m->id, m->queue_purge.no_wait);
        broker_queue_purge(ch->broker, strip(m->queue_purge.queue, space), on_counted, ch);
        return true;
    case WIRE_QUEUE_DELETE: {
        const struct wire_queue_delete *d = &m->queue_delete;
        channel_begin(ch, m->id, d->no_wait);
        broker_queue_delete(ch->broker, strip(d->queue, space), delete_flags(d), on_counted, ch);
        return true;
    }
    default:
        return false;
    }
}

static void bind_exchange(struct amqp_channel *ch, struct bytes destination, struct bytes source,
                          struct bytes key, struct bytes args, enum wire_method_id method,
                          bool no_wait)
{
    uint8_t destination_space[255];
    uint8_t source_space[255];
    if (args_valid(ch, args, method)) {
        channel_begin(ch, method, no_wait);
        broker_exchange_bind(ch->broker, strip(destination, destination_space),
                             strip(source, source_space), key, args, method == WIRE_EXCHANGE_UNBIND,
                             on_done, ch);
    }
}

bool ch_exchange_method(struct amqp_channel *ch, const struct wire_method *m)
{
    uint8_t space[255];
    switch ((uint32_t)m->id) {
    case WIRE_EXCHANGE_DECLARE: {
        const struct wire_exchange_declare *d = &m->exchange_declare;
        uint32_t flags = (d->passive ? BROKER_PASSIVE : 0u) | (d->durable ? BROKER_DURABLE : 0u) |
                         (d->auto_delete ? BROKER_AUTO_DELETE : 0u) |
                         (d->internal ? BROKER_INTERNAL : 0u);
        if (args_valid(ch, d->arguments, m->id)) {
            channel_begin(ch, m->id, d->no_wait);
            broker_exchange_declare(ch->broker, strip(d->exchange, space), d->type, flags,
                                    d->arguments, on_done, ch);
        }
        return true;
    }
    case WIRE_EXCHANGE_DELETE:
        channel_begin(ch, m->id, m->exchange_delete.no_wait);
        broker_exchange_delete(ch->broker, strip(m->exchange_delete.exchange, space),
                               m->exchange_delete.if_unused ? BROKER_IF_UNUSED : 0u, on_done, ch);
        return true;
    case WIRE_EXCHANGE_BIND:
        bind_exchange(ch, m->exchange_bind.destination, m->exchange_bind.source,
                      m->exchange_bind.routing_key, m->exchange_bind.arguments, m->id,
                      m->exchange_bind.no_wait);
        return true;
    case WIRE_EXCHANGE_UNBIND:
        bind_exchange(ch, m->exchange_unbind.destination, m->exchange_unbind.source,
                      m->exchange_unbind.routing_key, m->exchange_unbind.arguments, m->id,
                      m->exchange_unbind.no_wait);
        return true;
    default:
        return false;
    }
}
