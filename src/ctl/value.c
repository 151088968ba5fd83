/*
 * What: values of listings. In tables: strings as they are with control bytes as octal escapes,
 * booleans true/false, lists [a, b], field tables [{"key","value"}], what is not there empty, as
 * rabbitmqctl prints them. Field tables come as [[name, type, value], ...].
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value.h"

static bool one_of(const char *column, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], column) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_field_table(const char *column)
{
    static const char *const names[] = {"arguments", "client_properties",
                                        "effective_policy_definition", "cluster_state"};
    return one_of(column, names, sizeof names / sizeof names[0]);
}

/* The name that the node gives it, which RabbitMQ's tools show as a version. */
static bool is_our_protocol(const char *column, json_t *value)
{
    return strcmp(column, "protocol") == 0 && json_is_string(value) &&
           strcmp(json_string_value(value), "AMQP 0-9-1") == 0;
}

static bool is_address(const char *column)
{
    static const char *const names[] = {"host", "peer_host"};
    return one_of(column, names, sizeof names / sizeof names[0]);
}

/* --- text
 * ----------------------------------------------------------------------------------------- */

struct text {
    FILE *file;
    char *bytes;
    size_t size;
};

static void text_begin(struct text *t)
{
    t->file = open_memstream(&t->bytes, &t->size);
    if (t->file == NULL) {
        abort();
    }
}

static char *text_end(struct text *t)
{
    if (fclose(t->file) != 0 || t->bytes == NULL) {
        abort();
    }
    return t->bytes;
}

/* Names may hold NULs. These are escaped in any case: what follows is C strings, and readers of CSV
 * do not take them. */
static void put_string(FILE *out, json_t *string, enum value_bytes bytes)
{
    const unsigned char *text = (const unsigned char *)json_string_value(string);
    const size_t size = json_string_length(string); /* 0 if it is none */
    for (size_t i = 0; i < size; i++) {
        if (text[i] == 0 || (bytes == VALUE_BYTES_ESCAPED && (text[i] < 0x20 || text[i] == 0x7f))) {
            (void)fprintf(out, "\\%03o", text[i]);
        } else {
            (void)fputc(text[i], out);
        }
    }
}

/* A string within a field table, as an Erlang term has it. */
static void put_quoted(FILE *out, const char *text, size_t size)
{
    static const char controls[] = "\n\t\r\b\f";
    static const char letters[] = "ntrbf";
    (void)fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; size > 0; at++, size--) {
        const char *control = *at != 0 ? strchr(controls, *at) : NULL;
        if (control != NULL) {
            (void)fprintf(out, "\\%c", letters[control - controls]);
        } else if (*at < 0x20 || *at == 0x7f) {
            (void)fprintf(out, "\\%03o", *at);
        } else {
            (void)fprintf(out, "%s%c", *at == '"' || *at == '\\' ? "\\" : "", *at);
        }
    }
    (void)fputc('"', out);
}

/* Erlang has texts as lists of characters: one without any shows as the empty list. */
static void put_text(FILE *out, json_t *value)
{
    if (json_string_length(value) == 0) {
        (void)fputs("[]", out);
    } else {
        put_quoted(out, json_string_value(value), json_string_length(value));
    }
}

static void put_scalar(FILE *out, json_t *value)
{
    if (json_is_integer(value)) {
        (void)fprintf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        (void)fprintf(out, "%.17g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        (void)fputs(json_is_true(value) ? "true" : "false", out);
    } /* null is nothing */
}

static void put_fields(FILE *out, json_t *fields);

/* A value of a field table with its type's name. Nesting is bounded by what the node lets in. */
static void put_typed(FILE *out, const char *type, json_t *value)
{
    size_t i;
    json_t *item;
    if (strcmp(type, "table") == 0) {
        put_fields(out, value);
    } else if (strcmp(type, "array") == 0) {
        (void)fputc('[', out);
        json_array_foreach(value, i, item) {
            (void)fputs(i == 0 ? "" : ",", out);
            put_typed(out, json_string_value(json_array_get(item, 0)), json_array_get(item, 1));
        }
        (void)fputc(']', out);
    } else if (strcmp(type, "void") == 0) {
        (void)fputs("undefined", out);
    } else if (strcmp(type, "decimal") == 0) {
        (void)fprintf(out, "{%lld,%lld}", (long long)json_integer_value(json_array_get(value, 0)),
                      (long long)json_integer_value(json_array_get(value, 1)));
    } else if (strcmp(type, "binary") == 0) {
        (void)fputs("<<", out);
        if (json_string_length(value) > 0) {
            put_quoted(out, json_string_value(value), json_string_length(value));
        }
        (void)fputs(">>", out);
    } else if (json_is_string(value)) {
        put_text(out, value);
    } else {
        put_scalar(out, value);
    }
}

static void put_fields(FILE *out, json_t *fields)
{
    size_t i;
    json_t *field;
    (void)fputc('[', out);
    json_array_foreach(fields, i, field) {
        const char *type = json_string_value(json_array_get(field, 1));
        if (!json_is_string(json_array_get(field, 0)) || type == NULL) {
            continue; /* not from a node of ours */
        }
        (void)fputs(i == 0 ? "{" : ",{", out);
        put_text(out, json_array_get(field, 0));
        (void)fputc(',', out);
        put_typed(out, type, json_array_get(field, 2));
        (void)fputc('}', out);
    }
    (void)fputc(']', out);
}

/* Properties and headers of messages. JSON escapes what would break a line. */
static void put_object(FILE *out, json_t *value)
{
    if (json_object_size(value) > 0) {
        (void)json_dumpf(value, out, JSON_COMPACT);
    }
}

char *value_text(json_t *row, const char *column, enum value_bytes bytes)
{
    struct text t;
    size_t i;
    json_t *item;
    json_t *value = json_object_get(row, column);
    text_begin(&t);
    if (value == NULL) {
        ; /* what is not known is empty, not 0 */
    } else if (is_our_protocol(column, value)) {
        (void)fputs("{0,9,1}", t.file);
    } else if (is_field_table(column)) {
        put_fields(t.file, value);
    } else if (json_is_array(value)) {
        (void)fputc('[', t.file);
        json_array_foreach(value, i, item) {
            (void)fputs(i == 0 ? "" : ", ", t.file);
            put_string(t.file, item, bytes);
        }
        (void)fputc(']', t.file);
    } else if (json_is_string(value)) {
        put_string(t.file, value, bytes);
    } else if (json_is_object(value)) {
        put_object(t.file, value);
    } else {
        put_scalar(t.file, value);
    }
    return text_end(&t);
}

/* --- Erlang terms
 * ----------------------------------------------------------------------------------- */

static void put_binary(FILE *out, const char *text, size_t size)
{
    bool ascii = true;
    for (size_t i = 0; i < size; i++) {
        ascii = ascii && (unsigned char)text[i] < 0x80;
    }
    (void)fputs("<<", out);
    if (size > 0) {
        put_quoted(out, text, size);
    }
    (void)fputs(ascii ? ">>" : "/utf8>>", out);
}

static void put_erlang_fields(FILE *out, json_t *fields);

static void put_erlang_typed(FILE *out, const char *type, json_t *value)
{
    size_t i;
    json_t *item;
    if (strcmp(type, "table") == 0) {
        put_erlang_fields(out, value);
    } else if (strcmp(type, "array") == 0) {
        (void)fputc('[', out);
        json_array_foreach(value, i, item) {
            const char *kind = json_string_value(json_array_get(item, 0));
            (void)fprintf(out, "%s{%s,", i == 0 ? "" : ",", kind);
            put_erlang_typed(out, kind, json_array_get(item, 1));
            (void)fputc('}', out);
        }
        (void)fputc(']', out);
    } else if (strcmp(type, "longstr") == 0 || strcmp(type, "binary") == 0) {
        put_binary(out, json_string_value(value), json_string_length(value));
    } else {
        put_typed(out, type, value);
    }
}

static void put_erlang_fields(FILE *out, json_t *fields)
{
    size_t i;
    json_t *field;
    (void)fputc('[', out);
    json_array_foreach(fields, i, field) {
        const char *name = json_string_value(json_array_get(field, 0));
        const char *type = json_string_value(json_array_get(field, 1));
        if (name == NULL || type == NULL) {
            continue; /* not from a node of ours */
        }
        (void)fputs(i == 0 ? "{" : ",{", out);
        put_binary(out, name, json_string_length(json_array_get(field, 0)));
        (void)fprintf(out, ",%s,", type);
        put_erlang_typed(out, type, json_array_get(field, 2));
        (void)fputc('}', out);
    }
    (void)fputc(']', out);
}

/* Tags and names of nodes are atoms; only plain ones go without quotes. */
static void put_atom(FILE *out, const char *text)
{
    bool plain = text[0] >= 'a' && text[0] <= 'z';
    for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++) {
        plain = plain && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                          (*at >= '0' && *at <= '9') || *at == '_' || *at == '@');
    }
    (void)fprintf(out, plain ? "%s" : "'%s'", text);
}

char *value_erlang(json_t *row, const char *column)
{
    struct text t;
    size_t i;
    json_t *item;
    json_t *value = json_object_get(row, column);
    text_begin(&t);
    if (value == NULL) {
        (void)fputs("[]", t.file);
    } else if (is_our_protocol(column, value)) {
        (void)fputs("{0,9,1}", t.file);
    } else if (is_field_table(column)) {
        put_erlang_fields(t.file, value);
    } else if (json_is_array(value)) {
        (void)fputc('[', t.file);
        json_array_foreach(value, i, item) {
            (void)fputs(i == 0 ? "" : ",", t.file);
            put_atom(t.file, json_is_string(item) ? json_string_value(item) : "");
        }
        (void)fputc(']', t.file);
    } else if (json_is_string(value)) {
        put_binary(t.file, json_string_value(value), json_string_length(value));
    } else if (json_is_object(value)) {
        char *text = json_dumps(value, JSON_COMPACT);
        put_binary(t.file, text, text != NULL ? strlen(text) : 0);
        free(text);
    } else {
        put_scalar(t.file, value);
    }
    return text_end(&t);
}

/* --- JSON
 * ------------------------------------------------------------------------------------------- */

/* Addresses are tuples in RabbitMQ, and so lists of numbers in its JSON; names stay names. */
static json_t *address_json(json_t *value)
{
    struct in_addr four;
    struct in6_addr six;
    json_t *list = json_array();
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (inet_pton(AF_INET, text, &four) == 1) {
        const unsigned char *bytes = (const unsigned char *)&four;
        for (size_t i = 0; i < 4; i++) {
            (void)json_array_append_new(list, json_integer(bytes[i]));
        }
    } else if (inet_pton(AF_INET6, text, &six) == 1) {
        for (size_t i = 0; i < 16; i += 2) {
            (void)json_array_append_new(list,
                                        json_integer(six.s6_addr[i] * 256 + six.s6_addr[i + 1]));
        }
    } else {
        json_decref(list);
        return json_incref(value);
    }
    return list;
}

/* What is a map in RabbitMQ: the values of a field table, without their types. */
static json_t *typed_json(const char *type, json_t *value)
{
    size_t i;
    json_t *item;
    json_t *out;
    if (type != NULL && strcmp(type, "table") == 0) {
        out = json_object();
        json_array_foreach(value, i, item) {
            const char *name = json_string_value(json_array_get(item, 0));
            (void)json_object_set_new(
                out, name != NULL ? name : "",
                typed_json(json_string_value(json_array_get(item, 1)), json_array_get(item, 2)));
        }
        return out;
    }
    if (type != NULL && strcmp(type, "array") == 0) {
        out = json_array();
        json_array_foreach(value, i, item) {
            (void)json_array_append_new(out, typed_json(json_string_value(json_array_get(item, 0)),
                                                        json_array_get(item, 1)));
        }
        return out;
    }
    return json_incref(value);
}

json_t *value_json(json_t *row, const char *column)
{
    json_t *value = json_object_get(row, column);
    if (value == NULL || json_is_null(value)) {
        return json_string("");
    }
    if (is_address(column)) {
        return address_json(value);
    }
    if (is_our_protocol(column, value)) {
        return json_pack("[i,i,i]", 0, 9, 1);
    }
    if (strcmp(column, "effective_policy_definition") == 0 ||
        strcmp(column, "cluster_state") == 0) {
        return typed_json("table", value);
    }
    return json_incref(value);
}
