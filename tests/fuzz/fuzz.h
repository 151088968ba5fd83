/* What: the entry point that libFuzzer (or fuzz_replay.c) calls with one input. Returns 0. */
#ifndef WR_FUZZ_H
#define WR_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
