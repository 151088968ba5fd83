/*
 * What: position -> message bytes of one home.
 * The usual life: a message is added at the end of a ring of slices, delivered from there by
 * reference, dropped at its front. Groups may give bytes up (they are in the log, later in the
 * checkpoint store): when a queue holds its share of memory new messages are not kept, so that the
 * ring stays the *head* of the queue, which is read next; when its reader comes to the end of the
 * ring the rest is read back in order, with read-ahead (load.c). Local queues are memory only and
 * give nothing up. Invariants I1  A full slot is counted in live and bytes; base is a full slot, or
 * base == end. I2  The ring is as long as its content needs: an old message that stays behind is
 * moved out to `stray`. I3  `where` is ascending in position, and only groups have it. Ownership:
 * the store owns one reference per slot. Threads: the host's shard.
 */
#include "warren/assert.h"
#include "warren/mem.h"

#include "parcel.h"
#include "store.h"

#define RING_SPARSE 4096u /* slots; below, holes do not matter */

void store_init(struct store *store, bool memory_only, uint64_t *host_bytes, struct hash_seed seed)
{
    *store = (struct store){.memory_only = memory_only, .host_bytes = host_bytes};
    umap_init(&store->stray, seed);
}

static struct slice *slot(const struct store *store, uint64_t position)
{
    return &store->ring[position & (store->capacity - 1)];
}

static void account(struct store *store, int64_t bytes)
{
    store->bytes += (uint64_t)bytes;
    *store->host_bytes += (uint64_t)bytes;
}

void store_forget_stray(struct store *store, uint64_t position)
{
    struct slice *s = store->stray.count > 0 ? umap_remove(&store->stray, position) : NULL;
    if (s != NULL) {
        account(store, -(int64_t)s->size);
        slice_unref(s);
        wr_free(s);
    }
}

static void put_stray(struct store *store, uint64_t position, struct slice owned)
{
    store_forget_stray(store, position);
    umap_put(&store->stray, position, wr_memdup(&owned, sizeof owned));
    account(store, owned.size);
}

/* Empties slots [position, position + count) of the ring; runs of one buffer cost one atomic
 * operation. */
static void empty_slots(struct store *store, uint64_t position, uint64_t count)
{
    uint64_t bytes = 0;
    struct buf *run_buf = NULL;
    uint32_t run = 0;
    for (uint64_t p = position; p < position + count; p++) {
        struct slice *s = slot(store, p);
        if (s->buf == NULL) {
            continue;
        }
        if (s->buf != run_buf) {
            if (run > 0) {
                buf_unref_many(run_buf, run);
            }
            run_buf = s->buf;
            run = 0;
        }
        run++;
        bytes += s->size;
        store->live--;
        s->buf = NULL;
    }
    if (run > 0) {
        buf_unref_many(run_buf, run);
    }
    account(store, -(int64_t)bytes);
}

static void advance(struct store *store)
{
    while (store->base < store->end && slot(store, store->base)->buf == NULL) {
        store->base++;
    }
}

void store_clear(struct store *store)
{
    if (store->base < store->end) {
        empty_slots(store, store->base, store->end - store->base);
    }
    store->base = store->end = 0;
    struct umap_iter it = umap_iterate(&store->stray);
    while (umap_next(&it)) {
        struct slice *s = it.value;
        account(store, -(int64_t)s->size);
        slice_unref(s);
        wr_free(s);
    }
    umap_deinit(&store->stray);
    vec_clear(&store->where);
    store->where_first = 0;
    vec_clear(&store->kv_drops);
    store->kv_end = 0;
    WR_ASSERT(store->live == 0);
    WR_ASSERT(store->bytes == 0);
}

void store_deinit(struct store *store)
{
    store_clear(store);
    wr_free(store->ring);
    store->ring = NULL;
    store->capacity = 0;
    vec_deinit(&store->where);
    vec_deinit(&store->kv_drops);
}

static void grow(struct store *store)
{
    uint32_t capacity = store->capacity == 0 ? 16 : store->capacity * 2;
    WR_ASSERT(capacity != 0);
    struct slice *ring = wr_calloc(capacity, sizeof *ring);
    for (uint64_t p = store->base; p < store->end; p++) {
        ring[p & (capacity - 1)] = *slot(store, p);
    }
    wr_free(store->ring);
    store->ring = ring;
    store->capacity = capacity;
}

/* I2: what stays behind at the front of a ring of holes goes elsewhere (or, in a group, back to
 * disk only). */
static void move_stragglers(struct store *store)
{
    while (store->end - store->base > RING_SPARSE && store->live * 8 < store->end - store->base) {
        struct slice *s = slot(store, store->base);
        if (s->buf != NULL) {
            struct slice moved = *s;
            s->buf = NULL;
            store->live--;
            account(store, -(int64_t)moved.size);
            if (store->memory_only) {
                put_stray(store, store->base, moved);
            } else {
                slice_unref(&moved);
            }
        }
        advance(store);
    }
}

static void push(struct store *store, uint64_t position, struct slice owned)
{
    if (store->base == store->end) {
        store->base = store->end = position;
    }
    WR_ASSERT(position == store->end);
    if (store->end - store->base == store->capacity) {
        grow(store);
    }
    *slot(store, position) = owned;
    store->end++;
    store->live++;
    account(store, owned.size);
    if (WR_UNLIKELY(store->end - store->base > RING_SPARSE &&
                    store->live * 8 < store->end - store->base)) {
        move_stragglers(store);
    }
}

bool store_has_room(const struct store *store)
{
    return store->memory_only || store->bytes < STORE_QUEUE_FLOOR ||
           (store->bytes < STORE_QUEUE_BYTES && *store->host_bytes < STORE_HOST_BYTES);
}

void store_add(struct store *store, uint64_t position, struct slice owned_record)
{
    bool at_end = store->base < store->end && position == store->end;
    bool joins = at_end || (store->base == store->end && !store->behind);
    if (WR_LIKELY(joins && store_has_room(store))) {
        store->behind = false;
        push(store, position, owned_record);
        return;
    }
    WR_ASSERT(!store->memory_only || !joins);
    if (store->memory_only) {
        put_stray(store, position, owned_record);
    } else {
        store->behind = true; /* the rest of the queue is read back in order first */
        slice_unref(&owned_record);
    }
}

/* What was read back and not used can be read again. */
static void give_up_strays(struct store *store)
{
    struct umap_iter it = umap_iterate(&store->stray);
    while (umap_next(&it)) {
        store_forget_stray(store, it.key);
    }
}

void store_make_room(struct store *store, uint64_t position)
{
    if (!store_has_room(store) && store->stray.count > 0 && !store->memory_only) {
        give_up_strays(store);
    }
    while (!store_has_room(store) && store->base < store->end && store->base < position) {
        empty_slots(store, store->base, 1);
        advance(store);
    }
}

void store_add_loaded(struct store *store, uint64_t position, struct slice owned_record)
{
    if (position >= store->base && position < store->end && slot(store, position)->buf == NULL) {
        *slot(store, position) = owned_record;
        store->live++;
        account(store, owned_record.size);
    } else if (position >= store->base && position < store->end) {
        slice_unref(&owned_record);
    } else if (store->base == store->end || position == store->end) {
        push(store, position, owned_record);
    } else {
        put_stray(store, position, owned_record);
    }
}

void store_note_where(struct store *store, uint64_t position, uint64_t index, uint32_t nth)
{
    if (store->where.count > store->where_first) {
        struct where_run *last = &vec_last(&store->where);
        if (last->index == index && last->position + last->count == position &&
            last->nth + last->count == nth) {
            last->count++;
            return;
        }
        WR_ASSERT_OP(last->position + last->count, <=, position);
    }
    vec_push(&store->where, (struct where_run){position, index, nth, 1});
}

const struct where_run *store_where(const struct store *store, uint64_t position)
{
    size_t low = store->where_first;
    size_t high = store->where.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct where_run *run = &store->where.items[middle];
        if (position < run->position) {
            high = middle;
        } else if (position >= run->position + run->count) {
            low = middle + 1;
        } else {
            return run;
        }
    }
    return NULL;
}

void store_trim_where(struct store *store, uint64_t position)
{
    while (store->where_first < store->where.count) {
        const struct where_run *run = &store->where.items[store->where_first];
        if (run->position + run->count > position) {
            break;
        }
        store->where_first++;
    }
    if (store->where_first > 64 && store->where_first > store->where.count / 2) {
        size_t left = store->where.count - store->where_first;
        memmove(store->where.items, store->where.items + store->where_first,
                left * sizeof *store->where.items);
        store->where.count = left;
        store->where_first = 0;
    }
}

static void note_kv_drop(struct store *store, uint64_t position, uint64_t count)
{
    if (position >= store->kv_end) {
        return;
    }
    if (position + count > store->kv_end) {
        count = store->kv_end - position;
    }
    if (store->kv_drops.count > 0) {
        struct position_range *last = &vec_last(&store->kv_drops);
        if (last->position + last->count == position) {
            last->count += count;
            return;
        }
    }
    vec_push(&store->kv_drops, (struct position_range){position, count});
}

static void drop_strays(struct store *store, uint64_t position, uint64_t count)
{
    if (count <= store->stray.count) {
        for (uint64_t p = position; p < position + count; p++) {
            store_forget_stray(store, p);
        }
        return;
    }
    struct umap_iter it = umap_iterate(&store->stray);
    while (umap_next(&it)) {
        if (it.key >= position && it.key - position < count) {
            store_forget_stray(store, it.key);
        }
    }
}

void store_drop(struct store *store, uint64_t position, uint64_t count)
{
    uint64_t first = position > store->base ? position : store->base;
    uint64_t end = position + count < store->end ? position + count : store->end;
    if (first < end) {
        empty_slots(store, first, end - first);
        advance(store);
    }
    if (store->stray.count > 0) {
        drop_strays(store, position, count);
    }
    if (!store->memory_only) {
        note_kv_drop(store, position, count);
    }
}

uint64_t store_run(const struct store *store, uint64_t position, uint64_t max,
                   const struct slice **ret_first)
{
    if (position >= store->base && position < store->end && slot(store, position)->buf != NULL) {
        uint64_t at = position & (store->capacity - 1);
        uint64_t run = store->capacity - at;
        run = run < store->end - position ? run : store->end - position;
        run = run < max ? run : max;
        const struct slice *first = &store->ring[at];
        uint64_t n = 1;
        while (n < run && first[n].buf != NULL) {
            n++;
        }
        *ret_first = first;
        return n;
    }
    const struct slice *stray = store->stray.count > 0 ? umap_get(&store->stray, position) : NULL;
    if (stray == NULL) {
        return 0;
    }
    *ret_first = stray;
    return 1;
}

bool store_pick(const struct store *store, uint64_t position, uint32_t count,
                struct slice *ret_slices, uint64_t *bytes)
{
    if (position < store->base || position >= store->end || count > store->end - position) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ret_slices[i] = *slot(store, position + i);
        if (ret_slices[i].buf == NULL) {
            return false;
        }
        *bytes += ret_slices[i].size;
    }
    return true;
}
