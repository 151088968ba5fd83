/*
 * What: reading messages of a group's queue back from disk, in order and ahead: from the log's segments while they exist,
 * from the checkpoint store afterwards. One read per home at a time; when it is done the home's routes are pumped.
 * Failure modes: a location that went away meanwhile (its segment was released) is looked for in the checkpoint store;
 * a message found nowhere is named in the log and marked `missing`, so that its delivery does not block the others.
 * Ownership: a request carries ids, not pointers; a home that ended meanwhile is not found.
 * Threads: the host's shard.
 */
#include "replica_internal.h"

struct load {
    struct host *host;
    uint64_t home, incarnation, serial;
    uint64_t position; /* first wanted */
    uint32_t count;
    struct where_run runs[LOAD_ENTRIES];
};

static struct home *load_home(struct host *host, uint64_t id, uint64_t incarnation, uint64_t serial)
{
    struct home *home = home_find(host, id);
    return home != NULL && home->incarnation == incarnation && home->load_serial == serial ? home : NULL;
}

/* A loaded message is kept when somebody may still want it: it is live, or a blocked delivery of it is under way. */
static bool wanted(const struct home *home, uint64_t position)
{
    if (queue_is_live(home->queue, position)) {
        return true;
    }
    for (size_t i = 0; i < home->held_drops.count; i++) {
        const struct position_range *r = &home->held_drops.items[i];
        if (position >= r->position && position - r->position < r->count) {
            return true;
        }
    }
    return false;
}

static void load_done(struct home *home, uint64_t position)
{
    const struct slice *first;
    home->loading = false;
    if (store_run(&home->store, position, 1, &first) == 0) {
        home->missing = position;
    }
    home_mark(home);
}

static void take_entry(struct home *home, const struct where_run *run, const struct slice *payload)
{
    if (payload->size < ENTRY_HEADER) {
        return;
    }
    struct queue_batch_reader reader;
    queue_batch_reader_init(&reader, payload->buf, payload->offset + ENTRY_HEADER, payload->offset + payload->size);
    struct queue_batch batch;
    uint32_t nth = 0;
    while (nth < run->nth + run->count && queue_batch_reader_next(&reader, &batch) == 1) {
        for (uint32_t i = 0; i < batch.count; i++) {
            if (batch.ops[i].kind != QUEUE_OP_ENQUEUE) {
                continue;
            }
            if (nth >= run->nth && nth < run->nth + run->count) {
                uint64_t position = run->position + (nth - run->nth);
                if (wanted(home, position)) {
                    store_add_loaded(&home->store, position, slice_ref(&batch.ops[i].message.record));
                }
            }
            nth++;
        }
    }
    queue_batch_reader_deinit(&reader);
}

static void load_kv(struct home *home, uint64_t position);

static void on_log_read(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct load *load = ctx;
    struct home *home = load_home(load->host, load->home, load->incarnation, load->serial);
    if (home == NULL) {
        wr_free(load);
        return;
    }
    if (error != 0) {
        wr_log(home->host->logger, LOG_LEVEL_WARNING, "queue", "queue %llu: reading the log at position %llu failed: %s",
               (unsigned long long)home->id, (unsigned long long)load->position, wr_err_text(error));
        load_kv(home, load->position);
        wr_free(load);
        return;
    }
    WR_ASSERT(count == load->count);
    store_make_room(&home->store, load->position);
    for (uint32_t i = 0; i < count; i++) {
        take_entry(home, &load->runs[i], &payloads[i]);
    }
    load_done(home, load->position);
    wr_free(load);
}

static void on_kv_read(struct host *host, struct kv_request *request, int result, struct kv_reply *reply)
{
    struct home *home = load_home(host, request->group, request->incarnation, request->b);
    if (home == NULL) {
        return;
    }
    store_make_room(&home->store, request->a);
    for (uint32_t i = 0; result == 0 && reply != NULL && i < reply->count; i++) {
        uint64_t group = 0;
        uint64_t position = 0;
        const struct kv_pair *pair = &reply->pairs[i];
        if (checkpoint_message_position(bytes_from_slice(&pair->key), &group, &position) == 0 &&
            message_check(bytes_from_slice(&pair->value)) == 0 && wanted(home, position)) {
            store_add_loaded(&home->store, position, slice_ref(&pair->value));
        }
    }
    if (result != 0) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "queue", "queue %llu: reading the checkpoint store at position %llu failed: %s",
               (unsigned long long)home->id, (unsigned long long)request->a, wr_err_text(result));
    }
    load_done(home, request->a);
}

static void load_kv(struct home *home, uint64_t position)
{
    struct host *host = home->host;
    struct kv_request *request = kv_request_new(host);
    request->done = on_kv_read;
    request->group = home->id;
    request->incarnation = home->incarnation;
    request->a = position;
    request->b = home->load_serial;
    home->loading = true;
    host->env->ops->kv_scan(host->env, checkpoint_message_key(home->id, position), checkpoint_message_key(home->id, position + 1024), 1024,
                            LOAD_BYTES, request->token);
}

/* Gathers the entries from `position` on that lie in the log, one run after the other. */
static uint32_t plan(const struct home *home, uint64_t position, struct load *load, struct log_location *locations)
{
    const struct where_run *run = store_where(&home->store, position);
    if (run == NULL) {
        return 0;
    }
    const struct where_run *end = home->store.where.items + home->store.where.count;
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (; run < end && count < LOAD_ENTRIES && (count == 0 || bytes < LOAD_BYTES); run++) {
        if ((count > 0 && load->runs[count - 1].index == run->index) ||
            !log_index_find(home->group->index, run->index, &locations[count])) {
            break;
        }
        bytes += locations[count].size;
        load->runs[count] = *run;
        count++;
    }
    return count;
}

void load_start(struct home *home, uint64_t position)
{
    if (home->loading || home->group == NULL) {
        return;
    }
    home->load_serial++;
    struct host *host = home->host;
    struct load *load = wr_calloc(1, sizeof *load);
    struct log_location locations[LOAD_ENTRIES];
    load->host = host;
    load->home = home->id;
    load->incarnation = home->incarnation;
    load->serial = home->load_serial;
    load->position = position;
    load->count = plan(home, position, load, locations);
    if (load->count > 0 && log_reader_read(host->options.reader, locations, load->count, on_log_read, load) == 0) {
        home->loading = true;
        return;
    }
    wr_free(load);
    load_kv(home, position);
}
