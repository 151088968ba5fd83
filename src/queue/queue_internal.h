#ifndef WR_QUEUE_INTERNAL_H
#define WR_QUEUE_INTERNAL_H
/* The functions that the files of the queue machine share; its state is in queue_state.h. */
#include "queue_state.h"

/* config.c */
void queue__config_put(struct writer *w, const struct queue_config *config);
bool queue__config_get(struct reader *r, struct queue_config *ret_config);
int queue__config_decode(struct bytes encoded, struct queue_config *ret_config) WR_MUST_USE;

/* effects.c */
void queue__emit(struct queue_apply *a, const struct queue_effect *effect);
void queue__emit_deliver(struct queue_apply *a, const struct queue_consumer *consumer, bool no_ack,
                         uint64_t ordinal, const struct range_run *piece);
/* The same of dead letters. */
void queue__emit_deliver_dead(struct queue_apply *a, const struct queue_consumer *consumer,
                              uint64_t ordinal, const struct range_run *piece);
/* Messages that are in no place any more: forget them and let their bytes go. Both happen when the
 * effects are flushed. */
void queue__remove(struct queue_apply *a, uint64_t position, uint64_t count);
void queue__emit_reply(struct queue_apply *a, struct queue_client *client, uint64_t seq,
                       enum queue_status status, uint64_t value);
void queue__emit_nacked(struct queue_apply *a, uint64_t client, uint64_t seq, uint64_t count);
void queue__emit_applied(struct queue_apply *a, uint64_t client, uint64_t seq);
void queue__flush_effects(struct queue_apply *a);

/* timeline.c */
void queue__timeline_add(struct queue_timeline *t, const struct queue_moment *moment);
uint64_t queue__timeline_next(const struct queue_timeline *t); /* UINT64_MAX = none */
bool queue__timeline_first(const struct queue_timeline *t, struct queue_moment *ret_moment);
bool queue__timeline_pop(struct queue_timeline *t, uint64_t until, struct queue_moment *ret_moment);
size_t queue__timeline_size(const struct queue_timeline *t);
void queue__timeline_clear(struct queue_timeline *t);
void queue__timeline_deinit(struct queue_timeline *t);
/* By b (time), then by position; by position. */
void queue__pieces_sort_by_time(struct queue_pieces *pieces);
void queue__pieces_sort(struct queue_pieces *pieces);

/* spans.c: brings them into order and joins those that touch; none overlap. */
void queue__spans_join(struct queue_spans *spans);

/* expiry.c */
bool queue__is_expired(const struct queue *q, uint64_t expiry);
static inline bool queue__is_sealed(const struct queue *q)
{
    return q->unused || q->sealed_by != 0;
}
static inline uint32_t queue__level_of(const struct queue *q, const struct message *message)
{
    const uint8_t priority = message_priority(message);
    return priority < q->config.priority_max ? priority : q->config.priority_max;
}
/* The time to live of a message that is enqueued now. */
static inline uint64_t queue__ttl_of(const struct queue *q, const struct message *message)
{
    const uint64_t own = message_ttl_ms(message);
    return own < q->config.ttl_ms ? own : q->config.ttl_ms;
}
/* Attribute b of a message that is ready from now on. */
static inline uint64_t queue__expiry_of(const struct queue *q, const struct message *message)
{
    if (WR_LIKELY((message_ttl_ms(message) & q->config.ttl_ms) == UINT64_MAX)) {
        return 0; /* Neither has one. */
    }
    const uint64_t ttl_ms = queue__ttl_of(q, message);
    return ttl_ms > QUEUE_TTL_MAX ? 0 : q->clock_ms + ttl_ms + 1;
}
void queue__pass_time(struct queue_apply *a, uint64_t now_ms);
void queue__expire(struct queue_apply *a);
bool queue__has_expired(struct queue *q);
void queue__timelines_tidy(struct queue *q);

/* lease.c */
void queue__used(struct queue *q);
void queue__lease_check(struct queue_apply *a);
uint64_t queue__lease_deadline(const struct queue *q);

/* delayed.c */
void queue__delay(struct queue_apply *a, const struct queue_op *op);
void queue__delayed_put(struct queue *q, const struct range_run *run);
uint64_t queue__delayed_ttl(const struct range_attr *attr); /* + 1, 0 = none */
uint32_t queue__delayed_level(const struct range_attr *attr);
struct range_attr queue__delayed_attr(uint64_t position, uint32_t size, uint64_t due,
                                      uint32_t level, uint64_t ttl_plus_1);
void queue__release_due(struct queue *q);
uint64_t queue__delayed_purge(struct queue_apply *a);

/* enqueue.c */
void queue__enqueue(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__flush_gathered(struct queue_apply *a);
/* Puts what is gathered in its place. Must run before anything else looks at the queue, but for
 * handing out at the end of a command, which takes it from queue->fresh. */
static inline void queue__flush_enqueued(struct queue_apply *a)
{
    if (a->live_first != 0) {
        queue__flush_gathered(a);
    }
}
void queue__add_live(struct queue *q, uint64_t position, uint64_t count);
/* What is gathered is counted as ready, and is in queue->fresh in the order of its delivery. */
void queue__order_gathered(struct queue_apply *a);
/* What is in queue->fresh from that index on goes to its levels; queue->fresh is empty then. */
void queue__place_fresh(struct queue_apply *a, size_t from);

/* ready.c */
#define QUEUE_PLACE_OF(level, released) ((uint32_t)(level)*2 + ((released) ? 1u : 0u))
struct rangemap *queue__ready_map(const struct queue *q, uint32_t place);
uint64_t queue__released_before(const struct range_attr *attr);
uint64_t queue__ready_next_size(const struct queue *q); /* Body size of the next; one is ready. */
uint64_t queue__ready_next(const struct queue *q);      /* Position of the next, 0 = none. */
bool queue__ready_pop(struct queue *q, uint64_t max, struct range_run *ret_piece);
void queue__ready_put(struct queue *q, const struct range_run *piece);
/* The two halves of it: counting, and finding a place. */
static inline void queue__ready_count(struct queue *q, const struct range_run *run)
{
    q->ready += run->count;
    q->bytes_ready += run->count * run->attr.a;
}
static inline void queue__ready_uncount(struct queue *q, const struct range_run *run)
{
    WR_ASSERT_OP(q->ready, >=, run->count);
    q->ready -= run->count;
    q->bytes_ready -= run->count * run->attr.a;
}
void queue__ready_place(struct queue *q, const struct range_run *piece);
/* A run of messages that were delayed (key = release number), behind all that are released. */
void queue__released_put(struct queue *q, uint32_t level, const struct range_run *run);
/* What there is of keys [first, first + count) of a place leaves it and is added to *pieces. */
void queue__ready_take(struct queue *q, uint32_t place, uint64_t first, uint64_t count,
                       struct queue_pieces *pieces);
/* A run of a place as a piece: key = value = position. */
struct range_run queue__ready_piece(uint32_t place, const struct range_run *run);
uint64_t queue__ready_purge(struct queue_apply *a);

/* dead.c */
void queue__die(struct queue_apply *a, const struct range_run *piece, enum queue_death reason);
void queue__dead_put(struct queue_apply *a, const struct range_run *piece);
void queue__deliver_dead(struct queue_apply *a);
struct queue_consumer *queue__dead_taker(const struct queue *q);
void queue__dead_clear(struct queue_apply *a);
void queue__taker_join(struct queue *q, struct queue_consumer *consumer);
void queue__taker_leave(struct queue *q, struct queue_consumer *consumer);

/* limits.c */
/* Whether the limits allow one more of that size to be ready. */
static inline bool queue__has_room(const struct queue_apply *a, uint32_t size)
{
    const struct queue *q = a->queue;
    const uint64_t gathered = a->run_count * a->run_size;
    return q->ready + a->run_count + 1 <= q->config.length_max &&
           q->bytes_ready + gathered + size <= q->config.bytes_max;
}
bool queue__is_full(struct queue_apply *a, uint32_t size);
void queue__refuse(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__drop_over(struct queue_apply *a);
void queue__forget_nacked(struct queue_client *client);

/* active.c */
void queue__choose_active(struct queue *q);
void queue__bar_others(struct queue *q);
struct queue_consumer *queue__best_consumer(const struct queue *q);
/* Somebody of a higher priority takes over from the active one, or waits for it to be done. */
bool queue__is_outranked(const struct queue *q, const struct queue_consumer *best);
bool queue__is_active(const struct queue *q, const struct queue_consumer *consumer);

/* publishers.c, ids.c: exactly-once publishing */
void queue__publishers_init(struct queue *q);
void queue__publishers_deinit(struct queue *q);
bool queue__publisher_has(struct queue *q, struct bytes id, uint64_t number);
void queue__publisher_note(struct queue *q, struct bytes id, uint64_t number);
struct queue_publisher *queue__publisher_add(struct queue *q, struct bytes id);
void queue__ids_init(struct queue *q);
void queue__ids_deinit(struct queue *q);
struct queue_id_hash queue__id_hash(struct bytes id);
bool queue__ids_has(const struct queue *q, const struct queue_id_hash *hash);
void queue__ids_note(struct queue *q, const struct queue_id_hash *hash);
void queue__ids_forget(struct queue *q);
uint64_t queue__ids_time(const struct map_item *item);
bool queue__ids_put(struct queue *q, struct bytes hash, uint64_t time_ms);

/* take.c */
void queue__take(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__peek(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);

/* consumer.c */
uint64_t queue__capacity(const struct queue_consumer *consumer);
void queue__consumer_update(struct queue_consumer *consumer);
void queue__client_update(struct queue_client *client);
struct queue_consumer *queue__consumer_find(const struct queue_client *client, uint32_t id);
struct queue_consumer *queue__consumer_add(struct queue_client *client, uint32_t id);
void queue__consumer_join(struct queue *q, struct queue_consumer *consumer);
void queue__consumer_leave(struct queue_apply *a, struct queue_consumer *consumer);
void queue__consumer_free(struct queue_consumer *consumer);
void queue__consumer_reap(struct queue_consumer *consumer);
void queue__attach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__detach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__credit(struct queue_client *client, const struct queue_op *op);

/* deliver.c */
void queue__deliver(struct queue_apply *a);
void queue__deliver_gathered(struct queue_apply *a);
void queue__give(struct queue_apply *a, struct queue_consumer *consumer, bool no_ack,
                 const struct range_run *piece);
/* Before something looks at the ready messages in the middle of a batch. */
void queue__hand_out_first(struct queue_apply *a);
void queue__see_ready(struct queue_apply *a);
struct queue_consumer *queue__getter(struct queue_client *client);
void queue__get(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);

/* unacked.c */
/* Whether its unacked count for the client's limit. */
static inline bool queue__is_held(const struct queue_consumer *consumer)
{
    return consumer->id != 0 && !consumer->no_ack && !consumer->dead;
}
void queue__unacked_put(struct queue *q, struct queue_consumer *consumer,
                        const struct range_run *piece);
void queue__settle(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__return_all(struct queue_apply *a, struct queue_consumer *consumer);
typedef void (*queue__unacked_fn)(void *ctx, uint64_t ordinal, const struct range_run *piece);
void queue__each_unacked(const struct queue_consumer *consumer, uint64_t first, uint64_t last,
                         queue__unacked_fn fn, void *ctx);

/* client.c */
size_t queue__client_place(const struct queue *q, uint64_t id);
struct queue_client *queue__client_find(const struct queue *q, uint64_t id);
struct queue_client *queue__client_add(struct queue *q, uint64_t id);
void queue__client_close(struct queue_apply *a, struct queue_client *owned_client);
void queue__client_free(struct queue_client *client);
bool queue__client_was_closed(const struct queue *q, uint64_t id);
void queue__remember_closed(struct queue *q, uint64_t id);
void queue__limit(struct queue_client *client, const struct queue_op *op);
void queue__seal(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__unseal(struct queue *q, const struct queue_client *client);

/* boot.c */
uint64_t queue__client_boot(uint64_t client);
bool queue__boot_is_suspended(const struct queue *q, uint64_t boot);
void queue__node_down(struct queue_apply *a, uint64_t boot);
void queue__node_up(struct queue *q, uint64_t boot);
void queue__node_gone(struct queue_apply *a, uint64_t boot);
/* ahead.c */
void queue__suspect(struct queue_apply *a, uint64_t count);
/* After a client left: forget the suspension of a boot without clients. */
void queue__boot_settle(struct queue *q, uint64_t boot);

/* check.c: what is wrong with the state, or NULL. */
const char *queue__fault(const struct queue *q);

#endif
