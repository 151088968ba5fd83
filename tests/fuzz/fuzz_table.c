/*
 * What: fuzz target of field tables: validation, iteration, look-up, comparison, copying and text
 * must agree with each other on any bytes.
 */
#include "fuzz.h"

#include "warren/wire_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes table = bytes_make(data, size);
    const enum wire_fault fault = wire_table_validate(table, NULL);
    char array[512];
    struct strbuf text;
    strbuf_init(&text, array, sizeof(array));
    wire_describe_table(&text, table);
    WR_ASSERT(memchr(array, '\n', text.size) == NULL);

    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    struct wire_value found;
    uint64_t count = 0;
    wire_table_iter_init(&it, table);
    /* The look-up is linear: bounded here, so that the target is too. */
    while (wire_table_iter_next(&it, &key, &value) && count++ < 64) {
        WR_ASSERT(wire_table_find_bytes(table, key, &found));
        (void)wire_value_equal(&value, &found);
        if (fault == WIRE_OK && value.type != WIRE_FIELD_FLOAT && value.type != WIRE_FIELD_DOUBLE &&
            value.type != WIRE_FIELD_ARRAY && value.type != WIRE_FIELD_TABLE) {
            WR_ASSERT(wire_value_equal(&value, &value));
        }
    }
    WR_ASSERT(fault != WIRE_OK || it.fault == WIRE_OK);

    struct writer w;
    writer_init(&w, size + 16);
    wire_table_put_without(&w, table, BYTES_LITERAL("x-death"));
    const enum wire_fault copy_fault = wire_table_validate(writer_bytes(&w), NULL);
    WR_ASSERT(fault != WIRE_OK || copy_fault == WIRE_OK);
    WR_ASSERT_OP(writer_size(&w), <=, size);
    writer_deinit(&w);
    return 0;
}
