/*
 * What: ordered map of runs of consecutive keys: a directory sorted by first key, of chunks that
 * hold up to 128 sorted runs each. Invariants: I1 runs are disjoint and ascending, none is empty.
 * I2 no two neighbouring runs could be joined. I3 dir[i].first is the first key of chunk i. I4 no
 * chunk is empty, except the only one of an empty map, which is kept so that a queue that goes
 * between empty and one does not allocate. I5 `runs` and `keys` are the sums over the chunks. How
 * both ends stay cheap: chunks and the directory have their used part in the middle of their arrays
 * (begin, count), so that taking from the front moves nothing; a chunk that is full at either end
 * of the map is followed by a new one instead of being split. Ownership: the map owns everything.
 * Threads: one.
 */
#include "warren/rangemap.h"

#include <string.h>

#include "warren/mem.h"

#define CHUNK_RUNS_MIN 4
#define CHUNK_RUNS_MAX 128
#define DIR_MIN        2

/* Neighbours are joined when both fit into half a chunk: then a split is far away again. */
#define CHUNK_JOIN_MAX (CHUNK_RUNS_MAX / 2)
#define CHUNK_LOW      (CHUNK_RUNS_MAX / 4)

struct rangemap_chunk {
    uint16_t begin; /* runs[begin .. begin + count) is in use. */
    uint16_t count;
    uint16_t capacity;
    uint16_t reserved;
    struct range_run runs[];
};

static_assert(sizeof(struct range_run) == 48, "memory per run is part of the contract");

/* Where a run is: chunk index (from 0, without dir_begin) and position in the chunk. */
struct place {
    uint32_t chunk;
    uint32_t run;
};

/* Chunks. */

static struct rangemap_chunk *chunk_new(uint32_t capacity, uint32_t begin)
{
    struct rangemap_chunk *chunk =
        wr_alloc(sizeof(struct rangemap_chunk) + capacity * sizeof(struct range_run));
    *chunk = (struct rangemap_chunk){(uint16_t)begin, 0, (uint16_t)capacity, 0};
    return chunk;
}

static struct range_run *chunk_run(struct rangemap_chunk *chunk, uint32_t position)
{
    return &chunk->runs[chunk->begin + position];
}

/* Number of runs that begin at or before the key. */
static uint32_t chunk_count_to(const struct rangemap_chunk *chunk, uint64_t key)
{
    const struct range_run *runs = &chunk->runs[chunk->begin];
    uint32_t low = 0;
    uint32_t high = chunk->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (runs[middle].first <= key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Make a hole at the position; there is room on at least one side. */
static void chunk_open(struct rangemap_chunk *chunk, uint32_t position)
{
    WR_ASSERT_OP(chunk->count, <, chunk->capacity);
    struct range_run *runs = &chunk->runs[chunk->begin];
    const bool room_behind = chunk->begin + chunk->count < chunk->capacity;
    if (!room_behind && position == chunk->count) {
        /* A window that slides through the chunk: all the room there is, not one place each time.
         */
        memmove(chunk->runs, runs, position * sizeof(*runs));
        chunk->begin = 0;
    } else if (chunk->begin > 0 && (!room_behind || position < chunk->count / 2U)) {
        memmove(runs - 1, runs, position * sizeof(*runs));
        chunk->begin--;
    } else {
        memmove(runs + position + 1, runs + position, (chunk->count - position) * sizeof(*runs));
    }
    chunk->count++;
}

/* Close the hole that taking out `count` runs from the position on leaves. */
static void chunk_close(struct rangemap_chunk *chunk, uint32_t position, uint32_t count)
{
    struct range_run *runs = &chunk->runs[chunk->begin];
    const uint32_t behind = chunk->count - position - count;
    if (position < behind) {
        memmove(runs + count, runs, position * sizeof(*runs));
        chunk->begin = (uint16_t)(chunk->begin + count);
    } else {
        memmove(runs + position, runs + position + count, behind * sizeof(*runs));
    }
    chunk->count = (uint16_t)(chunk->count - count);
}

/* Directory. */

static struct rangemap_dir *dir_at(const struct rangemap *m, uint32_t index)
{
    return &m->dir[m->dir_begin + index];
}

static struct rangemap_chunk *chunk_at(const struct rangemap *m, uint32_t index)
{
    return dir_at(m, index)->chunk;
}

/* The last chunk that begins at or before the key, or the first one. The map is not empty. */
static uint32_t dir_find(const struct rangemap *m, uint64_t key)
{
    const struct rangemap_dir *dir = &m->dir[m->dir_begin];
    uint32_t low = 0;
    uint32_t high = m->dir_count;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (dir[middle].first <= key) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Move the used part so that `front` free places are before it, in an array of that capacity. */
static void dir_move(struct rangemap *m, uint32_t capacity, uint32_t front)
{
    if (capacity != m->dir_capacity) {
        m->dir = wr_realloc_array(m->dir, capacity, sizeof(*m->dir));
        m->dir_capacity = capacity;
    }
    WR_ASSERT_OP(front + m->dir_count, <=, capacity);
    memmove(m->dir + front, m->dir + m->dir_begin, m->dir_count * sizeof(*m->dir));
    m->dir_begin = front;
}

/* Make sure that there is a free place before (or behind) the used part. */
static void dir_make_room(struct rangemap *m, bool front)
{
    if (front ? m->dir_begin > 0 : m->dir_begin + m->dir_count < m->dir_capacity) {
        return;
    }
    /* A quarter free: moving pays for many insertions. Otherwise double. */
    const uint32_t free_places = m->dir_capacity - m->dir_count;
    uint32_t capacity = m->dir_capacity;
    if (free_places == 0 || free_places < capacity / 4) {
        WR_ASSERT_OP(capacity, <, UINT32_MAX / 2);
        capacity = capacity == 0 ? DIR_MIN : capacity * 2;
    }
    const uint32_t spare = capacity - m->dir_count;
    dir_move(m, capacity, front ? spare - spare / 4 : spare / 4);
}

static void dir_insert(struct rangemap *m, uint32_t index, struct rangemap_chunk *owned_chunk,
                       uint64_t first)
{
    const bool front = index < m->dir_count / 2 || (index == 0 && m->dir_count > 0);
    dir_make_room(m, front);
    struct rangemap_dir *dir = &m->dir[m->dir_begin];
    if (front) {
        memmove(dir - 1, dir, index * sizeof(*dir));
        m->dir_begin--;
    } else {
        memmove(dir + index + 1, dir + index, (m->dir_count - index) * sizeof(*dir));
    }
    m->dir_count++;
    *dir_at(m, index) = (struct rangemap_dir){first, owned_chunk};
}

static void dir_remove(struct rangemap *m, uint32_t index)
{
    wr_free(chunk_at(m, index));
    struct rangemap_dir *dir = &m->dir[m->dir_begin];
    if (index < m->dir_count / 2) {
        memmove(dir + 1, dir, index * sizeof(*dir));
        m->dir_begin++;
    } else {
        memmove(dir + index, dir + index + 1, (m->dir_count - index - 1) * sizeof(*dir));
    }
    m->dir_count--;
}

/* Places. */

static struct range_run *run_at(const struct rangemap *m, struct place at)
{
    return chunk_run(chunk_at(m, at.chunk), at.run);
}

/* Keep I3 after the first run of a chunk has changed. */
static void note_first(struct rangemap *m, struct place at)
{
    if (at.run == 0) {
        dir_at(m, at.chunk)->first = run_at(m, at)->first;
    }
}

/* The last run that begins at or before the key; false when there is none. */
static bool find_before(const struct rangemap *m, uint64_t key, struct place *ret_place)
{
    if (m->runs == 0) {
        return false;
    }
    const uint32_t chunk = dir_find(m, key);
    const uint32_t count = chunk_count_to(chunk_at(m, chunk), key);
    if (count == 0) {
        return false;
    }
    *ret_place = (struct place){chunk, count - 1};
    return true;
}

/* Step to the next run; false at the end. */
static bool step(const struct rangemap *m, struct place *at)
{
    if (at->run + 1 < chunk_at(m, at->chunk)->count) {
        at->run++;
        return true;
    }
    if (at->chunk + 1 < m->dir_count) {
        *at = (struct place){at->chunk + 1, 0};
        return true;
    }
    return false;
}

/* The first run that ends after the key; false when there is none. */
static bool find_from(const struct rangemap *m, uint64_t key, struct place *ret_place)
{
    struct place at;
    if (m->runs == 0) {
        return false;
    }
    if (!find_before(m, key, &at)) {
        *ret_place = (struct place){0, 0};
        return true;
    }
    if (range_run_end(run_at(m, at)) <= key && !step(m, &at)) {
        return false;
    }
    *ret_place = at;
    return true;
}

/* Move the upper half of a full chunk into a new one behind it. */
static void split(struct rangemap *m, uint32_t index)
{
    struct rangemap_chunk *chunk = chunk_at(m, index);
    const uint16_t keep = chunk->count / 2;
    const uint16_t moved = (uint16_t)(chunk->count - keep);
    struct rangemap_chunk *upper = chunk_new(CHUNK_RUNS_MAX, 0);
    memcpy(upper->runs, chunk_run(chunk, keep), moved * sizeof(struct range_run));
    upper->count = moved;
    chunk->count = keep;
    dir_insert(m, index + 1, upper, upper->runs[0].first);
}

/* Where a run can be inserted at `at`, after making room: `at` itself or the same place elsewhere.
 */
static struct place make_room(struct rangemap *m, struct place at)
{
    struct rangemap_chunk *chunk = chunk_at(m, at.chunk);
    if (chunk->count < chunk->capacity) {
        return at;
    }
    if (chunk->capacity < CHUNK_RUNS_MAX) {
        const uint32_t capacity = chunk->capacity * 2U;
        chunk = wr_realloc(chunk, sizeof(*chunk) + capacity * sizeof(struct range_run));
        chunk->capacity = (uint16_t)capacity;
        dir_at(m, at.chunk)->chunk = chunk;
        return at;
    }
    if (at.chunk == m->dir_count - 1 && at.run == chunk->count) {
        dir_insert(m, m->dir_count, chunk_new(CHUNK_RUNS_MAX, 0), UINT64_MAX);
        return (struct place){m->dir_count - 1, 0};
    }
    if (at.chunk == 0 && at.run == 0) {
        dir_insert(m, 0, chunk_new(CHUNK_RUNS_MAX, CHUNK_RUNS_MAX), 0);
        return at;
    }
    split(m, at.chunk);
    const uint32_t lower = chunk_at(m, at.chunk)->count;
    return at.run <= lower ? at : (struct place){at.chunk + 1, at.run - lower};
}

/* Insert a run before the place (which may be one past a chunk's last). */
static void insert_run(struct rangemap *m, struct place at, const struct range_run *run)
{
    at = make_room(m, at);
    chunk_open(chunk_at(m, at.chunk), at.run);
    *run_at(m, at) = *run;
    note_first(m, at);
    m->runs++;
}

/* Pour chunk index + 1 into chunk index. */
static void join_chunks(struct rangemap *m, uint32_t index)
{
    struct rangemap_chunk *lower = chunk_at(m, index);
    struct rangemap_chunk *upper = chunk_at(m, index + 1);
    if (lower->begin + lower->count + upper->count > lower->capacity) {
        memmove(lower->runs, chunk_run(lower, 0), lower->count * sizeof(struct range_run));
        lower->begin = 0;
    }
    memcpy(chunk_run(lower, lower->count), chunk_run(upper, 0),
           upper->count * sizeof(struct range_run));
    lower->count = (uint16_t)(lower->count + upper->count);
    dir_remove(m, index + 1);
}

static bool may_join(const struct rangemap *m, uint32_t index)
{
    const uint32_t count = chunk_at(m, index)->count + (uint32_t)chunk_at(m, index + 1)->count;
    return count <= CHUNK_JOIN_MAX && count <= chunk_at(m, index)->capacity;
}

/* Take out `count` runs of one chunk from the place on; what their keys were is the caller's
 * business. */
static void erase_runs(struct rangemap *m, struct place at, uint32_t count)
{
    struct rangemap_chunk *chunk = chunk_at(m, at.chunk);
    chunk_close(chunk, at.run, count);
    m->runs -= count;
    if (chunk->count == 0) {
        if (m->dir_count > 1) {
            dir_remove(m, at.chunk);
        } else if (chunk->capacity > CHUNK_RUNS_MIN) {
            rangemap_deinit(m);
        } else {
            chunk->begin = 0;
        }
        return;
    }
    if (at.run == 0) {
        dir_at(m, at.chunk)->first = chunk_run(chunk, 0)->first;
    }
    if (chunk->count < CHUNK_LOW) {
        if (at.chunk + 1 < m->dir_count && may_join(m, at.chunk)) {
            join_chunks(m, at.chunk);
        } else if (at.chunk > 0 && may_join(m, at.chunk - 1)) {
            join_chunks(m, at.chunk - 1);
        }
    }
}

/* Runs. */

static bool joins(const struct range_run *left, const struct range_run *right)
{
    const struct range_attr *a = &left->attr;
    const struct range_attr *b = &right->attr;
    return left->first + left->count == right->first && a->value + left->count == b->value &&
           a->a == b->a && a->b == b->b && a->c == b->c && a->d == b->d;
}

/* The part of the run from `first` to `end`. */
static struct range_run cut(const struct range_run *run, uint64_t first, uint64_t end)
{
    struct range_run part = *run;
    part.attr.value = range_run_value(run, first);
    part.first = first;
    part.count = end - first;
    return part;
}

void rangemap_init(struct rangemap *m)
{
    *m = (struct rangemap){.dir = NULL};
}

void rangemap_deinit(struct rangemap *m)
{
    for (uint32_t i = 0; i < m->dir_count; i++) {
        wr_free(chunk_at(m, i));
    }
    wr_free(m->dir);
    rangemap_init(m);
}

size_t rangemap_memory(const struct rangemap *m)
{
    size_t size = m->dir_capacity * sizeof(struct rangemap_dir);
    for (uint32_t i = 0; i < m->dir_count; i++) {
        size += sizeof(struct rangemap_chunk) + chunk_at(m, i)->capacity * sizeof(struct range_run);
    }
    return size;
}

static struct place last_place(const struct rangemap *m)
{
    return (struct place){m->dir_count - 1, chunk_at(m, m->dir_count - 1)->count - 1U};
}

/* Behind everything that is there: the usual case. */
static void append(struct rangemap *m, const struct range_run *run)
{
    if (m->dir_count == 0) {
        dir_insert(m, 0, chunk_new(CHUNK_RUNS_MIN, 0), run->first);
    }
    if (m->runs == 0) {
        insert_run(m, (struct place){0, 0}, run);
        return;
    }
    const struct place at = last_place(m);
    struct range_run *last = run_at(m, at);
    struct rangemap_chunk *chunk = chunk_at(m, at.chunk);
    if (joins(last, run)) {
        last->count += run->count;
    } else if (WR_LIKELY(chunk->begin + chunk->count < chunk->capacity)) {
        last[1] = *run;
        chunk->count++;
        m->runs++;
    } else {
        insert_run(m, (struct place){at.chunk, at.run + 1}, run);
    }
}

/* Between `left` and `right` (each NULL when there is none), joining with them where that fits. */
static void insert_between(struct rangemap *m, const struct place *left, const struct place *right,
                           const struct range_run *run)
{
    struct range_run *left_run = left == NULL ? NULL : run_at(m, *left);
    struct range_run *right_run = right == NULL ? NULL : run_at(m, *right);
    WR_ASSERT(left_run == NULL || range_run_end(left_run) <= run->first);
    WR_ASSERT(right_run == NULL || range_run_end(run) <= right_run->first);
    const bool joins_left = left_run != NULL && joins(left_run, run);
    const bool joins_right = right_run != NULL && joins(run, right_run);
    if (joins_left) {
        left_run->count += run->count + (joins_right ? right_run->count : 0);
        if (joins_right) {
            erase_runs(m, *right, 1);
        }
    } else if (joins_right) {
        right_run->first = run->first;
        right_run->count += run->count;
        right_run->attr = run->attr;
        note_first(m, *right);
    } else if (left != NULL) {
        insert_run(m, (struct place){left->chunk, left->run + 1}, run);
    } else {
        insert_run(m, (struct place){0, 0}, run);
    }
}

void rangemap_insert(struct rangemap *m, uint64_t first, uint64_t count,
                     const struct range_attr *attr)
{
    WR_ASSERT_OP(count, >, 0);
    WR_ASSERT_OP(count, <=, UINT64_MAX - first);
    const struct range_run run = {first, count, *attr};
    m->keys += count;
    const struct range_run *last = rangemap_last(m);
    if (last == NULL || range_run_end(last) <= first) {
        append(m, &run);
        return;
    }
    struct place left;
    struct place right = {0, 0};
    if (!find_before(m, first, &left)) {
        insert_between(m, NULL, &right, &run);
        return;
    }
    right = left;
    const bool has_right = step(m, &right);
    insert_between(m, &left, has_right ? &right : NULL, &run);
}

const struct range_run *rangemap_find(const struct rangemap *m, uint64_t key)
{
    struct place at;
    if (!find_before(m, key, &at)) {
        return NULL;
    }
    const struct range_run *run = run_at(m, at);
    return key < range_run_end(run) ? run : NULL;
}

bool rangemap_get(const struct rangemap *m, uint64_t key, struct range_attr *ret_attr)
{
    const struct range_run *run = rangemap_find(m, key);
    if (run == NULL) {
        return false;
    }
    *ret_attr = run->attr;
    ret_attr->value = range_run_value(run, key);
    return true;
}

const struct range_run *rangemap_first(const struct rangemap *m)
{
    return m->runs == 0 ? NULL : run_at(m, (struct place){0, 0});
}

const struct range_run *rangemap_last(const struct rangemap *m)
{
    return m->runs == 0 ? NULL : run_at(m, last_place(m));
}

/* Remove [first, end), which lies within the run at the place. */
static void remove_within(struct rangemap *m, struct place at, uint64_t first, uint64_t end)
{
    struct range_run *run = run_at(m, at);
    const uint64_t run_end = range_run_end(run);
    WR_ASSERT(run->first <= first && end <= run_end);
    m->keys -= end - first;
    if (run->first == first && run_end == end) {
        erase_runs(m, at, 1);
    } else if (run->first == first) {
        *run = cut(run, end, run_end);
        note_first(m, at);
    } else if (run_end == end) {
        run->count = first - run->first;
    } else {
        const struct range_run rest = cut(run, end, run_end);
        run->count = first - run->first;
        insert_run(m, (struct place){at.chunk, at.run + 1}, &rest);
    }
}

/* Takes out the runs of one chunk, from the place on, that end by `end`: at least the first one.
 * Returns the end of the last. */
static uint64_t remove_whole(struct rangemap *m, struct place at, uint64_t end,
                             rangemap_piece_fn piece, void *ctx)
{
    struct rangemap_chunk *chunk = chunk_at(m, at.chunk);
    uint32_t position = at.run;
    uint64_t last_end = 0;
    for (; position < chunk->count && range_run_end(chunk_run(chunk, position)) <= end;
         position++) {
        const struct range_run gone = *chunk_run(chunk, position);
        last_end = range_run_end(&gone);
        m->keys -= gone.count;
        if (piece != NULL) {
            piece(ctx, &gone);
        }
    }
    erase_runs(m, at, position - at.run);
    return last_end;
}

uint64_t rangemap_remove(struct rangemap *m, uint64_t first, uint64_t count,
                         rangemap_piece_fn piece, void *ctx)
{
    const uint64_t end = count > UINT64_MAX - first ? UINT64_MAX : first + count;
    const uint64_t before = m->keys;
    struct place at;
    while (first < end && find_from(m, first, &at)) {
        const struct range_run *run = run_at(m, at);
        if (run->first >= end) {
            break;
        }
        if (run->first >= first && range_run_end(run) <= end) {
            first = remove_whole(m, at, end, piece, ctx);
            continue;
        }
        const uint64_t cut_first = run->first > first ? run->first : first;
        const uint64_t cut_end = range_run_end(run) < end ? range_run_end(run) : end;
        const struct range_run gone = cut(run, cut_first, cut_end);
        remove_within(m, at, cut_first, cut_end);
        if (piece != NULL) {
            piece(ctx, &gone);
        }
        first = cut_end;
    }
    return before - m->keys;
}

bool rangemap_remove_key(struct rangemap *m, uint64_t key, struct range_attr *ret_attr)
{
    struct place at;
    if (!find_before(m, key, &at) || range_run_end(run_at(m, at)) <= key) {
        return false;
    }
    if (ret_attr != NULL) {
        *ret_attr = cut(run_at(m, at), key, key + 1).attr;
    }
    remove_within(m, at, key, key + 1);
    return true;
}

bool rangemap_pop_front(struct rangemap *m, uint64_t max, struct range_run *ret_piece)
{
    WR_ASSERT_OP(max, >, 0);
    if (m->runs == 0) {
        return false;
    }
    const struct place at = {0, 0};
    const struct range_run *run = run_at(m, at);
    const uint64_t end = run->count <= max ? range_run_end(run) : run->first + max;
    *ret_piece = cut(run, run->first, end);
    remove_within(m, at, run->first, end);
    return true;
}

bool rangemap_pop_back(struct rangemap *m, uint64_t max, struct range_run *ret_piece)
{
    WR_ASSERT_OP(max, >, 0);
    if (m->runs == 0) {
        return false;
    }
    const struct place at = last_place(m);
    const struct range_run *run = run_at(m, at);
    const uint64_t end = range_run_end(run);
    const uint64_t first = run->count <= max ? run->first : end - max;
    *ret_piece = cut(run, first, end);
    remove_within(m, at, first, end);
    return true;
}

/* Iteration. */

const struct range_run *rangemap_lower_bound(const struct rangemap *m, uint64_t key,
                                             struct rangemap_cursor *ret_cursor)
{
    struct place at;
    if (!find_from(m, key, &at)) {
        return NULL;
    }
    *ret_cursor = (struct rangemap_cursor){m, at.chunk, at.run};
    return run_at(m, at);
}

const struct range_run *rangemap_next(struct rangemap_cursor *cursor)
{
    struct place at = {cursor->dir_index, cursor->run_index};
    if (!step(cursor->map, &at)) {
        return NULL;
    }
    cursor->dir_index = at.chunk;
    cursor->run_index = at.run;
    return run_at(cursor->map, at);
}

const struct range_run *rangemap_prev(struct rangemap_cursor *cursor)
{
    if (cursor->run_index > 0) {
        cursor->run_index--;
    } else if (cursor->dir_index > 0) {
        cursor->dir_index--;
        cursor->run_index = chunk_at(cursor->map, cursor->dir_index)->count - 1U;
    } else {
        return NULL;
    }
    return run_at(cursor->map, (struct place){cursor->dir_index, cursor->run_index});
}

void rangemap_check(const struct rangemap *m)
{
    uint64_t runs = 0;
    uint64_t keys = 0;
    const struct range_run *before = NULL;
    WR_ASSERT_OP(m->dir_begin + m->dir_count, <=, m->dir_capacity);
    for (uint32_t i = 0; i < m->dir_count; i++) {
        struct rangemap_chunk *chunk = chunk_at(m, i);
        WR_ASSERT(chunk->count > 0 || (m->dir_count == 1 && m->runs == 0));
        WR_ASSERT_OP(chunk->begin + chunk->count, <=, chunk->capacity);
        WR_ASSERT(chunk->count == 0 || dir_at(m, i)->first == chunk_run(chunk, 0)->first);
        for (uint32_t j = 0; j < chunk->count; j++) {
            const struct range_run *run = chunk_run(chunk, j);
            WR_ASSERT_OP(run->count, >, 0);
            WR_ASSERT(before == NULL || range_run_end(before) <= run->first);
            WR_ASSERT(before == NULL || !joins(before, run));
            runs++;
            keys += run->count;
            before = run;
        }
    }
    WR_ASSERT_OP(runs, ==, m->runs);
    WR_ASSERT_OP(keys, ==, m->keys);
}
