/*
 * What: exactly-once publishing by number: for each publisher that names itself the set of its
 * numbers that are stored. A set and not the highest one: a publisher numbers over several queues,
 * so there are gaps in each, and one that was refused comes again.
 * Failure modes: bounded: of more than QUEUE_PUBLISHER_RUNS_MAX runs the lowest gap is closed (its
 * numbers count as stored), and of more than QUEUE_PUBLISHERS_MAX publishers the one that has not
 * enqueued for longest is forgotten (its messages can be stored again).
 * Invariants: the list is in order of use, which is state; the index has the same publishers.
 */
#include "queue_internal.h"

/* Fixed: nothing depends on it but time. */
static const struct hash_seed index_seed = {UINT64_C(0x7075626c69736865),
                                            UINT64_C(0x72732e2e2e2e2e2e)};

void queue__publishers_init(struct queue *q)
{
    list_init(&q->publishers);
    map_init(&q->publisher_index, index_seed);
}

static void forget(struct queue *q, struct queue_publisher *publisher)
{
    (void)map_remove(&q->publisher_index, publisher->id);
    list_remove(&publisher->link);
    rangemap_deinit(&publisher->numbers);
    wr_free((void *)(uintptr_t)publisher->id.data);
    wr_free(publisher);
}

static struct queue_publisher *oldest(struct queue *q)
{
    struct list *link = list_first(&q->publishers);
    return link == NULL ? NULL : WR_CONTAINER_OF(link, struct queue_publisher, link);
}

void queue__publishers_deinit(struct queue *q)
{
    struct queue_publisher *publisher;
    while ((publisher = oldest(q)) != NULL) {
        forget(q, publisher);
    }
    map_deinit(&q->publisher_index);
}

/* A new one, as the one that enqueued last. */
struct queue_publisher *queue__publisher_add(struct queue *q, struct bytes id)
{
    if (q->publisher_index.count == QUEUE_PUBLISHERS_MAX) {
        forget(q, oldest(q));
    }
    struct queue_publisher *publisher = wr_calloc(1, sizeof(*publisher));
    publisher->id = bytes_make(wr_memdup(id.data, id.size), id.size);
    rangemap_init(&publisher->numbers);
    list_push_back(&q->publishers, &publisher->link);
    (void)map_put(&q->publisher_index, id, publisher);
    return publisher;
}

/* Mostly the one that was the last before. */
static struct queue_publisher *find(const struct queue *q, struct bytes id)
{
    struct list *link = list_last(&q->publishers);
    if (link != NULL) {
        struct queue_publisher *last = WR_CONTAINER_OF(link, struct queue_publisher, link);
        if (bytes_eq(last->id, id)) {
            return last;
        }
    }
    return map_get(&q->publisher_index, id);
}

static void note_used(struct queue *q, struct queue_publisher *publisher)
{
    list_remove(&publisher->link);
    list_push_back(&q->publishers, &publisher->link);
}

/* A repeat is a use, too. */
bool queue__publisher_has(struct queue *q, struct bytes id, uint64_t number)
{
    struct queue_publisher *publisher = find(q, id);
    if (publisher == NULL || rangemap_find(&publisher->numbers, number) == NULL) {
        return false;
    }
    note_used(q, publisher);
    return true;
}

static void close_lowest_gap(struct rangemap *numbers)
{
    struct rangemap_cursor cursor;
    const struct range_run *low = rangemap_lower_bound(numbers, 0, &cursor);
    const uint64_t begin = range_run_end(low);
    const struct range_run *next = rangemap_next(&cursor);
    const struct range_attr attr = {.value = begin};
    rangemap_insert(numbers, begin, next->first - begin, &attr);
}

/* The number, which was not there, is stored. */
void queue__publisher_note(struct queue *q, struct bytes id, uint64_t number)
{
    struct queue_publisher *publisher = find(q, id);
    if (publisher == NULL) {
        publisher = queue__publisher_add(q, id);
    } else {
        note_used(q, publisher);
    }
    const struct range_attr attr = {.value = number};
    rangemap_insert(&publisher->numbers, number, 1, &attr);
    if (rangemap_runs(&publisher->numbers) > QUEUE_PUBLISHER_RUNS_MAX) {
        close_lowest_gap(&publisher->numbers);
    }
}
