/*
 * What: recovery. Reads all segments in order, verifies round after round, reports the records, and
 * decides what an invalid place is: the torn tail of a crash, or damage.
 *
 * Happy path: the names are a contiguous run of numbers; each segment but the last used one ends
 * with a round marked END; in the last used one the first place without a valid round is its end.
 * Failure modes: see `judge`: an invalid place is damage when anything proves that it was durable.
 *
 * Invariants
 * I1  A round is reported whole or not at all, after all of it was verified.
 * I2  Rounds are reported in the order of their numbers, without a gap.
 * I3  An invalid place is taken for a torn tail only when no later segment was used and no valid
 *     round header behind it claims that it was durable (argument: docs/storage.md).
 *
 * Ownership: slices given to the sink are borrowed; a window buffer that the sink kept a reference
 * of is not written again. Threads: start-up only, blocking calls of the env.
 */
#include "scan.h"

#include <stdarg.h>
#include <stdio.h>

#include "warren/err.h"

#define WINDOW_SIZE (UINT32_C(1) << 20)
#define WINDOW_KEEP (UINT32_C(32) << 20) /* a bigger one is given back after its round */
#define ERRMSG_SIZE 256u

struct scan {
    struct env *env;
    const char *log_dir;
    struct uid node_id;
    const struct log_recovery_sink *sink;
    char *errmsg;
    struct number_vec segments, spares;

    /* The segment being read. */
    char name[SEGMENT_NAME_SIZE];
    struct scan_segment segment;
    struct buf *window; /* bytes [window_start, window_start + window->size) of the file */
    uint64_t window_start;

    bool have_previous;
    struct round_header previous;
    char why[128]; /* what is wrong at the first invalid place */
    uint64_t bytes_before, bytes_total;
};

static int fail(struct scan *scan, int error, const char *fmt, ...) WR_PRINTF(3, 4);
static int fail(struct scan *scan, int error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(scan->errmsg, ERRMSG_SIZE, fmt, args);
    va_end(args);
    return error;
}

/* --- reading ------------------------------------------------------------------------------- */

static void window_drop(struct scan *scan)
{
    buf_unref(scan->window);
    scan->window = NULL;
}

/* Points at `size` bytes of the file at offset. WR_E_TRUNCATED: the file ends before. */
static int window_at(struct scan *scan, uint64_t offset, uint32_t size, const uint8_t **ret_data)
{
    if (offset + size > scan->segment.size) {
        return WR_E_TRUNCATED;
    }
    struct buf *window = scan->window;
    if (window == NULL || offset < scan->window_start ||
        offset + size > scan->window_start + window->size) {
        uint64_t want = size > WINDOW_SIZE ? size : WINDOW_SIZE;
        want = want < scan->segment.size - offset ? want : scan->segment.size - offset;
        if (window == NULL || window->capacity < want || buf_is_shared(window) ||
            (want <= WINDOW_SIZE && window->capacity > WINDOW_KEEP)) {
            window_drop(scan);
            window = scan->window = buf_new(want > WINDOW_SIZE ? want : WINDOW_SIZE);
        }
        const int64_t n =
            scan->env->ops->file_pread(scan->segment.file, window->data, want, offset);
        if (n < 0) {
            window_drop(scan);
            return fail(scan, (int)n, "%s: offset %llu: cannot be read: %s", scan->name,
                        (unsigned long long)offset, wr_err_text((int)n));
        }
        window->size = (uint32_t)n;
        scan->window_start = offset;
        if (scan->sink->progress != NULL) {
            scan->sink->progress(scan->sink->ctx, scan->bytes_before + offset + (uint64_t)n,
                                 scan->bytes_total);
        }
        if ((uint64_t)n < size) {
            return WR_E_TRUNCATED;
        }
    }
    *ret_data = window->data + (offset - scan->window_start);
    return 0;
}

static void segment_close(struct scan *scan)
{
    window_drop(scan);
    if (scan->segment.file != NULL) {
        scan->env->ops->file_close(scan->segment.file);
    }
    scan->segment = (struct scan_segment){0};
}

/* Opens a segment and verifies its header. `settle`: it may hold what was never synced. */
static int segment_open(struct scan *scan, uint32_t number, bool settle)
{
    char path[SEGMENT_PATH_SIZE];
    const struct env_ops *ops = scan->env->ops;
    (void)segment_name(scan->name, SEGMENT_PREFIX, number);
    (void)segment_path(path, sizeof(path), scan->log_dir, scan->name);
    scan->segment = (struct scan_segment){.number = number, .offset = SEGMENT_HEADER_SIZE};
    int error =
        ops->file_open(scan->env, path, ENV_OPEN_READ | ENV_OPEN_WRITE, &scan->segment.file);
    if (error == 0 && settle) {
        error = ops->file_settle(scan->segment.file);
    }
    if (error == 0) {
        error = ops->file_size(scan->segment.file, &scan->segment.size);
    }
    if (error != 0) {
        return fail(scan, error, "%s: cannot be opened: %s", scan->name, wr_err_text(error));
    }
    const uint8_t *data;
    struct segment_header header;
    error = window_at(scan, 0, SEGMENT_HEADER_SIZE, &data);
    if (error == WR_E_TRUNCATED) {
        return fail(scan, WR_E_CORRUPT, "%s: offset 0: %llu bytes are too few for a segment",
                    scan->name, (unsigned long long)scan->segment.size);
    }
    if (error != 0) {
        return error;
    }
    error = segment_header_decode(data, &header);
    if (error != 0) {
        return fail(scan, error,
                    error == WR_E_VERSION ? "%s: offset 0: written by a newer version of Warren"
                                          : "%s: offset 0: the segment header does not verify",
                    scan->name);
    }
    if (header.number != number) {
        return fail(scan, WR_E_CORRUPT, "%s: offset 0: the header is that of segment %u",
                    scan->name, header.number);
    }
    if (!uid_eq(header.node_id, scan->node_id)) {
        char id[UID_TEXT_SIZE];
        return fail(scan, WR_E_CORRUPT, "%s: offset 0: the segment belongs to node %s", scan->name,
                    uid_format(header.node_id, id));
    }
    scan->segment.salt = header.salt;
    return 0;
}

/* --- rounds -------------------------------------------------------------------------------- */

enum { ROUND_INVALID = 1 }; /* beside 0 and WR_E_*: no valid round here; scan->why says why */

static int invalid(struct scan *scan, const char *fmt, ...) WR_PRINTF(2, 3);
static int invalid(struct scan *scan, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(scan->why, sizeof(scan->why), fmt, args);
    va_end(args);
    return ROUND_INVALID;
}

/* May `round` come after the last one? The next number of the same life, or the first of the next
 * life; a header left over from a life that was cut off is neither. */
static bool follows(const struct scan *scan, const struct round_header *round)
{
    const struct round_header *previous = &scan->previous;
    return !scan->have_previous ||
           (round->number == previous->number + 1 && round->nonce == previous->nonce) ||
           round->number == ((previous->number >> 32) + 1) << 32;
}

static int round_verify(struct scan *scan, const struct round_header *round, const uint8_t *data)
{
    const uint32_t seed = record_seed(scan->segment.salt);
    uint32_t at = ROUND_HEADER_SIZE;
    for (uint32_t i = 0; i < round->count; i++) {
        struct record_header record;
        if (round->size - at < RECORD_HEADER_SIZE) {
            return invalid(scan, "record %u of round %llu is cut off", i,
                           (unsigned long long)round->number);
        }
        record_header_decode(data + at, &record);
        if (record.round_crc != round->crc || record.size > round->size - at - RECORD_HEADER_SIZE) {
            return invalid(scan, "record %u (at %u) of round %llu has a bad header", i,
                           round->offset + at, (unsigned long long)round->number);
        }
        const uint32_t crc =
            record_crc(data + at, data + at + RECORD_HEADER_SIZE, record.size, seed);
        if (crc != record.crc) {
            return invalid(scan, "record %u (at %u) of round %llu has CRC %08x, expected %08x", i,
                           round->offset + at, (unsigned long long)round->number, crc, record.crc);
        }
        if (record.kind < LOG_ENTRY || record.kind > LOG_TRUNCATE) {
            return fail(scan, WR_E_VERSION, "%s: offset %u: record of unknown kind %u", scan->name,
                        round->offset + at, record.kind);
        }
        at += RECORD_HEADER_SIZE + record.size;
    }
    if (at != round->size) {
        return invalid(scan, "round %llu has %u bytes after its last record",
                       (unsigned long long)round->number, round->size - at);
    }
    return 0;
}

static void round_report(struct scan *scan, const struct round_header *round, const uint8_t *data)
{
    uint32_t at = ROUND_HEADER_SIZE;
    for (uint32_t i = 0; i < round->count; i++) {
        struct record_header record;
        record_header_decode(data + at, &record);
        at += RECORD_HEADER_SIZE;
        const struct log_item item = {
            .group = record.group,
            .term = record.term,
            .index = record.index,
            .kind = record.kind,
            .flags = record.flags,
            .payload = {scan->window, (uint32_t)(data + at - scan->window->data), record.size},
            .position = {scan->segment.number, round->offset + at},
        };
        scan->sink->record(scan->sink->ctx, &item);
        at += record.size;
    }
}

/* Reads, verifies and reports the round at segment.offset. 0, ROUND_INVALID or WR_E_*. */
static int round_read(struct scan *scan, struct round_header *ret_round)
{
    const uint32_t offset = scan->segment.offset;
    const uint8_t *data;
    struct round_header round;
    int error = window_at(scan, offset, ROUND_HEADER_SIZE, &data);
    if (error == WR_E_TRUNCATED) {
        return invalid(scan, "the file ends");
    }
    if (error != 0) {
        return error;
    }
    if (!round_header_decode(data, scan->segment.salt, offset, &round)) {
        return invalid(scan, "no valid round header");
    }
    if (!follows(scan, &round)) {
        return invalid(scan, "round %llu where one after %llu was expected",
                       (unsigned long long)round.number, (unsigned long long)scan->previous.number);
    }
    error = window_at(scan, offset, round.size, &data);
    if (error == WR_E_TRUNCATED) {
        return invalid(scan, "the file ends within round %llu", (unsigned long long)round.number);
    }
    if (error == 0) {
        error = round_verify(scan, &round, data);
    }
    if (error != 0) {
        return error;
    }
    round_report(scan, &round, data);
    *ret_round = round;
    return 0;
}

/* Is there a valid round header at or after `from` that claims that `below` was durable? */
static int find_claim(struct scan *scan, uint64_t from, uint32_t below, uint32_t *ret_offset)
{
    for (uint64_t at = from; at + ROUND_HEADER_SIZE <= scan->segment.size; at += SEGMENT_ALIGN) {
        const uint8_t *data;
        struct round_header round;
        const int error = window_at(scan, at, ROUND_HEADER_SIZE, &data);
        if (error != 0) {
            return error == WR_E_TRUNCATED ? 0 : error;
        }
        if (round_header_decode(data, scan->segment.salt, (uint32_t)at, &round) &&
            round.durable > below) {
            *ret_offset = (uint32_t)at;
            return 1;
        }
    }
    return 0;
}

/*
 * The current segment has no valid round at its offset and did not end: a torn tail (0), or damage?
 * Proof that it was durable: a header behind it that says so; a used segment after it (a segment is
 * used only once the one before is complete and durable); two segments after it (one more is
 * prepared only once the one before is used).
 */
static int judge(struct scan *scan, size_t position)
{
    uint32_t at = 0;
    const uint32_t offset = scan->segment.offset;
    const size_t after = scan->segments.count - position - 1;
    const uint64_t behind = (uint64_t)offset + SEGMENT_ALIGN;
    const int claimed = after >= 2 ? 0 : find_claim(scan, behind, offset, &at);
    if (claimed < 0) {
        return claimed;
    }
    if (claimed > 0) {
        return fail(scan, WR_E_CORRUPT,
                    "%s: offset %u: %s; the round at offset %u shows that it was durable",
                    scan->name, offset, scan->why, at);
    }
    if (after >= 2) {
        return fail(scan, WR_E_CORRUPT, "%s: offset %u: %s; segment %u shows that it was durable",
                    scan->name, offset, scan->why, scan->segments.items[position + 2]);
    }
    return 0;
}

/* Scans one segment to its end. *ret_ended: by a round marked END. */
static int scan_segment(struct scan *scan, bool *ret_ended)
{
    struct round_header round;
    for (;;) {
        const int error = round_read(scan, &round);
        if (error == ROUND_INVALID) {
            *ret_ended = false;
            return 0;
        }
        if (error != 0) {
            return error;
        }
        scan->previous = round;
        scan->have_previous = true;
        scan->segment.offset = (uint32_t)segment_align((uint64_t)round.offset + round.size);
        if ((round.flags & ROUND_END) != 0) {
            *ret_ended = true;
            return 0;
        }
    }
}

/* The segment after the active one: it must be unused. Keeps it open as the prepared one. */
static int take_prepared(struct scan *scan, uint32_t number, struct scan_result *result)
{
    char broken[SEGMENT_NAME_SIZE];
    memcpy(broken, scan->name, sizeof(broken));
    int error = segment_open(scan, number, true);
    if (error != 0) {
        return error;
    }
    uint32_t at = 0;
    error = find_claim(scan, SEGMENT_HEADER_SIZE, 0, &at);
    if (error < 0) {
        return error;
    }
    if (error > 0) {
        return fail(scan, WR_E_CORRUPT,
                    "%s: offset %u: %s; segment %u is in use, which shows that "
                    "it was durable",
                    broken, result->active.offset, scan->why, number);
    }
    result->prepared = scan->segment;
    scan->segment.file = NULL;
    return 0;
}

static int scan_all(struct scan *scan, struct scan_result *result)
{
    const size_t count = scan->segments.count;
    for (size_t i = 0; i < count; i++) {
        const uint32_t number = scan->segments.items[i];
        if (i > 0 && number != scan->segments.items[i - 1] + 1) {
            return fail(scan, WR_E_CORRUPT, "segment-%016x.log is missing: there are %u and %u",
                        scan->segments.items[i - 1] + 1, scan->segments.items[i - 1], number);
        }
    }
    for (size_t i = 0; i < count; i++) {
        bool ended = false;
        int error = segment_open(scan, scan->segments.items[i], i + 2 >= count);
        if (error == 0) {
            error = scan_segment(scan, &ended);
        }
        if (error == 0 && !ended) {
            error = judge(scan, i);
        }
        if (error != 0) {
            return error;
        }
        if (!ended) {
            result->active = scan->segment;
            scan->segment.file = NULL;
            window_drop(scan);
            return i + 1 < count ? take_prepared(scan, scan->segments.items[i + 1], result) : 0;
        }
        scan->bytes_before += scan->segment.size;
        segment_close(scan);
    }
    return fail(scan, WR_E_CORRUPT, "segment-%016x.log is missing: segment %u ended before it",
                scan->segments.items[count - 1] + 1, scan->segments.items[count - 1]);
}

static int list_names(struct scan *scan)
{
    char **names;
    uint32_t count;
    const int error = scan->env->ops->dir_list(scan->env, scan->log_dir, &names, &count);
    if (error != 0) {
        return fail(scan, error, "%.160s: cannot be listed: %s", scan->log_dir, wr_err_text(error));
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t segment = segment_name_parse(names[i], SEGMENT_PREFIX);
        const uint32_t spare = segment_name_parse(names[i], SPARE_PREFIX);
        if (segment != 0) {
            vec_push(&scan->segments, segment);
        } else if (spare != 0) {
            vec_push(&scan->spares, spare);
        }
        wr_free(names[i]);
    }
    wr_free(names);
    return 0;
}

/* Sizes beforehand, for the progress. */
static int add_sizes(struct scan *scan)
{
    for (size_t i = 0; i < scan->segments.count; i++) {
        char path[SEGMENT_PATH_SIZE], name[SEGMENT_NAME_SIZE];
        struct env_file *file;
        uint64_t size = 0;
        (void)segment_name(name, SEGMENT_PREFIX, scan->segments.items[i]);
        (void)segment_path(path, sizeof(path), scan->log_dir, name);
        int error = scan->env->ops->file_open(scan->env, path, ENV_OPEN_READ, &file);
        if (error == 0) {
            error = scan->env->ops->file_size(file, &size);
            scan->env->ops->file_close(file);
        }
        if (error != 0) {
            return fail(scan, error, "%s: cannot be opened: %s", name, wr_err_text(error));
        }
        scan->bytes_total += size;
    }
    return 0;
}

int scan_log(struct env *env, const char *log_dir, struct uid node_id,
             const struct log_recovery_sink *sink, struct scan_result *ret_result, char *errmsg)
{
    struct scan scan = {
        .env = env, .log_dir = log_dir, .node_id = node_id, .sink = sink, .errmsg = errmsg};
    struct scan_result result = {0};
    int error = list_names(&scan);
    if (error == 0) {
        error = add_sizes(&scan);
    }
    if (error == 0 && scan.segments.count > 0) {
        result.first = scan.segments.items[0];
        error = scan_all(&scan, &result);
    }
    segment_close(&scan);
    vec_deinit(&scan.segments);
    result.spares = scan.spares;
    result.last_round = scan.have_previous ? scan.previous.number : 0;
    if (error != 0) {
        scan_result_deinit(env, &result);
        return error;
    }
    *ret_result = result;
    return 0;
}

void scan_result_deinit(struct env *env, struct scan_result *result)
{
    if (result->active.file != NULL) {
        env->ops->file_close(result->active.file);
    }
    if (result->prepared.file != NULL) {
        env->ops->file_close(result->prepared.file);
    }
    vec_deinit(&result->spares);
    *result = (struct scan_result){0};
}
