/*
 * What: the limit over a channel (basic.qos global) when its consumers have several queues, each of
 * which keeps the limit on its own: who has to stop, and who is first when there is room.
 * Happy path: what comes over the limit is given back (ch_queue.c, give_back) and its consumer
 * stops; with each message that is settled those that stopped ask again, who waits longest first.
 * Failure modes: none: a consumer that stops for nothing goes on with the next settle or turn.
 * Invariants: a stopped consumer is in channel->stopped, in order of `served`, and has no credit;
 * one that yields is stopped, and its channel in broker->yielding.
 */
#include "broker_internal.h"

/* Who waits longest is first when there is room: everybody gets a turn. */
void consumer_put_among_stopped(struct consumer *c)
{
    struct list *before = &c->queue->channel->stopped;
    LIST_FOREACH(link, &c->queue->channel->stopped) {
        if (WR_CONTAINER_OF(link, struct consumer, stop_link)->served > c->served) {
            before = link;
            break;
        }
    }
    c->stopped = true;
    list_push_back(before, &c->stop_link);
}

void consumer_stop(struct consumer *c)
{
    if (!c->stopped) {
        consumer_put_among_stopped(c);
        c->credit = c->ordinal;
        (void)queue_client_credit(c->queue->client, c->id, c->credit);
    }
}

/*
 * Room under the channel's limit: all consumers that were stopped ask again, for as much as there
 * is room. What comes over it is given back once more: which of their queues have messages is not
 * known here.
 */
void deliver_resume(struct broker_channel *ch)
{
    if (channel_is_full(ch) || ch->held) {
        return;
    }
    uint64_t room = ch->global_limit == 0 ? UINT64_MAX : ch->global_limit - ch->outstanding;
    LIST_FOREACH_SAFE(link, &ch->stopped) {
        struct consumer *c = WR_CONTAINER_OF(link, struct consumer, stop_link);
        if (!c->yields) {
            list_remove(link);
            c->stopped = false;
            uint64_t window =
                consumer_window(c) < WINDOW_RESUMED ? consumer_window(c) : WINDOW_RESUMED;
            c->credit = c->ordinal + (room < window ? room : window);
            (void)queue_client_credit(c->queue->client, c->id, c->credit);
            if (c->doubt) {
                consumer_renew(c);
            }
        }
    }
}

static void stand_back(struct consumer *c)
{
    consumer_stop(c);
    c->yields = true;
}

static bool outranks(const struct consumer *c, const struct consumer *other)
{
    return other->queue == c->queue && other->priority < c->priority;
}

/* Whether anybody could take what this consumer leaves to others: nobody of a lower priority. */
static bool has_equals(const struct consumer *c)
{
    struct map_iter it = map_iterate(&c->queue->channel->consumers);
    while (map_next(&it)) {
        const struct consumer *other = it.value;
        if (other != c && !outranks(c, other)) {
            return true;
        }
    }
    return false;
}

/* Or they would be served before it. */
static void with_all_below(const struct consumer *c)
{
    struct map_iter it = map_iterate(&c->queue->channel->consumers);
    while (map_next(&it)) {
        struct consumer *other = it.value;
        if (outranks(c, other) && other->attached && !other->cancelled) {
            stand_back(other);
        }
    }
}

/* The channel is, or in this turn was, at its limit and this consumer's message is settled: left
 * alone it would be served again at once, before the channel's other consumers hear that there is
 * room, and they would starve. So it goes behind them, but for those of its queue whose priority is
 * lower. */
void consumer_lets_others_go_first(struct ch_queue *q, uint32_t id)
{
    struct broker_channel *ch = q->channel;
    struct consumer *c = id < q->consumers.count ? q->consumers.items[id] : NULL;
    if (c == NULL || !c->attached || ch->consumers.count < 2 ||
        (!channel_is_full(ch) && list_is_empty(&ch->stopped)) ||
        (ch->has_priorities && !has_equals(c))) {
        return;
    }
    stand_back(c);
    if (ch->has_priorities) {
        with_all_below(c);
    }
    if (list_is_empty(&ch->yield_link)) {
        list_push_back(&ch->broker->yielding, &ch->yield_link);
    }
}

void consumers_go_on(struct broker_channel *ch)
{
    LIST_FOREACH(link, &ch->stopped) {
        WR_CONTAINER_OF(link, struct consumer, stop_link)->yields = false;
    }
    deliver_resume(ch);
}
