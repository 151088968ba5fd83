/*
 * TLS over the real env's connections: what tcp.c does with it. A client in a thread of its own,
 * with blocking sockets, talks to a sink on shard 0.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "tls_rig.h"
#include "warren/err.h"
#include "warren/mem.h"

#define MEGABYTE (1024u * 1024u)
#define HALVES   600 /* more than OS_TLS_HANDSHAKES_MAX */

struct server {
    struct rig rig;
    struct pki pki;
    struct env *env;
    uint16_t port;
    void (*bytes)(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size);
    void (*client)(struct server *s); /* runs in the thread */
    uint64_t received, answer;
    uint32_t accepted, closed, wanted; /* it is over when so many are closed */
    uint32_t drained;
    size_t backlog_max;
    int error; /* of the last one closed */
    bool verified, client_done;
    pthread_t thread;
};

static void on_accept(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local)
{
    struct server *s = ctx;
    (void)peer, (void)local;
    RIG_CHECK(kind == ENV_LISTEN_AMQPS);
    RIG_CHECK(s->env->ops->conn_tls(conn) == NULL);
    s->accepted++;
    s->env->ops->conn_set_watermarks(conn, 1000, 100000);
}

static void on_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct server *s = ctx;
    const struct env_tls *tls = s->env->ops->conn_tls(conn);
    RIG_CHECK(tls != NULL && tls->protocol[0] != 0);
    s->verified = tls->verified;
    s->received += size;
    s->bytes(s, conn, data, size);
    size_t backlog = s->env->ops->conn_backlog(conn);
    s->backlog_max = backlog > s->backlog_max ? backlog : s->backlog_max;
}

static void on_drained(void *ctx, struct env_conn *conn)
{
    struct server *s = ctx;
    RIG_CHECK(s->env->ops->conn_backlog(conn) <= 1000);
    s->drained++;
}

static void on_closed(void *ctx, struct env_conn *conn, int error)
{
    struct server *s = ctx;
    (void)conn;
    s->error = error;
    if (++s->closed == s->wanted) {
        rig_done(s->env, 7);
    }
}

static void *client_thread(void *arg)
{
    struct server *s = arg;
    s->client(s);
    return NULL;
}

static void run(struct server *s, uint32_t wanted)
{
    pki_init(&s->pki);
    const struct os_tls_options tls = {.cacertfile = s->pki.ca,
                                       .certfile = s->pki.cert,
                                       .keyfile = s->pki.key,
                                       .verify_peer = true,
                                       .depth = 10,
                                       .tls12 = true,
                                       .tls13 = true};
    rig_init_tls(&s->rig, 1, &tls);
    struct env_sink sink = rig_sink((struct env_sink){.on_accept = on_accept,
                                                      .on_bytes = on_bytes,
                                                      .on_drained = on_drained,
                                                      .on_closed = on_closed});
    s->env = rig_env(&s->rig, 0);
    s->port = rig_listen(s->env, ENV_LISTEN_AMQPS);
    s->wanted = wanted;
    rig_set(&s->rig, 0, &sink, s);
    RIG_CHECK(pthread_create(&s->thread, NULL, client_thread, s) == 0);
    cr_assert_eq(rig_run(&s->rig), 7);
    (void)pthread_join(s->thread, NULL);
    rig_deinit(&s->rig);
    pki_deinit(&s->pki);
}

/* --- clients ---------------------------------------------------------------------------------- */

/* room: of what is received and not read; 0 = as the system likes */
static int dial_with_room(const struct server *s, int room)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    RIG_CHECK(room == 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    in.sin_port = htons(s->port);
    RIG_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)(void *)&in, sizeof in) == 0);
    return fd;
}

static int dial(const struct server *s)
{
    return dial_with_room(s, 0);
}

struct session {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
};

static struct session open_session(const struct server *s, const char *cert)
{
    struct session c = {.ctx = pki_client(&s->pki, cert, 0), .fd = dial(s)};
    c.ssl = SSL_new(c.ctx);
    RIG_CHECK(c.ssl != NULL && SSL_set_fd(c.ssl, c.fd) == 1 && SSL_connect(c.ssl) == 1);
    return c;
}

static void close_session(struct session *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    (void)close(c->fd);
}

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8));
}

static struct slice pattern(uint64_t at, uint32_t size)
{
    struct buf *b = buf_new(size);
    for (uint32_t i = 0; i < size; i++) {
        b->data[i] = byte_at(at + i);
    }
    b->size = size;
    return slice_of_buf(b);
}

/* Reads until `total` bytes have come, and checks them; then the number that came. */
static uint64_t read_pattern(struct session *c, uint64_t total)
{
    static uint8_t data[100000];
    uint64_t at = 0;
    while (at < total) {
        int n = SSL_read(c->ssl, data, sizeof data);
        if (n <= 0) {
            break;
        }
        for (int i = 0; i < n; i++) {
            RIG_CHECK(data[i] == byte_at(at + (uint64_t)i));
        }
        at += (uint64_t)n;
    }
    return at;
}

static void expect_goodbye(struct session *c)
{
    uint8_t byte;
    RIG_CHECK(SSL_read(c->ssl, &byte, 1) == 0);
    RIG_CHECK(SSL_get_error(c->ssl, 0) == SSL_ERROR_ZERO_RETURN);
}

/* --- data ------------------------------------------------------------------------------------- */

static void echo(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size)
{
    /* in pieces of all sizes: they are gathered into records */
    for (size_t at = 0; at < size;) {
        size_t n = 1 + (at * 7919) % 40000;
        n = n < size - at ? n : size - at;
        struct slice piece = slice_copy(data + at, n);
        s->env->ops->conn_send(conn, &piece, 1);
        at += n;
    }
}

static void client_echoes(struct server *s)
{
    struct session c = open_session(s, s->pki.client_cert);
    static uint8_t data[70001];
    uint64_t sent = 0;
    for (int i = 0; i < 60; i++) {
        static uint8_t back[sizeof data];
        for (size_t k = 0; k < sizeof data; k++) {
            data[k] = byte_at(sent + k);
        }
        RIG_CHECK(SSL_write(c.ssl, data, sizeof data) == (int)sizeof data);
        size_t got = 0;
        while (got < sizeof back) {
            int n = SSL_read(c.ssl, back + got, (int)(sizeof back - got));
            RIG_CHECK(n > 0);
            got += (size_t)n;
        }
        RIG_CHECK(memcmp(back, data, sizeof back) == 0);
        sent += sizeof data;
    }
    (void)SSL_shutdown(c.ssl);
    expect_goodbye(&c);
    close_session(&c);
}

Test(tls_tcp, bytes_go_both_ways_and_the_close_is_clean, .timeout = 60)
{
    struct server s = {.bytes = echo, .client = client_echoes};
    run(&s, 1);
    cr_assert_eq(s.received, 60 * 70001);
    cr_assert_eq(s.error, 0);
    cr_assert(s.verified);
    cr_assert_eq(s.rig.warnings, 0);
}

/* The user's slices are what waits, not copies of them: ciphertext is made as the kernel takes it.
 */
static void answer_much(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    for (uint64_t at = 0; at < s->answer; at += MEGABYTE) {
        struct slice piece = pattern(at, MEGABYTE);
        s->env->ops->conn_send(conn, &piece, 1);
    }
}

static void client_reads_late(struct server *s)
{
    struct session c = open_session(s, NULL);
    RIG_CHECK(SSL_write(c.ssl, "x", 1) == 1);
    struct pollfd wait = {.fd = c.fd, .events = POLLIN};
    RIG_CHECK(poll(&wait, 1, 30000) == 1); /* it is on its way, and more than fits */
    RIG_CHECK(read_pattern(&c, s->answer) == s->answer);
    (void)SSL_shutdown(c.ssl);
    close_session(&c);
}

Test(tls_tcp, a_client_that_reads_late_gets_everything, .timeout = 60)
{
    struct server s = {
        .bytes = answer_much, .client = client_reads_late, .answer = 32 * (uint64_t)MEGABYTE};
    run(&s, 1);
    cr_assert_eq(s.backlog_max, s.answer);
    cr_assert_eq(s.drained, 1);
    cr_assert_not(s.verified);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void answer_and_close(struct server *s, struct env_conn *conn, const uint8_t *data,
                             size_t size)
{
    answer_much(s, conn, data, size);
    s->env->ops->conn_close(conn, true, 20000);
}

static void client_reads_to_the_end(struct server *s)
{
    struct session c = open_session(s, NULL);
    RIG_CHECK(SSL_write(c.ssl, "x", 1) == 1);
    RIG_CHECK(read_pattern(&c, UINT64_MAX) == s->answer);
    expect_goodbye(&c);
    close_session(&c);
}

Test(tls_tcp, a_graceful_close_delivers_everything_and_says_goodbye, .timeout = 60)
{
    struct server s = {.bytes = answer_and_close,
                       .client = client_reads_to_the_end,
                       .answer = 8 * (uint64_t)MEGABYTE};
    run(&s, 1);
    cr_assert_eq(s.error, 0);
}

static void close_at_once(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    s->env->ops->conn_close(conn, false, 0);
}

Test(tls_tcp, a_close_at_once_says_goodbye_too, .timeout = 60)
{
    struct server s = {.bytes = close_at_once, .client = client_reads_to_the_end};
    run(&s, 1);
    cr_assert_eq(s.error, 0);
}

static struct session never_read; /* closed when the server is done with it */

static void client_does_not_read(struct server *s)
{
    never_read = open_session(s, NULL);
    RIG_CHECK(SSL_write(never_read.ssl, "x", 1) == 1);
}

static void answer_and_close_soon(struct server *s, struct env_conn *conn, const uint8_t *data,
                                  size_t size)
{
    answer_much(s, conn, data, size);
    s->env->ops->conn_close(conn, true, 50);
}

Test(tls_tcp, a_client_that_does_not_read_is_cut_off_after_the_linger_time, .timeout = 60)
{
    struct server s = {.bytes = answer_and_close_soon,
                       .client = client_does_not_read,
                       .answer = 40 * (uint64_t)MEGABYTE};
    run(&s, 1);
    close_session(&never_read);
    cr_assert_eq(s.error, WR_E_TIMEOUT);
}

static void client_just_goes(struct server *s)
{
    struct session c = open_session(s, NULL);
    RIG_CHECK(SSL_write(c.ssl, "x", 1) == 1);
    close_session(&c); /* no close_notify */
}

static void ignore(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size)
{
    (void)s, (void)conn, (void)data, (void)size;
}

Test(tls_tcp, a_client_that_just_goes_is_gone, .timeout = 60)
{
    struct server s = {.bytes = ignore, .client = client_just_goes};
    run(&s, 1);
    cr_assert_eq(s.received, 1);
    cr_assert_eq(s.rig.warnings, 0);
}

/* TLS itself answers here: each of the client's key updates makes us say one of ours. */
static void client_updates_keys(struct server *s)
{
    struct session c = {.ctx = pki_client(&s->pki, NULL, TLS1_3_VERSION),
                        .fd = dial_with_room(s, 4096)};
    c.ssl = SSL_new(c.ctx);
    RIG_CHECK(c.ssl != NULL && SSL_set_fd(c.ssl, c.fd) == 1 && SSL_connect(c.ssl) == 1);
    do {
        RIG_CHECK(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    } while (SSL_do_handshake(c.ssl) == 1);
    close_session(&c);
}

Test(tls_tcp, a_client_that_makes_us_answer_and_does_not_read_is_cut_off, .timeout = 120)
{
    struct server s = {.bytes = ignore, .client = client_updates_keys};
    run(&s, 1);
    cr_assert_eq(s.rig.warnings, 1);
    cr_assert_not_null(strstr(s.rig.last, "TLS: it makes us answer and does not read"));
}

/* --- what is no TLS --------------------------------------------------------------------------- */

static void client_sends_amqp(struct server *s)
{
    int fd = dial(s);
    uint8_t answer[64];
    RIG_CHECK(send(fd, "AMQP\0\0\11\1", 8, 0) == 8);
    ssize_t n = 0;
    while (n < (ssize_t)sizeof answer) {
        ssize_t got = recv(fd, answer + n, sizeof answer - (size_t)n, 0);
        RIG_CHECK(got >= 0);
        if (got == 0) {
            break;
        }
        n += got;
    }
    RIG_CHECK(n == 0 || (n == 7 && answer[0] == 21)); /* an alert, if OpenSSL sends one */
    (void)close(fd);
}

Test(tls_tcp, amqp_without_tls_is_one_line_in_the_log, .timeout = 60)
{
    struct server s = {.bytes = ignore, .client = client_sends_amqp};
    run(&s, 1);
    cr_assert_eq(s.rig.warnings, 1);
    cr_assert_not_null(strstr(s.rig.last, "TLS: AMQP without TLS on a port for TLS"));
    cr_assert_eq(s.error, WR_E_INVALID);
    cr_assert_eq(s.received, 0);
}

static void half_a_handshake(struct server *s, int fd)
{
    struct tls_client c;
    uint8_t hello[2000];
    tls_client_init(&c, &s->pki, NULL, 0);
    (void)SSL_do_handshake(c.ssl);
    int n = BIO_read(c.out, hello, sizeof hello);
    RIG_CHECK(send(fd, hello, (size_t)n / 2, MSG_NOSIGNAL) == n / 2);
    tls_client_deinit(&c);
}

static void client_stops_half_way(struct server *s)
{
    int fd = dial(s);
    half_a_handshake(s, fd);
    (void)close(fd);
    (void)close(dial(s)); /* who says nothing is not worth a line */
}

Test(tls_tcp, a_handshake_that_ends_in_the_middle_is_one_line_in_the_log, .timeout = 60)
{
    struct server s = {.bytes = ignore, .client = client_stops_half_way};
    run(&s, 2);
    cr_assert_eq(s.rig.warnings, 1);
    cr_assert_not_null(strstr(s.rig.last, "TLS: closed in the middle of the handshake"));
}

/* The oldest of them go, and whoever means it gets in. */
static void client_hoards_handshakes(struct server *s)
{
    static int halves[HALVES];
    for (int i = 0; i < HALVES; i++) {
        halves[i] = dial(s);
        half_a_handshake(s, halves[i]);
    }
    struct session c = open_session(s, NULL);
    RIG_CHECK(SSL_write(c.ssl, "x", 1) == 1);
    (void)SSL_shutdown(c.ssl);
    close_session(&c);
    for (int i = 0; i < HALVES; i++) {
        (void)close(halves[i]);
    }
}

Test(tls_tcp, there_are_not_too_many_handshakes_at_once, .timeout = 60)
{
    struct server s = {.bytes = ignore, .client = client_hoards_handshakes};
    run(&s, HALVES + 1);
    cr_assert_eq(s.received, 1);
    cr_assert_eq(s.rig.warnings, HALVES);
}

/* The node ends while connections are open, in the handshake, and not begun. */
static void end_the_node(struct server *s, struct env_conn *conn, const uint8_t *data, size_t size)
{
    (void)conn, (void)data, (void)size;
    rig_done(s->env, 7);
}

static void client_is_there_at_the_end(struct server *s)
{
    int silent = dial(s);
    int half = dial(s);
    half_a_handshake(s, half);
    struct session c = open_session(s, NULL);
    RIG_CHECK(SSL_write(c.ssl, "x", 1) == 1);
    s->client_done = true;
    close_session(&c);
    (void)close(half);
    (void)close(silent);
}

Test(tls_tcp, the_node_ends_with_connections_in_every_state, .timeout = 60)
{
    struct server s = {.bytes = end_the_node, .client = client_is_there_at_the_end};
    run(&s, UINT32_MAX);
    cr_assert(s.client_done);
}

/* --- new files -------------------------------------------------------------------------------- */

static void copy(const char *from, const char *to)
{
    char data[8192];
    FILE *in = fopen(from, "r");
    FILE *out = fopen(to, "w");
    RIG_CHECK(in != NULL && out != NULL);
    size_t n = fread(data, 1, sizeof data, in);
    RIG_CHECK(n > 0 && fwrite(data, 1, n, out) == n);
    RIG_CHECK(fclose(in) == 0 && fclose(out) == 0);
}

/* Of what a node shows, or cannot use; within 20 s. */
static void await_certificate(struct server *s, const char *subject, const char *problem)
{
    struct env_certificate c;
    for (int i = 0; i < 2000; i++) {
        RIG_CHECK(s->env->ops->certificate(s->env, &c));
        if (strstr(c.subject, subject) != NULL && strstr(c.problem, problem) != NULL &&
            (c.problem[0] == 0) == (problem[0] == 0)) {
            return;
        }
        (void)poll(NULL, 0, 10);
    }
    RIG_CHECK(!"the certificate is in use");
}

static void client_exchanges_files(struct server *s)
{
    struct session before = open_session(s, NULL);
    await_certificate(s, "CN=localhost", "");
    copy(s->pki.broken, s->pki.key);
    await_certificate(s, "CN=localhost", "key.pem: ");
    copy(s->pki.client_cert, s->pki.cert);
    copy(s->pki.client_key, s->pki.key);
    await_certificate(s, "CN=j", "");
    struct session after = open_session(s, NULL);
    X509_NAME *name = X509_get_subject_name(SSL_get0_peer_certificate(after.ssl));
    char text[64] = "";
    (void)X509_NAME_get_text_by_NID(name, NID_commonName, text, (int)sizeof text);
    RIG_CHECK(strncmp(text, "j", 1) == 0);
    struct session *const sessions[] = {&before, &after};
    for (size_t i = 0; i < 2; i++) {
        char answer[3];
        RIG_CHECK(SSL_write(sessions[i]->ssl, "abc", 3) == 3);
        RIG_CHECK(SSL_read(sessions[i]->ssl, answer, 3) > 0);
        (void)SSL_shutdown(sessions[i]->ssl);
        close_session(sessions[i]);
    }
}

Test(tls_tcp, a_node_reads_new_files_and_says_what_it_cannot_use, .timeout = 60)
{
    struct server s = {.bytes = echo, .client = client_exchanges_files};
    run(&s, 2);
    cr_assert_eq(s.error, 0);
    cr_assert_geq(s.rig.warnings, 1); /* two, if we were held up between certificate and key */
    cr_assert_not_null(strstr(s.rig.last, "what was read before stays in use"));
}

Test(tls_tcp, without_a_certificate_there_is_no_listener)
{
    struct rig rig;
    char errmsg[256] = "";
    rig_init(&rig, 1);
    struct env *env = rig_env(&rig, 0);
    struct net_addr addr = rig_addr("127.0.0.1", 1);
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_AMQPS, &addr, errmsg), WR_E_STATE);
    cr_assert_str_eq(errmsg, "TLS is not set up");
    rig_deinit(&rig);
}
