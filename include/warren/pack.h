/*
 * What: msgpack in one canonical form: integers, strings, arrays and maps are written in the
 * shortest form and read in that form only, so equal values have equal bytes. Used for catalog
 * commands, control messages of links and snapshots.
 * The writer appends to a `struct buf *` of the caller (not shared; it may move). The reader is a
 * cursor over borrowed bytes whose failure is sticky: after the first thing that is missing, of
 * another type, out of range or not canonical every read gives zero and `failed` stays set; read a
 * whole structure, check once. No read allocates, recurses or believes a declared count.
 * Threads: none involved; a value belongs to its holder. Spec: docs/catalog.md, "Encoding".
 */
#ifndef WR_PACK_H
#define WR_PACK_H

#include "warren/bytes.h"
#include "warren/uid.h"

struct pack_writer {
    struct buf **out; /* Borrowed; *out is never NULL and never shared. */
};

static inline struct pack_writer pack_writer_make(struct buf **out)
{
    return (struct pack_writer){out};
}

void pack_put_nil(struct pack_writer *w);
void pack_put_bool(struct pack_writer *w, bool value);
void pack_put_uint(struct pack_writer *w, uint64_t value);
void pack_put_int(struct pack_writer *w, int64_t value);
/* Sizes up to UINT32_MAX (asserted). data is copied. */
void pack_put_bin(struct pack_writer *w, struct bytes value);
/* Text; the bytes need not be UTF-8 (names in AMQP are checked elsewhere). */
void pack_put_str(struct pack_writer *w, struct bytes value);
/* 16 bytes as bin, big-endian. */
void pack_put_uid(struct pack_writer *w, struct uid value);
/* Header only: `count` values, or `count` pairs, follow. */
void pack_put_array(struct pack_writer *w, uint32_t count);
void pack_put_map(struct pack_writer *w, uint32_t count);

struct pack_reader {
    struct reader in;
};

static inline struct pack_reader pack_reader_make(struct bytes input)
{
    return (struct pack_reader){reader_from(input)};
}

/* Integers as pack_put_uint writes them (not negative), at most `max`. */
uint64_t pack_get_uint(struct pack_reader *r, uint64_t max);
int64_t pack_get_int(struct pack_reader *r);
bool pack_get_bool(struct pack_reader *r);
/* Views into the input, at most `size_max` bytes; an empty view after a failure. */
struct bytes pack_get_bin(struct pack_reader *r, size_t size_max);
struct bytes pack_get_str(struct pack_reader *r, size_t size_max);
struct uid pack_get_uid(struct pack_reader *r);
/* Number of values (pairs) that follow, at most count_max and at most what the bytes left could
 * hold (a value takes at least one byte). */
uint32_t pack_get_array(struct pack_reader *r, uint32_t count_max);
uint32_t pack_get_map(struct pack_reader *r, uint32_t count_max);
/* Exactly `count` values must follow. */
void pack_expect_array(struct pack_reader *r, uint32_t count);
/* Skips a nil and says true; false (nothing read) when the next value is another one. */
bool pack_get_nil(struct pack_reader *r);
/* Skips one value of any type and depth (nesting costs no stack). */
void pack_skip(struct pack_reader *r);

static inline void pack_fail(struct pack_reader *r)
{
    rd_fail(&r->in);
}

static inline bool pack_failed(const struct pack_reader *r)
{
    return r->in.failed;
}

/* True when nothing failed and all was read. */
static inline bool pack_done(const struct pack_reader *r)
{
    return rd_done(&r->in);
}

#endif
