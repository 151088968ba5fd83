/*
 * What: a client's ops on their way to whoever leads its queue.
 * Happy path: at the end of a turn, what was asked for is cut into batches and goes: into a queue
 * of this shard at once; to a leader on this shard, straight into its entry; to another shard or
 * node in one parcel with what other clients have for the same home. Failure modes: none of its
 * own; who leads is found in client_seek.c, and what was lost is sent again after an answer
 * (client_answer.c sets ops_sent back). Invariants I1  Ops are sent in order; those not reported
 * applied are kept (unless nothing can be lost: own node's local queue). Threads: the host's shard.
 * Spec: docs/replica.md, "Clients".
 */
#include "client_internal.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"

#define OPS_PER_BATCH 8192u
/* Most ops on their way: of those applied the leader remembers which were refused, up to a limit.
 */
#define OPS_SENT_MAX (QUEUE_NACKED_KEPT / 2)

#define OP_OVERHEAD 64u /* of an enqueue in an entry and a log, about */

static void ops_dest_send(struct host *host, struct ops_dest *dest)
{
    struct parcel *parcel = parcel_make(host, PARCEL_OPS, 1, dest->queue, dest->node, dest->shard);
    if (host_is_self(host, dest->node)) {
        parcel->local = dest->bundle;
        parcel->local_free = ops_bundle_free;
    } else {
        ops_pack(parcel, dest->bundle);
    }
    dest->bundle = NULL;
    parcel_send(host, parcel);
}

void client_flush_dests(struct host *host)
{
    for (size_t i = 0; i < host->ops_dests.count; i++) {
        ops_dest_send(host, host->ops_dests.items[i]);
        wr_free(host->ops_dests.items[i]);
    }
    vec_clear(&host->ops_dests);
}

static struct ops_dest *ops_dest_of(struct queue_client *client, bool encoded)
{
    struct host *host = client->host;
    struct ops_dest *dest = NULL;
    for (size_t i = host->ops_dests.count; i-- > 0 && dest == NULL;) {
        struct ops_dest *d = host->ops_dests.items[i];
        if (d->queue == client->queue && d->shard == client->shard &&
            uid_eq(d->node, client->node)) {
            dest = d;
        }
    }
    if (dest != NULL && encoded && dest->bundle->encoded->size > ENTRY_BYTES_WANTED) {
        ops_dest_send(host, dest);
    }
    if (dest == NULL) {
        dest = wr_calloc(1, sizeof *dest);
        dest->node = client->node;
        dest->shard = client->shard;
        dest->queue = client->queue;
        vec_push(&host->ops_dests, dest);
    }
    if (dest->bundle == NULL) {
        dest->bundle = wr_calloc(1, sizeof *dest->bundle);
        if (encoded) {
            dest->bundle->encoded = buf_new(4096);
            memset(dest->bundle->encoded->data, 0, ENTRY_HEADER); /* travels as it is */
            dest->bundle->encoded->size = ENTRY_HEADER;
        }
    }
    return dest;
}

static void sent_bytes(struct queue_client *client, uint64_t last_seq)
{
    if (client->unsent_bytes > 0) {
        vec_push(&client->sent, (struct client_sent){last_seq, client->unsent_bytes});
        client->unsent_bytes = 0;
    }
}

static bool asks_what_is_ready(const struct queue_op *op)
{
    return op->kind == QUEUE_OP_GET || op->kind == QUEUE_OP_PURGE || op->kind == QUEUE_OP_SEAL ||
           op->kind == QUEUE_OP_TAKE || op->kind == QUEUE_OP_PEEK;
}

/*
 * Where the batch that begins at `begin` ends. The machine hands messages out after each batch: an
 * op that looks at what is ready begins one of its own, or a basic.get would take what was
 * published just before it, past a consumer that waits.
 */
static size_t batch_end(const struct queue_op *ops, size_t begin, size_t count)
{
    uint64_t bytes = 0;
    size_t end = begin;
    while (end < count && end - begin < OPS_PER_BATCH && bytes < ENTRY_BYTES_WANTED &&
           (end == begin || !asks_what_is_ready(&ops[end]))) {
        bytes += ops[end++].message.record.size;
    }
    return end;
}

/* A local queue of this shard: its ops are applied now; nothing is kept. */
static void flush_here(struct queue_client *client, struct home *home)
{
    struct op_vec ops = client->ops;
    size_t first = client->ops_first;
    uint64_t last = client->next_seq - 1;
    client->ops = (struct op_vec){0};
    client->ops_first = client->ops_sent = 0;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, last);
    struct host *host = client->host;
    for (size_t begin = first; begin < ops.count;) {
        size_t end = batch_end(ops.items, begin, ops.count);
        home_take_ops(home, host->options.node_id, host->options.shard, &section, ops.items + begin,
                      (uint32_t)(end - begin));
        begin = end;
    }
    ops_release(ops.items + first, ops.count - first);
    if (client->ops.items == NULL) {
        vec_clear(&ops);
        client->ops = ops; /* the memory again */
    } else {
        vec_deinit(&ops);
    }
}

static void flush_local_shard(struct queue_client *client)
{
    struct ops_dest *dest = ops_dest_of(client, false);
    size_t count = client->ops.count - client->ops_first;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    uint32_t base = (uint32_t)dest->bundle->ops.count;
    for (size_t begin = 0; begin < count; begin = section.end - base) {
        section.begin = base + (uint32_t)begin;
        section.end =
            base + (uint32_t)batch_end(client->ops.items + client->ops_first, begin, count);
        vec_push(&dest->bundle->sections, section);
    }
    vec_reserve(&dest->bundle->ops, count);
    memcpy(dest->bundle->ops.items + dest->bundle->ops.count, client->ops.items + client->ops_first,
           count * sizeof *client->ops.items);
    dest->bundle->ops.count += count;
    vec_clear(&client->ops);
    client->ops_first = client->ops_sent = 0;
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
}

/* Up to where ops may be on their way now: not before those that are. */
static size_t window_end(const struct queue_client *client)
{
    const size_t last = client->ops_first + OPS_SENT_MAX;
    const size_t end = last < client->ops.count ? last : client->ops.count;
    uint64_t bytes = 0;
    if (client->pace == 0) {
        return end;
    }
    for (size_t i = client->ops_first; i < end; i++) {
        const struct queue_op *op = &client->ops.items[i];
        bytes += op->kind == QUEUE_OP_ENQUEUE ? op->message.record.size + OP_OVERHEAD : 0;
        if (bytes > client->pace && i > client->ops_first) {
            return i > client->ops_sent ? i : client->ops_sent;
        }
    }
    return end;
}

static void flush_encoded(struct queue_client *client)
{
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    const size_t window = window_end(client);
    while (client->ops_sent < window) {
        struct ops_dest *dest = ops_dest_of(client, true);
        struct ops_bundle *bundle = dest->bundle;
        size_t end = batch_end(client->ops.items, client->ops_sent, window);
        const struct queue_batch batch = {client->id, (uint32_t)(end - client->ops_sent),
                                          client->ops.items + client->ops_sent};
        section.begin = bundle->encoded->size;
        queue_batch_encode(&bundle->encoded, &batch);
        section.end = bundle->encoded->size;
        section.last_seq = client->ops.items[end - 1].seq;
        vec_push(&bundle->sections, section);
        client->ops_sent = end;
    }
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
}

/* The leader is on this very shard: straight into its entry. */
static void flush_group_here(struct queue_client *client, struct home *home)
{
    struct host *host = client->host;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
    const size_t window = window_end(client);
    while (client->ops_sent < window && client->state == CLIENT_CONNECTED) {
        size_t begin = client->ops_sent;
        client->ops_sent = batch_end(client->ops.items, begin, window);
        home_take_ops(home, host->options.node_id, host->options.shard, &section,
                      client->ops.items + begin, (uint32_t)(client->ops_sent - begin));
    }
}

static bool is_here(const struct queue_client *client)
{
    const struct host_options *o = &client->host->options;
    if (!host_is_self(client->host, client->node)) {
        return false;
    }
    return client->shard == o->shard ||
           (client->shard == HOST_SHARD_BY_GROUP &&
            host_shard_of_group(client->queue, o->shard_count) == o->shard);
}

static void flush(struct queue_client *client)
{
    size_t unsent = client->ops.count - client->ops_sent;
    if (client->state == CLIENT_RESUMING) {
        return;
    }
    if (unsent > 0 && uid_is_zero(client->node)) {
        client_seek(client);
        if (uid_is_zero(client->node) || client->state == CLIENT_RESUMING) {
            return;
        }
    }
    if (unsent == 0) {
        return;
    }
    if (is_here(client)) {
        struct home *home = home_find(client->host, client->queue);
        if (client->local && home != NULL) {
            flush_here(client, home);
            return;
        }
        if (home != NULL && home->serving) {
            client->shard = client->host->options.shard;
            flush_group_here(client, home);
            return;
        }
        if (client->local) {
            return; /* it is gone: the view says so in a moment */
        }
    }
    if (client->local && client->own_node) {
        flush_local_shard(client);
    } else {
        flush_encoded(client);
    }
}

void client_turn(struct host *host)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &host->dirty_clients);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        struct queue_client *client = WR_CONTAINER_OF(link, struct queue_client, dirty);
        if (client->gone) {
            if (client->closing) {
                client_free(client);
            }
            continue;
        }
        client_check_blocked(client);
        flush(client);
        if (!client->gone) {
            client_arm(client);
        }
    }
    client_flush_dests(host);
}

void clients_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->clients);
    while (umap_next(&it)) {
        client_free(it.value);
    }
    for (size_t i = 0; i < host->ops_dests.count; i++) {
        ops_bundle_free(host->ops_dests.items[i]->bundle);
        wr_free(host->ops_dests.items[i]);
    }
    vec_clear(&host->ops_dests);
}
