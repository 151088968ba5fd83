/*
 * What: consumers and who may take the next message. Consumers of one x-priority form a group; its
 * ring holds those that can take a message now. A message goes to the highest group with a member
 * in its ring, there to the one at the head.
 * Invariants: a consumer is in its group's ring exactly when queue__capacity() > 0; groups are
 * sorted by priority, highest first, and none is without members. Whoever changes what the capacity
 * depends on calls queue__consumer_update, or queue__client_update when it is the client's.
 * Spec: AMQP 0-9-1 basic.consume, basic.cancel, basic.qos; RabbitMQ consumer priorities (reference
 * queues.md section 7).
 */
#include "queue_internal.h"

/* How many messages the consumer may be given now. Prefetch and the client's limit are about
 * messages that wait for a settle: they mean nothing to a no_ack consumer. */
uint64_t queue__capacity(const struct queue_consumer *consumer)
{
    const struct queue_client *client = consumer->client;
    if (!consumer->attached || client->suspended || consumer->barred ||
        consumer->limit <= consumer->delivered) {
        return 0;
    }
    uint64_t capacity = consumer->limit - consumer->delivered;
    if (consumer->no_ack) {
        return capacity;
    }
    if (consumer->prefetch != 0) {
        const uint64_t unacked = rangemap_keys(&consumer->unacked);
        const uint64_t room = consumer->prefetch > unacked ? consumer->prefetch - unacked : 0;
        capacity = room < capacity ? room : capacity;
    }
    if (client->limit != 0 && !consumer->dead) {
        const uint64_t room = client->limit > client->held ? client->limit - client->held : 0;
        capacity = room < capacity ? room : capacity;
    }
    return capacity;
}

static void ring_remove(struct queue_consumer *consumer)
{
    if (consumer->in_ring) {
        WR_ASSERT_OP(consumer->group->eligible, >, 0);
        list_remove(&consumer->link);
        consumer->group->eligible--;
        consumer->in_ring = false;
    }
}

/* Puts the consumer into its ring, at the end, or takes it out. */
void queue__consumer_update(struct queue_consumer *consumer)
{
    if (consumer->dead) {
        return;
    }
    if (queue__capacity(consumer) == 0) {
        ring_remove(consumer);
    } else if (!consumer->in_ring) {
        list_push_back(&consumer->group->ring, &consumer->link);
        consumer->group->eligible++;
        consumer->in_ring = true;
    }
}

void queue__client_update(struct queue_client *client)
{
    for (size_t i = 0; i < client->consumers.count; i++) {
        queue__consumer_update(client->consumers.items[i]);
    }
}

/* Where the consumer is in its client's list, or would be inserted. */
static size_t consumer_place(const struct queue_client *client, uint32_t id)
{
    size_t low = 0;
    size_t high = client->consumers.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (client->consumers.items[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct queue_consumer *queue__consumer_find(const struct queue_client *client, uint32_t id)
{
    const size_t place = consumer_place(client, id);
    if (place == client->consumers.count || client->consumers.items[place]->id != id) {
        return NULL;
    }
    return client->consumers.items[place];
}

/* A new consumer, not attached. The id must be free. */
struct queue_consumer *queue__consumer_add(struct queue_client *client, uint32_t id)
{
    const size_t place = consumer_place(client, id);
    WR_ASSERT(place == client->consumers.count || client->consumers.items[place]->id != id);
    struct queue_consumer *consumer = wr_calloc(1, sizeof(*consumer));
    consumer->client = client;
    consumer->id = id;
    rangemap_init(&consumer->unacked);
    list_init(&consumer->link);
    vec_insert(&client->consumers, place, consumer);
    return consumer;
}

/* Frees the memory; the consumer is in no ring, and out of its client's list. */
void queue__consumer_free(struct queue_consumer *consumer)
{
    rangemap_deinit(&consumer->unacked);
    wr_free((void *)(uintptr_t)consumer->name.data);
    wr_free((void *)(uintptr_t)consumer->args.data);
    wr_free(consumer);
}

/* A detached consumer goes when its last message is settled. */
void queue__consumer_reap(struct queue_consumer *consumer)
{
    if (consumer->attached || consumer->id == 0 || !rangemap_is_empty(&consumer->unacked)) {
        return;
    }
    struct queue_client *client = consumer->client;
    vec_remove(&client->consumers, consumer_place(client, consumer->id));
    queue__consumer_free(consumer);
}

/* The group of this priority, made if there is none. */
static struct queue_group *group_of(struct queue *q, int32_t priority)
{
    size_t place = 0;
    while (place < q->groups.count && q->groups.items[place]->priority > priority) {
        place++;
    }
    if (place < q->groups.count && q->groups.items[place]->priority == priority) {
        return q->groups.items[place];
    }
    struct queue_group *group = wr_calloc(1, sizeof(*group));
    group->priority = priority;
    list_init(&group->ring);
    vec_insert(&q->groups, place, group);
    return group;
}

static void group_drop(struct queue *q, struct queue_group *group)
{
    WR_ASSERT(list_is_empty(&group->ring));
    for (size_t i = 0; i < q->groups.count; i++) {
        if (q->groups.items[i] == group) {
            vec_remove(&q->groups, i);
            wr_free(group);
            return;
        }
    }
    WR_UNREACHABLE();
}

/* Counts the consumer as attached and puts it into its group, not yet into the ring. */
void queue__consumer_join(struct queue *q, struct queue_consumer *consumer)
{
    WR_ASSERT(!consumer->attached);
    WR_ASSERT_OP(consumer->id, !=, 0);
    consumer->attached = true;
    if (consumer->dead) {
        queue__taker_join(q, consumer);
        return;
    }
    consumer->barred = q->config.single_active_consumer;
    q->active_stale = q->config.single_active_consumer;
    consumer->group = group_of(q, consumer->priority);
    consumer->group->members++;
    q->consumers++;
    q->exclusive = q->exclusive || consumer->exclusive;
}

/* No more deliveries for this one. When it was the last, an auto-delete queue seals itself. */
void queue__consumer_leave(struct queue_apply *a, struct queue_consumer *consumer)
{
    struct queue *q = a->queue;
    WR_ASSERT(consumer->attached);
    consumer->attached = false;
    if (consumer->dead) {
        queue__taker_leave(q, consumer);
        return;
    }
    WR_ASSERT_OP(q->consumers, >, 0);
    ring_remove(consumer);
    consumer->barred = false;
    if (q->active == consumer) {
        q->active = NULL;
    }
    q->active_stale = q->config.single_active_consumer;
    queue__used(q);
    if (--consumer->group->members == 0) {
        group_drop(q, consumer->group);
    }
    consumer->group = NULL;
    q->consumers--;
    if (consumer->exclusive) {
        q->exclusive = false;
    }
    if (q->consumers == 0 && q->config.auto_delete && !q->unused) {
        q->unused = true;
        a->unused = true;
    }
}

static struct bytes own(struct bytes borrowed)
{
    return borrowed.size == 0 ? BYTES_NONE
                              : bytes_make(wr_memdup(borrowed.data, borrowed.size), borrowed.size);
}

static enum queue_status attach_status(const struct queue *q, const struct queue_client *client,
                                       const struct queue_op *op)
{
    if (queue_sealed(q)) {
        return QUEUE_SEALED;
    }
    /* Number 0 is taken by basic.get; a detached one still counts until all is settled. */
    if (op->consumer == 0 || queue__consumer_find(client, op->consumer) != NULL) {
        return QUEUE_EXISTS;
    }
    if ((op->flags & QUEUE_DEAD) != 0) {
        return queue__dead_taker(q) == NULL ? QUEUE_OK : QUEUE_IN_EXCLUSIVE_USE;
    }
    if (q->exclusive || ((op->flags & QUEUE_EXCLUSIVE_CONSUMER) != 0 && q->consumers > 0)) {
        return QUEUE_IN_EXCLUSIVE_USE;
    }
    return QUEUE_OK;
}

void queue__attach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue *q = a->queue;
    const enum queue_status status = attach_status(q, client, op);
    if ((op->flags & QUEUE_DEAD) == 0) {
        queue__used(q);
    }
    if (status == QUEUE_OK) {
        struct queue_consumer *consumer = queue__consumer_add(client, op->consumer);
        consumer->prefetch = op->prefetch;
        consumer->priority = op->priority;
        consumer->attach = q->next_attach++;
        consumer->dead = (op->flags & QUEUE_DEAD) != 0;
        /* Dead letters are gone only when they are acked, and whoever takes them is no consumer. */
        consumer->no_ack = !consumer->dead && (op->flags & QUEUE_NO_ACK) != 0;
        consumer->settles = consumer->no_ack && (op->flags & QUEUE_SETTLES) != 0;
        consumer->exclusive = !consumer->dead && (op->flags & QUEUE_EXCLUSIVE_CONSUMER) != 0;
        consumer->limit = op->limit;
        consumer->name = own(op->name);
        consumer->args = own(op->args);
        queue__consumer_join(q, consumer);
        queue__consumer_update(consumer);
    }
    queue__emit_reply(a, client, op->seq, status, q->ready);
}

void queue__detach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue_consumer *consumer = queue__consumer_find(client, op->consumer);
    if (consumer == NULL || !consumer->dead) {
        queue__used(a->queue);
    }
    if (consumer != NULL && consumer->id != 0) {
        if (consumer->attached) {
            queue__consumer_leave(a, consumer);
        }
        if ((op->flags & QUEUE_DETACH_RETURN) != 0) {
            queue__return_all(a, consumer);
            queue__client_update(client);
        }
        queue__consumer_reap(consumer);
    }
    queue__emit_reply(a, client, op->seq, QUEUE_OK, a->queue->ready);
}

void queue__credit(struct queue_client *client, const struct queue_op *op)
{
    struct queue_consumer *consumer = queue__consumer_find(client, op->consumer);
    if (consumer != NULL && consumer->attached) {
        /* What is delivered is delivered: a lower limit takes nothing back (I3). */
        consumer->limit = op->limit > consumer->delivered ? op->limit : consumer->delivered;
        queue__consumer_update(consumer);
    }
}
