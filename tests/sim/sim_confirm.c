/*
 * What: what a confirm is worth at the moment in which it leaves the node: the message must be in
 * the durable images of the disks of a majority of its queue's voters (sim_durable.c: as bytes, in
 * the log or in the checkpoint store), whatever the log, the core and the machine believe.
 *
 * Follows the frames that a node hands to its kernel on a client's connection and looks at
 * basic.ack. One in SAMPLE is checked (it reads whole segments). A message that was delivered
 * already is not: it may be settled and gone. With membership changes in the run one disk less is
 * accepted: the entry may have been committed by a majority of the members before.
 */
#include "sim_confirm.h"

#include "sim_client.h"
#include "sim_durable.h"

#include "node/node_internal.h"
#include "replica/host_internal.h"

#define SAMPLE       64u
#define HEAD         64u /* bytes of a body that are looked for */
#define FRAME_HEADER 7u  /* type, channel, size */
#define ACK_SIZE     13u

uint64_t sim_group_of_queue(struct sim *sim, struct sim_queue *queue)
{
    for (uint32_t i = 0; queue->group == 0 && i < sim->node_count; i++) {
        if (!sim->hosts[i].running) {
            continue;
        }
        struct catalog_iter it;
        const struct host *host = node_shard_host(sim->hosts[i].node, 0);
        if (host->view == NULL) {
            continue;
        }
        catalog_iter_queues(&it, host->view, NULL);
        for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
            if (bytes_eq(q->spec.name, bytes_from_cstr(queue->name))) {
                queue->group = q->id;
            }
        }
    }
    return queue->group;
}

/* Voters according to who leads in the newest term; 0: nobody does. */
static uint32_t voters_of(struct sim *sim, uint64_t group)
{
    uint64_t newest = 0;
    uint32_t voters = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct group_status s;
        const struct group *g = sim_group_on(sim, i, group);
        if (g != NULL && host_group_status(g->host, group, &s) && s.leading && s.term > newest) {
            newest = s.term;
            voters = s.voters;
        }
    }
    return voters;
}

static void check(struct sim *sim, const struct channel *channel, uint64_t tag)
{
    struct sim_queue *queue = &sim->ledger.queues[channel->queue];
    const struct outstanding *item = NULL;
    for (size_t i = 0; i < channel->unconfirmed.count; i++) {
        item = channel->unconfirmed.items[i].tag == tag ? &channel->unconfirmed.items[i] : item;
    }
    if (channel->role != ROLE_PUBLISHER || !queue->strict || item == NULL) {
        return;
    }
    const struct sim_record *record = sim_ledger_record(sim, channel->publisher, item->seq);
    const uint64_t group = sim_group_of_queue(sim, queue);
    const uint32_t voters = group == 0 ? 0 : voters_of(sim, group);
    const bool keeps = queue->ttl_ms == 0 && queue->delivery_limit == 0 &&
                       (queue->length_max == 0 || queue->rejects);
    if (record->received > 0 || record->returned || voters == 0 || !keeps) {
        return;
    }
    uint8_t *body = wr_alloc(record->size);
    sim_body_write(body, channel->publisher, item->seq, channel->queue, record->size);
    uint32_t backed = 0;
    uint32_t wanted = voters / 2 + 1;
    wanted -= sim->options.faults[SIM_FAULT_MEMBERS] && wanted > 1 ? 1 : 0;
    for (uint32_t i = 0; i < sim->node_count && backed < wanted; i++) {
        backed += sim_durable_body(sim, i, body, record->size < HEAD ? record->size : HEAD) ? 1 : 0;
    }
    wr_free(body);
    if (backed < wanted) {
        sim_fail(sim,
                 "message %u.%llu of %s is confirmed to client %u, and is on %u disks; its queue "
                 "has %u voters",
                 channel->publisher, (unsigned long long)item->seq, queue->name,
                 channel->client->number, backed, voters);
    }
    SIM_SOMETIMES(sim, true, SIM_SEEN_CONFIRM_BACKED);
}

static void frame_over(struct sim *sim, struct sim_confirms *c, struct client *client, bool current)
{
    const uint8_t *payload = c->head + FRAME_HEADER;
    const uint32_t number = bytes_load_be16(c->head + 1);
    if (c->head[0] == WIRE_FRAME_METHOD && c->have == FRAME_HEADER + ACK_SIZE && current &&
        bytes_load_be16(payload) == 60 && bytes_load_be16(payload + 2) == 80 && number > 0 &&
        number <= client->channel_count && sim->confirms_seen++ % SAMPLE == 0) {
        check(sim, &client->channels[number - 1], bytes_load_be64(payload + 4));
    }
}

void sim_confirms_watch(struct sim *sim, struct sim_confirms *c, struct client *client,
                        bool current, const struct slice *bytes)
{
    const uint8_t *at = slice_data(bytes);
    const uint8_t *end = at + bytes->size;
    while (at < end) {
        if (c->have < FRAME_HEADER) {
            c->head[c->have++] = *at++;
            if (c->have == FRAME_HEADER) {
                c->left = (uint64_t)bytes_load_be32(c->head + 3) + 1;
            }
            continue;
        }
        const uint64_t rest = (uint64_t)(end - at);
        const uint64_t n = c->left < rest ? c->left : rest;
        for (uint64_t i = 0; i < n && c->have < sizeof c->head && c->left - i > 1; i++) {
            c->head[c->have++] = at[i];
        }
        at += n;
        c->left -= n;
        if (c->left == 0) {
            frame_over(sim, c, client, current);
            c->have = 0;
        }
    }
}
