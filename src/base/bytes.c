/*
 * What: varints; everything else of readers and writers is inline in bytes.h.
 * Failure modes: a varint of more than 64 bits, or one that is longer than needed (two encodings of
 * one value would give two hashes of one state), fails the reader.
 */
#include "warren/bytes.h"

uint64_t rd_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = rd_skip(r, 1);
        if (p == NULL) {
            return 0;
        }
        /* The tenth byte has room for one bit only. */
        if (shift == 63 && *p > 1) {
            break;
        }
        value |= (uint64_t)(*p & 0x7f) << shift;
        if ((*p & 0x80) == 0) {
            if (*p == 0 && shift != 0) {
                break;
            }
            return value;
        }
    }
    rd_fail(r);
    return 0;
}

struct bytes rd_varbytes(struct reader *r)
{
    const uint64_t size = rd_varint(r);
    if (size > rd_left(r)) {
        rd_fail(r);
        return BYTES_NONE;
    }
    return rd_bytes(r, (size_t)size);
}

void put_varint(struct writer *w, uint64_t v)
{
    uint8_t *p = put_space(w, varint_size(v));
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p = (uint8_t)v;
}
