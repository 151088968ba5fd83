/*
 * What: CRC-32C (Castagnoli), with the processor's instruction where it has one, else by table.
 * Incremental: crc32c(crc32c(0, a), b) is the CRC of a followed by b. Spec: RFC 3720 B.4.
 */
#ifndef WR_CRC32C_H
#define WR_CRC32C_H

#include "warren/assert.h"

/* The CRC of what gave `crc` (0 for nothing) followed by these bytes. Any thread. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* By table only, on every machine (tests compare). */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
