/*
 * What: the msgpack writer and reader: round trips at every boundary, agreement with msgpack-c, and
 * refusal of everything that is not the one canonical form.
 */
#include "warren/pack.h"

#include <criterion/criterion.h>
#include <msgpack.h>

#include "warren/prng.h"

struct fixture {
    struct buf *buf;
    struct pack_writer w;
};

static void begin(struct fixture *f)
{
    f->buf = buf_new(16);
    f->w = pack_writer_make(&f->buf);
}

static struct pack_reader reader(const struct fixture *f)
{
    return pack_reader_make(bytes_make(f->buf->data, f->buf->size));
}

static struct pack_reader raw(const char *data, size_t size)
{
    return pack_reader_make(bytes_make(data, size));
}
#define RAW(literal) raw(literal, sizeof(literal) - 1)

static const uint64_t edges[] = {0,          1,
                                 0x7f,       0x80,
                                 0xff,       0x100,
                                 0xffff,     0x10000,
                                 0xffffffff, UINT64_C(0x100000000),
                                 INT64_MAX,  (uint64_t)INT64_MAX + 1,
                                 UINT64_MAX};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

Test(pack, unsigned_integers_round_trip_at_every_width)
{
    for (size_t i = 0; i < EDGES; i++) {
        struct fixture f;
        begin(&f);
        pack_put_uint(&f.w, edges[i]);
        struct pack_reader r = reader(&f);
        cr_assert_eq(pack_get_uint(&r, UINT64_MAX), edges[i]);
        cr_assert(pack_done(&r));
        if (edges[i] > 0) {
            r = reader(&f);
            cr_assert_eq(pack_get_uint(&r, edges[i] - 1), 0);
            cr_assert(pack_failed(&r));
        }
        buf_unref(f.buf);
    }
}

Test(pack, signed_integers_round_trip_at_every_width)
{
    const int64_t values[] = {0,
                              1,
                              -1,
                              -32,
                              -33,
                              -128,
                              -129,
                              127,
                              128,
                              -32768,
                              -32769,
                              INT32_MIN,
                              INT32_MAX,
                              INT64_MIN,
                              INT64_MAX,
                              -200,
                              255,
                              256,
                              INT32_MIN - INT64_C(1)};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct fixture f;
        begin(&f);
        pack_put_int(&f.w, values[i]);
        struct pack_reader r = reader(&f);
        cr_assert_eq(pack_get_int(&r), values[i]);
        cr_assert(pack_done(&r));
        buf_unref(f.buf);
    }
}

Test(pack, strings_and_binaries_round_trip_at_every_size_class)
{
    static uint8_t data[70000];
    const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 70000};
    memset(data, 'x', sizeof(data));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fixture f;
        begin(&f);
        pack_put_str(&f.w, bytes_make(data, sizes[i]));
        pack_put_bin(&f.w, bytes_make(data, sizes[i]));
        struct pack_reader r = reader(&f);
        cr_assert_eq(pack_get_str(&r, sizes[i]).size, sizes[i]);
        cr_assert_eq(pack_get_bin(&r, sizes[i]).size, sizes[i]);
        cr_assert(pack_done(&r));
        if (sizes[i] > 0) {
            r = reader(&f);
            cr_assert_eq(pack_get_str(&r, sizes[i] - 1).size, 0);
            cr_assert(pack_failed(&r));
        }
        buf_unref(f.buf);
    }
}

Test(pack, arrays_maps_bools_nils_and_uids_round_trip)
{
    const uint32_t counts[] = {0, 15, 16, 255, 256, 65535, 65536};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct fixture f;
        begin(&f);
        pack_put_array(&f.w, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            pack_put_nil(&f.w);
        }
        pack_put_map(&f.w, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            pack_put_bool(&f.w, true);
            pack_put_bool(&f.w, false);
        }
        pack_put_uid(&f.w, (struct uid){7, UINT64_MAX});
        struct pack_reader r = reader(&f);
        cr_assert_eq(pack_get_array(&r, UINT32_MAX), counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            cr_assert(pack_get_nil(&r));
        }
        cr_assert(!pack_get_nil(&r) && !pack_failed(&r));
        cr_assert_eq(pack_get_map(&r, counts[i]), counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            cr_assert(pack_get_bool(&r));
            cr_assert(!pack_get_bool(&r));
        }
        cr_assert(uid_eq(pack_get_uid(&r), ((struct uid){7, UINT64_MAX})));
        cr_assert(pack_done(&r));
        r = reader(&f);
        for (int k = 0; counts[i] > 0 && k < 1; k++) {
            cr_assert_eq(pack_get_array(&r, counts[i] - 1), 0);
            cr_assert(pack_failed(&r));
        }
        buf_unref(f.buf);
    }
}

/* A declared count must not be believed: nothing is allocated or looped over for it. */
Test(pack, counts_beyond_the_input_fail_at_once)
{
    struct pack_reader r = RAW("\xdd\xff\xff\xff\xff\xc0");
    cr_assert_eq(pack_get_array(&r, UINT32_MAX), 0);
    cr_assert(pack_failed(&r));
    r = RAW("\xdf\x7f\xff\xff\xff\xc0\xc0");
    cr_assert_eq(pack_get_map(&r, UINT32_MAX), 0);
    cr_assert(pack_failed(&r));
    r = RAW("\xc6\xff\xff\xff\xff"
            "abc");
    cr_assert_eq(pack_get_bin(&r, SIZE_MAX).size, 0);
    cr_assert(pack_failed(&r));
}

Test(pack, longer_forms_than_needed_are_refused)
{
    static const struct {
        const char *data;
        size_t size;
        char kind;
    } cases[] = {
        {"\xcc\x7f", 2, 'u'},
        {"\xcd\x00\xff", 3, 'u'},
        {"\xce\x00\x00\xff\xff", 5, 'u'},
        {"\xcf\x00\x00\x00\x00\xff\xff\xff\xff", 9, 'u'},
        {"\xd0\xe0", 2, 'i'},
        {"\xd0\x05", 2, 'i'},
        {"\xd1\xff\x80", 3, 'i'},
        {"\xd2\xff\xff\x80\x00", 5, 'i'},
        {"\xd3\xff\xff\xff\xff\x80\x00\x00\x00", 9, 'i'},
        {"\xd9\x01x", 3, 's'},
        {"\xda\x00\x20xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 35, 's'},
        {"\xc5\x00\x01x", 4, 'b'},
        {"\xdc\x00\x01\xc0", 4, 'a'},
        {"\xdd\x00\x00\x00\x01\xc0", 6, 'a'},
        {"\xde\x00\x01\xc0\xc0", 5, 'm'},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pack_reader r = raw(cases[i].data, cases[i].size);
        struct pack_reader skipping = r;
        switch (cases[i].kind) {
        case 'u':
            (void)pack_get_uint(&r, UINT64_MAX);
            break;
        case 'i':
            (void)pack_get_int(&r);
            break;
        case 's':
            (void)pack_get_str(&r, SIZE_MAX);
            break;
        case 'b':
            (void)pack_get_bin(&r, SIZE_MAX);
            break;
        case 'a':
            (void)pack_get_array(&r, UINT32_MAX);
            break;
        default:
            (void)pack_get_map(&r, UINT32_MAX);
            break;
        }
        cr_assert(pack_failed(&r), "case %zu", i);
        if (cases[i].kind != 'b') {
            pack_skip(&skipping);
            cr_assert(pack_failed(&skipping), "skip of case %zu", i);
        }
    }
}

Test(pack, failure_is_sticky_and_every_prefix_fails)
{
    struct fixture f;
    begin(&f);
    pack_put_array(&f.w, 4);
    pack_put_uint(&f.w, 70000);
    pack_put_str(&f.w, BYTES_LITERAL("hello"));
    pack_put_uid(&f.w, (struct uid){1, 2});
    pack_put_bool(&f.w, true);
    for (uint32_t size = 0; size <= f.buf->size; size++) {
        struct pack_reader r = pack_reader_make(bytes_make(f.buf->data, size));
        pack_expect_array(&r, 4);
        (void)pack_get_uint(&r, UINT64_MAX);
        (void)pack_get_str(&r, 5);
        (void)pack_get_uid(&r);
        const bool last = pack_get_bool(&r);
        cr_assert_eq(pack_done(&r), size == f.buf->size);
        cr_assert_eq(last, size == f.buf->size);
    }
    buf_unref(f.buf);
}

/* Random values, written by our writer, parsed by msgpack-c: the same tree; and skipped in one go.
 */
static void put_random(struct pack_writer *w, struct prng *p, unsigned depth)
{
    static const uint8_t text[300] = "text";
    const uint64_t kind = prng_below(p, depth > 3 ? 6 : 8);
    const uint64_t number = prng_u64(p) >> prng_below(p, 64);
    const uint32_t count = (uint32_t)prng_below(p, 20);
    switch (kind) {
    case 0:
        pack_put_nil(w);
        break;
    case 1:
        pack_put_bool(w, number & 1);
        break;
    case 2:
        pack_put_uint(w, number);
        break;
    case 3:
        pack_put_int(w, -(int64_t)(number >> 1));
        break;
    case 4:
        pack_put_str(w, bytes_make(text, prng_below(p, sizeof(text))));
        break;
    case 5:
        pack_put_bin(w, bytes_make(text, prng_below(p, sizeof(text))));
        break;
    case 6:
        pack_put_array(w, count);
        for (uint32_t i = 0; i < count; i++) {
            put_random(w, p, depth + 1);
        }
        break;
    default:
        pack_put_map(w, count);
        for (uint32_t i = 0; i < count * 2; i++) {
            put_random(w, p, depth + 1);
        }
        break;
    }
}

static void compare(struct pack_reader *r, const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:
        cr_assert(pack_get_nil(r));
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        cr_assert_eq(pack_get_bool(r), o->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        cr_assert_eq(pack_get_uint(r, UINT64_MAX), o->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        cr_assert_eq(pack_get_int(r), o->via.i64);
        break;
    case MSGPACK_OBJECT_STR:
        cr_assert(bytes_eq(pack_get_str(r, SIZE_MAX), bytes_make(o->via.str.ptr, o->via.str.size)));
        break;
    case MSGPACK_OBJECT_BIN:
        cr_assert(bytes_eq(pack_get_bin(r, SIZE_MAX), bytes_make(o->via.bin.ptr, o->via.bin.size)));
        break;
    case MSGPACK_OBJECT_ARRAY:
        cr_assert_eq(pack_get_array(r, UINT32_MAX), o->via.array.size);
        for (uint32_t i = 0; i < o->via.array.size; i++) {
            compare(r, &o->via.array.ptr[i]);
        }
        break;
    case MSGPACK_OBJECT_MAP:
        cr_assert_eq(pack_get_map(r, UINT32_MAX), o->via.map.size);
        for (uint32_t i = 0; i < o->via.map.size; i++) {
            compare(r, &o->via.map.ptr[i].key);
            compare(r, &o->via.map.ptr[i].val);
        }
        break;
    default:
        cr_assert(false);
    }
}

Test(pack, random_trees_read_the_same_as_with_msgpack_c)
{
    struct prng p;
    prng_init(&p, 1);
    for (int round = 0; round < 300; round++) {
        struct fixture f;
        begin(&f);
        put_random(&f.w, &p, 0);
        msgpack_unpacked unpacked;
        msgpack_unpacked_init(&unpacked);
        size_t offset = 0;
        cr_assert_eq(
            msgpack_unpack_next(&unpacked, (const char *)f.buf->data, f.buf->size, &offset),
            MSGPACK_UNPACK_SUCCESS);
        cr_assert_eq(offset, f.buf->size);
        struct pack_reader r = reader(&f);
        compare(&r, &unpacked.data);
        cr_assert(pack_done(&r));
        r = reader(&f);
        pack_skip(&r);
        cr_assert(pack_done(&r));
        msgpack_unpacked_destroy(&unpacked);
        buf_unref(f.buf);
    }
}

/* Any bytes: no read passes the end (the sanitizers watch), skipping ends. */
Test(pack, random_bytes_are_skipped_or_refused)
{
    struct prng p;
    prng_init(&p, 2);
    for (int round = 0; round < 20000; round++) {
        uint8_t data[40];
        const size_t size = prng_below(&p, sizeof(data));
        prng_fill(&p, data, size);
        uint8_t *copy = wr_memdup(data, size);
        struct pack_reader r = pack_reader_make(bytes_make(copy, size));
        while (!pack_failed(&r) && !pack_done(&r)) {
            pack_skip(&r);
        }
        wr_free(copy);
    }
}

Test(pack, floats_and_extensions_can_be_skipped)
{
    struct pack_reader r =
        RAW("\x97\xca\x00\x00\x00\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xd4\x01x"
            "\xd8\x01xxxxxxxxxxxxxxxx\xc7\x02\x01xx\xc8\x00\x01\x01x\xc0");
    pack_skip(&r);
    cr_assert(pack_done(&r));
    r = RAW("\xc1");
    pack_skip(&r);
    cr_assert(pack_failed(&r));
}

/* A hundred thousand levels cost no stack. */
Test(pack, deep_nesting_is_skipped_without_recursion)
{
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 100000; i++) {
        pack_put_array(&f.w, 1);
    }
    pack_put_nil(&f.w);
    struct pack_reader r = reader(&f);
    pack_skip(&r);
    cr_assert(pack_done(&r));
    buf_unref(f.buf);
}
