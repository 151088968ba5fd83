/*
 * What: warrenctl's formats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "value.h"

static bool has_word(json_t *list, const char *word, size_t size)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (json_string_length(item) == size && strncmp(json_string_value(item), word, size) == 0) {
            return true;
        }
    }
    return false;
}

void output_add_words(json_t *list, const char *words, const char *separator)
{
    for (const char *at = words; *at != 0;) {
        size_t size = strcspn(at, separator);
        if (size > 0 && !has_word(list, at, size)) {
            (void)json_array_append_new(list, json_stringn(at, size));
        }
        at += size + (at[size] != 0);
    }
}

bool output_parse_format(const char *name, enum output_format *ret_format)
{
    static const struct {
        const char *name;
        enum output_format format;
    } formats[] = {{"table", OUTPUT_TABLE},
                   {"pretty_table", OUTPUT_PRETTY},
                   {"json", OUTPUT_JSON},
                   {"csv", OUTPUT_CSV},
                   {"erlang", OUTPUT_ERLANG}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret_format = formats[i].format;
            return true;
        }
    }
    return false;
}

bool output_is_for_machines(enum output_format format)
{
    return format == OUTPUT_JSON || format == OUTPUT_CSV;
}

void output_json(json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    (void)printf("\n");
}

/* --- rows ------------------------------------------------------------------------------------- */

/* A row's column; without a row the column's name. free() it. */
static char *cell_text(json_t *row, json_t *column, enum value_bytes bytes)
{
    const char *name = json_string_value(column);
    char *text = row != NULL ? value_text(row, name, bytes) : strdup(name);
    if (text == NULL) {
        abort();
    }
    return text;
}

static void print_table_line(json_t *columns, json_t *row)
{
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column) {
        char *cell = cell_text(row, column, VALUE_BYTES_ESCAPED);
        (void)printf("%s%s", i == 0 ? "" : "\t", cell);
        free(cell);
    }
    (void)putchar('\n');
}

/* Every cell is quoted, so that nothing in it needs an escape but the quote itself. */
static void print_csv_line(json_t *columns, json_t *row)
{
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column) {
        char *cell = cell_text(row, column, VALUE_BYTES_RAW);
        (void)fputs(i == 0 ? "\"" : ",\"", stdout);
        for (const char *at = cell; *at != 0; at++) {
            (void)fputs(*at == '"' ? "\"" : "", stdout);
            (void)putchar(*at);
        }
        (void)putchar('"');
        free(cell);
    }
    (void)putchar('\n');
}

static void print_erlang_rows(json_t *columns, json_t *rows)
{
    size_t i;
    size_t k;
    json_t *column;
    json_t *row;
    (void)putchar('[');
    json_array_foreach(rows, k, row) {
        (void)fputs(k == 0 ? "[" : ",\n [", stdout);
        json_array_foreach(columns, i, column) {
            char *cell = value_erlang(row, json_string_value(column));
            const char *name = json_string_value(column);
            const char *quote = strchr(name, '-') != NULL ? "'" : ""; /* else no atom */
            (void)printf("%s{%s%s%s,%s}", i == 0 ? "" : ",", quote, name, quote, cell);
            free(cell);
        }
        (void)putchar(']');
    }
    (void)puts("]");
}

static size_t display_width(const char *text)
{
    size_t n = 0;
    for (; *text != 0; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80; /* UTF-8 continuation bytes take no room */
    }
    return n;
}

static void print_rule(const size_t *widths, size_t count, const char *left, const char *middle,
                       const char *right)
{
    (void)fputs(left, stdout);
    for (size_t i = 0; i < count; i++) {
        (void)fputs(i == 0 ? "" : middle, stdout);
        for (size_t k = 0; k < widths[i] + 2; k++) {
            (void)fputs("─", stdout);
        }
    }
    (void)printf("%s\n", right);
}

static void print_boxed(json_t *columns, json_t *row, const size_t *widths)
{
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column) {
        char *cell = cell_text(row, column, VALUE_BYTES_ESCAPED);
        (void)printf("│ %s%*s ", cell, (int)(widths[i] - display_width(cell)), "");
        free(cell);
    }
    (void)printf("│\n");
}

static void print_pretty(json_t *columns, json_t *rows)
{
    size_t count = json_array_size(columns);
    size_t i;
    size_t k;
    json_t *column;
    json_t *row;
    size_t *widths = calloc(count == 0 ? 1 : count, sizeof *widths);
    if (widths == NULL) {
        abort();
    }
    json_array_foreach(columns, i, column) {
        widths[i] = display_width(json_string_value(column));
        json_array_foreach(rows, k, row) {
            char *cell = cell_text(row, column, VALUE_BYTES_ESCAPED);
            widths[i] = display_width(cell) > widths[i] ? display_width(cell) : widths[i];
            free(cell);
        }
    }
    print_rule(widths, count, "┌", "┬", "┐");
    print_boxed(columns, NULL, widths);
    json_array_foreach(rows, k, row) {
        print_rule(widths, count, "├", "┼", "┤");
        print_boxed(columns, row, widths);
    }
    print_rule(widths, count, "└", "┴", "┘");
    free(widths);
}

/* A row a line, as rabbitmqctl streams them. */
/* A stream: each followed by an empty line, as rabbitmqctl's; without any there is nothing. */
static void print_json_rows(json_t *columns, json_t *rows, bool stream)
{
    if (json_array_size(rows) == 0) {
        (void)fputs(stream ? "" : "[]\n", stdout);
        return;
    }
    (void)fputs(stream ? "" : "[\n", stdout);
    size_t i;
    size_t k;
    json_t *row;
    json_t *column;
    json_array_foreach(rows, k, row) {
        json_t *picked = json_object();
        json_array_foreach(columns, i, column) {
            (void)json_object_set_new(picked, json_string_value(column),
                                      value_json(row, json_string_value(column)));
        }
        (void)fputs(k == 0 || stream ? "" : ",", stdout);
        output_json(picked);
        (void)fputs(stream ? "\n" : "", stdout);
        json_decref(picked);
    }
    (void)fputs(stream ? "" : "]\n", stdout);
}

void output_rows(const struct output_options *o, json_t *columns, json_t *rows)
{
    size_t k;
    json_t *row;
    switch (o->format) {
    case OUTPUT_JSON:
        print_json_rows(columns, rows, o->stream);
        return;
    case OUTPUT_PRETTY:
        print_pretty(columns, rows);
        return;
    case OUTPUT_ERLANG:
        print_erlang_rows(columns, rows);
        return;
    case OUTPUT_TABLE:
    case OUTPUT_CSV:
        break;
    }
    bool csv = o->format == OUTPUT_CSV;
    const bool bare = o->no_headers || (o->silent && !csv);
    if (!bare && (json_array_size(rows) > 0 || csv)) {
        (csv ? print_csv_line : print_table_line)(columns, NULL);
    }
    json_array_foreach(rows, k, row) {
        (csv ? print_csv_line : print_table_line)(columns, row);
    }
}

/* --- status ----------------------------------------------------------------------------------- */

void output_text(const struct output_options *o, const char *node, const char *text)
{
    bool done = strcmp(text, "ok") == 0; /* a command; else there is something to say */
    if (o->format == OUTPUT_JSON) {
        json_t *value = done ? json_pack("{s:s, s:s}", "node", node, "result", text)
                             : json_pack("{s:s}", "message", text);
        output_json(value);
        json_decref(value);
    } else if (!done) {
        (void)printf("%s\n", text);
    }
}
