/*
 * What: reply codes and texts: of faults found by the codec, of AMQP's reply code table, and the
 * making of a reply text of at most 255 bytes.
 * Spec: docs/amqp-0-9-1.md, "Reply codes".
 */
#include "warren/wire.h"

uint16_t wire_fault_code(enum wire_fault fault)
{
    switch (fault) {
    case WIRE_OK:
        return WIRE_REPLY_SUCCESS;
#define FAULT_CODE(name, code, text)                                                               \
    case name:                                                                                     \
        return code;
        WIRE_FAULT_TABLE(FAULT_CODE)
#undef FAULT_CODE
    }
    WR_UNREACHABLE();
}

const char *wire_fault_text(enum wire_fault fault)
{
    switch (fault) {
    case WIRE_OK:
        return "ok";
#define FAULT_TEXT(name, code, text)                                                               \
    case name:                                                                                     \
        return text;
        WIRE_FAULT_TABLE(FAULT_TEXT)
#undef FAULT_TEXT
    }
    WR_UNREACHABLE();
}

const char *wire_reply_name(uint16_t code)
{
    switch (code) {
#define REPLY_NAME(name, number, hard)                                                             \
    case number:                                                                                   \
        return #name;
        WIRE_REPLY_TABLE(REPLY_NAME)
#undef REPLY_NAME
    default:
        return "UNKNOWN";
    }
}

bool wire_reply_is_connection_error(uint16_t code)
{
    switch (code) {
#define REPLY_HARD(name, number, hard)                                                             \
    case number:                                                                                   \
        return hard;
        WIRE_REPLY_TABLE(REPLY_HARD)
#undef REPLY_HARD
    default:
        return true;
    }
}

/* The longest end of text[0..max] that does not cut a UTF-8 sequence; max when it is not UTF-8. */
static size_t cut_size(struct bytes text, size_t max)
{
    size_t size = max;
    /* A sequence has at most three continuation bytes. */
    while (size > 0 && max - size < 4 && (text.data[size] & 0xc0) == 0x80) {
        size--;
    }
    return (text.data[size] & 0xc0) == 0x80 ? max : size;
}

struct bytes wire_shortstr_cut(struct bytes text)
{
    if (text.size <= 255) {
        return text;
    }
    return bytes_make(text.data, cut_size(text, 255));
}

struct bytes wire_reply_text(char out[WIRE_REPLY_TEXT_SIZE], uint16_t code, const char *fmt, ...)
{
    char whole[1024];
    struct strbuf s;
    strbuf_init(&s, whole, sizeof(whole));
    strbuf_printf(&s, "%s - ", wire_reply_name(code));
    va_list args;
    va_start(args, fmt);
    strbuf_vprintf(&s, fmt, args);
    va_end(args);
    struct bytes text = strbuf_bytes(&s);
    if (text.size > 255) {
        text.size = cut_size(text, 252);
        memcpy(out, text.data, text.size);
        memcpy(out + text.size, "...", 3);
        text.size += 3;
    } else {
        memcpy(out, text.data, text.size);
    }
    out[text.size] = '\0';
    return bytes_make(out, text.size);
}
