#ifndef WR_REPLICA_REPORT_HEAD_H
#define WR_REPLICA_REPORT_HEAD_H
/* The timestamp of the message at the head of a queue, for its reports (report_head.c). */
#include "group.h"
#include "home.h"

typedef void (*heads_fn)(struct home *home, const struct report_wait *wait);
/* True: the bytes are read from disk; `ready` is called when they have come, unless the home ended
 * or serves no longer. False: there is nothing to wait for. */
bool heads_read(struct home *home, const struct report_wait *wait, heads_fn ready);
/* False: no timestamp is there, or it is not known. */
bool home_head_timestamp(struct home *home, uint64_t *ret_timestamp);
void heads_free(struct home *home);

#endif
