/*
 * What: the codec of a segment's bytes: names, segment header, round header, record header. The
 * layout is frozen (format.h, docs/storage-format.md); a change is a new SEGMENT_VERSION.
 *
 * Invariants
 * I1  decode(encode(x)) == x, and the live path and recovery use these functions alone.
 * I2  Decoding reads only the bytes that its caller guarantees and trusts no field before the CRC.
 */
#include "format.h"

#include <stdio.h>

#include "warren/crc32c.h"
#include "warren/err.h"

#define SEGMENT_MAGIC UINT64_C(0x474f4c4e45525257) /* "WRRENLOG" */
#define ROUND_MAGIC   UINT32_C(0x444e5257)         /* "WRND" */
#define ROUND_FLAGS   ((uint32_t)ROUND_END)

char *segment_name(char name[static SEGMENT_NAME_SIZE], const char *prefix, uint32_t number)
{
    const int n = snprintf(name, SEGMENT_NAME_SIZE, "%s-%016x.log", prefix, number);
    WR_ASSERT(n > 0 && n < (int)SEGMENT_NAME_SIZE);
    return name;
}

uint32_t segment_name_parse(const char *name, const char *prefix)
{
    const size_t skip = strlen(prefix);
    if (strlen(name) != skip + 21 || strncmp(name, prefix, skip) != 0 || name[skip] != '-') {
        return 0;
    }
    uint64_t number = 0;
    for (size_t i = skip + 1; i < skip + 17; i++) {
        const char c = name[i];
        if (c >= '0' && c <= '9') {
            number = number << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return 0;
        }
    }
    return strcmp(name + skip + 17, ".log") == 0 && number <= UINT32_MAX ? (uint32_t)number : 0;
}

char *segment_path(char *path, size_t size, const char *log_dir, const char *name)
{
    const int n = snprintf(path, size, "%s/%s", log_dir, name);
    WR_ASSERT(n > 0 && (size_t)n < size);
    return path;
}

void segment_header_encode(const struct segment_header *header, uint8_t *out)
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    bytes_store_le64(out, SEGMENT_MAGIC);
    bytes_store_le32(out + 8, SEGMENT_VERSION);
    bytes_store_be64(out + 16, header->node_id.hi);
    bytes_store_be64(out + 24, header->node_id.lo);
    bytes_store_le64(out + 32, header->number);
    bytes_store_le64(out + 40, header->salt);
    bytes_store_le32(out + 60, crc32c(0, out, 60));
}

int segment_header_decode(const uint8_t *data, struct segment_header *ret_header)
{
    const uint64_t number = bytes_load_le64(data + 32);
    if (bytes_load_le64(data) != SEGMENT_MAGIC ||
        bytes_load_le32(data + 60) != crc32c(0, data, 60)) {
        return WR_E_CORRUPT;
    }
    if (bytes_load_le32(data + 8) != SEGMENT_VERSION) {
        return WR_E_VERSION;
    }
    if (number == 0 || number > UINT32_MAX) {
        return WR_E_CORRUPT;
    }
    ret_header->node_id.hi = bytes_load_be64(data + 16);
    ret_header->node_id.lo = bytes_load_be64(data + 24);
    ret_header->number = (uint32_t)number;
    ret_header->salt = bytes_load_le64(data + 40);
    return 0;
}

void round_header_encode(struct round_header *header, uint8_t *out)
{
    bytes_store_le32(out, ROUND_MAGIC);
    bytes_store_le64(out + 8, header->salt);
    bytes_store_le64(out + 16, header->number);
    bytes_store_le32(out + 24, header->offset);
    bytes_store_le32(out + 28, header->size);
    bytes_store_le32(out + 32, header->count);
    bytes_store_le32(out + 36, header->durable);
    bytes_store_le32(out + 40, header->nonce);
    bytes_store_le32(out + 44, header->flags);
    header->crc = crc32c(0, out + 8, ROUND_HEADER_SIZE - 8);
    bytes_store_le32(out + 4, header->crc);
}

bool round_header_decode(const uint8_t *data, uint64_t salt, uint32_t offset,
                         struct round_header *ret_header)
{
    if (bytes_load_le32(data) != ROUND_MAGIC || bytes_load_le64(data + 8) != salt ||
        bytes_load_le32(data + 24) != offset) {
        return false;
    }
    const struct round_header header = {
        .salt = salt,
        .number = bytes_load_le64(data + 16),
        .offset = offset,
        .size = bytes_load_le32(data + 28),
        .count = bytes_load_le32(data + 32),
        .durable = bytes_load_le32(data + 36),
        .nonce = bytes_load_le32(data + 40),
        .flags = bytes_load_le32(data + 44),
        .crc = bytes_load_le32(data + 4),
    };
    if (header.crc != crc32c(0, data + 8, ROUND_HEADER_SIZE - 8) ||
        header.size < ROUND_HEADER_SIZE || header.size > UINT32_MAX - offset ||
        header.count > (header.size - ROUND_HEADER_SIZE) / RECORD_HEADER_SIZE ||
        header.durable > offset || (header.flags & ~ROUND_FLAGS) != 0) {
        return false;
    }
    *ret_header = header;
    return true;
}

uint32_t record_seed(uint64_t salt)
{
    uint8_t bytes[8];
    bytes_store_le64(bytes, salt);
    return crc32c(0, bytes, sizeof(bytes));
}

uint32_t record_crc(const uint8_t *header, const uint8_t *payload, uint32_t size, uint32_t seed)
{
    const uint32_t crc = crc32c(seed, header + 4, RECORD_HEADER_SIZE - 4);
    return size == 0 ? crc : crc32c(crc, payload, size);
}

void record_encode(uint8_t *out, const struct log_item *item, uint32_t round_crc, uint32_t seed)
{
    bytes_store_le32(out + 4, item->payload.size);
    bytes_store_le32(out + 8, round_crc);
    out[12] = item->kind;
    out[13] = item->flags;
    bytes_store_le16(out + 14, 0);
    bytes_store_le64(out + 16, item->group);
    bytes_store_le64(out + 24, item->term);
    bytes_store_le64(out + 32, item->index);
    bytes_store_le32(out, record_crc(out, slice_data(&item->payload), item->payload.size, seed));
}

void record_header_decode(const uint8_t *data, struct record_header *ret_header)
{
    ret_header->crc = bytes_load_le32(data);
    ret_header->size = bytes_load_le32(data + 4);
    ret_header->round_crc = bytes_load_le32(data + 8);
    ret_header->kind = data[12];
    ret_header->flags = data[13];
    ret_header->group = bytes_load_le64(data + 16);
    ret_header->term = bytes_load_le64(data + 24);
    ret_header->index = bytes_load_le64(data + 32);
}
