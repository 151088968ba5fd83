/*
 * What: bounded strings without surprises: a builder over the caller's array, printf into a writer,
 * escaping, and strict parsing of numbers. Nothing here allocates, except what goes into a writer.
 */
#ifndef WR_STR_H
#define WR_STR_H

#include <stdarg.h>

#include "warren/bytes.h"

/* Builder. data is always NUL-terminated; what does not fit is cut off and `truncated` set. */
struct strbuf {
    char *data;
    size_t size;     /* Characters, without the NUL. */
    size_t capacity; /* Bytes of the array, NUL included; at least 1. */
    bool truncated;
};

/* The array is the caller's and must outlive the builder. */
void strbuf_init(struct strbuf *s, char *array, size_t capacity);

void strbuf_printf(struct strbuf *s, const char *fmt, ...) WR_PRINTF(2, 3);
void strbuf_vprintf(struct strbuf *s, const char *fmt, va_list args) WR_PRINTF(2, 0);
void strbuf_add(struct strbuf *s, const void *text, size_t size);
void strbuf_add_cstr(struct strbuf *s, const char *text);
void strbuf_add_char(struct strbuf *s, char c);

/* One line of printable text: \n \r \t \\ \" and \xNN for other control bytes; bytes >= 0x80 that
 * form valid UTF-8 are kept, others become \xNN. An escape is never cut in two. */
void strbuf_add_escaped(struct strbuf *s, struct bytes text);

/* The same for log lines: backslashes and quotes are left as they are. */
void strbuf_add_line(struct strbuf *s, struct bytes text);

static inline struct bytes strbuf_bytes(const struct strbuf *s)
{
    return (struct bytes){(const uint8_t *)s->data, s->size};
}

/* printf appended to a writer (no NUL is written). */
void put_printf(struct writer *w, const char *fmt, ...) WR_PRINTF(2, 3);
void put_vprintf(struct writer *w, const char *fmt, va_list args) WR_PRINTF(2, 0);

void put_cstr(struct writer *w, const char *text);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void put_json_string(struct writer *w, struct bytes text);

/* Bytes of the valid UTF-8 sequence at the start of the text (1 to 4), 0 when there is none. */
size_t str_utf8_sequence(struct bytes text);

/* True when all of it is UTF-8 (no overlong forms, no surrogates, nothing over U+10FFFF). */
bool str_is_utf8(struct bytes text);

/* Decimal digits only, at least one, no sign, no blanks, at most `max`: else WR_E_INVALID (also for
 * what is over max). */
WR_MUST_USE int str_parse_u64(struct bytes text, uint64_t max, uint64_t *ret_value);

/* The same with an optional '-' or '+', within [min, max]. */
WR_MUST_USE int str_parse_i64(struct bytes text, int64_t min, int64_t max, int64_t *ret_value);

/* "500MB", "64MiB", "1073741824": a size in RabbitMQ's units of either case, where kB is 1000 bytes
 * and k or KiB 1024; else WR_E_INVALID. */
WR_MUST_USE int str_parse_size(struct bytes text, uint64_t *ret_bytes);

/* "0.6", "1", ".5": a number in millionths, at most `max`; what comes behind the sixth place is
 * cut. Else WR_E_INVALID. */
WR_MUST_USE int str_parse_millionths(struct bytes text, uint32_t max, uint32_t *ret_millionths);

/* Pairs of hex digits of either case, exactly 2 * size of them, into data: else WR_E_INVALID (and
 * data holds anything). */
WR_MUST_USE int str_parse_hex(struct bytes text, uint8_t *data, size_t size);

/* Compares without regard to the case of ASCII letters. */
bool str_eq_nocase(struct bytes a, struct bytes b);

/* Without blanks (space, tab, CR, LF) at both ends. */
struct bytes str_trim(struct bytes text);

/* Split at the first `separator`: *ret_head gets what is before it, *ret_tail what is after.
 * Returns false (and head = all, tail = empty) when there is none. ret_head or ret_tail may be
 * &text's own copy. */
bool str_split(struct bytes text, char separator, struct bytes *ret_head, struct bytes *ret_tail);

#endif
