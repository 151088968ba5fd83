/*
 * What: transactions: publishes that wait for a commit, and what a commit waits for.
 *
 * Happy path: publishes are routed when they come and kept with the handles of their queues. A
 * commit is a request that in the next turn hands the publishes over, then the settles: at once
 * when all is about one queue, so that they are consecutive ops of one queue client, else when the
 * queues have applied all publishes: a node that dies between must not have acked what it has not
 * published. It ends when every queue has applied its last op. Failure modes: a queue that refuses
 * a publish, or is lost with one pending, makes the commit end with 406; queues deleted meanwhile
 * count as in RabbitMQ: one that was declared again by then gets the message, since queues are
 * known by their names; a message that has none left is returned if it was mandatory.
 *
 * Invariants: I1 tx->waiting = queues of the channel whose tx_last is not 0. I2 tx->request holds
 * the request of a commit exactly while waiting > 0; while its settles are deferred the broker
 * does. Ownership: the channel owns the tx, the tx references of its messages. Threads: the
 * shard's. Spec: docs/broker.md, "Transactions".
 */
#include "broker_internal.h"

struct tx_message {
    struct message message;
    uint32_t targets; /* of tx->targets, behind those of the messages before */
    uint32_t replies; /* of tx->replies, likewise */
    bool mandatory;
};

struct tx_target {
    uint32_t handle; /* of the queue; of one that is gone the name is in tx->gone */
    bool delayed;    /* reached through a delayed-message exchange */
};

struct tx_gone {
    uint8_t size;
    uint8_t name[];
};

struct tx_settle {
    struct broker_delivery first;
    uint64_t count;
    enum queue_outcome outcome;
};

struct tx {
    VEC(struct tx_message) messages;
    VEC(struct tx_target) targets;
    struct reply_address_vec replies;
    struct umap gone; /* by handle: targets that ended since, struct tx_gone */
    uint64_t serial;  /* of what is kept, from 1 on */
    VEC(struct tx_settle) settles;
    uint64_t bytes;
    uint64_t acks;  /* what the front end keeps */
    bool mandatory; /* the publish that comes next is */
    bool failed;    /* a queue refused a publish of the commit under way */
    uint32_t waiting;
    struct request *request;
};

void broker_tx_select(struct broker_channel *ch)
{
    if (ch->tx == NULL) {
        ch->tx = wr_calloc(1, sizeof *ch->tx);
        ch->tx->serial = 1;
        umap_init(&ch->tx->gone, ch->broker->hash);
    }
}

void broker_tx_mandatory(struct broker_channel *ch, bool mandatory)
{
    ch->tx->mandatory = mandatory;
}

void broker_tx_note_acks(struct broker_channel *ch, uint64_t count)
{
    ch->tx->acks = count;
}

uint64_t tx_uncommitted(const struct broker_channel *ch)
{
    return ch->tx == NULL ? 0 : ch->tx->messages.count;
}

uint64_t tx_uncommitted_acks(const struct broker_channel *ch)
{
    return ch->tx == NULL ? 0 : ch->tx->acks;
}

static void forget_messages(struct tx *tx)
{
    for (size_t i = 0; i < tx->messages.count; i++) {
        message_unref(tx->messages.items[i].message);
    }
    /* The memory as well: one that was large is not held for as long as the channel lives. */
    vec_deinit(&tx->messages);
    vec_deinit(&tx->targets);
    vec_deinit(&tx->replies);
    struct umap_iter it = umap_iterate(&tx->gone);
    while (umap_next(&it)) {
        wr_free(it.value);
    }
    umap_deinit(&tx->gone); /* and usable again */
    tx->serial++;
    tx->bytes = 0;
    tx->acks = 0;
}

static void forget(struct tx *tx)
{
    forget_messages(tx);
    vec_deinit(&tx->settles);
}

void tx_free(struct broker_channel *ch)
{
    struct tx *tx = ch->tx;
    if (tx == NULL) {
        return;
    }
    if (tx->request != NULL) { /* abandoned: nobody else holds it */
        request_defer_finish(tx->request);
    }
    forget(tx);
    wr_free(tx);
    ch->tx = NULL;
}

struct message broker_keep_message(struct message message)
{
    const struct slice *record = &message.record;
    if (record->buf->capacity / 2 > record->size) {
        return (struct message){.record = slice_copy(slice_data(record), record->size)};
    }
    message_ref(message);
    return message;
}

/* --- publishing ------------------------------------------------------------------------------- */

static bool has_room(const struct broker_channel *ch, uint64_t more, size_t targets,
                     struct broker_fault *fault)
{
    const struct tx *tx = ch->tx;
    uint64_t largest = ch->broker->options.message_size_max + (1u << 20);
    uint64_t most = largest > TX_BYTES_MAX ? largest : TX_BYTES_MAX;
    if (tx->bytes + more > most) {
        fault_set(fault, 406, false, "transaction is larger than the maximum of %llu bytes",
                  (unsigned long long)most);
        return false;
    }
    if (tx->messages.count >= TX_OPS_MAX || tx->targets.count + targets > TX_OPS_MAX) {
        fault_set(fault, 406, false, "transaction is larger than the maximum of %u operations",
                  TX_OPS_MAX);
        return false;
    }
    return true;
}

bool tx_publish(struct broker_channel *ch, struct ch_queue *const *targets, const bool *delayed,
                size_t count, struct message message, struct broker_fault *fault)
{
    struct tx *tx = ch->tx;
    const struct reply_address_vec *replies = &ch->broker->reply_to;
    uint64_t cost = message.record.size + sizeof(struct tx_message) +
                    count * sizeof(struct tx_target) + replies->count * sizeof *replies->items;
    if (!has_room(ch, cost, count, fault)) {
        return false;
    }
    if (count == 0 && replies->count == 0 && !tx->mandatory) {
        return true; /* there is nothing to do for it at the commit */
    }
    vec_push(&tx->messages, ((struct tx_message){.message = broker_keep_message(message),
                                                 .targets = (uint32_t)count,
                                                 .replies = (uint32_t)replies->count,
                                                 .mandatory = tx->mandatory}));
    for (size_t i = 0; i < replies->count; i++) {
        vec_push(&tx->replies, replies->items[i]);
    }
    for (size_t i = 0; i < count; i++) {
        vec_push(&tx->targets,
                 ((struct tx_target){targets[i]->handle, delayed != NULL && delayed[i]}));
        targets[i]->tx_kept = tx->serial;
    }
    tx->bytes += cost;
    return true;
}

/* --- commit ----------------------------------------------------------------------------------- */

/* The commit has an op in this queue. */
static void expect(struct tx *tx, struct ch_queue *q, uint64_t seq, bool publish)
{
    tx->waiting += q->tx_last == 0;
    q->tx_last = seq;
    if (publish && q->tx_publish == 0) {
        q->tx_publish = seq;
    }
}

/* The target's queue: the one that it was, else the one that has its name by now; NULL: none. */
static struct ch_queue *find_target(struct broker_channel *ch, uint32_t handle)
{
    struct ch_queue *q = umap_get(&ch->by_handle, handle);
    const struct tx_gone *gone = q == NULL ? umap_get(&ch->tx->gone, handle) : NULL;
    if (gone == NULL) {
        return q;
    }
    const struct catalog_queue *queue = catalog_queue(ch->broker->view, session_vhost(ch->session),
                                                      (struct bytes){gone->name, gone->size});
    return queue == NULL ? NULL : ch_queue_open(ch, queue);
}

static size_t hand_over(struct broker_channel *ch, const struct tx_message *m,
                        const struct tx_target *targets, const struct reply_address *replies)
{
    size_t live = 0;
    bool routed = false;
    for (uint32_t i = 0; i < m->replies; i++) {
        reply_send(ch->broker, &replies[i], m->message);
    }
    for (uint32_t i = 0; i < m->targets; i++) {
        struct ch_queue *q = find_target(ch, targets[i].handle);
        if (q != NULL) {
            uint64_t seq = publish_kept(ch, q, targets[i].delayed, m->message);
            ch_queue_note_publish(q, seq);
            expect(ch->tx, q, seq, true);
            routed = routed || !q->history;
            live++;
        }
    }
    if (live > 0) {
        ch->published++;
    }
    if (!routed && m->mandatory) {
        ch->sink->on_return(ch->ctx, &m->message);
    }
    return live;
}

static void settle_all(struct broker_channel *ch)
{
    struct tx *tx = ch->tx;
    for (size_t i = 0; i < tx->settles.count; i++) {
        const struct tx_settle *s = &tx->settles.items[i];
        uint64_t seq = settle_now(ch, &s->first, s->count, s->outcome);
        if (seq != 0) {
            expect(tx, umap_get(&ch->by_handle, s->first.queue), seq, false);
        }
    }
    vec_deinit(&tx->settles);
}

/* Whether nothing is published to a queue but to the one that every settle is for. */
static bool settles_keep_order(const struct broker_channel *ch)
{
    const struct tx *tx = ch->tx;
    if (tx->waiting > 1) {
        return false;
    }
    for (size_t i = 0; tx->waiting == 1 && i < tx->settles.count; i++) {
        const struct ch_queue *q = umap_get(&ch->by_handle, tx->settles.items[i].first.queue);
        if (q != NULL && q->tx_last == 0) {
            return false;
        }
    }
    return true;
}

static void finish(struct tx *tx)
{
    struct request *r = tx->request;
    tx->request = NULL;
    vec_deinit(&tx->settles); /* of a commit that failed: these deliveries come again */
    if (tx->failed) {
        tx->failed = false;
        request_fail(r, 406, false, "partial tx completion");
    } else {
        request_defer_finish(r);
    }
}

static void commit(struct request *r)
{
    struct broker_channel *ch = r->channel;
    struct tx *tx = ch->tx;
    const struct tx_target *targets = tx->targets.items;
    const struct reply_address *replies = tx->replies.items;
    size_t extra = 0;
    for (size_t i = 0; i < tx->messages.count; i++) {
        const struct tx_message *m = &tx->messages.items[i];
        size_t live = hand_over(ch, m, targets, replies);
        targets = m->targets > 0 ? targets + m->targets : targets; /* NULL when none has any */
        replies = m->replies > 0 ? replies + m->replies : replies;
        extra += live > 0 ? live - 1 : 0;
    }
    channel_note_published(ch, 1 + extra);
    forget_messages(tx);
    if (settles_keep_order(ch)) {
        settle_all(ch);
    }
    tx->request = r;
    if (tx->waiting == 0) {
        finish(tx);
    }
}

void broker_tx_settle(struct broker_channel *ch, const struct broker_delivery *first,
                      uint64_t count, enum queue_outcome outcome)
{
    vec_push(&ch->tx->settles, ((struct tx_settle){*first, count, outcome}));
}

bool broker_tx_commit(struct broker_channel *ch, broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    WR_ASSERT(ch->tx != NULL && ch->tx->request == NULL);
    broker_defer(ch->broker, commit, r);
    return ch->tx->targets.count > 0;
}

void broker_tx_rollback(struct broker_channel *ch)
{
    forget(ch->tx);
}

/* --- what the queues say ---------------------------------------------------------------------- */

static void settle_later(struct request *r)
{
    struct broker_channel *ch = r->channel;
    settle_all(ch);
    ch->tx->request = r;
    if (ch->tx->waiting == 0) {
        finish(ch->tx);
    }
}

static void queue_done(struct ch_queue *q)
{
    struct tx *tx = q->channel->tx;
    q->tx_publish = q->tx_last = 0;
    WR_ASSERT_OP(tx->waiting, >, 0);
    if (--tx->waiting > 0) {
        return;
    }
    if (tx->settles.count > 0 && !tx->failed) {
        struct request *r = tx->request;
        tx->request = NULL;
        broker_defer(q->channel->broker, settle_later, r);
    } else {
        finish(tx);
    }
}

void tx_on_applied(struct ch_queue *q, uint64_t seq)
{
    if (q->tx_last != 0 && seq >= q->tx_last) {
        queue_done(q);
    }
}

void tx_on_nacked(struct ch_queue *q, uint64_t seq)
{
    if (q->tx_publish != 0 && seq >= q->tx_publish) {
        q->channel->tx->failed = true;
    }
}

/* A deleted queue confirms; with a lost one go the publishes it had not confirmed. */
void tx_on_gone(struct ch_queue *q, bool lost)
{
    struct tx *tx = q->channel->tx;
    if (q->tx_last != 0) {
        tx->failed |= lost && q->tx_publish != 0;
        queue_done(q);
    }
    if (tx != NULL && q->tx_kept == tx->serial && !q->history) {
        struct tx_gone *gone = wr_alloc(sizeof *gone + q->name_size);
        gone->size = q->name_size;
        memcpy(gone->name, q->name, gone->size);
        (void)umap_put(&tx->gone, q->handle, gone);
    }
}
