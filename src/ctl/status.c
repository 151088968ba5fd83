/*
 * What: status and cluster_status as texts. The titles are RabbitMQ's without the bytes for a
 * terminal's bold letters, which rabbitmqctl writes into files, too. Spec: docs/warrenctl.md.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "output.h"
#include "value.h"

static void heading(const char *text)
{
    (void)printf("\n%s\n\n", text);
}

/* --- sizes ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    double bytes;
} units[] = {{"gb", 1e9}, {"mb", 1e6}, {"bytes", 1}};

bool output_unit_known(const char *name)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(name, units[i].name) == 0) {
            return true;
        }
    }
    return false;
}

/* Four digits after the point at most, one at least; the unit as it was given. */
static const char *size_text(const char *unit, json_t *size, char text[80])
{
    size_t i = 0;
    unit = unit != NULL ? unit : units[0].name;
    while (i + 1 < sizeof units / sizeof units[0] && strcasecmp(unit, units[i].name) != 0) {
        i++;
    }
    if (units[i].bytes <= 1) {
        (void)snprintf(text, 80, "%lld %s", (long long)json_integer_value(size), unit);
        return text;
    }
    size_t n =
        (size_t)snprintf(text, 64, "%.4f", (double)json_integer_value(size) / units[i].bytes);
    while (text[n - 1] == '0' && text[n - 2] != '.') {
        text[--n] = 0;
    }
    (void)snprintf(text + n, 80 - n, " %s", unit);
    return text;
}

static void print_size(const char *unit, json_t *size)
{
    char text[80];
    (void)printf("%s\n", size_text(unit, size, text));
}

void output_listeners(json_t *list, bool named)
{
    size_t i;
    json_t *l;
    json_array_foreach(list, i, l) {
        (void)printf(named ? "Node: %s, interface: " : "Interface: ",
                     json_string_value(json_object_get(l, "node")));
        (void)printf("%s, port: %d, protocol: %s, purpose: %s\n",
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

/* A part of what is resident, and how much of it that is. */
static void print_part(const char *unit, const char *name, json_t *memory, const char *percent)
{
    json_t *size = json_object_get(memory, name);
    const double total =
        (double)json_integer_value(json_object_get(json_object_get(memory, "total"), "rss"));
    char text[80];
    (void)printf("%s: %s (%.2f%s)\n", name, size_text(unit, size, text),
                 total > 0 ? 100 * (double)json_integer_value(size) / total : 0.0, percent);
}

void output_memory_parts(const struct output_options *o, json_t *status, const char *percent)
{
    json_t *memory = json_object_get(status, "memory");
    print_part(o->unit, "anonymous", memory, percent);
    print_part(o->unit, "files", memory, percent);
}

static void print_memory(const struct output_options *o, json_t *status)
{
    const char *unit = o->unit;
    json_t *limit = json_object_get(status, "vm_memory_high_watermark_limit");
    json_t *setting = json_object_get(status, "vm_memory_high_watermark_setting");
    json_t *relative = json_object_get(setting, "relative");
    json_t *total =
        json_object_get(json_object_get(json_object_get(status, "memory"), "total"), "rss");
    heading("Memory");
    (void)printf("Total memory used: ");
    print_size(unit, total);
    (void)printf("Calculation strategy: rss\n");
    if (relative != NULL) {
        (void)printf("Memory high watermark setting: %g of available memory, computed to: ",
                     json_number_value(relative));
    } else {
        (void)printf("Memory high watermark setting: ");
    }
    print_size(unit, limit);
    if (json_integer_value(total) > 0) {
        (void)putchar('\n');
        output_memory_parts(o, status, " %");
    }
}

static void print_descriptors(json_t *counts)
{
    static const char *const lines[][3] = {{"Total", "total_used", "total_limit"},
                                           {"Sockets", "sockets_used", "sockets_limit"}};
    if (counts == NULL) {
        return;
    }
    heading("File Descriptors");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        (void)printf("%s: %lld, limit: %lld\n", lines[i][0],
                     (long long)json_integer_value(json_object_get(counts, lines[i][1])),
                     (long long)json_integer_value(json_object_get(counts, lines[i][2])));
    }
}

static void print_disk(json_t *status, const char *unit)
{
    json_t *disk_free = json_object_get(status, "disk_free");
    heading("Free Disk Space");
    (void)printf("Low free disk space watermark: ");
    print_size(unit, json_object_get(status, "disk_free_limit"));
    if (disk_free != NULL) {
        (void)printf("Free disk space: ");
        print_size(unit, disk_free);
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

static void print_files(const char *title, json_t *files)
{
    size_t i;
    json_t *file;
    heading(title);
    json_array_foreach(files, i, file) {
        (void)printf(" * %s\n", json_string_value(file));
    }
}

void output_status(const struct output_options *o, json_t *status)
{
    static const char *const runtime[][2] = {{"OS PID", "pid"},
                                             {"OS", "os"},
                                             {"Uptime (seconds)", "uptime"},
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
    if (o->format == OUTPUT_JSON) {
        output_json(status);
        return;
    }
    heading("Runtime");
    print_lines(status, runtime, sizeof runtime / sizeof runtime[0]);
    heading("Data directory");
    print_lines(status, data, 1);
    print_files("Config files", json_object_get(status, "config_files"));
    print_files("Log file(s)", json_object_get(status, "log_files"));
    print_alarms(json_object_get(status, "alarms"));
    print_memory(o, status);
    print_descriptors(json_object_get(status, "file_descriptors"));
    print_disk(status, o->unit);
    heading("Totals");
    print_lines(json_object_get(status, "totals"), totals, sizeof totals / sizeof totals[0]);
    heading("Listeners");
    output_listeners(json_object_get(status, "listeners"), false);
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
        output_json(status);
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
    heading("Maintenance status");
    json_object_foreach(json_object_get(status, "maintenance_status"), node, item) {
        (void)printf("Node: %s, status: %s\n", node, json_string_value(item));
    }
    print_alarms(json_object_get(status, "alarms"));
    heading("Network Partitions");
    (void)printf("(none)\n");
    heading("Listeners");
    json_object_foreach(json_object_get(status, "listeners"), node, item) {
        output_listeners(item, true);
    }
}
