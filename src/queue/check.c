/*
 * What: the invariants of a machine, each tested against a plain recomputation. Used after every
 * command in tests, and on what comes out of an untrusted snapshot. O(n log n).
 */
#include "queue_internal.h"

/* Recomputed: what all consumers and levels add up to. */
struct tally {
    const struct queue *queue;
    struct rangemap live;
    uint64_t ready, unacked, bytes_ready, bytes_unacked, dead_out;
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

static bool is_dead_letter(const struct queue *q, const struct range_attr *attr)
{
    return attr->a == 0 && attr->d == 0 && attr->b <= q->clock_ms &&
           attr->c >= QUEUE_DIED_REJECTED && attr->c <= QUEUE_DIED_DELIVERY_LIMIT;
}

static const char *check_unacked(struct tally *t, const struct queue_consumer *consumer)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&consumer->unacked, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        CHECK(run->first > 0 && range_run_end(run) - 1 <= consumer->delivered,
              "ordinal never given out");
        CHECK(run->attr.d <= t->queue->config.priority_max, "unacked message without a level");
        CHECK(!consumer->dead || is_dead_letter(t->queue, &run->attr), "unacked dead letter");
        const char *fault = count_live(t, run->attr.value, run->count);
        CHECK(fault == NULL, fault);
        t->bytes_unacked += consumer->dead ? 0 : run->count * run->attr.a;
    }
    if (consumer->dead) {
        t->dead_out += rangemap_keys(&consumer->unacked);
    } else {
        t->unacked += rangemap_keys(&consumer->unacked);
    }
    return NULL;
}

static const char *check_consumer(struct tally *t, const struct queue_consumer *consumer)
{
    const uint64_t unacked = rangemap_keys(&consumer->unacked);
    CHECK(consumer->in_ring == (!consumer->dead && queue__capacity(consumer) > 0),
          "in the ring, or not, wrongly");
    CHECK((consumer->attached && !consumer->dead) == (consumer->group != NULL),
          "attached without a group");
    CHECK(consumer->attach < t->queue->next_attach, "attached with a number never given out");
    if (consumer->id == 0) {
        CHECK(!consumer->attached, "consumer 0 attached");
        CHECK(!consumer->no_ack && !consumer->settles && !consumer->exclusive &&
                  consumer->prefetch == 0 && consumer->priority == 0 && consumer->limit == 0 &&
                  consumer->name.size == 0 && consumer->args.size == 0 && consumer->attach == 0 &&
                  !consumer->dead,
              "consumer 0 with properties");
        CHECK(consumer->delivered > 0, "consumer 0 without a basic.get");
    } else {
        CHECK(consumer->attached || unacked > 0, "detached consumer without messages");
        CHECK(consumer->delivered <= consumer->limit, "I3: delivered over the credit limit");
        CHECK(consumer->no_ack || consumer->prefetch == 0 || unacked <= consumer->prefetch,
              "I3: over the prefetch");
        CHECK(!consumer->client->suspended || unacked == 0, "suspended consumer with messages");
        CHECK(!consumer->no_ack || consumer->settles || unacked == 0,
              "no_ack consumer with unacked messages");
        CHECK(!consumer->dead || (!consumer->no_ack && !consumer->exclusive),
              "dead-letter consumer with properties");
        CHECK(consumer->attach > 0, "consumer without a number");
    }
    if (consumer->attached && !consumer->dead) {
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
        CHECK(reply->taken > 0 && reply->taken <= getter->delivered - reply->ordinal + 1,
              "reply names no deliveries");
    } else {
        CHECK(reply->taken == 0, "reply names deliveries of nobody");
    }
    return NULL;
}

static const char *check_nacked(const struct queue_client *client)
{
    const struct range_run *first = rangemap_first(&client->nacked);
    const struct range_run *last = rangemap_last(&client->nacked);
    if (first != NULL) {
        CHECK(first->first > 0 && range_run_end(last) - 1 <= client->last_seq,
              "refused what did not come yet");
        CHECK(client->last_seq < QUEUE_NACKED_KEPT ||
                  first->first > client->last_seq - QUEUE_NACKED_KEPT,
              "remembers refusals for too long");
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
        held += queue__is_held(consumer) ? rangemap_keys(&consumer->unacked) : 0;
    }
    CHECK(held == client->held, "held differs from the sum of unacked");
    const char *fault = check_nacked(client);
    CHECK(fault == NULL, fault);
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

static const char *check_active(const struct queue *q)
{
    const struct queue_consumer *best = queue__best_consumer(q);
    const struct queue_consumer *active = q->active;
    CHECK(!q->active_stale, "active consumer not chosen");
    if (!q->config.single_active_consumer) {
        CHECK(active == NULL && !q->draining, "active consumer that is none");
        return NULL;
    }
    CHECK((active == NULL) == (best == NULL), "active consumer missing");
    if (active == NULL) {
        return NULL;
    }
    CHECK(active->attached && !active->dead && !active->client->suspended,
          "active consumer cannot");
    CHECK(q->draining == queue__is_outranked(q, best), "draining, or not, wrongly");
    CHECK(!q->draining || !rangemap_is_empty(&active->unacked), "draining what is empty");
    return NULL;
}

static const char *check_takers(const struct queue *q)
{
    size_t count = 0;
    for (size_t i = 0; i < q->clients.count; i++) {
        for (size_t k = 0; k < q->clients.items[i]->consumers.count; k++) {
            const struct queue_consumer *consumer = q->clients.items[i]->consumers.items[k];
            count += consumer->dead && consumer->attached ? 1 : 0;
            CHECK(consumer->barred ==
                      (consumer->group != NULL && q->config.single_active_consumer &&
                       (q->draining || consumer != q->active)),
                  "barred, or not, wrongly");
        }
    }
    CHECK(q->takers.count == count, "number of dead-letter consumers");
    for (size_t i = 0; i < q->takers.count; i++) {
        CHECK(q->takers.items[i]->dead && q->takers.items[i]->attached,
              "not a dead-letter consumer");
        CHECK(i == 0 || q->takers.items[i - 1]->attach < q->takers.items[i]->attach,
              "dead-letter consumers out of order");
    }
    const struct queue_consumer *taker = queue__dead_taker(q);
    CHECK(taker == NULL || rangemap_is_empty(&q->dead) || queue_sealed(q) ||
              queue__capacity(taker) == 0,
          "dead letter held back");
    return NULL;
}

static const char *check_ready_run(struct tally *t, uint32_t place, const struct range_run *run)
{
    const struct queue *q = t->queue;
    const struct range_run piece = queue__ready_piece(place, run);
    if (place % 2 == 0) {
        CHECK(run->attr.value == run->first, "I5: ready message in a wrong place");
        CHECK(run->attr.d == place / 2, "I5: ready message in a wrong level");
    } else {
        const uint64_t before = queue__released_before(&run->attr);
        CHECK(run->first > 0 && range_run_end(run) <= q->next_release, "release never made");
        CHECK(before > piece.first + piece.count - 1 && before <= q->next_position,
              "released before it came");
    }
    CHECK(!queue__is_expired(q, run->attr.b), "message that has expired");
    t->bytes_ready += run->count * run->attr.a;
    return count_live(t, piece.first, piece.count);
}

static const char *check_place(struct tally *t, uint32_t place)
{
    const struct rangemap *map = queue__ready_map(t->queue, place);
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(map, 0, &cursor);
    uint64_t before = 0;
    for (; run != NULL; run = rangemap_next(&cursor)) {
        const char *fault = check_ready_run(t, place, run);
        CHECK(fault == NULL, fault);
        if (place % 2 != 0) {
            CHECK(queue__released_before(&run->attr) >= before, "released out of order");
            before = queue__released_before(&run->attr);
        }
    }
    t->ready += rangemap_keys(map);
    return NULL;
}

static const char *check_levels(struct tally *t)
{
    const struct queue *q = t->queue;
    for (uint32_t level = 0; level < QUEUE_LEVELS_MAX; level++) {
        const bool used = (q->level_used[level / 64] >> (level % 64) & 1) != 0;
        const bool filled =
            level <= q->config.priority_max && (!rangemap_is_empty(&q->levels[level].ready) ||
                                                !rangemap_is_empty(&q->levels[level].released));
        CHECK(used == filled, "level in use, or not, wrongly");
        if (filled) {
            const char *fault = check_place(t, QUEUE_PLACE_OF(level, false));
            CHECK(fault == NULL, fault);
            fault = check_place(t, QUEUE_PLACE_OF(level, true));
            CHECK(fault == NULL, fault);
        }
    }
    return NULL;
}

static const char *check_waiting(struct tally *t)
{
    const struct queue *q = t->queue;
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&q->delayed, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        CHECK(run->attr.value == run->first && run->attr.b > q->clock_ms, "delayed message is due");
        CHECK(run->attr.b <= 2 * QUEUE_TIME_MAX, "delayed for too long");
        CHECK(queue__delayed_level(&run->attr) <= q->config.priority_max,
              "delayed without a level");
        const char *fault = count_live(t, run->first, run->count);
        CHECK(fault == NULL, fault);
    }
    CHECK(q->config.dead_letter || rangemap_is_empty(&q->dead), "dead letters of nobody");
    run = rangemap_lower_bound(&q->dead, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        CHECK(run->attr.value == run->first && is_dead_letter(q, &run->attr), "dead letter");
        const char *fault = count_live(t, run->first, run->count);
        CHECK(fault == NULL, fault);
    }
    return NULL;
}

static const char *check_remembered(const struct queue *q)
{
    uint32_t count = 0;
    LIST_FOREACH(link, &q->publishers) {
        const struct queue_publisher *publisher =
            WR_CONTAINER_OF_CONST(link, struct queue_publisher, link);
        const struct range_run *first = rangemap_first(&publisher->numbers);
        CHECK(publisher->id.size > 0 && publisher->id.size <= UINT8_MAX,
              "publisher without a name");
        CHECK(first != NULL && first->first > 0, "publisher without numbers");
        CHECK(rangemap_runs(&publisher->numbers) <= QUEUE_PUBLISHER_RUNS_MAX, "too many numbers");
        CHECK(map_get(&q->publisher_index, publisher->id) == publisher, "publisher not found");
        count++;
    }
    CHECK(count == q->publisher_index.count && count <= QUEUE_PUBLISHERS_MAX, "publishers");
    CHECK(q->ids.count <= QUEUE_IDS_MAX, "too many message ids");
    uint64_t before = 0;
    for (const struct map_item *item = q->ids.first; item != NULL; item = item->next) {
        const uint64_t time_ms = queue__ids_time(item);
        CHECK(time_ms >= before && time_ms <= q->clock_ms, "message id out of order");
        CHECK(q->clock_ms - time_ms < q->config.dedup_window_ms, "message id kept for too long");
        before = time_ms;
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
    fault = check_active(q);
    CHECK(fault == NULL, fault);
    fault = check_takers(q);
    CHECK(fault == NULL, fault);
    fault = check_waiting(t);
    CHECK(fault == NULL, fault);
    fault = check_remembered(q);
    CHECK(fault == NULL, fault);
    fault = check_live(t);
    CHECK(fault == NULL, fault);
    CHECK(q->ready == t->ready && q->unacked == t->unacked, "I1: ready or unacked");
    CHECK(q->bytes_ready == t->bytes_ready, "bytes of ready messages");
    CHECK(q->bytes_unacked == t->bytes_unacked, "bytes of unacked messages");
    CHECK(q->dead_out == t->dead_out, "I1: dead letters that are handed over");
    CHECK(rangemap_keys(&q->live) < q->next_position, "I1: more messages than were enqueued");
    CHECK(!q->unused || q->consumers == 0, "to be deleted, but used");
    CHECK(q->used_ms <= q->clock_ms, "used in the future");
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

/* The keys of [first, first + count) that a moment of that time covers. */
static bool covers(const struct queue_moment *m, uint32_t place, uint64_t when, uint64_t key)
{
    return m->count > 0 && m->place == place && m->when == when && key - m->first < m->count;
}

static void check_covered(const struct queue_timeline *t, uint32_t place, uint64_t when,
                          const struct range_run *run)
{
    for (uint64_t key = run->first; key < range_run_end(run); key++) {
        bool found = covers(&t->tail, place, when, key);
        for (size_t i = 0; i < t->heap.count && !found; i++) {
            found = covers(&t->heap.items[i], place, when, key);
        }
        WR_ASSERT(found);
    }
}

/* Everything that is due at some time is in a timeline, whose first moment has a message. */
static void check_timelines(const struct queue *q)
{
    struct rangemap_cursor cursor;
    uint64_t next = UINT64_MAX;
    for (uint32_t place = 0; place < 2u * (q->config.priority_max + 1u); place++) {
        const struct range_run *run = rangemap_lower_bound(queue__ready_map(q, place), 0, &cursor);
        for (; run != NULL; run = rangemap_next(&cursor)) {
            if (run->attr.b != 0) {
                next = run->attr.b - 1 < next ? run->attr.b - 1 : next;
                check_covered(&q->expiry, place, run->attr.b - 1, run);
            }
        }
    }
    WR_ASSERT_OP(queue__timeline_next(&q->expiry), ==, next);
    next = UINT64_MAX;
    const struct range_run *run = rangemap_lower_bound(&q->delayed, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        next = run->attr.b < next ? run->attr.b : next;
        check_covered(&q->due, 0, run->attr.b, run);
    }
    WR_ASSERT_OP(queue__timeline_next(&q->due), ==, next);
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
        rangemap_check(&queue->levels[level].ready);
        rangemap_check(&queue->levels[level].released);
    }
    rangemap_check(&queue->delayed);
    rangemap_check(&queue->dead);
    check_timelines(queue);
}
