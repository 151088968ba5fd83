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

struct queue_id_hash queue__id_hash(struct bytes id)
{
    struct queue_id_hash hash;
    bytes_store_le64(hash.bytes, hash_bytes(low_seed, id));
    bytes_store_le64(hash.bytes + 8, hash_bytes(high_seed, id));
    return hash;
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

static struct bytes key_of(const struct queue_id_hash *hash)
{
    return bytes_make(hash->bytes, sizeof(hash->bytes));
}

bool queue__ids_has(const struct queue *q, const struct queue_id_hash *hash)
{
    return q->ids.count > 0 && map_find(&q->ids, key_of(hash)) != NULL;
}

/* Adds one with a time that is not before the last one's; false when it is there already. */
bool queue__ids_put(struct queue *q, struct bytes hash, uint64_t time_ms)
{
    bool is_new;
    WR_ASSERT_OP(hash.size, ==, QUEUE_ID_HASH_SIZE);
    struct map_item *item = map_entry(&q->ids, hash, &is_new);
    if (!is_new) {
        return false;
    }
    static_assert(sizeof(item->value) == sizeof(time_ms), "a time is kept in a pointer");
    item->value = (void *)(uintptr_t)time_ms;
    return true;
}

/* The id, which was not there, is stored. */
void queue__ids_note(struct queue *q, const struct queue_id_hash *hash)
{
    if (q->ids.count == QUEUE_IDS_MAX) {
        (void)map_remove_item(&q->ids, q->ids.first);
    }
    const bool is_new = queue__ids_put(q, key_of(hash), q->clock_ms);
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
