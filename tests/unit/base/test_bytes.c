/* Reader: never past the end, sticky failure. Writer: round trips. Varint: canonical only. */
#include <criterion/criterion.h>

#include "warren/bytes.h"
#include "warren/prng.h"

Test(bytes, compare)
{
    cr_assert(bytes_eq(BYTES_LITERAL("abc"), bytes_from_cstr("abc")));
    cr_assert_not(bytes_eq(BYTES_LITERAL("abc"), BYTES_LITERAL("abd")));
    cr_assert(bytes_eq(BYTES_NONE, BYTES_LITERAL("")));
    cr_assert_lt(bytes_cmp(BYTES_LITERAL("ab"), BYTES_LITERAL("abc")), 0);
    cr_assert_gt(bytes_cmp(BYTES_LITERAL("\xff"), BYTES_LITERAL("a")), 0);
    cr_assert_eq(bytes_cmp(BYTES_NONE, BYTES_NONE), 0);
    cr_assert(bytes_starts_with(BYTES_LITERAL("amq.gen"), BYTES_LITERAL("amq.")));
    cr_assert_not(bytes_starts_with(BYTES_LITERAL("am"), BYTES_LITERAL("amq.")));
    char *copy = bytes_strdup(BYTES_LITERAL("text"));
    cr_assert_str_eq(copy, "text");
    wr_free(copy);
}

Test(bytes, fixed_integers_have_the_named_byte_order)
{
    struct writer w;
    writer_init(&w, 0);
    put_u8(&w, 0x01);
    put_le16(&w, 0x0203);
    put_be16(&w, 0x0203);
    put_le32(&w, 0x04050607);
    put_be32(&w, 0x04050607);
    put_le64(&w, 0x08090a0b0c0d0e0f);
    put_be64(&w, 0x08090a0b0c0d0e0f);
    static const uint8_t expected[] = {1,  3,  2,  2,  3, 7, 6, 5, 4,  4,  5,  6,  7,  15, 14,
                                       13, 12, 11, 10, 9, 8, 8, 9, 10, 11, 12, 13, 14, 15};
    cr_assert(bytes_eq(writer_bytes(&w), bytes_make(expected, sizeof(expected))));
    struct reader r = reader_from(writer_bytes(&w));
    cr_assert_eq(rd_u8(&r), 1);
    cr_assert_eq(rd_le16(&r), 0x0203);
    cr_assert_eq(rd_be16(&r), 0x0203);
    cr_assert_eq(rd_le32(&r), 0x04050607);
    cr_assert_eq(rd_be32(&r), 0x04050607);
    cr_assert_eq(rd_le64(&r), 0x08090a0b0c0d0e0f);
    cr_assert_eq(rd_be64(&r), 0x08090a0b0c0d0e0f);
    cr_assert(rd_done(&r));
    writer_deinit(&w);
}

/* Every prefix of an encoding fails, and stays failed with zero values. */
Test(bytes, short_input_fails_and_stays_failed)
{
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t size = 0; size < 8; size++) {
        uint8_t *exact = wr_memdup(data, size); /* ASan sees any read past it. */
        struct reader r = reader_make(exact, size);
        cr_assert_eq(rd_be64(&r), 0);
        cr_assert(r.failed);
        cr_assert_eq(rd_u8(&r), 0);
        cr_assert_eq(rd_left(&r), 0);
        cr_assert_null(rd_bytes(&r, 0).data);
        cr_assert_not(rd_done(&r));
        wr_free(exact);
    }
}

Test(bytes, huge_sizes_do_not_wrap)
{
    static const uint8_t data[4] = {1, 2, 3, 4};
    struct reader r = reader_make(data, sizeof(data));
    cr_assert_null(rd_skip(&r, SIZE_MAX));
    cr_assert(r.failed);
    r = reader_make(data, sizeof(data));
    struct reader sub = rd_sub(&r, 3);
    cr_assert_eq(rd_left(&sub), 3);
    cr_assert_eq(rd_left(&r), 1);
    sub = rd_sub(&r, 2);
    cr_assert(sub.failed);
    r = reader_make(NULL, 0);
    cr_assert(rd_done(&r));
    cr_assert_eq(rd_bytes(&r, 0).size, 0);
    cr_assert_not(r.failed);
}

Test(bytes, varints_round_trip)
{
    struct prng prng;
    prng_init(&prng, 2);
    struct writer w;
    writer_init(&w, 16);
    for (int i = 0; i < 10000; i++) {
        const uint64_t value = i < 64 ? (UINT64_C(1) << i) - (uint64_t)(i % 2)
                                      : prng_u64(&prng) >> prng_below(&prng, 64);
        writer_clear(&w);
        put_varint(&w, value);
        cr_assert_eq(writer_size(&w), varint_size(value));
        struct reader r = reader_from(writer_bytes(&w));
        cr_assert_eq(rd_varint(&r), value);
        cr_assert(rd_done(&r));
    }
    writer_clear(&w);
    put_varint(&w, UINT64_MAX);
    cr_assert_eq(writer_size(&w), 10);
    struct reader r = reader_from(writer_bytes(&w));
    cr_assert_eq(rd_varint(&r), UINT64_MAX);
    writer_deinit(&w);
}

Test(bytes, varints_longer_than_needed_or_too_big_fail)
{
    static const struct bytes bad[] = {
        BYTES_INIT("\x80\x00"),
        BYTES_INIT("\x80"),
        BYTES_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        BYTES_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        BYTES_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"),
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        struct reader r = reader_from(bad[i]);
        cr_assert_eq(rd_varint(&r), 0);
        cr_assert(r.failed, "case %zu", i);
    }
}

Test(bytes, varbytes_round_trip_and_check_their_size)
{
    struct writer w;
    writer_init(&w, 0);
    put_varbytes(&w, BYTES_LITERAL("key"));
    put_varbytes(&w, BYTES_NONE);
    put_view(&w, BYTES_NONE);
    struct reader r = reader_from(writer_bytes(&w));
    cr_assert(bytes_eq_cstr(rd_varbytes(&r), "key"));
    cr_assert_eq(rd_varbytes(&r).size, 0);
    cr_assert(rd_done(&r));
    writer_clear(&w);
    put_varint(&w, UINT64_MAX);
    r = reader_from(writer_bytes(&w));
    (void)rd_varbytes(&r);
    cr_assert(r.failed);
    struct buf *b = writer_take(&w);
    cr_assert_null(w.buf);
    cr_assert_eq(b->size, 10);
    buf_unref(b);
}
