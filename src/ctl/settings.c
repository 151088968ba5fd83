/*
 * What: the commands about the settings of the node that is asked: what rabbitmqctl refuses before
 * it asks, what it says it will do, and `environment`. The node checks again, and more.
 */
#include <stdlib.h>
#include <string.h>

#include "warren/logger.h"
#include "warren/str.h"

#include "invocation.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "1GB" is; what is wrong with another text is said in RabbitMQ's words. */
static const char *size_fault(const char *text)
{
    uint64_t bytes;
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0) {
        return text[0] == '-' && is_digit(text[1])
                   ? "Bad argument: The threshold should be an integer."
                   : "Bad argument.";
    }
    if (text[digits] == '.') {
        return "Bad argument: The threshold should be an integer.";
    }
    return str_parse_size(bytes_from_cstr(text), &bytes) == 0 ? NULL
                                                              : "Bad argument: Invalid units.";
}

static bool is_number(const char *text)
{
    char *end = NULL;
    (void)strtod(text, &end);
    return is_digit(text[text[0] == '-']) && *end == 0;
}

static const char *watermark_fault(const struct invocation *v)
{
    uint32_t part;
    if (v->word_count == 3) {
        return size_fault(v->words[2]);
    }
    if (!is_number(v->words[1])) {
        return "Bad argument.";
    }
    return str_parse_millionths(bytes_from_cstr(v->words[1]), 1000000, &part) == 0
               ? NULL
               : "Bad argument: The threshold should be a fraction between 0.0 and 1.0";
}

static const char *disk_fault(const struct invocation *v)
{
    uint64_t bytes;
    uint32_t part;
    const bool good =
        v->word_count == 3
            ? str_parse_millionths(bytes_from_cstr(v->words[2]), UINT32_MAX, &part) == 0
            : str_parse_size(bytes_from_cstr(v->words[1]), &bytes) == 0;
    return good ? NULL : "Bad argument.";
}

/* The word that makes a second argument of these two commands possible; NULL: another command. */
static const char *unit_word(const struct command *c)
{
    return strcmp(c->name, "set_vm_memory_high_watermark") == 0 ? "absolute"
           : strcmp(c->name, "set_disk_free_limit") == 0        ? "mem_relative"
                                                                : NULL;
}

static void check_level(const struct invocation *v)
{
    char text[300];
    enum log_level level;
    if (log_level_parse(v->words[1], &level) != 0) {
        (void)snprintf(text, sizeof text,
                       "level %.200s is not supported. Try one of debug, info, warning, error, "
                       "critical, none",
                       v->words[1]);
        exit(ctl_fail(v, EXIT_UNAVAILABLE, false, text));
    }
}

void ctl_check_setting(const struct invocation *v, const struct command *c)
{
    const char *word = unit_word(c);
    if (strcmp(c->name, "set_log_level") == 0) {
        check_level(v);
    }
    if (word == NULL) {
        return;
    }
    const bool has_word = strcmp(v->words[1], word) == 0;
    if (has_word && v->word_count == 2) {
        invocation_refuse(v, c, EXIT_USAGE, "not enough arguments.");
    }
    if (!has_word && v->word_count == 3) {
        invocation_refuse(v, c, EXIT_USAGE, "too many arguments.");
    }
    const char *fault = strcmp(word, "absolute") == 0 ? watermark_fault(v) : disk_fault(v);
    if (fault != NULL) {
        invocation_refuse(v, c, EXIT_DATA, fault);
    }
}

bool ctl_setting_banner(const struct invocation *v, const struct command *c)
{
    const char *word = unit_word(c);
    if (word == NULL) {
        return false;
    }
    const bool memory = strcmp(word, "absolute") == 0;
    const char *unit = v->word_count == 3 ? (memory ? " bytes" : " times the total RAM")
                                          : (memory ? "" : " bytes");
    ctl_say(v, "Setting %s on %s to %s%s ...", memory ? "memory threshold" : "disk free limit",
            v->ctl.node, v->words[v->word_count - 1], unit);
    return true;
}

/* --- environment: Erlang terms, as RabbitMQ has it ---------------------------------------------
 */

static void print_term(json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach(value, key, item) {
            (void)printf("{%s,", key);
            print_term(item);
            (void)printf("}");
        }
    } else if (json_is_array(value)) {
        (void)printf("[");
        json_array_foreach(value, i, item) {
            (void)printf("%s", i == 0 ? "" : ",");
            print_term(item);
        }
        (void)printf("]");
    } else {
        (void)json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    }
}

void ctl_print_environment(const struct invocation *v, json_t *applications)
{
    const char *name;
    const char *key;
    json_t *application;
    json_t *value;
    const char *before = "[";
    if (v->out.format == OUTPUT_JSON) {
        (void)json_dumpf(applications, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        (void)putchar('\n');
        return;
    }
    json_object_foreach(applications, name, application) {
        (void)printf("%s{%s,\n", before, name);
        before = ",\n ";
        const char *comma = "     [";
        json_object_foreach(application, key, value) {
            (void)printf("%s{%s,", comma, key);
            print_term(value);
            (void)printf("}");
            comma = ",\n      ";
        }
        (void)printf("]}");
    }
    (void)printf("]\n");
}
