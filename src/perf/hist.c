/*
 * What: see hist.h. A value below 64 has a bucket of its own; above, the bucket is the position of
 * the highest bit and the six bits below it.
 */
#include "hist.h"

#include <string.h>

#include "warren/assert.h"

static uint32_t bucket_of(uint64_t value)
{
    const uint64_t first = UINT64_C(1) << HIST_SUB_BITS;
    if (value < first) {
        return (uint32_t)value;
    }
    const uint32_t shift = (uint32_t)(63 - __builtin_clzll(value)) - HIST_SUB_BITS;
    return (uint32_t)(((uint64_t)(shift + 1) << HIST_SUB_BITS) + ((value >> shift) - first));
}

/* The largest value of a bucket. */
static uint64_t bucket_top(uint32_t bucket)
{
    const uint32_t group = bucket >> HIST_SUB_BITS;
    const uint64_t sub = bucket & ((1u << HIST_SUB_BITS) - 1);
    if (group == 0) {
        return sub;
    }
    const uint64_t base = (UINT64_C(1) << HIST_SUB_BITS) + sub;
    return (base << (group - 1)) + ((UINT64_C(1) << (group - 1)) - 1);
}

void hist_clear(struct hist *h)
{
    memset(h, 0, sizeof(*h));
    h->min = UINT64_MAX;
}

void hist_record(struct hist *h, uint64_t value)
{
    h->count++;
    h->sum += value;
    h->min = value < h->min ? value : h->min;
    h->max = value > h->max ? value : h->max;
    h->buckets[bucket_of(value)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    if (from->count == 0) {
        return;
    }
    into->count += from->count;
    into->sum += from->sum;
    into->min = from->min < into->min ? from->min : into->min;
    into->max = from->max > into->max ? from->max : into->max;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
}

uint64_t hist_quantile(const struct hist *h, uint64_t num, uint64_t den)
{
    WR_ASSERT(den > 0 && num <= den);
    if (h->count == 0) {
        return 0;
    }
    /* The rank-th smallest value, counted from 1. Counts stay far below 2^64 / 1000. */
    uint64_t rank = (h->count * num + den - 1) / den;
    rank = rank == 0 ? 1 : rank;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            const uint64_t top = bucket_top(i);
            return top > h->max ? h->max : (top < h->min ? h->min : top);
        }
    }
    return h->max;
}

uint64_t hist_mean(const struct hist *h)
{
    return h->count == 0 ? 0 : h->sum / h->count;
}
