/* From the first byte to open-ok, and every way not to get there. */
#include "rig.h"

TestSuite(amqp_handshake, .init = rig_init, .fini = rig_deinit);

#define START                                                                                      \
    "0 connection.start version-major=0 version-minor=9 server-properties={capabilities=table "    \
    "{publisher_confirms=bool true, "                                                              \
    "exchange_exchange_bindings=bool true, basic.nack=bool true, consumer_cancel_notify=bool "     \
    "true, connection.blocked=bool true, "                                                         \
    "consumer_priorities=bool true, authentication_failure_close=bool true, "                      \
    "per_consumer_qos=bool true, direct_reply_to=bool true}, "                                     \
    "cluster_name=longstr \"c\", copyright=longstr \"Copyright (c) the Warren authors\", "         \
    "information=longstr \"Warren, a clustered "                                                   \
    "message broker\", platform=longstr \"test\", product=longstr \"Warren\", version=longstr "    \
    "\"4.1.0\", warren_version=longstr "                                                           \
    "\"0.1\", node=longstr \"n\"} mechanisms=\"AMQPLAIN PLAIN\" locales=\"en_US\"\n"
#define TUNE "0 connection.tune channel-max=8 frame-max=131072 heartbeat=60\n"

static void log_in(const char *user, const char *password)
{
    char response[64];
    int n = snprintf(response, sizeof response, "%c%s%c%s", 0, user, 0, password);
    struct wire_method m = rig_start_ok("PLAIN", bytes_make(response, (size_t)n), BYTES_NONE);
    rig_send(0, &m);
}

static void tune_ok(uint16_t channel_max, uint32_t frame_max, uint16_t heartbeat)
{
    struct wire_method m = {.id = WIRE_CONNECTION_TUNE_OK};
    m.connection_tune_ok.channel_max = channel_max;
    m.connection_tune_ok.frame_max = frame_max;
    m.connection_tune_ok.heartbeat = heartbeat;
    rig_send(0, &m);
}

static void open_vhost(const char *vhost)
{
    struct wire_method m = {.id = WIRE_CONNECTION_OPEN};
    m.connection_open.virtual_host = B(vhost);
    rig_send(0, &m);
}

static void start(const char *peer)
{
    rig_connect(peer);
    rig_header();
    (void)rig_out();
}

/* Header to connection.open, whose answer the broker holds back. */
static void wait_for_a_seat(void)
{
    rig.session_waits = true;
    rig_connect("127.0.0.1");
    rig_header();
    log_in("guest", "guest");
    tune_ok(8, 131072, 60);
    (void)rig_out();
    open_vhost("/");
    EXPECT_OUT("");
}

Test(amqp_handshake, waits_with_open_ok_where_a_limit_counts_the_connection)
{
    const struct broker_fault none = {0};
    wait_for_a_seat();
    rig.on_ready(rig.session.ctx, &none);
    EXPECT_OUT("0 connection.open-ok\n");
    rig_channel(1);
}

Test(amqp_handshake, is_refused_when_another_node_was_quicker)
{
    const struct broker_fault fault = {.code = 530, .connection = true, .text = "limit"};
    wait_for_a_seat();
    rig.on_ready(rig.session.ctx, &fault);
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - limit\" class-id=10 "
               "method-id=40\n");
}

Test(amqp_handshake, can_be_closed_by_the_broker_while_it_waits)
{
    wait_for_a_seat();
    rig.session.on_close(rig.session.ctx, "why"); /* its user is deleted */
    EXPECT_OUT(
        "0 connection.close reply-code=320 reply-text=\"CONNECTION_FORCED - why\" class-id=0 "
        "method-id=0\n");
}

Test(amqp_handshake, hears_who_goes_on_without_open_ok_after_it)
{
    const struct broker_fault none = {0};
    struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    wait_for_a_seat();
    rig_send(1, &open);
    rig_send(2, &open);
    EXPECT_OUT("");
    rig.on_ready(rig.session.ctx, &none);
    EXPECT_OUT("0 connection.open-ok\n"
               "1 channel.open-ok\n"
               "2 channel.open-ok\n");
}

Test(amqp_handshake, closes_who_goes_on_and_on_without_open_ok)
{
    struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    wait_for_a_seat();
    for (uint32_t i = 0; i < (128u << 10) / 13 + 1; i++) { /* octets of such a frame */
        rig_send(1, &open);
    }
    EXPECT_OUT("reset\n");
}

Test(amqp_handshake, is_refused_with_what_came_after_it_unheard)
{
    const struct broker_fault fault = {.code = 530, .connection = true, .text = "limit"};
    struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
    wait_for_a_seat();
    rig_send(1, &open);
    rig.on_ready(rig.session.ctx, &fault);
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - limit\" class-id=10 "
               "method-id=40\n");
    rig_send(0, &ok);
    EXPECT_OUT("end\n");
}

Test(amqp_handshake, can_be_closed_by_the_client_while_it_waits)
{
    const struct broker_fault none = {0};
    struct wire_method close = {.id = WIRE_CONNECTION_CLOSE};
    wait_for_a_seat();
    rig_send(0, &close);
    EXPECT_OUT("");
    rig.on_ready(rig.session.ctx, &none);
    EXPECT_OUT("0 connection.open-ok\n"
               "0 connection.close-ok\n");
}

Test(amqp_handshake, can_lose_its_socket_while_it_waits)
{
    wait_for_a_seat();
    rig_hang_up();
    EXPECT_OUT("");
}

Test(amqp_handshake, goes_step_by_step_to_open_ok)
{
    rig_connect("127.0.0.1");
    EXPECT_OUT("");
    rig_header();
    EXPECT_OUT(START);
    log_in("guest", "guest");
    EXPECT_OUT(TUNE);
    EXPECT_CALLS("authenticate guest guest\n");
    tune_ok(8, 131072, 60);
    EXPECT_OUT("");
    open_vhost("/");
    EXPECT_OUT("0 connection.open-ok\n");
    EXPECT_CALLS("session_open guest / name=\n");
    cr_assert_eq(amqp_connections(rig.server), 1);
}

Test(amqp_handshake, the_header_may_come_byte_by_byte)
{
    rig_connect("127.0.0.1");
    for (size_t i = 0; i < WIRE_PROTOCOL_HEADER_SIZE; i++) {
        EXPECT_OUT("");
        rig_feed(wire_protocol_header + i, 1);
    }
    EXPECT_OUT(START);
}

Test(amqp_handshake, other_headers_get_ours_and_the_end)
{
    static const char *const headers[] = {
        "AMQP\0\0\x09\0",         "AMQP\0\1\0\0",         "AMQP\3\1\0\0",  "GET / HT",
        "\x16\x03\x01\0\0\0\0\0", "XXXXXXXXXXXXXXXXXXXX", "AMQQ\0\0\x09\1"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(headers); i++) {
        rig_connect("127.0.0.1");
        rig_feed(headers[i], 8);
        amqp_turn(rig.server);
        cr_assert_eq(rig.conn.out->size, 8, "header %zu", i);
        cr_assert_eq(memcmp(rig.conn.out->data, "AMQP\0\0\x09\1", 8), 0);
        cr_assert(rig.conn.closed && rig.conn.graceful);
        rig_turn();
        cr_assert_eq(amqp_connections(rig.server), 0);
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, old_headers_are_accepted)
{
    rig_connect("127.0.0.1");
    rig_feed("AMQP\1\1\0\x09", 8);
    EXPECT_OUT(START);
}

Test(amqp_handshake, a_probe_without_bytes_just_goes)
{
    rig_connect("127.0.0.1");
    rig_hang_up();
    EXPECT_CALLS("");
    cr_assert_eq(amqp_connections(rig.server), 0);
}

Test(amqp_handshake, silence_ends_the_socket_at_every_stage)
{
    for (int stage = 0; stage < 4; stage++) {
        rig_connect("127.0.0.1");
        if (stage > 0) {
            rig_header();
        }
        if (stage > 1) {
            log_in("guest", "guest");
        }
        if (stage > 2) {
            tune_ok(8, 131072, 0);
        }
        (void)rig_out();
        rig_pass(9999);
        EXPECT_OUT("");
        rig_pass(2);
        EXPECT_OUT("reset\n");
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, an_open_connection_has_no_time_limit)
{
    rig_open();
    rig_pass(100000);
    EXPECT_OUT("");
}

Test(amqp_handshake, wrong_credentials_are_told_after_a_pause_to_clients_that_understand)
{
    struct writer w;
    writer_init(&w, 64);
    uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
    wire_table_put_bool(&w, "authentication_failure_close", true);
    wire_value_put_end(&w, mark);
    start("127.0.0.1");
    struct wire_method m =
        rig_start_ok("PLAIN", bytes_make("\0guest\0wrong", 12), writer_bytes(&w));
    rig_send(0, &m);
    writer_deinit(&w);
    EXPECT_OUT("");
    tune_ok(8, 131072, 0); /* whatever comes meanwhile is not looked at */
    rig_pass(999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("0 connection.close reply-code=403 reply-text=\"ACCESS_REFUSED - Login was refused "
               "using authentication mechanism PLAIN. "
               "For details see the broker logfile.\" class-id=0 method-id=0\nend\n");
}

Test(amqp_handshake, wrong_credentials_end_the_socket_of_others)
{
    start("127.0.0.1");
    log_in("guest", "wrong");
    rig_pass(999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("reset\n");
}

Test(amqp_handshake, the_broker_hears_where_the_peer_is)
{
    static const struct {
        const char *peer;
        bool loopback;
    } rows[] = {{"127.0.0.1", true},        {"127.9.9.9", true}, {"::1", true},
                {"::ffff:127.0.0.1", true}, {"10.0.0.1", false}, {"::2", false},
                {"128.0.0.1", false}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        start(rows[i].peer);
        log_in("guest", "guest");
        EXPECT_CALLS(rows[i].loopback ? "authenticate guest guest\n"
                                      : "authenticate guest guest remote\n");
        rig_hang_up();
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, amqplain_works_too)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "LOGIN", "u");
    wire_table_put_cstr(&w, "PASSWORD", "u");
    start("10.0.0.1");
    struct wire_method m = rig_start_ok("AMQPLAIN", writer_bytes(&w), BYTES_NONE);
    rig_send(0, &m);
    writer_deinit(&w);
    EXPECT_OUT(TUNE);
}

Test(amqp_handshake, malformed_responses_never_reach_the_broker)
{
    static const struct {
        const char *mechanism;
        const char *response;
        size_t size;
    } rows[] = {{"PLAIN", "", 0},
                {"PLAIN", "guest", 5},
                {"PLAIN", "\0guest", 6},
                {"PLAIN", "x\0guest\0guest", 13},
                {"PLAIN", "\0guest\0guest\0", 13},
                {"PLAIN", "\0\0\0\0\0", 5},
                {"AMQPLAIN", "\5LOGINS\0\0\0\1u", 11},
                {"AMQPLAIN", "\5LOGIN", 6},
                {"plain", "\0guest\0guest", 12},
                {"", "\0guest\0guest", 12},
                {"EXTERNAL", "", 0}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        start("127.0.0.1");
        struct wire_method m =
            rig_start_ok(rows[i].mechanism, bytes_make(rows[i].response, rows[i].size), BYTES_NONE);
        rig_send(0, &m);
        rig_pass(1001);
        EXPECT_OUT("reset\n");
        EXPECT_CALLS("");
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

/* --- EXTERNAL --------------------------------------------------------------------------------- */

static struct env_tls peer_called(const char *login)
{
    return (struct env_tls){
        .protocol = "tlsv1.3", .verified = true, .login = slice_copy(login, strlen(login))};
}

static void start_with(uint32_t mechanisms, const struct env_tls *tls)
{
    rig.tls = tls;
    rig.options.mechanisms = mechanisms;
    amqp_server_free(rig.server);
    rig.server = amqp_server_new(&rig.env, NULL, &rig.options);
    rig_connect("127.0.0.1");
    rig_header();
}

static void next_connection(void)
{
    wire_frame_reader_deinit(&rig.reader);
    buf_unref(rig.conn.out);
    rig.conn.out = NULL;
}

static void expect_offer(const char *list)
{
    char expected[100];
    (void)snprintf(expected, sizeof expected, " mechanisms=\"%s\" ", list);
    cr_assert_not_null(strstr(rig_out(), expected), "%s", list);
}

#define ALL (AMQP_MECHANISM_PLAIN | AMQP_MECHANISM_AMQPLAIN | AMQP_MECHANISM_EXTERNAL)

Test(amqp_handshake, what_is_offered_is_what_is_configured_and_possible)
{
    struct env_tls known = peer_called("CN=guest");
    static const struct env_tls unknown = {.protocol = "tlsv1.3"};
    const struct {
        uint32_t mechanisms;
        const struct env_tls *tls;
        const char *offer;
    } rows[] = {{0, NULL, "AMQPLAIN PLAIN"},
                {0, &known, "AMQPLAIN PLAIN"},
                {ALL, NULL, "AMQPLAIN PLAIN"},
                {ALL, &unknown, "AMQPLAIN PLAIN"},
                {ALL, &known, "AMQPLAIN PLAIN EXTERNAL"},
                {AMQP_MECHANISM_EXTERNAL, &known, "EXTERNAL"},
                {AMQP_MECHANISM_EXTERNAL, &unknown, ""},
                {AMQP_MECHANISM_AMQPLAIN, NULL, "AMQPLAIN"}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        start_with(rows[i].mechanisms, rows[i].tls);
        expect_offer(rows[i].offer);
        next_connection();
    }
    slice_unref(&known.login);
}

static void log_in_external(const char *response)
{
    struct wire_method m = rig_start_ok("EXTERNAL", bytes_from_cstr(response), BYTES_NONE);
    rig_send(0, &m);
}

Test(amqp_handshake, a_certificate_says_who_the_client_is)
{
    struct env_tls known = peer_called("CN=guest");
    start_with(ALL, &known);
    (void)rig_out();
    log_in_external("\xff whatever it says");
    EXPECT_CALLS("authenticate_external CN=guest\n");
    EXPECT_OUT(TUNE);
    tune_ok(8, 131072, 60);
    open_vhost("/");
    EXPECT_CALLS("session_open CN=guest / name=\n");
    EXPECT_OUT("0 connection.open-ok\n");
    slice_unref(&known.login);
}

Test(amqp_handshake, a_certificate_of_nobody_is_refused_and_told)
{
    char long_name[300] = "";
    memset(long_name, 'n', sizeof long_name - 1);
    const char *const names[] = {"CN=nobody", "", long_name};
    for (size_t i = 0; i < WR_ARRAY_SIZE(names); i++) {
        struct env_tls peer = peer_called(names[i]);
        start_with(ALL, &peer);
        (void)rig_out();
        struct wire_method m = rig_start_ok("EXTERNAL", BYTES_NONE, BYTES_NONE);
        struct writer w;
        writer_init(&w, 64);
        uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
        wire_table_put_bool(&w, "authentication_failure_close", true);
        wire_value_put_end(&w, mark);
        m.connection_start_ok.client_properties = writer_bytes(&w);
        rig_send(0, &m);
        writer_deinit(&w);
        EXPECT_CALLS(i == 0 ? "authenticate_external CN=nobody\n" : "");
        rig_pass(1001);
        EXPECT_OUT("0 connection.close reply-code=403 reply-text=\"ACCESS_REFUSED - Login was "
                   "refused using authentication mechanism EXTERNAL. For details see the broker "
                   "logfile.\" class-id=0 method-id=0\nend\n");
        next_connection();
        slice_unref(&peer.login);
    }
}

/* As if there were no such mechanism. */
Test(amqp_handshake, what_is_not_offered_is_not_there)
{
    static const struct env_tls unknown = {.protocol = "tlsv1.3"};
    struct env_tls known = peer_called("CN=guest");
    start_with(ALL, &unknown); /* no certificate */
    (void)rig_out();
    log_in_external("");
    rig_pass(1001);
    EXPECT_OUT("reset\n");
    next_connection();
    start_with(AMQP_MECHANISM_PLAIN, &known); /* not configured */
    (void)rig_out();
    log_in_external("");
    rig_pass(1001);
    EXPECT_OUT("reset\n");
    next_connection();
    start_with(AMQP_MECHANISM_EXTERNAL, &known); /* no passwords here */
    (void)rig_out();
    log_in("guest", "guest");
    rig_pass(1001);
    EXPECT_OUT("reset\n");
    EXPECT_CALLS("");
    slice_unref(&known.login);
}

Test(amqp_handshake, a_name_that_fits_in_no_shortstr_is_no_user)
{
    char response[1024] = {0};
    memset(response + 1, 'u', 600);
    start("127.0.0.1");
    struct wire_method m = rig_start_ok("PLAIN", bytes_make(response, 603), BYTES_NONE);
    rig_send(0, &m);
    rig_pass(1001);
    EXPECT_OUT("reset\n");
    EXPECT_CALLS("");
}

Test(amqp_handshake, tune_ok_is_checked)
{
#define CLOSE(text)                                                                                \
    "0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - negotiated " text                \
    "\" class-id=10 method-id=31\n"
    static const struct {
        uint16_t channel_max;
        uint32_t frame_max;
        const char *out;
    } rows[] = {
        {8, 131072, ""},
        {1, 4096, ""},
        {8, 4095, CLOSE("frame_max = 4095 is lower than the minimum allowed value (4096)")},
        {8, 1, CLOSE("frame_max = 1 is lower than the minimum allowed value (4096)")},
        {8, 0, CLOSE("frame_max = 0 is higher than the maximum allowed value (131072)")},
        {8, 131073, CLOSE("frame_max = 131073 is higher than the maximum allowed value (131072)")},
        {8, UINT32_MAX,
         CLOSE("frame_max = 4294967295 is higher than the maximum allowed value (131072)")},
        {9, 131072, CLOSE("channel_max = 9 is higher than the maximum allowed value (8)")},
        {0, 131072, CLOSE("channel_max = 0 is higher than the maximum allowed value (8)")},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        start("127.0.0.1");
        log_in("guest", "guest");
        (void)rig_out();
        tune_ok(rows[i].channel_max, rows[i].frame_max, 0);
        EXPECT_OUT(rows[i].out);
        rig_hang_up();
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, an_unknown_vhost_is_told_and_the_socket_ends_with_close_ok)
{
    start("127.0.0.1");
    log_in("guest", "guest");
    tune_ok(8, 131072, 0);
    (void)rig_out();
    open_vhost("none");
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - vhost none not "
               "found\" class-id=10 method-id=40\n");
    open_vhost("/"); /* too late */
    EXPECT_OUT("");
    struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
    rig_send(0, &ok);
    EXPECT_OUT("end\n");
    EXPECT_CALLS("authenticate guest guest\nsession_open guest none name=\n");
}

Test(amqp_handshake, methods_out_of_turn_end_the_connection)
{
    for (int stage = 0; stage < 3; stage++) {
        for (size_t i = 0; i < wire_method_count(); i++) {
            enum wire_method_id id = wire_method_at(i);
            static const enum wire_method_id expected[] = {
                WIRE_CONNECTION_START_OK, WIRE_CONNECTION_TUNE_OK, WIRE_CONNECTION_OPEN};
            if (id == expected[stage] || id == WIRE_CONNECTION_CLOSE) {
                continue;
            }
            start("127.0.0.1");
            if (stage > 0) {
                log_in("guest", "guest");
            }
            if (stage > 1) {
                tune_ok(8, 131072, 0);
            }
            (void)rig_out();
            struct wire_method m = {.id = id};
            rig_send(0, &m);
            char told[160] = "reset\n"; /* before tune-ok nothing is told */
            if (stage > 1) {
                (void)snprintf(told, sizeof told,
                               "0 connection.close reply-code=504 reply-text=\"CHANNEL_ERROR - "
                               "unexpected method in connection state opening\" class-id=%u "
                               "method-id=%u\n",
                               wire_class_of(id), wire_method_of(id));
            }
            cr_assert_str_eq(rig_out(), told, "%s in stage %d", wire_method_name((uint32_t)id),
                             stage);
            wire_frame_reader_deinit(&rig.reader);
            buf_unref(rig.conn.out);
            rig.conn.out = NULL;
        }
    }
}

Test(amqp_handshake, frames_of_channels_and_wrong_frames_end_the_socket)
{
    for (int i = 0; i < 6; i++) {
        start("127.0.0.1");
        struct wire_method m = {.id = WIRE_CHANNEL_OPEN};
        if (i == 0) {
            rig_send(1, &m);
        } else if (i == 1) {
            rig_content(0, 5);
        } else if (i == 2) {
            rig_frame(WIRE_FRAME_HEARTBEAT, 0, "x", 1);
        } else if (i == 3) {
            rig_frame(7, 0, "x", 1);
        } else if (i == 4) {
            rig_feed("\1\0\0\xff\xff\xff\xff", 7);
        } else {
            rig_frame(WIRE_FRAME_METHOD, 0, "\0\x0a\0\x0b\0\0\0\x09",
                      8); /* a start-ok that is cut off */
        }
        cr_assert_str_eq(rig_out(), "reset\n", "case %d", i);
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, frames_instead_of_open_are_told_what_is_wrong)
{
    static const struct {
        const char *frame;
        size_t size;
        const char *told;
    } cases[] = {
        {"\1\0\1\0\0\0\5\0\x14\0\x0a\0\xce", 13,
         "505 reply-text=\"UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>\" class-id=0 "
         "method-id=0"},
        {"\3\0\1\0\0\0\1x\xce", 9,
         "505 reply-text=\"UNEXPECTED_FRAME - type 3, all octets = <<\\\"x\\\">>\" class-id=0 "
         "method-id=0"},
        {"\3\0\0\0\0\0\1x\xce", 9,
         "505 reply-text=\"UNEXPECTED_FRAME - expected method frame, got non method frame "
         "instead\" class-id=0 method-id=0"},
        {"\7\0\0\0\0\0\1x\xce", 9,
         "501 reply-text=\"FRAME_ERROR - type 7, all octets = <<>>: unknown_frame\" class-id=0 "
         "method-id=0"},
        {"\1\0\0\0\0\0\10\0\x0a\0\x28\1\xff\0\0\xce", 16,
         "501 reply-text=\"FRAME_ERROR - Malformed UTF-8 in shortstr\" class-id=10 method-id=40"},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        char told[200];
        start("127.0.0.1");
        log_in("guest", "guest");
        tune_ok(8, 131072, 0);
        (void)rig_out();
        rig_feed(cases[i].frame, cases[i].size);
        (void)snprintf(told, sizeof told, "0 connection.close reply-code=%s\n", cases[i].told);
        cr_assert_str_eq(rig_out(), told, "case %zu", i);
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_handshake, frames_before_tune_ok_have_their_own_limit)
{
    static char big[9000];
    memset(big, 'x', sizeof big);
    start("127.0.0.1");
    struct wire_method m = rig_start_ok("PLAIN", bytes_make(big, 8300), BYTES_NONE);
    rig_send(0, &m);
    EXPECT_OUT("reset\n");
}

Test(amqp_handshake, broken_client_properties_end_the_socket)
{
    start("127.0.0.1");
    struct wire_method m =
        rig_start_ok("PLAIN", bytes_make("\0guest\0guest", 12), bytes_make("\1a?", 3));
    rig_send(0, &m);
    EXPECT_OUT("reset\n");
    EXPECT_CALLS("");
}

Test(amqp_handshake, close_is_obeyed_before_the_connection_is_open)
{
    start("127.0.0.1");
    log_in("guest", "guest");
    (void)rig_out();
    struct wire_method m = {.id = WIRE_CONNECTION_CLOSE};
    rig_send(0, &m);
    EXPECT_OUT("0 connection.close-ok\n");
}

Test(amqp_handshake, heartbeats_go_out_when_nothing_else_does)
{
    rig_open_with(131072, 10);
    rig_pass(4900);
    EXPECT_OUT("");
    rig_pass(2700);
    EXPECT_OUT("0 heartbeat\n");
    for (int i = 0; i < 5; i++) { /* any byte is a sign of life */
        rig_pass(9000);
        rig_frame(WIRE_FRAME_HEARTBEAT, 0, NULL, 0);
        cr_assert(strstr(rig_out(), "0 heartbeat\n") != NULL);
    }
    rig_pass(19000);
    cr_assert_null(strstr(rig_out(), "reset"));
    rig_pass(4000);
    cr_assert_not_null(strstr(rig_out(), "reset\n"));
    EXPECT_CALLS("session_close\n");
}

Test(amqp_handshake, shutdown_closes_everybody)
{
    rig_open();
    amqp_close_all(rig.server, "shutdown");
    EXPECT_OUT("0 connection.close reply-code=320 reply-text=\"CONNECTION_FORCED - broker forced "
               "connection closure with reason "
               "'shutdown'\" class-id=0 method-id=0\n");
    struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
    rig_send(0, &ok);
    EXPECT_OUT("end\n");
    cr_assert_eq(amqp_connections(rig.server), 0);
}
