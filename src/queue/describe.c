/*
 * What: a machine's state and its effects as text, for golden tests and traces.
 */
#include "queue_internal.h"

#include <inttypes.h>

#include "warren/str.h"

static const char *death_name(uint32_t death)
{
    static const char *const names[] = {"?", "rejected", "expired", "maxlen", "delivery_limit"};
    return death < WR_ARRAY_SIZE(names) ? names[death] : "?";
}

static void add_ready_run(struct strbuf *s, const struct range_run *run, bool released)
{
    strbuf_printf(s, " %" PRIu64 "+%" PRIu64, run->attr.value, run->count);
    if (!released && run->attr.c > 0) {
        strbuf_printf(s, "r%" PRIu32, run->attr.c);
    }
    if (run->attr.b != 0) {
        strbuf_printf(s, "x%" PRIu64, run->attr.b - 1);
    }
    if (released) {
        strbuf_printf(s, "<%" PRIu64, queue__released_before(&run->attr));
    }
}

static void add_ready(struct strbuf *s, const struct queue *q)
{
    for (uint32_t place = 2 * (q->config.priority_max + 1u); place-- > 0;) {
        struct rangemap_cursor cursor;
        const struct range_run *run = rangemap_lower_bound(queue__ready_map(q, place), 0, &cursor);
        if (run != NULL) {
            strbuf_printf(s, "level %" PRIu32 "%s:", place / 2, place % 2 != 0 ? " released" : "");
            for (; run != NULL; run = rangemap_next(&cursor)) {
                add_ready_run(s, run, place % 2 != 0);
            }
            strbuf_add_char(s, '\n');
        }
    }
}

static void add_waiting(struct strbuf *s, const struct queue *q)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&q->delayed, 0, &cursor);
    if (run != NULL) {
        strbuf_add_cstr(s, "delayed:");
        for (; run != NULL; run = rangemap_next(&cursor)) {
            strbuf_printf(s, " %" PRIu64 "+%" PRIu64 "@%" PRIu64, run->first, run->count,
                          run->attr.b);
        }
        strbuf_add_char(s, '\n');
    }
    run = rangemap_lower_bound(&q->dead, 0, &cursor);
    if (run != NULL) {
        strbuf_add_cstr(s, "dead:");
        for (; run != NULL; run = rangemap_next(&cursor)) {
            strbuf_printf(s, " %" PRIu64 "+%" PRIu64 " %s@%" PRIu64, run->first, run->count,
                          death_name(run->attr.c), run->attr.b);
        }
        strbuf_add_char(s, '\n');
    }
}

static void add_consumer(struct strbuf *s, const struct queue_consumer *consumer)
{
    struct rangemap_cursor cursor;
    strbuf_printf(s, "  consumer %" PRIu32 "%s%s%s%s%s%s delivered=%" PRIu64, consumer->id,
                  consumer->attached || consumer->id == 0 ? "" : " detached",
                  consumer->no_ack ? " no_ack" : "", consumer->settles ? " settles" : "",
                  consumer->exclusive ? " exclusive" : "", consumer->dead ? " dead" : "",
                  consumer->barred ? " barred" : "", consumer->delivered);
    if (consumer->attached) {
        strbuf_printf(s, " priority=%" PRId32 " prefetch=%" PRIu32 " capacity=%" PRIu64,
                      consumer->priority, consumer->prefetch, queue__capacity(consumer));
    }
    if (consumer->name.size > 0) {
        strbuf_add_cstr(s, " \"");
        strbuf_add_escaped(s, consumer->name);
        strbuf_add_char(s, '"');
    }
    const struct range_run *run = rangemap_lower_bound(&consumer->unacked, 0, &cursor);
    if (run != NULL) {
        strbuf_add_cstr(s, " unacked");
        for (; run != NULL; run = rangemap_next(&cursor)) {
            strbuf_printf(s, " %" PRIu64 "=%" PRIu64 "+%" PRIu64, run->first, run->attr.value,
                          run->count);
        }
    }
    strbuf_add_char(s, '\n');
}

/* ready runs: first+count, rN = delivered N times before, xT = expires at T, <P = released before
 * position P; delayed: @T = due at T; unacked runs: ordinal=position+count. */
void queue_describe(const struct queue *queue, char *out, size_t size)
{
    struct strbuf s;
    strbuf_init(&s, out, size);
    strbuf_printf(&s,
                  "queue next=%" PRIu64 " ready=%" PRIu64 " unacked=%" PRIu64 " consumers=%" PRIu32
                  "%s%s\n",
                  queue->next_position, queue->ready, queue->unacked, queue->consumers,
                  queue->sealed_by != 0 ? " sealed" : "", queue->unused ? " unused" : "");
    if (queue->clock_ms > 0) {
        strbuf_printf(&s, "clock %" PRIu64 " used %" PRIu64 "\n", queue->clock_ms, queue->used_ms);
    }
    if (queue->publisher_index.count + queue->ids.count > 0) {
        strbuf_printf(&s, "publishers %" PRIu32 " ids %" PRIu32 "\n", queue->publisher_index.count,
                      queue->ids.count);
    }
    add_ready(&s, queue);
    add_waiting(&s, queue);
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        strbuf_printf(&s, "client %" PRIu64 ".%" PRIu64 " seq=%" PRIu64,
                      queue__client_boot(client->id), client->id & UINT32_MAX, client->last_seq);
        if (client->limit != 0) {
            strbuf_printf(&s, " limit=%" PRIu64, client->limit);
        }
        if (!rangemap_is_empty(&client->nacked)) {
            strbuf_printf(&s, " refused=%" PRIu64, rangemap_keys(&client->nacked));
        }
        strbuf_add_cstr(&s, client->suspended ? " suspended\n" : "\n");
        for (size_t j = 0; j < client->consumers.count; j++) {
            add_consumer(&s, client->consumers.items[j]);
        }
    }
}

static const char *status_name(uint8_t status)
{
    static const char *const names[] = {
        "ok", "empty", "in-exclusive-use", "in-use", "not-empty", "sealed", "exists"};
    return status < WR_ARRAY_SIZE(names) ? names[status] : "?";
}

static void describe_deliver(struct strbuf *s, const struct queue_effect *e)
{
    strbuf_printf(s,
                  "DELIVER %" PRIu64 ".%" PRIu64 "/%" PRIu32 " ordinal=%" PRIu64
                  " position=%" PRIu64 "+%" PRIu64,
                  queue__client_boot(e->client), e->client & UINT32_MAX, e->consumer, e->ordinal,
                  e->position, e->count);
    if (e->delivery_count > 0) {
        strbuf_printf(s, " redelivered=%" PRIu32, e->delivery_count);
    }
    strbuf_add_cstr(s, (e->flags & QUEUE_NO_ACK) != 0 ? " no_ack" : "");
    if ((e->flags & QUEUE_DEAD) != 0) {
        strbuf_printf(s, " dead %s at=%" PRIu64, death_name(e->status), e->value);
    }
}

static void describe_peek(struct strbuf *s, const struct queue_effect *e)
{
    static const char *const places[] = {"?", "ready", "delayed", "?", "dead"};
    strbuf_printf(s, "PEEK %" PRIu64 ".%" PRIu64 " position=%" PRIu64 "+%" PRIu64 " %s",
                  queue__client_boot(e->client), e->client & UINT32_MAX, e->position, e->count,
                  e->status < WR_ARRAY_SIZE(places) ? places[e->status] : "?");
    if (e->delivery_count > 0) {
        strbuf_printf(s, " redelivered=%" PRIu32, e->delivery_count);
    }
    if (e->value != UINT64_MAX) {
        strbuf_printf(s, " at=%" PRIu64, e->value);
    }
}

void queue_describe_effect(const struct queue_effect *effect, char *out, size_t size)
{
    struct strbuf s;
    strbuf_init(&s, out, size);
    const uint64_t boot = queue__client_boot(effect->client);
    const uint64_t number = effect->client & UINT32_MAX;
    switch ((enum queue_effect_kind)effect->kind) {
    case QUEUE_EFFECT_APPLIED:
        strbuf_printf(&s, "APPLIED %" PRIu64 ".%" PRIu64 " seq=%" PRIu64, boot, number,
                      effect->seq);
        break;
    case QUEUE_EFFECT_NACKED:
        strbuf_printf(&s, "NACKED %" PRIu64 ".%" PRIu64 " seq=%" PRIu64 "+%" PRIu64, boot, number,
                      effect->seq, effect->count);
        break;
    case QUEUE_EFFECT_REPLY:
        strbuf_printf(
            &s,
            "REPLY %" PRIu64 ".%" PRIu64 " seq=%" PRIu64 " %s value=%" PRIu64 " consumers=%" PRIu64,
            boot, number, effect->seq, status_name(effect->status), effect->value, effect->value2);
        break;
    case QUEUE_EFFECT_DELIVER:
        describe_deliver(&s, effect);
        break;
    case QUEUE_EFFECT_DROP:
        strbuf_printf(&s, "DROP %" PRIu64 "+%" PRIu64, effect->position, effect->count);
        break;
    case QUEUE_EFFECT_CANCEL:
        strbuf_printf(&s, "CANCEL %" PRIu64 ".%" PRIu64 "/%" PRIu32, boot, number,
                      effect->consumer);
        break;
    case QUEUE_EFFECT_UNUSED:
        strbuf_add_cstr(&s, "UNUSED");
        break;
    case QUEUE_EFFECT_DEAD:
        strbuf_add_cstr(&s, "DEAD");
        break;
    case QUEUE_EFFECT_PEEK:
        describe_peek(&s, effect);
        break;
    default:
        strbuf_add_cstr(&s, "?");
        break;
    }
}
