/* Routing and publishing. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void bind_good(struct test *t, struct conn *c, const char *queue, const char *exchange,
                      const char *key)
{
    bind_queue(c, queue, exchange, key);
    good(t, c, "bind");
}

static void route_default(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *one = new_queue(t, c);
    const char *other = new_queue(t, c);
    confirmed(t, c, "", one, "1");
    arrived(t, c, one, "1", "bodies");
    arrived(t, c, other, "", "bodies of the other");
}

static void route_direct(struct test *t)
{
    static const char *const bound[] = {"a", "a", "b"};
    static const char *const keys[] = {"a", "b", "c", "A"};
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "direct");
    const char *queues[3];
    for (int i = 0; i < 3; i++) {
        queues[i] = new_queue(t, c);
        bind_good(t, c, queues[i], exchange, bound[i]);
    }
    for (int i = 0; i < 4; i++) {
        confirmed(t, c, exchange, keys[i], keys[i]);
    }
    for (int i = 0; i < 3; i++) {
        arrived(t, c, queues[i], bound[i], "bodies");
    }
}

static void route_fanout(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "fanout");
    const char *queues[3];
    for (int i = 0; i < 3; i++) {
        queues[i] = new_queue(t, c);
        bind_good(t, c, queues[i], exchange, "ignored");
    }
    confirmed(t, c, exchange, "any", "1");
    confirmed(t, c, exchange, "", "2");
    for (int i = 0; i < 3; i++) {
        arrived(t, c, queues[i], "1,2", "bodies");
    }
}

static void route_topic(struct test *t)
{
    /* '-' stands for the empty key, which has no words at all */
    static const char *const keys[] = {"",    "a",       "a.b",   "a.b.c", "a..b",
                                       "b.a", "a.b.a.b", "x.y.z", "."};
    static const struct {
        const char *pattern;
        const char *wanted;
    } table[] = {
        {"#", "-,a,a.b,a.b.c,a..b,b.a,a.b.a.b,x.y.z,."},
        {"*", "a"},
        {"a", "a"},
        {"a.*", "a.b"},
        {"a.#", "a,a.b,a.b.c,a..b,a.b.a.b"},
        {"#.b", "a.b,a..b,a.b.a.b"},
        {"*.b", "a.b"},
        {"*.*", "a.b,b.a,."},
        {"a.*.b", "a..b"},
        {"#.a.#", "a,a.b,a.b.c,a..b,b.a,a.b.a.b"},
        {"*.#.*", "a.b,a.b.c,a..b,b.a,a.b.a.b,x.y.z,."},
        {"", "-"},
    };
    enum { ROWS = sizeof table / sizeof table[0] };
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "topic");
    const char *queues[ROWS];
    for (int i = 0; i < ROWS; i++) {
        queues[i] = new_queue(t, c);
        bind_good(t, c, queues[i], exchange, table[i].pattern);
    }
    for (int i = 0; i < 9; i++) {
        confirmed(t, c, exchange, keys[i], keys[i][0] == 0 ? "-" : keys[i]);
    }
    for (int i = 0; i < ROWS; i++) {
        arrived(t, c, queues[i], table[i].wanted, format("pattern '%s'", table[i].pattern));
    }
}

struct header_case {
    const char *name;
    amqp_table_entry_t entries[3];
    int number;
};

static void headers_match(struct test *t, const char *match, const char *wanted)
{
    struct header_case cases[] = {
        {"both", {arg_int("a", 1), arg_text("b", "x")}, 2},
        {"one", {arg_i32("a", 1)}, 1},
        {"other", {arg_text("b", "x")}, 1},
        {"wrong", {arg_int("a", 2), arg_text("b", "y")}, 2},
        {"mixed", {arg_int("a", 1), arg_text("b", "y")}, 2},
        {"more", {arg_int("a", 1), arg_text("b", "x"), arg_bool("c", true)}, 3},
        {"none", {NO_ARG}, 0},
        {"type", {arg_text("a", "1"), arg_text("b", "x")}, 2},
    };
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "headers");
    const char *queue = new_queue(t, c);
    amqp_table_entry_t args[] = {arg_text("x-match", match), arg_i32("a", 1), arg_text("b", "x")};
    (void)amqp_queue_bind(c->state, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                          amqp_empty_bytes, (amqp_table_t){3, args});
    good(t, c, "bind");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG,
                                     .headers = {cases[i].number, cases[i].entries}};
        expect(t, accepted(t, c, exchange, "", cases[i].name, &p), "nacked");
    }
    arrived(t, c, queue, wanted, "bodies");
}

static void route_headers_all(struct test *t)
{
    headers_match(t, "all", "both,more");
}

static void route_headers_any(struct test *t)
{
    headers_match(t, "any", "both,one,other,mixed,more,type");
}

static void route_e2e(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *source = new_exchange(t, c, "topic");
    const char *target = new_exchange(t, c, "fanout");
    const char *queue = new_queue(t, c);
    amqp_bytes_t from = amqp_cstring_bytes(source);
    amqp_bytes_t to = amqp_cstring_bytes(target);
    bind_good(t, c, queue, target, "");
    (void)amqp_exchange_bind(c->state, 1, to, from, amqp_cstring_bytes("a.*"), amqp_empty_table);
    good(t, c, "exchange.bind");
    confirmed(t, c, source, "a.b", "1");
    confirmed(t, c, source, "b.b", "2");
    (void)amqp_exchange_unbind(c->state, 1, to, from, amqp_cstring_bytes("a.*"), amqp_empty_table);
    good(t, c, "exchange.unbind");
    confirmed(t, c, source, "a.b", "3");
    arrived(t, c, queue, "1", "bodies");
}

static void route_one_copy(struct test *t)
{
    static const char *const keys[] = {"a.*", "*.b", "#", "a.b"};
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "topic");
    const char *queue = new_queue(t, c);
    for (int i = 0; i < 4; i++) {
        bind_good(t, c, queue, exchange, keys[i]);
    }
    confirmed(t, c, exchange, "a.b", "1");
    arrived(t, c, queue, "1", "bodies");
}

static amqp_field_value_t text_value(const char *text)
{
    return (amqp_field_value_t){.kind = AMQP_FIELD_KIND_UTF8,
                                .value.bytes = amqp_cstring_bytes(text)};
}

static amqp_table_entry_t array_entry(const char *key, amqp_field_value_t *values, int number)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {number, values}}};
}

static void route_cc(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queues[3] = {new_queue(t, c), new_queue(t, c), new_queue(t, c)};
    amqp_field_value_t cc[] = {text_value(queues[1]), text_value(queues[0])};
    amqp_field_value_t bcc[] = {text_value(queues[2])};
    amqp_table_entry_t entries[] = {array_entry("CC", cc, 2), array_entry("BCC", bcc, 1)};
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {2, entries}};
    expect(t, accepted(t, c, "", queues[0], "1", &p), "nacked");
    for (int i = 0; i < 3; i++) {
        struct got got;
        get(t, c, queues[i], &got);
        const amqp_table_t *headers = &got.message->properties.headers;
        const amqp_field_value_t *seen = header(headers, "CC");
        expect(t,
               seen != NULL && seen->kind == AMQP_FIELD_KIND_ARRAY &&
                   seen->value.array.num_entries == 2,
               "CC");
        expect(t, header(headers, "BCC") == NULL, "BCC is seen");
        empty(t, c, queues[i]);
    }
}

static void confirm_single(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queue = new_queue(t, c);
    for (int i = 0; i < 5; i++) {
        amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                     .delivery_mode = (uint8_t)(1 + i % 2)};
        expect(t, accepted(t, c, "", queue, format("%d", i), &p), "nacked");
    }
    arrived(t, c, queue, "0,1,2,3,4", "bodies");
}

static void confirm_batch(struct test *t)
{
    enum { NUMBER = 10000 };
    static bool seen[NUMBER + 1];
    struct conn *c = connect_confirm(t);
    const char *queue = new_queue(t, c);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < NUMBER; i++) {
        publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    }
    uint64_t lowest = 1;
    for (int confirms = 0; confirms < NUMBER;) {
        struct event event;
        event_next(t, c, DEADLINE_MS, &event);
        expect(t, event.kind == ACK && event.tag >= 1 && event.tag <= NUMBER,
               format("%d confirms, then event %d", confirms, (int)event.kind));
        for (uint64_t tag = event.multiple ? lowest : event.tag; tag <= event.tag; tag++) {
            confirms += seen[tag] ? 0 : 1;
            seen[tag] = true;
        }
        lowest = event.multiple ? event.tag + 1 : lowest;
    }
    wait_count(t, c, queue, NUMBER);
}

static void confirm_unroutable(struct test *t)
{
    struct conn *c = connect_confirm(t);
    confirmed(t, c, new_exchange(t, c, "direct"), "nowhere", "x");
}

static void publish_mandatory(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *exchange = new_exchange(t, c, "direct");
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                 .message_id = amqp_cstring_bytes("m")};
    publish_with(t, c, exchange, "nowhere", true, &p, amqp_cstring_bytes("body"));
    struct event event;
    event_next(t, c, DEADLINE_MS, &event);
    equal_int(t, event.kind, RETURNED, "first event");
    equal_int(t, event.code, 312, "code");
    equal_text(t, event.text, "NO_ROUTE", "text");
    equal_text(t, event.exchange, exchange, "exchange");
    equal_text(t, event.key, "nowhere", "key");
    equal_text(t, bytes_text(event.message->properties.message_id), "m", "message-id");
    equal_text(t, body_of(event.message), "body", "body");
    event_next(t, c, DEADLINE_MS, &event);
    equal_int(t, event.kind, ACK, "second event");
}

static void publish_mandatory_routed(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queue = new_queue(t, c);
    publish_with(t, c, "", queue, true, NULL, amqp_cstring_bytes("x"));
    struct event event;
    event_next(t, c, DEADLINE_MS, &event);
    equal_int(t, event.kind, ACK, "first event");
    arrived(t, c, queue, "x", "bodies");
}

static void publish_user_id(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queue = new_queue(t, c);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_USER_ID_FLAG,
                                 .user_id = amqp_cstring_bytes("guest")};
    expect(t, accepted(t, c, "", queue, "x", &p), "nacked");
    p.user_id = amqp_cstring_bytes("other");
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    closes(t, c, 406,
           "PRECONDITION_FAILED - user_id property set to 'other' but authenticated "
           "user was 'guest'");
}

static void publish_bad_expiration(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_EXPIRATION_FLAG,
                                 .expiration = amqp_cstring_bytes("12x")};
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    closes(t, c, 406, "PRECONDITION_FAILED - invalid expiration '12x'...");
}

static void publish_empty(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    amqp_table_entry_t entries[] = {arg_int("a", 1)};
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG,
                                 .message_id = amqp_cstring_bytes("m"),
                                 .headers = {1, entries}};
    publish_with(t, c, "", queue, false, &p, amqp_empty_bytes);
    struct got got;
    get(t, c, queue, &got);
    equal_int(t, (int64_t)got.message->body.len, 0, "length");
    equal_text(t, bytes_text(got.message->properties.message_id), "m", "message-id");
    const amqp_field_value_t *a = header(&got.message->properties.headers, "a");
    expect(t, a != NULL && a->value.i64 == 1, "header");
}

static void publish_bodies(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    size_t limit = (size_t)amqp_get_frame_max(c->state);
    char *body = calloc(3, limit);
    expect(t, body != NULL, "memory");
    for (size_t i = 0; i < 3 * limit; i++) {
        body[i] = (char)(i * 7919 >> 3);
    }
    size_t sizes[14] = {1, 2, 3 * limit};
    for (size_t i = 0; i < 11; i++) {
        sizes[3 + i] = limit - 9 + i;
    }
    for (int i = 0; i < 14; i++) {
        publish_with(t, c, "", queue, false, NULL, (amqp_bytes_t){sizes[i], body});
        struct got got;
        get(t, c, queue, &got);
        expect(t,
               got.message->body.len == sizes[i] &&
                   memcmp(got.message->body.bytes, body, sizes[i]) == 0,
               format("body of %zu bytes", sizes[i]));
    }
    free(body);
}

static void publish_properties(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    amqp_table_entry_t entries[] = {arg_text("k", "v")};
    amqp_basic_properties_t p = {
        ._flags = 0xFFF8, /* all but cluster-id */
        .content_type = amqp_cstring_bytes("text/plain"),
        .content_encoding = amqp_cstring_bytes("utf-8"),
        .headers = {1, entries},
        .delivery_mode = 2,
        .priority = 3,
        .correlation_id = amqp_cstring_bytes("c-1"),
        .reply_to = amqp_cstring_bytes("r"),
        .expiration = amqp_cstring_bytes("60000"),
        .message_id = amqp_cstring_bytes("m-1"),
        .timestamp = 1700000000,
        .type = amqp_cstring_bytes("t"),
        .user_id = amqp_cstring_bytes("guest"),
        .app_id = amqp_cstring_bytes("app"),
    };
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    struct got got;
    get(t, c, queue, &got);
    const amqp_basic_properties_t *q = &got.message->properties;
    equal_int(t, q->_flags, p._flags, "flags");
    equal_text(t, bytes_text(q->content_type), "text/plain", "content-type");
    equal_text(t, bytes_text(q->content_encoding), "utf-8", "content-encoding");
    equal_text(t, header_text(&q->headers, "k"), "v", "header");
    equal_int(t, q->delivery_mode * 10 + q->priority, 23, "delivery-mode and priority");
    equal_text(t, bytes_text(q->correlation_id), "c-1", "correlation-id");
    equal_text(t, bytes_text(q->reply_to), "r", "reply-to");
    equal_text(t, bytes_text(q->expiration), "60000", "expiration");
    equal_text(t, bytes_text(q->message_id), "m-1", "message-id");
    equal_int(t, (int64_t)q->timestamp, 1700000000, "timestamp");
    equal_text(t, bytes_text(q->type), "t", "type");
    equal_text(t, bytes_text(q->user_id), "guest", "user-id");
    equal_text(t, bytes_text(q->app_id), "app", "app-id");
}

/* The table has this very entry, type and value. */
static void same_entry(struct test *t, const amqp_table_t *table, amqp_table_entry_t *entry)
{
    const char *key = bytes_text(entry->key);
    const amqp_field_value_t *back = header(table, key);
    expect(t, back != NULL, format("no header %s", key));
    equal_int(t, back->kind, entry->value.kind, format("kind of header %s", key));
    unsigned char want[256];
    unsigned char have[256];
    size_t want_size = 0;
    size_t have_size = 0;
    amqp_table_t one = {1, entry};
    amqp_table_entry_t again = {entry->key, *back};
    amqp_table_t other = {1, &again};
    (void)amqp_encode_table((amqp_bytes_t){sizeof want, want}, &one, &want_size);
    (void)amqp_encode_table((amqp_bytes_t){sizeof have, have}, &other, &have_size);
    expect(t, want_size == have_size && memcmp(want, have, want_size) == 0,
           format("value of header %s", key));
}

static void publish_headers(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    amqp_table_entry_t inner[] = {arg_text("two", "2")};
    amqp_field_value_t items[] = {text_value("x"),
                                  {.kind = AMQP_FIELD_KIND_I32, .value.i32 = -1},
                                  {.kind = AMQP_FIELD_KIND_F64, .value.f64 = 2.5},
                                  {.kind = AMQP_FIELD_KIND_VOID}};
    char byte_array[] = {0, (char)0xFF};
    const amqp_field_value_t values[] = {
        {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1},
        {.kind = AMQP_FIELD_KIND_I8, .value.i8 = -3},
        {.kind = AMQP_FIELD_KIND_U8, .value.u8 = 200},
        {.kind = AMQP_FIELD_KIND_I16, .value.i16 = -300},
        {.kind = AMQP_FIELD_KIND_U16, .value.u16 = 60000},
        {.kind = AMQP_FIELD_KIND_I32, .value.i32 = -5},
        {.kind = AMQP_FIELD_KIND_U32, .value.u32 = 4000000000U},
        {.kind = AMQP_FIELD_KIND_I64, .value.i64 = -(1LL << 62)},
        {.kind = AMQP_FIELD_KIND_F32, .value.f32 = 1.5F},
        {.kind = AMQP_FIELD_KIND_F64, .value.f64 = 2.25},
        {.kind = AMQP_FIELD_KIND_DECIMAL, .value.decimal = {2, 314}},
        {.kind = AMQP_FIELD_KIND_TIMESTAMP, .value.u64 = 1700000000},
        {.kind = AMQP_FIELD_KIND_VOID},
        {.kind = AMQP_FIELD_KIND_BYTES, .value.bytes = {2, byte_array}},
        {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {1, inner}},
        {.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {4, items}},
        text_value("h\xc3\xa9llo"),
    };
    enum { NUMBER = sizeof values / sizeof values[0] };
    amqp_table_entry_t entries[NUMBER];
    for (int i = 0; i < NUMBER; i++) {
        entries[i] = (amqp_table_entry_t){amqp_cstring_bytes(format("k%02d", i)), values[i]};
        entries[i].key = amqp_bytes_malloc_dup(entries[i].key);
    }
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = {NUMBER, entries}};
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    struct got got;
    get(t, c, queue, &got);
    for (int i = 0; i < NUMBER; i++) {
        same_entry(t, &got.message->properties.headers, &entries[i]);
        amqp_bytes_free(entries[i].key);
    }
}

static void publish_order(struct test *t)
{
    struct conn *c = connect_new(t);
    struct conn *other = connect_new(t);
    const char *queue = new_queue(t, c);
    consume(t, other, queue, "", NO_ACK, NO_ARG);
    for (int i = 0; i < 5000; i++) {
        publish(t, c, "", queue, format("%d", i));
    }
    deliveries(t, other, 5000);
}

const struct check message_checks[] = {
    {"route.default", route_default},
    {"route.direct", route_direct},
    {"route.fanout", route_fanout},
    {"route.topic", route_topic},
    {"route.headers-all", route_headers_all},
    {"route.headers-any", route_headers_any},
    {"route.e2e", route_e2e},
    {"route.one-copy", route_one_copy},
    {"route.cc-bcc", route_cc},
    {"publish.confirm-single", confirm_single},
    {"publish.confirm-batch", confirm_batch},
    {"publish.confirm-unroutable", confirm_unroutable},
    {"publish.mandatory", publish_mandatory},
    {"publish.mandatory-routed", publish_mandatory_routed},
    {"publish.user-id", publish_user_id},
    {"publish.bad-expiration", publish_bad_expiration},
    {"publish.empty-body", publish_empty},
    {"publish.bodies", publish_bodies},
    {"publish.properties", publish_properties},
    {"publish.headers", publish_headers},
    {"publish.order", publish_order},
    {NULL, NULL},
};
