/*
 * What: long listings without a long turn: what is listed is walked, and the answer written, some
 * rows a turn, for shard 0 has clients and links to serve meanwhile.
 *
 * Happy path: control__walk_begin -> control__walk_step until the end -> all asked have answered ->
 * control__write_begin -> control__write_step until the text is complete and sent.
 * Invariants: the walk goes over one view, which the job holds; what answers of queues say is
 * looked up in the present one. A job that is being written is over for everybody else.
 * Ownership: the job's. Threads: shard 0.
 */
#include <stdlib.h>
#include <string.h>

#include "warren/mem.h"

#include "control_internal.h"
#include "listing.h"

#define ROWS_PER_TURN 200u

/* --- the walk --------------------------------------------------------------------------------- */

void control__walk_begin(struct job *job, const struct catalog_vhost *vhost, uint32_t what,
                         uint32_t timeout_ms)
{
    struct walk *walk = &job->walk;
    WR_ASSERT(walk->view == NULL);
    walk->view = catalog_view_ref(job->shard->view);
    walk->vhost = vhost;
    walk->what = what;
    walk->timeout_ms = timeout_ms;
    if (job->lists == LISTS_EXCHANGES) {
        catalog_iter_exchanges(&walk->it, walk->view, vhost);
    } else {
        catalog_iter_queues(&walk->it, walk->view, vhost);
    }
}

static void walk_end(struct job *job)
{
    catalog_view_unref(job->walk.view);
    job->walk = (struct walk){0};
}

/* The default exchange's bindings, by queue, come before the others. */
static bool binding_next(struct job *job)
{
    struct walk *walk = &job->walk;
    const void *item = catalog_iter_next(&walk->it);
    if (item == NULL && !walk->second) {
        walk->second = true;
        catalog_iter_bindings(&walk->it, walk->view, walk->vhost);
        item = catalog_iter_next(&walk->it);
    }
    if (item == NULL) {
        return false;
    }
    if (walk->second) {
        listing_binding(item, job->rows);
    } else {
        listing_default_binding(item, job->rows);
    }
    return true;
}

static bool walk_next(struct job *job)
{
    struct walk *walk = &job->walk;
    if (job->lists == LISTS_BINDINGS) {
        return binding_next(job);
    }
    const void *item = catalog_iter_next(&walk->it);
    if (item == NULL) {
        return false;
    }
    if (job->lists == LISTS_EXCHANGES) {
        listing_exchange(item, job->rows);
    } else {
        control__ask_queue(job, item);
    }
    return true;
}

void control__walk_step(struct job *job)
{
    for (uint32_t i = 0; i < ROWS_PER_TURN; i++) {
        if (!walk_next(job)) {
            walk_end(job);
            job->starting = false;
            control__job_progress(job);
            return;
        }
    }
}

void control__walk_cut(struct job *job)
{
    if (job->walk.view != NULL && (job->lists == LISTS_QUEUES || job->lists == LISTS_CONSUMERS)) {
        while (catalog_iter_next(&job->walk.it) != NULL) {
            job->missing++;
        }
    }
    walk_end(job);
}

/* --- the answer ------------------------------------------------------------------------------- */

bool control__is_long(const struct job *job)
{
    return json_array_size(job->rows) > ROWS_PER_TURN;
}

static void put_text(struct writer *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

void control__write_begin(struct job *job, json_t *owned_rest)
{
    job->writing = true;
    job->rest = owned_rest;
    writer_init(&job->text, 64 * 1024);
    put_text(&job->text, "{\"result\":[");
}

static bool put_json(struct writer *w, const json_t *value, size_t skip)
{
    char *text = json_dumps(value, JSON_COMPACT);
    if (text != NULL) {
        put_text(w, text + skip);
    }
    free(text);
    return text != NULL;
}

void control__write_step(struct job *job)
{
    const size_t count = json_array_size(job->rows);
    bool good = true;
    for (uint32_t i = 0; i < ROWS_PER_TURN && job->written < count && good; i++) {
        if (job->written > 0) {
            put_u8(&job->text, ',');
        }
        good = put_json(&job->text, json_array_get(job->rows, job->written), 0);
        /* Freed now: all of them at the end would take as long as to write them. */
        (void)json_array_set_new(job->rows, job->written++, json_null());
    }
    if (good && job->written < count) {
        return;
    }
    put_text(&job->text, "],");
    good = good && put_json(&job->text, job->rest, 1); /* an object that is not empty */
    if (good && job->from != NULL) {
        link_conn_send(job->from, LINK_REPLY, writer_bytes(&job->text));
    } else if (!good) {
        control__send(job->from, NULL);
    }
    control__job_free(job);
}
