/* What: small helpers shared by the files of src/wire. */
#ifndef WR_WIRE_INTERNAL_H
#define WR_WIRE_INTERNAL_H

#include "warren/bytes.h"

/* True when no byte has its top bit set: the usual case, for which UTF-8 needs no further look. */
static inline bool wire__is_ascii(struct bytes text)
{
    const uint8_t *p = text.data;
    size_t left = text.size;
    uint64_t seen = 0;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        seen |= word;
    }
    for (; left > 0; left--, p++) {
        seen |= *p;
    }
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

/* Copy the bytes (which may be an empty view with a NULL pointer); returns the end. */
static inline uint8_t *wire__store_bytes(uint8_t *out, struct bytes b)
{
    if (b.size > 0) {
        memcpy(out, b.data, b.size);
    }
    return out + b.size;
}

static inline uint8_t *wire__store_shortstr(uint8_t *out, struct bytes text)
{
    WR_ASSERT_OP(text.size, <=, 255);
    *out = (uint8_t)text.size;
    return wire__store_bytes(out + 1, text);
}

#endif
