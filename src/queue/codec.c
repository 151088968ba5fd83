/*
 * What: the encoding of batches, the same in the log and on links.
 *
 *   batch:  varint client (0: from the host), varint number of ops (1 to 65536), the ops
 *   op:     u8 head: bits 0-4 kind, bit 5 a flags byte follows, bit 7 a varint seq follows (else it
 *           is one more than that of the op before; the host's ops have none); the flags; the seq;
 *           then by kind:
 *   ENQUEUE by flag: QUEUE_HAS_PUBLISHER name (1 to 255 bytes), first (1 to 2^63 - 1);
 *           QUEUE_HAS_ID args (1 to 255 bytes); QUEUE_HAS_DELAY limit (> 0); then the message
 *           record (it begins with its size). No other flags.
 *   ATTACH  varints consumer, prefetch, limit + 1, zigzag priority; name; args (each varint size +
 *           bytes)
 *   DETACH  consumer              CREDIT  consumer, limit + 1       LIMIT   limit
 *   SETTLE  consumer, first, count, u8 outcome
 *   TAKE    first, count, u8 places        PEEK    the same
 *   NODE_*  boot                  CONFIG  args                      SUSPECT count
 *   GET, PURGE, SEAL, UNSEAL, CLOSE, TOUCH, EXPIRE, RENEW: nothing
 *
 * Failure modes: the reader takes untrusted bytes: whatever it returns can be applied.
 * Ownership: what the reader returns points into its owner buffer and its scratch array.
 */
#include "queue_internal.h"

#include "warren/err.h"

#define HEAD_KIND  0x1fu
#define HEAD_FLAGS 0x20u
#define HEAD_SEQ   0x80u
#define HEAD_KNOWN (HEAD_KIND | HEAD_FLAGS | HEAD_SEQ)

#define SCRATCH_MIN 16u

#define ENQUEUE_FLAGS_KNOWN (QUEUE_HAS_PUBLISHER | QUEUE_HAS_ID | QUEUE_HAS_DELAY)
#define PLACES_KNOWN        (QUEUE_PLACE_READY | QUEUE_PLACE_DELAYED | QUEUE_PLACE_DEAD)
#define NAME_MAX_SIZE       255u /* Of a publisher and of a message id. */

/* An unlimited one (UINT64_MAX) becomes 0: one byte instead of ten. */
static void put_limit(struct writer *w, uint64_t limit)
{
    put_varint(w, limit + 1);
}

static uint64_t get_limit(struct reader *r)
{
    return rd_varint(r) - 1;
}

static uint32_t get_u32(struct reader *r)
{
    const uint64_t value = rd_varint(r);
    if (value > UINT32_MAX) {
        rd_fail(r);
        return 0;
    }
    return (uint32_t)value;
}

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)((value >> 1) ^ ((value & 1) != 0 ? UINT64_MAX : 0));
}

static bool kind_fits(uint64_t client, uint8_t kind)
{
    return client == 0 ? queue_op_is_of_host(kind) : queue_op_is_of_client(kind);
}

static void put_enqueue(struct writer *w, const struct queue_op *op)
{
    WR_ASSERT((op->flags & ~ENQUEUE_FLAGS_KNOWN) == 0);
    if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
        WR_ASSERT(op->name.size > 0 && op->name.size <= NAME_MAX_SIZE);
        WR_ASSERT(op->first > 0 && op->first <= INT64_MAX);
        put_varbytes(w, op->name);
        put_varint(w, op->first);
    }
    if ((op->flags & QUEUE_HAS_ID) != 0) {
        WR_ASSERT(op->args.size > 0 && op->args.size <= NAME_MAX_SIZE);
        put_varbytes(w, op->args);
    }
    if ((op->flags & QUEUE_HAS_DELAY) != 0) {
        WR_ASSERT(op->limit > 0);
        put_varint(w, op->limit);
    }
    put_view(w, bytes_from_slice(&op->message.record));
}

/* The part of the op that depends on its kind. */
static void put_op_body(struct writer *w, const struct queue_op *op)
{
    switch ((enum queue_op_kind)op->kind) {
    case QUEUE_OP_ENQUEUE:
        put_enqueue(w, op);
        break;
    case QUEUE_OP_ATTACH:
        put_varint(w, op->consumer);
        put_varint(w, op->prefetch);
        put_limit(w, op->limit);
        put_varint(w, zigzag(op->priority));
        put_varbytes(w, op->name);
        put_varbytes(w, op->args);
        break;
    case QUEUE_OP_DETACH:
        put_varint(w, op->consumer);
        break;
    case QUEUE_OP_CREDIT:
        put_varint(w, op->consumer);
        put_limit(w, op->limit);
        break;
    case QUEUE_OP_SETTLE:
        put_varint(w, op->consumer);
        put_varint(w, op->first);
        put_varint(w, op->count);
        put_u8(w, op->outcome);
        break;
    case QUEUE_OP_TAKE:
    case QUEUE_OP_PEEK:
        put_varint(w, op->first);
        put_varint(w, op->count);
        put_u8(w, op->outcome);
        break;
    case QUEUE_OP_LIMIT:
        put_varint(w, op->limit);
        break;
    case QUEUE_OP_NODE_DOWN:
    case QUEUE_OP_NODE_UP:
    case QUEUE_OP_NODE_GONE:
        put_varint(w, op->first);
        break;
    case QUEUE_OP_CONFIG:
        put_varbytes(w, op->args);
        break;
    case QUEUE_OP_SUSPECT:
        put_varint(w, op->count);
        break;
    case QUEUE_OP_GET:
    case QUEUE_OP_PURGE:
    case QUEUE_OP_SEAL:
    case QUEUE_OP_UNSEAL:
    case QUEUE_OP_CLOSE:
    case QUEUE_OP_TOUCH:
    case QUEUE_OP_EXPIRE:
    case QUEUE_OP_RENEW:
        break;
    default:
        WR_UNREACHABLE();
    }
}

static void put_ops(struct writer *w, uint64_t client, const struct queue_op *ops, uint32_t count)
{
    uint64_t seq = 0;
    put_varint(w, client);
    put_varint(w, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct queue_op *op = &ops[i];
        WR_ASSERT(kind_fits(client, op->kind));
        const bool explicit_seq = client != 0 && op->seq != seq + 1;
        put_u8(w, (uint8_t)(op->kind | (op->flags != 0 ? HEAD_FLAGS : 0u) |
                            (explicit_seq ? HEAD_SEQ : 0u)));
        if (op->flags != 0) {
            put_u8(w, op->flags);
        }
        if (explicit_seq) {
            put_varint(w, op->seq);
        }
        seq = op->seq;
        put_op_body(w, op);
    }
}

void queue_batch_encode(struct buf **out, const struct queue_batch *batch)
{
    struct writer w = {*out};
    /* More ops than a reader takes at once become several batches: the effect is the same. */
    for (uint32_t done = 0; done < batch->count;) {
        const uint32_t left = batch->count - done;
        const uint32_t count = left < QUEUE_BATCH_OPS_MAX ? left : QUEUE_BATCH_OPS_MAX;
        put_ops(&w, batch->client, batch->ops + done, count);
        done += count;
    }
    *out = w.buf;
}

void queue_batch_reader_init(struct queue_batch_reader *r, struct buf *owner, uint32_t begin,
                             uint32_t end)
{
    WR_ASSERT_OP(begin, <=, end);
    WR_ASSERT_OP(end, <=, owner->capacity);
    *r = (struct queue_batch_reader){.owner = owner, .at = begin, .end = end};
}

void queue_batch_reader_deinit(struct queue_batch_reader *r)
{
    wr_free(r->ops);
    *r = (struct queue_batch_reader){.owner = NULL};
}

/* The record is checked and becomes a slice of the owner. */
static void get_message(struct reader *r, struct buf *owner, struct message *ret_message)
{
    if (rd_left(r) < MESSAGE_HEADER_SIZE) {
        rd_fail(r);
        return;
    }
    const uint32_t size = bytes_load_le32(r->at);
    const struct bytes record = rd_bytes(r, size);
    if (r->failed || message_check(record) != 0) {
        rd_fail(r);
        return;
    }
    ret_message->record = (struct slice){owner, (uint32_t)(record.data - owner->data), size};
}

static struct bytes get_name(struct reader *r)
{
    const struct bytes name = rd_varbytes(r);
    if (name.size == 0 || name.size > NAME_MAX_SIZE) {
        rd_fail(r);
    }
    return name;
}

static uint64_t get_positive(struct reader *r, uint64_t max)
{
    const uint64_t value = rd_varint(r);
    if (value == 0 || value > max) {
        rd_fail(r);
    }
    return value;
}

static void get_enqueue(struct reader *r, struct buf *owner, struct queue_op *op)
{
    if (op->flags != 0) {
        if ((op->flags & ~ENQUEUE_FLAGS_KNOWN) != 0) {
            rd_fail(r);
        }
        if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
            op->name = get_name(r);
            op->first = get_positive(r, INT64_MAX);
        }
        if ((op->flags & QUEUE_HAS_ID) != 0) {
            op->args = get_name(r);
        }
        if ((op->flags & QUEUE_HAS_DELAY) != 0) {
            op->limit = get_positive(r, UINT64_MAX);
        }
    }
    get_message(r, owner, &op->message);
}

static void get_places(struct reader *r, struct queue_op *op)
{
    op->first = rd_varint(r);
    op->count = rd_varint(r);
    op->outcome = rd_u8(r);
    if ((op->outcome & ~PLACES_KNOWN) != 0) {
        rd_fail(r);
    }
}

static void get_attach(struct reader *r, struct queue_op *op)
{
    op->consumer = get_u32(r);
    op->prefetch = get_u32(r);
    op->limit = get_limit(r);
    const int64_t priority = unzigzag(rd_varint(r));
    if (priority < INT32_MIN || priority > INT32_MAX) {
        rd_fail(r);
        return;
    }
    op->priority = (int32_t)priority;
    op->name = rd_varbytes(r);
    op->args = rd_varbytes(r);
}

static void get_settle(struct reader *r, struct queue_op *op)
{
    op->consumer = get_u32(r);
    op->first = rd_varint(r);
    op->count = rd_varint(r);
    op->outcome = rd_u8(r);
    if (op->outcome < QUEUE_ACK || op->outcome > QUEUE_RELEASE) {
        rd_fail(r);
    }
}

static void get_op_body(struct reader *r, struct buf *owner, struct queue_op *op)
{
    struct queue_config config;
    switch ((enum queue_op_kind)op->kind) {
    case QUEUE_OP_ENQUEUE:
        get_enqueue(r, owner, op);
        break;
    case QUEUE_OP_ATTACH:
        get_attach(r, op);
        break;
    case QUEUE_OP_DETACH:
        op->consumer = get_u32(r);
        break;
    case QUEUE_OP_CREDIT:
        op->consumer = get_u32(r);
        op->limit = get_limit(r);
        break;
    case QUEUE_OP_SETTLE:
        get_settle(r, op);
        break;
    case QUEUE_OP_TAKE:
    case QUEUE_OP_PEEK:
        get_places(r, op);
        break;
    case QUEUE_OP_LIMIT:
        op->limit = rd_varint(r);
        break;
    case QUEUE_OP_NODE_DOWN:
    case QUEUE_OP_NODE_UP:
    case QUEUE_OP_NODE_GONE:
        op->first = get_u32(r);
        break;
    case QUEUE_OP_CONFIG:
        op->args = rd_varbytes(r);
        if (queue__config_decode(op->args, &config) != 0) {
            rd_fail(r);
        }
        break;
    case QUEUE_OP_SUSPECT:
        op->count = rd_varint(r);
        break;
    case QUEUE_OP_GET:
    case QUEUE_OP_PURGE:
    case QUEUE_OP_SEAL:
    case QUEUE_OP_UNSEAL:
    case QUEUE_OP_CLOSE:
    case QUEUE_OP_TOUCH:
    case QUEUE_OP_EXPIRE:
    case QUEUE_OP_RENEW:
        break;
    default:
        rd_fail(r);
        break;
    }
}

static void get_op(struct reader *r, struct buf *owner, uint64_t client, uint64_t seq_before,
                   struct queue_op *op)
{
    *op = (struct queue_op){.kind = 0};
    const uint8_t head = rd_u8(r);
    op->kind = head & HEAD_KIND;
    if ((head & ~HEAD_KNOWN) != 0 || !kind_fits(client, op->kind)) {
        rd_fail(r);
        return;
    }
    if ((head & HEAD_FLAGS) != 0) {
        op->flags = rd_u8(r);
    }
    if ((head & HEAD_SEQ) != 0) {
        op->seq = rd_varint(r);
    } else if (client != 0) {
        op->seq = seq_before + 1;
    }
    if ((client == 0) != (op->seq == 0)) {
        rd_fail(r);
        return;
    }
    get_op_body(r, owner, op);
}

static int reserve(struct queue_batch_reader *r, uint32_t count)
{
    if (count <= r->capacity) {
        return 0;
    }
    const uint32_t capacity = count < SCRATCH_MIN ? SCRATCH_MIN : count;
    struct queue_op *ops = wr_try_realloc(r->ops, capacity * sizeof(*ops));
    if (ops == NULL) {
        return WR_E_NOMEM;
    }
    r->ops = ops;
    r->capacity = capacity;
    return 0;
}

int queue_batch_reader_next(struct queue_batch_reader *r, struct queue_batch *ret_batch)
{
    if (r->at == r->end) {
        return 0;
    }
    struct reader in = reader_make(r->owner->data + r->at, r->end - r->at);
    const uint64_t client = rd_varint(&in);
    const uint64_t count = rd_varint(&in);
    /* An op has at least one byte: no count makes us allocate much more than was sent. */
    if (in.failed || count == 0 || count > QUEUE_BATCH_OPS_MAX || count > rd_left(&in)) {
        return WR_E_CORRUPT;
    }
    const int error = reserve(r, (uint32_t)count);
    if (error != 0) {
        return error;
    }
    uint64_t seq = 0;
    for (uint32_t i = 0; i < count; i++) {
        get_op(&in, r->owner, client, seq, &r->ops[i]);
        if (in.failed) {
            return WR_E_CORRUPT;
        }
        seq = r->ops[i].seq;
    }
    r->at = (uint32_t)(in.at - r->owner->data);
    *ret_batch = (struct queue_batch){client, (uint32_t)count, r->ops};
    return 1;
}
