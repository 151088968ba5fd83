/* Buffers, slices and the chunk arena: contents, counts, alignment, and that memory comes back. */
#include <criterion/criterion.h>

#include "warren/buf.h"
#include "warren/prng.h"
#include "panic.h"

static uint32_t refs_of(const struct buf *b)
{
    return atomic_load(&b->refs);
}

Test(buf, append_grows_and_keeps_content)
{
    struct buf *b = buf_new(0);
    for (unsigned i = 0; i < 10000; i++) {
        const uint8_t byte = (uint8_t)i;
        buf_append(&b, &byte, 1);
    }
    cr_assert_eq(b->size, 10000);
    for (unsigned i = 0; i < 10000; i++) {
        cr_assert_eq(b->data[i], (uint8_t)i);
    }
    buf_append(&b, NULL, 0);
    cr_assert_eq(b->size, 10000);
    buf_unref(b);
}

Test(buf, growing_a_shared_buffer_is_a_bug)
{
    static struct panic_catch caught;
    struct buf *b = buf_from("abc", 3);
    cr_assert_not(buf_is_shared(b));
    buf_ref(b);
    cr_assert(buf_is_shared(b));
    WR_EXPECT_PANIC(&caught, buf_reserve(&b, 100));
    buf_unref(b);
    buf_unref(b);
    buf_unref(NULL);
}

Test(buf, try_new_reports_exhaustion)
{
    wr_mem_fail_try_alloc(1);
    cr_assert_null(buf_try_new(10));
    wr_mem_fail_try_alloc(0);
    cr_assert_null(buf_try_new((size_t)UINT32_MAX + 1));
    struct buf *b = buf_try_new(10);
    cr_assert_not_null(b);
    cr_assert_eq(b->size, 0);
    buf_unref(b);
}

Test(buf, data_is_aligned)
{
    struct buf *b = buf_new(1);
    cr_assert_eq((uintptr_t)b->data % 16, 0);
    buf_unref(b);
}

Test(slice, ref_and_unref_count_the_buffer)
{
    struct slice s = slice_copy("hello", 5);
    struct slice kept = slice_ref(&s);
    cr_assert_eq(refs_of(s.buf), 2);
    struct slice part = slice_sub(&s, 1, 3);
    cr_assert_eq(memcmp(slice_data(&part), "ell", 3), 0);
    slice_unref(&s);
    cr_assert_null(s.buf);
    slice_unref(&s);
    cr_assert_eq(refs_of(kept.buf), 1);
    slice_unref(&kept);
    struct slice none = SLICE_NONE;
    cr_assert_null(slice_data(&none));
    none = slice_ref(&none);
    slice_unref(&none);
}

Test(slice, sub_outside_is_a_bug)
{
    static struct panic_catch caught;
    struct slice s = slice_copy("hello", 5);
    WR_EXPECT_PANIC(&caught, (void)slice_sub(&s, 3, 3));
    WR_EXPECT_PANIC(&caught, (void)slice_sub(&s, 6, 0));
    WR_EXPECT_PANIC(&caught, (void)slice_sub(&s, 1, UINT32_MAX));
    slice_unref(&s);
}

/* Slices of all sizes stay intact, do not overlap, and keep their chunk alive after the arena is
 * gone. */
Test(arena, slices_are_disjoint_and_outlive_the_arena)
{
    enum { COUNT = 5000 };
    static struct slice slices[COUNT];
    struct chunk_arena arena = {0};
    struct prng prng;
    prng_init(&prng, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        const uint32_t size = (uint32_t)(prng_ratio(&prng, 1, 50) ? prng_below(&prng, 100000)
                                                                  : prng_below(&prng, 300));
        uint8_t *p = chunk_alloc(&arena, size, &slices[i]);
        cr_assert_eq((uintptr_t)p % 8, 0);
        cr_assert_eq(p, slice_data(&slices[i]));
        cr_assert_eq(slices[i].size, size);
        memset(p, (int)(i & 0xff), size);
        /* Drop some at once, so that chunks are freed in all orders. */
        if (prng_ratio(&prng, 1, 3)) {
            slice_unref(&slices[i]);
        }
    }
    chunk_arena_deinit(&arena);
    for (unsigned i = 0; i < COUNT; i++) {
        for (uint32_t j = 0; slices[i].buf != NULL && j < slices[i].size; j++) {
            cr_assert_eq(slice_data(&slices[i])[j], (uint8_t)i);
        }
        slice_unref(&slices[i]);
    }
}

Test(arena, exact_fill_starts_a_new_chunk)
{
    struct chunk_arena arena = {0};
    struct slice s[5];
    for (int i = 0; i < 5; i++) {
        memset(chunk_alloc(&arena, BUF_CHUNK_SIZE / 4, &s[i]), i, BUF_CHUNK_SIZE / 4);
    }
    cr_assert_eq(s[0].buf, s[3].buf);
    cr_assert_neq(s[0].buf, s[4].buf);
    for (int i = 0; i < 5; i++) {
        slice_unref(&s[i]);
    }
    chunk_arena_deinit(&arena);
    chunk_arena_deinit(&arena);
}

Test(arena, last_reference_frees_when_the_arena_went_first)
{
    struct chunk_arena arena = {0};
    struct slice a;
    struct slice b;
    chunk_alloc(&arena, 10, &a);
    chunk_alloc(&arena, 0, &b);
    chunk_arena_deinit(&arena);
    cr_assert_eq(refs_of(a.buf), 2);
    slice_unref(&b);
    cr_assert_eq(refs_of(a.buf), 1);
    slice_unref(&a);
}

/* Small ones are copied, large ones are cut; what hardly wastes anything stays where it is. */
Test(buf, fit_gives_room_back)
{
    static const size_t sizes[][3] = {
        /* capacity, size, capacity then */
        {4096, 0, 0},   {4096, 1000, 1000}, {4096, 3072, 4096},      {4096, 3071, 3071},
        {8192, 10, 10}, {100000, 10, 10},   {100000, 75000, 100000}, {100000, 74999, 74999}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(sizes); i++) {
        struct buf *b = buf_new(sizes[i][0]);
        memset(b->data, (int)i, sizes[i][1]);
        b->size = (uint32_t)sizes[i][1];
        buf_fit(&b);
        cr_assert_eq(b->size, sizes[i][1], "%zu", i);
        cr_assert_eq(b->capacity, sizes[i][2], "%zu: %u", i, b->capacity);
        for (size_t at = 0; at < b->size; at++) {
            cr_assert_eq(b->data[at], i);
        }
        buf_append(&b, "and more", 8);
        cr_assert_eq(b->size, sizes[i][1] + 8);
        buf_unref(b);
    }
}

Test(buf, fitting_a_shared_buffer_is_a_bug)
{
    static struct panic_catch caught;
    struct buf *b = buf_new(100);
    buf_ref(b);
    WR_EXPECT_PANIC(&caught, buf_fit(&b));
    buf_unref(b);
    buf_unref(b);
}
