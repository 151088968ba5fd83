/*
 * What: borrowed views of bytes, a cursor that reads them without ever passing their end, and a
 * writer that appends to a growing buffer. Little-endian names end in le, network order in be.
 * Varint: LEB128, least significant group first, at most 10 bytes; the reader takes only the
 * shortest form. Threads: none involved; a value belongs to its holder.
 */
#ifndef WR_BYTES_H
#define WR_BYTES_H

#include <string.h>

#include "warren/assert.h"
#include "warren/buf.h"

/* Borrowed: lives no longer than what it points into. data may be NULL when size is 0. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

#define BYTES_NONE ((struct bytes){NULL, 0})

/* A view of a string literal or array of char without its NUL: as a value, and as an initialiser
 * (the only form that static tables may use). */
#define BYTES_LITERAL(text) ((struct bytes)BYTES_INIT(text))
#define BYTES_INIT(text)                                                                           \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

/* For printf("%.*s", BYTES_PRINTF(b)). */
#define BYTES_PRINTF(b) (int)((b).size > 4096 ? 4096 : (b).size), (const char *)(b).data

static inline struct bytes bytes_make(const void *data, size_t size)
{
    return (struct bytes){(const uint8_t *)data, size};
}

static inline struct bytes bytes_from_cstr(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static inline struct bytes bytes_from_slice(const struct slice *s)
{
    return (struct bytes){slice_data(s), s->size};
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool bytes_eq_cstr(struct bytes a, const char *text)
{
    return bytes_eq(a, bytes_from_cstr(text));
}

/* Lexicographic by unsigned byte, the shorter first: < 0, 0, > 0. */
static inline int bytes_cmp(struct bytes a, struct bytes b)
{
    const size_t size = a.size < b.size ? a.size : b.size;
    const int order = size == 0 ? 0 : memcmp(a.data, b.data, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static inline bool bytes_starts_with(struct bytes a, struct bytes prefix)
{
    return a.size >= prefix.size && bytes_eq((struct bytes){a.data, prefix.size}, prefix);
}

/* A NUL-terminated copy of its own (embedded NULs are kept); the caller frees it with wr_free. */
static inline char *bytes_strdup(struct bytes b)
{
    return wr_strndup((const char *)b.data, b.size);
}

/*
 * Reader. Failure is sticky: after a read past the end every read gives 0 or an empty view and
 * `failed` stays set, so a caller may read a whole structure and check once.
 */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct reader reader_make(const void *data, size_t size)
{
    const uint8_t *at = (const uint8_t *)data;
    return (struct reader){at, size == 0 ? at : at + size, false};
}

static inline struct reader reader_from(struct bytes b)
{
    return reader_make(b.data, b.size);
}

/* Bytes not read yet; 0 after a failure. */
static inline size_t rd_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

/* Mark as failed (a value read makes no sense): the rest is skipped. */
static inline void rd_fail(struct reader *r)
{
    r->failed = true;
    r->at = r->end;
}

/* True when nothing failed and all was read. */
static inline bool rd_done(const struct reader *r)
{
    return !r->failed && r->at == r->end;
}

/* Move over `size` bytes and return where they begin; NULL (and failed) when there are fewer. */
static inline const uint8_t *rd_skip(struct reader *r, size_t size)
{
    if (WR_UNLIKELY(r->failed || size > rd_left(r))) {
        rd_fail(r);
        return NULL;
    }
    const uint8_t *begin = r->at;
    if (size > 0) {
        r->at += size;
    }
    return begin;
}

/* A view of the next `size` bytes of what is read; empty after a failure. */
static inline struct bytes rd_bytes(struct reader *r, size_t size)
{
    const uint8_t *begin = rd_skip(r, size);
    return begin == NULL ? BYTES_NONE : (struct bytes){begin, size};
}

/* A reader over the next `size` bytes; failed when there are fewer. */
static inline struct reader rd_sub(struct reader *r, size_t size)
{
    struct reader sub = reader_from(rd_bytes(r, size));
    sub.failed = r->failed;
    return sub;
}

static inline uint16_t bytes_load_le16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap16(v) : v;
}

static inline uint32_t bytes_load_le32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(v) : v;
}

static inline uint64_t bytes_load_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(v) : v;
}

static inline uint16_t bytes_load_be16(const uint8_t *p)
{
    return __builtin_bswap16(bytes_load_le16(p));
}

static inline uint32_t bytes_load_be32(const uint8_t *p)
{
    return __builtin_bswap32(bytes_load_le32(p));
}

static inline uint64_t bytes_load_be64(const uint8_t *p)
{
    return __builtin_bswap64(bytes_load_le64(p));
}

static inline void bytes_store_le16(uint8_t *p, uint16_t v)
{
    const uint16_t w = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap16(v) : v;
    memcpy(p, &w, sizeof(w));
}

static inline void bytes_store_le32(uint8_t *p, uint32_t v)
{
    const uint32_t w = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(v) : v;
    memcpy(p, &w, sizeof(w));
}

static inline void bytes_store_le64(uint8_t *p, uint64_t v)
{
    const uint64_t w = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(v) : v;
    memcpy(p, &w, sizeof(w));
}

static inline void bytes_store_be16(uint8_t *p, uint16_t v)
{
    bytes_store_le16(p, __builtin_bswap16(v));
}

static inline void bytes_store_be32(uint8_t *p, uint32_t v)
{
    bytes_store_le32(p, __builtin_bswap32(v));
}

static inline void bytes_store_be64(uint8_t *p, uint64_t v)
{
    bytes_store_le64(p, __builtin_bswap64(v));
}

static inline uint8_t rd_u8(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 1);
    return p == NULL ? 0 : *p;
}

static inline uint16_t rd_le16(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 2);
    return p == NULL ? 0 : bytes_load_le16(p);
}

static inline uint32_t rd_le32(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 4);
    return p == NULL ? 0 : bytes_load_le32(p);
}

static inline uint64_t rd_le64(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 8);
    return p == NULL ? 0 : bytes_load_le64(p);
}

static inline uint16_t rd_be16(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 2);
    return p == NULL ? 0 : bytes_load_be16(p);
}

static inline uint32_t rd_be32(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 4);
    return p == NULL ? 0 : bytes_load_be32(p);
}

static inline uint64_t rd_be64(struct reader *r)
{
    const uint8_t *p = rd_skip(r, 8);
    return p == NULL ? 0 : bytes_load_be64(p);
}

/* Fails on more than 64 bits and on a form longer than needed. */
uint64_t rd_varint(struct reader *r);

/* put_varbytes' counterpart: a varint size, then that many bytes, as a view. */
struct bytes rd_varbytes(struct reader *r);

/*
 * Writer: appends to a buffer of its own that grows by doubling (up to BUF_CAPACITY_MAX, then it
 * aborts: whoever writes what a peer may make huge checks the size first).
 */
struct writer {
    struct buf *buf; /* Never NULL between init and deinit/take; not shared. */
};

static inline void writer_init(struct writer *w, size_t capacity)
{
    w->buf = buf_new(capacity);
}

static inline void writer_deinit(struct writer *w)
{
    buf_unref(w->buf);
    w->buf = NULL;
}

/* Move the buffer out (one reference, the caller's); the writer must be initialised again. */
static inline struct buf *writer_take(struct writer *w)
{
    struct buf *b = w->buf;
    w->buf = NULL;
    return b;
}

/* What was written; valid until the next put. */
static inline struct bytes writer_bytes(const struct writer *w)
{
    return (struct bytes){w->buf->data, w->buf->size};
}

static inline uint32_t writer_size(const struct writer *w)
{
    return w->buf->size;
}

/* Forget what was written, keep the memory. */
static inline void writer_clear(struct writer *w)
{
    w->buf->size = 0;
}

/* `size` bytes that count as written; the caller fills them before the next put. */
static inline uint8_t *put_space(struct writer *w, size_t size)
{
    if (WR_UNLIKELY(w->buf->capacity - w->buf->size < size)) {
        buf_reserve(&w->buf, size);
    }
    uint8_t *space = w->buf->data + w->buf->size;
    w->buf->size += (uint32_t)size;
    return space;
}

static inline void put_u8(struct writer *w, uint8_t v)
{
    *put_space(w, 1) = v;
}

static inline void put_le16(struct writer *w, uint16_t v)
{
    bytes_store_le16(put_space(w, 2), v);
}

static inline void put_le32(struct writer *w, uint32_t v)
{
    bytes_store_le32(put_space(w, 4), v);
}

static inline void put_le64(struct writer *w, uint64_t v)
{
    bytes_store_le64(put_space(w, 8), v);
}

static inline void put_be16(struct writer *w, uint16_t v)
{
    bytes_store_be16(put_space(w, 2), v);
}

static inline void put_be32(struct writer *w, uint32_t v)
{
    bytes_store_be32(put_space(w, 4), v);
}

static inline void put_be64(struct writer *w, uint64_t v)
{
    bytes_store_be64(put_space(w, 8), v);
}

void put_varint(struct writer *w, uint64_t v);

static inline void put_bytes(struct writer *w, const void *data, size_t size)
{
    buf_append(&w->buf, data, size);
}

static inline void put_view(struct writer *w, struct bytes b)
{
    buf_append(&w->buf, b.data, b.size);
}

/* A varint size, then the bytes. */
static inline void put_varbytes(struct writer *w, struct bytes b)
{
    put_varint(w, b.size);
    put_view(w, b);
}

/* Bytes that put_varint writes for v: 1 to 10. */
static inline size_t varint_size(uint64_t v)
{
    return (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1;
}

#endif
