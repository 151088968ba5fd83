/*
 * What: queue clients: the calls of the broker. An op is put into the client's array; it goes out
 * at the end of the turn (client_send.c). seq of an op = its place in the client's life. Invariants
 * I1  ops[ops_first ..] have consecutive seqs; the last one's is next_seq - 1.
 * I2  After queue_client_close no upcall is made; the struct lives on until the CLOSE is applied.
 * Ownership: the host owns clients; ops own a reference of their message and copies of tag and
 * args. Threads: the host's shard.
 */
#include "client_internal.h"
#include "host_internal.h"
#include "parcel.h"

void client_mark(struct queue_client *client)
{
    if (list_is_empty(&client->dirty)) {
        list_push_back(&client->host->dirty_clients, &client->dirty);
    }
}

static uint64_t next_id(struct host *host)
{
    uint64_t id;
    WR_ASSERT(host->boot != 0);
    do {
        /* Interleaved by shard, so that shards of one boot never meet. */
        uint32_t number = ++host->client_counter * host->options.shard_count + host->options.shard;
        id = (uint64_t)host->boot << 32 | number;
    } while (umap_get(&host->clients, id) != NULL || (id & UINT32_MAX) == 0);
    return id;
}

struct queue_client *queue_client_open(struct host *host, const struct catalog_queue *queue,
                                       const struct queue_client_sink *sink, void *ctx)
{
    struct queue_client *client = wr_calloc(1, sizeof *client);
    client->host = host;
    client->id = next_id(host);
    client->queue = queue->id;
    client->sink = *sink;
    client->ctx = ctx;
    client->next_seq = 1;
    client->get_next = 1;
    client->session = 1;
    client->backoff_ms = RETRY_FIRST_MS;
    client->patience_ms = CONNECTED_RETRY_MS;
    client->local = queue->spec.run == CATALOG_RUN_LOCAL;
    if (client->local) {
        client->node = queue->spec.local.node;
        client->shard = queue->spec.local.shard;
        client->own_node = host_is_self(host, client->node);
    }
    list_init(&client->dirty);
    list_init(&client->of_queue);
    timer_init(&client->retry);
    umap_put(&host->clients, client->id, client);
    struct client_link *link = umap_get(&host->queues, queue->id);
    if (link == NULL) {
        link = wr_calloc(1, sizeof *link);
        list_init(&link->clients);
        umap_put(&host->queues, queue->id, link);
    }
    list_push_back(&link->clients, &client->of_queue);
    return client;
}

void client_free(struct queue_client *client)
{
    struct host *host = client->host;
    list_remove(&client->dirty);
    list_remove(&client->of_queue);
    timer_cancel(&host->timers, &client->retry);
    struct client_link *link = umap_get(&host->queues, client->queue);
    if (link != NULL && list_is_empty(&link->clients)) {
        umap_remove(&host->queues, client->queue);
        wr_free(link);
    }
    umap_remove(&host->clients, client->id);
    if (client->ops.count > client->ops_first) {
        ops_release(client->ops.items + client->ops_first, client->ops.count - client->ops_first);
    }
    WR_ASSERT_OP(client->bytes, <=, host->client_bytes);
    host->client_bytes -= client->bytes;
    vec_deinit(&client->ops);
    vec_deinit(&client->sent);
    vec_deinit(&client->consumers);
    vec_deinit(&client->replies);
    wr_free(client);
}

static struct queue_op *add(struct queue_client *client, uint8_t kind)
{
    WR_ASSERT(!client->closing);
    struct queue_op *op = vec_add(&client->ops);
    op->kind = kind;
    op->seq = client->next_seq++;
    if (WR_UNLIKELY(list_is_empty(&client->dirty))) {
        client_mark(client);
        host_mark_now(client->host);
    }
    return op;
}

static void want_reply(struct queue_client *client, const struct queue_op *op)
{
    const uint64_t next = op->kind == QUEUE_OP_PEEK ? op->first : 0;
    vec_push(&client->replies,
             (struct client_reply){
                 .seq = op->seq, .next = next, .consumer = op->consumer, .kind = op->kind});
}

uint64_t queue_client_id(const struct queue_client *client)
{
    return client->id;
}

bool queue_client_is_near(const struct queue_client *client)
{
    return client->state == CLIENT_CONNECTED && host_is_self(client->host, client->node);
}

void queue_client_close(struct queue_client *client)
{
    WR_ASSERT(!client->closing);
    if (!client->gone) {
        if (client->next_seq > 1) {
            (void)add(client, QUEUE_OP_CLOSE);
        } else {
            client->gone = true; /* nobody has ever heard of it */
        }
    }
    client->closing = true;
    vec_clear(&client->replies);
    client_mark(client);
    host_mark_now(client->host);
}

uint64_t queue_client_publish(struct queue_client *client, struct message message)
{
    struct queue_op *op = add(client, QUEUE_OP_ENQUEUE);
    message_ref(message);
    op->message = message;
    client->bytes += message.record.size;
    client->host->client_bytes += message.record.size;
    client->unsent_bytes += message.record.size;
    return op->seq;
}

static struct bytes copy(struct bytes b)
{
    return b.size == 0 ? BYTES_NONE : bytes_make(wr_memdup(b.data, b.size), b.size);
}

uint64_t queue_client_publish_more(struct queue_client *client, struct message message,
                                   const struct queue_publish_more *more)
{
    WR_ASSERT(more->publisher.size <= 255 && more->id.size <= 255);
    WR_ASSERT((more->publisher.size > 0) == (more->publish_seq > 0));
    WR_ASSERT(more->publish_seq <= INT64_MAX);
    const uint64_t seq = queue_client_publish(client, message);
    struct queue_op *op = &vec_last(&client->ops);
    if (more->publisher.size > 0) {
        op->flags |= QUEUE_HAS_PUBLISHER;
        op->name = copy(more->publisher);
        op->first = more->publish_seq;
    }
    if (more->id.size > 0) {
        op->flags |= QUEUE_HAS_ID;
        op->args = copy(more->id);
    }
    if (more->delay_ms > 0) {
        op->flags |= QUEUE_HAS_DELAY;
        op->limit = more->delay_ms;
    }
    return seq;
}

size_t client_consumer_place(const struct queue_client *client, uint32_t consumer)
{
    size_t low = 0;
    size_t high = client->consumers.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (client->consumers.items[middle].consumer < consumer) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct consumer_expect *client_expects(struct queue_client *client, uint32_t consumer)
{
    const size_t place = client_consumer_place(client, consumer);
    return place < client->consumers.count && client->consumers.items[place].consumer == consumer
               ? &client->consumers.items[place]
               : NULL;
}

uint64_t queue_client_attach(struct queue_client *client, uint32_t consumer, uint8_t flags,
                             uint32_t prefetch, uint64_t credit_limit, int32_t priority,
                             struct bytes tag, struct bytes args)
{
    WR_ASSERT(consumer != 0);
    struct queue_op *op = add(client, QUEUE_OP_ATTACH);
    op->consumer = consumer;
    op->flags = flags;
    op->prefetch = prefetch;
    op->limit = credit_limit;
    op->priority = priority;
    op->name = copy(tag);
    op->args = copy(args);
    want_reply(client, op);
    if (client_expects(client, consumer) == NULL) {
        vec_insert(&client->consumers, client_consumer_place(client, consumer),
                   ((struct consumer_expect){consumer, 1}));
    }
    return op->seq;
}

uint64_t queue_client_detach(struct queue_client *client, uint32_t consumer, uint8_t flags)
{
    struct queue_op *op = add(client, QUEUE_OP_DETACH);
    op->consumer = consumer;
    op->flags = flags;
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_credit(struct queue_client *client, uint32_t consumer, uint64_t credit_limit)
{
    struct queue_op *op = add(client, QUEUE_OP_CREDIT);
    op->consumer = consumer;
    op->limit = credit_limit;
    return op->seq;
}

uint64_t queue_client_settle(struct queue_client *client, uint32_t consumer, uint64_t first_ordinal,
                             uint64_t count, enum queue_outcome outcome)
{
    WR_ASSERT(first_ordinal > 0 && count > 0);
    struct queue_op *op = add(client, QUEUE_OP_SETTLE);
    op->consumer = consumer;
    op->first = first_ordinal;
    op->count = count;
    op->outcome = (uint8_t)outcome;
    return op->seq;
}

uint64_t queue_client_get(struct queue_client *client, bool no_ack)
{
    struct queue_op *op = add(client, QUEUE_OP_GET);
    op->flags = no_ack ? QUEUE_NO_ACK : 0;
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_purge(struct queue_client *client)
{
    struct queue_op *op = add(client, QUEUE_OP_PURGE);
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_limit(struct queue_client *client, uint32_t unacked_max)
{
    struct queue_op *op = add(client, QUEUE_OP_LIMIT);
    op->limit = unacked_max;
    return op->seq;
}

uint64_t queue_client_seal(struct queue_client *client, uint8_t flags)
{
    struct queue_op *op = add(client, QUEUE_OP_SEAL);
    op->flags = flags;
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_take(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t flags, uint8_t places)
{
    struct queue_op *op = add(client, QUEUE_OP_TAKE);
    op->flags = flags;
    op->outcome = places;
    op->first = position;
    op->count = count;
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_peek(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t places)
{
    struct queue_op *op = add(client, QUEUE_OP_PEEK);
    op->outcome = places;
    op->first = position > 0 ? position : 1; /* 0 means the end in its reply */
    op->count = count;
    want_reply(client, op);
    return op->seq;
}

uint64_t queue_client_touch(struct queue_client *client)
{
    return add(client, QUEUE_OP_TOUCH)->seq;
}
