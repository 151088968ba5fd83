/* The generator's numbers are part of every recorded seed: they must never change. */
#include <criterion/criterion.h>

#include "warren/prng.h"

/* Reference: splitmix64 from 0 gives these first outputs; xoshiro256** runs on them. */
Test(prng, state_is_seeded_by_splitmix64)
{
    struct prng p;
    prng_init(&p, 0);
    cr_assert_eq(p.s[0], UINT64_C(0xe220a8397b1dcdaf));
    cr_assert_eq(p.s[1], UINT64_C(0x6e789e6aa1b965f4));
    cr_assert_eq(p.s[2], UINT64_C(0x06c45d188009454f));
    cr_assert_eq(p.s[3], UINT64_C(0xf88bb8a8724c81ec));
}

/* The reference implementation from state {1, 2, 3, 4}. */
Test(prng, output_is_xoshiro256_starstar)
{
    struct prng p = {{1, 2, 3, 4}, 0};
    static const uint64_t expected[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    for (size_t i = 0; i < WR_ARRAY_SIZE(expected); i++) {
        cr_assert_eq(prng_u64(&p), expected[i]);
    }
}

Test(prng, below_and_between_cover_their_range)
{
    struct prng p;
    prng_init(&p, 4);
    unsigned seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        const uint64_t v = prng_below(&p, 7);
        cr_assert_lt(v, 7);
        seen[v]++;
    }
    for (int i = 0; i < 7; i++) {
        cr_assert(seen[i] > 9000 && seen[i] < 11000);
    }
    for (int i = 0; i < 1000; i++) {
        const uint64_t v = prng_between(&p, 5, 6);
        cr_assert(v == 5 || v == 6);
        cr_assert_eq(prng_below(&p, 1), 0);
    }
    (void)prng_between(&p, 0, UINT64_MAX);
}

Test(prng, ratio_extremes_are_certain)
{
    struct prng p;
    prng_init(&p, 5);
    for (int i = 0; i < 1000; i++) {
        cr_assert(prng_ratio(&p, 1, 1));
        cr_assert(prng_ratio(&p, 5, 3));
        cr_assert_not(prng_ratio(&p, 0, 10));
    }
}

Test(prng, forks_depend_on_seed_and_label_only)
{
    struct prng a;
    struct prng b;
    prng_init(&a, 6);
    prng_init(&b, 6);
    (void)prng_u64(&a);
    struct prng net_a = prng_fork(&a, "net");
    struct prng net_b = prng_fork(&b, "net");
    cr_assert_eq(prng_u64(&net_a), prng_u64(&net_b));
    struct prng disk = prng_fork(&b, "disk");
    cr_assert_neq(prng_u64(&net_a), prng_u64(&disk));
    struct prng n1 = prng_fork_u64(&b, "node", 1);
    struct prng n2 = prng_fork_u64(&b, "node", 2);
    cr_assert_neq(prng_u64(&n1), prng_u64(&n2));
    prng_init(&b, 7);
    struct prng net_c = prng_fork(&b, "net");
    cr_assert_neq(net_c.seed, net_a.seed);
}

Test(prng, fill_writes_exactly_size_bytes)
{
    struct prng p;
    prng_init(&p, 8);
    for (size_t size = 0; size < 40; size++) {
        uint8_t data[48] = {0};
        prng_fill(&p, data, size);
        for (size_t i = size; i < sizeof(data); i++) {
            cr_assert_eq(data[i], 0);
        }
    }
}
