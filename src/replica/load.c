/*
 * What: reading messages of a group's queue back from disk, in order and ahead (or one by one,
 * when they are wanted in another order: by priority, when they are due): from the log's segments
 * while they exist, from the checkpoint store afterwards. `fetch` is the reading itself
 * (deliveries, checkpoints and snapshots use it); `load` puts what it brings into a home's store
 * and pumps its routes, one read per home at a time. Failure modes: a location that went away
 * meanwhile (its segment was released) is looked for in the checkpoint store; a message found
 * nowhere is named in the log and marked `missing`, so that its delivery does not block the others;
 * one that cannot be read now (no descriptor is left, the store says an error) is not missing: it
 * is asked for again until it can. Ownership: a request carries ids, not pointers; a home that
 * ended meanwhile is not found. Threads: the host's shard.
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "store.h"

#define TELL_MS 10000u /* between lines about it, whichever queues they name */

struct fetch {
    struct list link; /* in host->fetches: freed with the host when never answered */
    struct host *host;
    uint64_t group, incarnation;
    uint64_t position; /* first wanted */
    enum fetch_how how;
    uint32_t count;
    struct where_run runs[LOAD_ENTRIES];
    fetch_fn fn;
    uint64_t a, b;
    VEC(struct fetched) items;
    struct timer again;
    bool failed; /* and is tried again */
};

/* NULL: it has ended. */
static struct group *fetch_group(const struct fetch *fetch)
{
    struct group *group = group_find(fetch->host, fetch->group);
    return group != NULL && group->incarnation == fetch->incarnation && !group->ended ? group
                                                                                      : NULL;
}

static void finish(struct fetch *fetch)
{
    struct group *group = fetch_group(fetch);
    if (group != NULL) {
        fetch->fn(group, fetch->position, fetch->items.items, fetch->items.count, fetch->a,
                  fetch->b);
        group_mark(group);
    }
    fetch_free(fetch);
}

void fetch_free(struct fetch *fetch)
{
    list_remove(&fetch->link);
    timer_cancel(&fetch->host->timers, &fetch->again);
    for (size_t i = 0; i < fetch->items.count; i++) {
        slice_unref(&fetch->items.items[i].record);
    }
    vec_deinit(&fetch->items);
    wr_free(fetch);
}

void log_job_add(struct host *host, struct log_job *job)
{
    list_push_back(&host->log_jobs, &job->link);
}

void log_job_free(struct log_job *job)
{
    list_remove(&job->link);
    wr_free(job);
}

void fetches_free(struct host *host)
{
    for (struct list *link; (link = list_first(&host->fetches)) != NULL;) {
        fetch_free(WR_CONTAINER_OF(link, struct fetch, link));
    }
    for (struct list *link; (link = list_first(&host->log_jobs)) != NULL;) {
        log_job_free(WR_CONTAINER_OF(link, struct log_job, link));
    }
}

static void take_entry(struct fetch *fetch, const struct where_run *run,
                       const struct slice *payload)
{
    if (payload->size < ENTRY_HEADER) {
        return;
    }
    struct queue_batch_reader reader;
    queue_batch_reader_init(&reader, payload->buf, payload->offset + ENTRY_HEADER,
                            payload->offset + payload->size);
    struct queue_batch batch;
    uint32_t nth = 0;
    while (nth < run->nth + run->count && queue_batch_reader_next(&reader, &batch) == 1) {
        for (uint32_t i = 0; i < batch.count; i++) {
            if (batch.ops[i].kind != QUEUE_OP_ENQUEUE) {
                continue;
            }
            if (nth >= run->nth && nth < run->nth + run->count) {
                uint64_t position = run->position + (nth - run->nth);
                vec_push(&fetch->items,
                         (struct fetched){position, slice_ref(&batch.ops[i].message.record)});
            }
            nth++;
        }
    }
    queue_batch_reader_deinit(&reader);
}

static void fetch_begin(struct group *group, struct fetch *fetch);

static void on_again(struct timer *timer)
{
    struct fetch *fetch = WR_CONTAINER_OF(timer, struct fetch, again);
    struct group *group = fetch_group(fetch);
    if (group == NULL) {
        finish(fetch);
    } else {
        fetch_begin(group, fetch);
    }
}

void load_tell(struct host *host, uint64_t group, const char *what, uint64_t at, int error)
{
    if (host->read_told_ms == 0 || host->now_ms - host->read_told_ms >= TELL_MS) {
        host->read_told_ms = host->now_ms;
        wr_log(host->logger, LOG_LEVEL_WARNING, "queue",
               "queue %llu: reading %s %llu failed: %s; it is tried again",
               (unsigned long long)group, what, (unsigned long long)at, wr_err_text(error));
    }
}

/* What cannot be read is there all the same: to answer without it would make its reader pass it
 * over, and who copies what lives would leave it behind for good. */
static void fetch_later(struct fetch *fetch, const char *what, int error)
{
    struct host *host = fetch->host;
    fetch->failed = true;
    load_tell(host, fetch->group, what, fetch->position, error);
    timer_add(&host->timers, &fetch->again, host->now_ms + LOAD_AGAIN_MS, on_again);
}

static void on_kv_read(struct host *host, struct kv_request *request, int result,
                       struct kv_reply *reply)
{
    struct fetch *fetch = request->user;
    if (result != 0 && result != WR_E_CORRUPT) {
        fetch_later(fetch, "the checkpoint store at position", result);
        return;
    }
    for (uint32_t i = 0; result == 0 && reply != NULL && i < reply->count; i++) {
        uint64_t group = 0;
        uint64_t position = 0;
        const struct kv_pair *pair = &reply->pairs[i];
        if (checkpoint_message_position(bytes_from_slice(&pair->key), &group, &position) == 0 &&
            message_check(bytes_from_slice(&pair->value)) == 0) {
            vec_push(&fetch->items, (struct fetched){position, slice_ref(&pair->value)});
        }
    }
    if (result != 0) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "queue",
               "queue %llu: reading the checkpoint store at position %llu failed: %s",
               (unsigned long long)fetch->group, (unsigned long long)fetch->position,
               wr_err_text(result));
    }
    finish(fetch);
}

static void fetch_kv(struct fetch *fetch)
{
    struct host *host = fetch->host;
    struct kv_request *request = kv_request_new(host);
    request->done = on_kv_read;
    request->user = fetch;
    const uint32_t count = fetch->how == FETCH_AHEAD ? 1024 : 1;
    host->env->ops->kv_scan(host->env, checkpoint_message_key(fetch->group, fetch->position),
                            checkpoint_message_key(fetch->group, fetch->position + count), count,
                            LOAD_BYTES, request->token);
}

static void on_log_read(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct fetch *fetch = ctx;
    if (error != 0) {
        wr_log(fetch->host->logger, LOG_LEVEL_WARNING, "queue",
               "queue %llu: reading the log at position %llu failed: %s",
               (unsigned long long)fetch->group, (unsigned long long)fetch->position,
               wr_err_text(error));
        fetch_kv(fetch);
        return;
    }
    WR_ASSERT(count == fetch->count);
    for (uint32_t i = 0; i < count; i++) {
        take_entry(fetch, &fetch->runs[i], &payloads[i]);
    }
    finish(fetch);
}

/* Gathers the entries from `position` on that lie in the log, one run after the other. */
static uint32_t plan(const struct group *group, struct fetch *fetch, struct log_location *locations)
{
    const struct store *store = &group->home->store;
    const struct where_run *run = store_where(store, fetch->position);
    if (run == NULL) {
        return 0;
    }
    const struct where_run *end = store->where.items + store->where.count;
    /* Tried again, it takes one file, whatever there is. */
    const uint32_t most = fetch->how == FETCH_AHEAD && !fetch->failed ? LOAD_ENTRIES : 1;
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (; run < end && count < most && (count == 0 || bytes < LOAD_BYTES); run++) {
        if ((count > 0 && fetch->runs[count - 1].index == run->index) ||
            !log_index_find(group->index, run->index, &locations[count])) {
            break;
        }
        bytes += locations[count].size;
        fetch->runs[count] = *run;
        count++;
    }
    return count;
}

static void fetch_begin(struct group *group, struct fetch *fetch)
{
    struct log_location locations[LOAD_ENTRIES];
    fetch->count = plan(group, fetch, locations);
    const int error = fetch->count == 0 ? WR_E_NOTFOUND
                                        : log_reader_read(fetch->host->options.reader, locations,
                                                          fetch->count, on_log_read, fetch);
    if (error == WR_E_NOTFOUND) {
        fetch_kv(fetch);
    } else if (error != 0) {
        fetch_later(fetch, "the log at position", error);
    }
}

void fetch_start(struct group *group, uint64_t position, enum fetch_how how, fetch_fn fn,
                 uint64_t a, uint64_t b)
{
    struct host *host = group->host;
    struct fetch *fetch = wr_calloc(1, sizeof *fetch);
    fetch->host = host;
    fetch->group = group->id;
    fetch->incarnation = group->incarnation;
    fetch->position = position;
    fetch->how = how;
    fetch->fn = fn;
    fetch->a = a;
    fetch->b = b;
    timer_init(&fetch->again);
    list_push_back(&host->fetches, &fetch->link);
    fetch_begin(group, fetch);
}

/* --- into the store -------------------------------------------------------------------------- */

static bool is_within(uint64_t position, uint64_t first, uint64_t count)
{
    return position >= first && position - first < count;
}

bool home_wants(const struct home *home, uint64_t position)
{
    if (queue_is_live(home->queue, position)) {
        return true;
    }
    if (rangemap_find(&home->held_drops, position) != NULL) {
        return true;
    }
    for (size_t i = home->behind_first; i < home->behind.count; i++) {
        const struct queue_effect *e = &home->behind.items[i].effect;
        if (e->kind == QUEUE_EFFECT_DROP && is_within(position, e->position, e->count)) {
            return true;
        }
    }
    return false;
}

static void on_loaded(struct group *group, uint64_t position, const struct fetched *items,
                      size_t count, uint64_t serial, uint64_t how)
{
    struct home *home = group->home;
    if (serial != home->load_serial) {
        return;
    }
    home->loading = false;
    store_make_room(&home->store, position);
    for (size_t i = 0; i < count; i++) {
        const struct slice *first;
        const bool asked = items[i].position == position || how == FETCH_AHEAD;
        if ((asked || store_has_room(&home->store)) && home_wants(home, items[i].position) &&
            store_run(&home->store, items[i].position, 1, &first) == 0) {
            store_add_loaded(&home->store, items[i].position, slice_ref(&items[i].record));
        }
    }
    const struct slice *first;
    uint64_t run = store_run(&home->store, position, UINT64_MAX, &first);
    if (run == 0) {
        home->missing = position;
    }
    for (home->load_next = position; run > 0;) {
        home->load_next += run;
        run = store_run(&home->store, home->load_next, UINT64_MAX, &first);
    }
    home_mark(home);
}

void load_start(struct home *home, uint64_t position)
{
    const struct store *store = &home->store;
    if (home->loading || home->group == NULL) {
        return;
    }
    const bool in_order =
        position == home->load_next || position == store->end || store->base == store->end;
    const enum fetch_how how = in_order ? FETCH_AHEAD : FETCH_ONE;
    home->loading = true;
    home->load_serial++;
    fetch_start(home->group, position, how, on_loaded, home->load_serial, how);
}
