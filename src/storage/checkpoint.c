/*
 * What: the schema of the checkpoint store: keys, and the value of a group's snapshot.
 *
 * Keys (numbers big-endian, so that the order of bytes is the order of numbers):
 *   's' group(8)               -> checkpoint, below
 *   'm' group(8) position(8)   -> a message record (warren/message.h)
 *   'n' name                   -> a setting of the node
 * Checkpoint, version 1, little-endian:
 *   0 u32 CRC-32C of all that follows   4 u8 version   5 u8[3] zero
 *   8 u64 group  16 u64 index  24 u64 term  32 u32 size of membership  36 u32 size of machine
 *   40 membership bytes, machine bytes; nothing after them
 *
 * Invariants: decoding trusts nothing before the CRC and never reads past the value.
 */
#include "warren/log.h"

#include "warren/crc32c.h"
#include "warren/err.h"

#define CHECKPOINT_VERSION     1u
#define CHECKPOINT_HEADER_SIZE 40u

static struct slice key_u64(char kind, uint64_t a, const uint64_t *b)
{
    struct writer w;
    writer_init(&w, 17);
    put_u8(&w, (uint8_t)kind);
    put_be64(&w, a);
    if (b != NULL) {
        put_be64(&w, *b);
    }
    return slice_of_buf(writer_take(&w));
}

struct slice checkpoint_snapshot_key(uint64_t group)
{
    return key_u64('s', group, NULL);
}

struct slice checkpoint_message_key(uint64_t group, uint64_t position)
{
    return key_u64('m', group, &position);
}

struct slice checkpoint_setting_key(const char *name)
{
    struct writer w;
    writer_init(&w, strlen(name) + 1);
    put_u8(&w, 'n');
    put_bytes(&w, name, strlen(name));
    return slice_of_buf(writer_take(&w));
}

int checkpoint_message_position(struct bytes key, uint64_t *ret_group, uint64_t *ret_position)
{
    struct reader r = reader_from(key);
    const uint8_t kind = rd_u8(&r);
    const uint64_t group = rd_be64(&r);
    const uint64_t position = rd_be64(&r);
    if (!rd_done(&r) || kind != 'm') {
        return WR_E_INVALID;
    }
    *ret_group = group;
    *ret_position = position;
    return 0;
}

struct slice checkpoint_encode(const struct checkpoint *checkpoint)
{
    struct writer w;
    WR_ASSERT_OP(checkpoint->membership.size, <=, UINT32_MAX / 4);
    WR_ASSERT_OP(checkpoint->machine.size, <=, UINT32_MAX / 2);
    writer_init(&w,
                CHECKPOINT_HEADER_SIZE + checkpoint->membership.size + checkpoint->machine.size);
    put_le32(&w, 0);
    put_le32(&w, CHECKPOINT_VERSION);
    put_le64(&w, checkpoint->group);
    put_le64(&w, checkpoint->index);
    put_le64(&w, checkpoint->term);
    put_le32(&w, (uint32_t)checkpoint->membership.size);
    put_le32(&w, (uint32_t)checkpoint->machine.size);
    put_bytes(&w, checkpoint->membership.data, checkpoint->membership.size);
    put_bytes(&w, checkpoint->machine.data, checkpoint->machine.size);
    const struct bytes all = writer_bytes(&w);
    bytes_store_le32(w.buf->data, crc32c(0, all.data + 4, all.size - 4));
    return slice_of_buf(writer_take(&w));
}

int checkpoint_decode(struct bytes value, struct checkpoint *ret_checkpoint)
{
    struct reader r = reader_from(value);
    const uint32_t crc = rd_le32(&r);
    if (r.failed || crc != crc32c(0, value.data + 4, value.size - 4)) {
        return WR_E_CORRUPT;
    }
    if (rd_le32(&r) != CHECKPOINT_VERSION) {
        return r.failed ? WR_E_CORRUPT : WR_E_VERSION;
    }
    struct checkpoint checkpoint;
    checkpoint.group = rd_le64(&r);
    checkpoint.index = rd_le64(&r);
    checkpoint.term = rd_le64(&r);
    const uint32_t membership_size = rd_le32(&r);
    const uint32_t machine_size = rd_le32(&r);
    checkpoint.membership = rd_bytes(&r, membership_size);
    checkpoint.machine = rd_bytes(&r, machine_size);
    if (!rd_done(&r)) {
        return WR_E_CORRUPT;
    }
    *ret_checkpoint = checkpoint;
    return 0;
}
