#ifndef WR_ADMIN_H
#define WR_ADMIN_H
/*
 * What the files of the administration share: one call, and how it ends.
 */
#include "warren/broker_admin.h"

#include "broker_internal.h"

struct admin_call {
    struct list link; /* broker->admin */
    struct broker *broker;
    broker_done_fn done;
    void *ctx;
    struct buf *text; /* what the three views below lie in */
    struct bytes user, vhost, name;
    struct broker_fault fault;
    bool ready;          /* answered in the next turn */
    uint64_t wait_index; /* not 0: answered when the view has this */
    uint64_t a;
    /* What NOT_FOUND and EXISTS of the machine mean here; else the first is fine. */
    bool may_exist, user_missing, vhost_missing;
    const char *missing;
    enum broker_admin_fault missing_code;
    struct timer delay; /* a refused log-in is answered late; admin_queue.c: the time limit */
    struct {            /* admin_queue.c */
        struct queue_client *client;
        uint64_t queue_id;
        bool deletes, proposed;
    };
};

struct admin_call *admin_new(struct broker *broker, broker_done_fn done, void *ctx,
                             struct bytes user, struct bytes vhost, struct bytes name);
/* Each ends the call, in a later turn. */
void admin_answer(struct admin_call *call);
void admin_fail(struct admin_call *call, enum broker_admin_fault code, const char *fmt, ...)
    WR_PRINTF(3, 4);
/* The catalog has no leader: ends it. */
void admin_unavailable(struct admin_call *call);
/* A command that passes the limits is proposed; the outcome ends the call. */
void admin_propose(struct admin_call *call, const struct catalog_command *command);

#endif
