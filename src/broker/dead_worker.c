/*
 * What: carries dead letters from their queue to the queues of its dead-letter exchange. A worker
 * is a consumer like any other, of one queue, for its dead letters only: what it has not settled
 * when it or its node goes is handed to the next worker. A dead letter is settled when all queues
 * that it was routed to have confirmed it (for a replicated one: committed by a majority), so it is
 * never in no queue at all; it may come twice.
 *
 * Happy path: the host says that a queue served here has dead letters and nobody takes them ->
 * worker, ATTACH -> on_dead -> read barrier -> dead_letter_make, route, publish to each target ->
 * on_applied of all -> settle. A worker that has had nothing to do for a while closes.
 * The barrier: who binds a queue and then rejects a message may do both through another node, and
 * finds his binding obeyed; those that come while one is under way share the next.
 *
 * Failure modes: not routable behind a barrier: dropped; with strategy at-least-once tried again
 * until it is routable. No leader for the barrier: routed by what is known here, and tried again
 * if that is nothing. A target that refuses (it is full): tried again,
 * for that target only; dropped with strategy at-most-once. Another worker is attached already
 * (that of the leader before): closes; the host says again whether one is needed.
 *
 * Invariants: 1. flight->waiting = entries of targets' waits that name it; 2. a flight is in
 * `looks` or `retries` only with waiting = 0; 3. the worker's unsettled ordinals are its flights;
 * 4. while `retries` has any, the timer is pending; 5. while `looks` has any, a barrier is under
 * way.
 * Threads: the shard's. Spec: docs/dead-letters.md.
 */
#include "broker_internal.h"
#include "dead.h"

#define WORKER_CONSUMER   1u
#define WORKER_PREFETCH   512u
#define WORKER_WINDOW     64u /* before sizes are known */
#define WORKER_IDLE_MS    10000u
#define WORKER_RETRY_MS   1000u
#define WORKER_BARRIER_MS 5000u

struct dead_flight {
    struct list link;  /* worker->flights */
    struct list retry; /* worker->looks or ->retries, or alone */
    struct message message;
    uint64_t ordinal, died_ms;
    enum queue_death reason;
    uint32_t waiting;   /* targets that have not answered */
    bool refused;       /* by one of them, in this attempt */
    uint64_t look;      /* number of the barrier behind which it is routed */
    VEC(uint64_t) done; /* ids of the queues that have it */
};

struct dead_wait {
    uint64_t seq;
    struct dead_flight *flight;
    bool refused;
};

struct dead_target {
    struct dead_worker *worker;
    uint64_t queue_id;
    struct queue_client *client;
    VEC(struct dead_wait) waits; /* from `first` on, ascending by seq */
    size_t first;
    bool blocked, gone;
};

struct dead_worker {
    struct list link;  /* broker->dead_workers */
    struct list dirty; /* broker->dead_dirty */
    struct broker *broker;
    uint64_t queue_id;
    struct queue_client *client;
    VEC(struct dead_target *) targets;
    struct list flights;
    struct list looks, retries; /* wait for a barrier; for the timer */
    uint64_t last, granted;     /* ordinals */
    uint64_t settle_first, settle_count;
    uint32_t average;  /* bytes of a message, moving */
    uint32_t blocked;  /* targets that are */
    bool barrier;      /* one is under way: the worker must not be freed */
    uint64_t barriers; /* number of the newest begun */
    bool ending;       /* closes in the turn */
    bool complained;
    struct timer timer; /* retries, or idle */
};

static void attempt(struct dead_worker *w, struct dead_flight *flight, bool looked);
static void on_barrier(void *ctx, int status, const struct catalog_result *result);

static void mark(struct dead_worker *w)
{
    if (list_is_empty(&w->dirty)) {
        list_push_back(&w->broker->dead_dirty, &w->dirty);
    }
}

/* --- settling --------------------------------------------------------------------------------- */

static void settle_flush(struct dead_worker *w)
{
    if (w->settle_count > 0) {
        (void)queue_client_settle(w->client, WORKER_CONSUMER, w->settle_first, w->settle_count,
                                  QUEUE_ACK);
        w->settle_count = 0;
    }
}

static void flight_free(struct dead_flight *flight)
{
    list_remove(&flight->link);
    list_remove(&flight->retry);
    message_unref(flight->message);
    vec_deinit(&flight->done);
    wr_free(flight);
}

/* The dead letter may leave its queue. */
static void finish(struct dead_worker *w, struct dead_flight *flight)
{
    if (w->settle_count > 0 && w->settle_first + w->settle_count == flight->ordinal) {
        w->settle_count++;
    } else {
        settle_flush(w);
        w->settle_first = flight->ordinal;
        w->settle_count = 1;
    }
    flight_free(flight);
    mark(w);
}

static void begin_barrier(struct dead_worker *w)
{
    if (!w->barrier && !list_is_empty(&w->looks)) {
        w->barrier = true;
        w->barriers++;
        host_catalog_barrier(w->broker->host, WORKER_BARRIER_MS, on_barrier, w);
    }
}

/* What another node declared or bound a moment ago counts: only a barrier that begins now tells. */
static void look(struct dead_worker *w, struct dead_flight *flight)
{
    flight->look = w->barriers + 1;
    list_push_back(&w->looks, &flight->retry);
    begin_barrier(w);
}

static void on_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct dead_worker *w = ctx;
    (void)result;
    w->barrier = false;
    mark(w);
    if (w->ending) {
        return;
    }
    struct list work; /* those that came before it began */
    list_init(&work);
    LIST_FOREACH_SAFE(link, &w->looks) {
        if (WR_CONTAINER_OF(link, struct dead_flight, retry)->look > w->barriers) {
            break;
        }
        list_remove(link);
        list_push_back(&work, link);
    }
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        attempt(w, WR_CONTAINER_OF(link, struct dead_flight, retry), status == 0);
    }
    begin_barrier(w);
}

static void on_timer(struct timer *t)
{
    struct dead_worker *w = WR_CONTAINER_OF(t, struct dead_worker, timer);
    if (list_is_empty(&w->flights)) {
        w->ending = true;
    }
    for (struct list *link; (link = list_pop_front(&w->retries)) != NULL;) {
        look(w, WR_CONTAINER_OF(link, struct dead_flight, retry));
    }
    mark(w);
}

/* What waits already must not wait longer because of this one. */
static void retry_later(struct dead_worker *w, struct dead_flight *flight)
{
    const uint64_t at = broker_now_ms(w->broker) + WORKER_RETRY_MS;
    WR_ASSERT_OP(flight->waiting, ==, 0);
    flight->refused = false;
    list_push_back(&w->retries, &flight->retry);
    if (!timer_is_pending(&w->timer) || w->timer.deadline_ms > at) {
        timer_add(&w->broker->timers, &w->timer, at, on_timer);
    }
}

/* --- targets ---------------------------------------------------------------------------------- */

/* All targets have answered. */
static void answered(struct dead_worker *w, struct dead_flight *flight)
{
    struct dead_settings settings;
    const struct catalog_queue *queue = catalog_queue_by_id(w->broker->view, w->queue_id);
    if (flight->refused && queue != NULL && dead_settings_of(queue, &settings) &&
        settings.strategy != DEAD_AT_MOST_ONCE) {
        retry_later(w, flight);
    } else {
        finish(w, flight);
    }
}

static void answer(struct dead_target *t, struct dead_wait *wait, bool refused)
{
    struct dead_flight *flight = wait->flight;
    if (refused) {
        flight->refused = true;
    } else {
        vec_push(&flight->done, t->queue_id);
    }
    WR_ASSERT_OP(flight->waiting, >, 0);
    if (--flight->waiting == 0) {
        answered(t->worker, flight);
    }
}

static void on_target_applied(void *ctx, uint64_t seq)
{
    struct dead_target *t = ctx;
    while (t->first < t->waits.count && t->waits.items[t->first].seq <= seq) {
        struct dead_wait wait = t->waits.items[t->first++];
        answer(t, &wait, wait.refused);
    }
    if (t->first == t->waits.count) {
        vec_clear(&t->waits);
        t->first = 0;
    }
}

static void on_target_nacked(void *ctx, uint64_t seq)
{
    struct dead_target *t = ctx;
    for (size_t i = t->first; i < t->waits.count && t->waits.items[i].seq <= seq; i++) {
        if (t->waits.items[i].seq == seq) {
            t->waits.items[i].refused = true; /* answered with the APPLIED that follows */
        }
    }
}

static void target_unblocked(struct dead_target *t)
{
    if (t->blocked) {
        t->blocked = false;
        t->worker->blocked--;
        mark(t->worker);
    }
}

/* Deleted: as RabbitMQ, it counts as having taken the message. Its home is down: not. */
static void on_target_gone(void *ctx, bool lost)
{
    struct dead_target *t = ctx;
    t->gone = true;
    target_unblocked(t);
    while (t->first < t->waits.count) {
        struct dead_wait wait = t->waits.items[t->first++];
        answer(t, &wait, lost || wait.refused);
    }
    mark(t->worker);
}

static void on_target_blocked(void *ctx, bool blocked)
{
    struct dead_target *t = ctx;
    if (blocked && !t->blocked) {
        t->blocked = true;
        t->worker->blocked++;
    } else if (!blocked) {
        target_unblocked(t);
    }
}

static const struct queue_client_sink target_sink = {
    .on_applied = on_target_applied,
    .on_nacked = on_target_nacked,
    .on_gone = on_target_gone,
    .on_blocked = on_target_blocked,
};

static struct dead_target *target_of(struct dead_worker *w, const struct catalog_queue *queue)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        struct dead_target *t = w->targets.items[i];
        if (t->queue_id == queue->id && !t->gone) {
            return t;
        }
    }
    struct dead_target *t = wr_calloc(1, sizeof *t);
    t->worker = w;
    t->queue_id = queue->id;
    t->client = queue_client_open(w->broker->host, queue, &target_sink, t);
    vec_push(&w->targets, t);
    return t;
}

static void target_free(struct dead_target *t)
{
    queue_client_close(t->client);
    vec_deinit(&t->waits);
    wr_free(t);
}

/* --- one dead letter -------------------------------------------------------------------------- */

static bool has_it(const struct dead_flight *flight, uint64_t queue_id)
{
    for (size_t i = 0; i < flight->done.count; i++) {
        if (flight->done.items[i] == queue_id) {
            return true;
        }
    }
    return false;
}

static void complain(struct dead_worker *w, const struct catalog_queue *queue, const char *what,
                     struct bytes name)
{
    if (!w->complained) {
        w->complained = true;
        wr_log(w->broker->logger, LOG_LEVEL_WARNING, "queue",
               "dead letters of queue '%.*s' in vhost '%.*s': %s '%.*s'", FMT(queue->spec.name),
               FMT(queue->spec.vhost), what, FMT(name));
    }
}

/* The key may name who waits for a direct reply: he gets it at once, if he is still there. */
static bool give_to_asker(struct broker *broker, const struct message *letter)
{
    if (!reply_is_name(message_key(letter))) {
        return false;
    }
    vec_clear(&broker->reply_to);
    reply_find(broker, message_key(letter));
    const bool found = broker->reply_to.count > 0;
    if (found) {
        reply_send(broker, &broker->reply_to.items[0], *letter);
    }
    vec_clear(&broker->reply_to);
    return found;
}

/* Publishes to the queues that do not have it yet; the number of queues it was routed to. */
static uint32_t hand_out(struct dead_worker *w, struct dead_flight *flight,
                         const struct catalog_queue *queue, const struct message *letter)
{
    struct broker *broker = w->broker;
    const struct catalog_exchange *x =
        catalog_exchange(broker->view, queue->spec.vhost, message_exchange(letter));
    if (x == NULL) {
        return 0;
    }
    const struct bytes headers = wire_props_headers(message_props(letter));
    vec_clear(&broker->extra_keys);
    publish_add_keys(broker, headers, "CC");
    const struct route_input input = {.key = message_key(letter),
                                      .props = message_props(letter),
                                      .extra_keys = broker->extra_keys.items,
                                      .extra_count = (uint32_t)broker->extra_keys.count,
                                      .random = prng_u64(&broker->prng),
                                      .node = broker->options.node_id};
    const uint32_t count = route_message(broker->view, x, &input, &broker->route);
    const bool replied = x->name.size == 0 && give_to_asker(broker, letter);
    flight->waiting++; /* held: an answer may come at once */
    for (uint32_t i = 0; i < count; i++) {
        const struct catalog_queue *to = broker->route.queues[i];
        if (has_it(flight, to->id)) {
            continue;
        }
        if (to->spec.type != CATALOG_HISTORY && flight->reason != QUEUE_DIED_REJECTED &&
            dead_letter_is_cycle(headers, to->spec.name)) {
            complain(w, queue, "would go round for ever and are dropped before queue",
                     to->spec.name);
            continue;
        }
        struct dead_target *t = target_of(w, to);
        flight->waiting++;
        vec_push(&t->waits, ((struct dead_wait){.seq = queue_client_publish(t->client, *letter),
                                                .flight = flight}));
    }
    flight->waiting--;
    return count + replied;
}

/* looked: behind a barrier that succeeded, so that what is not routable now is not. */
static void attempt(struct dead_worker *w, struct dead_flight *flight, bool looked)
{
    struct dead_settings settings;
    const struct catalog_queue *queue = catalog_queue_by_id(w->broker->view, w->queue_id);
    if (queue == NULL || !dead_settings_of(queue, &settings)) {
        finish(w, flight); /* The queue goes, or has no dead-letter exchange any more. */
        return;
    }
    const struct dead_letter death = {
        .queue = queue->spec.name,
        .reason = flight->reason,
        .time_s = flight->died_ms / 1000,
        .exchange = settings.exchange,
        .has_key = settings.has_key,
        .key = settings.key,
    };
    const struct message letter = dead_letter_make(&flight->message, &death);
    const uint32_t count = hand_out(w, flight, queue, &letter);
    message_unref(letter);
    if (flight->waiting > 0) {
        return;
    }
    if (count > 0) {
        answered(w, flight);
    } else if (!looked) {
        retry_later(w, flight);
    } else {
        complain(w, queue, "no queue is reached through exchange", settings.exchange);
        if (settings.strategy == DEAD_AT_LEAST_ONCE) {
            retry_later(w, flight);
        } else {
            finish(w, flight);
        }
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static void on_dead(void *ctx, uint32_t consumer, uint64_t first_ordinal, enum queue_death reason,
                    uint64_t died_ms, const struct message *messages, uint32_t count)
{
    struct dead_worker *w = ctx;
    WR_ASSERT_OP(consumer, ==, WORKER_CONSUMER);
    if (list_is_empty(&w->retries)) {
        timer_cancel(&w->broker->timers, &w->timer); /* of a worker that was idle */
    }
    for (uint32_t i = 0; i < count; i++) {
        struct dead_flight *flight = wr_calloc(1, sizeof *flight);
        flight->message = messages[i];
        message_ref(flight->message);
        flight->ordinal = first_ordinal + i;
        flight->died_ms = died_ms;
        flight->reason = reason;
        list_push_back(&w->flights, &flight->link);
        list_init(&flight->retry);
        const uint32_t size = flight->message.record.size;
        w->average = w->average == 0 ? size : w->average - w->average / 8 + size / 8;
        look(w, flight);
    }
    w->last = first_ordinal + count - 1;
    mark(w);
}

static void on_source_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                            uint64_t value2)
{
    struct dead_worker *w = ctx;
    (void)seq;
    (void)value;
    (void)value2;
    if (status != QUEUE_OK) {
        w->ending = true;
        mark(w);
    }
}

static void on_source_gone(void *ctx, bool lost)
{
    struct dead_worker *w = ctx;
    (void)lost;
    w->ending = true;
    mark(w);
}

static void on_source_resumed(void *ctx)
{
    struct dead_worker *w = ctx;
    w->granted = 0; /* Ordinals may have been skipped, with their credit. */
    mark(w);
}

static const struct queue_client_sink source_sink = {
    .on_reply = on_source_reply,
    .on_dead = on_dead,
    .on_gone = on_source_gone,
    .on_resumed = on_source_resumed,
};

/* --- life ------------------------------------------------------------------------------------- */

void broker_queue_dead(struct broker *broker, uint64_t queue_id)
{
    LIST_FOREACH(link, &broker->dead_workers) {
        if (WR_CONTAINER_OF(link, struct dead_worker, link)->queue_id == queue_id) {
            return;
        }
    }
    const struct catalog_queue *queue =
        broker->view == NULL ? NULL : catalog_queue_by_id(broker->view, queue_id);
    if (queue == NULL || broker->boot == 0) {
        return; /* The host says it again while it is so. */
    }
    struct dead_worker *w = wr_calloc(1, sizeof *w);
    w->broker = broker;
    w->queue_id = queue_id;
    list_init(&w->dirty);
    list_init(&w->flights);
    list_init(&w->looks);
    list_init(&w->retries);
    timer_init(&w->timer);
    list_push_back(&broker->dead_workers, &w->link);
    w->client = queue_client_open(broker->host, queue, &source_sink, w);
    w->granted = WORKER_WINDOW;
    (void)queue_client_attach(w->client, WORKER_CONSUMER, QUEUE_DEAD, WORKER_PREFETCH, w->granted,
                              0, BYTES_NONE, BYTES_NONE);
}

/* Its client's end returns what is not settled to the dead. */
static void worker_close(struct dead_worker *w)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        target_free(w->targets.items[i]);
    }
    vec_deinit(&w->targets);
    LIST_FOREACH_SAFE(link, &w->flights) {
        flight_free(WR_CONTAINER_OF(link, struct dead_flight, link));
    }
    settle_flush(w);
    queue_client_close(w->client);
    timer_cancel(&w->broker->timers, &w->timer);
    list_remove(&w->dirty);
    list_remove(&w->link);
    wr_free(w);
}

static void renew_credit(struct dead_worker *w)
{
    const uint64_t room = w->average == 0 ? WORKER_WINDOW : WINDOW_BYTES / w->average;
    const uint64_t window = room < 1 ? 1 : room > 2048 ? 2048 : room;
    if (w->blocked == 0 && w->granted <= w->last + window / 2) {
        w->granted = w->last + window;
        (void)queue_client_credit(w->client, WORKER_CONSUMER, w->granted);
    }
}

static void drop_gone_targets(struct dead_worker *w)
{
    for (size_t i = w->targets.count; i-- > 0;) {
        if (w->targets.items[i]->gone) {
            target_free(w->targets.items[i]);
            vec_remove(&w->targets, i);
        }
    }
}

void dead_workers_turn(struct broker *broker)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &broker->dead_dirty);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        struct dead_worker *w = WR_CONTAINER_OF(link, struct dead_worker, dirty);
        if (w->ending && !w->barrier) {
            worker_close(w);
            continue;
        }
        settle_flush(w);
        drop_gone_targets(w);
        renew_credit(w);
        if (list_is_empty(&w->flights) && !timer_is_pending(&w->timer)) {
            timer_add(&broker->timers, &w->timer, broker_now_ms(broker) + WORKER_IDLE_MS, on_timer);
        }
    }
}

void dead_workers_free(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->dead_workers) {
        worker_close(WR_CONTAINER_OF(link, struct dead_worker, link));
    }
}
