/*
 * What: latency histogram with buckets of about 1.6 % width over the whole range of 64-bit
 * nanoseconds: recording is a shift and an increment, memory is fixed, merging is an addition.
 */
#ifndef WR_PERF_HIST_H
#define WR_PERF_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_BUCKETS  ((64 - HIST_SUB_BITS) * (1 << HIST_SUB_BITS) + (1 << HIST_SUB_BITS))

struct hist {
    uint64_t count;
    uint64_t sum; /* of the exact values */
    uint64_t min; /* exact; UINT64_MAX when empty */
    uint64_t max; /* exact */
    uint64_t buckets[HIST_BUCKETS];
};

void hist_clear(struct hist *h);
void hist_record(struct hist *h, uint64_t value);
void hist_merge(struct hist *into, const struct hist *from);

/* The value at or below which num/den of all values lie, within a bucket's width; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, uint64_t num, uint64_t den);

/* Mean, 0 when empty. */
uint64_t hist_mean(const struct hist *h);

#endif
