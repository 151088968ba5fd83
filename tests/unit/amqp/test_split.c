/* However the input is cut into pieces, with or without turns in between, the same comes out. */
#include "rig.h"

TestSuite(amqp_split, .init = rig_init, .fini = rig_deinit);

static struct buf *script;

static void add(const void *data, size_t size)
{
    buf_append(&script, data, size);
}

static void add_method(uint16_t channel, const struct wire_method *m)
{
    uint8_t frame[2000];
    cr_assert_leq(wire_method_frame_size(m), sizeof frame);
    add(frame, (size_t)(wire_method_frame_write(frame, channel, m) - frame));
}

static void add_bare(uint16_t channel, enum wire_method_id id)
{
    struct wire_method m = {.id = id};
    add_method(channel, &m);
}

static void add_publish(uint16_t channel, const char *exchange, const char *key, size_t size,
                        bool mandatory)
{
    static uint8_t body[40000], out[50000];
    struct wire_basic_publish p = {
        .exchange = B(exchange), .routing_key = B(key), .mandatory = mandatory};
    for (size_t i = 0; i < size; i++) {
        body[i] = (uint8_t)('a' + i % 26);
    }
    add(out, (size_t)(wire_publish_write(out, channel, &p, bytes_make("\x10\0\2", 3),
                                         bytes_make(body, size), 4096) -
                      out));
}

/* From the protocol header to a channel error and the end of the connection, with all kinds of
 * frames in between. */
static void make_script(void)
{
    struct wire_method m;
    script = buf_new(100000);
    add(wire_protocol_header, WIRE_PROTOCOL_HEADER_SIZE);
    m = rig_start_ok("PLAIN", bytes_make("\0guest\0guest", 12), BYTES_NONE);
    add_method(0, &m);
    m = (struct wire_method){.id = WIRE_CONNECTION_TUNE_OK};
    m.connection_tune_ok.channel_max = 8;
    m.connection_tune_ok.frame_max = 4096;
    add_method(0, &m);
    m = (struct wire_method){.id = WIRE_CONNECTION_OPEN};
    m.connection_open.virtual_host = B("/");
    add_method(0, &m);
    add_bare(1, WIRE_CHANNEL_OPEN);
    add_publish(1, "x", "plain", 5, false);
    add_bare(1, WIRE_CONFIRM_SELECT);
    m = (struct wire_method){.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B("q");
    add_method(1, &m);
    add_publish(1, "x", "empty", 0, false);
    add_publish(1, "x", "nowhere", 3, true);
    add_publish(1, "x", "large", 30000, false);
    add("\x08\0\0\0\0\0\0\xce", 8);
    m = (struct wire_method){.id = WIRE_BASIC_GET};
    m.basic_get.queue = B("q");
    add_method(1, &m);
    m = (struct wire_method){.id = WIRE_BASIC_CONSUME};
    m.basic_consume.queue = B("q");
    m.basic_consume.consumer_tag = B("t");
    m.basic_consume.no_wait = true;
    add_method(1, &m);
    add_publish(1, "x", "k", 100, false);
    m = (struct wire_method){.id = WIRE_BASIC_RECOVER};
    m.basic_recover.requeue = true;
    add_method(1, &m);
    add_bare(1, WIRE_CHANNEL_CLOSE);
    add_bare(1, WIRE_CHANNEL_OPEN);
    add_publish(1, "x", "again", 10, false);
    add_publish(1, "missing", "k", 10, false);
    add_publish(1, "x", "dropped", 10, false);
    add_bare(0, WIRE_CONNECTION_CLOSE);
}

static struct {
    char out[sizeof rig.out_text], calls[sizeof rig.calls_text];
} expected;

/* Feeds the script in pieces of up to `most` bytes, with a turn after each piece if asked for. */
static void run(uint64_t seed, size_t most, bool turns)
{
    struct prng prng;
    prng_init(&prng, seed);
    rig_connect("127.0.0.1");
    for (size_t at = 0; at < script->size;) {
        size_t size = most == 0 ? script->size : 1 + prng_below(&prng, most);
        size = size < script->size - at ? size : script->size - at;
        rig_feed(script->data + at, size);
        at += size;
        if (turns) {
            rig_turn();
        }
    }
}

static void again(void)
{
    rig_deinit();
    rig_init();
}

Test(amqp_split, property_any_cut_gives_the_same)
{
    make_script();
    run(0, 0, false);
    memcpy(expected.out, rig_out(), sizeof expected.out);
    memcpy(expected.calls, rig_calls(), sizeof expected.calls);
    cr_assert_not_null(strstr(expected.out, "0 connection.close-ok\n"));
    cr_assert_not_null(strstr(expected.out, "1 basic.return "));
    cr_assert_not_null(strstr(expected.calls, "body=30000"));
    cr_assert_not_null(strstr(expected.calls, "again"));
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static const size_t most[] = {1, 2, 7, 50, 500, 5000};
        again();
        run(seed, most[seed % WR_ARRAY_SIZE(most)], false);
        cr_assert_str_eq(rig_out(), expected.out, "seed %llu", (unsigned long long)seed);
        cr_assert_str_eq(rig_calls(), expected.calls, "seed %llu", (unsigned long long)seed);
    }
    buf_unref(script);
}

/* Confirms are gathered per turn: where the ack stands depends on the turns, by design. */
static const char *out_without_acks(void)
{
    static char text[sizeof rig.out_text];
    memcpy(text, rig_out(), sizeof text);
    char *ack = strstr(text, "1 basic.ack");
    cr_assert_not_null(ack);
    char *end = strchr(ack, '\n') + 1;
    memmove(ack, end, strlen(end) + 1);
    return text;
}

Test(amqp_split, property_turns_in_between_change_nothing_but_when)
{
    make_script();
    run(0, 0, true);
    memcpy(expected.out, out_without_acks(), sizeof expected.out);
    memcpy(expected.calls, rig_calls(), sizeof expected.calls);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        static const size_t most[] = {3, 50, 500, 5000};
        again();
        run(seed, most[seed % WR_ARRAY_SIZE(most)], true);
        cr_assert_str_eq(rig_calls(), expected.calls, "seed %llu", (unsigned long long)seed);
        cr_assert_str_eq(out_without_acks(), expected.out, "seed %llu", (unsigned long long)seed);
    }
    buf_unref(script);
}

/* Random bytes behind an open connection: whatever they are, it ends or it goes on, and nothing is
 * left behind. */
Test(amqp_split, property_noise_does_no_harm)
{
    make_script();
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct prng prng;
        again();
        prng_init(&prng, seed);
        struct buf *good = script;
        script = buf_from(good->data, good->size);
        for (uint64_t k = 1 + prng_below(&prng, 6); k > 0; k--) { /* behind the handshake, mostly */
            script->data[prng_below(&prng, 100) == 0 ? prng_below(&prng, good->size)
                                                     : 100 + prng_below(&prng, 500)] =
                (uint8_t)prng_u64(&prng);
        }
        run(seed, 1000, seed % 2 == 0);
        rig_turn();
        if (!rig.conn.reported) {
            rig_hang_up();
        }
        rig_pass(20000);
        cr_assert_eq(amqp_connections(rig.server), 0);
        for (size_t i = 0; i < WR_ARRAY_SIZE(rig.channels); i++) {
            cr_assert_not(rig.channels[i].used);
        }
        buf_unref(script);
        script = good;
    }
    buf_unref(script);
}
