#ifndef WR_CTL_OUTPUT_H
#define WR_CTL_OUTPUT_H
/* What warrenctl prints: tables in rabbitmqctl's manner (tab-separated), boxed tables, JSON, CSV.
 */
#include <jansson.h>
#include <stdbool.h>

enum output_format { OUTPUT_TABLE, OUTPUT_PRETTY, OUTPUT_JSON, OUTPUT_CSV, OUTPUT_ERLANG };
struct output_options {
    enum output_format format;
    bool quiet, no_headers;
    bool silent;      /* no headers in a table; CSV keeps its own */
    const char *unit; /* of sizes in status; NULL: gb */
    bool stream;      /* JSON: rows as objects one after the other, not in an array */
};
/* Formats whose readers want nothing but the data. */
bool output_is_for_machines(enum output_format format);
bool output_parse_format(const char *name, enum output_format *ret_format);
/* Splits at a separator; empty parts are left out, and those that are in the list already. */
void output_add_words(json_t *list, const char *words, const char *separator);
void output_rows(const struct output_options *options, json_t *columns, json_t *rows);
void output_json(json_t *value); /* one line */
void output_text(const struct output_options *options, const char *node, const char *text);
void output_listeners(json_t *listeners, bool named); /* named: with the name of the node */
/* The parts of the memory of a status, a line each; `percent` closes it. */
void output_memory_parts(const struct output_options *options, json_t *status, const char *percent);
bool output_unit_known(const char *name);
void output_status(const struct output_options *options, json_t *status);
void output_cluster_status(const struct output_options *options, json_t *status);

#endif
