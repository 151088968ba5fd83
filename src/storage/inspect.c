/*
 * What: a segment file as text, for people (warrenctl log inspect): its header, every round, every
 * record, and what stands at the first place without a valid round. Pure: bytes in, lines out.
 *
 * Invariants: reads only what was checked to be there; a damaged file ends the text, nothing else.
 */
#include "format.h"

#include <stdarg.h>
#include <stdio.h>

#include "warren/err.h"

struct inspection {
    log_inspect_fn line;
    void *ctx;
    struct bytes file;
    uint64_t salt;
};

static void say(const struct inspection *in, const char *fmt, ...) WR_PRINTF(2, 3);
static void say(const struct inspection *in, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    in->line(in->ctx, text);
}

static const char *kind_name(uint8_t kind)
{
    static const char *const names[] = {"?",          "entry",     "hard-state", "group",
                                        "checkpoint", "group-end", "truncate"};
    return kind < WR_ARRAY_SIZE(names) ? names[kind] : "?";
}

/* One line per record; false when one does not verify. */
static bool say_records(const struct inspection *in, const struct round_header *round)
{
    uint64_t at = (uint64_t)round->offset + ROUND_HEADER_SIZE;
    const uint64_t end = (uint64_t)round->offset + round->size;
    for (uint32_t i = 0; i < round->count; i++) {
        struct record_header record;
        if (end - at < RECORD_HEADER_SIZE) {
            say(in, "  %llu: cut off", (unsigned long long)at);
            return false;
        }
        const uint8_t *data = in->file.data + at;
        record_header_decode(data, &record);
        const bool fits = record.size <= end - at - RECORD_HEADER_SIZE;
        const bool valid = fits && record.round_crc == round->crc &&
                           record.crc == record_crc(data, data + RECORD_HEADER_SIZE, record.size,
                                                    record_seed(in->salt));
        say(in, "  %llu: %s group %016llx term %llu index %llu flags %u size %u%s",
            (unsigned long long)at, kind_name(record.kind), (unsigned long long)record.group,
            (unsigned long long)record.term, (unsigned long long)record.index, record.flags,
            record.size, valid ? "" : " DOES NOT VERIFY");
        if (!valid) {
            return false;
        }
        at += RECORD_HEADER_SIZE + record.size;
    }
    return true;
}

/* Rounds from SEGMENT_HEADER_SIZE on; returns where the valid ones end. */
static uint64_t say_rounds(const struct inspection *in, bool *ret_ended)
{
    uint64_t at = SEGMENT_HEADER_SIZE;
    struct round_header round;
    *ret_ended = false;
    while (!*ret_ended && at + ROUND_HEADER_SIZE <= in->file.size &&
           round_header_decode(in->file.data + at, in->salt, (uint32_t)at, &round)) {
        say(in, "%llu: round %llu.%llu size %u records %u durable below %u%s",
            (unsigned long long)at, (unsigned long long)(round.number >> 32),
            (unsigned long long)(round.number & UINT32_MAX), round.size, round.count, round.durable,
            (round.flags & ROUND_END) != 0 ? " END" : "");
        if (at + round.size > in->file.size) {
            say(in, "  the file ends within this round");
            return at;
        }
        if (!say_records(in, &round)) {
            return at;
        }
        *ret_ended = (round.flags & ROUND_END) != 0;
        at = segment_align(at + round.size);
    }
    return at;
}

int log_inspect(struct bytes file, log_inspect_fn line, void *ctx)
{
    struct inspection in = {.line = line, .ctx = ctx, .file = file};
    struct segment_header header;
    char id[UID_TEXT_SIZE];
    if (file.size < SEGMENT_HEADER_SIZE) {
        return WR_E_CORRUPT;
    }
    const int error = segment_header_decode(file.data, &header);
    if (error != 0) {
        return error;
    }
    in.salt = header.salt;
    say(&in, "segment %u of node %s, %zu bytes", header.number, uid_format(header.node_id, id),
        file.size);
    bool ended;
    const uint64_t end = say_rounds(&in, &ended);
    if (ended) {
        return 0;
    }
    say(&in, "%llu: no valid round", (unsigned long long)end);
    for (uint64_t at = end + SEGMENT_ALIGN; at + ROUND_HEADER_SIZE <= file.size;
         at += SEGMENT_ALIGN) {
        struct round_header round;
        if (round_header_decode(file.data + at, in.salt, (uint32_t)at, &round) &&
            round.durable > end) {
            say(&in, "DAMAGE: the round at %llu shows that it was durable", (unsigned long long)at);
            return WR_E_CORRUPT;
        }
    }
    return 0;
}
