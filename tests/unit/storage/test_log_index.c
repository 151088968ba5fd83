/* What: log_index against a naive array. */
#include "warren/log.h"

#include <criterion/criterion.h>

#include "warren/mem.h"
#include "warren/prng.h"

#define ENTRIES 6000u

static bool same(const struct log_location *a, const struct log_location *b)
{
    return a->position.segment == b->position.segment && a->position.offset == b->position.offset &&
           a->size == b->size && a->term == b->term && a->flags == b->flags;
}

struct naive {
    struct log_location at[ENTRIES];
    bool have[ENTRIES];
};

static void check(const struct log_index *index, const struct naive *naive, struct prng *p)
{
    struct log_location found;
    uint32_t lowest = 0;
    for (uint32_t i = 0; i < ENTRIES && lowest == 0; i++) {
        lowest = naive->have[i] ? naive->at[i].position.segment : 0;
    }
    cr_assert_eq(log_index_lowest_segment(index), lowest);
    for (uint32_t i = 0; i < 60; i++) {
        const uint64_t entry = prng_below(p, ENTRIES);
        const bool have = log_index_find(index, entry, &found);
        cr_assert_eq(have, naive->have[entry]);
        cr_assert(!have || same(&found, &naive->at[entry]));
    }
}

static void truncate_naive(struct naive *naive, uint64_t from)
{
    for (uint64_t i = from; i < ENTRIES; i++) {
        naive->have[i] = false;
    }
}

Test(log_index, against_a_naive_array)
{
    struct naive *naive = wr_alloc(sizeof(*naive));
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct prng p;
        prng_init(&p, seed);
        *naive = (struct naive){0};
        struct log_index *index = log_index_new();
        uint64_t next = 1;
        struct log_location location = {.position = {1, 4096}, .term = 1};
        for (uint32_t step = 0; step < 4000; step++) {
            const uint64_t draw = prng_below(&p, 1000);
            if (draw < 2) {
                next = 1 + prng_below(&p, next); /* a new leader replaces the suffix */
            } else if (draw < 4) {
                next += prng_below(&p, 50); /* after a snapshot */
            } else if (draw < 8) {
                next = 1 + prng_below(&p, next);
                log_index_truncate(index, next);
                truncate_naive(naive, next);
            } else if (draw < 12) {
                const uint32_t segment =
                    (uint32_t)prng_between(&p, 0, location.position.segment + (draw == 8 ? 1 : 0));
                log_index_release(index, segment);
                for (uint32_t i = 0; i < ENTRIES; i++) {
                    naive->have[i] = naive->have[i] && naive->at[i].position.segment > segment;
                }
            } else if (draw < 30) {
                location.term++;
            } else if (draw < 50) {
                location.position.segment++;
                location.position.offset = 4096;
            } else if (draw < 60) {
                location.flags = (uint8_t)prng_below(&p, 3);
            }
            if (next >= ENTRIES - 100) {
                break;
            }
            location.size = (uint32_t)prng_below(&p, 5000);
            location.position.offset += location.size + 40;
            log_index_put(index, next, &location);
            truncate_naive(naive, next);
            naive->at[next] = location;
            naive->have[next] = true;
            next++;
            if (step % 50 == 0) {
                check(index, naive, &p);
            }
        }
        check(index, naive, &p);
        log_index_free(index);
    }
    wr_free(naive);
}

Test(log_index, consecutive_entries_cost_at_most_12_bytes)
{
    struct log_index *index = log_index_new();
    struct log_location location = {.position = {1, 4096}, .size = 100, .term = 1};
    for (uint64_t i = 1; i <= 100000; i++) {
        location.position.offset += 140;
        log_index_put(index, i, &location);
    }
    cr_assert_leq(log_index_memory(index), 100000 * 12);
    log_index_release(index, 1);
    cr_assert_leq(log_index_memory(index), 256);
    cr_assert_eq(log_index_lowest_segment(index), 0);
    log_index_free(index);
    log_index_free(NULL);
}
