/*
 * What: cold reads from segment files, for one shard.
 *
 * A request (one log_reader_read) is cut into extents: neighbouring records of one segment, read
 * by one asynchronous read each. The first request for a segment also reads the segment's header,
 * whose salt starts the records' CRCs. When the last read of a request is back, every record is
 * verified and fn is called.
 * Failure modes: any failed or short read, or a record that does not verify, fails its request.
 *
 * Invariants
 * I1  A file is closed only when no read of it is under way (`reads` == 0).
 * I2  fn is called exactly once per request that was accepted, from log_reader_on_file.
 * I3  by_token has each extent whose read is under way: after a start there are as many requests as
 *     groups, so none is looked for among all.
 *
 * Ownership: an extent owns the buffer that was read; payloads are slices of it.
 */
#include "format.h"

#include <stdio.h>

#include "warren/err.h"
#include "warren/list.h"
#include "warren/map.h"

#define FILES_MAX     16u
#define FILES_IDLE    4u /* of each shard while nothing is read: others may need the descriptors */
#define LOCATIONS_MAX 64u
#define GAP_MAX       (UINT32_C(16) << 10) /* read over this much to save a read */
#define EXTENT_MAX    (UINT32_C(4) << 20)  /* bigger only for a single record */
#define NO_READ       UINT64_MAX

struct reader_file {
    struct list link; /* in log_reader.files, used last at the back */
    struct env_file *file;
    uint32_t segment, reads;
    bool doomed; /* close when the last read is back */
    bool verified;
    uint32_t seed;         /* of the CRCs; valid when verified */
    uint64_t header_token; /* of the read of the header; NO_READ = none under way */
};

struct extent {
    struct request *request;
    struct reader_file *file;
    uint64_t token;
    uint32_t offset, size;
    uint32_t location, count; /* locations [location, location + count) */
    struct buf *data;
};

struct request {
    struct list link;
    log_reader_fn fn;
    void *ctx;
    uint32_t count, extent_count, extents_missing;
    int error;
    struct log_location *locations; /* `count` of each, behind the request */
    struct extent *extents;
};

struct log_reader {
    struct env *env;
    char *log_dir;
    struct list files, requests;
    struct umap by_token; /* of reads under way, but for those of headers -> struct extent */
    uint32_t file_count;
    uint64_t next_token;
};

struct log_reader *log_reader_new(struct env *env, const char *dir)
{
    struct log_reader *reader = wr_calloc(1, sizeof(*reader));
    const size_t size = strlen(dir) + sizeof("/log");
    reader->env = env;
    reader->log_dir = wr_alloc(size);
    (void)snprintf(reader->log_dir, size, "%s/log", dir);
    reader->next_token = LOG_READER_TOKEN_BASE;
    list_init(&reader->files);
    list_init(&reader->requests);
    umap_init(&reader->by_token, (struct hash_seed){0}); /* tokens are ours */
    return reader;
}

static void file_free(struct log_reader *reader, struct reader_file *file)
{
    list_remove(&file->link);
    reader->file_count--;
    reader->env->ops->file_close(file->file);
    wr_free(file);
}

static void request_free(struct request *request)
{
    for (uint32_t i = 0; i < request->extent_count; i++) {
        buf_unref(request->extents[i].data);
    }
    list_remove(&request->link);
    wr_free(request);
}

void log_reader_free(struct log_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    LIST_FOREACH_SAFE(link, &reader->requests) {
        request_free(WR_CONTAINER_OF(link, struct request, link));
    }
    LIST_FOREACH_SAFE(link, &reader->files) {
        file_free(reader, WR_CONTAINER_OF(link, struct reader_file, link));
    }
    umap_deinit(&reader->by_token);
    wr_free(reader->log_dir);
    wr_free(reader);
}

/* --- files --------------------------------------------------------------------------------- */

static void file_doom(struct log_reader *reader, struct reader_file *file)
{
    file->doomed = true;
    if (file->reads == 0) {
        file_free(reader, file);
    }
}

void log_reader_release(struct log_reader *reader, uint32_t segment)
{
    LIST_FOREACH_SAFE(link, &reader->files) {
        struct reader_file *file = WR_CONTAINER_OF(link, struct reader_file, link);
        if (file->segment <= segment) {
            file_doom(reader, file);
        }
    }
}

/* Closes the files used least recently that are not being read, when there are too many. */
static void evict(struct log_reader *reader, bool all)
{
    const uint32_t most = all ? 0 : list_is_empty(&reader->requests) ? FILES_IDLE : FILES_MAX;
    LIST_FOREACH_SAFE(link, &reader->files) {
        struct reader_file *file = WR_CONTAINER_OF(link, struct reader_file, link);
        if (reader->file_count <= most) {
            return;
        }
        if (file->reads == 0) {
            file_free(reader, file);
        }
    }
}

static int file_get(struct log_reader *reader, uint32_t segment, struct reader_file **ret_file)
{
    LIST_FOREACH(link, &reader->files) {
        struct reader_file *file = WR_CONTAINER_OF(link, struct reader_file, link);
        if (file->segment == segment && !file->doomed) {
            list_remove(&file->link);
            list_push_back(&reader->files, &file->link);
            *ret_file = file;
            return 0;
        }
    }
    char path[SEGMENT_PATH_SIZE], name[SEGMENT_NAME_SIZE];
    struct env_file *opened;
    (void)segment_name(name, SEGMENT_PREFIX, segment);
    (void)segment_path(path, sizeof(path), reader->log_dir, name);
    const int error = reader->env->ops->file_open(reader->env, path, ENV_OPEN_READ, &opened);
    if (error != 0) {
        return error;
    }
    struct reader_file *file = wr_calloc(1, sizeof(*file));
    file->file = opened;
    file->segment = segment;
    file->header_token = NO_READ;
    list_push_back(&reader->files, &file->link);
    reader->file_count++;
    *ret_file = file;
    return 0;
}

static uint64_t read_start(struct log_reader *reader, struct reader_file *file, uint32_t offset,
                           uint32_t size)
{
    const uint64_t token = reader->next_token++;
    file->reads++;
    reader->env->ops->file_read(reader->env, file->file, offset, size, token);
    return token;
}

/* --- requests ------------------------------------------------------------------------------ */

/* Can the location be read together with what the extent has? Extents grow upwards only. */
static bool extent_takes(const struct extent *extent, const struct log_location *location,
                         uint32_t segment)
{
    const uint64_t end = (uint64_t)extent->offset + extent->size;
    const uint64_t header = (uint64_t)location->position.offset - RECORD_HEADER_SIZE;
    return location->position.segment == segment && header >= end && header - end <= GAP_MAX &&
           (uint64_t)location->position.offset + location->size - extent->offset <= EXTENT_MAX;
}

static void cut_extents(struct request *request)
{
    uint32_t segment = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        const struct log_location *location = &request->locations[i];
        WR_ASSERT_OP(location->position.offset, >=, SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE);
        WR_ASSERT_OP(location->size, <=, LOG_PAYLOAD_MAX);
        struct extent *extent =
            request->extent_count == 0 ? NULL : &request->extents[request->extent_count - 1];
        if (extent == NULL || !extent_takes(extent, location, segment)) {
            extent = &request->extents[request->extent_count++];
            extent->request = request;
            extent->location = i;
            extent->offset = location->position.offset - RECORD_HEADER_SIZE;
            segment = location->position.segment;
        }
        extent->count++;
        extent->size = location->position.offset + location->size - extent->offset;
    }
}

static struct request *request_new(const struct log_location *locations, uint32_t count)
{
    struct request *request = wr_calloc(
        1, sizeof(*request) + count * (sizeof(*request->locations) + sizeof(*request->extents)));
    list_init(&request->link);
    request->extents = (struct extent *)(void *)(request + 1);
    request->locations = (struct log_location *)(void *)(request->extents + count);
    request->count = count;
    memcpy(request->locations, locations, count * sizeof(*locations));
    return request;
}

int log_reader_read(struct log_reader *reader, const struct log_location *locations, uint32_t count,
                    log_reader_fn fn, void *ctx)
{
    WR_ASSERT(count >= 1 && count <= LOCATIONS_MAX);
    struct request *request = request_new(locations, count);
    request->fn = fn;
    request->ctx = ctx;
    cut_extents(request);
    for (uint32_t i = 0; i < request->extent_count; i++) {
        struct extent *extent = &request->extents[i];
        const int error =
            file_get(reader, locations[extent->location].position.segment, &extent->file);
        if (error != 0) {
            request_free(request);
            evict(reader, error == WR_E_FILES);
            return error;
        }
    }
    request->extents_missing = request->extent_count;
    list_push_back(&reader->requests, &request->link);
    for (uint32_t i = 0; i < request->extent_count; i++) {
        struct extent *extent = &request->extents[i];
        if (!extent->file->verified && extent->file->header_token == NO_READ) {
            extent->file->header_token = read_start(reader, extent->file, 0, SEGMENT_HEADER_SIZE);
        }
        extent->token = read_start(reader, extent->file, extent->offset, extent->size);
        (void)umap_put(&reader->by_token, extent->token, extent);
    }
    evict(reader, false);
    return 0;
}

static int verify(const struct extent *extent, const struct log_location *location,
                  struct slice *ret_payload)
{
    const uint32_t at = location->position.offset - extent->offset;
    const uint8_t *payload = extent->data->data + at;
    const uint8_t *data = payload - RECORD_HEADER_SIZE;
    struct record_header record;
    record_header_decode(data, &record);
    if (record.kind != LOG_ENTRY || record.size != location->size ||
        record.term != location->term || record.flags != location->flags ||
        record.crc != record_crc(data, payload, record.size, extent->file->seed)) {
        return WR_E_CORRUPT;
    }
    *ret_payload = (struct slice){extent->data, at, location->size};
    return 0;
}

static void request_finish(struct request *request)
{
    struct slice payloads[LOCATIONS_MAX];
    for (uint32_t i = 0; i < request->extent_count && request->error == 0; i++) {
        const struct extent *extent = &request->extents[i];
        for (uint32_t j = extent->location;
             j < extent->location + extent->count && request->error == 0; j++) {
            request->error = verify(extent, &request->locations[j], &payloads[j]);
        }
    }
    list_remove(&request->link); /* fn may start a new request */
    if (request->error == 0) {
        request->fn(request->ctx, 0, payloads, request->count);
    } else {
        request->fn(request->ctx, request->error, NULL, 0);
    }
    request_free(request);
}

/* Have all reads come back, and the headers they need too? */
static bool request_ready(const struct request *request)
{
    if (request->extents_missing > 0) {
        return false;
    }
    for (uint32_t i = 0; i < request->extent_count; i++) {
        if (request->extents[i].file->header_token != NO_READ) {
            return false;
        }
    }
    return true;
}

/* Notes what a header read brought; requests that need it and cannot have it get the error. */
static void on_header(struct log_reader *reader, struct reader_file *file, struct buf *owned_data,
                      int64_t result)
{
    struct segment_header header;
    int error = result < 0 ? (int)result : WR_E_CORRUPT;
    if (owned_data != NULL && result == (int64_t)SEGMENT_HEADER_SIZE) {
        error = segment_header_decode(owned_data->data, &header);
        if (error == 0 && header.number != file->segment) {
            error = WR_E_CORRUPT;
        }
    }
    buf_unref(owned_data);
    file->header_token = NO_READ;
    if (error == 0) {
        file->verified = true;
        file->seed = record_seed(header.salt);
        return;
    }
    LIST_FOREACH(link, &reader->requests) {
        struct request *request = WR_CONTAINER_OF(link, struct request, link);
        for (uint32_t i = 0; i < request->extent_count; i++) {
            if (request->extents[i].file == file && request->error == 0) {
                request->error = error;
            }
        }
    }
}

static struct reader_file *header_find(struct log_reader *reader, uint64_t token)
{
    LIST_FOREACH(link, &reader->files) {
        struct reader_file *file = WR_CONTAINER_OF(link, struct reader_file, link);
        if (file->header_token == token) {
            return file;
        }
    }
    return NULL;
}

static void finish_if_ready(struct log_reader *reader, struct request *request)
{
    struct reader_file *files[LOCATIONS_MAX];
    const uint32_t count = request->extent_count;
    if (!request_ready(request)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        files[i] = request->extents[i].file;
    }
    request_finish(request);
    /* The request was what kept its files: each extent holds one of `reads`. */
    for (uint32_t i = 0; i < count; i++) {
        if (--files[i]->reads == 0 && files[i]->doomed) {
            file_free(reader, files[i]);
        }
    }
}

/* A header is there: any request may have waited for it. */
static void finish_ready(struct log_reader *reader)
{
    /* fn may add requests (never ready) but not remove any. */
    LIST_FOREACH_SAFE(link, &reader->requests) {
        finish_if_ready(reader, WR_CONTAINER_OF(link, struct request, link));
    }
}

static void on_extent(struct log_reader *reader, struct extent *extent, struct buf *owned_data,
                      int64_t result)
{
    struct request *request = extent->request;
    extent->token = 0;
    extent->data = owned_data;
    request->extents_missing--;
    if (request->error == 0 && result != (int64_t)extent->size) {
        request->error = result < 0 ? (int)result : WR_E_CORRUPT;
    }
    finish_if_ready(reader, request);
}

bool log_reader_on_file(struct log_reader *reader, uint64_t token, int64_t result)
{
    if (token < LOG_READER_TOKEN_BASE) {
        return false;
    }
    struct buf *data = result >= 0 ? reader->env->ops->file_take(reader->env, token) : NULL;
    struct reader_file *file = header_find(reader, token);
    if (file != NULL) {
        on_header(reader, file, data, result);
        file->reads--; /* a request still holds the file */
        finish_ready(reader);
    } else {
        struct extent *extent = umap_remove(&reader->by_token, token);
        WR_ASSERT(extent != NULL);
        on_extent(reader, extent, data, result);
    }
    evict(reader, false);
    return true;
}
