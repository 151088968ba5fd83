#ifndef WR_NODE_CONTROL_H
#define WR_NODE_CONTROL_H
/*
 * What control.c (requests, answers, what is gathered) and admin*.c (what changes things) share.
 */
#include <jansson.h>

#include "node_internal.h"

enum {
    EXIT_USAGE = 64,
    EXIT_DATA = 65,
    EXIT_NO_USER = 67,
    EXIT_UNAVAILABLE = 69,
    EXIT_SOFTWARE = 70,
    EXIT_TEMPORARY = 75
};

/* A request that is answered later: exactly one control_job_answer, which ends it. `state` is freed
 * with it, in the next control turn; at the end of the node, when broker and host are gone already,
 * that is all that happens.
 */
struct job;
struct job *control_job_new(struct shard *shard, struct link_conn *link, void *owned_state,
                            void (*free_state)(void *state));
void control_job_answer(struct job *job, json_t *owned_reply);

/* A command that changes or lists definitions, queues, messages. False: there is none of that name.
 */
bool admin_request(struct shard *shard, struct link_conn *link, const char *command,
                   json_t *request);

/* {"relative": fraction} or {"absolute": bytes}: the memory alarm's threshold as it is now. */
json_t *settings_watermark_json(const struct shard *shard);

#endif
