/*
 * What: building of field tables and arrays in a writer.
 * Invariants: I1 a nested value begun is ended by its mark before the outer one is ended; its
 * length is filled in then. I2 only letters that RabbitMQ itself writes are written. Ownership: the
 * writer is the caller's; strings are copied. Spec: docs/amqp-0-9-1.md, "Field tables".
 */
#include <stdlib.h>

#include "warren/vec.h"
#include "warren/wire_table.h"

#include "wire_internal.h"

void wire_put_key(struct writer *w, struct bytes key)
{
    WR_ASSERT_OP(key.size, <=, 255);
    (void)wire__store_shortstr(put_space(w, 1 + key.size), key);
}

void wire_value_put_bool(struct writer *w, bool value)
{
    put_u8(w, WIRE_FIELD_BOOL);
    put_u8(w, value ? 1 : 0);
}

void wire_value_put_int32(struct writer *w, int32_t value)
{
    put_u8(w, WIRE_FIELD_INT32);
    put_be32(w, (uint32_t)value);
}

void wire_value_put_int64(struct writer *w, int64_t value)
{
    put_u8(w, WIRE_FIELD_INT64);
    put_be64(w, (uint64_t)value);
}

void wire_value_put_uint8(struct writer *w, uint8_t value)
{
    put_u8(w, WIRE_FIELD_UINT8);
    put_u8(w, value);
}

void wire_value_put_double(struct writer *w, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_u8(w, WIRE_FIELD_DOUBLE);
    put_be64(w, bits);
}

void wire_value_put_timestamp(struct writer *w, uint64_t seconds)
{
    put_u8(w, WIRE_FIELD_TIMESTAMP);
    put_be64(w, seconds);
}

/* A letter, the length, the bytes. */
static void put_sized(struct writer *w, uint8_t letter, struct bytes value)
{
    WR_ASSERT_OP(value.size, <=, UINT32_MAX);
    put_u8(w, letter);
    put_be32(w, (uint32_t)value.size);
    put_view(w, value);
}

void wire_value_put_longstr(struct writer *w, struct bytes value)
{
    put_sized(w, WIRE_FIELD_LONGSTR, value);
}

void wire_value_put_void(struct writer *w)
{
    put_u8(w, WIRE_FIELD_VOID);
}

void wire_value_put(struct writer *w, const struct wire_value *value)
{
    put_u8(w, value->type == WIRE_FIELD_INT64_IN ? WIRE_FIELD_INT64 : value->type);
    put_view(w, value->raw);
}

void wire_value_put_table(struct writer *w, struct bytes table)
{
    put_sized(w, WIRE_FIELD_TABLE, table);
}

void wire_value_put_array(struct writer *w, struct bytes array)
{
    put_sized(w, WIRE_FIELD_ARRAY, array);
}

/* The mark is where the length goes. */
static uint32_t begin_nested(struct writer *w, uint8_t letter)
{
    put_u8(w, letter);
    const uint32_t mark = writer_size(w);
    put_be32(w, 0);
    return mark;
}

uint32_t wire_value_put_table_begin(struct writer *w)
{
    return begin_nested(w, WIRE_FIELD_TABLE);
}

uint32_t wire_value_put_array_begin(struct writer *w)
{
    return begin_nested(w, WIRE_FIELD_ARRAY);
}

void wire_value_put_end(struct writer *w, uint32_t mark)
{
    const uint32_t size = writer_size(w);
    WR_ASSERT(size >= 4 && mark <= size - 4);
    bytes_store_be32(w->buf->data + mark, size - mark - 4);
}

void wire_table_put_bool(struct writer *w, const char *key, bool value)
{
    wire_put_key(w, bytes_from_cstr(key));
    wire_value_put_bool(w, value);
}

void wire_table_put_int32(struct writer *w, const char *key, int32_t value)
{
    wire_put_key(w, bytes_from_cstr(key));
    wire_value_put_int32(w, value);
}

void wire_table_put_int64(struct writer *w, const char *key, int64_t value)
{
    wire_put_key(w, bytes_from_cstr(key));
    wire_value_put_int64(w, value);
}

void wire_table_put_timestamp(struct writer *w, const char *key, uint64_t seconds)
{
    wire_put_key(w, bytes_from_cstr(key));
    wire_value_put_timestamp(w, seconds);
}

void wire_table_put_string(struct writer *w, const char *key, struct bytes value)
{
    wire_put_key(w, bytes_from_cstr(key));
    wire_value_put_longstr(w, value);
}

void wire_table_put_cstr(struct writer *w, const char *key, const char *value)
{
    wire_table_put_string(w, key, bytes_from_cstr(value));
}

uint32_t wire_table_put_table_begin(struct writer *w, const char *key)
{
    wire_put_key(w, bytes_from_cstr(key));
    return wire_value_put_table_begin(w);
}

uint32_t wire_table_put_array_begin(struct writer *w, const char *key)
{
    wire_put_key(w, bytes_from_cstr(key));
    return wire_value_put_array_begin(w);
}

void wire_table_put_without(struct writer *w, struct bytes table, struct bytes key)
{
    struct wire_table_iter it;
    struct bytes name;
    struct wire_value value;
    wire_table_iter_init(&it, table);
    while (wire_table_iter_next(&it, &name, &value)) {
        if (!bytes_eq(name, key)) {
            wire_put_key(w, name);
            wire_value_put(w, &value);
        }
    }
}

struct field {
    struct bytes name;
    struct wire_value value;
    size_t place; /* qsort is not stable */
};

static int by_name(const void *left, const void *right)
{
    const struct field *a = left;
    const struct field *b = right;
    const int order = bytes_cmp(a->name, b->name);
    return order != 0 ? order : a->place < b->place ? -1 : 1;
}

void wire_table_put_sorted(struct writer *w, struct bytes table)
{
    struct wire_table_iter it;
    VEC(struct field) fields = {0};
    struct field field;
    wire_table_iter_init(&it, table);
    while (wire_table_iter_next(&it, &field.name, &field.value)) {
        field.place = fields.count;
        vec_push(&fields, field);
    }
    if (fields.count > 1) {
        qsort(fields.items, fields.count, sizeof *fields.items, by_name);
    }
    for (size_t i = 0; i < fields.count; i++) {
        wire_put_key(w, fields.items[i].name);
        if (fields.items[i].value.type == WIRE_FIELD_BOOL) {
            wire_value_put_bool(w, fields.items[i].value.boolean); /* any octet but 0 is true */
        } else {
            wire_value_put(w, &fields.items[i].value);
        }
    }
    vec_deinit(&fields);
}
