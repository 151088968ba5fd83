/*
 * What: fuzz target of the catalog's commands: the input is a run of commands, each with its size
 * (two bytes, big-endian) before it, as a log could hold them. Whatever decodes must encode to the
 * same bytes; whatever is applied must leave a sound state, of which a snapshot restores to the
 * same bytes.
 */
#include "fuzz.h"

#include "warren/route.h"

static struct buf *snapshot_of(const struct catalog *c)
{
    struct buf *out = buf_new(1024);
    catalog_snapshot(c, &out);
    return out;
}

static void must_be_equal(struct bytes a, struct bytes b)
{
    WR_ASSERT(bytes_eq(a, b));
}

static void apply_one(struct catalog *c, uint64_t index, struct bytes input)
{
    struct catalog_command command;
    struct catalog_result result;
    if (catalog_command_decode(input, &command) == 0) {
        struct buf *again = buf_new(256);
        catalog_command_encode(&again, &command);
        must_be_equal(input, bytes_make(again->data, again->size));
        buf_unref(again);
    }
    (void)!catalog_apply_bytes(c, index, input, &result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct catalog *c = catalog_new(&route_index_ops, NULL, NULL);
    struct catalog *other = catalog_new(&route_index_ops, NULL, NULL);
    struct catalog_view *held = NULL;
    struct reader r = reader_make(data, size);
    uint64_t index = 0;
    while (rd_left(&r) > 0) {
        const struct bytes command = rd_bytes(&r, rd_be16(&r));
        apply_one(c, ++index, command);
        if (index % 3 == 0) { /* Both ways of editing: in place, and beside a view that is held. */
            catalog_view_unref(held);
            held = catalog_view_take(c);
        }
    }
    catalog_check(c);
    struct buf *snapshot = snapshot_of(c);
    const int error = catalog_restore(other, index, bytes_make(snapshot->data, snapshot->size));
    WR_ASSERT(error == 0);
    catalog_check(other);
    struct buf *again = snapshot_of(other);
    must_be_equal(bytes_make(snapshot->data, snapshot->size), bytes_make(again->data, again->size));
    buf_unref(again);
    buf_unref(snapshot);
    catalog_view_unref(held);
    catalog_free(other);
    catalog_free(c);
    return 0;
}
