/*
 * What: from the first byte to connection.open-ok: protocol header, SASL (PLAIN, AMQPLAIN,
 * EXTERNAL), tune, open.
 *
 * Failure modes: a wrong header is answered with ours and the socket ends; wrong credentials get
 * 403 after a pause when the client knows authentication_failure_close, otherwise the socket just
 * ends after the same pause; anything illegal before tune-ok ends it, anything later is told.
 *
 * Spec: docs/amqp-connection.md, AMQP 0-9-1 §2.2.4.
 */
#include <stdio.h>

#include "amqp_internal.h"

static const struct {
    enum amqp_mechanism mechanism;
    const char *name;
} mechanisms[] = {{AMQP_MECHANISM_AMQPLAIN, "AMQPLAIN"}, /* in RabbitMQ's order */
                  {AMQP_MECHANISM_PLAIN, "PLAIN"},
                  {AMQP_MECHANISM_EXTERNAL, "EXTERNAL"}};

/* NULL: the client has shown no certificate. */
static const struct env_tls *verified_peer(const struct amqp_conn *conn)
{
    const struct env_tls *tls = conn->server->env->ops->conn_tls(conn->conn);
    return tls != NULL && tls->verified ? tls : NULL;
}

static bool is_offered(const struct amqp_conn *conn, enum amqp_mechanism mechanism)
{
    return (conn->server->options.mechanisms & mechanism) != 0 &&
           (mechanism != AMQP_MECHANISM_EXTERNAL || verified_peer(conn) != NULL);
}

static struct bytes list_mechanisms(const struct amqp_conn *conn, char out[64])
{
    struct strbuf s;
    strbuf_init(&s, out, 64);
    for (size_t i = 0; i < WR_ARRAY_SIZE(mechanisms); i++) {
        if (is_offered(conn, mechanisms[i].mechanism)) {
            strbuf_printf(&s, "%s%s", strbuf_bytes(&s).size > 0 ? " " : "", mechanisms[i].name);
        }
    }
    return strbuf_bytes(&s);
}

static void send_start(struct amqp_conn *conn, uint8_t major, uint8_t minor)
{
    static const char *const capabilities[] = {
        "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
        "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos",           "direct_reply_to"};
    const struct amqp_options *o = &conn->server->options;
    char offered[64];
    struct writer w;
    writer_init(&w, 1024);
    uint32_t mark = wire_table_put_table_begin(&w, "capabilities");
    for (size_t i = 0; i < WR_ARRAY_SIZE(capabilities); i++) {
        wire_table_put_bool(&w, capabilities[i], true);
    }
    wire_value_put_end(&w, mark);
    wire_table_put_cstr(&w, "cluster_name", o->cluster_name);
    wire_table_put_cstr(&w, "copyright", "Copyright (c) the Warren authors");
    wire_table_put_cstr(&w, "information", "Warren, a clustered message broker");
    wire_table_put_cstr(&w, "platform", o->platform);
    wire_table_put_cstr(&w, "product", o->product);
    wire_table_put_cstr(&w, "version", "4.1.0");
    wire_table_put_cstr(&w, "warren_version", o->version);
    wire_table_put_cstr(&w, "node", o->node_name);
    struct wire_method start = {.id = WIRE_CONNECTION_START};
    start.connection_start.version_major = major;
    start.connection_start.version_minor = minor;
    start.connection_start.server_properties = writer_bytes(&w);
    start.connection_start.mechanisms = list_mechanisms(conn, offered);
    start.connection_start.locales = bytes_from_cstr("en_US");
    conn_send(conn, 0, &start);
    writer_deinit(&w);
    conn->state = CONN_START_OK;
}

void start_on_header(struct amqp_conn *conn, struct bytes *input)
{
    while (conn->header_size < sizeof conn->header && input->size > 0) {
        conn->header[conn->header_size++] = input->data[0];
        input->data++;
        input->size--;
    }
    uint8_t major = 0;
    uint8_t minor = 0;
    enum wire_protocol protocol =
        wire_protocol_parse(bytes_make(conn->header, conn->header_size), &major, &minor);
    if (protocol == WIRE_PROTOCOL_INCOMPLETE) {
        return;
    }
    if (protocol == WIRE_PROTOCOL_AMQP) {
        send_start(conn, major, minor);
        return;
    }
    const char *what = protocol == WIRE_PROTOCOL_TLS    ? "a TLS client on the plain port"
                       : protocol == WIRE_PROTOCOL_HTTP ? "an HTTP client on the AMQP port"
                       : protocol == WIRE_PROTOCOL_BAD  ? "a bad protocol header"
                                                        : "AMQP 1.0, which is not served here";
    wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
           "%s:%u sent %s; connection closed", conn->peer.host, conn->peer.port, what);
    outq_append_bytes(&conn->out, wire_protocol_header, WIRE_PROTOCOL_HEADER_SIZE);
    conn_end(conn, AMQP_CLOSE_LINGER_MS);
}

/* --- authentication --------------------------------------------------------------------------- */

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "::ffff:127.", 11) == 0;
}

static bool copy_user(struct amqp_conn *conn, struct bytes user)
{
    if (user.size >= sizeof conn->user || memchr(user.data, 0, user.size) != NULL) {
        return false;
    }
    memcpy(conn->user, user.data, user.size);
    conn->user[user.size] = 0;
    return true;
}

/* PLAIN: NUL user NUL password (RFC 4616 with an empty authorization identity). */
static bool parse_plain(struct bytes response, struct bytes *ret_user, struct bytes *ret_password)
{
    if (response.size < 2 || response.data[0] != 0) {
        return false;
    }
    const uint8_t *second = memchr(response.data + 1, 0, response.size - 1);
    if (second == NULL) {
        return false;
    }
    *ret_user = (struct bytes){response.data + 1, (size_t)(second - response.data - 1)};
    *ret_password =
        (struct bytes){second + 1, (size_t)(response.data + response.size - second - 1)};
    return memchr(ret_password->data, 0, ret_password->size) == NULL;
}

static void on_refuse_timer(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, timer);
    if (!conn->failure_close) {
        conn_abort(conn);
        return;
    }
    char text[WIRE_REPLY_TEXT_SIZE];
    struct wire_method close = {.id = WIRE_CONNECTION_CLOSE};
    close.connection_close.reply_code = 403;
    close.connection_close.reply_text = wire_reply_text(
        text, 403,
        "Login was refused using authentication mechanism %s. For details see the broker logfile.",
        conn->mechanism);
    conn_send(conn, 0, &close);
    conn_end(conn, AMQP_CLOSE_LINGER_MS);
}

/* tell: with a close frame, if the client understands it; a response that is no response just ends
 * the socket. */
static void refuse_login(struct amqp_conn *conn, bool tell, const char *why)
{
    conn->failure_close = conn->failure_close && tell;
    wr_log(conn->server->options.logger, LOG_LEVEL_WARNING, "connection",
           "login refused user=%s mechanism=%s peer=%s:%u: %s", conn->user, conn->mechanism,
           conn->peer.host, conn->peer.port, why);
    conn->state = CONN_REFUSING;
    conn_set_timer(conn, AMQP_AUTH_DELAY_MS, on_refuse_timer);
}

static void send_tune(struct amqp_conn *conn)
{
    struct wire_method tune = {.id = WIRE_CONNECTION_TUNE};
    tune.connection_tune.channel_max = (uint16_t)conn->server->options.channel_max;
    tune.connection_tune.frame_max = conn->server->options.frame_max;
    tune.connection_tune.heartbeat = (uint16_t)conn->server->options.heartbeat_s;
    conn_send(conn, 0, &tune);
    conn->state = CONN_TUNE_OK;
}

static void read_client_properties(struct amqp_conn *conn, struct bytes properties)
{
    struct bytes capabilities;
    struct bytes name;
    conn->client_properties = slice_copy(properties.data, properties.size);
    if (wire_table_get_table(properties, "capabilities", &capabilities)) {
        (void)wire_table_get_bool(capabilities, "consumer_cancel_notify", &conn->cancel_notify);
        (void)wire_table_get_bool(capabilities, "authentication_failure_close",
                                  &conn->failure_close);
        (void)wire_table_get_bool(capabilities, "connection.blocked", &conn->blocked_notify);
    }
    if (wire_table_get_string(properties, "connection_name", &name) &&
        name.size < sizeof conn->provided_name) {
        memcpy(conn->provided_name, name.data, name.size);
    }
}

/* 0: there is no such mechanism, or not for this client. */
static uint32_t choose_mechanism(struct amqp_conn *conn, struct bytes name)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(mechanisms); i++) {
        if (bytes_eq_cstr(name, mechanisms[i].name) && is_offered(conn, mechanisms[i].mechanism)) {
            (void)snprintf(conn->mechanism, sizeof conn->mechanism, "%s", mechanisms[i].name);
            return (uint32_t)mechanisms[i].mechanism;
        }
    }
    return 0;
}

static void log_in_with_password(struct amqp_conn *conn, uint32_t mechanism, struct bytes response)
{
    struct bytes user = BYTES_NONE;
    struct bytes password = BYTES_NONE;
    bool parsed = mechanism == AMQP_MECHANISM_PLAIN
                      ? parse_plain(response, &user, &password)
                      : wire_table_get_string(response, "LOGIN", &user) &&
                            wire_table_get_string(response, "PASSWORD", &password);
    if (!parsed || !copy_user(conn, user)) {
        refuse_login(conn, false, "malformed response");
    } else if (!broker_authenticate(conn->server->broker, user, password,
                                    is_loopback(conn->peer.host))) {
        refuse_login(conn, true,
                     "invalid credentials, or a user that may connect from this host only");
    } else {
        send_tune(conn);
    }
}

/* The response does not count: who it is says the certificate. */
static void log_in_with_certificate(struct amqp_conn *conn)
{
    const struct slice *login = &verified_peer(conn)->login;
    struct bytes user = bytes_from_slice(login);
    if (user.size == 0 || !copy_user(conn, user)) {
        refuse_login(conn, true, "its certificate has no name that could be a user's");
    } else if (!broker_authenticate_external(conn->server->broker, user,
                                             is_loopback(conn->peer.host))) {
        refuse_login(conn, true, "no such user, or one that may connect from this host only");
    } else {
        send_tune(conn);
    }
}

static void on_start_ok(struct amqp_conn *conn, const struct wire_connection_start_ok *ok)
{
    if (wire_table_validate(ok->client_properties, NULL) != WIRE_OK) {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
               "%s:%u sent broken client properties", conn->peer.host, conn->peer.port);
        conn_abort(conn);
        return;
    }
    read_client_properties(conn, ok->client_properties);
    uint32_t mechanism = choose_mechanism(conn, ok->mechanism);
    if (mechanism == 0) {
        refuse_login(conn, false, "unknown SASL mechanism");
    } else if (mechanism == AMQP_MECHANISM_EXTERNAL) {
        log_in_with_certificate(conn);
    } else {
        log_in_with_password(conn, mechanism, ok->response);
    }
}

/* --- tune and open ---------------------------------------------------------------------------- */

/* A client's value is legal when it is not above ours; 0 = no limit, which is above any limit. */
static bool within(uint32_t value, uint32_t ours)
{
    return ours == 0 || (value != 0 && value <= ours);
}

static void on_tune_ok(struct amqp_conn *conn, const struct wire_connection_tune_ok *ok)
{
    const struct amqp_options *o = &conn->server->options;
    if (ok->frame_max != 0 && ok->frame_max < AMQP_FRAME_MIN) {
        conn_fault(conn, 530, 10, 31,
                   "negotiated frame_max = %u is lower than the minimum allowed value (%u)",
                   ok->frame_max, AMQP_FRAME_MIN);
        return;
    }
    if (!within(ok->frame_max, o->frame_max)) {
        conn_fault(conn, 530, 10, 31,
                   "negotiated frame_max = %u is higher than the maximum allowed value (%u)",
                   ok->frame_max, o->frame_max);
        return;
    }
    if (!within(ok->channel_max, o->channel_max)) {
        conn_fault(conn, 530, 10, 31,
                   "negotiated channel_max = %u is higher than the maximum allowed value (%u)",
                   ok->channel_max, o->channel_max);
        return;
    }
    conn->frame_max = ok->frame_max;
    conn->channel_max = ok->channel_max;
    conn->heartbeat_s = ok->heartbeat;
    wire_frame_reader_set_max(&conn->reader, conn->frame_max);
    heartbeat_start(conn);
    conn->state = CONN_OPEN;
}

static void on_broker_close(void *ctx, const char *reason)
{
    struct amqp_conn *conn = ctx;
    conn_fault(conn, 320, 0, 0, "%s", reason);
}

static void opened(struct amqp_conn *conn)
{
    timer_cancel(&conn->server->timers, &conn->timer);
    conn->state = CONN_RUNNING;
    struct wire_method ok = {.id = WIRE_CONNECTION_OPEN_OK};
    conn_send(conn, 0, &ok);
}

static void on_seated(void *ctx, const struct broker_fault *fault)
{
    struct amqp_conn *conn = ctx;
    if (conn->state != CONN_SEATING) {
        return; /* on its way out */
    }
    if (fault->code != 0) {
        conn_fault(conn, fault->code, 10, 40, "%s", fault->text);
    } else {
        opened(conn);
    }
    conn_work_off_early(conn);
}

static void on_open(struct amqp_conn *conn, const struct wire_connection_open *open)
{
    struct broker_fault fault = {0};
    struct broker_session_info info = {.vhost = open->virtual_host,
                                       .user = bytes_from_cstr(conn->user),
                                       .peer = conn->peer,
                                       .local = conn->local,
                                       .protocol = "AMQP 0-9-1",
                                       .client_properties =
                                           bytes_from_slice(&conn->client_properties),
                                       .provided_name = bytes_from_cstr(conn->provided_name),
                                       .channel_max = conn->channel_max,
                                       .frame_max = conn->frame_max,
                                       .heartbeat_s = conn->heartbeat_s,
                                       .auth_mechanism = conn->mechanism,
                                       .tls = conn->server->env->ops->conn_tls(conn->conn)};
    conn->session = broker_session_open(conn->server->broker, &info, on_broker_close, conn, &fault);
    if (conn->session == NULL) {
        conn_fault(conn, fault.code, 10, 40, "%s", fault.text);
        return;
    }
    wr_log(conn->server->options.logger, LOG_LEVEL_INFO, "connection",
           "%s:%u -> %s:%u: user '%s' authenticated and granted access to vhost '%.*s'",
           conn->peer.host, conn->peer.port, conn->local.host, conn->local.port, conn->user,
           (int)open->virtual_host.size, (const char *)open->virtual_host.data);
    if (broker_session_wait(conn->session, on_seated)) {
        conn->state = CONN_SEATING; /* the handshake's time limit goes on */
    } else {
        opened(conn);
    }
}

void start_on_method(struct amqp_conn *conn, const struct wire_method *method)
{
    if (conn->state == CONN_START_OK && method->id == WIRE_CONNECTION_START_OK) {
        on_start_ok(conn, &method->connection_start_ok);
    } else if (conn->state == CONN_TUNE_OK && method->id == WIRE_CONNECTION_TUNE_OK) {
        on_tune_ok(conn, &method->connection_tune_ok);
    } else if (conn->state == CONN_OPEN && method->id == WIRE_CONNECTION_OPEN) {
        on_open(conn, &method->connection_open);
    } else if (conn->state >= CONN_OPEN) {
        conn_fault(conn, 504, wire_class_of(method->id), wire_method_of(method->id),
                   "unexpected method in connection state opening");
    } else {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
               "%s:%u sent %s during the handshake; connection closed", conn->peer.host,
               conn->peer.port, wire_method_name((uint32_t)method->id));
        conn_abort(conn);
    }
}
