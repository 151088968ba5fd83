/*
 * New files of TLS (tls.h, os_tls_server_look): in every order they may come in, broken ones, links
 * that are flipped, other authorities, and what becomes of sessions that are there.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls.h"
#include "tls_rig.h"
#include "warren/mem.h"

struct site {
    struct pki pki;
    struct os_tls_options options;
    struct os_tls_server *server;
    char ca[160], cert[160], key[160]; /* what the options name */
    char errmsg[256];
};

static void copy(const char *from, const char *to)
{
    char data[8192];
    FILE *in = fopen(from, "r");
    FILE *out = fopen(to, "w");
    cr_assert(in != NULL && out != NULL);
    size_t n = fread(data, 1, sizeof data, in);
    cr_assert(n > 0 && n < sizeof data && fwrite(data, 1, n, out) == n);
    cr_assert(fclose(in) == 0 && fclose(out) == 0);
}

static void site_open(struct site *s)
{
    s->options = (struct os_tls_options){.cacertfile = s->ca,
                                         .certfile = s->cert,
                                         .keyfile = s->key,
                                         .verify_peer = true,
                                         .fail_if_no_peer_cert = true,
                                         .depth = 10,
                                         .tls12 = true,
                                         .tls13 = true};
    int rc = os_tls_server_new(&s->options, &s->server, s->errmsg);
    cr_assert_eq(rc, 0, "%s", s->errmsg);
}

static void site_init(struct site *s)
{
    *s = (struct site){.server = NULL};
    pki_init(&s->pki);
    (void)snprintf(s->ca, sizeof s->ca, "%.100s/used-ca.pem", s->pki.dir);
    (void)snprintf(s->cert, sizeof s->cert, "%.100s/used-cert.pem", s->pki.dir);
    (void)snprintf(s->key, sizeof s->key, "%.100s/used-key.pem", s->pki.dir);
    copy(s->pki.ca, s->ca);
    copy(s->pki.cert, s->cert);
    copy(s->pki.key, s->key);
    site_open(s);
}

static void site_deinit(struct site *s)
{
    os_tls_server_free(s->server);
    (void)unlink(s->ca);
    (void)unlink(s->cert);
    (void)unlink(s->key);
    pki_deinit(&s->pki);
}

static enum os_tls_look look(struct site *s)
{
    s->errmsg[0] = 0;
    return os_tls_server_look(s->server, s->errmsg);
}

/* The look that sees the change, and the one that finds it at rest. */
static enum os_tls_look change_is_seen(struct site *s)
{
    cr_assert_eq(look(s), OS_TLS_LOOK_NOTHING);
    return look(s);
}

static bool shows(struct site *s, const char *common_name)
{
    struct env_certificate certificate;
    os_tls_server_certificate(s->server, &certificate);
    return strstr(certificate.subject, common_name) != NULL;
}

static const char *problem(struct site *s)
{
    static struct env_certificate certificate;
    os_tls_server_certificate(s->server, &certificate);
    return certificate.problem;
}

/* --- sessions --------------------------------------------------------------------------------- */

struct session {
    struct os_tls *tls;
    struct sendq out;
    struct tls_client client;
};

static void session_begin(struct session *c, struct site *s, const char *client_cert)
{
    *c = (struct session){.tls = NULL};
    c->tls = os_tls_new(s->server, &c->out);
    tls_client_init(&c->client, &s->pki, client_cert, 0);
}

static void session_end(struct session *c)
{
    tls_client_deinit(&c->client);
    os_tls_free(c->tls);
    sendq_deinit(&c->out);
}

/* One step of the client and one of ours; false: nobody has anything to say. */
static bool step(struct session *c, char *plain, size_t size)
{
    uint8_t data[16384];
    (void)SSL_do_handshake(c->client.ssl);
    int n = BIO_read(c->client.out, data, (int)sizeof data);
    if (n > 0) {
        os_tls_feed(c->tls, data, (size_t)n);
        (void)os_tls_read(c->tls, (uint8_t *)plain, size);
        os_tls_feed(c->tls, NULL, 0);
    }
    bool more = n > 0 || c->out.size > 0;
    while (c->out.size > 0) {
        const struct slice *piece = &c->out.slices.items[c->out.head];
        uint32_t taken = piece->size;
        cr_assert_eq(BIO_write(c->client.in, slice_data(piece), (int)taken), (int)taken);
        sendq_consume(&c->out, taken);
    }
    return more;
}

static bool session_opens(struct session *c)
{
    char plain[64];
    while (step(c, plain, sizeof plain)) {
    }
    return os_tls_state(c->tls) == OS_TLS_OPEN;
}

static void expect_session_works(struct session *c)
{
    char plain[64] = "";
    cr_assert_eq(SSL_write(c->client.ssl, "hello", 5), 5);
    cr_assert(step(c, plain, sizeof plain));
    cr_assert_str_eq(plain, "hello");
    cr_assert(os_tls_write(c->tls, (const uint8_t *)"answer", 6));
    (void)step(c, plain, sizeof plain);
    cr_assert_eq(SSL_read(c->client.ssl, plain, (int)sizeof plain), 6);
}

/* Does a client get in, and does the server show the certificate of that name? */
static bool gets_in(struct site *s, const char *client_cert, const char *common_name)
{
    struct session c;
    char name[64] = "";
    session_begin(&c, s, client_cert);
    bool open = session_opens(&c);
    if (open) {
        const X509 *shown = SSL_get0_peer_certificate(c.client.ssl);
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name,
                                        (int)sizeof name);
        cr_assert_eq(strcmp(name, common_name), 0, "%s", name);
        expect_session_works(&c);
    }
    session_end(&c);
    return open;
}

/* --- a certificate and its key ---------------------------------------------------------------- */

#define NEW_NAME "j\xc3\xbcrgen " /* of the pki's other certificate, which is the client's */

Test(tls_files, without_a_change_nothing_is_read)
{
    struct site s;
    site_init(&s);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    }
    cr_assert(gets_in(&s, s.pki.client_cert, "localhost"));
    site_deinit(&s);
}

Test(tls_files, a_new_certificate_with_its_key_is_for_new_sessions)
{
    struct site s;
    struct session open, begun, middle;
    site_init(&s);
    session_begin(&open, &s, s.pki.client_cert);
    cr_assert(session_opens(&open));
    session_begin(&begun, &s, s.pki.client_cert);
    session_begin(&middle, &s, s.pki.client_cert);
    (void)step(&middle, (char[8]){0}, 8);
    copy(s.pki.client_cert, s.cert);
    copy(s.pki.client_key, s.key);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert(shows(&s, "CN=j"));
    cr_assert_str_empty(problem(&s));
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    cr_assert(gets_in(&s, s.pki.client_cert, NEW_NAME));
    expect_session_works(&open);
    cr_assert(session_opens(&begun) && session_opens(&middle));
    expect_session_works(&middle);
    session_end(&open), session_end(&begun), session_end(&middle);
    site_deinit(&s);
}

Test(tls_files, files_that_are_being_written_are_left_alone)
{
    struct site s;
    site_init(&s);
    copy(s.pki.client_cert, s.cert);
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    copy(s.pki.broken, s.key);
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    copy(s.pki.client_key, s.key);
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    cr_assert(gets_in(&s, s.pki.client_cert, "localhost"));
    cr_assert_eq(look(&s), OS_TLS_LOOK_LOADED);
    cr_assert(gets_in(&s, s.pki.client_cert, NEW_NAME));
    site_deinit(&s);
}

Test(tls_files, a_key_that_comes_late_is_told_of_once_and_then_used)
{
    struct site s;
    site_init(&s);
    copy(s.pki.client_cert, s.cert);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_REFUSED);
    cr_assert_not_null(strstr(s.errmsg, "used-key.pem: key values mismatch"), "%s", s.errmsg);
    cr_assert_str_eq(problem(&s), s.errmsg);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
        cr_assert(gets_in(&s, s.pki.client_cert, "localhost"));
    }
    copy(s.pki.client_key, s.key);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert_str_empty(problem(&s));
    cr_assert(gets_in(&s, s.pki.client_cert, NEW_NAME));
    site_deinit(&s);
}

Test(tls_files, broken_and_missing_files_leave_everything_as_it_was)
{
    struct site s;
    site_init(&s);
    copy(s.pki.broken, s.cert);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_REFUSED);
    cr_assert_not_null(strstr(s.errmsg, "ssl_options.certfile: "), "%s", s.errmsg);
    copy(s.pki.cert, s.cert);
    copy(s.pki.broken, s.ca); /* the certificate is good, the authorities are not */
    copy(s.pki.client_cert, s.cert);
    copy(s.pki.client_key, s.key);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_REFUSED);
    cr_assert_not_null(strstr(s.errmsg, "ssl_options.cacertfile: "), "%s", s.errmsg);
    cr_assert(unlink(s.key) == 0);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_REFUSED);
    cr_assert_not_null(strstr(s.errmsg, "used-key.pem: No such file"), "%s", s.errmsg);
    cr_assert(gets_in(&s, s.pki.client_cert, "localhost"));
    cr_assert(shows(&s, "CN=localhost"));
    site_deinit(&s);
}

Test(tls_files, a_new_key_may_be_locked_with_the_same_password)
{
    struct site s;
    site_init(&s);
    os_tls_server_free(s.server);
    char password[] = "secret";
    s.options.password = password;
    cr_assert_eq(os_tls_server_new(&s.options, &s.server, s.errmsg), 0);
    memset(password, 'x', 6); /* borrowed for the call only */
    copy(s.pki.locked_key, s.key);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert(gets_in(&s, s.pki.client_cert, "localhost"));
    site_deinit(&s);
}

/* --- links ------------------------------------------------------------------------------------ */

/* A new link is put over the old one in one step. */
static void flip(struct site *s, const char *target)
{
    char other[160], link[160];
    (void)snprintf(other, sizeof other, "%.100s/..tmp", s->pki.dir);
    (void)snprintf(link, sizeof link, "%.100s/..data", s->pki.dir);
    cr_assert(symlink(target, other) == 0 && rename(other, link) == 0);
}

static void link_to_data(struct site *s, const char *path, const char *name)
{
    char target[160];
    (void)snprintf(target, sizeof target, "%.100s/..data/%s", s->pki.dir, name);
    cr_assert(unlink(path) == 0 && symlink(target, path) == 0);
}

static void fill_folder(struct site *s, const char *name, const char *cert, const char *key)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%.100s/%s", s->pki.dir, name);
    cr_assert(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof path, "%.100s/%s/tls.crt", s->pki.dir, name);
    copy(cert, path);
    (void)snprintf(path, sizeof path, "%.100s/%s/tls.key", s->pki.dir, name);
    copy(key, path);
}

static void remove_folder(struct site *s, const char *name)
{
    static const char *const files[] = {"/tls.crt", "/tls.key", ""};
    char path[160];
    for (size_t i = 0; i < WR_ARRAY_SIZE(files); i++) {
        (void)snprintf(path, sizeof path, "%.100s/%s%s", s->pki.dir, name, files[i]);
        cr_assert(remove(path) == 0);
    }
}

Test(tls_files, a_link_to_a_folder_may_be_flipped)
{
    struct site s;
    char link[160];
    site_init(&s);
    os_tls_server_free(s.server);
    fill_folder(&s, "one", s.pki.cert, s.pki.key);
    fill_folder(&s, "two", s.pki.client_cert, s.pki.client_key);
    link_to_data(&s, s.cert, "tls.crt");
    link_to_data(&s, s.key, "tls.key");
    flip(&s, "one");
    site_open(&s);
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    flip(&s, "two");
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert(gets_in(&s, s.pki.client_cert, NEW_NAME));
    flip(&s, "nowhere");
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_REFUSED);
    cr_assert(gets_in(&s, s.pki.client_cert, NEW_NAME));
    flip(&s, "two"); /* just as they were: that, too, is the end of the trouble */
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert_str_empty(problem(&s));
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    remove_folder(&s, "one");
    remove_folder(&s, "two");
    (void)snprintf(link, sizeof link, "%.100s/..data", s.pki.dir);
    cr_assert(unlink(link) == 0);
    site_deinit(&s);
}

/* --- authorities ------------------------------------------------------------------------------ */

Test(tls_files, new_authorities_are_for_new_sessions)
{
    struct site s;
    struct session open;
    site_init(&s);
    session_begin(&open, &s, s.pki.client_cert);
    cr_assert(session_opens(&open));
    cr_assert_not(gets_in(&s, s.pki.other_cert, "localhost"));
    copy(s.pki.other_ca, s.ca);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    cr_assert(gets_in(&s, s.pki.other_cert, "localhost"));
    cr_assert_not(gets_in(&s, s.pki.client_cert, "localhost"));
    expect_session_works(&open);
    session_end(&open);
    site_deinit(&s);
}

Test(tls_files, authorities_that_nobody_asks_do_not_count)
{
    struct site s;
    site_init(&s);
    os_tls_server_free(s.server);
    s.options.verify_peer = s.options.fail_if_no_peer_cert = false;
    cr_assert_eq(os_tls_server_new(&s.options, &s.server, s.errmsg), 0);
    copy(s.pki.broken, s.ca);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_NOTHING);
    cr_assert_eq(look(&s), OS_TLS_LOOK_NOTHING);
    site_deinit(&s);
}

/* --- who we are ------------------------------------------------------------------------------- */

Test(tls_files, our_certificate_is_told)
{
    struct site s;
    struct env_certificate c;
    site_init(&s);
    os_tls_server_certificate(s.server, &c);
    cr_assert_not_null(strstr(c.subject, "CN=localhost"));
    cr_assert_not_null(strstr(c.issuer, "CN=ca"));
    cr_assert_eq(strlen(c.valid_until), 20);
    cr_assert_eq(c.valid_until[19], 'Z');
    cr_assert_eq(c.until_s - c.from_s, 61 * 86400);
    copy(s.pki.expired_cert, s.cert); /* is used all the same: it is what the operator wants */
    copy(s.pki.client_key, s.key);
    cr_assert_eq(change_is_seen(&s), OS_TLS_LOOK_LOADED);
    os_tls_server_certificate(s.server, &c);
    cr_assert_not_null(strstr(c.subject, "CN=late"));
    site_deinit(&s);
}
