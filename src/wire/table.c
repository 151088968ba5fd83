/*
 * What: field tables and arrays: iterator, look-up, validation, comparison. (Building is in
 * table_writer.c, text in describe.c.)
 * Invariants: I1 nothing recurses: nested levels are kept on a fixed stack of WIRE_TABLE_DEPTH_MAX
 * iterators. I2 every read goes through the cursor of bytes.h, so that a broken table ends early
 * and never reads outside itself. I3 work is linear in the bytes given. Spec: docs/amqp-0-9-1.md,
 * "Field tables" (RabbitMQ's letters, which differ from the printed specification).
 */
#include "warren/wire_table.h"

const char *wire_field_name(uint8_t letter)
{
    switch (letter) {
#define FIELD_NAME(upper, field_letter, name)                                                      \
    case field_letter:                                                                             \
        return name;
        WIRE_FIELD_TABLE(FIELD_NAME)
#undef FIELD_NAME
    default:
        return "unknown";
    }
}

/* Kinds that compare with each other, whatever the letter. */
enum value_kind {
    KIND_INTEGER,
    KIND_REAL,
    KIND_STRING,
    KIND_BOOL,
    KIND_DECIMAL,
    KIND_ARRAY,
    KIND_TABLE,
    KIND_VOID,
};

static enum value_kind kind_of(uint8_t type)
{
    switch (type) {
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        return KIND_REAL;
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        return KIND_STRING;
    case WIRE_FIELD_BOOL:
        return KIND_BOOL;
    case WIRE_FIELD_DECIMAL:
        return KIND_DECIMAL;
    case WIRE_FIELD_ARRAY:
        return KIND_ARRAY;
    case WIRE_FIELD_TABLE:
        return KIND_TABLE;
    case WIRE_FIELD_VOID:
        return KIND_VOID;
    default:
        return KIND_INTEGER;
    }
}

bool wire_value_is_integer(const struct wire_value *value)
{
    return kind_of(value->type) == KIND_INTEGER && value->type != WIRE_FIELD_TIMESTAMP;
}

/* ---- iterator ---- */

void wire_table_iter_init(struct wire_table_iter *it, struct bytes table)
{
    *it = (struct wire_table_iter){.reader = reader_from(table)};
}

void wire_array_iter_init(struct wire_table_iter *it, struct bytes array)
{
    *it = (struct wire_table_iter){.reader = reader_from(array), .is_array = true};
}

static double read_real(struct reader *r, bool is_double)
{
    if (is_double) {
        const uint64_t bits = rd_be64(r);
        double value;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    const uint32_t bits = rd_be32(r);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return (double)value;
}

/* Read the value behind the type letter; false when the letter is unknown. */
static bool read_value(struct reader *r, struct wire_value *v)
{
    switch (v->type) {
    case WIRE_FIELD_BOOL:
        v->boolean = rd_u8(r) != 0;
        return true;
    case WIRE_FIELD_INT8:
        v->integer = (int8_t)rd_u8(r);
        return true;
    case WIRE_FIELD_UINT8:
        v->integer = rd_u8(r);
        return true;
    case WIRE_FIELD_INT16:
        v->integer = (int16_t)rd_be16(r);
        return true;
    case WIRE_FIELD_UINT16:
        v->integer = rd_be16(r);
        return true;
    case WIRE_FIELD_INT32:
        v->integer = (int32_t)rd_be32(r);
        return true;
    case WIRE_FIELD_UINT32:
        v->integer = rd_be32(r);
        return true;
    case WIRE_FIELD_INT64:
    case WIRE_FIELD_INT64_IN:
        v->integer = (int64_t)rd_be64(r);
        return true;
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        v->real = read_real(r, v->type == WIRE_FIELD_DOUBLE);
        return true;
    case WIRE_FIELD_DECIMAL:
        v->decimal.scale = rd_u8(r);
        v->decimal.unscaled = rd_be32(r);
        return true;
    case WIRE_FIELD_TIMESTAMP:
        v->timestamp = rd_be64(r);
        return true;
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
    case WIRE_FIELD_ARRAY:
    case WIRE_FIELD_TABLE: {
        const uint32_t size = rd_be32(r);
        v->bytes = rd_bytes(r, size);
        return true;
    }
    case WIRE_FIELD_VOID:
        v->bytes = BYTES_NONE;
        return true;
    default:
        return false;
    }
}

bool wire_table_iter_next(struct wire_table_iter *it, struct bytes *ret_key,
                          struct wire_value *ret_value)
{
    struct reader *r = &it->reader;
    if (r->failed || rd_left(r) == 0) {
        return false;
    }
    struct bytes key = BYTES_NONE;
    if (!it->is_array) {
        const uint8_t key_size = rd_u8(r);
        key = rd_bytes(r, key_size);
    }
    struct wire_value value = {.type = rd_u8(r)};
    const uint8_t *begin = r->at;
    if (!r->failed && WR_UNLIKELY(!read_value(r, &value))) {
        rd_fail(r);
        it->fault = WIRE_FAULT_TABLE_TYPE;
        return false;
    }
    if (WR_UNLIKELY(r->failed)) {
        it->fault = WIRE_FAULT_TABLE_TRUNCATED;
        return false;
    }
    value.raw = bytes_make(begin, (size_t)(r->at - begin));
    *ret_key = key;
    *ret_value = value;
    return true;
}

/* ---- look-up ---- */

bool wire_table_find_bytes(struct bytes table, struct bytes key, struct wire_value *ret_value)
{
    struct wire_table_iter it;
    struct bytes name;
    struct wire_value value;
    wire_table_iter_init(&it, table);
    while (wire_table_iter_next(&it, &name, &value)) {
        if (bytes_eq(name, key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool wire_table_find(struct bytes table, const char *key, struct wire_value *ret_value)
{
    return wire_table_find_bytes(table, bytes_from_cstr(key), ret_value);
}

bool wire_table_get_integer(struct bytes table, const char *key, int64_t *ret_value)
{
    struct wire_value value;
    if (!wire_table_find(table, key, &value) || !wire_value_is_integer(&value)) {
        return false;
    }
    *ret_value = value.integer;
    return true;
}

bool wire_table_get_bool(struct bytes table, const char *key, bool *ret_value)
{
    struct wire_value value;
    if (!wire_table_find(table, key, &value) || value.type != WIRE_FIELD_BOOL) {
        return false;
    }
    *ret_value = value.boolean;
    return true;
}

static bool get_bytes(struct bytes table, const char *key, uint8_t type, struct bytes *ret_value)
{
    struct wire_value value;
    if (!wire_table_find(table, key, &value) || value.type != type) {
        return false;
    }
    *ret_value = value.bytes;
    return true;
}

bool wire_table_get_string(struct bytes table, const char *key, struct bytes *ret_value)
{
    return get_bytes(table, key, WIRE_FIELD_LONGSTR, ret_value);
}

bool wire_table_get_table(struct bytes table, const char *key, struct bytes *ret_table)
{
    return get_bytes(table, key, WIRE_FIELD_TABLE, ret_table);
}

bool wire_table_get_array(struct bytes table, const char *key, struct bytes *ret_array)
{
    return get_bytes(table, key, WIRE_FIELD_ARRAY, ret_array);
}

/* ---- validation ---- */

static void iter_init_nested(struct wire_table_iter *it, const struct wire_value *value)
{
    if (value->type == WIRE_FIELD_ARRAY) {
        wire_array_iter_init(it, value->bytes);
    } else {
        wire_table_iter_init(it, value->bytes);
    }
}

enum wire_fault wire_table_validate(struct bytes table, const struct wire_table_limits *limits)
{
    const struct wire_table_limits l = limits == NULL ? WIRE_TABLE_LIMITS_DEFAULT : *limits;
    WR_ASSERT(l.depth_max > 0 && l.depth_max <= WIRE_TABLE_DEPTH_MAX);
    if (table.size > l.size_max) {
        return WIRE_FAULT_TABLE_SIZE;
    }
    struct wire_table_iter stack[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 1;
    uint32_t items = 0;
    wire_table_iter_init(&stack[0], table);
    while (depth > 0) {
        struct wire_table_iter *it = &stack[depth - 1];
        struct bytes key;
        struct wire_value value;
        if (!wire_table_iter_next(it, &key, &value)) {
            if (it->fault != WIRE_OK) {
                return it->fault;
            }
            depth--;
            continue;
        }
        if (++items > l.items_max) {
            return WIRE_FAULT_TABLE_ITEMS;
        }
        if (value.type == WIRE_FIELD_ARRAY || value.type == WIRE_FIELD_TABLE) {
            if (depth == l.depth_max) {
                return WIRE_FAULT_TABLE_DEPTH;
            }
            iter_init_nested(&stack[depth++], &value);
        }
    }
    return WIRE_OK;
}

/* ---- comparison ---- */

/* By value over the whole range of both: a timestamp is unsigned, everything else signed. */
static bool integers_equal(const struct wire_value *a, const struct wire_value *b)
{
    const bool a_negative = a->type != WIRE_FIELD_TIMESTAMP && a->integer < 0;
    const bool b_negative = b->type != WIRE_FIELD_TIMESTAMP && b->integer < 0;
    const uint64_t a_bits = a->type == WIRE_FIELD_TIMESTAMP ? a->timestamp : (uint64_t)a->integer;
    const uint64_t b_bits = b->type == WIRE_FIELD_TIMESTAMP ? b->timestamp : (uint64_t)b->integer;
    return a_negative == b_negative && a_bits == b_bits;
}

/* The same number, however it is written: 1 and 1.0 are. */
static bool integer_is_real(const struct wire_value *integer, double real)
{
    if (!(real >= -0x1p63 && real < 0x1p64)) {
        return false;
    }
    struct wire_value whole = {.type = WIRE_FIELD_INT64, .integer = 0};
    if (real < 0x1p63) {
        whole.integer = (int64_t)real;
        if ((double)whole.integer != real) {
            return false;
        }
    } else {
        whole.type = WIRE_FIELD_TIMESTAMP; /* the kind that has room for it */
        whole.timestamp = (uint64_t)real;
    }
    return integers_equal(integer, &whole);
}

/* In Erlang both are the empty list. */
static bool is_empty_list(const struct wire_value *v)
{
    const enum value_kind kind = kind_of(v->type);
    return (kind == KIND_ARRAY || kind == KIND_TABLE) && v->bytes.size == 0;
}

/* Within a nested value each one has its type beside it, which is compared, too: RabbitMQ's types,
 * of which both letters for 64 bits are one. */
static bool same_type(const struct wire_value *a, const struct wire_value *b)
{
    const uint8_t left = a->type == WIRE_FIELD_INT64_IN ? (uint8_t)WIRE_FIELD_INT64 : a->type;
    const uint8_t right = b->type == WIRE_FIELD_INT64_IN ? (uint8_t)WIRE_FIELD_INT64 : b->type;
    return left == right;
}

/* Everything but the inside of nested values; *ret_nested says that the insides must be compared.
 */
static bool flat_equal(const struct wire_value *a, const struct wire_value *b, bool *ret_nested)
{
    const enum value_kind kind = kind_of(a->type);
    *ret_nested = false;
    if (kind != kind_of(b->type)) {
        if (is_empty_list(a) && is_empty_list(b)) {
            return true;
        }
        if (kind == KIND_INTEGER && kind_of(b->type) == KIND_REAL) {
            return integer_is_real(a, b->real);
        }
        return kind == KIND_REAL && kind_of(b->type) == KIND_INTEGER && integer_is_real(b, a->real);
    }
    switch (kind) {
    case KIND_INTEGER:
        return integers_equal(a, b);
    case KIND_REAL:
        /* Exact, on purpose: a header matches when it is the same number, not a near one. */
        return a->real == b->real;
    case KIND_STRING:
        return bytes_eq(a->bytes, b->bytes);
    case KIND_BOOL:
        return a->boolean == b->boolean;
    case KIND_DECIMAL:
        return a->decimal.scale == b->decimal.scale && a->decimal.unscaled == b->decimal.unscaled;
    case KIND_VOID:
        return true;
    case KIND_ARRAY:
    case KIND_TABLE:
        *ret_nested = true;
        return true;
    }
    WR_UNREACHABLE();
}

bool wire_value_equal(const struct wire_value *a, const struct wire_value *b)
{
    bool nested;
    if (!flat_equal(a, b, &nested)) {
        return false;
    }
    if (!nested) {
        return true;
    }
    struct wire_table_iter left[WIRE_TABLE_DEPTH_MAX];
    struct wire_table_iter right[WIRE_TABLE_DEPTH_MAX];
    uint32_t depth = 1;
    iter_init_nested(&left[0], a);
    iter_init_nested(&right[0], b);
    while (depth > 0) {
        struct wire_table_iter *l = &left[depth - 1];
        struct wire_table_iter *r = &right[depth - 1];
        struct bytes left_key;
        struct bytes right_key;
        struct wire_value left_value;
        struct wire_value right_value;
        const bool more = wire_table_iter_next(l, &left_key, &left_value);
        if (more != wire_table_iter_next(r, &right_key, &right_value)) {
            return false;
        }
        if (!more) {
            if (l->fault != WIRE_OK || r->fault != WIRE_OK) {
                return false;
            }
            depth--;
            continue;
        }
        if (!bytes_eq(left_key, right_key) || !same_type(&left_value, &right_value) ||
            !flat_equal(&left_value, &right_value, &nested)) {
            return false;
        }
        if (nested) {
            if (depth == WIRE_TABLE_DEPTH_MAX) {
                return false;
            }
            iter_init_nested(&left[depth], &left_value);
            iter_init_nested(&right[depth], &right_value);
            depth++;
        }
    }
    return true;
}
