/*
 * What: warrenctl's formats. Values in tables: strings as they are with control bytes as octal
 * escapes, booleans true/false, lists [a, b], tables
 * [{"key","value"}], what is not there empty, as rabbitmqctl prints them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

bool output_parse_format(const char *name, enum output_format *ret_format)
{
    static const struct {
        const char *name;
        enum output_format format;
    } formats[] = {{"table", OUTPUT_TABLE},
                   {"pretty_table", OUTPUT_PRETTY},
                   {"json", OUTPUT_JSON},
                   {"csv", OUTPUT_CSV}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret_format = formats[i].format;
            return true;
        }
    }
    return false;
}

static void print_json(json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    (void)printf("\n");
}

/* --- one value as text ------------------------------------------------------------------------ */

static void add(char *out, size_t size, const char *text)
{
    size_t used = strlen(out);
    if (used + 1 < size) {
        (void)snprintf(out + used, size - used, "%s", text);
    }
}

static void add_string(char *out, size_t size, const char *text)
{
    char one[8];
    for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++) {
        if (*at < 0x20 || *at == 0x7f) {
            (void)snprintf(one, sizeof one, "\\%03o", *at);
        } else {
            (void)snprintf(one, sizeof one, "%c", *at);
        }
        add(out, size, one);
    }
}

static void add_value(char *out, size_t size, json_t *value)
{
    char number[64];
    size_t i;
    json_t *item;
    const char *key;
    bool first = true;
    switch (json_typeof(value)) {
    case JSON_STRING:
        add_string(out, size, json_string_value(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        add(out, size, number);
        break;
    case JSON_REAL:
        (void)snprintf(number, sizeof number, "%g", json_real_value(value));
        add(out, size, number);
        break;
    case JSON_TRUE:
        add(out, size, "true");
        break;
    case JSON_FALSE:
        add(out, size, "false");
        break;
    case JSON_NULL:
        break;
    case JSON_ARRAY:
        add(out, size, "[");
        json_array_foreach(value, i, item) {
            add(out, size, i == 0 ? "" : ", ");
            add_value(out, size, item);
        }
        add(out, size, "]");
        break;
    case JSON_OBJECT:
        add(out, size, "[");
        json_object_foreach(value, key, item) {
            add(out, size, first ? "{\"" : ",{\"");
            first = false;
            add(out, size, key);
            add(out, size, json_is_string(item) ? "\",\"" : "\",");
            add_value(out, size, item);
            add(out, size, json_is_string(item) ? "\"}" : "}");
        }
        add(out, size, "]");
        break;
    }
}

#define CELL_MAX 4096

static void cell_text(json_t *row, const char *column, char out[CELL_MAX])
{
    json_t *value = json_object_get(row, column);
    out[0] = 0;
    if (value != NULL) {
        add_value(out, CELL_MAX, value);
    }
}

/* --- rows ------------------------------------------------------------------------------------- */

static void print_line(json_t *columns, json_t *row, const char *separator, bool quote)
{
    size_t i;
    json_t *column;
    static char cell[CELL_MAX];
    json_array_foreach(columns, i, column) {
        if (row == NULL) {
            (void)snprintf(cell, sizeof cell, "%s", json_string_value(column));
        } else {
            cell_text(row, json_string_value(column), cell);
        }
        (void)fputs(i == 0 ? "" : separator, stdout);
        bool quoted = quote && strpbrk(cell, ",\"\n") != NULL;
        (void)fputs(quoted ? "\"" : "", stdout);
        for (const char *at = cell; *at != 0; at++) {
            (void)fputs(quoted && *at == '"' ? "\"" : "", stdout);
            (void)putchar(*at);
        }
        (void)fputs(quoted ? "\"" : "", stdout);
    }
    (void)putchar('\n');
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
    static char cell[CELL_MAX];
    json_array_foreach(columns, i, column) {
        if (row == NULL) {
            (void)snprintf(cell, sizeof cell, "%s", json_string_value(column));
        } else {
            cell_text(row, json_string_value(column), cell);
        }
        (void)printf("│ %s%*s ", cell, (int)(widths[i] - display_width(cell)), "");
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
    static char cell[CELL_MAX];
    size_t *widths = calloc(count == 0 ? 1 : count, sizeof *widths);
    if (widths == NULL) {
        return;
    }
    json_array_foreach(columns, i, column) {
        widths[i] = display_width(json_string_value(column));
        json_array_foreach(rows, k, row) {
            cell_text(row, json_string_value(column), cell);
            widths[i] = display_width(cell) > widths[i] ? display_width(cell) : widths[i];
        }
    }
    print_rule(widths, count, "┌", "┬", "┐");
    print_boxed(columns, NULL, widths);
    print_rule(widths, count, "├", "┼", "┤");
    json_array_foreach(rows, k, row) {
        print_boxed(columns, row, widths);
    }
    print_rule(widths, count, "└", "┴", "┘");
    free(widths);
}

static void print_json_rows(json_t *columns, json_t *rows)
{
    json_t *out = json_array();
    size_t i;
    size_t k;
    json_t *row;
    json_t *column;
    json_array_foreach(rows, k, row) {
        json_t *picked = json_object();
        json_array_foreach(columns, i, column) {
            json_t *value = json_object_get(row, json_string_value(column));
            (void)json_object_set(picked, json_string_value(column),
                                  value != NULL ? value : json_null());
        }
        (void)json_array_append_new(out, picked);
    }
    print_json(out);
    json_decref(out);
}

void output_rows(const struct output_options *o, json_t *columns, json_t *rows)
{
    size_t k;
    json_t *row;
    switch (o->format) {
    case OUTPUT_JSON:
        print_json_rows(columns, rows);
        return;
    case OUTPUT_PRETTY:
        print_pretty(columns, rows);
        return;
    case OUTPUT_TABLE:
    case OUTPUT_CSV:
        break;
    }
    const char *separator = o->format == OUTPUT_CSV ? "," : "\t";
    if (!o->no_headers && (json_array_size(rows) > 0 || o->format == OUTPUT_CSV)) {
        print_line(columns, NULL, separator, o->format == OUTPUT_CSV);
    }
    json_array_foreach(rows, k, row) {
        print_line(columns, row, separator, o->format == OUTPUT_CSV);
    }
}

/* --- status ----------------------------------------------------------------------------------- */

void output_text(const struct output_options *o, const char *node, const char *text)
{
    if (o->format == OUTPUT_JSON) {
        json_t *value = json_pack("{s:s, s:s}", "node", node, "result", text);
        print_json(value);
        json_decref(value);
    } else if (strcmp(text, "ok") != 0 && !o->quiet) {
        (void)printf("%s\n", text);
    }
}

static void heading(const char *text)
{
    (void)printf("\n%s\n\n", text);
}

static void print_listeners(json_t *list)
{
    size_t i;
    json_t *l;
    json_array_foreach(list, i, l) {
        (void)printf("Node: %s, interface: %s, port: %d, protocol: %s, purpose: %s\n",
                     json_string_value(json_object_get(l, "node")),
                     json_string_value(json_object_get(l, "interface")),
                     (int)json_integer_value(json_object_get(l, "port")),
                     json_string_value(json_object_get(l, "protocol")),
                     json_string_value(json_object_get(l, "purpose")));
    }
}

void output_status(const struct output_options *o, json_t *status)
{
    static const char *const lines[] = {"node",           "state",          "rabbitmq_version",
                                        "warren_version", "data_directory", "log_file",
                                        "shards"};
    static const char *const totals[] = {"queues", "exchanges", "vhosts"};
    static char cell[CELL_MAX];
    if (o->format == OUTPUT_JSON) {
        print_json(status);
        return;
    }
    heading("Runtime");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        cell_text(status, lines[i], cell);
        (void)printf("%s: %s\n", lines[i], cell);
    }
    heading("Totals");
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        cell_text(status, totals[i], cell);
        (void)printf("%s: %s\n", totals[i], cell);
    }
    heading("Listeners");
    print_listeners(json_object_get(status, "listeners"));
}

static void print_names(const char *title, json_t *names)
{
    size_t i;
    json_t *name;
    heading(title);
    json_array_foreach(names, i, name) {
        (void)printf("%s\n", json_string_value(name));
    }
}

void output_cluster_status(const struct output_options *o, json_t *status)
{
    const char *node;
    json_t *item;
    if (o->format == OUTPUT_JSON) {
        print_json(status);
        return;
    }
    heading("Basics");
    (void)printf("Cluster name: %s\n", json_string_value(json_object_get(status, "cluster_name")));
    (void)printf("Catalog leader: %s\n",
                 json_string_value(json_object_get(status, "catalog_leader")));
    (void)printf("State: %s\n", json_string_value(json_object_get(status, "state")));
    print_names("Disk Nodes", json_object_get(status, "disk_nodes"));
    print_names("Running Nodes", json_object_get(status, "running_nodes"));
    heading("Versions");
    json_object_foreach(json_object_get(status, "versions"), node, item) {
        (void)printf("%s: %s %s\n", node, json_string_value(json_object_get(item, "rabbitmq_name")),
                     json_string_value(json_object_get(item, "rabbitmq_version")));
    }
    heading("Alarms");
    (void)printf("(none)\n");
    heading("Network Partitions");
    (void)printf("(none)\n");
    heading("Listeners");
    json_object_foreach(json_object_get(status, "listeners"), node, item) {
        print_listeners(item);
    }
}
