/*
 * What: bounded string building, escaping, UTF-8 and strict number parsing.
 * Invariant: a builder's data is NUL-terminated and size < capacity after every call.
 * Spec: RFC 3629 (UTF-8), RFC 8259 (JSON strings).
 */
#include "warren/str.h"

#include <stdio.h>

#include "warren/err.h"

static const char hex_digits[] = "0123456789abcdef";

void strbuf_init(struct strbuf *s, char *array, size_t capacity)
{
    WR_ASSERT_OP(capacity, >=, 1);
    *s = (struct strbuf){array, 0, capacity, false};
    array[0] = '\0';
}

void strbuf_vprintf(struct strbuf *s, const char *fmt, va_list args)
{
    const size_t room = s->capacity - s->size;
    const int size = vsnprintf(s->data + s->size, room, fmt, args);
    WR_ASSERT(size >= 0);
    if ((size_t)size >= room) {
        s->size = s->capacity - 1;
        s->truncated = true;
    } else {
        s->size += (size_t)size;
    }
}

void strbuf_printf(struct strbuf *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    strbuf_vprintf(s, fmt, args);
    va_end(args);
}

void strbuf_add(struct strbuf *s, const void *text, size_t size)
{
    const size_t room = s->capacity - 1 - s->size;
    if (size > room) {
        size = room;
        s->truncated = true;
    }
    if (size > 0) {
        memcpy(s->data + s->size, text, size);
    }
    s->size += size;
    s->data[s->size] = '\0';
}

void strbuf_add_cstr(struct strbuf *s, const char *text)
{
    strbuf_add(s, text, strlen(text));
}

void strbuf_add_char(struct strbuf *s, char c)
{
    strbuf_add(s, &c, 1);
}

/* All of the piece or nothing; once something was left out nothing more is added. */
static void add_whole(struct strbuf *s, const void *text, size_t size)
{
    if (s->truncated || size > s->capacity - 1 - s->size) {
        s->truncated = true;
    } else {
        strbuf_add(s, text, size);
    }
}

/* The letter after the backslash for the control bytes that have one, else 0. */
static char short_escape(uint8_t c)
{
    switch (c) {
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return '\0';
    }
}

static void add_escaped(struct strbuf *s, struct bytes text, bool quotes)
{
    for (size_t at = 0; at < text.size && !s->truncated;) {
        const uint8_t c = text.data[at];
        const struct bytes rest = {text.data + at, text.size - at};
        const size_t sequence = str_utf8_sequence(rest);
        if (short_escape(c) != '\0') {
            add_whole(s, (char[]){'\\', short_escape(c)}, 2);
        } else if (quotes && (c == '\\' || c == '"')) {
            add_whole(s, (char[]){'\\', (char)c}, 2);
        } else if (c < 0x20 || c == 0x7f || sequence == 0) {
            add_whole(s, (char[]){'\\', 'x', hex_digits[c >> 4], hex_digits[c & 15]}, 4);
        } else {
            add_whole(s, rest.data, sequence);
        }
        at += sequence == 0 ? 1 : sequence;
    }
}

void strbuf_add_escaped(struct strbuf *s, struct bytes text)
{
    add_escaped(s, text, true);
}

void strbuf_add_line(struct strbuf *s, struct bytes text)
{
    add_escaped(s, text, false);
}

void put_vprintf(struct writer *w, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    const size_t room = w->buf->capacity - w->buf->size;
    const int size = vsnprintf((char *)w->buf->data + w->buf->size, room, fmt, args);
    WR_ASSERT(size >= 0);
    if ((size_t)size >= room) {
        /* One more byte for the NUL that vsnprintf insists on. */
        buf_reserve(&w->buf, (size_t)size + 1);
        (void)vsnprintf((char *)w->buf->data + w->buf->size, (size_t)size + 1, fmt, again);
    }
    va_end(again);
    w->buf->size += (uint32_t)size;
}

void put_printf(struct writer *w, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_vprintf(w, fmt, args);
    va_end(args);
}

void put_cstr(struct writer *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

static void put_json_ascii(struct writer *w, uint8_t c)
{
    if (c == '"' || c == '\\') {
        put_u8(w, '\\');
        put_u8(w, c);
    } else if (short_escape(c) != '\0') {
        put_u8(w, '\\');
        put_u8(w, (uint8_t)short_escape(c));
    } else if (c < 0x20 || c == 0x7f) {
        put_printf(w, "\\u%04x", c);
    } else {
        put_u8(w, c);
    }
}

void put_json_string(struct writer *w, struct bytes text)
{
    put_u8(w, '"');
    for (size_t at = 0; at < text.size;) {
        const struct bytes rest = {text.data + at, text.size - at};
        const size_t sequence = str_utf8_sequence(rest);
        if (sequence == 0) {
            put_cstr(w, "\xef\xbf\xbd");
            at++;
        } else if (sequence == 1) {
            put_json_ascii(w, *rest.data);
            at++;
        } else {
            put_bytes(w, rest.data, sequence);
            at += sequence;
        }
    }
    put_u8(w, '"');
}

size_t str_utf8_sequence(struct bytes text)
{
    if (text.size == 0) {
        return 0;
    }
    const uint8_t lead = text.data[0];
    if (lead < 0x80) {
        return 1;
    }
    /* C0 and C1 are overlong, F5 and up beyond U+10FFFF; 80..BF cannot lead. */
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    const size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (text.size < size) {
        return 0;
    }
    /* The second byte's range excludes overlong forms, surrogates and what is over U+10FFFF. */
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (text.data[1] < low || text.data[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((text.data[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool str_is_utf8(struct bytes text)
{
    size_t at = 0;
    while (at < text.size) {
        const size_t sequence = str_utf8_sequence((struct bytes){text.data + at, text.size - at});
        if (sequence == 0) {
            return false;
        }
        at += sequence;
    }
    return true;
}

int str_parse_u64(struct bytes text, uint64_t max, uint64_t *ret_value)
{
    if (text.size == 0) {
        return WR_E_INVALID;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value)) {
            return WR_E_INVALID;
        }
    }
    if (value > max) {
        return WR_E_INVALID;
    }
    *ret_value = value;
    return 0;
}

int str_parse_i64(struct bytes text, int64_t min, int64_t max, int64_t *ret_value)
{
    bool negative = false;
    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) {
        negative = text.data[0] == '-';
        text = (struct bytes){text.data + 1, text.size - 1};
    }
    uint64_t magnitude;
    const uint64_t magnitude_max = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    const int err = str_parse_u64(text, magnitude_max, &magnitude);
    if (err != 0) {
        return err;
    }
    /* Negated as unsigned: also right for INT64_MIN. */
    const int64_t value = (int64_t)(negative ? 0 - magnitude : magnitude);
    if (value < min || value > max) {
        return WR_E_INVALID;
    }
    *ret_value = value;
    return 0;
}

int str_parse_size(struct bytes text, uint64_t *ret_bytes)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"kib", 1u << 10},
                 {"mib", 1u << 20},
                 {"gib", 1u << 30},
                 {"tib", UINT64_C(1) << 40},
                 {"kb", 1000},
                 {"mb", 1000000},
                 {"gb", 1000000000},
                 {"tb", UINT64_C(1000000000000)},
                 {"k", 1u << 10},
                 {"m", 1u << 20},
                 {"g", 1u << 30},
                 {"t", UINT64_C(1) << 40},
                 {"", 1}};
    size_t digits = 0;
    uint64_t value = 0;
    while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    /* 19 digits fit, whatever they are. */
    if (digits > 19 || str_parse_u64((struct bytes){text.data, digits}, UINT64_MAX, &value) != 0) {
        return WR_E_INVALID;
    }
    const struct bytes suffix = str_trim((struct bytes){text.data + digits, text.size - digits});
    for (size_t i = 0; i < WR_ARRAY_SIZE(units); i++) {
        if (str_eq_nocase(suffix, bytes_from_cstr(units[i].suffix)) &&
            value <= UINT64_MAX / units[i].factor) {
            *ret_bytes = value * units[i].factor;
            return 0;
        }
    }
    return WR_E_INVALID;
}

int str_parse_millionths(struct bytes text, uint32_t max, uint32_t *ret_millionths)
{
    uint64_t whole = 0;
    uint64_t part = 0;
    uint64_t unit = 1000000;
    size_t at = 0;
    bool any = false;
    for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++) {
        whole = whole > UINT32_MAX ? whole : whole * 10 + (uint64_t)(text.data[at] - '0');
        any = true;
    }
    if (at < text.size && text.data[at] == '.') {
        for (at++; at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; at++) {
            unit /= 10;
            part += unit * (uint64_t)(text.data[at] - '0');
            any = true;
        }
    }
    if (!any || at != text.size || whole * 1000000 + part > max) {
        return WR_E_INVALID;
    }
    *ret_millionths = (uint32_t)(whole * 1000000 + part);
    return 0;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const uint8_t lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

int str_parse_hex(struct bytes text, uint8_t *data, size_t size)
{
    if (text.size % 2 != 0 || text.size / 2 != size) {
        return WR_E_INVALID;
    }
    for (size_t i = 0; i < size; i++) {
        const int high = hex_value(text.data[2 * i]);
        const int low = hex_value(text.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return WR_E_INVALID;
        }
        data[i] = (uint8_t)(high * 16 + low);
    }
    return 0;
}

static uint8_t ascii_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool str_eq_nocase(struct bytes a, struct bytes b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct bytes str_trim(struct bytes text)
{
    while (text.size > 0 && is_blank(text.data[text.size - 1])) {
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    return text;
}

bool str_split(struct bytes text, char separator, struct bytes *ret_head, struct bytes *ret_tail)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == (uint8_t)separator) {
            *ret_head = (struct bytes){text.data, i};
            *ret_tail = (struct bytes){text.data + i + 1, text.size - i - 1};
            return true;
        }
    }
    *ret_head = text;
    *ret_tail = BYTES_NONE;
    return false;
}
