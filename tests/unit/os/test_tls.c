/*
 * TLS sessions, without sockets (tls.h): every cut of the handshake, what fails and how it is told,
 * closing in both directions, who the peer is; and what is wrong with certificates at start.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tls.h"
#include "tls_rig.h"
#include "warren/err.h"
#include "warren/mem.h"

struct pair {
    struct pki pki;
    struct os_tls_options options;
    struct os_tls_server *server;
    struct os_tls *tls;
    struct sendq out;
    struct tls_client client;
    uint8_t plain[64 * 1024]; /* what the server's side has read, the last pieces */
    size_t plain_size;
};

static void pair_init(struct pair *p)
{
    *p = (struct pair){.plain_size = 0};
    pki_init(&p->pki);
    p->options = (struct os_tls_options){.cacertfile = p->pki.ca,
                                         .certfile = p->pki.cert,
                                         .keyfile = p->pki.key,
                                         .verify_peer = true,
                                         .depth = 10,
                                         .tls12 = true,
                                         .tls13 = true};
}

static void pair_open(struct pair *p, const char *client_cert, int version)
{
    char errmsg[256] = "";
    int rc = os_tls_server_new(&p->options, &p->server, errmsg);
    cr_assert_eq(rc, 0, "%s", errmsg);
    p->tls = os_tls_new(p->server, &p->out);
    tls_client_init(&p->client, &p->pki, client_cert, version);
}

static void pair_close(struct pair *p)
{
    tls_client_deinit(&p->client);
    os_tls_free(p->tls);
    sendq_deinit(&p->out);
    os_tls_server_free(p->server);
    p->server = NULL;
    p->tls = NULL;
    p->plain_size = 0;
}

static void pair_deinit(struct pair *p)
{
    pki_deinit(&p->pki);
}

static void feed(struct pair *p, const uint8_t *data, size_t size)
{
    size_t n;
    os_tls_feed(p->tls, data, size);
    while ((n = os_tls_read(p->tls, p->plain + p->plain_size, sizeof p->plain - p->plain_size)) >
           0) {
        p->plain_size += n;
    }
}

/* What the client has to say, in pieces of `step` bytes; true: there was something. */
static bool to_server(struct pair *p, size_t step)
{
    uint8_t *data;
    long size = BIO_get_mem_data(p->client.out, &data);
    bool any = size > 0;
    while (size > 0) {
        uint8_t piece[70000];
        int n = BIO_read(p->client.out, piece, (int)(step < sizeof piece ? step : sizeof piece));
        cr_assert_gt(n, 0);
        feed(p, piece, (size_t)n);
        size -= n;
    }
    return any;
}

static bool to_client(struct pair *p)
{
    bool any = p->out.size > 0;
    while (p->out.size > 0) {
        const struct slice *s = &p->out.slices.items[p->out.head];
        uint32_t n = s->size;
        cr_assert_eq(BIO_write(p->client.in, slice_data(s), (int)n), (int)n);
        sendq_consume(&p->out, n);
    }
    return any;
}

static int handshake(struct pair *p, size_t step)
{
    bool more = true;
    int rc = 0;
    while (more) {
        rc = SSL_do_handshake(p->client.ssl);
        more = to_server(p, step);
        more = to_client(p) || more;
    }
    return rc;
}

static void client_sends(struct pair *p, const char *text)
{
    cr_assert_eq(SSL_write(p->client.ssl, text, (int)strlen(text)), (int)strlen(text));
}

static void expect_read(struct pair *p, const char *text)
{
    cr_assert_eq(p->plain_size, strlen(text));
    cr_assert_eq(memcmp(p->plain, text, p->plain_size), 0);
    p->plain_size = 0;
}

static void expect_client_reads(struct pair *p, const char *text)
{
    char got[256];
    (void)to_client(p);
    int n = SSL_read(p->client.ssl, got, sizeof got);
    cr_assert_eq(n, (int)strlen(text));
    cr_assert_eq(memcmp(got, text, strlen(text)), 0);
}

/* --- the way it should be --------------------------------------------------------------------- */

Test(tls, the_handshake_and_data_come_in_pieces_of_every_size, .timeout = 120)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct pair p;
    pair_init(&p);
    for (size_t v = 0; v < 2; v++) {
        for (size_t step = 1; step < 2000; step += step < 40 ? 1 : 97) {
            pair_open(&p, p.pki.client_cert, versions[v]);
            cr_assert_eq(handshake(&p, step), 1);
            cr_assert_eq(os_tls_state(p.tls), OS_TLS_OPEN);
            client_sends(&p, "hello");
            client_sends(&p, " world");
            (void)to_server(&p, step);
            expect_read(&p, "hello world");
            cr_assert(os_tls_write(p.tls, (const uint8_t *)"answer", 6));
            expect_client_reads(&p, "answer");
            pair_close(&p);
        }
    }
    pair_deinit(&p);
}

Test(tls, the_first_data_may_come_with_the_end_of_the_handshake)
{
    struct pair p;
    pair_init(&p);
    pair_open(&p, NULL, TLS1_3_VERSION);
    cr_assert_eq(SSL_do_handshake(p.client.ssl), -1);
    (void)to_server(&p, 1000);
    (void)to_client(&p);
    cr_assert_eq(SSL_do_handshake(p.client.ssl), 1);
    client_sends(&p, "AMQP");
    (void)to_server(&p, 100000);
    cr_assert_eq(os_tls_state(p.tls), OS_TLS_OPEN);
    expect_read(&p, "AMQP");
    cr_assert_not(os_tls_info(p.tls)->verified); /* it has no certificate, and need not have one */
    cr_assert_eq(os_tls_info(p.tls)->login.size, 0);
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, much_data_both_ways, .timeout = 60)
{
    struct pair p;
    static uint8_t block[OS_TLS_RECORD];
    pair_init(&p);
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    for (uint32_t i = 0; i < 500; i++) {
        memset(block, (int)i, sizeof block);
        cr_assert_eq(SSL_write(p.client.ssl, block, sizeof block), (int)sizeof block);
        (void)to_server(&p, 7000 + i);
        cr_assert_eq(p.plain_size, sizeof block);
        cr_assert_eq(memcmp(p.plain, block, sizeof block), 0);
        p.plain_size = 0;
        cr_assert(os_tls_write(p.tls, block, sizeof block));
        cr_assert_lt(p.out.size, sizeof block + 256);
        (void)to_client(&p);
        size_t got = 0;
        while (got < sizeof block) {
            int n = SSL_read(p.client.ssl, p.plain + got, (int)(sizeof block - got));
            cr_assert_gt(n, 0);
            got += (size_t)n;
        }
        cr_assert_eq(memcmp(p.plain, block, sizeof block), 0);
    }
    pair_close(&p);
    pair_deinit(&p);
}

/* A small buffer: what does not fit is read by the next call, with no input in between. */
Test(tls, reading_goes_on_where_the_buffer_ended)
{
    struct pair p;
    uint8_t small[3];
    char all[32] = "";
    size_t total = 0;
    size_t n;
    pair_init(&p);
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    client_sends(&p, "0123456");
    client_sends(&p, "789");
    uint8_t data[500];
    int size = BIO_read(p.client.out, data, sizeof data);
    os_tls_feed(p.tls, data, (size_t)size);
    while ((n = os_tls_read(p.tls, small, sizeof small)) > 0) {
        memcpy(all + total, small, n);
        total += n;
    }
    cr_assert_str_eq(all, "0123456789");
    pair_close(&p);
    pair_deinit(&p);
}

/* --- closing ---------------------------------------------------------------------------------- */

Test(tls, the_peers_close_notify_ends_reading_after_all_data)
{
    struct pair p;
    pair_init(&p);
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    client_sends(&p, "last words");
    cr_assert_eq(SSL_shutdown(p.client.ssl), 0);
    (void)to_server(&p, 100000);
    expect_read(&p, "last words");
    cr_assert_eq(os_tls_state(p.tls), OS_TLS_ENDED);
    os_tls_shutdown(p.tls);
    (void)to_client(&p);
    cr_assert_eq(SSL_shutdown(p.client.ssl), 1); /* ours came, too */
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, our_close_notify_comes_after_what_was_written_and_once)
{
    struct pair p;
    char got[16];
    pair_init(&p);
    pair_open(&p, NULL, 0);
    os_tls_shutdown(p.tls); /* before the handshake there is nothing to say */
    cr_assert_eq(p.out.size, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    cr_assert(os_tls_write(p.tls, (const uint8_t *)"bye", 3));
    os_tls_shutdown(p.tls);
    size_t size = p.out.size;
    os_tls_shutdown(p.tls);
    cr_assert_eq(p.out.size, size);
    expect_client_reads(&p, "bye");
    cr_assert_eq(SSL_read(p.client.ssl, got, sizeof got), 0);
    cr_assert_eq(SSL_get_shutdown(p.client.ssl), SSL_RECEIVED_SHUTDOWN);
    pair_close(&p);
    pair_deinit(&p);
}

/* --- what fails ------------------------------------------------------------------------------- */

static void expect_failure(struct pair *p, const char *text)
{
    cr_assert_eq(os_tls_state(p->tls), OS_TLS_FAILED);
    cr_assert_str_eq(os_tls_failure(p->tls), text);
    uint8_t byte = 0;
    os_tls_feed(p->tls, &byte, 1); /* it stays so */
    cr_assert_eq(os_tls_read(p->tls, &byte, 1), 0);
    os_tls_shutdown(p->tls);
    cr_assert_str_eq(os_tls_failure(p->tls), text);
}

static void garbage(const char *data, size_t size, const char *text)
{
    struct pair p;
    pair_init(&p);
    pair_open(&p, NULL, 0);
    feed(&p, (const uint8_t *)data, size);
    expect_failure(&p, text);
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, what_is_no_tls_is_told_for_what_it_is)
{
    static const char zeros[64];
    garbage("AMQP\0\0\11\1", 8, "AMQP without TLS on a port for TLS");
    garbage("GET / HTTP/1.1\r\n\r\n", 18, "http request");
    garbage("\x16\x03\x01\x00\x05hello", 10, "unexpected message"); /* no ClientHello */
    garbage(zeros, sizeof zeros, "wrong version number");
}

static void refused(struct pair *p, const char *cert, int version, const char *text)
{
    pair_open(p, cert, version);
    (void)handshake(p, 100000);
    expect_failure(p, text);
    char byte;
    cr_assert_leq(SSL_read(p->client.ssl, &byte, 1), 0);
    cr_assert_eq(SSL_get_error(p->client.ssl, 0), SSL_ERROR_SSL); /* the alert came */
    pair_close(p);
}

Test(tls, certificates_that_are_no_good_are_refused)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct pair p;
    pair_init(&p);
    for (size_t i = 0; i < 2; i++) {
        refused(&p, p.pki.expired_cert, versions[i],
                "its certificate is not accepted: certificate has expired");
        refused(&p, p.pki.other_cert, versions[i],
                "its certificate is not accepted: unable to get local issuer certificate");
        p.options.fail_if_no_peer_cert = true;
        refused(&p, NULL, versions[i], "peer did not return a certificate");
        p.options.fail_if_no_peer_cert = false;
    }
    pair_deinit(&p);
}

Test(tls, a_client_that_does_not_trust_us_is_told_of)
{
    struct pair p;
    pair_init(&p);
    pair_open(&p, NULL, 0);
    SSL_CTX_set_cert_store(p.client.ctx, X509_STORE_new());
    SSL_set_verify(p.client.ssl, SSL_VERIFY_PEER, NULL);
    tls_client_deinit(&p.client);
    tls_client_init(&p.client, &p.pki, NULL, 0);
    SSL_CTX_set_cert_store(p.client.ctx, X509_STORE_new());
    cr_assert_leq(handshake(&p, 100000), 0);
    expect_failure(&p, "tlsv1 alert unknown ca");
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, versions_and_ciphers_that_are_not_ours_are_refused)
{
    struct pair p;
    pair_init(&p);
    p.options.tls12 = false;
    refused(&p, NULL, TLS1_2_VERSION, "unsupported protocol");
    p.options.tls12 = true;
    p.options.tls13 = false;
    refused(&p, NULL, TLS1_3_VERSION, "unsupported protocol");
    p.options.tls13 = true;
    p.options.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"; /* none of 1.3: it is not spoken then */
    refused(&p, NULL, TLS1_3_VERSION, "unsupported protocol");
    p.options.ciphers =
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"; /* standard names */
    pair_open(&p, NULL, TLS1_2_VERSION);
    cr_assert_eq(handshake(&p, 100000), 1);
    cr_assert_str_eq(os_tls_info(p.tls)->cipher, "aes_128_gcm");
    cr_assert_str_eq(os_tls_info(p.tls)->key_exchange, "ecdhe_ecdsa");
    cr_assert_str_eq(os_tls_info(p.tls)->hash, "aead");
    cr_assert_str_eq(os_tls_info(p.tls)->protocol, "tlsv1.2");
    pair_close(&p);
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    cr_assert_str_eq(os_tls_info(p.tls)->cipher, "chacha20_poly1305");
    cr_assert_str_eq(os_tls_info(p.tls)->key_exchange, "any");
    cr_assert_str_eq(os_tls_info(p.tls)->protocol, "tlsv1.3");
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, whoever_asks_for_a_renegotiation_is_not_listened_to)
{
    struct pair p;
    pair_init(&p);
    pair_open(&p, NULL, TLS1_2_VERSION);
    cr_assert_eq(handshake(&p, 100000), 1);
    cr_assert_eq(SSL_renegotiate(p.client.ssl), 1);
    (void)SSL_do_handshake(p.client.ssl);
    (void)to_server(&p, 100000);
    expect_failure(&p, "it asked for a renegotiation");
    pair_close(&p);
    pair_deinit(&p);
}

Test(tls, a_damaged_record_ends_the_session)
{
    struct pair p;
    uint8_t data[500];
    pair_init(&p);
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    client_sends(&p, "intact");
    (void)to_server(&p, 100000);
    client_sends(&p, "damaged");
    int size = BIO_read(p.client.out, data, sizeof data);
    data[size - 1] ^= 1;
    feed(&p, data, (size_t)size);
    expect_read(&p, "intact");
    expect_failure(&p, "decryption failed or bad record mac");
    cr_assert_gt(p.out.size, 0); /* the alert */
    pair_close(&p);
    pair_deinit(&p);
}

/* --- who the peer is -------------------------------------------------------------------------- */

static void expect_slice(const struct slice *s, const char *text)
{
    cr_assert_eq(s->size, strlen(text), "%.*s", (int)s->size, (const char *)slice_data(s));
    cr_assert(s->size == 0 || memcmp(slice_data(s), text, s->size) == 0);
}

static void expect_login(struct pair *p, const char *name)
{
    pair_open(p, p->pki.client_cert, 0);
    cr_assert_eq(handshake(p, 100000), 1);
    const struct env_tls *info = os_tls_info(p->tls);
    cr_assert(info->verified);
    expect_slice(&info->login, name);
    pair_close(p);
}

Test(tls, names_are_what_rabbitmq_makes_of_the_certificate)
{
    static const char dn[] =
        "2.5.4.45=odd,CN=j\\C3\\BCrgen\\ +UID=u\\+1,OU=\\ #1,O=Acme\\, \\\"Ltd\\\"";
    static const struct {
        enum os_tls_san type;
        uint32_t index;
        const char *name;
    } rows[] = {{OS_TLS_SAN_DNS, 0, "a.example"}, {OS_TLS_SAN_DNS, 1, "b.example"},
                {OS_TLS_SAN_DNS, 2, ""},          {OS_TLS_SAN_IP, 0, "127.0.0.1"},
                {OS_TLS_SAN_IP, 1, "::1"},        {OS_TLS_SAN_EMAIL, 0, "e@x"},
                {OS_TLS_SAN_URI, 0, "urn:x"},     {OS_TLS_SAN_OTHER, 0, "upn@x"}};
    struct pair p;
    pair_init(&p);
    pair_open(&p, p.pki.client_cert, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    const struct env_tls *info = os_tls_info(p.tls);
    expect_slice(&info->subject, dn);
    expect_slice(&info->issuer, "2.5.4.45=odd,CN=ca+UID=u\\+1,OU=\\ #1,O=Acme\\, \\\"Ltd\\\"");
    cr_assert_eq(info->validity.size, 20 + 3 + 20);
    cr_assert_eq(memcmp(slice_data(&info->validity) + 19, "Z - ", 4), 0);
    pair_close(&p);
    expect_login(&p, dn);
    p.options.login_from = OS_TLS_LOGIN_CN;
    expect_login(&p, "j\xc3\xbcrgen ");
    p.options.login_from = OS_TLS_LOGIN_SAN;
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        p.options.san_type = rows[i].type;
        p.options.san_index = rows[i].index;
        expect_login(&p, rows[i].name);
    }
    pair_deinit(&p);
}

/* Without verify_peer nobody is asked who he is, and no name counts. */
Test(tls, what_was_not_verified_is_no_name)
{
    struct pair p;
    pair_init(&p);
    p.options.verify_peer = false;
    pair_open(&p, p.pki.client_cert, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    cr_assert_not(os_tls_info(p.tls)->verified);
    cr_assert_eq(os_tls_info(p.tls)->login.size, 0);
    cr_assert_eq(os_tls_info(p.tls)->subject.size, 0);
    pair_close(&p);
    pair_deinit(&p);
}

/* --- at start --------------------------------------------------------------------------------- */

static void cannot_start(const struct os_tls_options *options, const char *begin, const char *part)
{
    char errmsg[256] = "";
    struct os_tls_server *server = NULL;
    cr_assert_neq(os_tls_server_new(options, &server, errmsg), 0);
    cr_assert_eq(strncmp(errmsg, begin, strlen(begin)), 0, "%s", errmsg);
    cr_assert_not_null(strstr(errmsg, part), "%s", errmsg);
    cr_assert_null(server);
}

Test(tls, files_that_are_missing_or_wrong_are_named)
{
    struct pair p;
    pair_init(&p);
    struct os_tls_options o = p.options;
    o.certfile = p.pki.none;
    cannot_start(&o, "ssl_options.certfile: ", "none.pem: No such file or directory");
    o.certfile = p.pki.dir;
    cannot_start(&o, "ssl_options.certfile: ", ": Is a directory");
    o.certfile = p.pki.broken;
    cannot_start(&o, "ssl_options.certfile: ", "broken.pem: no start line");
    o.certfile = p.pki.client_cert;
    cannot_start(&o, "ssl_options.keyfile: ", "key values mismatch");
    o.certfile = NULL;
    cannot_start(&o, "ssl_options.certfile is not given", "");
    o = p.options;
    o.keyfile = p.pki.none;
    cannot_start(&o, "ssl_options.keyfile: ", "none.pem: No such file or directory");
    o.keyfile = p.pki.locked_key;
    cannot_start(&o, "ssl_options.keyfile: ", "locked.pem: ");
    o.password = "wrong";
    cannot_start(&o, "ssl_options.keyfile: ", "locked.pem: ");
    o.keyfile = NULL; /* the certificate's file, where there is none */
    cannot_start(&o, "ssl_options.keyfile: ", "cert.pem: ");
    o = p.options;
    o.cacertfile = p.pki.none;
    cannot_start(&o, "ssl_options.cacertfile: ", "none.pem: No such file or directory");
    o.cacertfile = p.pki.broken;
    cannot_start(&o, "ssl_options.cacertfile: ", "broken.pem: ");
    o = p.options;
    o.ciphers = "TLS_AES_128_GCM_SHA256:NO-SUCH";
    cannot_start(&o, "ssl_options.ciphers: 'NO-SUCH' is no cipher suite known here", "");
    o.ciphers = "TLS_AES_128_GCM_SHA256";
    o.tls13 = false;
    cannot_start(&o, "ssl_options.ciphers has none for ssl_options.versions", "");
    pair_deinit(&p);
}

Test(tls, a_locked_key_is_opened_with_its_password)
{
    struct pair p;
    pair_init(&p);
    p.options.keyfile = p.pki.locked_key;
    p.options.password = "secret";
    pair_open(&p, NULL, 0);
    cr_assert_eq(handshake(&p, 100000), 1);
    pair_close(&p);
    pair_deinit(&p);
}
