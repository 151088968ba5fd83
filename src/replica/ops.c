/*
 * What: small helpers over queue ops and runs of message references.
 * Runs of messages usually lie in one buffer, so their references are counted with one atomic
 * operation per buffer and not one per message: between shards a contended count is what a message
 * would cost most for. Ownership: an op kept by src/replica owns a reference of its message and
 * copies of its name and args. Threads: any, as for buf_ref.
 */
#include "warren/buf.h"
#include "warren/mem.h"

#include "parcel.h"

void op_release(struct queue_op *op)
{
    buf_unref(op->message.record.buf);
    if (op->name.data != NULL) {
        wr_free((void *)(uintptr_t)op->name.data);
    }
    if (op->args.data != NULL) {
        wr_free((void *)(uintptr_t)op->args.data);
    }
    op->message.record = SLICE_NONE;
    op->name = BYTES_NONE;
    op->args = BYTES_NONE;
}

void ops_release(struct queue_op *ops, size_t count)
{
    size_t i = 0;
    while (i < count) {
        struct buf *b = ops[i].message.record.buf;
        uint32_t run = 0;
        while (i < count && ops[i].message.record.buf == b && ops[i].name.data == NULL &&
               ops[i].args.data == NULL) {
            run++;
            i++;
        }
        if (b != NULL && run > 0) {
            buf_unref_many(b, run);
        }
        if (i < count && (ops[i].name.data != NULL || ops[i].args.data != NULL)) {
            op_release(&ops[i]);
            i++;
        }
    }
}

void buf_ref_many(struct buf *b, uint32_t n)
{
    atomic_fetch_add_explicit(&b->refs, n, memory_order_relaxed);
}

void buf_unref_many(struct buf *b, uint32_t n)
{
    WR_ASSERT(n > 0);
    if (n > 1) {
        /* All but the last: at least one stays, so nothing can be freed here. */
        atomic_fetch_sub_explicit(&b->refs, n - 1, memory_order_acq_rel);
    }
    buf_unref(b);
}

void slices_ref(const struct slice *slices, size_t count)
{
    for (size_t i = 0; i < count;) {
        struct buf *b = slices[i].buf;
        uint32_t run = 0;
        while (i < count && slices[i].buf == b) {
            run++;
            i++;
        }
        if (b != NULL) {
            buf_ref_many(b, run);
        }
    }
}

void slices_unref(const struct slice *slices, size_t count)
{
    for (size_t i = 0; i < count;) {
        struct buf *b = slices[i].buf;
        uint32_t run = 0;
        while (i < count && slices[i].buf == b) {
            run++;
            i++;
        }
        if (b != NULL) {
            buf_unref_many(b, run);
        }
    }
}
