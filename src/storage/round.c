/*
 * What: gathers waiting batches into one round and starts to write it.
 *
 * Happy path: pass one chooses as many items as fit (the segment, LOG_ROUND_MAX); pass two encodes
 * headers and small payloads into one buffer and takes big payloads as slices: one vectored write.
 * A record that is too big for the room that is left ends the segment; one that is too big for an
 * empty segment makes that segment bigger.
 *
 * Invariants
 * I1  A round lies within one segment and leaves SEGMENT_RESERVE for a last empty round.
 * I2  Nothing in the waiting list changes here: a round that could not be written is gathered anew.
 * I3  ROUND_END is set only when the next segment is prepared (and that is durable).
 *
 * Ownership: the slices given to file_write hold references of their own.
 */
#include "log_internal.h"

#include "warren/err.h"

struct gathering {
    struct mail *stop;  /* the batch with the first item that is not taken; NULL = all are */
    uint32_t stop_item; /* that item */
    uint32_t batches;   /* whole batches before `stop` */
    uint64_t size;      /* of the round, with its header */
    uint64_t buffer;    /* bytes that go into the buffer: headers and small payloads */
    uint32_t records;
    uint64_t refused; /* bytes of the record that did not fit the segment; 0 = all fit */
};

static uint64_t record_size(const struct log_item *item)
{
    return RECORD_HEADER_SIZE + (uint64_t)item->payload.size;
}

/* Bytes that a round in the active segment may have. */
static uint64_t room(const struct log *log)
{
    const uint64_t end = log->active.size & ~(uint64_t)(SEGMENT_ALIGN - 1);
    const uint64_t used = (uint64_t)log->active.offset + SEGMENT_RESERVE;
    return end > used ? end - used : 0;
}

static struct gathering gather(const struct log *log)
{
    const uint64_t limit = room(log);
    struct gathering g = {.size = ROUND_HEADER_SIZE, .buffer = ROUND_HEADER_SIZE};
    uint32_t i = log->head_items;
    for (struct mail *mail = log->waiting; mail != NULL; mail = mail->next, i = 0) {
        const struct log_batch *batch = log__batch(mail);
        for (; i < batch->count; i++) {
            const uint64_t size = record_size(&batch->items[i]);
            const bool fits = g.size + size <= limit;
            if (!fits || (g.records > 0 && g.size + size > LOG_ROUND_MAX)) {
                g.stop = mail;
                g.stop_item = i;
                g.refused = fits ? 0 : size;
                return g;
            }
            g.size += size;
            g.buffer +=
                size -
                (batch->items[i].payload.size > LOG_COPY_MAX ? batch->items[i].payload.size : 0);
            g.records++;
        }
        g.batches++;
    }
    return g;
}

/* The round's buffer: the last one again, if nobody holds it any more and it is big enough. */
static void take_buffer(struct log *log, uint64_t size)
{
    struct buf *buffer = log->buffer;
    if (buffer == NULL || buf_is_shared(buffer) || buffer->capacity < size ||
        (size <= LOG_BUFFER_KEEP && buffer->capacity > LOG_BUFFER_KEEP)) {
        buf_unref(buffer);
        log->buffer = buf_new(size < BUF_CHUNK_SIZE ? BUF_CHUNK_SIZE : size);
    }
    log->buffer->size = 0;
}

/* The bytes [from, buffer->size) become the next slice. */
static uint32_t cut(struct log *log, uint32_t from)
{
    struct buf *buffer = log->buffer;
    if (buffer->size > from) {
        vec_push(&log->slices, (struct slice){buf_ref(buffer), from, buffer->size - from});
    }
    return buffer->size;
}

static void encode(struct log *log, const struct gathering *g)
{
    struct buf *buffer = log->buffer;
    const struct round_header *header = &log->round.header;
    const uint32_t seed = record_seed(header->salt);
    uint32_t at = header->offset + ROUND_HEADER_SIZE; /* in the segment */
    uint32_t from = 0;
    uint32_t i = log->head_items;
    buffer->size = ROUND_HEADER_SIZE;
    for (struct mail *mail = log->waiting; mail != NULL; mail = mail->next, i = 0) {
        struct log_batch *batch = log__batch(mail);
        const uint32_t end = mail == g->stop ? g->stop_item : batch->count;
        for (; i < end; i++) {
            struct log_item *item = &batch->items[i];
            const uint32_t size = item->payload.size;
            record_encode(buffer->data + buffer->size, item, header->crc, seed);
            buffer->size += RECORD_HEADER_SIZE;
            item->position = (struct log_position){log->active.number, at + RECORD_HEADER_SIZE};
            if (size > LOG_COPY_MAX) {
                from = cut(log, from);
                vec_push(&log->slices, slice_ref(&item->payload));
            } else if (size > 0) {
                memcpy(buffer->data + buffer->size, slice_data(&item->payload), size);
                buffer->size += size;
            }
            at += RECORD_HEADER_SIZE + size;
        }
        if (mail == g->stop) {
            break;
        }
    }
    WR_ASSERT_OP(at, ==, header->offset + header->size);
    const uint32_t padding = (uint32_t)(segment_align(header->size) - header->size);
    memset(buffer->data + buffer->size, 0, padding);
    buffer->size += padding;
    (void)cut(log, from);
}

/* Makes the empty active segment big enough for a record of this size. */
static int extend(struct log *log, uint64_t size)
{
    const uint64_t need =
        SEGMENT_HEADER_SIZE + segment_align(ROUND_HEADER_SIZE + size) + SEGMENT_RESERVE;
    WR_ASSERT_OP(need, <=, UINT32_MAX);
    const int error = log->env->ops->file_allocate(log->active.file, need);
    if (error == 0) {
        log->active.size = need;
    }
    return error;
}

static void write_round(struct log *log, const struct gathering *g, uint32_t flags)
{
    struct round *round = &log->round;
    round->header = (struct round_header){
        .salt = log->active.salt,
        .number = log->round_number,
        .offset = log->active.offset,
        .size = (uint32_t)g->size,
        .count = g->records,
        .durable = log->durable,
        .nonce = log->nonce,
        .flags = flags,
    };
    round->batches = g->batches;
    round->items = g->stop_item;
    round->records = g->records;
    take_buffer(log, g->buffer + SEGMENT_ALIGN);
    round_header_encode(&round->header, log->buffer->data);
    vec_clear(&log->slices);
    encode(log, g);
    round->state = ROUND_WRITING;
    log->env->ops->file_write(log->active.file, log->slices.items, (uint32_t)log->slices.count,
                              log->active.offset, TOKEN_ROUND_WRITE);
}

enum round_outcome round__start(struct log *log, bool mark)
{
    WR_ASSERT(log->round.state == ROUND_IDLE);
    if (log->waiting == NULL && !mark) {
        return ROUND_NOTHING;
    }
    if (log->active.number == 0) {
        return ROUND_NO_SEGMENT;
    }
    struct gathering g = gather(log);
    const bool ready = log->prepared.number != 0;
    if (log->waiting == NULL) {
        if (room(log) < SEGMENT_ALIGN) {
            return ROUND_NOTHING; /* no room for a mark: the next segment will be the proof */
        }
    } else if (g.records == 0) {
        if (log->active.offset == SEGMENT_HEADER_SIZE) {
            const int error = extend(log, g.refused);
            if (error == WR_E_NOSPACE) {
                return ROUND_NO_SPACE;
            }
            if (error != 0) {
                log__fail(log, "the segment cannot be extended", error);
                return ROUND_NOTHING;
            }
            g = gather(log);
            WR_ASSERT_OP(g.records, >, 0);
        } else if (!ready) {
            return ROUND_NO_SEGMENT;
        }
    }
    write_round(log, &g, g.refused != 0 && ready ? ROUND_END : 0);
    return ROUND_STARTED;
}
