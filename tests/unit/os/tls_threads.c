/*
 * What: sessions of TLS are made and used by several threads while another exchanges the files they
 * are made of, for ThreadSanitizer (Criterion does not run under it, so this is a plain program).
 * Each client must see one of the two certificates, and all of its session must work.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "tls.h"
#include "tls_rig.h"

enum { THREADS = 3, SESSIONS = 120, EXCHANGES_MIN = 20 };

static struct pki pki;
static struct os_tls_server *server;
static char cert[160], key[160];
static _Atomic uint32_t threads_left, exchanges;

static void copy(const char *from, const char *to)
{
    char data[8192];
    char next[200];
    (void)snprintf(next, sizeof next, "%s.next", to);
    FILE *in = fopen(from, "r");
    FILE *out = fopen(next, "w");
    RIG_CHECK(in != NULL && out != NULL);
    size_t n = fread(data, 1, sizeof data, in);
    RIG_CHECK(n > 0 && fwrite(data, 1, n, out) == n);
    RIG_CHECK(fclose(in) == 0 && fclose(out) == 0 && rename(next, to) == 0);
}

static void session(void)
{
    struct sendq out = {0};
    struct tls_client client;
    uint8_t data[16384];
    uint8_t plain[64];
    struct os_tls *tls = os_tls_new(server, &out);
    tls_client_init(&client, &pki, pki.client_cert, 0);
    while (SSL_do_handshake(client.ssl) != 1 || os_tls_state(tls) != OS_TLS_OPEN) {
        int n = BIO_read(client.out, data, (int)sizeof data);
        os_tls_feed(tls, data, n > 0 ? (size_t)n : 0);
        (void)os_tls_read(tls, plain, sizeof plain);
        os_tls_feed(tls, NULL, 0);
        RIG_CHECK(os_tls_state(tls) == OS_TLS_HANDSHAKE || os_tls_state(tls) == OS_TLS_OPEN);
        while (out.size > 0) {
            const struct slice *piece = &out.slices.items[out.head];
            uint32_t taken = piece->size;
            RIG_CHECK(BIO_write(client.in, slice_data(piece), (int)taken) == (int)taken);
            sendq_consume(&out, taken);
        }
    }
    RIG_CHECK(os_tls_info(tls)->verified);
    RIG_CHECK(SSL_write(client.ssl, "hello", 5) == 5);
    int n = BIO_read(client.out, data, (int)sizeof data);
    RIG_CHECK(n > 0);
    os_tls_feed(tls, data, (size_t)n);
    RIG_CHECK(os_tls_read(tls, plain, sizeof plain) == 5 && memcmp(plain, "hello", 5) == 0);
    tls_client_deinit(&client);
    os_tls_free(tls);
    sendq_deinit(&out);
}

/* As fast as it can: what a session is made of is exchanged just then. */
static void *make_and_free(void *arg)
{
    (void)arg;
    while (atomic_load_explicit(&threads_left, memory_order_relaxed) > 0) {
        struct sendq out = {0};
        os_tls_free(os_tls_new(server, &out));
    }
    return NULL;
}

/* Sessions go on until the files have been exchanged often enough under them. */
static void *make_sessions(void *arg)
{
    struct env_certificate certificate;
    (void)arg;
    for (int i = 0; i < SESSIONS || atomic_load(&exchanges) < EXCHANGES_MIN; i++) {
        session();
        os_tls_server_certificate(server, &certificate);
        RIG_CHECK(certificate.until_s > certificate.from_s);
    }
    (void)atomic_fetch_sub(&threads_left, 1);
    return NULL;
}

static void exchange(bool second)
{
    char errmsg[256];
    copy(second ? pki.client_cert : pki.cert, cert);
    (void)os_tls_server_look(server, errmsg); /* sees the change */
    (void)os_tls_server_look(server, errmsg); /* without its key it is refused */
    copy(second ? pki.client_key : pki.key, key);
    RIG_CHECK(os_tls_server_look(server, errmsg) == OS_TLS_LOOK_NOTHING);
    RIG_CHECK(os_tls_server_look(server, errmsg) == OS_TLS_LOOK_LOADED);
    (void)atomic_fetch_add(&exchanges, 1);
}

int main(void)
{
    pthread_t threads[THREADS], hurried;
    char errmsg[256] = "";
    pki_init(&pki);
    (void)snprintf(cert, sizeof cert, "%.100s/used-cert.pem", pki.dir);
    (void)snprintf(key, sizeof key, "%.100s/used-key.pem", pki.dir);
    copy(pki.cert, cert);
    copy(pki.key, key);
    const struct os_tls_options options = {.cacertfile = pki.ca,
                                           .certfile = cert,
                                           .keyfile = key,
                                           .verify_peer = true,
                                           .depth = 10,
                                           .tls12 = true,
                                           .tls13 = true};
    RIG_CHECK(os_tls_server_new(&options, &server, errmsg) == 0);
    atomic_store(&threads_left, THREADS);
    for (int i = 0; i < THREADS; i++) {
        RIG_CHECK(pthread_create(&threads[i], NULL, make_sessions, NULL) == 0);
    }
    RIG_CHECK(pthread_create(&hurried, NULL, make_and_free, NULL) == 0);
    for (uint32_t i = 0; atomic_load(&threads_left) > 0; i++) {
        exchange(i % 2 == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        RIG_CHECK(pthread_join(threads[i], NULL) == 0);
    }
    RIG_CHECK(pthread_join(hurried, NULL) == 0);
    os_tls_server_free(server);
    RIG_CHECK(unlink(cert) == 0 && unlink(key) == 0);
    pki_deinit(&pki);
    return 0;
}
