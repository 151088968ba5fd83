/*
 * What: frames that cannot be worked off when they come: their channel waits for an answer of the
 * cluster, publishing is held back, or others are kept before them.
 *
 * Happy path: a frame is copied and kept, and worked off in its turn when the channel goes on
 * (channel_resume). Declares and their like begin while such as they are under way. While
 * publishing is held back some pass those that are kept (no alarm deadlock; docs/flow.md):
 *   acks                    all but another settle, recover, tx.* and a close
 *   requeues                publishes
 *   cancel, qos, recover    publishes; under an alarm consume and get as well
 *   a close                 nothing, but what is kept before it is then worked off at once
 *
 * Invariants: I1 frames of a channel are worked on in order, but for those that pass held
 * publishes. I2 the kept frames of a connection cost at most kept_max() plus one read: then the
 * socket is paused.
 */
#include "amqp_internal.h"

void kept_drop(struct amqp_channel *ch)
{
    for (size_t i = ch->queued_head; i < ch->queued.count; i++) {
        slice_unref(&ch->queued.items[i].payload);
    }
    vec_clear(&ch->queued);
    conn_kept(ch->conn, 0, ch->queued_bytes);
    ch->queued_head = 0;
    ch->queued_bytes = 0;
    memset(ch->queued_kinds, 0, sizeof ch->queued_kinds);
    ch->let_through = 0;
}

static bool may_begin_ahead(uint32_t id)
{
    return id == (uint32_t)WIRE_QUEUE_DECLARE || id == (uint32_t)WIRE_QUEUE_BIND ||
           id == (uint32_t)WIRE_QUEUE_UNBIND || id == (uint32_t)WIRE_QUEUE_DELETE ||
           id == (uint32_t)WIRE_BASIC_CONSUME || id == (uint32_t)WIRE_BASIC_CANCEL;
}

/* Declares, binds and others begin while such as they are under way, where nothing but the cluster
 * decides about them: a commit takes a sync, and one serves many. True: it has begun. */
static bool begins_ahead(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct wire_method method;
    if (ch->calls.count == 0 || ch->calls.count >= AMQP_AHEAD_MAX || ch->ahead_refused ||
        kept_holds(ch) || ch->client_closed || frame->type != WIRE_FRAME_METHOD ||
        frame->payload.size < 4) {
        return false;
    }
    if (!may_begin_ahead(bytes_load_be32(frame->payload.data))) {
        return false;
    }
    const bool begins = wire_method_decode(frame->payload, &method) == WIRE_OK &&
                        (ch_queue_ahead(ch, &method) || ch_basic_ahead(ch, &method));
    ch->ahead_refused = !begins;
    return begins;
}

bool kept_alarm_begins_hold(struct amqp_channel *ch, uint8_t type, struct bytes payload)
{
    if (ch->leaving || ch->let_through > 0 || type != WIRE_FRAME_METHOD || payload.size < 4 ||
        bytes_load_be32(payload.data) != WIRE_BASIC_PUBLISH) {
        return false;
    }
    broker_channel_alarm(ch->broker);
    return ch->blocked;
}

static bool alarm_holds_kept(struct amqp_channel *ch)
{
    const struct saved_frame *next = &ch->queued.items[ch->queued_head];
    return kept_alarm_holds(ch, next->type, bytes_from_slice(&next->payload));
}

bool channel_is_quiet(const struct amqp_channel *ch)
{
    return (ch->closing && ch->late_close == NULL) ||
           (!ch->closing && !ch->client_closed && !kept_waits(ch) &&
            ch->queued_head == ch->queued.count);
}

static bool requeues(const struct wire_frame *frame)
{
    struct wire_method method;
    if (wire_method_decode(frame->payload, &method) != WIRE_OK) {
        return true;
    }
    return method.id == WIRE_BASIC_NACK ? method.basic_nack.requeue : method.basic_reject.requeue;
}

/* What the frame may pass. Under an alarm consumers may be what ends it. */
static enum kept_kind kind_of(const struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (frame->type != WIRE_FRAME_METHOD) {
        return KEPT_CONTENT;
    }
    if (frame->payload.size < 4) {
        return KEPT_BARRIER;
    }
    uint32_t id = bytes_load_be32(frame->payload.data);
    switch (id) {
    case WIRE_BASIC_PUBLISH:
        return KEPT_CONTENT;
    case WIRE_BASIC_ACK:
        return KEPT_ACK;
    case WIRE_BASIC_NACK:
    case WIRE_BASIC_REJECT:
        return requeues(frame) ? KEPT_REQUEUE : KEPT_ACK;
    case WIRE_BASIC_QOS:
    case WIRE_BASIC_CANCEL:
        return KEPT_ASKING;
    case WIRE_BASIC_RECOVER:
    case WIRE_BASIC_RECOVER_ASYNC:
        return ch->queued_kinds[KEPT_REQUEST] + ch->queued_kinds[KEPT_ASKING] == 0 ? KEPT_ASKING
                                                                                   : KEPT_BARRIER;
    case WIRE_BASIC_CONSUME:
    case WIRE_BASIC_GET:
        return ch->conn->alarmed ? KEPT_ASKING : KEPT_REQUEST;
    case WIRE_CHANNEL_CLOSE:
    case WIRE_TX_SELECT:
    case WIRE_TX_COMMIT:
    case WIRE_TX_ROLLBACK:
        return KEPT_BARRIER;
    default:
        return KEPT_REQUEST;
    }
}

/* How many there are before the frame that it may not pass. */
struct ahead {
    uint32_t settles, requests, barriers;
};

static void count_ahead(struct ahead *ahead, enum kept_kind kind, uint32_t count)
{
    ahead->settles += kind == KEPT_ACK || kind == KEPT_REQUEUE ? count : 0;
    ahead->requests += kind == KEPT_ASKING || kind == KEPT_REQUEST ? count : 0;
    ahead->barriers += kind == KEPT_BARRIER ? count : 0;
}

static bool may_pass(const struct ahead *ahead, enum kept_kind kind)
{
    bool first = ahead->settles == 0 && ahead->barriers == 0;
    return (kind == KEPT_ACK && first) ||
           ((kind == KEPT_REQUEUE || kind == KEPT_ASKING) && first && ahead->requests == 0);
}

static bool passes(const struct amqp_channel *ch)
{
    return ch->blocked && !ch->leaving && ch->let_through == 0 && ch->calls.count == 0 &&
           !ch->waiting_publish && !ch->closing && !ch->client_closed && !ch->conn->unread &&
           conn_works(ch->conn);
}

/*
 * What is kept before a close is worked off. So is a transaction that acknowledges something, with
 * its publishes: whoever takes from one queue what it puts into another would otherwise wait for
 * ever, its acks being part of what waits.
 */
static void after_kept(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (frame->type != WIRE_FRAME_METHOD || frame->payload.size < 4) {
        return;
    }
    uint32_t id = bytes_load_be32(frame->payload.data);
    if (id == (uint32_t)WIRE_CHANNEL_CLOSE) {
        channel_leave(ch);
    } else if (id == (uint32_t)WIRE_TX_COMMIT || id == (uint32_t)WIRE_TX_ROLLBACK) {
        if (ch->settled) {
            ch->let_through = ch->queued.count - ch->queued_head;
            channel_resume(ch);
        }
        ch->settled = false;
    }
}

static uint32_t count_others(const struct amqp_channel *ch)
{
    uint32_t count = 0;
    for (enum kept_kind kind = KEPT_ACK; kind < KEPT_KINDS; kind++) {
        count += ch->queued_kinds[kind];
    }
    return count;
}

static void keep_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct saved_frame saved = {.type = frame->type,
                                .kind = (uint8_t)kind_of(ch, frame),
                                .received_at = ch->conn->received_bytes,
                                .payload = slice_copy(frame->payload.data, frame->payload.size)};
    size_t cost = frame->payload.size + sizeof saved + sizeof(struct buf);
    if (saved.kind != KEPT_CONTENT && count_others(ch) == 0) {
        ch->queued_other = ch->queued.count;
    }
    vec_push(&ch->queued, saved);
    ch->queued_kinds[saved.kind]++;
    ch->queued_bytes += cost;
    conn_kept(ch->conn, cost, 0);
    after_kept(ch, frame);
}

bool kept_may_follow_commit(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct wire_method method;
    uint32_t id = 0;
    if (frame->type == WIRE_FRAME_METHOD &&
        wire_method_decode(frame->payload, &method) == WIRE_OK) {
        id = (uint32_t)method.id;
    }
    if (id == WIRE_CHANNEL_CLOSE) {
        return true;
    }
    conn_fault(ch->conn, 504, (uint16_t)(id >> 16), (uint16_t)(id & 0xffff),
               "unexpected command while processing 'tx.commit'");
    return false;
}

/* Takes a kept frame out, and works it off. What passes does so in the middle of a held content,
 * too. */
static void work_kept(struct amqp_channel *ch, size_t at,
                      void (*work)(struct amqp_channel *ch, const struct wire_frame *frame))
{
    struct saved_frame saved = ch->queued.items[at];
    struct wire_frame frame = {
        .type = saved.type, .channel = ch->number, .payload = bytes_from_slice(&saved.payload)};
    size_t cost = saved.payload.size + sizeof saved + sizeof(struct buf);
    ch->queued.items[at].type = 0;
    ch->queued.items[at].payload = SLICE_NONE;
    ch->queued_kinds[saved.kind]--;
    ch->queued_bytes -= cost;
    conn_kept(ch->conn, 0, cost);
    ch->received_at = saved.received_at;
    work(ch, &frame);
    slice_unref(&saved.payload);
}

static void note_settled(struct amqp_channel *ch, enum kept_kind kind)
{
    ch->settled = ch->settled || kind == KEPT_ACK || kind == KEPT_REQUEUE;
}

/* Publishing is held back: what may pass the publishes does. */
static void pass_kept(struct amqp_channel *ch)
{
    struct ahead ahead = {0};
    uint32_t left = count_others(ch);
    size_t from = ch->queued_other > ch->queued_head ? ch->queued_other : ch->queued_head;
    for (size_t i = from; left > 0 && i < ch->queued.count && passes(ch); i++) {
        struct saved_frame *saved = &ch->queued.items[i];
        if (saved->type == 0 || saved->kind == KEPT_CONTENT) {
            continue;
        }
        left--;
        if (may_pass(&ahead, saved->kind)) {
            note_settled(ch, saved->kind);
            work_kept(ch, i, channel_work_method);
        } else {
            count_ahead(&ahead, saved->kind, 1);
        }
    }
}

/* A commit is under way: what was kept behind it must be allowed to be there. */
static void check_next_kept(struct amqp_channel *ch)
{
    for (size_t i = ch->queued_head; i < ch->queued.count; i++) {
        const struct saved_frame *next = &ch->queued.items[i];
        if (next->type != 0) { /* else it passed, and was worked off */
            const struct wire_frame frame = {.type = next->type,
                                             .channel = ch->number,
                                             .payload = bytes_from_slice(&next->payload)};
            (void)kept_may_follow_commit(ch, &frame);
            return;
        }
    }
}

/* The next of the kept frames, or what is left in the place of one that passed. */
static bool kept_begins_ahead(struct amqp_channel *ch)
{
    const struct saved_frame *next = &ch->queued.items[ch->queued_head];
    const struct wire_frame frame = {
        .type = next->type, .channel = ch->number, .payload = bytes_from_slice(&next->payload)};
    return next->type == 0 || begins_ahead(ch, &frame);
}

static void work_nothing(struct amqp_channel *ch, const struct wire_frame *frame)
{
    (void)ch, (void)frame; /* it has begun */
}

void channel_resume(struct amqp_channel *ch)
{
    if (ch->draining) {
        return;
    }
    ch->draining = true;
    if (passes(ch)) {
        pass_kept(ch);
    }
    while (!ch->closing && !ch->client_closed && conn_works(ch->conn) &&
           ch->queued_head < ch->queued.count) {
        size_t at = ch->queued_head;
        const bool ahead = ch->calls.count > 0;
        if (ahead ? !kept_begins_ahead(ch) : kept_waits(ch) || alarm_holds_kept(ch)) {
            break;
        }
        ch->queued_head++;
        ch->let_through -= ch->let_through > 0;
        if (ch->queued.items[at].type != 0) {
            work_kept(ch, at, ahead ? work_nothing : channel_work);
        }
    }
    ch->draining = false;
    if (ch->committing) {
        check_next_kept(ch);
    }
    if (ch->queued_head == ch->queued.count) {
        vec_clear(&ch->queued);
        ch->queued_head = 0;
    } else if (ch->queued_head > 256 && ch->queued_head > ch->queued.count / 2) {
        ch->queued.count -= ch->queued_head;
        memmove(ch->queued.items, ch->queued.items + ch->queued_head,
                ch->queued.count * sizeof *ch->queued.items);
        ch->queued_other -= ch->queued_other > ch->queued_head ? ch->queued_head : ch->queued_other;
        ch->queued_head = 0;
    }
    if (ch->conn->state == CONN_FINISHING) {
        conn_dirty(ch->conn); /* it may have waited for this channel */
    }
}

void channel_leave(struct amqp_channel *ch)
{
    if (!ch->leaving) {
        ch->leaving = true;
        channel_resume(ch);
    }
}

/* While publishing is held back: worked off at once, past what is kept, without being kept itself.
 */
static bool overtakes(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct ahead ahead = {0};
    if (!passes(ch) || ch->draining) {
        return false;
    }
    for (enum kept_kind k = KEPT_CONTENT; k < KEPT_KINDS; k++) {
        count_ahead(&ahead, k, ch->queued_kinds[k]);
    }
    enum kept_kind kind = kind_of(ch, frame);
    if (!may_pass(&ahead, kind)) {
        return false;
    }
    note_settled(ch, kind);
    ch->received_at = ch->conn->received_bytes;
    channel_work_method(ch, frame);
    return true;
}

void kept_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    const bool next = ch->queued_head == ch->queued.count && !ch->draining;
    if (!overtakes(ch, frame) && !(next && begins_ahead(ch, frame))) {
        keep_frame(ch, frame);
    }
}
