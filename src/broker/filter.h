/*
 * What: message filters for those who look through queues (peek, move, copy, delete): expressions
 * over properties and headers, in the manner of SQL.
 *
 *   expression  or, and, not, ( ); comparisons = <> != < <= > >=; [not] in (...), [not] like '%_',
 *               ~ 'regular expression', is [not] null, [not] between a and b; + - * /
 *   operands    'text' (a quote is doubled), numbers, true, false, names
 *   names       properties as in AMQP: content_type, priority, message_id ...; exchange,
 * routing_key, size (of the body), delivery_count; headers.NAME or headers['any name']
 *
 * What is absent or void is null, an array, a table or a decimal only not null; comparing it, or
 * values of different kinds, is neither true nor false (SQL's unknown), and only what is true
 * matches. Pure functions; bounded depth, no recursion beyond FILTER_DEPTH_MAX. Spec:
 * docs/warrenctl.md, "Filters".
 */
#ifndef WR_BROKER_FILTER_H
#define WR_BROKER_FILTER_H

#include <stdbool.h>

#include "warren/bytes.h"
#include "warren/message.h"
#include "warren/str.h"

#define FILTER_DEPTH_MAX 64u
#define FILTER_SIZE_MAX  65536u

struct filter;

/* NULL with the reason appended to `why` ("expected ) at 17"). The text is copied. */
struct filter *filter_parse(struct bytes text, struct strbuf *why);
void filter_free(struct filter *owned_filter); /* NULL is allowed. */
bool filter_matches(const struct filter *filter, const struct message *message,
                    uint32_t delivery_count);

#endif
