/*
 * What: the log as the core sees it: the terms of all entries since the snapshot, as runs, and the
 * payloads of a window [cache_begin, last] in a ring addressed by index.
 *
 * Invariants:
 *   L1  base <= persisted <= handed <= last.
 *   L2  runs are ascending in begin and term; the first begins at base + 1 if the log is not empty.
 *   L3  the cache is a suffix of the log: [cache_begin, last].
 *   L4  entries above `persisted` are cached (only durable ones are ever trimmed).
 *   L5  each truncation starts a new generation, so that a completion of the old suffix is told
 * from one of the new (pitfalls R1, R2, R3). Ownership: one reference to the owner of each cached
 * entry.
 */
#include "raft_internal.h"

#include <string.h>

bool raft__log_has(const struct raft *r, uint64_t index)
{
    return index >= r->log.base && index <= r->log.last;
}

/* Position of the run that contains `index` (> base, <= last). */
static uint32_t log_run(const struct raft_log *l, uint64_t index)
{
    RAFT_ASSERT(l->run_count > 0);
    /* Nearly all look-ups concern the last term. */
    if (l->runs[l->run_count - 1].begin <= index) {
        return l->run_count - 1;
    }
    uint32_t low = 0;
    uint32_t high = l->run_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (l->runs[middle].begin <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

struct raft_term raft__log_term(const struct raft *r, uint64_t index)
{
    RAFT_ASSERT(raft__log_has(r, index));
    if (index == r->log.base) {
        return r->log.base_term;
    }
    return r->log.runs[log_run(&r->log, index)].term;
}

bool raft__log_match(const struct raft *r, uint64_t index, struct raft_term term)
{
    return raft__log_has(r, index) && raft__log_term(r, index).v == term.v;
}

struct raft_entry *raft__log_slot(const struct raft *r, uint64_t index)
{
    const struct raft_log *l = &r->log;
    if (index < l->cache_begin || index > l->last) {
        return NULL;
    }
    return &l->ring[index & (l->ring_capacity - 1)];
}

static void log_resize(struct raft *r, uint32_t capacity)
{
    struct raft_log *l = &r->log;
    RAFT_ASSERT((capacity & (capacity - 1)) == 0);
    RAFT_ASSERT(l->last + 1 - l->cache_begin <= capacity);
    struct raft_entry *ring = raft__alloc(r, capacity * sizeof *ring);
    for (uint64_t i = l->cache_begin; i <= l->last; i++) {
        ring[i & (capacity - 1)] = l->ring[i & (l->ring_capacity - 1)];
    }
    raft__release(r, l->ring);
    l->ring = ring;
    l->ring_capacity = capacity;
}

static void log_extend(struct raft *r, struct raft_term term)
{
    struct raft_log *l = &r->log;
    RAFT_ASSERT(l->last < RAFT_INDEX_MAX);
    RAFT_ASSERT(raft__log_term(r, l->last).v <= term.v);
    if (l->run_count == 0 || l->runs[l->run_count - 1].term.v != term.v) {
        raft__reserve(r, (void **)&l->runs, &l->run_capacity, l->run_count + 1, sizeof *l->runs);
        l->runs[l->run_count++] = (struct raft_run){l->last + 1, term};
    }
    l->last++;
}

void raft__log_append(struct raft *r, const struct raft_entry *e)
{
    struct raft_log *l = &r->log;
    RAFT_ASSERT(e->index == l->last + 1);
    RAFT_ASSERT(!e->trimmed);
    uint64_t cached = l->last + 1 - l->cache_begin;
    if (cached == l->ring_capacity) {
        log_resize(r, l->ring_capacity == 0 ? 4 : l->ring_capacity * 2);
    }
    log_extend(r, e->term);
    l->ring[l->last & (l->ring_capacity - 1)] = *e;
    l->cached_bytes += e->size;
    raft__ref(r, e->owner);
}

/* An entry whose payload stays on disk. The cache stays a suffix: what was cached before it goes.
 */
void raft__log_append_trimmed(struct raft *r, struct raft_term term)
{
    raft__log_trim(r, r->log.last);
    log_extend(r, term);
    r->log.cache_begin = r->log.last + 1;
}

static void log_drop(struct raft *r, uint64_t index)
{
    struct raft_entry *e = raft__log_slot(r, index);
    RAFT_ASSERT(e != NULL);
    r->log.cached_bytes -= e->size;
    raft__unref(r, e->owner);
    *e = (struct raft_entry){0};
}

void raft__log_truncate(struct raft *r, uint64_t from)
{
    struct raft_log *l = &r->log;
    RAFT_ASSERT(from > l->base);
    RAFT_ASSERT(from <= l->last);
    for (uint64_t i = raft__max(from, l->cache_begin); i <= l->last; i++) {
        log_drop(r, i);
    }
    while (l->run_count > 0 && l->runs[l->run_count - 1].begin >= from) {
        l->run_count--;
    }
    l->last = from - 1;
    l->cache_begin = raft__min(l->cache_begin, from);
    l->persisted = raft__min(l->persisted, l->last);
    l->handed = raft__min(l->handed, l->last);
    l->generation++;
    raft__members_truncate(r, from);
}

void raft__log_trim(struct raft *r, uint64_t index)
{
    struct raft_log *l = &r->log;
    uint64_t end = raft__min(index, l->last) + 1;
    if (end <= l->cache_begin) {
        return;
    }
    for (uint64_t i = l->cache_begin; i < end; i++) {
        log_drop(r, i);
    }
    l->cache_begin = end;
    uint64_t cached = l->last + 1 - l->cache_begin;
    if (cached == 0 && l->ring_capacity > 16) {
        raft__release(r, l->ring);
        l->ring = NULL;
        l->ring_capacity = 0;
    } else if (l->ring_capacity > 64 && cached < l->ring_capacity / 4) {
        log_resize(r, l->ring_capacity / 2);
    }
}

void raft__log_compact(struct raft *r, uint64_t index)
{
    struct raft_log *l = &r->log;
    RAFT_ASSERT(raft__log_has(r, index));
    struct raft_term term = raft__log_term(r, index);
    raft__members_compact(r, index);
    raft__log_trim(r, index);
    uint32_t drop = 0;
    while (drop + 1 < l->run_count && l->runs[drop + 1].begin <= index + 1) {
        drop++;
    }
    if (index == l->last) {
        drop = l->run_count;
    }
    if (l->run_count > 0) {
        memmove(l->runs, l->runs + drop, (l->run_count - drop) * sizeof *l->runs);
        l->run_count -= drop;
    }
    if (l->run_count > 0) {
        l->runs[0].begin = index + 1;
    }
    l->base = index;
    l->base_term = term;
    l->cache_begin = raft__max(l->cache_begin, index + 1);
    /* A snapshot covers what was not durable yet. */
    l->persisted = raft__max(l->persisted, index);
    l->handed = raft__max(l->handed, index);
}

void raft__log_reset(struct raft *r, uint64_t index, struct raft_term term)
{
    struct raft_log *l = &r->log;
    raft__log_trim(r, l->last);
    l->run_count = 0;
    l->base = index;
    l->base_term = term;
    l->last = index;
    l->persisted = index;
    l->handed = index;
    l->cache_begin = index + 1;
    l->generation++;
}

/* The largest index <= `index` whose term is <= `term`: where two logs may still agree (etcd's and
 * thesis 3.5's hint). base if there is none above it. */
uint64_t raft__log_find(const struct raft *r, uint64_t index, struct raft_term term)
{
    const struct raft_log *l = &r->log;
    uint64_t i = raft__min(index, l->last);
    while (i > l->base) {
        uint32_t run = log_run(l, i);
        if (l->runs[run].term.v <= term.v) {
            return i;
        }
        i = l->runs[run].begin - 1;
    }
    return l->base;
}

void raft__log_deinit(struct raft *r)
{
    raft__log_trim(r, r->log.last);
    raft__release(r, r->log.ring);
    raft__release(r, r->log.runs);
}
