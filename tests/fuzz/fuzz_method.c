/*
 * What: fuzz target of the method decoder. What decodes must encode, to bytes that decode to a
 * method that encodes to the same bytes (reserved fields and unused bits may differ from the
 * input).
 */
#include "fuzz.h"

#include "warren/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_method method;
    const enum wire_fault fault = wire_method_decode(bytes_make(data, size), &method);
    WR_ASSERT(wire_fault_code(fault) != 0 && wire_fault_text(fault) != NULL);
    if (fault != WIRE_OK) {
        return 0;
    }
    char array[1024];
    struct strbuf text;
    strbuf_init(&text, array, sizeof(array));
    wire_describe_method(&text, &method);
    WR_ASSERT(memchr(array, '\n', text.size) == NULL);

    const size_t first_size = wire_method_size(&method);
    WR_ASSERT_OP(first_size, <=, size); /* reserved strings become empty */
    uint8_t *first = wr_alloc(first_size);
    WR_ASSERT(wire_method_write(first, &method) == first + first_size);
    struct wire_method again;
    const enum wire_fault second_fault = wire_method_decode(bytes_make(first, first_size), &again);
    WR_ASSERT(second_fault == WIRE_OK && again.id == method.id);
    WR_ASSERT_OP(wire_method_size(&again), ==, first_size);
    uint8_t *second = wr_alloc(first_size);
    WR_ASSERT(wire_method_write(second, &again) == second + first_size);
    WR_ASSERT(memcmp(first, second, first_size) == 0);
    wr_free(first);
    wr_free(second);
    return 0;
}
