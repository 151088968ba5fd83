/*
 * What: would RabbitMQ take this definition? With its texts, in which values show as Erlang terms.
 * Keys are looked at in their order, those that nobody knows last. Failure modes: any bytes give an
 * answer. Threads: pure functions. Spec: docs/policies.md, "Validation".
 */
#include <stdlib.h>

#include "policy_keys.h"

/* --- values as Erlang terms ------------------------------------------------------------------- */

static bool printable(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c < 0x20 && memchr("\b\t\n\v\f\r\x1b", c, 7) == NULL) {
            return false;
        }
        if (c == 0x7f) {
            return false;
        }
    }
    return str_is_utf8(text);
}

static void add_quoted(struct strbuf *s, struct bytes text)
{
    static const char plain[] = "\b\t\n\v\f\r\x1b\"\\";
    static const char letters[] = "btnvfre\"\\";
    for (size_t i = 0; i < text.size; i++) {
        const char *found = memchr(plain, text.data[i], sizeof(plain) - 1);
        if (found != NULL) {
            strbuf_add_char(s, '\\');
            strbuf_add_char(s, letters[found - plain]);
        } else {
            strbuf_add_char(s, (char)text.data[i]);
        }
    }
}

static void add_binary(struct strbuf *s, struct bytes text)
{
    if (!printable(text) || text.size == 0) {
        strbuf_add_cstr(s, "<<");
        for (size_t i = 0; i < text.size; i++) {
            strbuf_printf(s, i == 0 ? "%u" : ",%u", text.data[i]);
        }
        strbuf_add_cstr(s, ">>");
        return;
    }
    bool ascii = true;
    for (size_t i = 0; i < text.size; i++) {
        ascii &= text.data[i] < 0x80;
    }
    strbuf_add_cstr(s, "<<\"");
    add_quoted(s, text);
    strbuf_add_cstr(s, ascii ? "\">>" : "\"/utf8>>");
}

/* The shortest digits that read back as the same number, and always a point. */
static void add_float(struct strbuf *s, double real)
{
    char text[40];
    struct strbuf number;
    for (int digits = 1; digits <= 17; digits++) {
        strbuf_init(&number, text, sizeof text);
        strbuf_printf(&number, "%.*g", digits, real);
        if (strtod(text, NULL) == real) {
            break;
        }
    }
    const char *exponent = strchr(text, 'e');
    const size_t mantissa = exponent == NULL ? strlen(text) : (size_t)(exponent - text);
    strbuf_add(s, text, mantissa);
    if (memchr(text, '.', mantissa) == NULL) {
        strbuf_add_cstr(s, ".0");
    }
    if (exponent != NULL) {
        strbuf_printf(s, "e%d", (int)strtol(exponent + 1, NULL, 10));
    }
}

static void add_scalar(struct strbuf *s, const struct wire_value *value)
{
    if (wire_value_is_integer(value)) {
        strbuf_printf(s, "%lld", (long long)value->integer);
    } else if (value->type == WIRE_FIELD_BOOL) {
        strbuf_add_cstr(s, value->boolean ? "true" : "false");
    } else if (value->type == WIRE_FIELD_LONGSTR || value->type == WIRE_FIELD_BINARY) {
        add_binary(s, value->bytes);
    } else if (value->type == WIRE_FIELD_FLOAT || value->type == WIRE_FIELD_DOUBLE) {
        add_float(s, value->real);
    } else if (value->type == WIRE_FIELD_TIMESTAMP) {
        strbuf_printf(s, "%llu", (unsigned long long)value->timestamp);
    } else {
        strbuf_add_cstr(s, "null");
    }
}

/* Lists and maps without recursion: a level per nesting, as many as a valid table has. */
static void add_term(struct strbuf *s, const struct wire_value *value)
{
    struct wire_table_iter levels[WIRE_TABLE_DEPTH_MAX];
    bool started[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 0;
    struct wire_value item = *value;
    for (;;) {
        const bool list = item.type == WIRE_FIELD_ARRAY;
        if ((list || item.type == WIRE_FIELD_TABLE) && depth < WIRE_TABLE_DEPTH_MAX) {
            strbuf_add_cstr(s, list ? "[" : "#{");
            if (list) {
                wire_array_iter_init(&levels[depth], item.bytes);
            } else {
                wire_table_iter_init(&levels[depth], item.bytes);
            }
            started[depth++] = false;
        } else {
            add_scalar(s, &item);
        }
        struct bytes key;
        while (depth > 0 && !wire_table_iter_next(&levels[depth - 1], &key, &item)) {
            strbuf_add_char(s, levels[depth - 1].is_array ? ']' : '}');
            depth--;
        }
        if (depth == 0) {
            return;
        }
        strbuf_add_cstr(s, started[depth - 1] ? "," : "");
        started[depth - 1] = true;
        if (!levels[depth - 1].is_array) {
            add_binary(s, key);
            strbuf_add_cstr(s, " => ");
        }
    }
}

/* --- single values ---------------------------------------------------------------------------- */

static bool in_list(const char *values, struct bytes value)
{
    struct bytes rest = bytes_from_cstr(values);
    struct bytes head;
    while (rest.size > 0) {
        (void)str_split(rest, ' ', &head, &rest);
        if (bytes_eq(head, value)) {
            return true;
        }
    }
    return false;
}

/* Digits, not all zero, and one letter of a unit. */
static bool is_age(struct bytes text)
{
    size_t digits = 0;
    bool positive = false;
    while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9') {
        positive |= text.data[digits] != '0';
        digits++;
    }
    return positive && digits + 1 == text.size && strchr("YMDhms", text.data[digits]) != NULL;
}

static bool value_ok(const struct policy_key *key, const struct wire_value *v)
{
    switch (key->check) {
    case CHECK_INTEGER:
        return wire_value_is_integer(v) && v->integer >= key->min && v->integer <= key->max;
    case CHECK_TEXT:
        return v->type == WIRE_FIELD_LONGSTR;
    case CHECK_ENUM:
        return v->type == WIRE_FIELD_LONGSTR && in_list(key->values, v->bytes);
    case CHECK_BOOL:
        return v->type == WIRE_FIELD_BOOL;
    case CHECK_AGE:
        return v->type == WIRE_FIELD_LONGSTR && is_age(v->bytes);
    default:
        return true; /* CHECK_HA: later, all at once */
    }
}

static bool check_value(const struct policy_key *key, const struct wire_value *v,
                        struct strbuf *text)
{
    if (value_ok(key, v)) {
        return true;
    }
    add_term(text, v);
    if (key->what[0] == '=') {
        strbuf_printf(text, " %s", key->what + 1);
    } else {
        strbuf_printf(text, " is not a valid %s", key->what);
    }
    return false;
}

/* --- ha-... ----------------------------------------------------------------------------------- */

static bool refuse(struct strbuf *text, const char *before, const struct wire_value *v,
                   const char *after)
{
    strbuf_add_cstr(text, before);
    if (v != NULL) {
        add_term(text, v);
    }
    strbuf_add_cstr(text, after);
    return false;
}

static bool check_nodes(const struct wire_value *params, struct strbuf *text)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value item;
    struct writer odd;
    writer_init(&odd, 64);
    uint32_t count = 0;
    wire_array_iter_init(&it, params->bytes);
    while (wire_table_iter_next(&it, &key, &item)) {
        count++;
        if (item.type != WIRE_FIELD_LONGSTR) {
            wire_value_put(&odd, &item);
        }
    }
    bool ok = true;
    if (count == 0) {
        ok = refuse(text, "ha-mode=\"nodes\" list must be non-empty", NULL, "");
    } else if (writer_size(&odd) > 0) {
        const struct wire_value list = {.type = WIRE_FIELD_ARRAY, .bytes = writer_bytes(&odd)};
        ok =
            refuse(text, "ha-mode=\"nodes\" takes a list of strings, ", &list, " was not a string");
    }
    writer_deinit(&odd);
    return ok;
}

static bool check_params(struct bytes mode, const struct wire_value *params, struct strbuf *text)
{
    if (bytes_eq_cstr(mode, "all")) {
        return params == NULL || refuse(text, "ha-mode=\"all\" does not take parameters", NULL, "");
    }
    const bool exactly = bytes_eq_cstr(mode, "exactly");
    const char *begin =
        exactly ? "ha-mode=\"exactly\" takes an integer, " : "ha-mode=\"nodes\" takes a list, ";
    if (params == NULL) {
        return refuse(text, begin, NULL, "none given");
    }
    if (exactly) {
        return (wire_value_is_integer(params) && params->integer > 0) ||
               refuse(text, begin, params, " given");
    }
    return params->type == WIRE_FIELD_ARRAY ? check_nodes(params, text)
                                            : refuse(text, begin, params, " given");
}

static bool one_of(struct bytes definition, const char *key, const char *values, const char *before,
                   struct strbuf *text)
{
    struct wire_value v;
    return !wire_table_find(definition, key, &v) ||
           (v.type == WIRE_FIELD_LONGSTR && in_list(values, v.bytes)) ||
           refuse(text, before, &v, "");
}

static bool check_mirrors(struct bytes definition, struct strbuf *text)
{
    struct wire_value mode;
    struct wire_value v;
    if (!wire_table_find(definition, "ha-mode", &mode)) {
        static const char *const others[] = {"ha-params", "ha-sync-mode", "ha-sync-batch-size",
                                             "ha-promote-on-shutdown", "ha-promote-on-failure"};
        for (size_t i = 0; i < WR_ARRAY_SIZE(others); i++) {
            if (wire_table_find(definition, others[i], &v)) {
                return refuse(text,
                              "ha-mode must be specified to specify ha-params, ha-sync-mode or "
                              "ha-promote-on-shutdown",
                              NULL, "");
            }
        }
        return true;
    }
    if (mode.type != WIRE_FIELD_LONGSTR || !in_list("all exactly nodes", mode.bytes)) {
        return refuse(text, "", &mode, " is not a valid ha-mode value");
    }
    const bool has_params = wire_table_find(definition, "ha-params", &v);
    if (!check_params(mode.bytes, has_params ? &v : NULL, text) ||
        !one_of(definition, "ha-sync-mode", "manual automatic",
                "ha-sync-mode must be \"manual\" or \"automatic\", got ", text)) {
        return false;
    }
    if (wire_table_find(definition, "ha-sync-batch-size", &v) &&
        !(wire_value_is_integer(&v) && v.integer > 0)) {
        return refuse(text, "ha-sync-batch-size takes an integer greater than 0, ", &v, " given");
    }
    return one_of(definition, "ha-promote-on-shutdown", "always when-synced",
                  "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got ", text) &&
           one_of(definition, "ha-promote-on-failure", "always when-synced",
                  "ha-promote-on-failure must be \"always\" or \"when-synced\", got ", text);
}

/* --- definitions ------------------------------------------------------------------------------ */

struct field {
    struct bytes key;
    struct wire_value value;
};

#define FIELDS_MAX 256u

/* The fields in order of their keys; false: more than anybody has. */
static bool sorted(struct bytes definition, struct field *fields, uint32_t *ret_count)
{
    struct wire_table_iter it;
    struct field f;
    uint32_t count = 0;
    wire_table_iter_init(&it, definition);
    while (wire_table_iter_next(&it, &f.key, &f.value)) {
        if (count == FIELDS_MAX) {
            return false;
        }
        uint32_t at = count++;
        for (; at > 0 && bytes_cmp(f.key, fields[at - 1].key) < 0; at--) {
            fields[at] = fields[at - 1];
        }
        fields[at] = f;
    }
    *ret_count = count;
    return true;
}

static bool is_known(const struct policy_key *key, bool operator_policy)
{
    return key != NULL && (key->operator_allowed || !operator_policy);
}

static bool check_fields(const struct field *fields, uint32_t count, bool operator_policy,
                         struct strbuf *text)
{
    for (uint32_t i = 1; i < count; i++) {
        if (bytes_eq(fields[i].key, fields[i - 1].key)) {
            strbuf_add_char(text, '[');
            add_binary(text, fields[i].key);
            strbuf_add_cstr(text, "] duplicate keys not allowed");
            return false;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct policy_key *key = policy_key_find(fields[i].key);
        if (is_known(key, operator_policy) && !check_value(key, &fields[i].value, text)) {
            return false;
        }
    }
    return true;
}

static bool all_known(const struct field *fields, uint32_t count, bool operator_policy,
                      struct strbuf *text)
{
    bool known = true;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_known(policy_key_find(fields[i].key), operator_policy)) {
            strbuf_add_cstr(text, known ? "[{" : ",{");
            add_binary(text, fields[i].key);
            strbuf_add_char(text, ',');
            add_term(text, &fields[i].value);
            strbuf_add_char(text, '}');
            known = false;
        }
    }
    if (!known) {
        strbuf_add_cstr(text, "] are not recognised policy settings");
    }
    return known;
}

bool policy_validate(struct bytes definition, bool operator_policy, struct strbuf *text)
{
    if (definition.size == 0) {
        strbuf_add_cstr(text, "no policy provided");
        return false;
    }
    struct field *fields = wr_alloc(FIELDS_MAX * sizeof *fields);
    uint32_t count = 0;
    bool ok = false;
    if (definition.size > CATALOG_DEFINITION_MAX ||
        wire_table_validate(definition, NULL) != WIRE_OK || !sorted(definition, fields, &count)) {
        strbuf_add_cstr(text, "the definition is too large or no table");
    } else {
        ok = check_fields(fields, count, operator_policy, text) &&
             check_mirrors(definition, text) && all_known(fields, count, operator_policy, text);
    }
    wr_free(fields);
    return ok;
}
