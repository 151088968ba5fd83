/*
 * What: fuzz target of field tables: validation, iteration, look-up, comparison, copying, text and
 * JSON must agree with each other on any bytes.
 */
#include "fuzz.h"

#include "warren/wire_table.h"

/* Brackets match outside of strings, strings end, and nothing of the input breaks the line. */
static void check_json(struct bytes table)
{
    struct writer w;
    writer_init(&w, 64);
    wire_put_table_json(&w, table);
    const struct bytes text = writer_bytes(&w);
    uint64_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        WR_ASSERT(c >= 0x20);
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[') {
            depth++;
        } else if (c == ']') {
            WR_ASSERT(depth > 0);
            depth--;
        }
    }
    WR_ASSERT(depth == 0 && !quoted);
    writer_deinit(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes table = bytes_make(data, size);
    const enum wire_fault fault = wire_table_validate(table, NULL);
    char array[512];
    struct strbuf text;
    strbuf_init(&text, array, sizeof(array));
    wire_describe_table(&text, table);
    WR_ASSERT(memchr(array, '\n', text.size) == NULL);
    check_json(table);

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
