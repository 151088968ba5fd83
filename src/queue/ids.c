/*
 * What: message ids that were stored within config.dedup_window_ms: a 128-bit hash of each with its
 * time, in order of time.
 * Failure modes: bounded: of more than QUEUE_IDS_MAX the oldest is forgotten before its time.
 * Invariants: after a command none is older than the window.
 */
#include "queue_internal.h"

/* Fixed: the hashes are in snapshots. */
static const struct hash_seed low_seed = {UINT64_C(0x64656475702e6c6f),
                                          UINT64_C(0x772e77617272656e)};
static const struct hash_seed high_seed = {UINT64_C(0x64656475702e6869),
                                           UINT64_C(0x67682e7761727265)};

static void hash_of(struct bytes id, uint8_t ret_hash[QUEUE_ID_HASH_SIZE])
{
    bytes_store_le64(ret_hash, hash_bytes(low_seed, id));
    bytes_store_le64(ret_hash + 8, hash_bytes(high_seed, id));
}

void queue__ids_init(struct queue *q)
{
    map_init(&q->ids, low_seed);
}

void queue__ids_deinit(struct queue *q)
{
    map_deinit(&q->ids);
}

uint64_t queue__ids_time(const struct map_item *item)
{
    return (uint64_t)(uintptr_t)item->value;
}

bool queue__ids_has(const struct queue *q, struct bytes id)
{
    uint8_t hash[QUEUE_ID_HASH_SIZE];
    if (q->ids.count == 0) {
        return false;
    }
    hash_of(id, hash);
    return map_find(&q->ids, bytes_make(hash, sizeof(hash))) != NULL;
}

/* Adds one with a time that is not before the last one's; false when it is there already. */
bool queue__ids_put(struct queue *q, const uint8_t hash[QUEUE_ID_HASH_SIZE], uint64_t time_ms)
{
    bool is_new;
    struct map_item *item = map_entry(&q->ids, bytes_make(hash, QUEUE_ID_HASH_SIZE), &is_new);
    if (!is_new) {
        return false;
    }
    static_assert(sizeof(item->value) == sizeof(time_ms), "a time is kept in a pointer");
    item->value = (void *)(uintptr_t)time_ms;
    return true;
}

/* The id, which was not there, is stored. */
void queue__ids_note(struct queue *q, struct bytes id)
{
    uint8_t hash[QUEUE_ID_HASH_SIZE];
    if (q->config.dedup_window_ms == 0) {
        return;
    }
    if (q->ids.count == QUEUE_IDS_MAX) {
        (void)map_remove_item(&q->ids, q->ids.first);
    }
    hash_of(id, hash);
    const bool is_new = queue__ids_put(q, hash, q->clock_ms);
    WR_ASSERT(is_new);
}

/* Those that are older than the window. */
void queue__ids_forget(struct queue *q)
{
    while (q->ids.count > 0 &&
           (q->config.dedup_window_ms == 0 ||
            q->clock_ms - queue__ids_time(q->ids.first) >= q->config.dedup_window_ms)) {
        (void)map_remove_item(&q->ids, q->ids.first);
    }
}
