/*
 * What: codes of operating errors. A function that can fail returns int: 0 for success, or one of
 * these negative values. Bugs are asserts (assert.h); a peer's faults are typed values of their
 * own. The numbers are frozen: they may travel between nodes of different versions.
 */
#ifndef WR_ERR_H
#define WR_ERR_H

#include "warren/assert.h"

/* X(name, number, text) */
#define WR_ERR_TABLE(X)                                                                            \
    X(WR_E_NOMEM, -1, "out of memory")                                                             \
    X(WR_E_INVALID, -2, "invalid value")                                                           \
    X(WR_E_IO, -3, "input/output error")                                                           \
    X(WR_E_NOSPACE, -4, "no space left on device")                                                 \
    X(WR_E_CORRUPT, -5, "stored or received data is damaged")                                      \
    X(WR_E_NOTFOUND, -6, "not found")                                                              \
    X(WR_E_EXISTS, -7, "exists already")                                                           \
    X(WR_E_AGAIN, -8, "not possible now, try again")                                               \
    X(WR_E_TIMEOUT, -9, "timed out")                                                               \
    X(WR_E_CLOSED, -10, "closed")                                                                  \
    X(WR_E_REFUSED, -11, "refused")                                                                \
    X(WR_E_AUTH, -12, "authentication failed")                                                     \
    X(WR_E_VERSION, -13, "version not supported")                                                  \
    X(WR_E_TOOBIG, -14, "too big")                                                                 \
    X(WR_E_STATE, -15, "not allowed in this state")                                                \
    X(WR_E_NOTLEADER, -16, "this replica is not the leader")                                       \
    X(WR_E_UNAVAILABLE, -17, "unavailable")                                                        \
    X(WR_E_LIMIT, -18, "limit reached")                                                            \
    X(WR_E_CANCELLED, -19, "cancelled")                                                            \
    X(WR_E_UNSUPPORTED, -20, "not supported")                                                      \
    X(WR_E_INUSE, -21, "in use")                                                                   \
    X(WR_E_NOTEMPTY, -22, "not empty")                                                             \
    X(WR_E_MISMATCH, -23, "does not match what exists")                                            \
    X(WR_E_PERMISSION, -24, "permission denied")                                                   \
    X(WR_E_RESET, -25, "connection reset by peer")                                                 \
    X(WR_E_UNREACHABLE, -26, "peer cannot be reached")                                             \
    X(WR_E_TRUNCATED, -27, "data ends too early")                                                  \
    X(WR_E_FILES, -28, "too many open files")

enum wr_err {
    WR_OK = 0,
#define WR_ERR_ENUM(name, number, text) name = number,
    WR_ERR_TABLE(WR_ERR_ENUM)
#undef WR_ERR_ENUM
};

/* "WR_E_IO" for WR_E_IO, "WR_OK" for 0, "WR_E_?" for what is none of ours. Static string. */
const char *wr_err_name(int err);

/* The text in the table, "success" for 0, "unknown error" otherwise. Static string. */
const char *wr_err_text(int err);

#endif
