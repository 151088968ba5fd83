/*
 * What: parcels: making, sending and opening them. An encoded body is u32 size of the head, the
 * head (msgpack), then raw bytes (message records, entry payloads): slices on the way out, usually
 * one slice of the received frame on the way in. Invariants: what a peer sent is bounds-checked
 * here and in parcel_codec.c; nothing in it is believed. Ownership: a parcel owns its slices and
 * its local body. Threads: the host's shard; a parcel moves between shards as a whole.
 */
#include "host_internal.h"
#include "parcel.h"

struct parcel *parcel_new(void)
{
    return wr_calloc(1, sizeof(struct parcel));
}

void parcel_free(struct parcel *parcel)
{
    if (parcel == NULL) {
        return;
    }
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        slice_unref(&parcel->slices[i]);
    }
    wr_free(parcel->slices);
    if (parcel->local != NULL) {
        parcel->local_free(parcel->local);
    }
    wr_free(parcel);
}

struct parcel *parcel_make(struct host *host, uint8_t kind, uint8_t priority, uint64_t group,
                           struct uid node, uint32_t shard)
{
    struct parcel *parcel = parcel_new();
    parcel->to_node = node;
    parcel->from_node = host->options.node_id;
    parcel->to_shard = shard;
    parcel->from_shard = host->options.shard;
    parcel->group = group;
    parcel->kind = kind;
    parcel->priority = priority;
    return parcel;
}

void parcel_set_body(struct parcel *parcel, struct buf *owned_head, struct slice *owned_raw,
                     uint32_t raw_count)
{
    WR_ASSERT(parcel->slices == NULL);
    struct buf *size = buf_new(4 + owned_head->size);
    bytes_store_le32(size->data, owned_head->size);
    memcpy(size->data + 4, owned_head->data, owned_head->size);
    size->size = 4 + owned_head->size;
    buf_unref(owned_head);
    parcel->slices = wr_calloc((size_t)raw_count + 1, sizeof *parcel->slices);
    parcel->slices[0] = slice_of_buf(size);
    for (uint32_t i = 0; i < raw_count; i++) {
        parcel->slices[i + 1] = owned_raw[i];
    }
    parcel->slice_count = raw_count + 1;
}

static int gather(struct parcel *parcel)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        total += parcel->slices[i].size;
    }
    struct buf *all = buf_try_new(total);
    if (all == NULL) {
        return WR_E_NOMEM;
    }
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        struct slice *s = &parcel->slices[i];
        if (s->size > 0) {
            memcpy(all->data + all->size, slice_data(s), s->size);
            all->size += s->size;
        }
        slice_unref(s);
    }
    parcel->slices[0] = slice_of_buf(all);
    parcel->slice_count = 1;
    return 0;
}

int parcel_body(struct parcel *parcel, struct bytes *ret_head, struct slice *ret_raw)
{
    if (parcel->slice_count == 0) {
        return WR_E_CORRUPT;
    }
    if (parcel->slice_count > 1) {
        int error = gather(parcel);
        if (error != 0) {
            return error;
        }
    }
    const struct slice *all = &parcel->slices[0];
    if (all->size < 4) {
        return WR_E_CORRUPT;
    }
    uint32_t head = bytes_load_le32(slice_data(all));
    if (head > all->size - 4) {
        return WR_E_CORRUPT;
    }
    *ret_head = bytes_make(slice_data(all) + 4, head);
    *ret_raw = slice_sub(all, 4 + head, all->size - 4 - head);
    return 0;
}

/* What a peer sent and cannot be read: dropped, as a lost packet would be. */
void parcel_refused(struct host *host, const struct parcel *parcel, const char *what, int error)
{
    wr_log(host->logger, LOG_LEVEL_ERROR, "queue", "%s of queue %llu refused: %s", what,
           (unsigned long long)parcel->group, wr_err_text(error));
}

void parcel_send(struct host *host, struct parcel *owned)
{
    if (host_is_self(host, owned->to_node)) {
        if (owned->to_shard == HOST_SHARD_BY_GROUP) {
            owned->to_shard = host_shard_of_group(owned->group, host->options.shard_count);
        }
        if (owned->to_shard == host->options.shard) {
            vec_push(&host->inbox, owned);
            return;
        }
    }
    host->options.transport.send(host->options.transport.ctx, owned);
}
