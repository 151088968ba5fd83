/* The fakes that the broker of the rig stands on: env, crypto, host and queue clients (see rig.h).
 */
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "rig.h"

/* --- env and crypto --------------------------------------------------------------------------- */

static uint64_t mono_ns(struct env *env)
{
    (void)env;
    return rig.now_ms * 1000000;
}

static uint64_t wall_ms(struct env *env)
{
    (void)env;
    return 1700000000000;
}

static void random_secret(struct env *env, void *out, size_t size)
{
    static uint8_t counter;
    (void)env;
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)out)[i] = counter++;
    }
}

const struct env_ops rig_env_ops = {
    .mono_ns = mono_ns, .wall_ms = wall_ms, .random_secret = random_secret};

void crypto_sha256(const void *data, size_t size, uint8_t ret_digest[32])
{
    (void)SHA256(data, size, ret_digest);
}

void crypto_sha512(const void *data, size_t size, uint8_t ret_digest[64])
{
    (void)SHA512(data, size, ret_digest);
}

bool crypto_md5(const void *data, size_t size, uint8_t ret_digest[16])
{
    unsigned int ret_size = 0;
    return EVP_Digest(data, size, ret_digest, &ret_size, EVP_md5(), NULL) == 1;
}

bool crypto_equal(const void *a, const void *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

/* --- the host --------------------------------------------------------------------------------- */

void host_catalog_propose(struct host *host, const struct catalog_command *command,
                          uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    static const char *const names[] = {[CATALOG_DECLARE_EXCHANGE] = "declare_exchange",
                                        [CATALOG_DELETE_EXCHANGE] = "delete_exchange",
                                        [CATALOG_DECLARE_QUEUE] = "declare_queue",
                                        [CATALOG_DELETE_QUEUE] = "delete_queue",
                                        [CATALOG_BIND] = "bind",
                                        [CATALOG_UNBIND] = "unbind",
                                        [CATALOG_PUT_VHOST] = "put_vhost",
                                        [CATALOG_DELETE_VHOST] = "delete_vhost",
                                        [CATALOG_PUT_USER] = "put_user",
                                        [CATALOG_DELETE_USER] = "delete_user",
                                        [CATALOG_SET_PERMISSION] = "set_permission",
                                        [CATALOG_CLEAR_PERMISSION] = "clear_permission",
                                        [CATALOG_PUT_POLICY] = "put_policy",
                                        [CATALOG_DELETE_POLICY] = "delete_policy",
                                        [CATALOG_PUT_PARAMETER] = "put_parameter",
                                        [CATALOG_DELETE_PARAMETER] = "delete_parameter",
                                        [CATALOG_SET_VHOST_LIMITS] = "set_vhost_limits",
                                        [CATALOG_SET_USER_LIMITS] = "set_user_limits",
                                        [CATALOG_SET_TOPIC_PERMISSION] = "set_topic_permission",
                                        [CATALOG_CLEAR_TOPIC_PERMISSION] = "clear_topic_permission",
                                        [CATALOG_CHANGE_VHOST] = "change_vhost",
                                        [CATALOG_PUT_SEAT] = "put_seat",
                                        [CATALOG_DROP_SEAT] = "drop_seat"};
    struct asked asked = {.command = buf_new(256), .done = done, .ctx = ctx};
    (void)host;
    cr_assert_gt(timeout_ms, 0);
    cr_assert(catalog_command_valid(command));
    catalog_command_encode(&asked.command, command);
    vec_push(&rig.asked, asked);
    strbuf_printf(&rig.calls, "propose %s", names[command->kind]);
    if (command->kind == CATALOG_DECLARE_QUEUE) {
        const struct catalog_queue_spec *s = &command->u.queue;
        strbuf_printf(&rig.calls, " '%.*s' type=%u %s%s%s%s", FMT(s->name), s->type,
                      s->run == CATALOG_RUN_LOCAL ? "local" : "group", s->durable ? " durable" : "",
                      s->exclusive ? " exclusive" : "", s->auto_delete ? " auto_delete" : "");
        if (s->run == CATALOG_RUN_GROUP) {
            strbuf_printf(&rig.calls, " members=%u target=%u", s->group.member_count,
                          s->group.target_size);
        }
    }
    strbuf_add_char(&rig.calls, '\n');
}

void host_catalog_barrier(struct host *host, uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    (void)host;
    cr_assert_gt(timeout_ms, 0);
    vec_push(&rig.asked, ((struct asked){.done = done, .ctx = ctx}));
    strbuf_printf(&rig.calls, "barrier\n");
}

void host_queue_report(struct host *host, uint64_t queue_id, uint32_t what, uint32_t timeout_ms,
                       queue_report_fn done, void *ctx)
{
    (void)host;
    (void)what;
    cr_assert_gt(timeout_ms, 0);
    vec_push(&rig.reported, ((struct reported){queue_id, done, ctx}));
    strbuf_printf(&rig.calls, "report\n");
}

bool host_send_letter(struct host *host, struct uid node, uint32_t shard,
                      const struct host_letter *owned_letter)
{
    (void)host;
    if (rig.no_leader) { /* nobody is in reach */
        buf_unref(owned_letter->raw.buf);
        return false;
    }
    vec_push(&rig.letters, ((struct sent_letter){node, shard, *owned_letter}));
    strbuf_printf(&rig.calls, "letter %llu to %llu.%u\n",
                  (unsigned long long)owned_letter->numbers[0], (unsigned long long)node.lo, shard);
    return true;
}

void rig_post(void)
{
    static const struct uid from = {1, 1};
    while (rig.letters.count > 0) {
        struct sent_letter sent = rig.letters.items[0];
        vec_remove(&rig.letters, 0);
        broker_on_letter(rig.broker, from, 0, &sent.letter);
        slice_unref(&sent.letter.raw);
    }
}

/* --- queue clients ---------------------------------------------------------------------------- */

struct queue_client *queue_client_open(struct host *host, const struct catalog_queue *queue,
                                       const struct queue_client_sink *sink, void *ctx)
{
    struct queue_client *client = wr_calloc(1, sizeof *client);
    (void)host;
    client->number = (uint32_t)rig.clients.count + 1;
    client->queue_id = queue->id;
    memcpy(client->name, queue->spec.name.data, queue->spec.name.size);
    client->sink = sink;
    client->ctx = ctx;
    client->next_seq = 1;
    client->open = true;
    vec_push(&rig.clients, client);
    strbuf_printf(&rig.calls, "%s open\n", client->name);
    return client;
}

uint64_t queue_client_id(const struct queue_client *client)
{
    return client->number;
}

bool queue_client_is_near(const struct queue_client *client)
{
    (void)client;
    return rig.near;
}

void queue_client_close(struct queue_client *client)
{
    cr_assert(client->open);
    client->open = false;
    strbuf_printf(&rig.calls, "%s close\n", client->name);
}

static uint64_t op(struct queue_client *client, const char *fmt, ...) WR_PRINTF(2, 3);
static uint64_t op(struct queue_client *client, const char *fmt, ...)
{
    va_list args;
    cr_assert(client->open);
    strbuf_printf(&rig.calls, "%s ", client->name);
    va_start(args, fmt);
    strbuf_vprintf(&rig.calls, fmt, args);
    va_end(args);
    strbuf_add_char(&rig.calls, '\n');
    return client->next_seq++;
}

static uint64_t asks(struct queue_client *client, uint64_t seq)
{
    client->asked_seq = seq;
    return seq;
}

uint64_t queue_client_publish(struct queue_client *client, struct message message)
{
    struct bytes body = message_body(&message);
    struct bytes reply_to;
    cr_assert_eq(message_check(bytes_from_slice(&message.record)), 0);
    if (wire_props_get(message_props(&message), WIRE_PROP_REPLY_TO, &reply_to)) {
        (void)snprintf(rig.reply_to, sizeof rig.reply_to, "%.*s", FMT(reply_to));
    }
    return op(client, "publish '%.*s' props=%zu", FMT(body), message_props(&message).size);
}

uint64_t queue_client_publish_more(struct queue_client *client, struct message message,
                                   const struct queue_publish_more *more)
{
    struct bytes body = message_body(&message);
    struct wire_value v = {0};
    cr_assert_eq(message_check(bytes_from_slice(&message.record)), 0);
    (void)wire_table_find(wire_props_headers(message_props(&message)), "x-delay", &v);
    return op(client, "publish '%.*s' publisher='%.*s' %llu id='%.*s' delay=%llu x-delay=%lld",
              FMT(body), FMT(more->publisher), (unsigned long long)more->publish_seq, FMT(more->id),
              (unsigned long long)more->delay_ms, (long long)v.integer);
}

uint64_t queue_client_take(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t flags, uint8_t places)
{
    return asks(client, op(client, "take %llu+%llu flags=%u places=%u",
                           (unsigned long long)position, (unsigned long long)count, flags, places));
}

uint64_t queue_client_peek(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t places)
{
    return asks(client, op(client, "peek %llu+%llu places=%u", (unsigned long long)position,
                           (unsigned long long)count, places));
}

uint64_t queue_client_touch(struct queue_client *client)
{
    return op(client, "touch");
}

uint64_t queue_client_attach(struct queue_client *client, uint32_t consumer, uint8_t flags,
                             uint32_t prefetch, uint64_t credit_limit, int32_t priority,
                             struct bytes tag, struct bytes args)
{
    return asks(client,
                op(client, "attach %u '%.*s' flags=%u prefetch=%u credit=%llu priority=%d args=%zu",
                   consumer, (int)(tag.size < 9 ? tag.size : 9), (const char *)tag.data, flags,
                   prefetch, (unsigned long long)credit_limit, priority, args.size));
}

uint64_t queue_client_detach(struct queue_client *client, uint32_t consumer, uint8_t flags)
{
    return asks(client, op(client, "detach %u flags=%u", consumer, flags));
}

uint64_t host_client_room(const struct host *host)
{
    (void)host;
    return UINT64_MAX;
}

uint64_t queue_client_credit(struct queue_client *client, uint32_t consumer, uint64_t credit_limit)
{
    return op(client, "credit %u %llu", consumer, (unsigned long long)credit_limit);
}

uint64_t queue_client_settle(struct queue_client *client, uint32_t consumer, uint64_t first_ordinal,
                             uint64_t count, enum queue_outcome outcome)
{
    static const char *const names[] = {"?", "ack", "requeue", "reject", "release"};
    return op(client, "settle %s %u.%llu+%llu", names[outcome], consumer,
              (unsigned long long)first_ordinal, (unsigned long long)count);
}

uint64_t queue_client_get(struct queue_client *client, bool no_ack)
{
    return asks(client, op(client, "get%s", no_ack ? " no_ack" : ""));
}

uint64_t queue_client_purge(struct queue_client *client)
{
    return asks(client, op(client, "purge"));
}

uint64_t queue_client_limit(struct queue_client *client, uint32_t unacked_max)
{
    return op(client, "limit %u", unacked_max);
}

uint64_t queue_client_seal(struct queue_client *client, uint8_t flags)
{
    return asks(client, op(client, "seal flags=%u", flags));
}
