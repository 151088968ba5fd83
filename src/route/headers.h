/*
 * What: what the files of the headers exchange share: criteria, and the index over them.
 */
#ifndef WR_ROUTE_HEADERS_H
#define WR_ROUTE_HEADERS_H

#include "internal.h"

struct criterion {
    struct bytes name;
    struct wire_value value; /* VOID: presence */
};

/* x-match of a binding's arguments. */
struct headers_mode {
    bool any, with_x;
};

struct headers_mode headers__mode(struct bytes arguments);

/* The criteria in a binding's arguments; at most `max` are written to out, all are counted. */
uint32_t headers__criteria(struct bytes arguments, struct headers_mode mode, struct criterion *out,
                           uint32_t max);

/* The message's header of that name, decoded before; NULL: none. */
const struct wire_value *headers__find(const struct route_scratch *s, struct bytes name);

/* headers_index.c: bindings that are found by look-up. Each function answers false for a binding
 * that cannot be, and then has changed nothing. */
struct headers_index;

/* A new index with (without) the binding, one reference, NULL = empty; the old one is borrowed. */
bool headers__index_add(struct headers_index *index, struct catalog_binding *binding,
                        struct headers_index **ret_index);
bool headers__index_remove(struct headers_index *index, struct catalog_binding *binding,
                           struct headers_index **ret_index);

/* All bindings of the index that match the decoded headers. NULL is allowed. */
void headers__index_route(const struct headers_index *index, struct route_result *result);

void headers__index_unref(struct headers_index *owned_index); /* NULL is allowed in both. */
struct headers_index *headers__index_ref(struct headers_index *index);

#endif
