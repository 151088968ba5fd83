/* Message records: what is written is read back, and no damaged record passes the check. */
#include <criterion/criterion.h>

#include "warren/err.h"
#include "warren/message.h"
#include "warren/prng.h"

static struct message build(const struct message_parts *parts, struct bytes body)
{
    struct buf *b = buf_new((size_t)message_record_size(parts, body.size));
    b->size = b->capacity;
    uint8_t *at = message_write(b->data, parts, (uint32_t)body.size);
    if (body.size > 0) {
        memcpy(at, body.data, body.size);
    }
    return (struct message){slice_of_buf(b)};
}

static const struct message_parts sample = {
    .exchange = BYTES_INIT("amq.topic"),
    .key = BYTES_INIT("a.b"),
    .props = BYTES_INIT("\x00\x00"),
    .ttl_ms = 5000,
    .flags = MESSAGE_PERSISTENT,
    .priority = 7,
};

Test(message, getters_give_back_what_was_written)
{
    struct message m = build(&sample, BYTES_LITERAL("body bytes"));
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), 0);
    cr_assert(bytes_eq_cstr(message_exchange(&m), "amq.topic"));
    cr_assert(bytes_eq_cstr(message_key(&m), "a.b"));
    cr_assert(bytes_eq(message_props(&m), sample.props));
    cr_assert(bytes_eq_cstr(message_body(&m), "body bytes"));
    cr_assert_eq(message_body_size(&m), 10);
    cr_assert_eq(message_flags(&m), MESSAGE_PERSISTENT);
    cr_assert_eq(message_priority(&m), 7);
    cr_assert_eq(message_ttl_ms(&m), 5000);
    message_ref(m);
    message_unref(m);
    message_unref(m);
}

static const struct message_parts with_keys = {
    .exchange = BYTES_INIT("x"),
    .props = BYTES_INIT("\x00\x00"),
    .bcc = BYTES_INIT("\x02"
                      "k1"
                      "\x00"
                      "\x01"
                      "b"),
    .ttl_ms = MESSAGE_TTL_NONE,
    .flags = MESSAGE_DEATHS,
};

Test(message, keys_of_bcc_are_behind_the_body)
{
    struct message m = build(&with_keys, BYTES_LITERAL("body"));
    const uint32_t size = m.record.size;
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), 0);
    cr_assert(bytes_eq_cstr(message_body(&m), "body"));
    cr_assert(bytes_eq(message_bcc(&m), with_keys.bcc));
    cr_assert_eq(message_flags(&m), MESSAGE_DEATHS | MESSAGE_BCC);
    uint8_t *data = m.record.buf->data;
    data[size - 2] = 2; /* the last key's size */
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), WR_E_CORRUPT);
    data[size - 2] = 0; /* one more, of size 'b' */
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), WR_E_CORRUPT);
    data[size - 2] = 1;
    data[14] = MESSAGE_DEATHS;
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), WR_E_CORRUPT);
    message_unref(m);
    m = build(&sample, BYTES_LITERAL("body"));
    cr_assert_eq(message_bcc(&m).size, 0);
    m.record.buf->data[14] |= MESSAGE_BCC; /* with nothing there */
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), WR_E_CORRUPT);
    message_unref(m);
}

Test(message, empty_parts_are_allowed)
{
    const struct message_parts none = {.ttl_ms = MESSAGE_TTL_NONE};
    struct message m = build(&none, BYTES_NONE);
    cr_assert_eq(m.record.size, MESSAGE_HEADER_SIZE);
    cr_assert_eq(message_check(bytes_from_slice(&m.record)), 0);
    cr_assert_eq(message_body(&m).size, 0);
    cr_assert_eq(message_ttl_ms(&m), MESSAGE_TTL_NONE);
    message_unref(m);
}

Test(message, every_other_size_is_corrupt)
{
    struct message m = build(&sample, BYTES_LITERAL("body"));
    const uint32_t size = m.record.size;
    uint8_t *copy = wr_calloc(1, size + 8);
    memcpy(copy, slice_data(&m.record), size);
    for (size_t cut = 0; cut < size + 8; cut++) {
        const int expected = cut == size ? 0 : WR_E_CORRUPT;
        cr_assert_eq(message_check(bytes_make(copy, cut)), expected);
    }
    wr_free(copy);
    message_unref(m);
}

/* Whatever passes the check has all its getters inside the record (ASan watches). */
static void damage(const struct message_parts *parts)
{
    struct prng p;
    prng_init(&p, 10);
    struct message m = build(parts, BYTES_LITERAL("body"));
    const uint32_t size = m.record.size;
    for (int i = 0; i < 20000; i++) {
        struct message damaged = {slice_copy(slice_data(&m.record), size)};
        uint8_t *at = damaged.record.buf->data;
        for (int n = 0; n < 2; n++) {
            at[prng_below(&p, MESSAGE_HEADER_SIZE)] = (uint8_t)prng_below(&p, 40);
        }
        if (message_check(bytes_from_slice(&damaged.record)) == 0) {
            const struct bytes body = message_body(&damaged);
            const struct bytes bcc = message_bcc(&damaged);
            cr_assert(body.data + body.size + bcc.size == at + size);
        }
        message_unref(damaged);
    }
    message_unref(m);
}

Test(message, damaged_headers_never_read_outside)
{
    damage(&sample);
    damage(&with_keys);
}
