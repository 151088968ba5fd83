/* What: a message, its death in queue q, and the dead letter that comes of it, as text. */
#ifndef WR_TEST_BROKER_LETTER_H
#define WR_TEST_BROKER_LETTER_H

#include "dead.h"
#include "rig.h"

static const struct dead_letter expired_in_q = {
    .queue = {(const uint8_t *)"q", 1},
    .reason = QUEUE_DIED_EXPIRED,
    .time_s = 100,
    .exchange = {(const uint8_t *)"dlx", 3},
};

static inline const char *describe(const struct message *m)
{
    static char text[4096];
    struct wire_props props;
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    cr_assert_eq(wire_props_decode(message_props(m), &props), WIRE_OK);
    strbuf_printf(&s, "%.*s/%.*s '%.*s'", FMT(message_exchange(m)), FMT(message_key(m)),
                  FMT(message_body(m)));
    wire_describe_props(&s, &props);
    return text;
}

static inline struct message with_props(const struct wire_props *props)
{
    struct writer w;
    writer_init(&w, 256);
    wire_props_put(&w, props);
    struct message m = rig_message("x", "k", writer_bytes(&w), "body");
    writer_deinit(&w);
    return m;
}

static inline struct message die(struct message owned, const struct dead_letter *death)
{
    struct message letter = dead_letter_make(&owned, death);
    cr_assert_eq(message_check(bytes_from_slice(&letter.record)), 0);
    message_unref(owned);
    return letter;
}

#endif
