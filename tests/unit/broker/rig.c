/* The rig: see rig.h. */
#include "rig.h"

struct rig rig;

struct queue_client *rig_client(const char *queue)
{
    for (size_t i = rig.clients.count; i-- > 0;) {
        if (rig.clients.items[i]->open && strcmp(rig.clients.items[i]->name, queue) == 0) {
            return rig.clients.items[i];
        }
    }
    cr_assert(false, "no open client of %s", queue);
    return NULL;
}

/* --- what the front end hears ----------------------------------------------------------------- */

void rig_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
              uint64_t b)
{
    cr_assert_not(rig.inside, "a completion inside the call that started it");
    strbuf_printf(&rig.said, "%s ", (const char *)ctx);
    if (fault->code != 0) {
        strbuf_printf(&rig.said, "%u%s %s\n", fault->code, fault->connection ? "!" : "",
                      fault->text);
        return;
    }
    bool generated = name.size == 30 && (bytes_starts_with(name, B("amq.gen-")) ||
                                         bytes_starts_with(name, B("amq.ctag")));
    strbuf_printf(&rig.said, "ok '%.*s' %llu %llu\n", generated ? 8 : (int)name.size,
                  (const char *)name.data, (unsigned long long)a, (unsigned long long)b);
}

void rig_on_get(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                uint32_t delivery_count, const struct message *message, uint64_t left)
{
    (void)ctx;
    strbuf_printf(&rig.said, "got %u.%u.%llu%s %u '%.*s' left=%llu\n", delivery->queue,
                  delivery->consumer, (unsigned long long)delivery->ordinal,
                  redelivered ? " redelivered" : "", delivery_count, FMT(message_body(message)),
                  (unsigned long long)left);
}

static void on_confirm(void *ctx, uint64_t first_token, uint64_t count, bool ack)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said, "confirm %llu+%llu %s\n", (unsigned long long)first_token,
                  (unsigned long long)count, ack ? "ack" : "nack");
    vec_push(&rig.confirms, ((struct confirmed){first_token, count, ack}));
}

static void on_deliver(void *ctx, struct bytes tag, const struct broker_delivery *delivery,
                       bool redelivered, uint32_t delivery_count, bool no_ack,
                       const struct message *message)
{
    (void)ctx;
    (void)delivery_count;
    strbuf_printf(&rig.said, "deliver '%.*s' %u.%u.%llu%s%s '%.*s'\n", FMT(tag), delivery->queue,
                  delivery->consumer, (unsigned long long)delivery->ordinal,
                  redelivered ? " redelivered" : "", no_ack ? " no_ack" : "",
                  FMT(message_body(message)));
}

static void on_cancel(void *ctx, struct bytes tag)
{
    (void)ctx;
    strbuf_printf(&rig.said, "cancel '%.*s'\n", FMT(tag));
}

static void on_overdue(void *ctx, struct bytes tag, uint64_t timeout_ms)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said, "overdue '%.*s' %llu\n", FMT(tag), (unsigned long long)timeout_ms);
}

static void on_fault(void *ctx, const struct broker_fault *fault, uint16_t class_id,
                     uint16_t method_id)
{
    (void)ctx;
    strbuf_printf(&rig.said, "fault %u%s %s (%u,%u)\n", fault->code, fault->connection ? "!" : "",
                  fault->text, class_id, method_id);
}

static void on_blocked(void *ctx, bool blocked)
{
    (void)ctx;
    strbuf_printf(&rig.said, blocked ? "blocked\n" : "unblocked\n");
}

static void on_alarm(void *ctx, const char *reason)
{
    (void)ctx;
    strbuf_printf(&rig.said, "alarm %s\n", reason == NULL ? "over" : reason);
}

static void on_return(void *ctx, const struct message *message)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said, "return '%.*s'\n", FMT(message_body(message)));
}

static const struct broker_channel_sink sink = {.on_confirm = on_confirm,
                                                .on_deliver = on_deliver,
                                                .on_cancel = on_cancel,
                                                .on_overdue = on_overdue,
                                                .on_fault = on_fault,
                                                .on_blocked = on_blocked,
                                                .on_alarm = on_alarm,
                                                .on_return = on_return};

static void on_close(void *ctx, const char *reason)
{
    (void)ctx;
    strbuf_printf(&rig.said, "close %s\n", reason);
}

/* --- the catalog ------------------------------------------------------------------------------ */

void rig_show_view(void)
{
    struct catalog_view *view = catalog_view_take(rig.catalog);
    for (size_t i = 0; i < rig.clients.count;
         i++) { /* the host goes first: clients of queues that are gone hear of it */
        struct queue_client *client = rig.clients.items[i];
        if (client->open && !client->gone && catalog_queue_by_id(view, client->queue_id) == NULL) {
            client->gone = true;
            client->sink->on_gone(client->ctx, false);
        }
    }
    broker_set_view(rig.broker, view, catalog_applied(rig.catalog));
    catalog_view_unref(view);
}

void rig_apply_silently(const struct catalog_command *command)
{
    struct catalog_result result;
    catalog_apply(rig.catalog, ++rig.index, command, &result);
    cr_assert_eq(result.status, CATALOG_OK, "%s", catalog_status_text(result.status));
}

void rig_apply(const struct catalog_command *command)
{
    rig_apply_silently(command);
    rig_show_view();
}

void rig_catalog(void)
{
    cr_assert_gt(rig.asked.count, 0);
    struct asked asked = rig.asked.items[0];
    struct catalog_result result = {0};
    vec_remove(&rig.asked, 0);
    if (rig.no_leader) {
        asked.done(asked.ctx, WR_E_UNAVAILABLE, NULL);
    } else if (asked.command != NULL) {
        cr_assert_eq(catalog_apply_bytes(rig.catalog, ++rig.index,
                                         bytes_make(asked.command->data, asked.command->size),
                                         &result),
                     0);
        asked.done(asked.ctx, result.status, &result);
        rig_show_view(); /* behind: the broker has to wait for it */
    } else {
        rig_show_view();
        asked.done(asked.ctx, 0, &result);
    }
    buf_unref(asked.command);
}

void rig_turn(void)
{
    for (int round = 0; round < 8; round++) {
        while (!rig.hold && rig.asked.count > 0) {
            rig_catalog();
        }
        while (rig.reported.count > 0) {
            struct reported r = rig.reported.items[0];
            vec_remove(&rig.reported, 0);
            r.done(r.ctx, r.queue_id, &rig.report);
        }
        broker_turn(rig.broker);
    }
    cr_assert(rig.hold || rig.asked.count == 0);
}

static const char *take(struct strbuf *s, char *text, size_t size, char *copy)
{
    rig_turn();
    cr_assert_not(s->truncated);
    memcpy(copy, text, size);
    strbuf_init(s, text, size);
    return copy;
}

const char *rig_said(void)
{
    static char copy[sizeof rig.said_text];
    return take(&rig.said, rig.said_text, sizeof rig.said_text, copy);
}

const char *rig_calls(void)
{
    static char copy[sizeof rig.asked_text];
    return take(&rig.calls, rig.asked_text, sizeof rig.asked_text, copy);
}

/* --- setting up ------------------------------------------------------------------------------- */

static void put_user(const char *name, const char *configure, const char *write, const char *read,
                     bool permission)
{
    uint8_t hash[36] = {1, 2, 3, 4};
    uint8_t salted[64] = {1, 2, 3, 4};
    struct bytes tags[] = {B("impersonator")};
    size_t size = strlen(name);
    memcpy(salted + 4, name, size); /* the password is the name */
    crypto_sha256(salted, 4 + size, hash + 4);
    struct catalog_command user = {
        .kind = CATALOG_PUT_USER,
        .u.user = {.name = B(name),
                   .password_hash = bytes_make(hash, sizeof hash),
                   .hashing = CATALOG_HASHING_SHA256,
                   .parts = CATALOG_USER_PASSWORD | CATALOG_USER_TAGS | CATALOG_USER_UPSERT,
                   .tags = {strcmp(name, "actor") == 0 ? 1 : 0, tags}}};
    rig_apply(&user);
    if (permission) {
        struct catalog_command set = {
            .kind = CATALOG_SET_PERMISSION,
            .u.permission = {B(name), B("/"), B(configure), B(write), B(read)}};
        rig_apply(&set);
    }
}

void rig_init(void)
{
    static const struct uid node = {1, 1};
    memset(&rig, 0, sizeof rig);
    strbuf_init(&rig.said, rig.said_text, sizeof rig.said_text);
    strbuf_init(&rig.calls, rig.asked_text, sizeof rig.asked_text);
    rig.env.ops = &rig_env_ops;
    rig.now_ms = 1000;
    struct broker_options options = {.node_id = node,
                                     .shard_count = 1,
                                     .quorum_initial_size = 3,
                                     .guest_loopback_only = true,
                                     .seed = 1,
                                     .operation_timeout_ms = 15000,
                                     .message_size_max = 1 << 20};
    rig.broker = broker_new(&rig.env, NULL, &options);
    broker_set_boot(rig.broker, 1);
    rig.catalog = catalog_new(&route_index_ops, NULL, NULL);
    struct catalog_node_info info = {
        .id = node, .member = {2, 2}, .name = B("w1@h"), .host = B("h")};
    struct catalog_command init = {
        .kind = CATALOG_CLUSTER_INIT,
        .u.init = {.cluster = {3, 3}, .name = B("c"), .node = info, .vhost = B("/")}};
    rig_apply(&init);
    struct catalog_command boot = {.kind = CATALOG_NODE_BOOT, .u.boot = {info, {4, 4}}};
    rig_apply(&boot);
    put_user("guest", ".*", ".*", ".*", true);
    put_user("actor", ".*", ".*", ".*", true);
    put_user("limited", "^c", "^w|amq.default", "^r", true);
    put_user("mute", "", "", "", true);
    put_user("nobody", "", "", "", false);
    rig.session = rig_session("guest", "/");
    rig.ch = rig_channel(rig.session, 1);
}

void rig_deinit(void)
{
    LIST_FOREACH_SAFE(link, &rig.broker->sessions) {
        broker_session_close(WR_CONTAINER_OF(link, struct broker_session, link), NULL, NULL);
    }
    broker_free(rig.broker);
    for (size_t i = 0; i < rig.clients.count; i++) {
        cr_assert_not(rig.clients.items[i]->open, "client of %s left open",
                      rig.clients.items[i]->name);
        wr_free(rig.clients.items[i]);
    }
    for (size_t i = 0; i < rig.asked.count; i++) {
        buf_unref(rig.asked.items[i].command);
    }
    for (size_t i = 0; i < rig.letters.count; i++) {
        slice_unref(&rig.letters.items[i].letter.raw);
    }
    vec_deinit(&rig.letters);
    vec_deinit(&rig.asked);
    vec_deinit(&rig.reported);
    vec_deinit(&rig.clients);
    vec_deinit(&rig.confirms);
    catalog_free(rig.catalog);
}

struct broker_session *rig_session(const char *user, const char *vhost)
{
    struct broker_fault fault = {0};
    struct broker_session_info info = {.vhost = B(vhost),
                                       .user = B(user),
                                       .peer = {.host = "127.0.0.1", .port = 1},
                                       .local = {.host = "127.0.0.1", .port = 5672},
                                       .protocol = "AMQP 0-9-1",
                                       .auth_mechanism = "PLAIN",
                                       .tls = rig.tls};
    struct broker_session *session = broker_session_open(rig.broker, &info, on_close, NULL, &fault);
    if (session == NULL) {
        strbuf_printf(&rig.said, "%u%s %s\n", fault.code, fault.connection ? "!" : "", fault.text);
    }
    return session;
}

struct broker_channel *rig_channel(struct broker_session *session, uint16_t number)
{
    return broker_channel_open(session, number, &sink, NULL);
}

void rig_reply(const char *queue, enum queue_status status, uint64_t value)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_reply(client->ctx, client->asked_seq, status, value, rig.left);
}

void rig_reply_to(const char *queue, uint64_t seq, enum queue_status status, uint64_t value)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_reply(client->ctx, seq, status, value, rig.left);
}

struct message rig_message(const char *exchange, const char *key, struct bytes props,
                           const char *body)
{
    size_t size = strlen(body);
    struct message_parts parts = {.exchange = B(exchange),
                                  .key = B(key),
                                  .props = props.size == 0 ? wire_props_empty : props,
                                  .ttl_ms = MESSAGE_TTL_NONE};
    uint32_t whole = (uint32_t)message_record_size(&parts, size);
    struct buf *record = buf_new(whole);
    memcpy(message_write(record->data, &parts, (uint32_t)size), body, size);
    record->size = whole;
    return (struct message){.record = slice_of_buf(record)};
}

void rig_deliver(const char *queue, uint32_t consumer, uint64_t ordinal, uint32_t count,
                 uint32_t delivery_count, uint8_t flags)
{
    struct queue_client *client = rig_client(queue);
    struct message messages[64];
    cr_assert_leq(count, 64);
    for (uint32_t i = 0; i < count; i++) {
        messages[i] = rig_message("x", "k", BYTES_NONE, "m");
    }
    client->sink->on_deliver(client->ctx, consumer, ordinal, delivery_count, flags, messages,
                             count);
    for (uint32_t i = 0; i < count; i++) {
        message_unref(messages[i]);
    }
}

static void on_retry(void *ctx)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    rig.retries++;
    strbuf_printf(&rig.said, "retry\n");
}

void rig_publish(const char *exchange, const char *key, struct bytes props, uint64_t token)
{
    static const char *const names[] = {"routed", "unroutable", "kept", "refused", "wait"};
    struct broker_fault fault = {0};
    struct message message = rig_message(exchange, key, props, "m");
    enum broker_publish_result result = BROKER_WAIT;
    CALL(result = broker_publish(rig.ch, message, token, &fault, on_retry, NULL));
    if (result == BROKER_WAIT && !rig.hold) {
        uint32_t before = rig.retries;
        struct strbuf kept = rig.said;
        rig_turn();
        if (rig.retries == before + 1) {
            rig.said = kept; /* its "retry" is not said */
            rig.said_text[kept.size] = 0;
            CALL(result = broker_publish(rig.ch, message, token, &fault, on_retry, NULL));
            strbuf_printf(&rig.said, "barrier ");
        }
    }
    strbuf_printf(&rig.said, "%s", names[result]);
    if (result == BROKER_REFUSED) {
        strbuf_printf(&rig.said, " %u%s %s", fault.code, fault.connection ? "!" : "", fault.text);
    }
    strbuf_add_char(&rig.said, '\n');
    message_unref(message);
}

static void put_queue(const char *name, uint64_t connection, bool auto_delete, struct bytes args)
{
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                .u.queue = {.vhost = B("/"),
                                            .name = B(name),
                                            .arguments = args,
                                            .type = CATALOG_CLASSIC,
                                            .run = CATALOG_RUN_LOCAL,
                                            .exclusive = connection != 0,
                                            .auto_delete = auto_delete,
                                            .owner = {connection != 0 ? 1 : 0, connection},
                                            .local = {{1, 1}, 1, 0}}};
    rig_apply(&c);
}

void rig_queue(const char *name)
{
    put_queue(name, 0, false, BYTES_NONE);
}

void rig_queue_with(const char *name, struct bytes args)
{
    put_queue(name, 0, false, args);
}

void rig_auto_delete(const char *name)
{
    put_queue(name, 0, true, BYTES_NONE);
}

void rig_exclusive(const char *name, uint64_t connection)
{
    put_queue(name, connection, false, BYTES_NONE);
}

void rig_exchange(const char *name, const char *type, struct bytes args)
{
    struct catalog_command c = {.kind = CATALOG_DECLARE_EXCHANGE,
                                .u.exchange = {.vhost = B("/"),
                                               .name = B(name),
                                               .type = B(type),
                                               .arguments = args,
                                               .internal = strcmp(name, "internal") == 0}};
    rig_apply(&c);
}

void rig_bind(const char *exchange, const char *queue, const char *key)
{
    struct catalog_command c = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B(exchange), B(queue), B(key), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply(&c);
}

void rig_unbind(const char *exchange, const char *queue, const char *key)
{
    struct catalog_command c = {
        .kind = CATALOG_UNBIND,
        .u.binding = {B("/"), B(exchange), B(queue), B(key), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply(&c);
}

void rig_delete(const char *queue)
{
    const struct catalog_queue *q = catalog_queue(catalog_view_peek(rig.catalog), B("/"), B(queue));
    cr_assert_not_null(q);
    struct catalog_command c = {.kind = CATALOG_DELETE_QUEUE, .u.delete_queue = {q->id}};
    rig_apply(&c);
}

void rig_dead_queue(const char *name, const char *exchange, const char *strategy)
{
    struct writer args;
    writer_init(&args, 128);
    wire_table_put_cstr(&args, "x-dead-letter-exchange", exchange);
    if (strategy != NULL) {
        wire_table_put_cstr(&args, "x-dead-letter-strategy", strategy);
    }
    struct catalog_command command = {
        .kind = CATALOG_DECLARE_QUEUE,
        .u.queue = {.vhost = B("/"),
                    .name = B(name),
                    .arguments = writer_bytes(&args),
                    .type = strategy == NULL ? CATALOG_CLASSIC : CATALOG_QUORUM,
                    .run = CATALOG_RUN_LOCAL,
                    .local = {.node = {1, 1}, .boot = 1}}};
    rig_apply(&command);
    writer_deinit(&args);
}

void rig_applied(const char *queue, uint64_t seq)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_applied(client->ctx, seq);
}

void rig_nacked(const char *queue, uint64_t seq)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_nacked(client->ctx, seq);
}
