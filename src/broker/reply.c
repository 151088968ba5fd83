/*
 * What: direct reply-to: the pseudo-queue amq.rabbitmq.reply-to, the names that stand for it in
 * messages, and the way of a reply to the channel that asked.
 *
 * Happy path: consuming from the pseudo-queue makes a reply consumer with an address (boot, shard,
 * id, secret); a request's reply-to becomes that address as text; a reply published to it goes as a
 * letter to the broker of that shard, which knows the consumer by id, compares the secret and
 * delivers. Failure modes: fire and forget: whoever is gone, and whatever is garbled or forged, is
 * dropped without a word; a channel whose socket is slow keeps REPLY_KEPT_MAX and drops the rest.
 *
 * Invariants: I1 broker->reply_consumers has exactly those of the shard's open channels. I2 a
 * request is in broker->probes exactly while its answer is waited for. Ownership: the channel owns
 * its reply consumer, that references of the messages kept. Threads: the shard's.
 * Spec: docs/broker.md, "Direct reply-to".
 */
#include "broker_internal.h"

#define REPLY_PREFIX   REPLY_QUEUE "."
#define PLACE_SIZE     15u /* boot, shard, id; a zero */
#define PLACE_TEXT     20u
#define SECRET_SIZE    18u /* the secret; two zeros */
#define SECRET_TEXT    24u
#define REPLY_PROBE_MS 5000u

static_assert(sizeof REPLY_PREFIX + PLACE_TEXT + SECRET_TEXT == REPLY_NAME_SIZE,
              "the length of a name");

struct reply_consumer {
    struct broker_channel *channel;
    struct reply_address address;
    uint8_t tag_size;
    uint8_t tag[255];
    VEC(struct message) kept; /* while the channel is held */
    uint64_t kept_bytes;
    bool dropped; /* some, since it was held */
};

/* The first of a letter's numbers. Frozen: nodes of different versions. */
enum letter_kind {
    LETTER_REPLY = 1,  /* id, secret 2; raw: the message */
    LETTER_PROBE = 2,  /* id, secret 2, number of the question */
    LETTER_PROBED = 3, /* number of the question, is it there? */
};

/* --- names ------------------------------------------------------------------------------------ */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

bool reply_is_queue(struct bytes name)
{
    return bytes_starts_with(name, bytes_from_cstr(REPLY_QUEUE));
}

bool reply_is_name(struct bytes key)
{
    return bytes_starts_with(key, bytes_from_cstr(REPLY_PREFIX));
}

/* size: a multiple of 3. */
static void encode(const uint8_t *raw, size_t size, uint8_t *to)
{
    for (size_t i = 0; i < size; i += 3, to += 4) {
        const uint32_t bits = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (unsigned k = 0; k < 4; k++) {
            to[k] = (uint8_t)digits[bits >> (18 - 6 * k) & 63];
        }
    }
}

static bool decode(const uint8_t *from, size_t size, uint8_t *raw)
{
    for (size_t i = 0; i < size; i += 3, from += 4) {
        uint32_t bits = 0;
        for (unsigned k = 0; k < 4; k++) {
            const char *digit = from[k] == 0 ? NULL : strchr(digits, from[k]);
            if (digit == NULL) {
                return false;
            }
            bits = bits << 6 | (uint32_t)(digit - digits);
        }
        raw[i] = (uint8_t)(bits >> 16);
        raw[i + 1] = (uint8_t)(bits >> 8);
        raw[i + 2] = (uint8_t)bits;
    }
    return true;
}

/* Two parts in base64, the second one padded: some clients know RabbitMQ's names by that. */
struct bytes reply_name(const struct broker_channel *ch, uint8_t out[REPLY_NAME_SIZE])
{
    const struct reply_address *a = &ch->reply->address;
    uint8_t place[PLACE_SIZE] = {0};
    uint8_t secret[SECRET_SIZE] = {0};
    bytes_store_be32(place, a->boot);
    bytes_store_be16(place + 4, (uint16_t)a->shard);
    bytes_store_be64(place + 6, a->id);
    bytes_store_be64(secret, a->secret[0]);
    bytes_store_be64(secret + 8, a->secret[1]);
    uint8_t *to = out + sizeof REPLY_PREFIX - 1;
    memcpy(out, REPLY_PREFIX, sizeof REPLY_PREFIX - 1);
    encode(place, PLACE_SIZE, to);
    to += PLACE_TEXT;
    *to++ = '.';
    encode(secret, SECRET_SIZE, to);
    memset(to + SECRET_TEXT - 2, '=', 2);
    return bytes_make(out, REPLY_NAME_SIZE);
}

static bool parse(struct bytes name, struct reply_address *ret_address)
{
    uint8_t place[PLACE_SIZE];
    uint8_t secret[SECRET_SIZE];
    uint8_t text[SECRET_TEXT];
    if (name.size != REPLY_NAME_SIZE || !reply_is_name(name)) {
        return false;
    }
    const uint8_t *from = name.data + sizeof REPLY_PREFIX - 1;
    memcpy(text, from + PLACE_TEXT + 1, SECRET_TEXT);
    if (from[PLACE_TEXT] != '.' || memcmp(text + SECRET_TEXT - 2, "==", 2) != 0) {
        return false;
    }
    memset(text + SECRET_TEXT - 2, digits[0], 2);
    if (!decode(from, PLACE_SIZE, place) || !decode(text, SECRET_SIZE, secret) ||
        place[PLACE_SIZE - 1] != 0 || secret[16] != 0) { /* an address has one name */
        return false;
    }
    *ret_address = (struct reply_address){
        .boot = bytes_load_be32(place),
        .shard = bytes_load_be16(place + 4),
        .id = bytes_load_be64(place + 6),
        .secret = {bytes_load_be64(secret), bytes_load_be64(secret + 8)},
    };
    return true;
}

void reply_find(struct broker *broker, struct bytes key)
{
    struct reply_address address;
    if (!parse(key, &address)) {
        return;
    }
    for (size_t i = 0; i < broker->reply_to.count; i++) {
        const struct reply_address *other = &broker->reply_to.items[i];
        if (other->boot == address.boot && other->shard == address.shard &&
            other->id == address.id) {
            return;
        }
    }
    vec_push(&broker->reply_to, address);
}

/* --- the way there ---------------------------------------------------------------------------- */

static bool send_letter(struct broker *broker, const struct reply_address *to,
                        struct host_letter *owned_letter)
{
    struct uid node = broker->options.node_id;
    if (to->boot != broker->boot) {
        const struct catalog_node *there =
            to->boot == 0 ? NULL : catalog_node_by_boot(broker->view, to->boot);
        if (there == NULL) {
            slice_unref(&owned_letter->raw);
            return false;
        }
        node = there->info.id;
    }
    owned_letter->numbers[1] = to->id;
    owned_letter->numbers[2] = to->secret[0];
    owned_letter->numbers[3] = to->secret[1];
    return host_send_letter(broker->host, node, to->shard, owned_letter);
}

void reply_send(struct broker *broker, const struct reply_address *to, struct message message)
{
    struct host_letter letter = {.numbers = {LETTER_REPLY}, .raw = message.record};
    message_ref(message);
    (void)send_letter(broker, to, &letter);
}

/* --- consumers -------------------------------------------------------------------------------- */

void reply_consume(struct request *r)
{
    struct broker_channel *ch = r->channel;
    struct broker *broker = ch->broker;
    if ((r->flags & BROKER_NO_ACK) == 0) {
        request_fail(r, 406, false, "reply consumer cannot acknowledge");
        return;
    }
    if (ch->reply != NULL) {
        request_fail(r, 406, false, "reply consumer already set");
        return;
    }
    struct reply_consumer *c = wr_calloc(1, sizeof *c);
    c->channel = ch;
    c->address.boot = broker->boot;
    c->address.shard = broker->options.shard;
    c->address.id = ++broker->next_reply;
    broker->env->ops->random_secret(broker->env, c->address.secret, sizeof c->address.secret);
    c->tag_size = (uint8_t)r->key.size;
    memcpy(c->tag, r->key.data, r->key.size);
    ch->reply = c;
    (void)umap_put(&broker->reply_consumers, c->address.id, c);
    r->name = r->key; /* the tag */
    request_defer_finish(r);
}

void reply_close(struct broker_channel *ch)
{
    struct reply_consumer *c = ch->reply;
    if (c == NULL) {
        return;
    }
    ch->reply = NULL;
    (void)umap_remove(&ch->broker->reply_consumers, c->address.id);
    for (size_t i = 0; i < c->kept.count; i++) {
        message_unref(c->kept.items[i]);
    }
    vec_deinit(&c->kept);
    wr_free(c);
}

bool reply_cancel(struct broker_channel *ch, struct bytes tag)
{
    const struct reply_consumer *c = ch->reply;
    if (c == NULL || !bytes_eq(tag, bytes_make(c->tag, c->tag_size))) {
        return false;
    }
    reply_close(ch);
    return true;
}

static void deliver(struct reply_consumer *c, const struct message *message)
{
    struct broker_channel *ch = c->channel;
    const struct broker_delivery none = {0};
    ch->delivered++;
    ch->sink->on_deliver(ch->ctx, bytes_make(c->tag, c->tag_size), &none, false, 0, true, message);
}

void reply_resume(struct broker_channel *ch)
{
    struct reply_consumer *c = ch->reply;
    if (c == NULL || c->kept.count == 0) {
        return;
    }
    for (size_t i = 0; i < c->kept.count; i++) {
        deliver(c, &c->kept.items[i]);
        message_unref(c->kept.items[i]);
    }
    vec_deinit(&c->kept);
    c->kept_bytes = 0;
    c->dropped = false;
}

static void keep(struct reply_consumer *c, struct message message)
{
    struct broker_channel *ch = c->channel;
    uint64_t cost = message.record.size + sizeof message;
    if (c->kept_bytes + cost <= REPLY_KEPT_MAX) {
        vec_push(&c->kept, broker_keep_message(message));
        c->kept_bytes += cost;
    } else if (!c->dropped) {
        c->dropped = true;
        wr_log(ch->broker->logger, LOG_LEVEL_WARNING, "channel",
               "replies to %s (%u) are dropped: its client does not read what it is sent",
               ch->session->name, ch->number);
    }
}

/* --- letters ---------------------------------------------------------------------------------- */

static struct reply_consumer *find(struct broker *broker, const uint64_t *numbers)
{
    struct reply_consumer *c = umap_get(&broker->reply_consumers, numbers[1]);
    return c != NULL && crypto_equal(c->address.secret, &numbers[2], sizeof c->address.secret)
               ? c
               : NULL;
}

static void on_reply(struct broker *broker, const struct host_letter *letter)
{
    struct reply_consumer *c = find(broker, letter->numbers);
    if (c == NULL || message_check(bytes_from_slice(&letter->raw)) != 0) {
        return;
    }
    struct message message = {.record = letter->raw};
    if (c->channel->held) {
        keep(c, message);
    } else {
        deliver(c, &message);
    }
}

/* The question is answered, or will not be. */
static void probed(struct request *r, bool exists)
{
    (void)umap_remove(&r->broker->probes, r->queue_id);
    if (r->channel == NULL) {
        request_finish(r);
    } else if (exists) {
        r->consumers = 1;
        request_finish(r);
    } else {
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name),
                     r->channel->session->vhost);
    }
}

void broker_on_letter(struct broker *broker, struct uid node, uint32_t shard,
                      const struct host_letter *letter)
{
    const uint64_t *n = letter->numbers;
    if (n[0] == LETTER_REPLY) {
        on_reply(broker, letter);
    } else if (n[0] == LETTER_PROBE) {
        const struct host_letter answer = {
            .numbers = {LETTER_PROBED, n[4], find(broker, n) != NULL}};
        (void)host_send_letter(broker->host, node, shard, &answer);
    } else if (n[0] == LETTER_PROBED) {
        struct request *r = umap_get(&broker->probes, n[1]);
        if (r != NULL) {
            timer_cancel(&broker->timers, &r->timeout);
            probed(r, n[2] != 0);
        }
    } /* else of a newer version */
}

/* --- is it there? ----------------------------------------------------------------------------- */

static void on_probe_timeout(struct timer *t)
{
    probed(WR_CONTAINER_OF(t, struct request, timeout), false);
}

/* queue.declare, whatever its flags: RabbitMQ takes it as passive. */
void reply_declare(struct request *r)
{
    struct broker *broker = r->broker;
    struct reply_address to;
    r->is_last = true;
    if (bytes_eq_cstr(r->name, REPLY_QUEUE)) {
        r->consumers = 1;
        request_defer_finish(r);
        return;
    }
    bool asked = parse(r->name, &to);
    if (asked) {
        struct host_letter letter = {.numbers = {LETTER_PROBE, 0, 0, 0, ++broker->next_probe}};
        asked = send_letter(broker, &to, &letter);
    }
    if (!asked) {
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name),
                     r->channel->session->vhost);
        return;
    }
    r->queue_id = broker->next_probe;
    (void)umap_put(&broker->probes, r->queue_id, r);
    timer_add(&broker->timers, &r->timeout, broker_now_ms(broker) + REPLY_PROBE_MS,
              on_probe_timeout);
}
