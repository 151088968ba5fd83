/*
 * What: the router: message -> set of queues. Exchange types are a table of functions; each keeps
 * one persistent index per exchange inside the catalog's views (hash for direct, set for fanout,
 * trie for topic, tree of shares for hashes ...), so routing reads the view only: no lock, no
 * count, and no allocation once the result's scratch has grown. Happy path: exchange -> its type's
 * route()
 * -> destinations -> queues go into the result once each; exchanges are visited breadth first, once
 * each; an exchange that matched nothing passes the message on to its alternate exchange. Threads:
 * each thread has its own struct route_result; views are shared. Spec: docs/routing.md; AMQP
 * reference §7.
 */
#ifndef WR_ROUTE_H
#define WR_ROUTE_H

#include "warren/catalog.h"
#include "warren/str.h"

/* For catalog_new: exchanges of that catalog can then be routed through. */
extern const struct catalog_index_ops route_index_ops;

/* --- routing ---------------------------------------------------------------------------------- */

struct route_input {
    struct bytes key;
    struct bytes
        props; /* Raw content header (flags and properties), as in struct message. May be empty. */
    const struct bytes *extra_keys; /* CC and BCC; routed as if published with each, too. */
    uint32_t extra_count;
    uint64_t random; /* Drawn by the caller, anew for each message: x-random, x-local-random. */
    struct uid node; /* Who routes: x-local-random. Zero: nothing is local. */
};

/* Result and scratch memory; reused from message to message. Use one with views of one catalog only
 * (it remembers queues by the view's serial). */
struct route_scratch;
struct route_result {
    const struct catalog_queue **queues; /* Each at most once; borrowed from the view. */
    /* Parallel to queues: it was (first) reached from an x-delayed-message exchange. */
    bool *delayed;
    uint32_t count;
    uint32_t capacity;
    uint32_t
        kept; /* How many of them are histories (CATALOG_HISTORY), which make no message routed. */
    /* Nothing but the key was looked at, by any exchange on the way, and no queue is delayed: in
     * this view every message with the same key (and no extra ones) goes the same way. */
    bool key_only;
    struct route_scratch *scratch; /* private */
};

void route_result_init(struct route_result *result);
void route_result_deinit(struct route_result *result);

/*
 * Routes one message published to `exchange` (of this view). The result replaces the one before;
 * its order is deterministic. Returns result->count; result->kept (0, mostly) = unroutable
 * (alternate exchanges were tried). Checks neither permissions nor `internal`.
 */
uint32_t route_message(const struct catalog_view *view, const struct catalog_exchange *exchange,
                       const struct route_input *input, struct route_result *result);

/* --- checks for declare and bind -------------------------------------------------------------- */

/* The type of that name, or NULL ("unknown exchange type"). Types of the table: direct, fanout,
 * topic, headers, x-consistent-hash, x-modulus-hash, x-random, x-local-random, x-recent-history,
 * x-delayed-message.
 */
const struct exchange_type *exchange_type_find(struct bytes name);

/* The i-th type, NULL behind the last: for listings. */
const struct exchange_type *exchange_type_at(uint32_t i);
const char *exchange_type_name(const struct exchange_type *type);

/*
 * May an exchange of that type be declared with these arguments (a well-formed table)? 0, or
 * WR_E_INVALID with RabbitMQ's text of the 406 appended to `text`.
 */
WR_MUST_USE int exchange_type_validate(const struct exchange_type *type, struct bytes arguments,
                                       struct strbuf *text);

/* A binding that is to be made. */
struct route_binding {
    struct bytes key;
    struct bytes arguments;            /* A well-formed table. */
    const struct catalog_queue *queue; /* NULL: to an exchange. */
};

/* May it be made on an exchange of that type (catalog_exchange.router)? 0, or WR_E_INVALID with
 * RabbitMQ's text of the 406 appended to `text`. */
WR_MUST_USE int route_validate_binding(const struct exchange_type *type,
                                       const struct route_binding *binding, struct strbuf *text);

/* The alternate exchange that the exchange's arguments name; false when none (or not a longstr). */
bool route_alternate(const struct catalog_exchange *exchange, struct bytes *ret_name);

/* Does a topic binding key match a routing key? What the trie does, for one pattern: for topic
 * permissions and tests. Time: product of the numbers of words. */
bool route_topic_matches(struct bytes pattern, struct bytes key);

#endif
