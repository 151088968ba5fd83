/*
 * What: fuzz target of catalog_restore: any bytes are refused or give a sound state, whose own
 * snapshot restores to the same bytes.
 */
#include "fuzz.h"

#include "warren/route.h"

#define INDEX 1000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct catalog *c = catalog_new(&route_index_ops, NULL, NULL);
    if (catalog_restore(c, INDEX, bytes_make(data, size)) == 0) {
        catalog_check(c);
        struct buf *first = buf_new(1024);
        struct buf *second = buf_new(1024);
        catalog_snapshot(c, &first);
        const int error = catalog_restore(c, INDEX, bytes_make(first->data, first->size));
        WR_ASSERT(error == 0);
        catalog_snapshot(c, &second);
        WR_ASSERT(
            bytes_eq(bytes_make(first->data, first->size), bytes_make(second->data, second->size)));
        buf_unref(first);
        buf_unref(second);
    }
    catalog_free(c);
    return 0;
}
