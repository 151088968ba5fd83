/*
 * What: JSON to field tables and back, for policies, parameters and messages.
 * Failure modes: JSON that no field table can hold (depth, long names) is refused; any table can be
 * shown, a broken one as far as it goes. Recursion is bounded by WIRE_TABLE_DEPTH_MAX.
 */
#include <stdlib.h>
#include <string.h>

#include "warren/assert.h"
#include "warren/mem.h"
#include "warren/str.h"
#include "warren/wire_table.h"

#include "admin_json.h"

enum { KEY_MAX = 255 };

static bool put_value(struct writer *w, json_t *value, uint32_t depth);

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* By name, as Erlang keeps a map: what is wrong with a definition is said of the same key then. */
static bool put_fields(struct writer *w, json_t *object, uint32_t depth)
{
    const size_t count = json_object_size(object);
    const char **keys = wr_calloc(count + 1, sizeof *keys);
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach(object, key, value) {
        keys[n++] = key;
    }
    qsort(keys, n, sizeof *keys, by_bytes);
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        good = strlen(keys[i]) <= KEY_MAX;
        if (good) {
            wire_put_key(w, bytes_from_cstr(keys[i]));
            good = put_value(w, json_object_get(object, keys[i]), depth);
        }
    }
    wr_free(keys);
    return good;
}

static bool put_nested(struct writer *w, json_t *value, uint32_t depth)
{
    bool good = depth < WIRE_TABLE_DEPTH_MAX;
    size_t i;
    json_t *item;
    if (json_is_object(value)) {
        const uint32_t mark = wire_value_put_table_begin(w);
        good = good && put_fields(w, value, depth + 1);
        wire_value_put_end(w, mark);
        return good;
    }
    const uint32_t mark = wire_value_put_array_begin(w);
    json_array_foreach(value, i, item) {
        good = good && put_value(w, item, depth + 1);
    }
    wire_value_put_end(w, mark);
    return good;
}

static bool put_value(struct writer *w, json_t *value, uint32_t depth)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return put_nested(w, value, depth);
    case JSON_STRING:
        wire_value_put_longstr(w, bytes_make(json_string_value(value), json_string_length(value)));
        return true;
    case JSON_INTEGER:
        wire_value_put_int64(w, json_integer_value(value));
        return true;
    case JSON_REAL:
        wire_value_put_double(w, json_real_value(value));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        wire_value_put_bool(w, json_is_true(value));
        return true;
    case JSON_NULL:
        break;
    }
    wire_value_put_void(w);
    return true;
}

bool admin_put_fields(struct writer *w, json_t *object)
{
    return put_fields(w, object, 1);
}

bool admin_put_value(struct writer *w, json_t *value)
{
    return put_value(w, value, 1);
}

/* --- to JSON ---------------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *admin_base64(struct bytes data)
{
    const size_t size = (data.size + 2) / 3 * 4;
    char *out = wr_alloc(size + 1);
    char *at = out;
    for (size_t i = 0; i < data.size; i += 3) {
        const uint32_t left = (uint32_t)(data.size - i);
        const uint32_t word = (uint32_t)data.data[i] << 16 |
                              (left > 1 ? (uint32_t)data.data[i + 1] << 8 : 0) |
                              (left > 2 ? (uint32_t)data.data[i + 2] : 0);
        *at++ = digits[word >> 18];
        *at++ = digits[word >> 12 & 63];
        *at++ = left > 1 ? digits[word >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[word & 63] : '=';
    }
    *at = 0;
    json_t *text = json_stringn(out, size);
    wr_free(out);
    return text;
}

bool admin_unbase64(struct bytes text, uint8_t *data, size_t room, size_t *ret_size)
{
    uint32_t word = 0;
    size_t size = 0;
    size_t count = text.size;
    while (count > 0 && count + 2 > text.size && text.data[count - 1] == '=') {
        count--;
    }
    if (text.size % 4 != 0 || (text.size > 0 && count == 0)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const char *digit = text.data[i] == 0 ? NULL : strchr(digits, text.data[i]);
        if (digit == NULL) {
            return false;
        }
        word = word << 6 | (uint32_t)(digit - digits);
        if (i % 4 != 0) { /* every digit but the first of four completes a byte */
            const uint32_t unused = 6 - (uint32_t)(i % 4) * 2;
            if (size == room) {
                return false;
            }
            data[size++] = (uint8_t)(word >> unused);
        }
    }
    *ret_size = size;
    return true;
}

json_t *admin_text_json(struct bytes text)
{
    json_t *value =
        text.size == 0 ? json_string("") : json_stringn((const char *)text.data, text.size);
    return value != NULL ? value : json_pack("{s:o}", "base64", admin_base64(text));
}

static json_t *to_json(const struct wire_value *value, uint32_t depth);

static json_t *fields_json(struct bytes table, bool is_array, uint32_t depth)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    json_t *out = is_array ? json_array() : json_object();
    if (is_array) {
        wire_array_iter_init(&it, table);
    } else {
        wire_table_iter_init(&it, table);
    }
    while (depth <= WIRE_TABLE_DEPTH_MAX && wire_table_iter_next(&it, &key, &value)) {
        json_t *item = to_json(&value, depth);
        if (is_array) {
            (void)json_array_append_new(out, item);
            continue;
        }
        char *name = bytes_strdup(key);
        if (json_object_set(out, name, item) != 0) { /* a name that is not UTF-8 */
            (void)json_object_set(out, "(not UTF-8)", item);
        }
        json_decref(item);
        wr_free(name);
    }
    return out;
}

static json_t *to_json(const struct wire_value *value, uint32_t depth)
{
    switch (value->type) {
    case WIRE_FIELD_BOOL:
        return json_boolean(value->boolean);
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE: {
        json_t *real = json_real(value->real);
        return real != NULL ? real : json_null(); /* infinity is no JSON */
    }
    case WIRE_FIELD_DECIMAL: {
        double real = value->decimal.unscaled;
        for (uint32_t i = 0; i < value->decimal.scale; i++) {
            real /= 10;
        }
        return json_real(real);
    }
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        return admin_text_json(value->bytes);
    case WIRE_FIELD_TIMESTAMP:
        return json_integer((json_int_t)value->timestamp);
    case WIRE_FIELD_ARRAY:
    case WIRE_FIELD_TABLE:
        return fields_json(value->bytes, value->type == WIRE_FIELD_ARRAY, depth + 1);
    case WIRE_FIELD_VOID:
        return json_null();
    default:
        return json_integer(value->integer);
    }
}

json_t *admin_table_json(struct bytes table)
{
    return fields_json(table, false, 1);
}

json_t *admin_value_json(struct bytes value)
{
    json_t *list = fields_json(value, true, 1);
    json_t *only = json_array_get(list, 0);
    only = only != NULL ? json_incref(only) : json_null();
    json_decref(list);
    return only;
}

json_t *admin_quoted_json(json_t *owned_value)
{
    char *text = json_dumps(owned_value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    json_t *quoted = json_string(text != NULL ? text : "");
    free(text);
    json_decref(owned_value);
    return quoted;
}
