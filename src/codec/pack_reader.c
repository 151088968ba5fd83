/*
 * What: reading msgpack as a cursor. msgpack-c's own unpacker builds a tree and allocates for the
 * counts that the input declares; a cursor needs neither, so bytes of a stranger cost nothing but
 * their own length. The tests compare it with msgpack-c's.
 * Failure modes: sticky (warren/bytes.h). Input that msgpack would accept but that is not in the
 * shortest form fails too: one value, one encoding.
 * Threads: none involved. Spec: docs/catalog.md, "Encoding".
 */
#include "warren/pack.h"

enum {
    TAG_NIL = 0xc0,
    TAG_FALSE = 0xc2,
    TAG_TRUE = 0xc3,
    TAG_BIN8 = 0xc4,
    TAG_EXT8 = 0xc7,
    TAG_FLOAT32 = 0xca,
    TAG_FLOAT64 = 0xcb,
    TAG_UINT8 = 0xcc,
    TAG_INT8 = 0xd0,
    TAG_FIXEXT1 = 0xd4,
    TAG_STR8 = 0xd9,
    TAG_ARRAY16 = 0xdc,
    TAG_ARRAY32 = 0xdd,
    TAG_MAP16 = 0xde,
    TAG_MAP32 = 0xdf,
};

/* A big-endian number of 1 << width_log bytes. */
static uint64_t read_be(struct reader *in, unsigned width_log)
{
    switch (width_log) {
    case 0:
        return rd_u8(in);
    case 1:
        return rd_be16(in);
    case 2:
        return rd_be32(in);
    default:
        return rd_be64(in);
    }
}

/* The same, and failing when a narrower one would do; `below` is where the narrower forms end. */
static uint64_t read_shortest(struct reader *in, unsigned width_log, uint64_t below)
{
    const uint64_t value = read_be(in, width_log);
    if (width_log > 0) {
        below = UINT64_C(1) << (8u << (width_log - 1));
    }
    if (value < below) {
        rd_fail(in);
        return 0;
    }
    return value;
}

static uint8_t peek(const struct pack_reader *r)
{
    return rd_left(&r->in) == 0 ? TAG_NIL + 1 : *r->in.at; /* 0xc1 is never used. */
}

uint64_t pack_get_uint(struct pack_reader *r, uint64_t max)
{
    const uint8_t tag = rd_u8(&r->in);
    uint64_t value = tag;
    if (tag >= TAG_UINT8 && tag < TAG_UINT8 + 4) {
        value = read_shortest(&r->in, (unsigned)(tag - TAG_UINT8), 0x80);
    } else if (tag >= 0x80) {
        pack_fail(r);
    }
    if (r->in.failed || value > max) {
        pack_fail(r);
        return 0;
    }
    return value;
}

int64_t pack_get_int(struct pack_reader *r)
{
    const uint8_t tag = peek(r);
    if (tag < TAG_INT8 || (tag >= TAG_INT8 + 4 && tag < 0xe0)) {
        return (int64_t)pack_get_uint(r, INT64_MAX);
    }
    (void)rd_u8(&r->in);
    if (tag >= 0xe0) {
        return (int8_t)tag;
    }
    const unsigned width_log = (unsigned)(tag - TAG_INT8);
    const unsigned shift = 64 - (8u << width_log);
    const int64_t value = (int64_t)(read_be(&r->in, width_log) << shift) >> shift;
    /* Shortest: below what the next narrower form reaches. */
    const int64_t limit = width_log == 0 ? -32 : -(INT64_C(1) << ((8u << (width_log - 1)) - 1));
    if (r->in.failed || value >= limit) {
        pack_fail(r);
        return 0;
    }
    return value;
}

bool pack_get_bool(struct pack_reader *r)
{
    const uint8_t tag = rd_u8(&r->in);
    if (tag != TAG_TRUE && tag != TAG_FALSE) {
        pack_fail(r);
    }
    return tag == TAG_TRUE;
}

bool pack_get_nil(struct pack_reader *r)
{
    if (r->in.failed || peek(r) != TAG_NIL) {
        return false;
    }
    (void)rd_u8(&r->in);
    return true;
}

static struct bytes read_sized(struct pack_reader *r, uint64_t size, size_t size_max)
{
    if (size > size_max) {
        pack_fail(r);
    }
    return rd_bytes(&r->in, (size_t)size);
}

struct bytes pack_get_bin(struct pack_reader *r, size_t size_max)
{
    const uint8_t tag = rd_u8(&r->in);
    if (tag < TAG_BIN8 || tag >= TAG_BIN8 + 3) {
        pack_fail(r);
        return BYTES_NONE;
    }
    return read_sized(r, read_shortest(&r->in, (unsigned)(tag - TAG_BIN8), 0), size_max);
}

struct bytes pack_get_str(struct pack_reader *r, size_t size_max)
{
    const uint8_t tag = rd_u8(&r->in);
    if (tag >= 0xa0 && tag < 0xc0) {
        return read_sized(r, tag & 0x1fu, size_max);
    }
    if (tag < TAG_STR8 || tag >= TAG_STR8 + 3) {
        pack_fail(r);
        return BYTES_NONE;
    }
    return read_sized(r, read_shortest(&r->in, (unsigned)(tag - TAG_STR8), 32), size_max);
}

struct uid pack_get_uid(struct pack_reader *r)
{
    const struct bytes raw = pack_get_bin(r, UID_SIZE);
    if (raw.size != UID_SIZE) {
        pack_fail(r);
        return UID_NONE;
    }
    return (struct uid){bytes_load_be64(raw.data), bytes_load_be64(raw.data + 8)};
}

/* The count behind an array's or a map's tag. */
static uint64_t read_count(struct pack_reader *r, uint8_t fix, uint8_t tag16)
{
    const uint8_t tag = rd_u8(&r->in);
    if (tag >= fix && tag < fix + 16) {
        return tag & 0x0fu;
    }
    if (tag == tag16) {
        const uint64_t count = rd_be16(&r->in);
        if (count < 16) {
            pack_fail(r);
        }
        return count;
    }
    if (tag == tag16 + 1) {
        return read_shortest(&r->in, 2, 0);
    }
    pack_fail(r);
    return 0;
}

uint32_t pack_get_array(struct pack_reader *r, uint32_t count_max)
{
    const uint64_t count = read_count(r, 0x90, TAG_ARRAY16);
    if (r->in.failed || count > count_max || count > rd_left(&r->in)) {
        pack_fail(r);
        return 0;
    }
    return (uint32_t)count;
}

uint32_t pack_get_map(struct pack_reader *r, uint32_t count_max)
{
    const uint64_t count = read_count(r, 0x80, TAG_MAP16);
    if (r->in.failed || count > count_max || count > rd_left(&r->in) / 2) {
        pack_fail(r);
        return 0;
    }
    return (uint32_t)count;
}

void pack_expect_array(struct pack_reader *r, uint32_t count)
{
    if (pack_get_array(r, count) != count) {
        pack_fail(r);
    }
}

/* Skips the value's own bytes; returns how many values are nested directly in it. */
static uint64_t skip_one(struct pack_reader *r)
{
    const uint8_t tag = peek(r);
    if (tag < 0x80 || tag >= 0xe0 || (tag >= TAG_INT8 && tag < TAG_INT8 + 4) ||
        (tag >= TAG_UINT8 && tag < TAG_UINT8 + 4)) {
        if (tag >= 0x80 && tag < TAG_INT8) {
            (void)pack_get_uint(r, UINT64_MAX);
        } else {
            (void)pack_get_int(r);
        }
        return 0;
    }
    if (tag < 0x90 || tag == TAG_MAP16 || tag == TAG_MAP32) {
        return (uint64_t)pack_get_map(r, UINT32_MAX) * 2;
    }
    if (tag < 0xa0 || tag == TAG_ARRAY16 || tag == TAG_ARRAY32) {
        return pack_get_array(r, UINT32_MAX);
    }
    if (tag < 0xc0 || (tag >= TAG_STR8 && tag < TAG_STR8 + 3)) {
        (void)pack_get_str(r, UINT32_MAX);
        return 0;
    }
    (void)rd_u8(&r->in);
    switch (tag) {
    case TAG_NIL:
    case TAG_FALSE:
    case TAG_TRUE:
        break;
    case TAG_FLOAT32:
        (void)rd_skip(&r->in, 4);
        break;
    case TAG_FLOAT64:
        (void)rd_skip(&r->in, 8);
        break;
    case TAG_BIN8:
    case TAG_BIN8 + 1:
    case TAG_BIN8 + 2:
        (void)rd_skip(&r->in, (size_t)read_be(&r->in, (unsigned)(tag - TAG_BIN8)));
        break;
    case TAG_EXT8:
    case TAG_EXT8 + 1:
    case TAG_EXT8 + 2:
        (void)rd_skip(&r->in, 1 + (size_t)read_be(&r->in, (unsigned)(tag - TAG_EXT8)));
        break;
    default:
        if (tag >= TAG_FIXEXT1 && tag < TAG_FIXEXT1 + 5) {
            (void)rd_skip(&r->in, 1 + (UINT64_C(1) << (tag - TAG_FIXEXT1)));
        } else {
            pack_fail(r);
        }
        break;
    }
    return 0;
}

void pack_skip(struct pack_reader *r)
{
    /* Every pending value takes at least a byte of what is left, so this cannot overflow. */
    for (uint64_t pending = 1; pending > 0 && !r->in.failed; pending--) {
        pending += skip_one(r);
    }
}
