/*
 * What: warrenctl's formats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "value.h"

void output_add_words(json_t *list, const char *words, const char *separator)
{
    for (const char *at = words; *at != 0;) {
        size_t size = strcspn(at, separator);
        if (size > 0) {
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

static void print_json(json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
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
        print_json(picked);
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
        print_json(value);
        json_decref(value);
    } else if (!done) {
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

static void print_lines(json_t *status, const char *const lines[][2], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = value_text(status, lines[i][1], VALUE_BYTES_ESCAPED);
        (void)printf("%s: %s\n", lines[i][0], text);
        free(text);
    }
}

static void print_alarms(json_t *alarms)
{
    size_t i;
    json_t *alarm;
    heading("Alarms");
    json_array_foreach(alarms, i, alarm) {
        const char *resource = json_string_value(json_object_get(alarm, "resource"));
        bool disk = resource != NULL && strcmp(resource, "disk") == 0;
        (void)printf("%s alarm on node %s\n", disk ? "Free disk space" : "Memory",
                     json_string_value(json_object_get(alarm, "node")));
    }
    if (json_array_size(alarms) == 0) {
        (void)printf("(none)\n");
    }
}

static void print_memory(json_t *status)
{
    json_t *limit = json_object_get(status, "vm_memory_high_watermark_limit");
    json_t *setting = json_object_get(status, "vm_memory_high_watermark_setting");
    json_t *relative = json_object_get(setting, "relative");
    json_t *total =
        json_object_get(json_object_get(json_object_get(status, "memory"), "total"), "rss");
    heading("Memory");
    (void)printf("Total memory used: %.4f gb\n", (double)json_integer_value(total) / 1e9);
    (void)printf("Calculation strategy: rss\n");
    if (relative != NULL) {
        (void)printf(
            "Memory high watermark setting: %g of available memory, computed to: %.4f gb\n",
            json_number_value(relative), (double)json_integer_value(limit) / 1e9);
    } else {
        (void)printf("Memory high watermark setting: %.4f gb\n",
                     (double)json_integer_value(limit) / 1e9);
    }
}

static void print_certificate(json_t *certificate)
{
    static const char *const lines[][2] = {{"File", "file"},
                                           {"Subject", "subject"},
                                           {"Issuer", "issuer"},
                                           {"Valid from", "valid_from"},
                                           {"Valid until", "valid_until"}};
    const char *problem = json_string_value(json_object_get(certificate, "problem"));
    if (json_is_object(certificate)) {
        heading("TLS certificate");
        print_lines(certificate, lines, sizeof lines / sizeof lines[0]);
        if (problem != NULL && problem[0] != 0) {
            (void)printf("The files that are there now are not used: %s\n", problem);
        }
    }
}

void output_status(const struct output_options *o, json_t *status)
{
    static const char *const runtime[][2] = {{"Uptime (seconds)", "uptime"},
                                             {"Is under maintenance?", "is_under_maintenance"},
                                             {"RabbitMQ version", "rabbitmq_version"},
                                             {"Warren version", "warren_version"},
                                             {"Node name", "node"},
                                             {"State", "state"},
                                             {"Shards", "shards"}};
    static const char *const totals[][2] = {{"Connection count", "connection_count"},
                                            {"Queue count", "queue_count"},
                                            {"Virtual host count", "virtual_host_count"},
                                            {"Exchange count", "exchange_count"}};
    static const char *const data[][2] = {{"Node data directory", "data_directory"}};
    size_t i;
    json_t *file;
    if (o->format == OUTPUT_JSON) {
        print_json(status);
        return;
    }
    heading("Runtime");
    print_lines(status, runtime, sizeof runtime / sizeof runtime[0]);
    heading("Data directory");
    print_lines(status, data, 1);
    heading("Log file(s)");
    json_array_foreach(json_object_get(status, "log_files"), i, file) {
        (void)printf(" * %s\n", json_string_value(file));
    }
    print_alarms(json_object_get(status, "alarms"));
    print_memory(status);
    heading("Free Disk Space");
    (void)printf("Low free disk space watermark: %.4f gb\n",
                 (double)json_integer_value(json_object_get(status, "disk_free_limit")) / 1e9);
    heading("Totals");
    print_lines(json_object_get(status, "totals"), totals, sizeof totals / sizeof totals[0]);
    heading("Listeners");
    print_listeners(json_object_get(status, "listeners"));
    print_certificate(json_object_get(status, "tls_certificate"));
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
    print_alarms(json_object_get(status, "alarms"));
    heading("Network Partitions");
    (void)printf("(none)\n");
    heading("Listeners");
    json_object_foreach(json_object_get(status, "listeners"), node, item) {
        print_listeners(item);
    }
}
