#ifndef WR_CTL_CHECKS_H
#define WR_CTL_CHECKS_H
/* What the health checks have in common. Each returns the exit code. */
#include "invocation.h"

struct check {
    struct invocation *v;
    json_t *status; /* the node's answer to status */
    const char *node;
};

/* Says so; owned_json: what the JSON formatter shows instead. */
int check_good(const struct check *check, json_t *owned_json, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int check_bad(const struct check *check, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A check that failed. owned_json, where RabbitMQ has one: what the JSON formatter shows instead,
 * on standard error. bare: without the line "Error:". */
int check_failed(const struct check *check, json_t *owned_json, bool bare, const char *text);
/* A node that has not started knows nothing of queues or of other nodes: it is not healthy. False:
 * *ret_code says so. */
bool check_started(const struct check *check, int *ret_code);
json_t *check_ok_json(void);
const char *check_text(json_t *object, const char *name); /* "" when it has none */
bool check_is_number(const char *text);                   /* of a port, or of nodes */
/* The answer to a request; NULL with *ret_code set and the reason told. */
json_t *check_ask(struct invocation *v, json_t *owned_request, int *ret_code);

int check_quorum(const struct check *check);
int check_mirrors(const struct check *check);
int await_quorum(const struct check *check);
int await_mirrors(const struct check *check);

#endif
