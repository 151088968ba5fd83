/*
 * What: random 128-bit identities (members, groups, nodes, publishers). Zero means "none".
 * They are made by whoever has a source of randomness (env); here they are only values.
 */
#ifndef WR_UID_H
#define WR_UID_H

#include "warren/bytes.h"

struct uid {
    uint64_t hi;
    uint64_t lo;
};

#define UID_NONE      ((struct uid){0, 0})
#define UID_TEXT_SIZE 33 /* 32 hex digits and NUL. */
#define UID_SIZE      16 /* Bytes of put_uid. */

static inline bool uid_eq(struct uid a, struct uid b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static inline int uid_cmp(struct uid a, struct uid b)
{
    if (a.hi != b.hi) {
        return a.hi < b.hi ? -1 : 1;
    }
    return (a.lo > b.lo) - (a.lo < b.lo);
}

static inline bool uid_is_zero(struct uid id)
{
    return (id.hi | id.lo) == 0;
}

/* 32 lower-case hex digits, most significant first, and NUL. Returns text. */
char *uid_format(struct uid id, char text[static UID_TEXT_SIZE]);

/* Exactly 32 hex digits of either case, else WR_E_INVALID. */
WR_MUST_USE int uid_parse(struct bytes text, struct uid *ret_id);

/* 16 bytes, big-endian, so that byte order is uid_cmp order. */
static inline void put_uid(struct writer *w, struct uid id)
{
    put_be64(w, id.hi);
    put_be64(w, id.lo);
}

static inline struct uid rd_uid(struct reader *r)
{
    struct uid id;
    id.hi = rd_be64(r);
    id.lo = rd_be64(r);
    return id;
}

#endif
