/*
 * What: channels that publish. The frames of a message (of each kind of message, when keys or
 * priorities are mixed) are made once per channel; sending one is a
 * copy and two stores (number, time), many at a time into the connection's buffer. With a rate each
 * message has an intended time, and latency counts from it: a broker (or a window) that makes
 * messages wait is charged for the wait. Without a rate it counts from the sending. With confirms
 * the channel keeps a ring of what is outstanding, by delivery tag. When the connection is lost,
 * what is in the ring is sent again first, with its old number and time, on the next one.
 * Invariants: I1 outstanding is the number of ring slots in [tag_first, tag_next) with a time.
 * I2 tag_next - tag_first never exceeds the ring.
 */
#include "perf.h"

#include <sys/timerfd.h>
#include <unistd.h>

/* Messages of one channel before the next one has its turn. */
#define BURST 32

uint64_t now_ns(void)
{
    return uv_hrtime();
}

void gap_event(struct gap *g, uint64_t now)
{
    if (g->last_ns != 0 && now - g->last_ns > g->longest_ns) {
        g->longest_ns = now - g->last_ns;
        g->longest_at_ns = g->last_ns;
    }
    g->last_ns = now;
}

static struct options *options_of(const struct channel *ch)
{
    return ch->client->perf->options;
}

void producer_init(struct channel *ch)
{
    const struct options *o = options_of(ch);
    struct producer *p = &ch->p;
    heap_node_init(&p->due_node);
    if (o->confirm_window > 0) {
        p->ring_size = 64;
        while (p->ring_size < 2 * (uint64_t)o->confirm_window) {
            p->ring_size *= 2;
        }
        p->ring = wr_calloc(p->ring_size, sizeof(*p->ring));
    }
}

void producer_deinit(struct channel *ch)
{
    wr_free(ch->p.ring);
    wr_free(ch->p.frames);
    wr_free(ch->p.templates);
    wr_free(ch->p.resend.items);
}

/* Make the frames of this channel's messages, for the frame size of the connection. */
static void build_frames(struct channel *ch)
{
    const struct options *o = options_of(ch);
    struct producer *p = &ch->p;
    const uint32_t frame_max = ch->client->frame_max;
    uint8_t *body = wr_calloc(o->size + 1, 1);
    size_t end = 0;
    p->template_count = options_variant_count(o);
    wr_free(p->templates);
    p->templates = wr_calloc(p->template_count, sizeof(*p->templates));
    wr_free(p->frames);
    p->frames = NULL;
    /* How much they are, and then them. */
    for (unsigned i = 0; i < 2 * p->template_count; i++) {
        struct template *t = &p->templates[i % p->template_count];
        char key[256];
        struct bytes props;
        options_variant(o, p->queue_index, i % p->template_count, key, &props);
        const struct wire_basic_publish publish = {.exchange = bytes_from_cstr(o->exchange),
                                                   .routing_key = bytes_from_cstr(key),
                                                   .mandatory = o->mandatory};
        if (i < p->template_count) {
            t->at = end;
            t->frames_size = wire_publish_size(&publish, props.size, o->size, frame_max);
            end += t->frames_size;
            if (o->size >= 12) {
                t->stamp_at =
                    wire_publish_size(&publish, props.size, 0, frame_max) + WIRE_FRAME_HEADER_SIZE;
            }
            continue;
        }
        if (p->frames == NULL) {
            p->frames = wr_alloc(end);
        }
        (void)wire_publish_write(p->frames + t->at, ch->number, &publish, props,
                                 bytes_make(body, o->size), frame_max);
    }
    wr_free(body);
}

void producer_open(struct channel *ch)
{
    struct producer *p = &ch->p;
    build_frames(ch);
    p->tag_first = 1;
    p->tag_next = 1;
    p->outstanding = 0;
    if (p->ring_size > 0) {
        const struct wire_method select = {.id = WIRE_CONFIRM_SELECT};
        client_send(ch->client, ch->number, &select);
        ch->expected++;
    }
}

/* ---- the connection was lost ---- */

void producer_lost(struct channel *ch)
{
    struct producer *p = &ch->p;
    if (heap_contains(&p->due_node)) {
        heap_remove(&ch->client->perf->due, &p->due_node);
    }
    if (p->outstanding == 0) {
        p->tag_first = p->tag_next;
        return;
    }
    /* Outstanding ones are older than any that still waited to be sent again. */
    struct resend all = {.items = wr_calloc(p->outstanding + p->resend.count, sizeof(*all.items))};
    for (uint64_t tag = p->tag_first; tag < p->tag_next; tag++) {
        const struct pending *slot = &p->ring[tag & (p->ring_size - 1)];
        if (slot->intended_ns != 0) {
            all.items[all.count++] = *slot;
        }
    }
    WR_ASSERT_OP(all.count, ==, p->outstanding);
    for (size_t i = 0; i < p->resend.count; i++) {
        all.items[all.count++] = p->resend.items[p->resend.first + i];
    }
    wr_free(p->resend.items);
    p->resend = all;
    p->outstanding = 0;
    p->tag_first = p->tag_next;
}

/* ---- sending ---- */

static inline bool window_is_open(const struct channel *ch)
{
    const struct producer *p = &ch->p;
    return p->ring_size == 0 || (p->outstanding < options_of(ch)->confirm_window &&
                                 p->tag_next - p->tag_first < p->ring_size);
}

static inline void put_message(struct channel *ch, uint64_t sequence, uint64_t intended_ns)
{
    struct producer *p = &ch->p;
    const struct template *t = &p->templates[sequence & (p->template_count - 1)];
    uint8_t *out = client_reserve(ch->client, t->frames_size);
    memcpy(out, p->frames + t->at, t->frames_size);
    if (t->stamp_at != 0) {
        bytes_store_be32(out + t->stamp_at, (uint32_t)sequence);
        bytes_store_be64(out + t->stamp_at + 4, intended_ns);
    }
    client_commit(ch->client, t->frames_size);
    if (p->ring_size > 0) {
        p->ring[p->tag_next & (p->ring_size - 1)] = (struct pending){sequence, intended_ns};
        p->tag_next++;
        p->outstanding++;
    }
}

/* True when a new message may be sent now by the schedule. */
static inline bool is_due(const struct channel *ch, uint64_t now)
{
    const struct options *o = options_of(ch);
    if (ch->finished || (o->producer_messages > 0 && ch->p.sent >= o->producer_messages)) {
        return false;
    }
    return o->send_interval_ns == 0 || ch->p.due_ns <= now;
}

/* One message, if there is one to be sent now. */
static inline bool send_one(struct channel *ch, uint64_t now)
{
    struct producer *p = &ch->p;
    struct perf *perf = ch->client->perf;
    if (!ch->ready || !window_is_open(ch)) {
        return false;
    }
    if (WR_UNLIKELY(p->resend.count > 0)) {
        const struct pending *again = &p->resend.items[p->resend.first++];
        p->resend.count--;
        put_message(ch, again->sequence, again->intended_ns);
        perf->interval.repeated++;
        return true;
    }
    if (!is_due(ch, now)) {
        return false;
    }
    const uint64_t interval = options_of(ch)->send_interval_ns;
    put_message(ch, p->sent, interval == 0 ? now : p->due_ns);
    p->due_ns += interval;
    p->sent++;
    perf->interval.sent++;
    return true;
}

/* Finished when all is sent and, with confirms, confirmed. */
static void check_finished(struct channel *ch)
{
    const struct options *o = options_of(ch);
    if (!ch->finished && o->producer_messages > 0 && ch->p.sent >= o->producer_messages &&
        ch->p.outstanding == 0 && ch->p.resend.count == 0) {
        ch->finished = true;
        run_channel_finished(ch);
    }
}

static void arm(struct perf *perf)
{
    const struct heap_node *first = heap_first(&perf->due);
    struct itimerspec when = {0};
    if (first != NULL) {
        const struct producer *p = WR_CONTAINER_OF_CONST(first, struct producer, due_node);
        when.it_value.tv_sec = (time_t)(p->due_ns / 1000000000);
        when.it_value.tv_nsec = (long)(p->due_ns % 1000000000);
    }
    (void)timerfd_settime(perf->due_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Put the channel into the heap if all it waits for is its time. */
static bool wait_for_time(struct channel *ch, uint64_t now)
{
    struct producer *p = &ch->p;
    const struct options *o = options_of(ch);
    if (o->send_interval_ns == 0 || heap_contains(&p->due_node) || p->due_ns <= now ||
        (o->producer_messages > 0 && p->sent >= o->producer_messages)) {
        return false;
    }
    heap_insert(&ch->client->perf->due, &p->due_node);
    return true;
}

void producer_fill(struct client *c)
{
    bool more = true;
    while (more && c->fill.size < FILL_MAX) {
        const uint64_t now = now_ns();
        more = false;
        for (unsigned i = 0; i < c->channel_count; i++) {
            for (unsigned n = 0; n < BURST && c->fill.size < FILL_MAX; n++) {
                if (!send_one(&c->channels[i], now)) {
                    break;
                }
                more = true;
            }
        }
    }
    const uint64_t now = now_ns();
    bool changed = false;
    for (unsigned i = 0; i < c->channel_count; i++) {
        changed = wait_for_time(&c->channels[i], now) || changed;
        check_finished(&c->channels[i]);
    }
    if (changed) {
        arm(c->perf);
    }
    client_flush(c);
}

void producer_begin(struct channel *ch, unsigned index, unsigned count)
{
    const struct perf *perf = ch->client->perf;
    /* Spread the first messages over one interval. */
    ch->p.due_ns = perf->begin_ns + perf->options->send_interval_ns * index / count;
}

void producer_due(uv_poll_t *poll, int status, int events)
{
    struct perf *perf = poll->data;
    uint64_t fired;
    (void)status;
    (void)events;
    (void)!read(perf->due_fd, &fired, sizeof(fired));
    const uint64_t now = now_ns();
    struct heap_node *first;
    while ((first = heap_first(&perf->due)) != NULL) {
        struct producer *p = WR_CONTAINER_OF(first, struct producer, due_node);
        if (p->due_ns > now) {
            break;
        }
        heap_remove(&perf->due, first);
        struct channel *ch = WR_CONTAINER_OF(p, struct channel, p);
        if (perf->phase == PHASE_RUN && ch->client->state == CLIENT_OPEN && !ch->client->writing) {
            producer_fill(ch->client);
        }
    }
    arm(perf);
}

/* ---- confirms ---- */

/* One slot; false when it was confirmed before. */
static bool confirm_slot(struct channel *ch, uint64_t tag, uint64_t now, bool ack)
{
    struct producer *p = &ch->p;
    struct pending *slot = &p->ring[tag & (p->ring_size - 1)];
    if (slot->intended_ns == 0) {
        return false;
    }
    struct perf *perf = ch->client->perf;
    if (ack) {
        hist_record(&perf->confirm_interval, now - slot->intended_ns);
        perf->interval.confirmed++;
    } else {
        perf->interval.nacked++;
    }
    slot->intended_ns = 0;
    p->outstanding--;
    return true;
}

static void confirm(struct channel *ch, uint64_t tag, bool multiple, uint64_t now, bool ack)
{
    struct producer *p = &ch->p;
    if (p->ring_size == 0 || tag >= p->tag_next || (tag < p->tag_first && tag != 0) ||
        (tag == 0 && !multiple)) {
        client_fail(ch->client, "confirm of a message that is not outstanding");
        return;
    }
    bool any = false;
    if (multiple) {
        const uint64_t last = tag == 0 ? p->tag_next - 1 : tag;
        for (uint64_t t = p->tag_first; t <= last; t++) {
            any = confirm_slot(ch, t, now, ack) || any;
        }
    } else {
        any = confirm_slot(ch, tag, now, ack);
    }
    while (p->tag_first < p->tag_next &&
           p->ring[p->tag_first & (p->ring_size - 1)].intended_ns == 0) {
        p->tag_first++;
    }
    if (any && ack) {
        gap_event(&ch->gap, now);
        gap_event(&ch->client->perf->confirm_gap, now);
    }
    if (p->outstanding == 0) {
        check_finished(ch);
    }
}

void producer_method(struct channel *ch, const struct wire_method *m, uint64_t now)
{
    switch ((uint32_t)m->id) {
    case WIRE_BASIC_ACK:
        confirm(ch, m->basic_ack.delivery_tag, m->basic_ack.multiple, now, true);
        break;
    case WIRE_BASIC_NACK:
        confirm(ch, m->basic_nack.delivery_tag, m->basic_nack.multiple, now, false);
        break;
    case WIRE_BASIC_RETURN:
        ch->client->perf->interval.returned++;
        break;
    default:
        break;
    }
}
