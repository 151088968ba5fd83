/* The fake broker of the rig: it writes down what it is asked, and answers when told to (see
 * rig.h). */
#include "rig.h"

bool broker_authenticate(struct broker *broker, struct bytes user, struct bytes password,
                         bool loopback)
{
    (void)broker;
    strbuf_printf(&rig.calls, "authenticate %.*s %.*s%s\n", S(user), S(password),
                  loopback ? "" : " remote");
    return bytes_eq(user, password) && (loopback || !bytes_eq_cstr(user, "guest"));
}

bool broker_authenticate_external(struct broker *broker, struct bytes user, bool loopback)
{
    (void)broker;
    strbuf_printf(&rig.calls, "authenticate_external %.*s%s\n", S(user), loopback ? "" : " remote");
    return bytes_eq_cstr(user, "CN=guest");
}

bool broker_session_update_secret(struct broker_session *session, struct bytes secret,
                                  struct broker_fault *fault)
{
    (void)session;
    if (bytes_eq_cstr(secret, "bad")) {
        *fault = (struct broker_fault){.code = 530, .connection = true, .text = "refused"};
        return false;
    }
    return true;
}

bool broker_session_wait(struct broker_session *session,
                         void (*on_ready)(void *ctx, const struct broker_fault *fault))
{
    (void)session;
    rig.on_ready = on_ready;
    return rig.session_waits;
}

bool broker_channel_may_open(struct broker_session *session, struct broker_fault *fault)
{
    (void)session;
    if (rig.no_channels) {
        *fault = (struct broker_fault){.code = 530, .connection = true, .text = "too many"};
    }
    return !rig.no_channels;
}

struct broker_session *broker_session_open(struct broker *broker,
                                           const struct broker_session_info *info,
                                           void (*on_close)(void *ctx, const char *reason),
                                           void *ctx, struct broker_fault *fault)
{
    (void)broker;
    strbuf_printf(&rig.calls, "session_open %.*s %.*s name=%.*s\n", S(info->user), S(info->vhost),
                  S(info->provided_name));
    if (!bytes_eq_cstr(info->vhost, "/")) {
        fault->code = 530;
        fault->connection = true;
        (void)snprintf(fault->text, sizeof fault->text, "vhost %.*s not found", S(info->vhost));
        return NULL;
    }
    cr_assert(!rig.session.open);
    rig.session = (struct broker_session){.on_close = on_close, .ctx = ctx, .open = true};
    return &rig.session;
}

void broker_session_leave(struct broker_session *session)
{
    cr_assert(session->open && !session->closing);
    strbuf_printf(&rig.calls, "session_leave\n");
}

void broker_session_close(struct broker_session *session, void (*done)(void *ctx), void *ctx)
{
    cr_assert(session->open && !session->closing);
    for (size_t i = 0; i < WR_ARRAY_SIZE(rig.channels); i++) {
        cr_assert(!rig.channels[i].used, "channels are closed before their session");
    }
    session->closing = true;
    session->done = done;
    session->done_ctx = ctx;
    strbuf_printf(&rig.calls, "session_close\n");
}

void broker_session_count(struct broker_session *session, uint64_t recv_bytes, uint64_t send_bytes,
                          const char *state)
{
    cr_assert(session->open && !session->closing);
    cr_assert_gt(recv_bytes, 0);
    cr_assert_gt(send_bytes, 0);
    cr_assert_str_eq(state, "running");
}

struct broker_channel *broker_channel_open(struct broker_session *session, uint16_t number,
                                           const struct broker_channel_sink *sink, void *ctx)
{
    cr_assert(session->open && !session->closing);
    struct broker_channel *ch = &rig.channels[number];
    cr_assert(!ch->used);
    *ch = (struct broker_channel){.sink = sink, .ctx = ctx, .number = number, .used = true};
    return ch;
}

void broker_channel_close(struct broker_channel *ch)
{
    cr_assert(ch->used);
    ch->used = false;
    strbuf_printf(&rig.calls, "%u channel_close\n", ch->number);
    for (size_t i = rig.waiting.count; i-- > 0;) { /* its calls are never answered */
        char prefix[16];
        (void)snprintf(prefix, sizeof prefix, "%u ", ch->number);
        if (strncmp(rig.waiting.items[i].name, prefix, strlen(prefix)) == 0) {
            vec_remove(&rig.waiting, i);
        }
    }
}

static void call(struct broker_channel *ch, broker_done_fn done, void *ctx, const char *fmt, ...)
    WR_PRINTF(4, 5);
static void call(struct broker_channel *ch, broker_done_fn done, void *ctx, const char *fmt, ...)
{
    struct fake_call c = {.done = done, .ctx = ctx};
    char text[250];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cr_assert(ch->used);
    (void)snprintf(c.name, sizeof c.name, "%u %s", ch->number, text);
    strbuf_printf(&rig.calls, "%s\n", c.name);
    for (size_t i = 0; i < rig.waiting.count; i++) {
        cr_assert(rig.ahead || rig.waiting.items[i].ctx != ctx, "one call at a time per channel");
    }
    vec_push(&rig.waiting, c);
}

void broker_exchange_declare(struct broker_channel *ch, struct bytes name, struct bytes type,
                             uint32_t flags, struct bytes args, broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "exchange_declare '%.*s' %.*s flags=%u args=%zu", S(name), S(type), flags,
         args.size);
}

void broker_exchange_delete(struct broker_channel *ch, struct bytes name, uint32_t flags,
                            broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "exchange_delete '%.*s' flags=%u", S(name), flags);
}

void broker_exchange_bind(struct broker_channel *ch, struct bytes destination, struct bytes source,
                          struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                          void *ctx)
{
    call(ch, done, ctx, "exchange_%s '%.*s' '%.*s' '%.*s' args=%zu", unbind ? "unbind" : "bind",
         S(destination), S(source), S(key), args.size);
}

void broker_queue_declare(struct broker_channel *ch, struct bytes name, uint32_t flags,
                          struct bytes args, broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "queue_declare '%.*s' flags=%u args=%zu", S(name), flags, args.size);
}

void broker_queue_bind(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                       struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                       void *ctx)
{
    call(ch, done, ctx, "queue_%s '%.*s' '%.*s' '%.*s' args=%zu", unbind ? "unbind" : "bind",
         S(queue), S(exchange), S(key), args.size);
}

bool broker_queue_declare_ahead(struct broker_channel *ch, struct bytes name, uint32_t flags,
                                struct bytes args, broker_done_fn done, void *ctx)
{
    if (!rig.ahead) {
        return false;
    }
    call(ch, done, ctx, "queue_declare_ahead '%.*s' flags=%u args=%zu", S(name), flags, args.size);
    return true;
}

bool broker_queue_bind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                             struct bytes key, struct bytes args, broker_done_fn done, void *ctx)
{
    if (!rig.ahead) {
        return false;
    }
    call(ch, done, ctx, "queue_bind_ahead '%.*s' '%.*s' '%.*s' args=%zu", S(queue), S(exchange),
         S(key), args.size);
    return true;
}

void broker_queue_purge(struct broker_channel *ch, struct bytes queue, broker_done_fn done,
                        void *ctx)
{
    call(ch, done, ctx, "queue_purge '%.*s'", S(queue));
}

void broker_queue_delete(struct broker_channel *ch, struct bytes queue, uint32_t flags,
                         broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "queue_delete '%.*s' flags=%u", S(queue), flags);
}

static uint32_t sum_of(struct bytes body)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < body.size; i++) {
        sum = sum * 31 + body.data[i];
    }
    return sum;
}

void broker_publish_looked(struct broker_channel *ch)
{
    cr_assert(ch->used);
    strbuf_printf(&rig.calls, "%u looked\n", ch->number);
}

struct message broker_returned(const struct broker_channel *ch, struct message owned)
{
    cr_assert(ch->used);
    return owned;
}

enum broker_publish_result broker_publish(struct broker_channel *ch, struct message message,
                                          uint64_t token, struct broker_fault *fault,
                                          void (*retry)(void *ctx), void *ctx)
{
    struct bytes exchange = message_exchange(&message);
    struct bytes body = message_body(&message);
    cr_assert(ch->used);
    cr_assert_eq(message_check(bytes_from_slice(&message.record)), 0);
    if (rig.publish_waits) {
        rig.retry = retry;
        rig.retry_ctx = ctx;
        strbuf_printf(&rig.calls, "%u publish waits\n", ch->number);
        return BROKER_WAIT;
    }
    strbuf_printf(&rig.calls, "%u publish '%.*s' '%.*s' token=%llu %s priority=%u props=%zu ",
                  ch->number, S(exchange), S(message_key(&message)), (unsigned long long)token,
                  message_flags(&message) == MESSAGE_PERSISTENT ? "persistent" : "",
                  message_priority(&message), message_props(&message).size);
    if (message_ttl_ms(&message) != MESSAGE_TTL_NONE) {
        strbuf_printf(&rig.calls, "ttl=%llu ", (unsigned long long)message_ttl_ms(&message));
    }
    if (body.size <= 32) {
        strbuf_printf(&rig.calls, "body='%.*s'\n", S(body));
    } else {
        strbuf_printf(&rig.calls, "body=%zu sum=%x\n", body.size, sum_of(body));
    }
    if (bytes_eq_cstr(exchange, "missing")) {
        fault->code = 404;
        fault->connection = false;
        (void)snprintf(fault->text, sizeof fault->text, "no exchange 'missing' in vhost '/'");
        return BROKER_REFUSED;
    }
    if (bytes_eq_cstr(message_key(&message), "nowhere")) {
        return BROKER_UNROUTABLE;
    }
    vec_push(&rig.tokens, token);
    return BROKER_ROUTED;
}

void broker_tx_select(struct broker_channel *ch)
{
    cr_assert(ch->used);
    strbuf_printf(&rig.calls, "%u tx_select\n", ch->number);
}

void broker_tx_mandatory(struct broker_channel *ch, bool mandatory)
{
    cr_assert(ch->used);
    if (mandatory) {
        strbuf_printf(&rig.calls, "%u mandatory\n", ch->number);
    }
}

void broker_tx_note_acks(struct broker_channel *ch, uint64_t count)
{
    cr_assert(ch->used);
    ch->acks = count;
}

void broker_tx_settle(struct broker_channel *ch, const struct broker_delivery *first,
                      uint64_t count, enum queue_outcome outcome)
{
    strbuf_printf(&rig.calls, "tx ");
    broker_settle(ch, first, count, outcome);
}

bool broker_tx_commit(struct broker_channel *ch, broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "tx_commit");
    return rig.commit_waits;
}

void broker_tx_rollback(struct broker_channel *ch)
{
    cr_assert(ch->used);
    strbuf_printf(&rig.calls, "%u tx_rollback\n", ch->number);
}

void broker_consume(struct broker_channel *ch, struct bytes queue, struct bytes tag, uint32_t flags,
                    struct bytes args, broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "consume '%.*s' '%.*s' flags=%u args=%zu", S(queue), S(tag), flags,
         args.size);
}

bool broker_queue_unbind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                               struct bytes key, struct bytes args, broker_done_fn done, void *ctx)
{
    if (rig.ahead) {
        call(ch, done, ctx, "queue_unbind_ahead '%.*s' '%.*s' '%.*s' args=%zu", S(queue),
             S(exchange), S(key), args.size);
    }
    return rig.ahead;
}

bool broker_queue_delete_ahead(struct broker_channel *ch, struct bytes queue, uint32_t flags,
                               broker_done_fn done, void *ctx)
{
    if (rig.ahead) {
        call(ch, done, ctx, "queue_delete_ahead '%.*s' flags=%u", S(queue), flags);
    }
    return rig.ahead;
}

bool broker_consume_ahead(struct broker_channel *ch, struct bytes queue, struct bytes tag,
                          uint32_t flags, struct bytes args, broker_done_fn done, void *ctx)
{
    if (rig.ahead) {
        call(ch, done, ctx, "consume_ahead '%.*s' '%.*s' flags=%u args=%zu", S(queue), S(tag),
             flags, args.size);
    }
    return rig.ahead;
}

bool broker_cancel_ahead(struct broker_channel *ch, struct bytes tag, broker_done_fn done,
                         void *ctx)
{
    if (rig.ahead) {
        call(ch, done, ctx, "cancel_ahead '%.*s'", S(tag));
    }
    return rig.ahead;
}

bool broker_channel_leave(struct broker_channel *ch, bool session_ends, broker_done_fn done,
                          void *ctx)
{
    if (rig.leaves) {
        call(ch, done, ctx, "leave%s", session_ends ? " for good" : "");
    }
    return rig.leaves;
}

void broker_cancel(struct broker_channel *ch, struct bytes tag, broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "cancel '%.*s'", S(tag));
}

void broker_get(struct broker_channel *ch, struct bytes queue, bool no_ack,
                void (*on_get)(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                               uint32_t delivery_count, const struct message *message,
                               uint64_t left),
                broker_done_fn done, void *ctx)
{
    call(ch, done, ctx, "get '%.*s'%s", S(queue), no_ack ? " no_ack" : "");
    vec_last(&rig.waiting).on_get = on_get;
    vec_last(&rig.waiting).get = true;
}

void broker_settle(struct broker_channel *ch, const struct broker_delivery *first, uint64_t count,
                   enum queue_outcome outcome)
{
    static const char *const names[] = {"?", "ack", "requeue", "reject", "release"};
    cr_assert(ch->used);
    strbuf_printf(&rig.calls, "%u settle %s %u.%u.%llu+%llu\n", ch->number, names[outcome],
                  first->queue, first->consumer, (unsigned long long)first->ordinal,
                  (unsigned long long)count);
}

void broker_qos(struct broker_channel *ch, uint32_t prefetch, bool global)
{
    strbuf_printf(&rig.calls, "%u qos %u%s\n", ch->number, prefetch, global ? " global" : "");
}

void broker_channel_hold(struct broker_channel *ch, bool hold)
{
    cr_assert(ch->used);
    ch->held = hold;
    strbuf_printf(&rig.calls, "%u hold %s\n", ch->number, hold ? "on" : "off");
}

uint32_t broker_alarms(const struct broker *broker)
{
    (void)broker;
    return rig.alarms;
}

void broker_channel_alarm(struct broker_channel *ch)
{
    cr_assert(ch->used && rig.alarms != 0);
    if (rig.alarms_hold) {
        ch->sink->on_alarm(ch->ctx, "low on memory");
        ch->sink->on_blocked(ch->ctx, true);
    }
}

uint64_t broker_publish_room(const struct broker *broker)
{
    (void)broker;
    return rig.room;
}
