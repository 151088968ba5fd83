#ifndef WR_STORAGE_FORMAT_H
#define WR_STORAGE_FORMAT_H
/*
 * The bytes of a segment file (docs/storage-format.md), version 1, little-endian.
 *
 *   0     segment header (64 bytes, padded with zeros to 4096)
 *   4096  rounds, each beginning at a multiple of 512:
 *           round header (48 bytes)
 *           `count` records: record header (40 bytes), payload
 *           zeros up to the next multiple of 512
 *   then  whatever was there before, or zeros
 *
 * What is written at one go, and synced once, is a round. A round's header says up to which offset
 * the segment was durable when the round was written, which is what lets recovery tell a torn tail
 * from damage (docs/storage.md). Pure functions; threads: any.
 */
#include "warren/bytes.h"
#include "warren/log.h"

#define SEGMENT_VERSION     1u
#define SEGMENT_HEADER_SIZE 4096u
#define SEGMENT_NAME_SIZE   32u /* "segment-%016x.log" and NUL */
#define SEGMENT_ALIGN       512u
#define ROUND_HEADER_SIZE   48u
#define RECORD_HEADER_SIZE  40u
/* Kept free at the end of a segment for a last, empty round. */
#define SEGMENT_RESERVE SEGMENT_ALIGN

struct segment_header {
    struct uid node_id;
    uint32_t number; /* from 1 */
    uint64_t salt;   /* random; not zero */
};

enum round_flag {
    ROUND_END = 1, /* the last round of its segment; the next segment existed when it was written */
};

struct round_header {
    uint64_t salt;   /* the segment's */
    uint64_t number; /* goes on by 1; the upper half is the life: log_open begins a new one */
    uint32_t offset; /* where the header lies: a copy elsewhere is not valid */
    uint32_t size;   /* header and records, without the padding */
    uint32_t count;
    uint32_t durable; /* the segment's bytes below this offset were durable when this was written */
    uint32_t nonce;   /* random per life: tells two lives that got the same number apart */
    uint32_t flags;   /* enum round_flag */
    uint32_t crc;     /* set by encode and decode; every record of the round carries it */
};

struct record_header {
    uint32_t crc, size, round_crc;
    uint8_t kind, flags;
    uint64_t group, term, index;
};

static inline uint64_t segment_align(uint64_t offset)
{
    return (offset + SEGMENT_ALIGN - 1) & ~(uint64_t)(SEGMENT_ALIGN - 1);
}

/* "segment-….log" or "spare-….log" into name. Returns name. */
char *segment_name(char name[static SEGMENT_NAME_SIZE], const char *prefix, uint32_t number);
#define SEGMENT_PREFIX "segment"
#define SPARE_PREFIX   "spare"
/* The number in such a name, 0 when it is none. */
uint32_t segment_name_parse(const char *name, const char *prefix);
/* dir/log/name, into path[size]; asserts that it fits. Returns path. */
char *segment_path(char *path, size_t size, const char *log_dir, const char *name);
#define SEGMENT_PATH_SIZE 4096u

/* SEGMENT_HEADER_SIZE bytes. */
void segment_header_encode(const struct segment_header *header, uint8_t *out);
/* data: at least 64 bytes. WR_E_CORRUPT (no such header) or WR_E_VERSION. */
WR_MUST_USE int segment_header_decode(const uint8_t *data, struct segment_header *ret_header);

/* Sets header->crc. ROUND_HEADER_SIZE bytes. */
void round_header_encode(struct round_header *header, uint8_t *out);
/* False: these ROUND_HEADER_SIZE bytes are no header of this segment (salt) at this offset, or not
 * a sane one. */
bool round_header_decode(const uint8_t *data, uint64_t salt, uint32_t offset,
                         struct round_header *ret_header);

/* The value that starts the CRC of records in a segment with this salt. */
uint32_t record_seed(uint64_t salt);
/* Writes the header of a record, with the CRC over it and the payload. RECORD_HEADER_SIZE bytes. */
void record_encode(uint8_t *out, const struct log_item *item, uint32_t round_crc, uint32_t seed);
void record_header_decode(const uint8_t *data, struct record_header *ret_header);
/* The CRC that a record with this header and payload must have. */
uint32_t record_crc(const uint8_t *header, const uint8_t *payload, uint32_t size, uint32_t seed);

#endif
