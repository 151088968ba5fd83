/*
 * What: the deterministic random numbers of the core: xoshiro256** seeded by splitmix64. Not for
 * secrets. The same seed gives the same numbers on every machine and in every version.
 * Threads: a generator belongs to one thread.
 */
#ifndef WR_PRNG_H
#define WR_PRNG_H

#include "warren/assert.h"

struct prng {
    uint64_t s[4];
    uint64_t seed; /* What it was seeded with: forks are made from this. */
};

/* Any seed is good, 0 too. */
void prng_init(struct prng *p, uint64_t seed);

/*
 * An independent generator that depends only on the parent's seed and the label, neither on how
 * much was drawn from the parent nor on other forks: a new user of randomness does not disturb the
 * old ones.
 */
struct prng prng_fork(const struct prng *parent, const char *label);

/* The same, by label and number (node 3, group 17). */
struct prng prng_fork_u64(const struct prng *parent, const char *label, uint64_t number);

uint64_t prng_u64(struct prng *p);

/* Uniform in [0, n), without bias. n > 0. */
uint64_t prng_below(struct prng *p, uint64_t n);

/* Uniform in [first, last], both included. */
uint64_t prng_between(struct prng *p, uint64_t first, uint64_t last);

/* True with probability num / den. den > 0; num >= den is always true. */
bool prng_ratio(struct prng *p, uint64_t num, uint64_t den);

void prng_fill(struct prng *p, void *data, size_t size);

#endif
