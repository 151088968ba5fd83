/*
 * What: the stored form of a group's machine: in the checkpoint store, and between replicas.
 * Frozen: u8 1, varint number of where-runs, the runs (of bodies that stay in the log), the
 * machine. Failure modes: WR_E_VERSION, WR_E_CORRUPT, or what the machine says of its part.
 * Threads: the host's shard.
 */
#include "checkpoint_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "store.h"

bool checkpoint_run_stays(const struct group *group, const struct where_run *run, uint32_t segment)
{
    struct log_location location;
    return log_index_find(group->index, run->index, &location) &&
           location.position.segment > segment;
}

/* u8 1, varint number of where-runs, the runs, the machine. */
void stored_machine_encode(struct group *group, uint32_t segment, bool with_where, struct buf **out)
{
    struct writer w = {*out};
    put_u8(&w, 1);
    const struct store *store = group->home != NULL ? &group->home->store : NULL;
    uint64_t count = 0;
    for (size_t i = store != NULL && with_where ? store->where_first : SIZE_MAX;
         store != NULL && i < store->where.count; i++) {
        count += checkpoint_run_stays(group, &store->where.items[i], segment);
    }
    put_varint(&w, count);
    for (size_t i = count > 0 ? store->where_first : SIZE_MAX; count > 0 && i < store->where.count;
         i++) {
        const struct where_run *run = &store->where.items[i];
        if (checkpoint_run_stays(group, run, segment)) {
            put_varint(&w, run->position);
            put_varint(&w, run->index);
            put_varint(&w, run->nth);
            put_varint(&w, run->count);
        }
    }
    *out = w.buf;
    group->ops->snapshot(group, out);
}

int stored_machine_decode(struct group *group, uint64_t index, struct bytes stored)
{
    struct reader r = reader_from(stored);
    VEC(struct where_run) runs = {0};
    if (rd_u8(&r) != 1) {
        return WR_E_VERSION;
    }
    uint64_t count = rd_varint(&r);
    uint64_t next = 0;
    for (uint64_t i = 0; i < count && !r.failed; i++) {
        struct where_run run = {.position = rd_varint(&r), .index = rd_varint(&r)};
        run.nth = (uint32_t)rd_varint(&r);
        run.count = (uint32_t)rd_varint(&r);
        if (run.position < next || run.count == 0) {
            rd_fail(&r);
        }
        next = run.position + run.count;
        vec_push(&runs, run);
    }
    int error = r.failed || (count > 0 && group->home == NULL) ? WR_E_CORRUPT : 0;
    if (error == 0) {
        error = group->ops->restore(group, index, bytes_make(r.at, rd_left(&r)));
    }
    for (size_t i = 0; error == 0 && i < runs.count; i++) {
        vec_push(&group->home->store.where, runs.items[i]);
    }
    if (error == 0 && runs.count > 0) {
        struct store *store = &group->home->store;
        store->kv_end = store->kv_unknown = runs.items[0].position;
    }
    vec_deinit(&runs);
    return error;
}
