/*
 * What: methods, properties, tables and binaries as text of one line, for golden tests, traces and
 * the parts of reply texts that show a value. Invariants: one line whatever the input (control
 * bytes are escaped); bounded by the builder; nothing recurses. The wording is part of golden
 * files: change it together with them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "warren/wire_props.h"
#include "warren/wire_table.h"

/* "routing_key" -> " routing-key=". */
static void add_name(struct strbuf *s, const char *name)
{
    if (s->size > 0) {
        strbuf_add_char(s, ' ');
    }
    for (; *name != '\0'; name++) {
        strbuf_add_char(s, *name == '_' ? '-' : *name);
    }
    strbuf_add_char(s, '=');
}

static void add_text(struct strbuf *s, const char *name, struct bytes text)
{
    add_name(s, name);
    strbuf_add_char(s, '"');
    strbuf_add_escaped(s, text);
    strbuf_add_char(s, '"');
}

static void add_number(struct strbuf *s, const char *name, uint64_t number)
{
    add_name(s, name);
    strbuf_printf(s, "%llu", (unsigned long long)number);
}

static void add_bool(struct strbuf *s, const char *name, bool value)
{
    add_name(s, name);
    strbuf_add_cstr(s, value ? "true" : "false");
}

static void add_table(struct strbuf *s, const char *name, struct bytes table)
{
    add_name(s, name);
    wire_describe_table(s, table);
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static void describe_##lower(struct strbuf *s, const struct wire_##lower *a)                   \
    {
#define METHOD_END(upper, lower) }
#define OCTET(name)              add_number(s, #name, a->name);
#define SHORT(name)              add_number(s, #name, a->name);
#define LONG(name)               add_number(s, #name, a->name);
#define LONGLONG(name)           add_number(s, #name, a->name);
#define SHORTSTR(name)           add_text(s, #name, a->name);
#define LONGSTR(name)            add_text(s, #name, a->name);
#define TABLE(name)              add_table(s, #name, a->name);
#define BIT(name)                add_bool(s, #name, a->name);
#include "warren/wire_spec.def"

void wire_describe_method(struct strbuf *s, const struct wire_method *method)
{
    strbuf_add_cstr(s, wire_method_name((uint32_t)method->id));
    switch ((uint32_t)method->id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        describe_##lower(s, &method->lower);                                                       \
        break;
#include "warren/wire_spec.def"
    default:
        break; /* no fields, or not a method */
    }
}

void wire_describe_props(struct strbuf *s, const struct wire_props *props)
{
#define DESCRIBE_SHORTSTR  add_text
#define DESCRIBE_TABLE     add_table
#define DESCRIBE_OCTET     add_number
#define DESCRIBE_TIMESTAMP add_number
#define DESCRIBE_PROP(upper, lower, bit, kind)                                                     \
    if (wire_props_has(props, WIRE_PROP_##upper)) {                                                \
        DESCRIBE_##kind(s, #lower, props->lower);                                                  \
    }
    WIRE_PROPS_TABLE(DESCRIBE_PROP)
#undef DESCRIBE_PROP
}

void wire_describe_binary(struct strbuf *s, struct bytes binary, size_t max)
{
    const size_t shown = binary.size < max ? binary.size : max;
    bool printable = binary.size > 0;
    for (size_t i = 0; i < binary.size && printable; i++) {
        printable = binary.data[i] >= 0x20 && binary.data[i] < 0x7f;
    }
    strbuf_add_cstr(s, "<<");
    if (printable) {
        strbuf_add_char(s, '"');
        strbuf_add_escaped(s, bytes_make(binary.data, shown));
        strbuf_add_cstr(s, shown < binary.size ? "\"..." : "\"");
    } else {
        for (size_t i = 0; i < shown; i++) {
            strbuf_printf(s, "%s%u", i == 0 ? "" : ",", (unsigned)binary.data[i]);
        }
        strbuf_add_cstr(s, shown < binary.size ? ",..." : "");
    }
    strbuf_add_cstr(s, ">>");
}

/* A value that is not nested. */
static void add_flat_value(struct strbuf *s, const struct wire_value *v)
{
    switch (v->type) {
    case WIRE_FIELD_BOOL:
        strbuf_add_cstr(s, v->boolean ? "true" : "false");
        break;
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        strbuf_printf(s, "%.17g", v->real);
        break;
    case WIRE_FIELD_DECIMAL:
        strbuf_printf(s, "%ue-%u", (unsigned)v->decimal.unscaled, (unsigned)v->decimal.scale);
        break;
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        strbuf_add_char(s, '"');
        strbuf_add_escaped(s, v->bytes);
        strbuf_add_char(s, '"');
        break;
    case WIRE_FIELD_TIMESTAMP:
        strbuf_printf(s, "%llu", (unsigned long long)v->timestamp);
        break;
    case WIRE_FIELD_VOID:
        break;
    default:
        strbuf_printf(s, "%lld", (long long)v->integer);
        break;
    }
}

/* One level being printed. */
struct level {
    struct wire_table_iter it;
    bool started;
};

static void level_open(struct strbuf *s, struct level *level, uint8_t type, struct bytes content)
{
    level->started = false;
    if (type == WIRE_FIELD_ARRAY) {
        wire_array_iter_init(&level->it, content);
    } else {
        wire_table_iter_init(&level->it, content);
    }
    strbuf_add_char(s, type == WIRE_FIELD_ARRAY ? '[' : '{');
}

static void level_close(struct strbuf *s, const struct level *level)
{
    if (level->it.fault != WIRE_OK) {
        strbuf_add_cstr(s, level->started ? ", ..." : "...");
    }
    strbuf_add_char(s, level->it.is_array ? ']' : '}');
}

/* Print the content of a table or array and all that is in it. */
static void add_nested(struct strbuf *s, uint8_t type, struct bytes content)
{
    struct level stack[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 1;
    level_open(s, &stack[0], type, content);
    while (depth > 0 && !s->truncated) {
        struct level *level = &stack[depth - 1];
        struct bytes key;
        struct wire_value value;
        if (!wire_table_iter_next(&level->it, &key, &value)) {
            level_close(s, level);
            depth--;
            continue;
        }
        strbuf_add_cstr(s, level->started ? ", " : "");
        level->started = true;
        if (!level->it.is_array) {
            strbuf_add_escaped(s, key);
            strbuf_add_char(s, '=');
        }
        strbuf_add_cstr(s, wire_field_name(value.type));
        strbuf_add_cstr(s, value.type == WIRE_FIELD_VOID ? "" : " ");
        if (value.type != WIRE_FIELD_ARRAY && value.type != WIRE_FIELD_TABLE) {
            add_flat_value(s, &value);
        } else if (depth == WIRE_TABLE_DEPTH_MAX) {
            strbuf_add_cstr(s, "...");
        } else {
            level_open(s, &stack[depth++], value.type, value.bytes);
        }
    }
}

void wire_describe_table(struct strbuf *s, struct bytes table)
{
    add_nested(s, WIRE_FIELD_TABLE, table);
}

/* --- values as Erlang's terms ----------------------------------------------------------------- */

/* As Erlang writes it: the shortest digits that read back as the same number, always with a point;
 * with an exponent where that is shorter, or where whole numbers are not exact any more. */
static void add_real(struct strbuf *s, double real)
{
    char text[32]; /* [-]d[.ddd]e[+-]dd */
    int precision = 0;
    do {
        (void)snprintf(text, sizeof text, "%.*e", precision, real);
    } while (++precision < 17 && strtod(text, NULL) != real);
    const char *e = strchr(text, 'e');
    if (e == NULL) { /* infinite, or no number */
        strbuf_add_cstr(s, text);
        return;
    }
    const int exponent = (int)strtol(e + 1, NULL, 10);
    const int digits = precision;
    const int point = digits == 1 ? 2 : 1; /* ".0" or "." */
    const int after = exponent < digits - 1 ? digits - 1 - exponent : 1;
    const int fixed = (exponent > 0 ? exponent : 0) + 2 + after;
    const int scientific = digits + point + snprintf(NULL, 0, "e%d", exponent);
    if (fixed <= scientific && real < 0x1p53 && real > -0x1p53) {
        strbuf_printf(s, "%.*f", after, real);
    } else {
        strbuf_printf(s, "%.*s%se%d", (int)(e - text), text, digits == 1 ? ".0" : "", exponent);
    }
}

static void add_flat_term(struct strbuf *s, const struct wire_value *v)
{
    switch (v->type) {
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        add_real(s, v->real);
        break;
    case WIRE_FIELD_DECIMAL:
        strbuf_printf(s, "{%u,%u}", (unsigned)v->decimal.scale, (unsigned)v->decimal.unscaled);
        break;
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        wire_describe_binary(s, v->bytes, v->bytes.size);
        break;
    case WIRE_FIELD_VOID:
        strbuf_add_cstr(s, "undefined");
        break;
    default:
        add_flat_value(s, v);
        break;
    }
}

static void term_open(struct strbuf *s, struct level *level, const struct wire_value *v)
{
    level->started = false;
    if (v->type == WIRE_FIELD_ARRAY) {
        wire_array_iter_init(&level->it, v->bytes);
    } else {
        wire_table_iter_init(&level->it, v->bytes);
    }
    strbuf_add_char(s, '[');
}

/* The elements of a table are {<<"key">>,type,value}, those of an array {type,value}. */
static void add_nested_term(struct strbuf *s, const struct wire_value *outer)
{
    struct level stack[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 1;
    term_open(s, &stack[0], outer);
    while (depth > 0 && !s->truncated) {
        struct level *level = &stack[depth - 1];
        struct bytes key;
        struct wire_value value;
        if (!wire_table_iter_next(&level->it, &key, &value)) {
            strbuf_add_cstr(s, level->it.fault != WIRE_OK ? "..." : "");
            depth--;
            strbuf_add_cstr(s, depth > 0 ? "]}" : "]");
            continue;
        }
        strbuf_add_cstr(s, level->started ? ",{" : "{");
        level->started = true;
        if (!level->it.is_array) {
            wire_describe_binary(s, key, key.size);
            strbuf_add_char(s, ',');
        }
        strbuf_printf(s, "%s,", wire_field_name(value.type));
        if (value.type != WIRE_FIELD_ARRAY && value.type != WIRE_FIELD_TABLE) {
            add_flat_term(s, &value);
            strbuf_add_char(s, '}');
        } else if (depth == WIRE_TABLE_DEPTH_MAX) {
            strbuf_add_cstr(s, "...}");
        } else {
            term_open(s, &stack[depth++], &value);
        }
    }
}

void wire_describe_value(struct strbuf *s, const struct wire_value *value)
{
    if (value->type == WIRE_FIELD_ARRAY || value->type == WIRE_FIELD_TABLE) {
        add_nested_term(s, value);
    } else {
        add_flat_term(s, value);
    }
}
