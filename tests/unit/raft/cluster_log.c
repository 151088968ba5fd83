/* Payloads and logs of the cluster's members: see cluster.h. */
#include "cluster_internal.h"

#include <stdlib.h>
#include <string.h>

struct blob *sim__blob_new(struct sim *s, const uint8_t *bytes, uint32_t size)
{
    struct blob *b = malloc(sizeof *b + size);
    b->sim = s;
    b->refs = 1;
    b->size = size;
    if (size > 0) {
        memcpy(b->bytes, bytes, size);
    }
    s->blobs++;
    return b;
}

static void blob_ref(void *ctx, void *owner)
{
    (void)ctx;
    ((struct blob *)owner)->refs++;
}

void sim__blob_unref(void *ctx, void *owner)
{
    (void)ctx;
    struct blob *b = owner;
    SIM_CHECK(b->sim, b->refs > 0);
    if (--b->refs == 0) {
        b->sim->blobs--;
        free(b);
    }
}

static void *blob_create(void *ctx, const uint8_t *bytes, uint32_t size, const uint8_t **ret_data)
{
    struct blob *b = sim__blob_new(ctx, bytes, size);
    *ret_data = b->bytes;
    return b;
}

/* ---- logs ------------------------------------------------------------------------------------ */

void sim__log_push(struct sim_log *l, const struct sim_entry *e)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        l->entries = realloc(l->entries, l->capacity * sizeof *l->entries);
    }
    l->entries[l->count++] = *e;
    if (e->blob != NULL) {
        e->blob->refs++;
    }
}

static void entry_release(struct sim_entry *e)
{
    if (e->blob != NULL) {
        sim__blob_unref(NULL, e->blob);
    }
}

void sim__log_cut_from(struct sim_log *l, uint64_t from)
{
    while (l->count > 0 && l->entries[l->count - 1].index >= from) {
        entry_release(&l->entries[--l->count]);
    }
}

void sim__log_cut_to(struct sim_log *l, uint64_t index)
{
    uint32_t n = 0;
    while (n < l->count && l->entries[n].index <= index) {
        entry_release(&l->entries[n++]);
    }
    if (n > 0) {
        memmove(l->entries, l->entries + n, (l->count - n) * sizeof *l->entries);
        l->count -= n;
    }
}

void sim__log_free(struct sim_log *l)
{
    sim__log_cut_from(l, 0);
    free(l->entries);
    *l = (struct sim_log){0};
}

const struct sim_entry *sim_log_find(const struct sim_log *l, uint64_t index)
{
    if (l->count == 0 || index < l->entries[0].index || index > l->entries[l->count - 1].index) {
        return NULL;
    }
    return &l->entries[index - l->entries[0].index];
}

struct raft_entry sim__as_raft(const struct sim_entry *e)
{
    return (struct raft_entry){
        .term = e->term,
        .index = e->index,
        .kind = e->kind,
        .size = e->blob != NULL ? e->blob->size : 0,
        .data = e->blob != NULL ? e->blob->bytes : NULL,
        .owner = e->blob,
    };
}

struct raft_payload_ops sim__payload_ops(struct sim *s)
{
    return (struct raft_payload_ops){blob_ref, sim__blob_unref, blob_create, s};
}
