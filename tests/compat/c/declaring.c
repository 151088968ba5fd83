/* Connections, channels, exchanges and queues. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

static const amqp_field_value_t *property(struct conn *c, const char *key)
{
    return header(amqp_get_server_properties(c->state), key);
}

static void connect_good(struct test *t)
{
    struct conn *c = connect_new(t);
    close_channel(t, c);
    close_connection(t, c);
}

static void refused(struct test *t, struct login login, int code, const char *text)
{
    struct conn *c = NULL;
    amqp_rpc_reply_t reply = try_connect(t, login, &c);
    expect(t, reply.reply_type != AMQP_RESPONSE_NORMAL, "accepted");
    c->closed = true;
    expect(t,
           reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
               reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD,
           "no connection.close");
    amqp_connection_close_t *m = reply.reply.decoded;
    compare(t, m->reply_code, bytes_text(m->reply_text), code, text);
}

static void connect_bad_password(struct test *t)
{
    refused(t, (struct login){.user = "guest", .password = "wrong"}, 403,
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
            "For details see the broker logfile.");
}

static void connect_bad_vhost(struct test *t)
{
    refused(t, (struct login){.vhost = "no-such"}, 530, "NOT_ALLOWED - vhost no-such not found");
}

static void connect_properties(struct test *t)
{
    static const char *const names[] = {
        "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
        "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos",           "direct_reply_to"};
    struct conn *c = connect_new(t);
    expect(t, property(c, "product") != NULL, "no product");
    const amqp_field_value_t *version = property(c, "version");
    expect(t, version != NULL && strchr(bytes_text(version->value.bytes), '.') != NULL, "version");
    const amqp_field_value_t *capabilities = property(c, "capabilities");
    expect(t, capabilities != NULL && capabilities->kind == AMQP_FIELD_KIND_TABLE, "capabilities");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const amqp_field_value_t *one = header(&capabilities->value.table, names[i]);
        expect(t, one != NULL && one->kind == AMQP_FIELD_KIND_BOOLEAN && one->value.boolean,
               format("capability %s", names[i]));
    }
}

static void connect_frame_max(struct test *t)
{
    struct conn *c = connect_with(t, (struct login){.frame_max = 8192});
    const char *queue = new_queue(t, c);
    static char body[100000];
    for (size_t i = 0; i < sizeof body; i++) {
        body[i] = (char)(i * 7919 >> 3);
    }
    publish_with(t, c, "", queue, false, NULL, (amqp_bytes_t){sizeof body, body});
    struct got got;
    get(t, c, queue, &got);
    expect(t,
           got.message->body.len == sizeof body &&
               memcmp(got.message->body.bytes, body, sizeof body) == 0,
           "body");
}

static void connect_heartbeat(struct test *t)
{
    struct conn *c = connect_with(t, (struct login){.heartbeat = 1});
    struct event event;
    event_next(t, c, 4000, &event); /* the library sends its heartbeats while it waits */
    equal_int(t, event.kind, NOTHING, "event");
    (void)new_queue(t, c);
}

static void channel_many(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    for (int i = 2; i <= 100; i++) {
        open_channel(t, c, i);
    }
    for (int i = 1; i <= 100; i++) {
        int rc = amqp_basic_publish(c->state, (amqp_channel_t)i, amqp_empty_bytes,
                                    amqp_cstring_bytes(queue), 0, 0, NULL, amqp_cstring_bytes("x"));
        equal_int(t, rc, AMQP_STATUS_OK, "publish");
    }
    wait_count(t, c, queue, 100);
}

static void channel_reopen(struct test *t)
{
    struct conn *c = connect_new(t);
    for (int i = 0; i < 200; i++) {
        close_channel(t, c);
        open_channel(t, c, 1);
    }
    (void)new_queue(t, c);
}

static void channel_error(struct test *t)
{
    struct conn *c = connect_new(t);
    open_channel(t, c, 2);
    const char *name = queue_name(t);
    (void)declare(c, 2, name, PASSIVE, NULL);
    closed_channel(t, c, 2, 404, no_queue(name));
    (void)new_queue(t, c);
}

static void exchange_types(struct test *t)
{
    static const char *const types[] = {"direct", "fanout", "topic", "headers"};
    struct conn *c = connect_new(t);
    for (int i = 0; i < 4; i++) {
        const char *name = exchange_name(t);
        for (int twice = 0; twice < 2; twice++) {
            declare_exchange(c, name, types[i], DURABLE, false, NO_ARG);
            good(t, c, "declare");
        }
        (void)amqp_exchange_delete(c->state, 1, amqp_cstring_bytes(name), 0);
        good(t, c, "delete");
        missing_exchange(t, name);
    }
}

static void exchange_passive(struct test *t)
{
    struct conn *c = connect_new(t);
    declare_exchange(c, new_exchange(t, c, "direct"), "direct", PASSIVE, false, NO_ARG);
    good(t, c, "passive declare");
    declare_exchange(c, "amq.topic", "topic", PASSIVE, false, NO_ARG);
    good(t, c, "passive declare of amq.topic");
}

static void exchange_passive_missing(struct test *t)
{
    missing_exchange(t, exchange_name(t));
}

static void exchange_inequivalent(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_exchange(t, c, "direct");
    declare_exchange(c, name, "fanout", 0, false, NO_ARG);
    closed(t, c, 406,
           format("PRECONDITION_FAILED - inequivalent arg 'type' for exchange '%s' in "
                  "vhost '/': received 'fanout' but current is 'direct'",
                  name));
}

static void exchange_unknown_type(struct test *t)
{
    struct conn *c = connect_new(t);
    declare_exchange(c, exchange_name(t), "no-such-type", 0, false, NO_ARG);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c->state);
    bool connection = reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
                      reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD;
    closed(t, c, connection ? 503 : 406, "...exchange type");
}

static void exchange_reserved(struct test *t)
{
    struct conn *c = connect_new(t);
    declare_exchange(c, "amq.mine", "direct", 0, false, NO_ARG);
    closed(t, c, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'");
}

static void exchange_default(struct test *t)
{
    struct conn *c = connect_new(t);
    bind_queue(c, new_queue(t, c), "", "k");
    closed(t, c, 403, "ACCESS_REFUSED - operation not permitted on the default exchange");
}

static void exchange_delete_missing(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_exchange_delete(c->state, 1, amqp_cstring_bytes(exchange_name(t)), 0);
    good(t, c, "delete");
}

static void unbind(struct test *t, struct conn *c, const char *queue, const char *x,
                   const char *key)
{
    (void)amqp_queue_unbind(c->state, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(x),
                            amqp_cstring_bytes(key), amqp_empty_table);
    good(t, c, "unbind");
}

static void exchange_if_unused(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_exchange(t, c, "direct");
    const char *queue = new_queue(t, c);
    bind_queue(c, queue, name, "k");
    good(t, c, "bind");
    (void)amqp_exchange_delete(c->state, 1, amqp_cstring_bytes(name), 1);
    closed(t, c, 406, format("PRECONDITION_FAILED - exchange '%s' in vhost '/' in use", name));
    unbind(t, c, queue, name, "k");
    (void)amqp_exchange_delete(c->state, 1, amqp_cstring_bytes(name), 1);
    good(t, c, "delete");
    missing_exchange(t, name);
}

static void exchange_auto_delete(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = exchange_name(t);
    const char *queue = new_queue(t, c);
    declare_exchange(c, name, "direct", AUTO_DELETE, false, NO_ARG);
    good(t, c, "declare");
    bind_queue(c, queue, name, "k");
    good(t, c, "bind");
    unbind(t, c, queue, name, "k");
    missing_exchange(t, name);
}

static void exchange_publish_missing(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = exchange_name(t);
    publish(t, c, name, "k", "x");
    closes(t, c, 404, no_exchange(name));
}

static void exchange_internal(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = exchange_name(t);
    declare_exchange(c, name, "direct", 0, true, NO_ARG);
    good(t, c, "declare");
    publish(t, c, name, "k", "x");
    closes(t, c, 403,
           format("ACCESS_REFUSED - cannot publish to internal exchange '%s' in vhost "
                  "'/'",
                  name));
}

static void exchange_alternate(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *alternate = new_exchange(t, c, "fanout");
    const char *queue = new_queue(t, c);
    const char *name = exchange_name(t);
    bind_queue(c, queue, alternate, "");
    good(t, c, "bind");
    declare_exchange(c, name, "direct", 0, false, arg_text("alternate-exchange", alternate));
    good(t, c, "declare");
    publish_with(t, c, name, "nowhere", true, NULL, amqp_cstring_bytes("x"));
    struct event event;
    event_next(t, c, DEADLINE_MS, &event);
    equal_int(t, event.kind, ACK, "first event");
    arrived(t, c, queue, "x", "bodies");
}

static void queue_named(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_queue(t, c);
    amqp_table_entry_t args[2] = {NO_ARG, NO_ARG};
    if (strcmp(t->queue_type, "quorum") == 0) {
        args[0] = arg_text("x-queue-type", "quorum");
    }
    struct declared ok = declare(c, 1, name, DURABLE, args);
    good(t, c, "re-declare");
    equal_text(t, ok.name, name, "name");
    equal_int(t, ok.messages + ok.consumers, 0, "messages and consumers");
}

static void queue_server_named(struct test *t)
{
    struct conn *c = connect_new(t);
    struct declared one = declare(c, 1, "", EXCLUSIVE, NULL);
    good(t, c, "declare");
    struct declared other = declare(c, 1, "", EXCLUSIVE, NULL);
    good(t, c, "declare");
    expect(t, strcmp(one.name, other.name) != 0, "the same name twice");
    expect(t, strncmp(one.name, "amq.gen-", 8) == 0 && strncmp(other.name, "amq.gen-", 8) == 0,
           "names");
}

static void queue_passive_missing(struct test *t)
{
    missing_queue(t, queue_name(t));
}

static void queue_inequivalent(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_classic(t, c, NO_ARG);
    (void)declare(c, 1, name, 0, NULL);
    closed(t, c, 406,
           format("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in "
                  "vhost '/': received 'false' but current is 'true'",
                  name));
}

static void queue_inequivalent_arg(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = queue_of(t, c, arg_int("x-max-length", 10), NO_ARG);
    amqp_table_entry_t args[3] = {arg_int("x-max-length", 11), NO_ARG, NO_ARG};
    if (strcmp(t->queue_type, "quorum") == 0) {
        args[1] = arg_text("x-queue-type", "quorum");
    }
    (void)declare(c, 1, name, DURABLE, args);
    closed(t, c, 406,
           format("...inequivalent arg 'x-max-length' for queue '%s' in vhost '/'", name));
}

static void queue_bad_arg(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = queue_name(t);
    amqp_table_entry_t args[3] = {arg_text("x-message-ttl", "soon"), NO_ARG, NO_ARG};
    if (strcmp(t->queue_type, "quorum") == 0) {
        args[1] = arg_text("x-queue-type", "quorum");
    }
    (void)declare(c, 1, name, DURABLE, args);
    closed(t, c, 406, format("...invalid arg 'x-message-ttl' for queue '%s' in vhost '/'", name));
}

static void queue_exclusive(struct test *t)
{
    char kept[NAME_MAX_LENGTH];
    (void)snprintf(kept, sizeof kept, "%s", new_name(t, "q"));
    struct conn *owner = connect_new(t);
    (void)declare(owner, 1, kept, EXCLUSIVE, NULL);
    good(t, owner, "declare");
    struct conn *c = connect_new(t);
    amqp_bytes_t queue = amqp_cstring_bytes(kept);
    const char *text = format("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue "
                              "'%s' in vhost '/'...",
                              kept);
    (void)declare(c, 1, kept, EXCLUSIVE, NULL);
    closed(t, c, 405, text);
    (void)declare(c, 1, kept, PASSIVE, NULL);
    closed(t, c, 405, text);
    try_consume(c, 1, kept, "", 0, NO_ARG);
    closed(t, c, 405, text);
    (void)amqp_queue_purge(c->state, 1, queue);
    closed(t, c, 405, text);
    (void)amqp_queue_delete(c->state, 1, queue, 0, 0);
    closed(t, c, 405, text);
}

static void queue_exclusive_gone(struct test *t)
{
    struct conn *owner = connect_new(t);
    const char *name = queue_name(t);
    (void)declare(owner, 1, name, EXCLUSIVE, NULL);
    good(t, owner, "declare");
    close_connection(t, owner);
    missing_queue(t, name);
}

static void queue_auto_delete(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = queue_name(t);
    (void)declare(c, 1, name, AUTO_DELETE, NULL);
    good(t, c, "declare");
    (void)count(t, c, name);
    consume(t, c, name, "c", 0, NO_ARG);
    (void)amqp_basic_cancel(c->state, 1, amqp_cstring_bytes("c"));
    good(t, c, "cancel");
    missing_queue(t, name);
}

static void queue_reserved(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)declare(c, 1, "amq.mine", 0, NULL);
    closed(t, c, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'");
}

static void queue_delete_missing(struct test *t)
{
    struct conn *c = connect_new(t);
    amqp_queue_delete_ok_t *ok =
        amqp_queue_delete(c->state, 1, amqp_cstring_bytes(queue_name(t)), 0, 0);
    good(t, c, "delete");
    equal_int(t, ok->message_count, 0, "messages");
}

static void queue_if_unused(struct test *t)
{
    struct conn *user = connect_new(t);
    const char *name = new_classic(t, user, NO_ARG);
    consume(t, user, name, "", 0, NO_ARG);
    struct conn *c = connect_new(t);
    (void)amqp_queue_delete(c->state, 1, amqp_cstring_bytes(name), 1, 0);
    closed(t, c, 406, format("PRECONDITION_FAILED - queue '%s' in vhost '/' in use", name));
}

static void queue_if_empty(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_classic(t, c, NO_ARG);
    fill(t, c, name, 1);
    (void)amqp_queue_delete(c->state, 1, amqp_cstring_bytes(name), 0, 1);
    closed(t, c, 406, format("PRECONDITION_FAILED - queue '%s' in vhost '/' not empty", name));
}

static void queue_purge(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = new_queue(t, c);
    fill(t, c, name, 3);
    amqp_queue_purge_ok_t *ok = amqp_queue_purge(c->state, 1, amqp_cstring_bytes(name));
    good(t, c, "purge");
    equal_int(t, ok->message_count, 3, "purged");
    empty(t, c, name);
}

static void queue_counts(struct test *t)
{
    struct conn *c = connect_new(t);
    struct conn *other = connect_new(t);
    const char *name = new_queue(t, c);
    (void)amqp_basic_qos(c->state, 1, 0, 1, 0);
    good(t, c, "qos");
    fill(t, c, name, 4);
    consume(t, c, name, "", 0, NO_ARG);
    struct event event;
    delivery(t, c, "0", &event);
    wait_count(t, other, name, 3);
    equal_int(t, declare(other, 1, name, PASSIVE, NULL).consumers, 1, "consumers");
}

static void queue_bind_missing(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    const char *exchange = exchange_name(t);
    const char *missing = queue_name(t);
    bind_queue(c, queue, exchange, "k");
    closed(t, c, 404, no_exchange(exchange));
    bind_queue(c, missing, "amq.direct", "k");
    closed(t, c, 404, no_queue(missing));
}

static void queue_unbind(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queue = new_queue(t, c);
    const char *exchange = new_exchange(t, c, "direct");
    bind_queue(c, queue, exchange, "k");
    good(t, c, "bind");
    unbind(t, c, queue, exchange, "k");
    unbind(t, c, queue, exchange, "k");
    unbind(t, c, queue, exchange, "never");
    confirmed(t, c, exchange, "k", "x");
    equal_int(t, count(t, c, queue), 0, "messages");
}

const struct check declaring_checks[] = {
    {"connect.good", connect_good},
    {"connect.bad-password", connect_bad_password},
    {"connect.bad-vhost", connect_bad_vhost},
    {"connect.properties", connect_properties},
    {"connect.frame-max", connect_frame_max},
    {"connect.heartbeat", connect_heartbeat},
    {"channel.many", channel_many},
    {"channel.reopen", channel_reopen},
    {"channel.error-keeps-connection", channel_error},
    {"exchange.types", exchange_types},
    {"exchange.passive", exchange_passive},
    {"exchange.passive-missing", exchange_passive_missing},
    {"exchange.inequivalent", exchange_inequivalent},
    {"exchange.unknown-type", exchange_unknown_type},
    {"exchange.reserved-name", exchange_reserved},
    {"exchange.default-refused", exchange_default},
    {"exchange.delete-missing", exchange_delete_missing},
    {"exchange.delete-if-unused", exchange_if_unused},
    {"exchange.auto-delete", exchange_auto_delete},
    {"exchange.publish-missing", exchange_publish_missing},
    {"exchange.internal", exchange_internal},
    {"exchange.alternate", exchange_alternate},
    {"queue.named", queue_named},
    {"queue.server-named", queue_server_named},
    {"queue.passive-missing", queue_passive_missing},
    {"queue.inequivalent", queue_inequivalent},
    {"queue.inequivalent-arg", queue_inequivalent_arg},
    {"queue.bad-arg", queue_bad_arg},
    {"queue.exclusive-locked", queue_exclusive},
    {"queue.exclusive-gone", queue_exclusive_gone},
    {"queue.auto-delete", queue_auto_delete},
    {"queue.reserved-name", queue_reserved},
    {"queue.delete-missing", queue_delete_missing},
    {"queue.delete-if-unused", queue_if_unused},
    {"queue.delete-if-empty", queue_if_empty},
    {"queue.purge", queue_purge},
    {"queue.counts", queue_counts},
    {"queue.bind-missing", queue_bind_missing},
    {"queue.unbind", queue_unbind},
    {NULL, NULL},
};
