/*
 * What: the invariants of a machine, each tested against a plain recomputation. Used after every
 * command in tests, and on what comes out of an untrusted snapshot. O(n log n).
 */
#include "queue_internal.h"

/* Recomputed: what all consumers and levels add up to. */
struct tally {
    const struct queue *queue;
    struct rangemap live;
    uint64_t ready, unacked, bytes_ready, bytes_unacked;
    uint32_t consumers;
    uint32_t exclusive;
    const char *fault;
};

#define CHECK(condition, text)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return (text);                                                                         \
        }                                                                                          \
    } while (0)

static const char *count_live(struct tally *t, uint64_t position, uint64_t count)
{
    struct rangemap_cursor cursor;
    CHECK(position > 0 && position + count <= t->queue->next_position, "position never given out");
    const struct range_run *next = rangemap_lower_bound(&t->live, position, &cursor);
    CHECK(next == NULL || next->first >= position + count, "I1: message in two places");
    const struct range_attr attr = {.value = position};
    rangemap_insert(&t->live, position, count, &attr);
    return NULL;
}

static const char *check_unacked(struct tally *t, const struct queue_consumer *consumer)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&consumer->unacked, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        CHECK(run->first > 0 && range_run_end(run) - 1 <= consumer->delivered,
              "ordinal never given out");
        CHECK(run->attr.d <= t->queue->config.priority_max, "unacked message without a level");
        CHECK(run->attr.b == 0, "unused attribute of an unacked message");
        const char *fault = count_live(t, run->attr.value, run->count);
        CHECK(fault == NULL, fault);
        t->bytes_unacked += run->count * run->attr.a;
    }
    t->unacked += rangemap_keys(&consumer->unacked);
    return NULL;
}

static const char *check_consumer(struct tally *t, const struct queue_consumer *consumer)
{
    const uint64_t unacked = rangemap_keys(&consumer->unacked);
    CHECK(consumer->in_ring == (queue__capacity(consumer) > 0), "in the ring, or not, wrongly");
    CHECK(consumer->attached == (consumer->group != NULL), "attached without a group");
    if (consumer->id == 0) {
        CHECK(!consumer->attached, "consumer 0 attached");
        CHECK(!consumer->no_ack && !consumer->exclusive && consumer->prefetch == 0 &&
                  consumer->priority == 0 && consumer->limit == 0 && consumer->name.size == 0 &&
                  consumer->args.size == 0,
              "consumer 0 with properties");
        CHECK(consumer->delivered > 0, "consumer 0 without a basic.get");
    } else {
        CHECK(consumer->attached || unacked > 0, "detached consumer without messages");
        CHECK(consumer->delivered <= consumer->limit, "I3: delivered over the credit limit");
        CHECK(consumer->prefetch == 0 || unacked <= consumer->prefetch, "I3: over the prefetch");
        CHECK(!consumer->client->suspended || unacked == 0, "suspended consumer with messages");
        CHECK(!consumer->no_ack || unacked == 0, "no_ack consumer with unacked messages");
    }
    if (consumer->attached) {
        CHECK(consumer->group->priority == consumer->priority, "in a group of other priority");
        t->consumers++;
        t->exclusive += consumer->exclusive ? 1 : 0;
    }
    return check_unacked(t, consumer);
}

static const char *check_reply(const struct queue_client *client)
{
    const struct queue_reply *reply = &client->reply;
    CHECK(reply->seq <= client->last_seq, "reply to an op that did not come yet");
    if (reply->ordinal != 0) {
        const struct queue_consumer *getter = queue__consumer_find(client, 0);
        CHECK(getter != NULL && reply->ordinal <= getter->delivered, "reply names no delivery");
    }
    return NULL;
}

static const char *check_client(struct tally *t, const struct queue_client *client)
{
    const struct queue *q = t->queue;
    const uint64_t boot = queue__client_boot(client->id);
    uint64_t held = 0;
    CHECK(client->last_seq > 0, "client without an op");
    CHECK(client->suspended == queue__boot_is_suspended(q, boot), "suspended, or not, wrongly");
    CHECK(rangemap_find(&q->gone, boot) == NULL, "client of a boot that is gone");
    CHECK(!queue__client_was_closed(q, client->id), "client that was closed");
    CHECK(q->sealed_by != client->id || !client->suspended, "sealed by a suspended client");
    for (size_t i = 0; i < client->consumers.count; i++) {
        const struct queue_consumer *consumer = client->consumers.items[i];
        CHECK(consumer->client == client, "consumer of another client");
        CHECK(i == 0 || client->consumers.items[i - 1]->id < consumer->id,
              "consumers out of order");
        const char *fault = check_consumer(t, consumer);
        CHECK(fault == NULL, fault);
        held += consumer->id == 0 ? 0 : rangemap_keys(&consumer->unacked);
    }
    CHECK(held == client->held, "held differs from the sum of unacked");
    return check_reply(client);
}

static const char *check_clients(struct tally *t)
{
    const struct queue *q = t->queue;
    for (size_t i = 0; i < q->clients.count; i++) {
        CHECK(i == 0 || q->clients.items[i - 1]->id < q->clients.items[i]->id,
              "clients out of order");
        const char *fault = check_client(t, q->clients.items[i]);
        CHECK(fault == NULL, fault);
    }
    for (size_t i = 0; i < q->suspended.count; i++) {
        const uint64_t boot = q->suspended.items[i];
        uint64_t client;
        CHECK(i == 0 || q->suspended.items[i - 1] < boot, "suspended boots out of order");
        CHECK(queue_clients(q, boot, &client, 1) > 0, "suspended boot without clients");
    }
    CHECK(q->sealed_by == 0 || queue__client_find(q, q->sealed_by) != NULL, "sealed by nobody");
    const struct range_run *last_gone = rangemap_last(&q->gone);
    CHECK(last_gone == NULL || range_run_end(last_gone) - 1 <= UINT32_MAX, "no such boot");
    CHECK(q->consumers == t->consumers, "number of consumers");
    CHECK(t->exclusive == 0 || t->consumers == 1, "exclusive consumer is not alone");
    CHECK(q->exclusive == (t->exclusive > 0), "exclusive, or not, wrongly");
    return NULL;
}

static const char *check_groups(const struct queue *q)
{
    uint32_t members = 0;
    for (size_t i = 0; i < q->groups.count; i++) {
        const struct queue_group *group = q->groups.items[i];
        uint32_t eligible = 0;
        CHECK(i == 0 || q->groups.items[i - 1]->priority > group->priority, "groups out of order");
        CHECK(group->members > 0, "group without members");
        members += group->members;
        LIST_FOREACH(link, &group->ring) {
            const struct queue_consumer *consumer =
                WR_CONTAINER_OF_CONST(link, struct queue_consumer, link);
            CHECK(consumer->in_ring && consumer->group == group, "stranger in the ring");
            eligible++;
        }
        CHECK(eligible == group->eligible, "length of a ring");
        CHECK(eligible == 0 || q->ready == 0 || queue_sealed(q), "message held back");
    }
    CHECK(members == q->consumers, "consumers without a group");
    return NULL;
}

static const char *check_levels(struct tally *t)
{
    const struct queue *q = t->queue;
    for (uint32_t level = 0; level < QUEUE_LEVELS_MAX; level++) {
        const bool used = (q->level_used[level / 64] >> (level % 64) & 1) != 0;
        const bool filled =
            level <= q->config.priority_max && !rangemap_is_empty(&q->levels[level]);
        CHECK(used == filled, "level in use, or not, wrongly");
        if (!filled) {
            continue;
        }
        struct rangemap_cursor cursor;
        const struct range_run *run = rangemap_lower_bound(&q->levels[level], 0, &cursor);
        for (; run != NULL; run = rangemap_next(&cursor)) {
            CHECK(run->attr.value == run->first, "I5: ready message in a wrong place");
            CHECK(run->attr.d == level && run->attr.b == 0, "I5: ready message in a wrong level");
            const char *fault = count_live(t, run->first, run->count);
            CHECK(fault == NULL, fault);
            t->bytes_ready += run->count * run->attr.a;
        }
        t->ready += rangemap_keys(&q->levels[level]);
    }
    return NULL;
}

/* Both hold positions with attributes 0, so equal content means equal runs. */
static const char *check_live(const struct tally *t)
{
    struct rangemap_cursor a;
    struct rangemap_cursor b;
    const struct range_run *left = rangemap_lower_bound(&t->live, 0, &a);
    const struct range_run *right = rangemap_lower_bound(&t->queue->live, 0, &b);
    while (left != NULL && right != NULL) {
        CHECK(left->first == right->first && left->count == right->count, "I1: live positions");
        left = rangemap_next(&a);
        right = rangemap_next(&b);
    }
    CHECK(left == NULL && right == NULL, "I1: live positions");
    return NULL;
}

static const char *check_all(struct tally *t)
{
    const struct queue *q = t->queue;
    const char *fault = check_clients(t);
    CHECK(fault == NULL, fault);
    fault = check_levels(t);
    CHECK(fault == NULL, fault);
    fault = check_groups(q);
    CHECK(fault == NULL, fault);
    fault = check_live(t);
    CHECK(fault == NULL, fault);
    CHECK(q->ready == t->ready && q->unacked == t->unacked, "I1: ready or unacked");
    CHECK(q->bytes_ready == t->bytes_ready, "bytes of ready messages");
    CHECK(q->bytes_unacked == t->bytes_unacked, "bytes of unacked messages");
    CHECK(q->ready + q->unacked < q->next_position, "I1: more messages than were enqueued");
    CHECK(!q->unused || (q->config.auto_delete && q->consumers == 0), "auto-delete due wrongly");
    return NULL;
}

const char *queue__fault(const struct queue *q)
{
    struct tally t = {.queue = q};
    rangemap_init(&t.live);
    const char *fault = check_all(&t);
    rangemap_deinit(&t.live);
    return fault;
}

void queue_check(const struct queue *queue)
{
    const char *fault = queue__fault(queue);
    if (fault != NULL) {
        wr_panic("queue_check: %s", fault);
    }
    rangemap_check(&queue->live);
    rangemap_check(&queue->gone);
    for (uint32_t level = 0; level <= queue->config.priority_max; level++) {
        rangemap_check(&queue->levels[level]);
    }
}
