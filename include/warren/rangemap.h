/*
 * What: ordered map of disjoint runs of consecutive uint64_t keys with attributes: the state of a
 * queue machine, where a million consecutive messages cost one run. `value` advances with the key
 * (key k of a run has value + (k - first)); a, b, c and d are equal for all keys of a run. Runs
 * that touch, with equal a..d and continuing value, are always merged: the content alone decides
 * what the runs are. How: sorted chunks of up to 128 runs under a sorted directory; O(log n)
 * search, and O(1) amortised at both ends. 48 bytes per run plus slack. An empty map that never had
 * anything allocates nothing. Keys: 0 to UINT64_MAX - 1 (the end of a run must fit). Threads: one
 * owner.
 */
#ifndef WR_RANGEMAP_H
#define WR_RANGEMAP_H

#include "warren/assert.h"

struct range_attr {
    uint64_t value;
    uint64_t a;
    uint64_t b;
    uint32_t c;
    uint32_t d;
};

struct range_run {
    uint64_t first;
    uint64_t count; /* Never 0 in a map. */
    struct range_attr attr;
};

struct rangemap_chunk;

struct rangemap_dir {
    uint64_t first; /* First key of the chunk. */
    struct rangemap_chunk *chunk;
};

struct rangemap {
    struct rangemap_dir *dir; /* dir[dir_begin .. dir_begin + dir_count) is in use. */
    uint32_t dir_begin;
    uint32_t dir_count;
    uint32_t dir_capacity;
    uint32_t reserved;
    uint64_t runs; /* Number of runs. */
    uint64_t keys; /* Sum of their counts. */
};

/* Receives a piece that was removed: a run cut down to the keys that went. */
typedef void (*rangemap_piece_fn)(void *ctx, const struct range_run *piece);

void rangemap_init(struct rangemap *m);

/* Free all; the map is then empty and usable. */
void rangemap_deinit(struct rangemap *m);

/* Remove all keys. */
static inline void rangemap_clear(struct rangemap *m)
{
    rangemap_deinit(m);
}

static inline uint64_t rangemap_keys(const struct rangemap *m)
{
    return m->keys;
}

static inline uint64_t rangemap_runs(const struct rangemap *m)
{
    return m->runs;
}

static inline bool rangemap_is_empty(const struct rangemap *m)
{
    return m->keys == 0;
}

/* Bytes of heap memory in use. */
size_t rangemap_memory(const struct rangemap *m);

/* Add `count` (> 0) keys from `first`; attr->value is that of `first`. None of them may be in the
 * map (asserted). */
void rangemap_insert(struct rangemap *m, uint64_t first, uint64_t count,
                     const struct range_attr *attr);

/* The whole run that holds the key, or NULL. Like all run pointers: valid until the next change. */
const struct range_run *rangemap_find(const struct rangemap *m, uint64_t key);

/* The attributes of one key (value advanced to it). False when it is not there. */
bool rangemap_get(const struct rangemap *m, uint64_t key, struct range_attr *ret_attr);

/* First and last run, or NULL. */
const struct range_run *rangemap_first(const struct rangemap *m);
const struct range_run *rangemap_last(const struct rangemap *m);

/* Remove all keys in [first, first + count) that are there (count may reach to the end of the key
 * space: it is cut); each piece goes to the callback (NULL: none), in order. The callback must not
 * touch the map. Returns the number of keys removed. */
uint64_t rangemap_remove(struct rangemap *m, uint64_t first, uint64_t count,
                         rangemap_piece_fn piece, void *ctx);

/* Remove one key; false when it is not there. ret_attr (may be NULL) gets its attributes. */
bool rangemap_remove_key(struct rangemap *m, uint64_t key, struct range_attr *ret_attr);

/* Remove up to `max` (> 0) keys from the front of the first run; false when the map is empty. To
 * take more, call again. */
bool rangemap_pop_front(struct rangemap *m, uint64_t max, struct range_run *ret_piece);

/* The same at the end: the last keys of the last run. */
bool rangemap_pop_back(struct rangemap *m, uint64_t max, struct range_run *ret_piece);

/* Position of a run; invalid after any change of the map. */
struct rangemap_cursor {
    const struct rangemap *map;
    uint32_t dir_index;
    uint32_t run_index;
};

/* The first run that ends after `key` (the one that holds it, or else the next), or NULL; the
 * cursor stands on it. */
const struct range_run *rangemap_lower_bound(const struct rangemap *m, uint64_t key,
                                             struct rangemap_cursor *ret_cursor);

/* The next run after the cursor's, or NULL at the end. */
const struct range_run *rangemap_next(struct rangemap_cursor *cursor);

/* The run before the cursor's, or NULL at the start. */
const struct range_run *rangemap_prev(struct rangemap_cursor *cursor);

/* Check all invariants by assertion: O(n), for tests. */
void rangemap_check(const struct rangemap *m);

static inline uint64_t range_run_end(const struct range_run *r)
{
    return r->first + r->count;
}

/* Value of a key of the run. */
static inline uint64_t range_run_value(const struct range_run *r, uint64_t key)
{
    return r->attr.value + (key - r->first);
}

#endif
