/*
 * What: xoshiro256** 1.0 (Blackman and Vigna, public domain algorithm), seeded by splitmix64.
 * Invariant: the state is never all zero (splitmix64 cannot give four zeros in a row).
 */
#include "warren/prng.h"

#include <string.h>

static uint64_t splitmix64(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

void prng_init(struct prng *p, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < WR_ARRAY_SIZE(p->s); i++) {
        p->s[i] = splitmix64(&state);
    }
    p->seed = seed;
}

struct prng prng_fork(const struct prng *parent, const char *label)
{
    return prng_fork_u64(parent, label, 0);
}

struct prng prng_fork_u64(const struct prng *parent, const char *label, uint64_t number)
{
    /* Every byte of the label, its length and the number go through the mixer in turn. */
    uint64_t state = parent->seed ^ UINT64_C(0x6a09e667f3bcc908);
    uint64_t seed = splitmix64(&state);
    size_t size = 0;
    for (; label[size] != '\0'; size++) {
        state = seed ^ (uint8_t)label[size];
        seed = splitmix64(&state);
    }
    state = seed ^ (uint64_t)size;
    seed = splitmix64(&state);
    state = seed ^ number;
    seed = splitmix64(&state);
    struct prng fork;
    prng_init(&fork, seed);
    return fork;
}

uint64_t prng_u64(struct prng *p)
{
    uint64_t *s = p->s;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *p, uint64_t n)
{
    WR_ASSERT_OP(n, >, 0);
    /* Draw again what lies in the incomplete last interval of length n: no bias. */
    const uint64_t reject_below = (0 - n) % n;
    uint64_t value;
    do {
        value = prng_u64(p);
    } while (value < reject_below);
    return value % n;
}

uint64_t prng_between(struct prng *p, uint64_t first, uint64_t last)
{
    WR_ASSERT_OP(first, <=, last);
    const uint64_t span = last - first;
    return span == UINT64_MAX ? prng_u64(p) : first + prng_below(p, span + 1);
}

bool prng_ratio(struct prng *p, uint64_t num, uint64_t den)
{
    return prng_below(p, den) < num;
}

void prng_fill(struct prng *p, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        const uint64_t value = prng_u64(p);
        /* Byte by byte, low first: the same on machines of either byte order. */
        for (unsigned i = 0; i < 8 && size > 0; i++, size--) {
            *at++ = (uint8_t)(value >> (8 * i));
        }
    }
}
