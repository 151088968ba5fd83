#ifndef WR_SNAP_INTERNAL_H
#define WR_SNAP_INTERNAL_H
/*
 * The stream that brings a replica up to date that needs what the log no longer has: the machine's
 * snapshot and the bytes of the live messages that it does not have, in chunks of at most 256 KiB.
 * snap_send.c makes it, snap_receive.c understands it.
 *
 * Stream, frozen: u8 version, u64 size of the stored machine, stored machine; version 2: u64
 * position below which messages were left out; then per live message from there on, ascending: u64
 * position, record. Version 1 has no such position and all messages.
 *
 * Invariants
 * I1  What is live at an index and below its next position was live at every earlier index at which
 *     that position existed. So "all below P that live at index i" are enough at any index > i.
 * I2  What was left out as consumed was consumed by a committed entry. Every later leader has it in
 *     its log and serves only once it is applied: until then a receiver may believe, as after a
 *     stream that was not cut short, that such a message lives, and nobody can ask it for it.
 * I3  What the receiver says that it has is for this stream, and the stream repeats it: a sender
 *     that took it from another one (a receiver that was started again) is refused.
 */
#include "group.h"

#define SNAP_CHUNK_BYTES    (256u * 1024)
#define SNAP_STREAM_VERSION 2u

#endif
