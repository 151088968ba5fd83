/* See users.h. */
#include "users.h"

uint32_t message_number(const struct message *m)
{
    struct bytes body = message_body(m);
    cr_assert_geq(body.size, 4);
    uint32_t number;
    memcpy(&number, body.data, 4);
    return number;
}

static void on_applied(void *ctx, uint64_t seq)
{
    struct user *u = ctx;
    cr_assert_gt(seq, u->applied);
    for (uint64_t s = u->applied + 1; s <= seq; s++) {
        uint32_t number = u->number_of_seq[s];
        if (number != 0 && !u->traffic->nacked[number]) {
            cr_assert_not(u->traffic->confirmed[number]);
            u->traffic->confirmed[number] = true;
            u->traffic->confirmed_count++;
        }
    }
    u->applied = seq;
    while (u->acks_first < u->acks.count && u->acks.items[u->acks_first].seq <= seq) {
        uint32_t number = u->acks.items[u->acks_first++].number;
        if (!u->traffic->settled[number]) {
            u->traffic->settled[number] = true;
            u->traffic->settled_count++;
        }
    }
}

static void on_nacked(void *ctx, uint64_t seq)
{
    struct user *u = ctx;
    const uint32_t number = u->number_of_seq[seq];
    if (u->traffic->damaged) {
        return;
    }
    cr_assert(number != 0 && !u->traffic->nacked[number] && !u->traffic->confirmed[number],
              "message %u is refused, and was told before", number);
    cr_assert_gt(seq, u->applied);
    u->traffic->nacked[number] = true;
    u->traffic->nacked_count++;
}

static void on_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    struct user *u = ctx;
    u->status = status;
    u->reply_seq = seq;
    u->value = value;
    u->value2 = value2;
    u->replies++;
}

static void on_deliver(void *ctx, uint32_t consumer, uint64_t first, uint32_t delivery_count,
                       uint8_t flags, const struct message *messages, uint32_t count)
{
    struct user *u = ctx;
    struct traffic *t = u->traffic;
    if (t->damaged) {
        (void)queue_client_settle(u->client, consumer, first, count, QUEUE_ACK);
        return;
    }
    if (consumer != 0) {
        cr_assert_gt(first, u->last_ordinal, "ordinal %llu after %llu", (unsigned long long)first,
                     (unsigned long long)u->last_ordinal);
        u->last_ordinal = first + count - 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = message_number(&messages[i]);
        cr_assert(number >= 1 && number <= t->published);
        cr_assert_not(t->settled[number], "message %u was settled", number);
        if (t->delivered[number] == 0) {
            t->seen_count++;
        } else {
            cr_assert(delivery_count > 0 || (!u->order && !t->marks),
                      "message %u again, not redelivered", number);
        }
        if (u->order) {
            cr_assert_eq(number, u->next_number + 1);
            u->next_number = number;
        }
        t->delivered[number]++;
        u->got++;
        if (flags & QUEUE_NO_ACK) {
            continue;
        }
        if (u->ack) {
            uint64_t seq = queue_client_settle(u->client, consumer, first + i, 1, QUEUE_ACK);
            vec_add(&u->acks);
            vec_last(&u->acks).seq = seq;
            vec_last(&u->acks).number = number;
        } else {
            vec_add(&u->unacked);
            vec_last(&u->unacked).consumer = consumer;
            vec_last(&u->unacked).ordinal = first + i;
            vec_last(&u->unacked).number = number;
        }
    }
}

static void on_dead(void *ctx, uint32_t consumer, uint64_t first, enum queue_death reason,
                    uint64_t died_ms, const struct message *messages, uint32_t count)
{
    struct user *u = ctx;
    if (u->traffic->damaged) {
        (void)queue_client_settle(u->client, consumer, first, count, QUEUE_ACK);
        return;
    }
    cr_assert_eq(consumer, u->consumer);
    cr_assert_gt(first, u->last_ordinal);
    u->last_ordinal = first + count - 1;
    for (uint32_t i = 0; i < count; i++) {
        vec_add(&u->dead);
        vec_last(&u->dead).number = message_number(&messages[i]);
        vec_last(&u->dead).ordinal = first + i;
        vec_last(&u->dead).died_ms = died_ms;
        vec_last(&u->dead).at_ms = user_now_ms(u);
        vec_last(&u->dead).reason = reason;
    }
    if (u->ack) {
        (void)queue_client_settle(u->client, consumer, first, count, QUEUE_ACK);
    }
}

static void on_peek(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                    uint32_t delivery_count, const struct message *messages, uint32_t count)
{
    struct user *u = ctx;
    (void)delivery_count;
    for (uint32_t i = 0; i < count && !u->traffic->damaged; i++) {
        vec_add(&u->peeked);
        vec_last(&u->peeked).number = message_number(&messages[i]);
        vec_last(&u->peeked).position = position + i;
        vec_last(&u->peeked).at_ms = at_ms;
        vec_last(&u->peeked).place = place;
    }
}

uint64_t user_now_ms(const struct user *u)
{
    return u->cluster->nodes[u->node].shards[u->shard].env.wall_ms;
}

static void on_cancel(void *ctx, uint32_t consumer)
{
    struct user *u = ctx;
    (void)consumer;
    u->cancelled = true;
}

static void on_gone(void *ctx, bool lost)
{
    struct user *u = ctx;
    u->gone = true;
    u->lost = lost;
}

static void on_blocked(void *ctx, bool blocked)
{
    struct user *u = ctx;
    u->blocked = blocked;
}

static void on_moved(void *ctx)
{
    struct user *u = ctx;
    u->moved++;
}

static const struct queue_client_sink sink = {.on_applied = on_applied,
                                              .on_nacked = on_nacked,
                                              .on_reply = on_reply,
                                              .on_deliver = on_deliver,
                                              .on_cancel = on_cancel,
                                              .on_gone = on_gone,
                                              .on_blocked = on_blocked,
                                              .on_dead = on_dead,
                                              .on_peek = on_peek,
                                              .on_moved = on_moved};

void user_open(struct user *u, struct test_cluster *c, uint32_t node, uint32_t shard,
               uint64_t queue, struct traffic *t)
{
    *u = (struct user){
        .cluster = c, .node = node, .shard = shard, .traffic = t, .queue = queue, .ack = true};
    u->client = queue_client_open(cluster_host(c, node, shard), cluster_queue(c, queue), &sink, u);
}

void user_close(struct user *u)
{
    if (u->client != NULL) {
        (void)cluster_host(u->cluster, u->node, u->shard);
        queue_client_close(u->client);
        u->client = NULL;
    }
    vec_deinit(&u->acks);
    vec_deinit(&u->unacked);
    vec_deinit(&u->dead);
    vec_deinit(&u->peeked);
}

void user_publish(struct user *u, uint32_t count, uint32_t body_size)
{
    (void)cluster_host(u->cluster, u->node, u->shard);
    const uint32_t same = u->same_priority == 0 ? 1 : u->same_priority;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t stamped[11] = {0x10, 0x40, 2}; /* delivery mode, timestamp */
        bytes_store_be32(stamped + 7, u->traffic->published + 1);
        const struct message_parts parts = {
            .exchange = BYTES_LITERAL(""),
            .key = BYTES_LITERAL("q"),
            .props =
                u->stamped ? bytes_make(stamped, sizeof stamped) : BYTES_LITERAL("\x10\x00\x02"),
            .ttl_ms = u->ttl_ms > 0 ? u->ttl_ms : MESSAGE_TTL_NONE,
            .priority =
                (uint8_t)(u->priorities == 0 ? 0
                                             : (u->traffic->published + 1) / same % u->priorities)};
        uint32_t number = ++u->traffic->published;
        cr_assert_lt(number, MESSAGES_MAX);
        struct buf *b = buf_new(message_record_size(&parts, body_size));
        uint8_t *body = message_write(b->data, &parts, body_size);
        memset(body, (int)number, body_size);
        memcpy(body, &number, 4);
        b->size = (uint32_t)message_record_size(&parts, body_size);
        const struct message message = {{b, 0, b->size}};
        struct queue_publish_more more = u->more;
        more.publish_seq = more.publisher.size > 0 ? ++u->more.publish_seq : 0;
        const bool plain = more.publisher.size == 0 && more.id.size == 0 && more.delay_ms == 0;
        uint64_t seq = plain ? queue_client_publish(u->client, message)
                             : queue_client_publish_more(u->client, message, &more);
        buf_unref(b);
        u->seq_of[number] = seq;
        u->number_of_seq[seq] = number;
    }
}

void user_consume(struct user *u, uint32_t consumer, uint8_t flags, uint32_t prefetch,
                  uint64_t credit)
{
    (void)cluster_host(u->cluster, u->node, u->shard);
    u->consumer = consumer;
    queue_client_attach(u->client, consumer, flags, prefetch, credit, 0, BYTES_LITERAL("tag"),
                        BYTES_NONE);
}

void user_ack_all(struct user *u)
{
    (void)cluster_host(u->cluster, u->node, u->shard);
    for (size_t i = 0; i < u->unacked.count; i++) {
        uint64_t seq = queue_client_settle(u->client, u->unacked.items[i].consumer,
                                           u->unacked.items[i].ordinal, 1, QUEUE_ACK);
        vec_add(&u->acks);
        vec_last(&u->acks).seq = seq;
        vec_last(&u->acks).number = u->unacked.items[i].number;
    }
    vec_clear(&u->unacked);
}

bool all_confirmed(void *user)
{
    struct user *u = user;
    return u->traffic->confirmed_count + u->traffic->nacked_count == u->traffic->published;
}

bool all_seen(void *traffic)
{
    struct traffic *t = traffic;
    return t->seen_count == t->published;
}

bool all_settled(void *traffic)
{
    struct traffic *t = traffic;
    return t->settled_count == t->published;
}

bool replied(void *user)
{
    struct user *u = user;
    return u->replies > 0;
}
