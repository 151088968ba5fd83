/* Output queue: the byte stream that comes out is the one that went in, and chunks are used again.
 */
#include <criterion/criterion.h>

#include "warren/outq.h"
#include "warren/prng.h"

struct model {
    uint8_t *expected;
    size_t written;
    size_t taken;
};

enum { STREAM = 8 * 1024 * 1024, HELD = 64 };

/* Slices in the hands of the "socket": checked again when they are released, so that a byte
 * overwritten meanwhile is seen. */
struct held {
    struct slice slice;
    size_t begin;
};

static void check_held(const struct held *h, const struct model *m)
{
    cr_assert_eq(memcmp(slice_data(&h->slice), m->expected + h->begin, h->slice.size), 0);
}

static void write_some(struct outq *q, struct model *m, struct prng *p)
{
    const size_t left = STREAM - m->written;
    size_t size = prng_below(p, prng_ratio(p, 1, 30) ? 200000 : 400);
    size = size < left ? size : left;
    const uint8_t *from = m->expected + m->written;
    const uint64_t way = prng_below(p, 3);
    if (way == 0) {
        uint8_t *to = outq_reserve(q, (uint32_t)size + 10);
        memset(to, 0xee, size + 10);
        memcpy(to, from, size);
        outq_commit(q, (uint32_t)size);
    } else if (way == 1) {
        outq_append_bytes(q, from, size);
    } else {
        struct slice s = slice_copy(from, size);
        outq_append_slice(q, &s);
        slice_unref(&s);
    }
    m->written += size;
}

Test(outq, stream_is_preserved)
{
    struct prng p;
    prng_init(&p, 15);
    struct model m = {wr_alloc(STREAM), 0, 0};
    prng_fill(&p, m.expected, STREAM);
    struct held held[HELD] = {{SLICE_NONE, 0}};
    struct outq q;
    outq_init(&q);
    while (m.taken < STREAM) {
        if (m.written < STREAM && prng_ratio(&p, 3, 4)) {
            write_some(&q, &m, &p);
        } else {
            struct slice out[8];
            const int count = outq_take(&q, out, (int)prng_between(&p, 1, 8));
            for (int i = 0; i < count; i++) {
                cr_assert_gt(out[i].size, 0);
                struct held *h = &held[prng_below(&p, HELD)];
                if (h->slice.buf != NULL) {
                    check_held(h, &m);
                    slice_unref(&h->slice);
                }
                *h = (struct held){out[i], m.taken};
                check_held(h, &m);
                m.taken += out[i].size;
            }
        }
        cr_assert_eq(outq_size(&q), m.written - m.taken);
        cr_assert_eq(outq_is_empty(&q), m.written == m.taken);
    }
    for (int i = 0; i < HELD; i++) {
        if (held[i].slice.buf != NULL) {
            check_held(&held[i], &m);
        }
        slice_unref(&held[i].slice);
    }
    outq_deinit(&q);
    wr_free(m.expected);
}

Test(outq, output_goes_on_in_the_same_chunk_behind_what_was_taken)
{
    struct outq q;
    outq_init(&q);
    outq_append_bytes(&q, "abc", 3);
    struct slice first;
    struct slice second;
    cr_assert_eq(outq_take(&q, &first, 1), 1);
    outq_append_bytes(&q, "def", 3);
    cr_assert_eq(outq_take(&q, &second, 1), 1);
    cr_assert_eq(first.buf, second.buf);
    cr_assert_eq(second.offset, 3);
    cr_assert_eq(memcmp(slice_data(&first), "abcdef", 6), 0);
    struct slice none;
    cr_assert_eq(outq_take(&q, &none, 1), 0);
    slice_unref(&first);
    slice_unref(&second);
    outq_deinit(&q);
}

Test(outq, big_slices_are_not_copied_and_small_ones_are)
{
    struct outq q;
    outq_init(&q);
    static uint8_t body[OUTQ_COPY_MAX + 1];
    struct slice big = slice_copy(body, sizeof(body));
    struct slice small = slice_sub(&big, 0, OUTQ_COPY_MAX);
    struct slice out[4];
    outq_append_bytes(&q, "h", 1);
    outq_append_slice(&q, &big);
    outq_append_slice(&q, &small);
    cr_assert_eq(outq_take(&q, out, 4), 3);
    cr_assert_eq(out[1].buf, big.buf);
    cr_assert_eq(out[0].buf, out[2].buf);
    cr_assert_neq(out[2].buf, big.buf);
    for (int i = 0; i < 3; i++) {
        slice_unref(&out[i]);
    }
    slice_unref(&big);
    outq_deinit(&q);
}

/* In steady state (write, take, release) two chunks take turns. */
Test(outq, released_chunks_are_used_again)
{
    struct outq q;
    outq_init(&q);
    static uint8_t data[1000];
    const struct buf *chunks[2] = {NULL, NULL};
    for (int i = 0; i < 10000; i++) {
        outq_append_bytes(&q, data, sizeof(data));
        struct slice out[4];
        const int count = outq_take(&q, out, 4);
        for (int n = 0; n < count; n++) {
            slice_unref(&out[n]);
        }
        if (i == 1000) {
            chunks[0] = q.tail;
            chunks[1] = q.spare;
        }
        cr_assert(i <= 1000 || q.tail == chunks[0] || q.tail == chunks[1]);
    }
    outq_trim(&q);
    cr_assert_null(q.tail);
    outq_append_bytes(&q, data, 1);
    outq_trim(&q);
    cr_assert_eq(outq_size(&q), 1);
    outq_deinit(&q);
}
