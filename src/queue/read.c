/*
 * What: the reading side of the machine: totals, consumers, clients and live positions. Changes
 * nothing.
 */
#include "queue_internal.h"

uint64_t queue_deadline_ms(const struct queue *queue)
{
    const uint64_t expiry = queue__timeline_next(&queue->expiry);
    const uint64_t due = queue__timeline_next(&queue->due);
    const uint64_t lease = queue__lease_deadline(queue);
    const uint64_t message = expiry < due ? expiry : due;
    return lease < message ? lease : message;
}

uint64_t queue_clock_ms(const struct queue *queue)
{
    return queue->clock_ms;
}

void queue_get_config(const struct queue *queue, struct queue_config *ret_config)
{
    *ret_config = queue->config;
}

uint64_t queue_client_last_seq(const struct queue *queue, uint64_t client)
{
    const struct queue_client *found = queue__client_find(queue, client);
    return found == NULL ? 0 : found->last_seq;
}

uint32_t queue_boots(const struct queue *queue, uint64_t *boots, uint32_t max)
{
    uint32_t count = 0;
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < queue->clients.count; i++) {
        const uint64_t boot = queue__client_boot(queue->clients.items[i]->id);
        if (boot != before) {
            if (count < max) {
                boots[count] = boot;
            }
            count++;
            before = boot;
        }
    }
    return count;
}

uint32_t queue_clients(const struct queue *queue, uint64_t boot, uint64_t *clients, uint32_t max)
{
    uint32_t count = 0;
    if (boot > UINT32_MAX) {
        return 0;
    }
    for (size_t i = queue__client_place(queue, boot << 32); i < queue->clients.count; i++) {
        const uint64_t id = queue->clients.items[i]->id;
        if (queue__client_boot(id) != boot) {
            break;
        }
        if (count < max) {
            clients[count] = id;
        }
        count++;
    }
    return count;
}

bool queue_boot_suspended(const struct queue *queue, uint64_t boot)
{
    return queue__boot_is_suspended(queue, boot);
}

bool queue_sealed(const struct queue *queue)
{
    return queue__is_sealed(queue);
}

bool queue_auto_delete_due(const struct queue *queue)
{
    return queue->unused;
}

uint64_t queue_ready(const struct queue *queue)
{
    return queue->ready;
}

void queue_totals(const struct queue *queue, struct queue_totals *ret_totals)
{
    const struct range_run *lowest = rangemap_first(&queue->live);
    *ret_totals = (struct queue_totals){
        .ready = queue->ready,
        .unacked = queue->unacked,
        .consumers = queue->consumers,
        .bytes_ready = queue->bytes_ready,
        .bytes_unacked = queue->bytes_unacked,
        .delayed = rangemap_keys(&queue->delayed),
        .dead = rangemap_keys(&queue->dead) + queue->dead_out,
        .expired = queue->expired,
        .dropped = queue->dropped,
        .refused = queue->refused,
        .duplicates = queue->duplicates,
        .next_position = queue->next_position,
        .lowest_position = lowest == NULL ? queue->next_position : lowest->first,
        .published = queue->next_position - 1,
        .delivered = queue->delivered,
        .acked = queue->acked,
        .redelivered = queue->redelivered,
    };
}

/* Values of a run ascend with its keys, but those of its runs need not: what came back and was
 * delivered again is behind what is newer. */
static uint64_t lowest_of(const struct rangemap *unacked, uint64_t lowest)
{
    struct rangemap_cursor at;
    for (const struct range_run *run = rangemap_lower_bound(unacked, 0, &at); run != NULL;
         run = rangemap_next(&at)) {
        lowest = lowest == 0 || run->attr.value < lowest ? run->attr.value : lowest;
    }
    return lowest;
}

void queue_heads(const struct queue *queue, uint64_t *ret_ready, uint64_t *ret_unacked)
{
    uint64_t lowest = 0;
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        for (size_t j = 0; j < client->consumers.count; j++) {
            if (!client->consumers.items[j]->dead) {
                lowest = lowest_of(&client->consumers.items[j]->unacked, lowest);
            }
        }
    }
    *ret_ready = queue__ready_next(queue);
    *ret_unacked = lowest;
}

/* In order of client and consumer, without those for dead letters. */
void queue_each_consumer(const struct queue *queue,
                         void (*fn)(void *ctx, const struct queue_consumer_info *info), void *ctx)
{
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        for (size_t j = 0; j < client->consumers.count; j++) {
            const struct queue_consumer *consumer = client->consumers.items[j];
            if (!consumer->attached || consumer->dead) {
                continue;
            }
            const struct queue_consumer_info info = {
                .client = client->id,
                .consumer = consumer->id,
                .prefetch = consumer->prefetch,
                .priority = consumer->priority,
                .unacked = rangemap_keys(&consumer->unacked),
                .no_ack = consumer->no_ack,
                .exclusive = consumer->exclusive,
                .active = queue__is_active(queue, consumer),
                .single_active = queue->config.single_active_consumer,
                .name = consumer->name,
                .args = consumer->args,
            };
            fn(ctx, &info);
        }
    }
}

void queue_each_live(const struct queue *queue,
                     void (*fn)(void *ctx, uint64_t position, uint64_t count), void *ctx)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&queue->live, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        fn(ctx, run->first, run->count);
    }
}

bool queue_is_live(const struct queue *queue, uint64_t position)
{
    return rangemap_find(&queue->live, position) != NULL;
}
