/*
 * What: tables as JSON, in the form that RabbitMQ's command line gives them: a list of
 * [name, type, value], values of arrays as [type, value]. Order and types survive, which an object
 * would lose. Invariants: the text is JSON whatever the input (what is not UTF-8 becomes U+FFFD, a
 * number that JSON cannot write null, the rest of a broken table is left out); nothing recurses.
 */
#include "warren/wire_table.h"

static void put_real(struct writer *w, double value)
{
    if (__builtin_isfinite(value)) {
        put_printf(w, "%.17g", value);
    } else {
        put_cstr(w, "null");
    }
}

/* A value that is not nested. */
static void put_flat_value(struct writer *w, const struct wire_value *v)
{
    switch (v->type) {
    case WIRE_FIELD_BOOL:
        put_cstr(w, v->boolean ? "true" : "false");
        break;
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        put_real(w, v->real);
        break;
    case WIRE_FIELD_DECIMAL:
        put_printf(w, "[%u,%u]", (unsigned)v->decimal.scale, (unsigned)v->decimal.unscaled);
        break;
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        put_json_string(w, v->bytes);
        break;
    case WIRE_FIELD_TIMESTAMP:
        put_printf(w, "%llu", (unsigned long long)v->timestamp);
        break;
    case WIRE_FIELD_VOID:
        put_cstr(w, "\"undefined\"");
        break;
    default:
        put_printf(w, "%lld", (long long)v->integer);
        break;
    }
}

/* One level being written. */
struct level {
    struct wire_table_iter it;
    bool started;
};

static void level_open(struct writer *w, struct level *level, uint8_t type, struct bytes content)
{
    level->started = false;
    if (type == WIRE_FIELD_ARRAY) {
        wire_array_iter_init(&level->it, content);
    } else {
        wire_table_iter_init(&level->it, content);
    }
    put_u8(w, '[');
}

void wire_put_table_json(struct writer *w, struct bytes table)
{
    struct level stack[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 1;
    level_open(w, &stack[0], WIRE_FIELD_TABLE, table);
    while (depth > 0) {
        struct level *level = &stack[depth - 1];
        struct bytes key;
        struct wire_value value;
        if (!wire_table_iter_next(&level->it, &key, &value)) {
            put_cstr(w, depth == 1 ? "]" : "]]"); /* the field that holds this level ends too */
            depth--;
            continue;
        }
        put_cstr(w, level->started ? ",[" : "[");
        level->started = true;
        if (!level->it.is_array) {
            put_json_string(w, key);
            put_u8(w, ',');
        }
        put_printf(w, "\"%s\",", wire_field_name(value.type));
        bool nested = value.type == WIRE_FIELD_ARRAY || value.type == WIRE_FIELD_TABLE;
        if (!nested) {
            put_flat_value(w, &value);
            put_u8(w, ']');
        } else if (depth == WIRE_TABLE_DEPTH_MAX) {
            put_cstr(w, "[]]"); /* tables that deep are refused where they come in */
        } else {
            level_open(w, &stack[depth++], value.type, value.bytes);
        }
    }
}
