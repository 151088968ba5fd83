/*
 * What: AMQP field tables and arrays with RabbitMQ's type letters: iteration, look-up, validation,
 * building, comparing, text. A table is always given as its content, without the length prefix.
 * All functions are safe on any bytes: a broken table simply ends where it is broken, and only
 * wire_table_validate and the iterator's `fault` tell. Nothing recurses.
 * Threads: pure functions. Spec: docs/amqp-0-9-1.md, "Field tables".
 */
#ifndef WR_WIRE_TABLE_H
#define WR_WIRE_TABLE_H

#include "warren/wire.h"

/* Type letters: X(UPPER, letter, RabbitMQ's name in reply texts). */
#define WIRE_FIELD_TABLE(X)                                                                        \
    X(BOOL, 't', "bool")                                                                           \
    X(INT8, 'b', "byte")                                                                           \
    X(UINT8, 'B', "unsignedbyte")                                                                  \
    X(INT16, 's', "short")                                                                         \
    X(UINT16, 'u', "unsignedshort")                                                                \
    X(INT32, 'I', "signedint")                                                                     \
    X(UINT32, 'i', "unsignedint")                                                                  \
    X(INT64, 'l', "long")                                                                          \
    X(INT64_IN, 'L', "long") /* Accepted, never written. */                                        \
    X(FLOAT, 'f', "float")                                                                         \
    X(DOUBLE, 'd', "double")                                                                       \
    X(DECIMAL, 'D', "decimal")                                                                     \
    X(LONGSTR, 'S', "longstr")                                                                     \
    X(BINARY, 'x', "binary")                                                                       \
    X(TIMESTAMP, 'T', "timestamp")                                                                 \
    X(ARRAY, 'A', "array")                                                                         \
    X(TABLE, 'F', "table")                                                                         \
    X(VOID, 'V', "void")

enum wire_field {
#define WIRE_FIELD_ENUM(upper, letter, name) WIRE_FIELD_##upper = letter,
    WIRE_FIELD_TABLE(WIRE_FIELD_ENUM)
#undef WIRE_FIELD_ENUM
};

/* "longstr" for 'S' and so on; "unknown" otherwise. Static string. */
const char *wire_field_name(uint8_t letter);

/* One value. `raw` is its encoding without the type letter, so that it can be copied untouched. */
struct wire_value {
    uint8_t type; /* enum wire_field */
    struct bytes raw;
    union {
        bool boolean;
        int64_t integer;    /* all integer types; for INT64 too */
        uint64_t timestamp; /* seconds */
        double real;        /* FLOAT and DOUBLE */
        struct {
            uint8_t scale;
            uint32_t unscaled;
        } decimal;
        struct bytes bytes; /* LONGSTR, BINARY; ARRAY and TABLE: the content */
    };
};

/* True for the eight integer types (not timestamp). */
bool wire_value_is_integer(const struct wire_value *value);

/* -- Iteration over one level --------------------------------------------------------------------
 */

struct wire_table_iter {
    struct reader reader;
    enum wire_fault fault; /* Why it ended: WIRE_OK at the true end. */
    bool is_array;
};

void wire_table_iter_init(struct wire_table_iter *it, struct bytes table);
void wire_array_iter_init(struct wire_table_iter *it, struct bytes array);

/* Next field (an array's has an empty key); false at the end or at the first broken one. A nested
 * table or array is one value; iterate over value.bytes for its inside. */
bool wire_table_iter_next(struct wire_table_iter *it, struct bytes *ret_key,
                          struct wire_value *ret_value);

/* -- Look-up: the first field of that name counts
 * --------------------------------------------------- */

bool wire_table_find(struct bytes table, const char *key, struct wire_value *ret_value);
bool wire_table_find_bytes(struct bytes table, struct bytes key, struct wire_value *ret_value);

/* Typed: false when absent or of another type. An integer of any width; a LONGSTR; a bool. */
bool wire_table_get_integer(struct bytes table, const char *key, int64_t *ret_value);
bool wire_table_get_string(struct bytes table, const char *key, struct bytes *ret_value);
bool wire_table_get_bool(struct bytes table, const char *key, bool *ret_value);
bool wire_table_get_table(struct bytes table, const char *key, struct bytes *ret_table);
bool wire_table_get_array(struct bytes table, const char *key, struct bytes *ret_array);

/* -- Validation ----------------------------------------------------------------------------------
 */

#define WIRE_TABLE_DEPTH_MAX 16

struct wire_table_limits {
    uint32_t depth_max; /* Levels, the outer one included; at most WIRE_TABLE_DEPTH_MAX. */
    uint32_t items_max; /* Fields and array elements on all levels. */
    uint32_t size_max;  /* Bytes of the whole. */
};

#define WIRE_TABLE_LIMITS_DEFAULT                                                                  \
    ((struct wire_table_limits){WIRE_TABLE_DEPTH_MAX, 65536, 16 * 1024 * 1024})

/* Every level and every type letter. limits NULL: the defaults. */
WR_MUST_USE enum wire_fault wire_table_validate(struct bytes table,
                                                const struct wire_table_limits *limits);

/* -- Comparing ------------------------------------------------------------------------------------
 */

/*
 * Equality as the headers exchange sees it: by value, not by type letter. Integers of all widths
 * and timestamps are one kind, FLOAT and DOUBLE one, LONGSTR and BINARY one, an empty table and an
 * empty array one. Kinds never mix, but an integer equals the float that is the same number. Nested
 * tables and arrays are equal when they have equal fields of the same types in the same order.
 * False for broken ones and for nesting beyond WIRE_TABLE_DEPTH_MAX.
 */
bool wire_value_equal(const struct wire_value *a, const struct wire_value *b);

/* -- Building
 * -------------------------------------------------------------------------------------- */

/*
 * Table: for each field a key, then a value (wire_put_key + wire_value_put_*, or the
 * wire_table_put_* shorthands). Array: values only. Nested: wire_value_put_table_begin returns a
 * mark, then the inner fields, then wire_value_put_end(mark). Keys must fit in 255 bytes
 * (asserted).
 */
void wire_put_key(struct writer *w, struct bytes key);
void wire_value_put_bool(struct writer *w, bool value);
void wire_value_put_int32(struct writer *w, int32_t value);
void wire_value_put_int64(struct writer *w, int64_t value);
void wire_value_put_uint8(struct writer *w, uint8_t value);
void wire_value_put_double(struct writer *w, double value);
void wire_value_put_timestamp(struct writer *w, uint64_t seconds);
void wire_value_put_longstr(struct writer *w, struct bytes value);
void wire_value_put_void(struct writer *w);
/* Any decoded value, verbatim ('L' becomes 'l'). */
void wire_value_put(struct writer *w, const struct wire_value *value);
/* A nested table or array whose content is at hand. */
void wire_value_put_table(struct writer *w, struct bytes table);
void wire_value_put_array(struct writer *w, struct bytes array);
uint32_t wire_value_put_table_begin(struct writer *w);
uint32_t wire_value_put_array_begin(struct writer *w);
void wire_value_put_end(struct writer *w, uint32_t mark);

void wire_table_put_bool(struct writer *w, const char *key, bool value);
void wire_table_put_int32(struct writer *w, const char *key, int32_t value);
void wire_table_put_int64(struct writer *w, const char *key, int64_t value);
void wire_table_put_timestamp(struct writer *w, const char *key, uint64_t seconds);
void wire_table_put_string(struct writer *w, const char *key, struct bytes value);
void wire_table_put_cstr(struct writer *w, const char *key, const char *value);
uint32_t wire_table_put_table_begin(struct writer *w, const char *key);
uint32_t wire_table_put_array_begin(struct writer *w, const char *key);

/* Append all fields of `table` but those called `key` (a view); for headers without one field. */
void wire_table_put_without(struct writer *w, struct bytes table, struct bytes key);

/* Append the fields of a valid table in the order of their names, those of one name in the order
 * given, and what is true as 1: what RabbitMQ compares when it asks whether two tables are the same
 * arguments. What is nested stays as it is. */
void wire_table_put_sorted(struct writer *w, struct bytes table);

/* -- Text
 * --------------------------------------------------------------------------------------------- */

/* {a=signedint 1, b=longstr "x", c=table {d=void}, e=array [bool true]}, cut by the builder. What
 * is nested beyond WIRE_TABLE_DEPTH_MAX or broken shows as "...". */
void wire_describe_table(struct strbuf *s, struct bytes table);

/* The value alone, without its type name, as Erlang prints the term that RabbitMQ keeps: 60, true,
 * <<"text">>, 1.5, undefined, [{<<"key">>,signedint,1}], [{longstr,<<"text">>}]. For reply texts.
 */
void wire_describe_value(struct strbuf *s, const struct wire_value *value);

/* [["a","signedint",1],["c","table",[["d","void","undefined"]]],["e","array",[["bool",true]]]]: as
 * RabbitMQ's command line shows tables in JSON. Always JSON; the rest of a broken table is left
 * out. */
void wire_put_table_json(struct writer *w, struct bytes table);

#endif
