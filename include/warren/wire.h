/*
 * What: AMQP 0-9-1 methods as RabbitMQ speaks them: structs, decoding, encoding, text. Frames are
 * in wire_frame.h, field tables in wire_table.h, content headers in wire_props.h. Ownership:
 * decoded strings and tables are views into the input, valid as long as it is. Threads: pure
 * functions, no state. Spec: docs/amqp-0-9-1.md.
 */
#ifndef WR_WIRE_H
#define WR_WIRE_H

#include "warren/bytes.h"
#include "warren/str.h"

/*
 * What a peer can do wrong at this level: X(name, reply code, text). All are connection errors.
 * A typed value, never an assert: any byte sequence is possible.
 */
#define WIRE_FAULT_TABLE(X)                                                                        \
    X(WIRE_FAULT_TRUNCATED, 501, "arguments end too early")                                        \
    X(WIRE_FAULT_TRAILING, 501, "bytes left after the arguments")                                  \
    X(WIRE_FAULT_UTF8, 501, "Malformed UTF-8 in shortstr")                                         \
    X(WIRE_FAULT_UNKNOWN_METHOD, 503, "unimplemented method")                                      \
    X(WIRE_FAULT_FRAME_TYPE, 501, "unknown frame type")                                            \
    X(WIRE_FAULT_FRAME_SIZE, 501, "frame too large")                                               \
    X(WIRE_FAULT_FRAME_END, 501, "invalid frame end marker")                                       \
    X(WIRE_FAULT_PROPERTY_FLAGS, 501, "more than one word of property flags")                      \
    X(WIRE_FAULT_TABLE_TRUNCATED, 502, "table ends inside a field")                                \
    X(WIRE_FAULT_TABLE_TYPE, 502, "unknown field type in table")                                   \
    X(WIRE_FAULT_TABLE_DEPTH, 502, "table nested too deeply")                                      \
    X(WIRE_FAULT_TABLE_ITEMS, 502, "too many fields in table")                                     \
    X(WIRE_FAULT_TABLE_SIZE, 502, "table too large")

enum wire_fault {
    WIRE_OK = 0,
#define WIRE_FAULT_ENUM(name, code, text) name,
    WIRE_FAULT_TABLE(WIRE_FAULT_ENUM)
#undef WIRE_FAULT_ENUM
};

/* Reply code (501, 502, 503) and explanation of a fault; 200 and "ok" for WIRE_OK. Static text. */
uint16_t wire_fault_code(enum wire_fault fault);
const char *wire_fault_text(enum wire_fault fault);

/* AMQP reply codes: X(name, code, is a connection error). */
#define WIRE_REPLY_TABLE(X)                                                                        \
    X(REPLY_SUCCESS, 200, false)                                                                   \
    X(CONTENT_TOO_LARGE, 311, false)                                                               \
    X(NO_ROUTE, 312, false)                                                                        \
    X(NO_CONSUMERS, 313, false)                                                                    \
    X(CONNECTION_FORCED, 320, true)                                                                \
    X(INVALID_PATH, 402, true)                                                                     \
    X(ACCESS_REFUSED, 403, false)                                                                  \
    X(NOT_FOUND, 404, false)                                                                       \
    X(RESOURCE_LOCKED, 405, false)                                                                 \
    X(PRECONDITION_FAILED, 406, false)                                                             \
    X(FRAME_ERROR, 501, true)                                                                      \
    X(SYNTAX_ERROR, 502, true)                                                                     \
    X(COMMAND_INVALID, 503, true)                                                                  \
    X(CHANNEL_ERROR, 504, true)                                                                    \
    X(UNEXPECTED_FRAME, 505, true)                                                                 \
    X(RESOURCE_ERROR, 506, true)                                                                   \
    X(NOT_ALLOWED, 530, true)                                                                      \
    X(NOT_IMPLEMENTED, 540, true)                                                                  \
    X(INTERNAL_ERROR, 541, true)

/* WIRE_NOT_FOUND = 404 and so on. */
enum wire_reply {
#define WIRE_REPLY_ENUM(name, code, hard) WIRE_##name = code,
    WIRE_REPLY_TABLE(WIRE_REPLY_ENUM)
#undef WIRE_REPLY_ENUM
};

/* "NOT_FOUND" for 404; "UNKNOWN" for a code that is not in the table. Static string. */
const char *wire_reply_name(uint16_t code);

/* True when the error closes the connection wherever it is raised. True for unknown codes. */
bool wire_reply_is_connection_error(uint16_t code);

/* Flags of a method. */
enum wire_method_flag {
    WIRE_FROM_CLIENT = 1,
    WIRE_FROM_SERVER = 2,
    WIRE_FROM_BOTH = 3,
    WIRE_HAS_CONTENT = 4, /* A content header frame follows. */
};

#define WIRE_METHOD_ID(class_id, method_id) (((uint32_t)(class_id) << 16) | (uint32_t)(method_id))

/* WIRE_BASIC_PUBLISH and so on: class id in the high half, method id in the low half. */
enum wire_method_id {
    WIRE_METHOD_NONE = 0,
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    WIRE_##upper = WIRE_METHOD_ID(class_id, method_id),
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    WIRE_##upper = WIRE_METHOD_ID(class_id, method_id),
#include "warren/wire_spec.def"
};

static inline uint16_t wire_class_of(enum wire_method_id id)
{
    return (uint16_t)((uint32_t)id >> 16);
}

static inline uint16_t wire_method_of(enum wire_method_id id)
{
    return (uint16_t)((uint32_t)id & 0xffff);
}

/* struct wire_basic_publish { struct bytes exchange; struct bytes routing_key; bool mandatory; ...
 * } and so on, one for each method with fields. A table field is the table's content without its
 * length prefix, not yet validated (wire_table.h reads it safely all the same). */
#define METHOD(upper, lower, name, class_id, method_id, flags) struct wire_##lower {
#define METHOD_END(upper, lower)                                                                   \
    }                                                                                              \
    ;
#define OCTET(name)    uint8_t name;
#define SHORT(name)    uint16_t name;
#define LONG(name)     uint32_t name;
#define LONGLONG(name) uint64_t name;
#define SHORTSTR(name) struct bytes name;
#define LONGSTR(name)  struct bytes name;
#define TABLE(name)    struct bytes name;
#define BIT(name)      bool name;
#include "warren/wire_spec.def"

/* Any method. `id` tells which member counts (none for methods without fields). */
struct wire_method {
    enum wire_method_id id;
    union {
#define METHOD(upper, lower, name, class_id, method_id, flags) struct wire_##lower lower;
#include "warren/wire_spec.def"
    };
};

struct wire_method_info {
    const char *name; /* "basic.publish" */
    uint32_t flags;   /* enum wire_method_flag */
};

/* NULL for an id that is not in the table. Static. */
const struct wire_method_info *wire_method_info(uint32_t id);

/* "basic.publish"; "unknown" for an id that is not in the table. Static string. */
const char *wire_method_name(uint32_t id);

/* Number of methods, and the i-th id in the order of the table (tests, documentation). */
size_t wire_method_count(void);
enum wire_method_id wire_method_at(size_t index);

/*
 * Decode the payload of a method frame (class id, method id, arguments). Arguments must fill the
 * payload exactly, as with RabbitMQ. ret_method->id is set whenever the ids could be read, so that
 * an error can name the method (0 otherwise); the rest means something only on WIRE_OK. Tables are
 * not looked into.
 */
WR_MUST_USE enum wire_fault wire_method_decode(struct bytes payload,
                                               struct wire_method *ret_method);

/*
 * Bytes of the encoded payload (ids and arguments, without frame header and end). Asserts that
 * every shortstr fits in 255 bytes and every longstr in 32 bits: cut before (wire_shortstr_cut).
 */
size_t wire_method_size(const struct wire_method *method);

/* Write exactly wire_method_size bytes at `out`; returns the end of what was written. */
uint8_t *wire_method_write(uint8_t *out, const struct wire_method *method);

/* At most 255 bytes of the text, not ending inside a UTF-8 sequence (if it is UTF-8). A view. */
struct bytes wire_shortstr_cut(struct bytes text);

/*
 * A reply text as RabbitMQ makes it: "NAME - explanation", cut to 255 bytes, "..." at the end when
 * cut. Written to out (not NUL-terminated by need, but it is); returns the view of it.
 */
#define WIRE_REPLY_TEXT_SIZE 256
struct bytes wire_reply_text(char out[WIRE_REPLY_TEXT_SIZE], uint16_t code, const char *fmt, ...)
    WR_PRINTF(3, 4);

/*
 * Text: "basic.publish exchange=\"\" routing-key=\"q\" mandatory=true immediate=false", one line,
 * all fields that are not reserved, in order. Tables as wire_describe_table prints them.
 */
void wire_describe_method(struct strbuf *s, const struct wire_method *method);

/* A binary as Erlang prints it, for reply texts: <<0,1,255>>, or <<"text">> if all is printable;
 * at most `max` bytes are shown, then "...". */
void wire_describe_binary(struct strbuf *s, struct bytes binary, size_t max);

#endif
