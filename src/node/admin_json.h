#ifndef WR_NODE_ADMIN_JSON_H
#define WR_NODE_ADMIN_JSON_H
/*
 * JSON and field tables: S, l, d, t, A, F, V for strings, integers, numbers with a fraction,
 * booleans, lists, objects, null. Bounded in depth (WIRE_TABLE_DEPTH_MAX).
 */
#include <jansson.h>
#include <stdbool.h>

#include "warren/bytes.h"

/* Appends the fields of an object (a table's content), by name; one value with its type letter.
 * False: nested too deep, or a name is too long; then *w is not to be used. */
bool admin_put_fields(struct writer *w, json_t *object);
bool admin_put_value(struct writer *w, json_t *value);

/* New references. What is not UTF-8 becomes {"base64": ...}. */
json_t *admin_text_json(struct bytes text);
json_t *admin_table_json(struct bytes table);
json_t *admin_value_json(struct bytes value); /* with its type letter */
json_t *admin_base64(struct bytes data);
/* False: not base64, or more than `room` bytes. */
bool admin_unbase64(struct bytes text, uint8_t *data, size_t room, size_t *ret_size);

/* A JSON string that holds the JSON text of the value, keys sorted: as RabbitMQ lists values. */
json_t *admin_quoted_json(json_t *owned_value);

#endif
