/*
 * What: bodies of parcels as bytes: ops, effects, resume requests and the small kinds. (Raft
 * messages: raft_codec.c.) Failure modes: a peer may be of another version or broken: every read is
 * bounded, every message record is checked, and what does not verify is refused as a whole with
 * WR_E_CORRUPT (the parcel is dropped; resume repairs the loss). Ownership: *_pack take bodies over
 * where the parameter says so; *_unpack give new bodies. Spec: docs/replica.md, "Parcels".
 */
#include "warren/mem.h"
#include "warren/pack.h"

#include "group.h"
#include "parcel.h"

#define BODY_VERSION 1u
#define SECTIONS_MAX 100000u
#define ITEMS_MAX    1000000u

static struct pack_writer begin(struct buf **out)
{
    *out = buf_new(256);
    struct pack_writer w = pack_writer_make(out);
    pack_put_uint(&w, BODY_VERSION);
    return w;
}

static int open_body(struct parcel *parcel, struct pack_reader *ret_reader, struct slice *ret_raw)
{
    struct bytes head;
    int error = parcel_body(parcel, &head, ret_raw);
    if (error != 0) {
        return error;
    }
    *ret_reader = pack_reader_make(head);
    return pack_get_uint(ret_reader, UINT32_MAX) == BODY_VERSION ? 0 : WR_E_VERSION;
}

/* --- ops ------------------------------------------------------------------------------------- */

void ops_bundle_free(void *bundle)
{
    struct ops_bundle *b = bundle;
    if (b == NULL) {
        return;
    }
    ops_release(b->ops.items, b->ops.count);
    vec_deinit(&b->ops);
    vec_deinit(&b->sections);
    buf_unref(b->encoded);
    wr_free(b);
}

void ops_pack(struct parcel *parcel, struct ops_bundle *owned_bundle)
{
    WR_ASSERT(owned_bundle->encoded != NULL);
    struct buf *head;
    struct pack_writer w = begin(&head);
    pack_put_array(&w, (uint32_t)owned_bundle->sections.count);
    for (size_t i = 0; i < owned_bundle->sections.count; i++) {
        const struct ops_section *s = &owned_bundle->sections.items[i];
        pack_put_uint(&w, s->client);
        pack_put_uint(&w, s->session);
        pack_put_bool(&w, s->fresh);
        pack_put_uint(&w, s->begin);
        pack_put_uint(&w, s->end);
    }
    struct slice raw = slice_of_buf(owned_bundle->encoded);
    owned_bundle->encoded = NULL;
    parcel_set_body(parcel, head, &raw, 1);
    ops_bundle_free(owned_bundle);
}

int ops_unpack(struct parcel *parcel, struct ops_bundle **ret_bundle, struct slice *ret_raw)
{
    struct pack_reader r;
    int error = open_body(parcel, &r, ret_raw);
    if (error != 0) {
        return error;
    }
    struct ops_bundle *bundle = wr_calloc(1, sizeof *bundle);
    uint32_t count = pack_get_array(&r, SECTIONS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct ops_section s = {0};
        s.client = pack_get_uint(&r, UINT64_MAX);
        s.session = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        s.fresh = pack_get_bool(&r);
        s.begin = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        s.end = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        if (pack_failed(&r) || s.begin > s.end || s.end > ret_raw->size || s.begin < ENTRY_HEADER ||
            s.client == 0) {
            ops_bundle_free(bundle);
            return WR_E_CORRUPT;
        }
        vec_push(&bundle->sections, s);
    }
    if (!pack_done(&r)) {
        ops_bundle_free(bundle);
        return WR_E_CORRUPT;
    }
    *ret_bundle = bundle;
    return 0;
}

/* --- effects --------------------------------------------------------------------------------- */

void effect_bundle_free(void *bundle)
{
    struct effect_bundle *b = bundle;
    if (b == NULL) {
        return;
    }
    static_assert(sizeof(struct message) == sizeof(struct slice), "a message is a slice");
    slices_unref((const struct slice *)b->messages.items, b->messages.count);
    vec_deinit(&b->messages);
    vec_deinit(&b->items);
    wr_free(b);
}

static void put_effect(struct pack_writer *w, const struct effect_item *item)
{
    const struct queue_effect *e = &item->effect;
    pack_put_uint(w, e->kind);
    pack_put_uint(w, e->client);
    pack_put_uint(w, item->session);
    pack_put_uint(w, item->number);
    switch (e->kind) {
    case QUEUE_EFFECT_APPLIED:
        pack_put_uint(w, e->seq);
        break;
    case QUEUE_EFFECT_NACKED:
        pack_put_uint(w, e->seq);
        pack_put_uint(w, e->count);
        break;
    case QUEUE_EFFECT_REPLY:
        pack_put_uint(w, e->seq);
        pack_put_uint(w, e->status);
        pack_put_uint(w, e->value);
        pack_put_uint(w, e->value2);
        break;
    case QUEUE_EFFECT_DELIVER:
        pack_put_uint(w, e->consumer);
        pack_put_uint(w, e->ordinal);
        pack_put_uint(w, e->delivery_count);
        pack_put_uint(w, e->flags);
        pack_put_uint(w, e->position);
        pack_put_uint(w, e->count);
        pack_put_bool(w, item->message_count > 0); /* bytes follow; else by position */
        if ((e->flags & QUEUE_DEAD) != 0) {
            pack_put_uint(w, e->status);
            pack_put_uint(w, e->value);
        }
        break;
    case QUEUE_EFFECT_PEEK:
        pack_put_uint(w, e->position);
        pack_put_uint(w, e->count);
        pack_put_uint(w, e->delivery_count);
        pack_put_uint(w, e->status);
        pack_put_uint(w, e->value);
        break;
    case QUEUE_EFFECT_CANCEL:
        pack_put_uint(w, e->consumer);
        break;
    default:
        WR_UNREACHABLE();
    }
}

void effects_pack(struct parcel *parcel, struct effect_bundle *owned_bundle)
{
    struct buf *head;
    struct pack_writer w = begin(&head);
    pack_put_uint(&w, owned_bundle->shard);
    pack_put_uint(&w, owned_bundle->applied);
    pack_put_array(&w, (uint32_t)owned_bundle->items.count);
    for (size_t i = 0; i < owned_bundle->items.count; i++) {
        put_effect(&w, &owned_bundle->items.items[i]);
    }
    parcel_set_body(parcel, head, (struct slice *)owned_bundle->messages.items,
                    (uint32_t)owned_bundle->messages.count);
    owned_bundle->messages.count = 0;
    effect_bundle_free(owned_bundle);
}

static int get_messages(struct effect_bundle *bundle, struct effect_item *item, uint32_t count,
                        struct slice *raw)
{
    item->message_first = (uint32_t)bundle->messages.count;
    item->message_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (raw->size < MESSAGE_HEADER_SIZE) {
            return WR_E_CORRUPT;
        }
        uint32_t size = bytes_load_le32(slice_data(raw));
        if (size > raw->size || message_check(bytes_make(slice_data(raw), size)) != 0) {
            return WR_E_CORRUPT;
        }
        struct slice record = slice_sub(raw, 0, size);
        vec_push(&bundle->messages, (struct message){slice_ref(&record)});
        *raw = slice_sub(raw, size, raw->size - size);
    }
    return 0;
}

/* How many messages follow in the raw part; SIZE_MAX: it makes no sense. */
static size_t get_delivery(struct pack_reader *r, struct queue_effect *e)
{
    e->consumer = (uint32_t)pack_get_uint(r, UINT32_MAX);
    e->ordinal = pack_get_uint(r, UINT64_MAX - UINT32_MAX);
    e->delivery_count = (uint32_t)pack_get_uint(r, UINT32_MAX);
    e->flags = (uint8_t)pack_get_uint(r, UINT8_MAX);
    e->position = pack_get_uint(r, UINT64_MAX / 2);
    e->count = pack_get_uint(r, UINT32_MAX);
    const bool carried = pack_get_bool(r);
    if ((e->flags & QUEUE_DEAD) != 0) {
        e->status = (uint8_t)pack_get_uint(r, UINT8_MAX);
        e->value = pack_get_uint(r, UINT64_MAX);
    }
    if (e->count == 0) {
        return SIZE_MAX; /* neither with bytes nor without */
    }
    return carried ? (size_t)e->count : 0;
}

static size_t get_peeked(struct pack_reader *r, struct queue_effect *e)
{
    e->position = pack_get_uint(r, UINT64_MAX / 2);
    e->count = pack_get_uint(r, UINT32_MAX);
    e->delivery_count = (uint32_t)pack_get_uint(r, UINT32_MAX);
    e->status = (uint8_t)pack_get_uint(r, UINT8_MAX);
    e->value = pack_get_uint(r, UINT64_MAX);
    return e->count > 0 ? (size_t)e->count : SIZE_MAX;
}

static int get_effect(struct pack_reader *r, struct effect_bundle *bundle, struct slice *raw)
{
    struct effect_item item = {0};
    struct queue_effect *e = &item.effect;
    e->kind = (uint8_t)pack_get_uint(r, UINT8_MAX);
    e->client = pack_get_uint(r, UINT64_MAX);
    item.session = (uint32_t)pack_get_uint(r, UINT32_MAX);
    item.number = pack_get_uint(r, UINT64_MAX);
    size_t messages = 0;
    switch (e->kind) {
    case QUEUE_EFFECT_APPLIED:
        e->seq = pack_get_uint(r, UINT64_MAX);
        break;
    case QUEUE_EFFECT_NACKED:
        e->seq = pack_get_uint(r, UINT64_MAX / 2);
        e->count = pack_get_uint(r, UINT64_MAX / 2);
        break;
    case QUEUE_EFFECT_REPLY:
        e->seq = pack_get_uint(r, UINT64_MAX);
        e->status = (uint8_t)pack_get_uint(r, UINT8_MAX);
        e->value = pack_get_uint(r, UINT64_MAX);
        e->value2 = pack_get_uint(r, UINT64_MAX);
        break;
    case QUEUE_EFFECT_DELIVER:
        messages = get_delivery(r, e);
        bundle->by_position += messages == 0;
        break;
    case QUEUE_EFFECT_PEEK:
        messages = get_peeked(r, e);
        break;
    case QUEUE_EFFECT_CANCEL:
        e->consumer = (uint32_t)pack_get_uint(r, UINT32_MAX);
        break;
    default:
        return WR_E_CORRUPT;
    }
    if (pack_failed(r) || messages == SIZE_MAX ||
        get_messages(bundle, &item, (uint32_t)messages, raw) != 0) {
        return WR_E_CORRUPT;
    }
    vec_push(&bundle->items, item);
    return 0;
}

int effects_unpack(struct parcel *parcel, struct effect_bundle **ret_bundle)
{
    struct pack_reader r;
    struct slice raw;
    int error = open_body(parcel, &r, &raw);
    if (error != 0) {
        return error;
    }
    struct effect_bundle *bundle = wr_calloc(1, sizeof *bundle);
    bundle->shard = (uint32_t)pack_get_uint(&r, UINT32_MAX);
    bundle->applied = pack_get_uint(&r, UINT64_MAX);
    uint32_t count = pack_get_array(&r, ITEMS_MAX);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = get_effect(&r, bundle, &raw);
    }
    if (error != 0 || !pack_done(&r) || raw.size != 0) {
        effect_bundle_free(bundle);
        return WR_E_CORRUPT;
    }
    *ret_bundle = bundle;
    return 0;
}

/* --- resume ---------------------------------------------------------------------------------- */

void resume_body_free(void *body)
{
    struct resume_body *b = body;
    if (b != NULL) {
        vec_deinit(&b->consumers);
        wr_free(b);
    }
}

void resume_pack(struct parcel *parcel, const struct resume_body *body)
{
    struct buf *head;
    struct pack_writer w = begin(&head);
    pack_put_uint(&w, body->client);
    pack_put_uint(&w, body->session);
    pack_put_bool(&w, body->inlined);
    pack_put_uint(&w, body->applied);
    pack_put_array(&w, (uint32_t)body->consumers.count);
    for (size_t i = 0; i < body->consumers.count; i++) {
        pack_put_uint(&w, body->consumers.items[i].consumer);
        pack_put_uint(&w, body->consumers.items[i].next);
    }
    parcel_set_body(parcel, head, NULL, 0);
}

int resume_unpack(struct parcel *parcel, struct resume_body *ret_body)
{
    struct pack_reader r;
    struct slice raw;
    int error = open_body(parcel, &r, &raw);
    if (error != 0) {
        return error;
    }
    struct resume_body body = {0};
    body.client = pack_get_uint(&r, UINT64_MAX);
    body.session = (uint32_t)pack_get_uint(&r, UINT32_MAX);
    body.inlined = pack_get_bool(&r);
    body.applied = pack_get_uint(&r, UINT64_MAX / 2);
    uint32_t count = pack_get_array(&r, SECTIONS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct consumer_expect c;
        c.consumer = (uint32_t)pack_get_uint(&r, UINT32_MAX);
        c.next = pack_get_uint(&r, UINT64_MAX);
        vec_push(&body.consumers, c);
    }
    if (!pack_done(&r) || body.client == 0) {
        vec_deinit(&body.consumers);
        return WR_E_CORRUPT;
    }
    *ret_body = body;
    return 0;
}

void resumed_pack(struct parcel *parcel, const struct resumed_body *body)
{
    struct buf *head;
    struct pack_writer w = begin(&head);
    pack_put_uint(&w, body->client);
    pack_put_uint(&w, body->session);
    pack_put_uint(&w, body->applied);
    pack_put_uint(&w, body->received);
    pack_put_array(&w, (uint32_t)body->refused.count);
    for (size_t i = 0; i < body->refused.count; i++) {
        pack_put_uint(&w, body->refused.items[i].first);
        pack_put_uint(&w, body->refused.items[i].count);
    }
    parcel_set_body(parcel, head, NULL, 0);
}

int resumed_unpack(struct parcel *parcel, struct resumed_body *ret_body)
{
    struct pack_reader r;
    struct slice raw;
    int error = open_body(parcel, &r, &raw);
    if (error != 0) {
        return error;
    }
    struct resumed_body body = {0};
    body.client = pack_get_uint(&r, UINT64_MAX);
    body.session = (uint32_t)pack_get_uint(&r, UINT32_MAX);
    body.applied = pack_get_uint(&r, UINT64_MAX);
    body.received = pack_get_uint(&r, UINT64_MAX);
    uint32_t count = pack_get_array(&r, QUEUE_NACKED_KEPT);
    for (uint32_t i = 0; i < count && !pack_failed(&r); i++) {
        struct seq_run run;
        run.first = pack_get_uint(&r, UINT64_MAX / 2);
        run.count = pack_get_uint(&r, UINT64_MAX / 2);
        vec_push(&body.refused, run);
    }
    if (!pack_done(&r)) {
        vec_deinit(&body.refused);
        return WR_E_CORRUPT;
    }
    *ret_body = body;
    return 0;
}

/* --- small kinds ----------------------------------------------------------------------------- */

void numbers_pack(struct parcel *parcel, const uint64_t *numbers, uint32_t count,
                  struct slice owned_raw)
{
    struct buf *head;
    struct pack_writer w = begin(&head);
    pack_put_array(&w, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_put_uint(&w, numbers[i]);
    }
    parcel_set_body(parcel, head, &owned_raw, owned_raw.buf == NULL ? 0 : 1);
}

int numbers_unpack_some(struct parcel *parcel, uint64_t *numbers, uint32_t least, uint32_t most,
                        struct slice *ret_raw)
{
    struct pack_reader r;
    int error = open_body(parcel, &r, ret_raw);
    if (error != 0) {
        return error;
    }
    const uint32_t count = pack_get_array(&r, most);
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = pack_get_uint(&r, UINT64_MAX);
    }
    return pack_done(&r) && count >= least ? 0 : WR_E_CORRUPT;
}

int numbers_unpack(struct parcel *parcel, uint64_t *numbers, uint32_t count, struct slice *ret_raw)
{
    return numbers_unpack_some(parcel, numbers, count, count, ret_raw);
}
