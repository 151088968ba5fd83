/*
 * What: looking through the messages of a queue that is in use, and moving, copying or deleting
 * those that a filter matches: for warrenctl, later for the HTTP API (docs/messages.md). Works page
 * by page: one call looks at a bounded number of messages and says where to go on, so that whoever
 * asks can show progress, and stop at any time.
 * Failure modes: a page that ends with a fault says how much of it was done. Nothing is lost
 * whenever it ends: a message that is moved leaves its queue when the target has confirmed it, so
 * after a crash it may be in both. Threads: the shard that owns the broker.
 */
#ifndef WR_BROKER_MESSAGES_H
#define WR_BROKER_MESSAGES_H

#include "warren/broker.h"

struct broker_page;

enum broker_page_what { BROKER_PAGE_PEEK, BROKER_PAGE_COPY, BROKER_PAGE_MOVE, BROKER_PAGE_DELETE };

#define BROKER_PAGE_MAX 1000u

struct broker_page_options { /* borrowed for the call */
    enum broker_page_what what;
    struct bytes vhost, queue;
    struct bytes target; /* COPY, MOVE: name of the queue, in the same vhost */
    struct bytes filter; /* "" = all; see docs/messages.md */
    uint8_t places;      /* enum queue_place, or-ed; MOVE: READY only */
    uint64_t from;       /* position to begin at; 0 = the first */
    uint64_t end;        /* look at positions below it; 0 = what is in the queue now */
    uint32_t count;      /* messages to look at, at most BROKER_PAGE_MAX */
    uint64_t limit;      /* most messages that may match; the page ends with the last of them */
    bool dry_run;        /* only count */
    uint32_t timeout_ms;
};

struct broker_page_result {
    uint64_t next;  /* `from` of the next page; 0 = that was the last */
    uint64_t end;   /* pass it on to the next page: what comes meanwhile is left alone */
    uint64_t total; /* messages in these places when the page began */
    uint64_t seen, matched;
    uint64_t done;    /* copied, moved, deleted */
    uint64_t refused; /* by the target: they stay where they are */
};

struct broker_page_sink {
    /* PEEK: one that matched. `at_ms`: see QUEUE_EFFECT_PEEK. Borrowed. May be NULL. */
    void (*on_message)(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                       uint32_t delivery_count, const struct message *message);
    /* The end, with fault->code 0 or what went wrong (404, 406; 541 no leader in time). */
    void (*on_done)(void *ctx, const struct broker_fault *fault,
                    const struct broker_page_result *result);
};

/* Starts; on_done follows, never from inside. Returns what broker_page_abandon takes; it is dead
 * after on_done. */
struct broker_page *broker_page_start(struct broker *broker,
                                      const struct broker_page_options *options,
                                      const struct broker_page_sink *sink, void *ctx);
/* Nobody is told any more. What was taken and not yet confirmed by the target is put back. */
void broker_page_abandon(struct broker_page *page);

#endif
