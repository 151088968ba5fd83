/* The common part of the rabbitmq-c suite; see harness.h. Everything that waits counts short waits:
 * no clock. */
#include "harness.h"

#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP_MS = 20, STEPS = DEADLINE_MS / STEP_MS };

void fail(struct test *t, const char *text, ...)
{
    va_list list;
    va_start(list, text);
    (void)vsnprintf(t->why, sizeof t->why, text, list);
    va_end(list);
    longjmp(t->out, 1);
}

const char *format(const char *text, ...)
{
    static char buffers[64][600];
    static unsigned next;
    char *buffer = buffers[next++ % 64];
    va_list list;
    va_start(list, text);
    (void)vsnprintf(buffer, sizeof buffers[0], text, list);
    va_end(list);
    return buffer;
}

void expect(struct test *t, bool condition, const char *what)
{
    if (!condition) {
        fail(t, "%s", what);
    }
}

void equal_int(struct test *t, int64_t got, int64_t wanted, const char *what)
{
    if (got != wanted) {
        fail(t, "%s: %" PRId64 " instead of %" PRId64, what, got, wanted);
    }
}

void equal_text(struct test *t, const char *got, const char *wanted, const char *what)
{
    if (strcmp(got, wanted) != 0) {
        fail(t, "%s: '%.250s' instead of '%.250s'", what, got, wanted);
    }
}

void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

const char *bytes_text(amqp_bytes_t bytes)
{
    return format("%.*s", (int)bytes.len, bytes.bytes == NULL ? "" : (char *)bytes.bytes);
}

const char *body_of(const amqp_message_t *message)
{
    return bytes_text(message->body);
}

/* ---- connections ---- */

amqp_rpc_reply_t try_connect(struct test *t, struct login login, struct conn **ret)
{
    char uri[512];
    struct amqp_connection_info info;
    expect(t, t->opened_count < OPENED_MAX, "too many connections");
    (void)snprintf(uri, sizeof uri, "%s", t->uris[(t->number + t->opened_count) % t->uri_count]);
    if (amqp_parse_url(uri, &info) != AMQP_STATUS_OK) {
        fail(t, "URI %s", uri);
    }
    struct conn *c = &t->opened[t->opened_count++];
    memset(c, 0, sizeof *c);
    c->state = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c->state);
    struct timeval limit = {DEADLINE_MS / 1000, 0};
    (void)amqp_set_handshake_timeout(c->state, &limit);
    (void)amqp_set_rpc_timeout(c->state, &(struct timeval){20, 0});
    int rc = amqp_socket_open_noblock(socket, info.host, info.port, &limit);
    if (rc != AMQP_STATUS_OK) {
        c->closed = true;
        fail(t, "cannot connect: %s", amqp_error_string2(rc));
    }
    *ret = c;
    return amqp_login(c->state, login.vhost == NULL ? info.vhost : login.vhost, 2047,
                      login.frame_max == 0 ? 131072 : login.frame_max, login.heartbeat,
                      AMQP_SASL_METHOD_PLAIN, login.user == NULL ? info.user : login.user,
                      login.password == NULL ? info.password : login.password);
}

struct conn *connect_with(struct test *t, struct login login)
{
    struct conn *c = NULL;
    amqp_rpc_reply_t reply = try_connect(t, login, &c);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        c->closed = true;
        fail(t, "cannot log in");
    }
    open_channel(t, c, 1);
    return c;
}

struct conn *connect_new(struct test *t)
{
    return connect_with(t, (struct login){0});
}

struct conn *connect_confirm(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_confirm_select(c->state, 1);
    good(t, c, "confirm.select");
    return c;
}

void open_channel(struct test *t, struct conn *c, int channel)
{
    (void)amqp_channel_open(c->state, (amqp_channel_t)channel);
    good(t, c, "channel.open");
}

static void drop_message(struct conn *c)
{
    if (c->has_message) {
        amqp_destroy_message(&c->message);
        c->has_message = false;
    }
}

static void end(struct conn *c)
{
    if (c->state == NULL) {
        return;
    }
    drop_message(c);
    if (!c->closed) {
        (void)amqp_connection_close(c->state, 200);
    }
    (void)amqp_destroy_connection(c->state);
    c->state = NULL;
}

void close_connection(struct test *t, struct conn *c)
{
    amqp_rpc_reply_t reply = amqp_connection_close(c->state, 200);
    c->closed = true;
    expect(t, reply.reply_type == AMQP_RESPONSE_NORMAL, "connection.close");
}

void clean(struct test *t)
{
    for (int i = 0; i < t->opened_count; i++) {
        end(&t->opened[i]);
    }
    t->opened_count = 0;
    if (t->queue_count + t->exchange_count == 0) {
        return;
    }
    struct conn *c = connect_new(t);
    for (int i = 0; i < t->queue_count; i++) {
        (void)amqp_queue_delete(c->state, 1, amqp_cstring_bytes(t->queues[i].text), 0, 0);
        good(t, c, "queue.delete");
    }
    for (int i = 0; i < t->exchange_count; i++) {
        (void)amqp_exchange_delete(c->state, 1, amqp_cstring_bytes(t->exchanges[i].text), 0);
        good(t, c, "exchange.delete");
    }
    end(c);
}

/* ---- names, arguments, declarations ---- */

const char *new_name(struct test *t, const char *kind)
{
    return format("compat.c.%d.%d.%s%d", (int)getpid(), t->number, kind, ++t->serial);
}

const char *queue_name(struct test *t)
{
    struct name *name = &t->queues[t->queue_count++];
    (void)snprintf(name->text, sizeof name->text, "%s", new_name(t, "q"));
    return name->text;
}

const char *exchange_name(struct test *t)
{
    struct name *name = &t->exchanges[t->exchange_count++];
    (void)snprintf(name->text, sizeof name->text, "%s", new_name(t, "x"));
    return name->text;
}

amqp_table_entry_t arg_int(const char *key, int64_t value)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = value}};
}

amqp_table_entry_t arg_text(const char *key, const char *value)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

amqp_table_entry_t arg_bool(const char *key, bool value)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = value}};
}

amqp_table_entry_t arg_i32(const char *key, int32_t value)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = value}};
}

static amqp_table_t table_of(const amqp_table_entry_t *args)
{
    amqp_table_t table = {0, (amqp_table_entry_t *)args};
    while (args != NULL && args[table.num_entries].key.bytes != NULL) {
        table.num_entries++;
    }
    return table;
}

struct declared declare(struct conn *c, int channel, const char *name, int flags,
                        const amqp_table_entry_t *args)
{
    struct declared declared = {"", -1, -1};
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c->state, (amqp_channel_t)channel, amqp_cstring_bytes(name),
                           (flags & PASSIVE) != 0, (flags & DURABLE) != 0, (flags & EXCLUSIVE) != 0,
                           (flags & AUTO_DELETE) != 0, table_of(args));
    if (ok != NULL) {
        (void)snprintf(declared.name, sizeof declared.name, "%.*s", (int)ok->queue.len,
                       (char *)ok->queue.bytes);
        declared.messages = (int)ok->message_count;
        declared.consumers = (int)ok->consumer_count;
    }
    return declared;
}

const char *queue_of(struct test *t, struct conn *c, amqp_table_entry_t one, amqp_table_entry_t two)
{
    amqp_table_entry_t args[4] = {0};
    int n = 0;
    if (strcmp(t->queue_type, "quorum") == 0) {
        args[n++] = arg_text("x-queue-type", "quorum");
    }
    if (one.key.bytes != NULL) {
        args[n++] = one;
    }
    if (two.key.bytes != NULL) {
        args[n++] = two;
    }
    const char *name = queue_name(t);
    (void)declare(c, 1, name, DURABLE, args);
    good(t, c, "queue.declare");
    return name;
}

const char *new_queue(struct test *t, struct conn *c)
{
    return queue_of(t, c, NO_ARG, NO_ARG);
}

const char *new_classic(struct test *t, struct conn *c, amqp_table_entry_t one)
{
    const char *name = queue_name(t);
    amqp_table_entry_t args[2] = {one, NO_ARG};
    (void)declare(c, 1, name, DURABLE, args);
    good(t, c, "queue.declare");
    return name;
}

void declare_exchange(struct conn *c, const char *name, const char *type, int flags, bool internal,
                      amqp_table_entry_t one)
{
    amqp_table_entry_t args[2] = {one, NO_ARG};
    (void)amqp_exchange_declare(c->state, 1, amqp_cstring_bytes(name), amqp_cstring_bytes(type),
                                (flags & PASSIVE) != 0, (flags & DURABLE) != 0,
                                (flags & AUTO_DELETE) != 0, internal, table_of(args));
}

const char *new_exchange(struct test *t, struct conn *c, const char *type)
{
    const char *name = exchange_name(t);
    declare_exchange(c, name, type, 0, false, NO_ARG);
    good(t, c, "exchange.declare");
    return name;
}

void bind_queue(struct conn *c, const char *queue, const char *exchange, const char *key)
{
    (void)amqp_queue_bind(c->state, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                          amqp_cstring_bytes(key), amqp_empty_table);
}

/* ---- errors ---- */

void good(struct test *t, struct conn *c, const char *what)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c->state);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return;
    }
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *m = reply.reply.decoded;
        fail(t, "%s: %d %s", what, m->reply_code, bytes_text(m->reply_text));
    }
    c->closed = true;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
        amqp_connection_close_t *m = reply.reply.decoded;
        fail(t, "%s: connection %d %s", what, m->reply_code, bytes_text(m->reply_text));
    }
    fail(t, "%s: %s", what, amqp_error_string2(reply.library_error));
}

void compare(struct test *t, int got_code, const char *got_text, int code, const char *text)
{
    equal_int(t, got_code, code, format("reply code (%s)", got_text));
    size_t size = strlen(text);
    if (size > 3 && strcmp(text + size - 3, "...") == 0) {
        expect(t, strncmp(got_text, text, size - 3) == 0, format("reply text: %s", got_text));
    } else if (strncmp(text, "...", 3) == 0) {
        expect(t, strstr(got_text, text + 3) != NULL, format("reply text: %s", got_text));
    } else {
        equal_text(t, got_text, text, "reply text");
    }
}

static void reopen(struct test *t, struct conn *c, int channel)
{
    amqp_channel_close_ok_t ok = {0};
    (void)amqp_send_method(c->state, (amqp_channel_t)channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    open_channel(t, c, channel);
}

void closed_channel(struct test *t, struct conn *c, int channel, int code, const char *text)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c->state);
    expect(t, reply.reply_type != AMQP_RESPONSE_NORMAL, format("no error %d", code));
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
        c->closed = true;
        fail(t, "no error %d but %s", code, amqp_error_string2(reply.library_error));
    }
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *m = reply.reply.decoded;
        c->closed = true;
        compare(t, m->reply_code, bytes_text(m->reply_text), code, text);
        return;
    }
    amqp_channel_close_t *m = reply.reply.decoded;
    int got = m->reply_code;
    const char *got_text = bytes_text(m->reply_text);
    reopen(t, c, channel);
    compare(t, got, got_text, code, text);
}

void closed(struct test *t, struct conn *c, int code, const char *text)
{
    closed_channel(t, c, 1, code, text);
}

void closes(struct test *t, struct conn *c, int code, const char *text)
{
    for (;;) {
        struct event event;
        event_next(t, c, DEADLINE_MS, &event);
        expect(t, event.kind != NOTHING, format("no error %d", code));
        if (event.kind == CHANNEL_CLOSED || event.kind == CONNECTION_CLOSED) {
            if (event.kind == CHANNEL_CLOSED) {
                reopen(t, c, 1);
            }
            compare(t, event.code, event.text, code, text);
            return;
        }
    }
}

const char *no_queue(const char *name)
{
    return format("NOT_FOUND - no queue '%s' in vhost '/'", name);
}

const char *no_exchange(const char *name)
{
    return format("NOT_FOUND - no exchange '%s' in vhost '/'", name);
}

void missing_queue(struct test *t, const char *name)
{
    struct conn *c = connect_new(t);
    (void)declare(c, 1, name, PASSIVE, NULL);
    closed(t, c, 404, no_queue(name));
}

void missing_exchange(struct test *t, const char *name)
{
    struct conn *c = connect_new(t);
    declare_exchange(c, name, "direct", PASSIVE, false, NO_ARG);
    closed(t, c, 404, no_exchange(name));
}

/* ---- events ---- */

static void copy(char *into, size_t size, amqp_bytes_t bytes)
{
    (void)snprintf(into, size, "%.*s", (int)bytes.len,
                   bytes.bytes == NULL ? "" : (char *)bytes.bytes);
}

static void read_message(struct test *t, struct conn *c, amqp_channel_t channel,
                         struct event *event)
{
    amqp_rpc_reply_t reply = amqp_read_message(c->state, channel, &c->message, 0);
    expect(t, reply.reply_type == AMQP_RESPONSE_NORMAL, "cannot read a message");
    c->has_message = true;
    event->message = &c->message;
}

static void on_delivery(struct test *t, struct conn *c, const amqp_frame_t *frame,
                        struct event *event)
{
    amqp_basic_deliver_t *m = frame->payload.method.decoded;
    event->kind = DELIVERY;
    event->tag = m->delivery_tag;
    event->redelivered = m->redelivered;
    copy(event->consumer, sizeof event->consumer, m->consumer_tag);
    copy(event->exchange, sizeof event->exchange, m->exchange);
    copy(event->key, sizeof event->key, m->routing_key);
    read_message(t, c, frame->channel, event);
}

static void on_return(struct test *t, struct conn *c, const amqp_frame_t *frame,
                      struct event *event)
{
    amqp_basic_return_t *m = frame->payload.method.decoded;
    event->kind = RETURNED;
    event->code = m->reply_code;
    copy(event->text, sizeof event->text, m->reply_text);
    copy(event->exchange, sizeof event->exchange, m->exchange);
    copy(event->key, sizeof event->key, m->routing_key);
    read_message(t, c, frame->channel, event);
}

static void on_method(struct test *t, struct conn *c, const amqp_frame_t *frame,
                      struct event *event)
{
    const amqp_method_t *method = &frame->payload.method;
    event->kind = OTHER;
    if (method->id == AMQP_BASIC_DELIVER_METHOD) {
        on_delivery(t, c, frame, event);
    } else if (method->id == AMQP_BASIC_RETURN_METHOD) {
        on_return(t, c, frame, event);
    } else if (method->id == AMQP_BASIC_ACK_METHOD) {
        amqp_basic_ack_t *m = method->decoded;
        event->kind = ACK;
        event->tag = m->delivery_tag;
        event->multiple = m->multiple;
    } else if (method->id == AMQP_BASIC_NACK_METHOD) {
        amqp_basic_nack_t *m = method->decoded;
        event->kind = NACK;
        event->tag = m->delivery_tag;
        event->multiple = m->multiple;
    } else if (method->id == AMQP_BASIC_CANCEL_METHOD) {
        event->kind = CANCELLED;
        copy(event->consumer, sizeof event->consumer,
             ((amqp_basic_cancel_t *)method->decoded)->consumer_tag);
    } else if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *m = method->decoded;
        event->kind = CHANNEL_CLOSED;
        event->code = m->reply_code;
        copy(event->text, sizeof event->text, m->reply_text);
    } else if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *m = method->decoded;
        c->closed = true;
        event->kind = CONNECTION_CLOSED;
        event->code = m->reply_code;
        copy(event->text, sizeof event->text, m->reply_text);
    }
}

void event_next(struct test *t, struct conn *c, int ms, struct event *ret)
{
    amqp_frame_t frame;
    struct timeval limit = {ms / 1000, (ms % 1000) * 1000};
    memset(ret, 0, sizeof *ret);
    drop_message(c);
    int rc = amqp_simple_wait_frame_noblock(c->state, &frame, &limit);
    if (rc == AMQP_STATUS_TIMEOUT) {
        return;
    }
    if (rc != AMQP_STATUS_OK) {
        c->closed = true;
        fail(t, "connection: %s", amqp_error_string2(rc));
    }
    ret->channel = frame.channel;
    ret->kind = OTHER;
    if (frame.frame_type == AMQP_FRAME_METHOD) {
        on_method(t, c, &frame, ret);
    }
}

/* ---- messages ---- */

int count(struct test *t, struct conn *c, const char *queue)
{
    struct declared declared = declare(c, 1, queue, PASSIVE, NULL);
    good(t, c, "queue.declare passive");
    return declared.messages;
}

void wait_count(struct test *t, struct conn *c, const char *queue, int wanted)
{
    int got = -1;
    for (int i = 0; i < STEPS; i++) {
        got = count(t, c, queue);
        if (got == wanted) {
            return;
        }
        pause_ms(STEP_MS);
    }
    fail(t, "not within %d ms: %d messages in %s, but %d", DEADLINE_MS, wanted, queue, got);
}

void publish_with(struct test *t, struct conn *c, const char *exchange, const char *key,
                  bool mandatory, const amqp_basic_properties_t *properties, amqp_bytes_t body)
{
    int rc = amqp_basic_publish(c->state, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key),
                                mandatory, 0, properties, body);
    equal_int(t, rc, AMQP_STATUS_OK, "basic.publish");
}

void publish(struct test *t, struct conn *c, const char *exchange, const char *key,
             const char *body)
{
    publish_with(t, c, exchange, key, false, NULL, amqp_cstring_bytes(body));
}

bool accepted(struct test *t, struct conn *c, const char *exchange, const char *key,
              const char *body, const amqp_basic_properties_t *properties)
{
    publish_with(t, c, exchange, key, false, properties, amqp_cstring_bytes(body));
    for (;;) {
        struct event event;
        event_next(t, c, DEADLINE_MS, &event);
        if (event.kind == ACK || event.kind == NACK) {
            return event.kind == ACK;
        }
        expect(t, event.kind != NOTHING, "no confirm");
        expect(t, event.kind != CHANNEL_CLOSED && event.kind != CONNECTION_CLOSED, event.text);
    }
}

void confirmed(struct test *t, struct conn *c, const char *exchange, const char *key,
               const char *body)
{
    expect(t, accepted(t, c, exchange, key, body, NULL), "nacked");
}

void fill(struct test *t, struct conn *c, const char *queue, int number)
{
    amqp_basic_properties_t persistent = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    for (int i = 0; i < number; i++) {
        publish_with(t, c, "", queue, false, &persistent, amqp_cstring_bytes(format("%d", i)));
    }
    wait_count(t, c, queue, number);
}

bool get_one(struct test *t, struct conn *c, const char *queue, bool no_ack, struct got *ret)
{
    memset(ret, 0, sizeof *ret);
    drop_message(c);
    amqp_rpc_reply_t reply = amqp_basic_get(c->state, 1, amqp_cstring_bytes(queue), no_ack);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        good(t, c, "basic.get");
    }
    if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD) {
        return false;
    }
    amqp_basic_get_ok_t *ok = reply.reply.decoded;
    ret->tag = ok->delivery_tag;
    ret->redelivered = ok->redelivered;
    ret->left = (int)ok->message_count;
    copy(ret->exchange, sizeof ret->exchange, ok->exchange);
    copy(ret->key, sizeof ret->key, ok->routing_key);
    reply = amqp_read_message(c->state, 1, &c->message, 0);
    expect(t, reply.reply_type == AMQP_RESPONSE_NORMAL, "cannot read a message");
    c->has_message = true;
    ret->message = &c->message;
    return true;
}

void get(struct test *t, struct conn *c, const char *queue, struct got *ret)
{
    for (int i = 0; i < STEPS; i++) {
        if (get_one(t, c, queue, true, ret)) {
            return;
        }
        pause_ms(STEP_MS);
    }
    fail(t, "not within %d ms: a message in %s", DEADLINE_MS, queue);
}

void empty(struct test *t, struct conn *c, const char *queue)
{
    struct got got;
    expect(t, !get_one(t, c, queue, true, &got), "a message is left");
}

void arrived(struct test *t, struct conn *c, const char *queue, const char *wanted,
             const char *what)
{
    char list[4096] = "";
    size_t size = 0;
    struct got got;
    while (get_one(t, c, queue, true, &got) && size < sizeof list - 300) {
        size += (size_t)snprintf(list + size, sizeof list - size, "%s%s", size == 0 ? "" : ",",
                                 body_of(got.message));
    }
    equal_text(t, list, wanted, what);
}

const amqp_field_value_t *header(const amqp_table_t *table, const char *key)
{
    size_t size = strlen(key);
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *entry = &table->entries[i];
        if (entry->key.len == size && memcmp(entry->key.bytes, key, size) == 0) {
            return &entry->value;
        }
    }
    return NULL;
}

const char *header_text(const amqp_table_t *table, const char *key)
{
    const amqp_field_value_t *value = header(table, key);
    return value != NULL && value->kind == AMQP_FIELD_KIND_UTF8 ? bytes_text(value->value.bytes)
                                                                : "(none)";
}

/* ---- consuming ---- */

void try_consume(struct conn *c, int channel, const char *queue, const char *tag, int flags,
                 amqp_table_entry_t one)
{
    amqp_table_entry_t args[2] = {one, NO_ARG};
    (void)amqp_basic_consume(c->state, (amqp_channel_t)channel, amqp_cstring_bytes(queue),
                             amqp_cstring_bytes(tag), 0, (flags & NO_ACK) != 0,
                             (flags & EXCLUSIVE_CONSUMER) != 0, table_of(args));
}

void consume(struct test *t, struct conn *c, const char *queue, const char *tag, int flags,
             amqp_table_entry_t one)
{
    try_consume(c, 1, queue, tag, flags, one);
    good(t, c, "basic.consume");
}

void delivery(struct test *t, struct conn *c, const char *body, struct event *ret)
{
    do {
        event_next(t, c, DEADLINE_MS, ret);
        expect(t, ret->kind != NOTHING, "no delivery");
        expect(t, ret->kind != CHANNEL_CLOSED && ret->kind != CONNECTION_CLOSED, ret->text);
    } while (ret->kind != DELIVERY);
    if (body != NULL) {
        equal_text(t, body_of(ret->message), body, "body");
    }
}

void deliveries(struct test *t, struct conn *c, int number)
{
    struct event event;
    for (int i = 0; i < number; i++) {
        delivery(t, c, format("%d", i), &event);
    }
}

void quiet(struct test *t, struct conn *c)
{
    struct event event;
    event_next(t, c, QUIET_MS, &event);
    expect(t, event.kind != DELIVERY, "unexpected delivery");
}

void ack(struct test *t, struct conn *c, uint64_t tag, bool multiple)
{
    equal_int(t, amqp_basic_ack(c->state, 1, tag, multiple), AMQP_STATUS_OK, "basic.ack");
}

void close_channel(struct test *t, struct conn *c)
{
    amqp_rpc_reply_t reply = amqp_channel_close(c->state, 1, 200);
    expect(t, reply.reply_type == AMQP_RESPONSE_NORMAL, "channel.close");
}
