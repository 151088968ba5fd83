/*
 * What: where a group's entries lie in the log: entry -> (position, size, term, flags).
 *
 * Entries are kept as runs: consecutive entries of one segment, term and flags, each as (offset,
 * size), 8 bytes. A run is closed at RUN_MAX entries, so that releasing and growing stay cheap.
 *
 * Invariants
 * I1  Runs are in order of entries and do not overlap; gaps are allowed.
 * I2  Their segments do not decrease: what is put later lies later in the log (caller's promise).
 * I3  Live runs are items[begin..count); those before `begin` are released and hold no memory.
 */
#include "warren/log.h"

#include "warren/vec.h"

#define RUN_MAX 2048u

struct place {
    uint32_t offset, size;
};

struct run {
    uint64_t first; /* entry of places[0] */
    uint64_t term;
    uint32_t segment, count, capacity;
    uint8_t flags;
    struct place *places;
};

struct log_index {
    VEC(struct run) runs;
    size_t begin;
};

struct log_index *log_index_new(void)
{
    return wr_calloc(1, sizeof(struct log_index));
}

void log_index_free(struct log_index *index)
{
    if (index == NULL) {
        return;
    }
    for (size_t i = index->begin; i < index->runs.count; i++) {
        wr_free(index->runs.items[i].places);
    }
    vec_deinit(&index->runs);
    wr_free(index);
}

/* The first live run that ends after `entry`, or runs.count. */
static size_t find_run(const struct log_index *index, uint64_t entry)
{
    size_t low = index->begin, high = index->runs.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct run *run = &index->runs.items[middle];
        if (run->first + run->count <= entry) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void log_index_truncate(struct log_index *index, uint64_t from)
{
    while (index->runs.count > index->begin) {
        struct run *run = &vec_last(&index->runs);
        if (run->first + run->count <= from) {
            return;
        }
        if (run->first < from) {
            run->count = (uint32_t)(from - run->first);
            return;
        }
        wr_free(run->places);
        (void)vec_pop(&index->runs);
    }
    if (index->begin > 0) {
        vec_clear(&index->runs);
        index->begin = 0;
    }
}

/* The run gets no more entries: it need not have room for them. */
static void run_close(struct run *run)
{
    if (run->capacity > run->count) {
        run->places = wr_realloc_array(run->places, run->count, sizeof(*run->places));
        run->capacity = run->count;
    }
}

static void run_push(struct run *run, struct place place)
{
    if (run->count == run->capacity) {
        run->capacity = run->capacity < 4 ? 4 : run->capacity + run->capacity / 4 + 1;
        run->places = wr_realloc_array(run->places, run->capacity, sizeof(*run->places));
    }
    run->places[run->count++] = place;
}

void log_index_put(struct log_index *index, uint64_t entry, const struct log_location *location)
{
    WR_ASSERT_OP(location->position.segment, >, 0);
    log_index_truncate(index, entry);
    struct run *run = NULL;
    if (index->runs.count > index->begin) {
        run = &vec_last(&index->runs);
        WR_ASSERT_OP(location->position.segment, >=, run->segment); /* I2 */
        if (run->first + run->count != entry || run->term != location->term ||
            run->segment != location->position.segment || run->flags != location->flags ||
            run->count >= RUN_MAX) {
            run_close(run);
            run = NULL;
        }
    }
    if (run == NULL) {
        run = vec_add(&index->runs);
        run->first = entry;
        run->term = location->term;
        run->segment = location->position.segment;
        run->flags = location->flags;
    }
    run_push(run, (struct place){location->position.offset, location->size});
}

void log_index_release(struct log_index *index, uint32_t segment)
{
    while (index->begin < index->runs.count && index->runs.items[index->begin].segment <= segment) {
        wr_free(index->runs.items[index->begin].places);
        index->begin++;
    }
    if (index->begin == index->runs.count) {
        vec_deinit(&index->runs);
        index->begin = 0;
    } else if (index->begin > index->runs.count / 2) {
        index->runs.count -= index->begin;
        memmove(index->runs.items, index->runs.items + index->begin,
                index->runs.count * sizeof(*index->runs.items));
        index->begin = 0;
    }
}

bool log_index_find(const struct log_index *index, uint64_t entry,
                    struct log_location *ret_location)
{
    const size_t at = find_run(index, entry);
    if (at == index->runs.count || index->runs.items[at].first > entry) {
        return false;
    }
    const struct run *run = &index->runs.items[at];
    const struct place place = run->places[entry - run->first];
    *ret_location = (struct log_location){
        .position = {run->segment, place.offset},
        .size = place.size,
        .term = run->term,
        .flags = run->flags,
    };
    return true;
}

uint32_t log_index_lowest_segment(const struct log_index *index)
{
    return index->begin == index->runs.count ? 0 : index->runs.items[index->begin].segment;
}

size_t log_index_memory(const struct log_index *index)
{
    size_t size = sizeof(*index) + index->runs.capacity * sizeof(*index->runs.items);
    for (size_t i = index->begin; i < index->runs.count; i++) {
        size += index->runs.items[i].capacity * sizeof(struct place);
    }
    return size;
}
