/*
 * libFuzzer target: bodies of parcels from a peer that is broken. The first octet says which kind;
 * the rest is refused, or gives a body whose every reference lies inside.
 */
#include "fuzz.h"

#include "parcel.h"

static void check_ops(struct parcel *parcel)
{
    struct ops_bundle *bundle;
    struct slice raw;
    if (ops_unpack(parcel, &bundle, &raw) != 0) {
        return;
    }
    for (size_t i = 0; i < bundle->sections.count; i++) {
        const struct ops_section *s = &bundle->sections.items[i];
        struct queue_batch_reader reader;
        struct queue_batch batch;
        WR_ASSERT(s->client != 0 && s->begin <= s->end && s->end <= raw.size);
        queue_batch_reader_init(&reader, raw.buf, raw.offset + s->begin, raw.offset + s->end);
        while (queue_batch_reader_next(&reader, &batch) == 1) {
            WR_ASSERT(batch.count > 0);
        }
        queue_batch_reader_deinit(&reader);
    }
    ops_bundle_free(bundle);
}

static void check_effects(struct parcel *parcel)
{
    struct effect_bundle *bundle;
    uint32_t by_position = 0;
    uint64_t messages = 0;
    if (effects_unpack(parcel, &bundle) != 0) {
        return;
    }
    for (size_t i = 0; i < bundle->items.count; i++) {
        const struct effect_item *item = &bundle->items.items[i];
        bool deliver = item->effect.kind == QUEUE_EFFECT_DELIVER;
        WR_ASSERT(!deliver || item->effect.count > 0);
        WR_ASSERT(item->message_count == 0 || item->message_count == item->effect.count);
        by_position += deliver && item->message_count == 0; /* what src/replica/relay.c looks for */
        messages += item->message_count;
    }
    WR_ASSERT(by_position == bundle->by_position && messages == bundle->messages.count);
    effect_bundle_free(bundle);
}

static void check_raft(struct parcel *parcel)
{
    struct raft_message message;
    struct raft_entry *entries;
    struct raft_member members[RAFT_MEMBERS_MAX];
    uint64_t sum = 0;
    if (raft_message_unpack(parcel, &message, &entries, members) == 0 &&
        message.type == RAFT_MSG_APPEND) {
        for (uint32_t i = 0; i < message.u.append.entry_count; i++) {
            const struct raft_entry *e = &message.u.append.entries[i];
            for (uint32_t k = 0; k < e->size; k++) {
                sum += e->data[k];
            }
        }
    }
    WR_ASSERT(sum < UINT64_MAX); /* all of it was read */
    wr_free(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t numbers[13];
    struct resume_body resume;
    struct resumed_body resumed;
    struct slice raw;
    if (size == 0 || size > UINT32_MAX) {
        return 0;
    }
    struct parcel *parcel = parcel_new();
    struct buf *body = buf_from(data + 1, size - 1);
    struct slice whole = slice_of_buf(body);
    /* As the link hands it on: one slice; or as another shard does: several. */
    uint32_t cut = data[0] >= 128 ? whole.size / 2 : 0;
    parcel->slices = wr_calloc(2, sizeof *parcel->slices);
    parcel->slices[0] = slice_sub(&whole, cut, whole.size - cut);
    parcel->slice_count = 1;
    if (cut > 0) {
        parcel->slices[1] = parcel->slices[0];
        parcel->slices[0] = slice_sub(&whole, 0, cut);
        (void)slice_ref(&parcel->slices[0]);
        parcel->slice_count = 2;
    }
    switch (data[0] % 5) {
    case 0:
        check_ops(parcel);
        break;
    case 1:
        check_effects(parcel);
        break;
    case 2:
        if (resume_unpack(parcel, &resume) == 0) {
            vec_deinit(&resume.consumers);
        }
        if (resumed_unpack(parcel, &resumed) == 0) {
            WR_ASSERT(resumed.refused.count <= QUEUE_NACKED_KEPT);
            vec_deinit(&resumed.refused);
        }
        break;
    case 3:
        check_raft(parcel);
        break;
    default:
        (void)numbers_unpack(parcel, numbers, data[0] % 13 + 1, &raw);
        break;
    }
    parcel_free(parcel);
    return 0;
}
