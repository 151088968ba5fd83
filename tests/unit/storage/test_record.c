/* What: the codec of a segment's bytes. */
#include "format.h"

#include <criterion/criterion.h>

#include "warren/err.h"
#include "warren/prng.h"

Test(record, names)
{
    char name[SEGMENT_NAME_SIZE];
    cr_assert_str_eq(segment_name(name, SEGMENT_PREFIX, 0xabc), "segment-0000000000000abc.log");
    cr_assert_eq(segment_name_parse(name, SEGMENT_PREFIX), 0xabc);
    cr_assert_eq(segment_name_parse(name, SPARE_PREFIX), 0);
    const char *bad[] = {"",
                         "segment-",
                         "segment-0000000000000000.log",
                         "segment-0000000100000000.log",
                         "segment-0000000000000ABC.log",
                         "segment-0000000000000abc.lo",
                         "segment-0000000000000abc.log2",
                         "segment_0000000000000abc.log",
                         "segment-000000000000abc.log",
                         "segment-00000000000-0abc.log"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        cr_assert_eq(segment_name_parse(bad[i], SEGMENT_PREFIX), 0, "%s", bad[i]);
    }
}

Test(record, segment_header_round_trip_and_every_flip)
{
    uint8_t data[SEGMENT_HEADER_SIZE];
    const struct segment_header in = {{7, 9}, 0x12345678, UINT64_C(0xfedcba9876543210)};
    struct segment_header out;
    segment_header_encode(&in, data);
    cr_assert_eq(segment_header_decode(data, &out), 0);
    cr_assert(uid_eq(out.node_id, in.node_id));
    cr_assert_eq(out.number, in.number);
    cr_assert_eq(out.salt, in.salt);
    for (uint32_t bit = 0; bit < 64 * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_neq(segment_header_decode(data, &out), 0);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(record, round_header_round_trip_and_every_flip)
{
    uint8_t data[ROUND_HEADER_SIZE];
    struct round_header in = {.salt = 5,
                              .number = (UINT64_C(3) << 32) + 9,
                              .offset = 8192,
                              .size = 1000,
                              .count = 7,
                              .durable = 8192,
                              .nonce = 77,
                              .flags = ROUND_END};
    struct round_header out;
    round_header_encode(&in, data);
    cr_assert(round_header_decode(data, 5, 8192, &out));
    cr_assert_eq(out.number, in.number);
    cr_assert_eq(out.size, in.size);
    cr_assert_eq(out.count, in.count);
    cr_assert_eq(out.durable, in.durable);
    cr_assert_eq(out.nonce, in.nonce);
    cr_assert_eq(out.flags, in.flags);
    cr_assert_eq(out.crc, in.crc);
    cr_assert(!round_header_decode(data, 6, 8192, &out), "another segment's");
    cr_assert(!round_header_decode(data, 5, 8704, &out), "a copy elsewhere");
    for (uint32_t bit = 0; bit < ROUND_HEADER_SIZE * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert(!round_header_decode(data, 5, 8192, &out));
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Sizes that do not hold together are refused, whatever the CRC says. */
Test(record, insane_round_headers_are_refused)
{
    const struct round_header good = {
        .salt = 5, .number = 1, .offset = 4096, .size = 88, .count = 1};
    struct round_header bad[5], out;
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        bad[i] = good;
    }
    bad[0].size = ROUND_HEADER_SIZE - 1;
    bad[1].size = UINT32_MAX;
    bad[2].count = 2;
    bad[3].durable = 4097;
    bad[4].flags = 0x80;
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        uint8_t data[ROUND_HEADER_SIZE];
        round_header_encode(&bad[i], data);
        cr_assert(!round_header_decode(data, 5, 4096, &out), "case %zu", i);
    }
}

Test(record, record_round_trip_and_every_flip)
{
    uint8_t data[RECORD_HEADER_SIZE + 11];
    const struct log_item item = {.group = 1,
                                  .term = 2,
                                  .index = UINT64_MAX,
                                  .kind = LOG_HARD_STATE,
                                  .flags = 3,
                                  .payload = slice_copy("hello world", 11)};
    const uint32_t seed = record_seed(99);
    struct record_header out;
    record_encode(data, &item, 0xaabbccdd, seed);
    memcpy(data + RECORD_HEADER_SIZE, "hello world", 11);
    record_header_decode(data, &out);
    cr_assert_eq(out.group, 1);
    cr_assert_eq(out.term, 2);
    cr_assert_eq(out.index, UINT64_MAX);
    cr_assert_eq(out.kind, LOG_HARD_STATE);
    cr_assert_eq(out.flags, 3);
    cr_assert_eq(out.size, 11);
    cr_assert_eq(out.round_crc, 0xaabbccdd);
    cr_assert_eq(out.crc, record_crc(data, data + RECORD_HEADER_SIZE, 11, seed));
    cr_assert_neq(out.crc, record_crc(data, data + RECORD_HEADER_SIZE, 11, record_seed(98)));
    for (uint32_t bit = 32; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_neq(out.crc, record_crc(data, data + RECORD_HEADER_SIZE, 11, seed));
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    struct slice payload = item.payload;
    slice_unref(&payload);
}
