/*
 * What: TLS sessions over OpenSSL, server side (tls.h).
 *
 * Happy path: os_tls_feed lends the session the bytes that came; os_tls_read lets OpenSSL take them
 * through a BIO that reads straight from there and writes straight into the connection's send
 * queue, so that ciphertext is copied once each way and an idle session keeps no buffer.
 *
 * Failure modes: whatever the peer does wrong ends in OS_TLS_FAILED with one text; OpenSSL puts the
 * alert into the queue. Renegotiation is such a wrong, too.
 *
 * Invariants: I1 after os_tls_read has returned 0 no byte of the input is needed any more (a part
 * of a record is kept by OpenSSL). I2 the state only goes forward. I3 OpenSSL's error queue, which
 * is the thread's, is empty before each call.
 *
 * Threads: a session belongs to one context; the server may be used from all of them.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#include "warren/mem.h"

#include "tls_internal.h"

struct os_tls {
    struct os_tls_server *server;
    SSL *ssl;
    const uint8_t *input;
    size_t input_size;
    struct sendq *out;
    enum os_tls_state state;
    bool renegotiates, shut, begun;
    bool speaks_amqp; /* its first bytes are those of AMQP without TLS */
    struct env_tls *info;
    char failure[256];
};

/* --- the BIO ---------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *data, int size)
{
    struct os_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->input_size == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = tls->input_size < (size_t)size ? tls->input_size : (size_t)size;
    memcpy(data, tls->input, n);
    tls->input += n;
    tls->input_size -= n;
    return (int)n;
}

/* OpenSSL hands over whole records. */
static int bio_write(BIO *bio, const char *data, int size)
{
    struct os_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size > 0) {
        sendq_push(tls->out, slice_copy(data, (size_t)size));
    }
    return size;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *os_tls_bio_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
    if (method != NULL) {
        (void)BIO_meth_set_read(method, bio_read);
        (void)BIO_meth_set_write(method, bio_write);
        (void)BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

/* --- life of a session ------------------------------------------------------------------------ */

/* OpenSSL answers a renegotiation with a warning and goes on; whoever tries is not listened to. */
static void on_info(const SSL *ssl, int where, int what)
{
    struct os_tls *tls = SSL_get_app_data(ssl);
    if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT &&
        (what & 0xff) == SSL_AD_NO_RENEGOTIATION) {
        tls->renegotiates = true;
    }
}

struct os_tls *os_tls_new(struct os_tls_server *server, struct sendq *out)
{
    struct os_tls *tls = wr_calloc(1, sizeof *tls);
    tls->server = server;
    tls->out = out;
    ERR_clear_error();
    SSL_CTX *ctx = os_tls_server_ctx(server);
    tls->ssl = SSL_new(ctx); /* which has a reference of its own */
    SSL_CTX_free(ctx);
    BIO *bio = BIO_new(os_tls_server_bio(server));
    if (tls->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        tls->state = OS_TLS_FAILED;
        (void)snprintf(tls->failure, sizeof tls->failure, "out of memory");
        return tls;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_info_callback(tls->ssl, on_info);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void os_tls_free(struct os_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_free(tls->ssl);
    if (tls->info != NULL) {
        env_tls_deinit(tls->info);
        wr_free(tls->info);
    }
    wr_free(tls);
}

enum os_tls_state os_tls_state(const struct os_tls *tls)
{
    return tls->state;
}

const char *os_tls_failure(const struct os_tls *tls)
{
    return tls->failure;
}

const struct env_tls *os_tls_info(const struct os_tls *tls)
{
    return tls->info;
}

/* --- failures --------------------------------------------------------------------------------- */

static void fail(struct os_tls *tls, const char *text)
{
    tls->state = OS_TLS_FAILED;
    (void)snprintf(tls->failure, sizeof tls->failure, "%s", text);
}

static void fail_as_openssl_says(struct os_tls *tls)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(error);
    char text[sizeof tls->failure];
    if (tls->speaks_amqp) {
        fail(tls, "AMQP without TLS on a port for TLS");
        return;
    }
    if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
        ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        (void)snprintf(text, sizeof text, "its certificate is not accepted: %s",
                       X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)));
        fail(tls, text);
        return;
    }
    fail(tls, reason != NULL ? reason : "broken TLS");
}

/* --- reading ---------------------------------------------------------------------------------- */

static void handshake_done(struct os_tls *tls)
{
    const struct os_tls_options *options = os_tls_server_options(tls->server);
    tls->info = wr_calloc(1, sizeof *tls->info);
    (void)snprintf(tls->info->protocol, sizeof tls->info->protocol, "%s",
                   SSL_version(tls->ssl) == TLS1_3_VERSION ? "tlsv1.3" : "tlsv1.2");
    os_tls_describe_cipher(SSL_get_current_cipher(tls->ssl), tls->info);
    const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    if (options->verify_peer && certificate != NULL &&
        SSL_get_verify_result(tls->ssl) == X509_V_OK) {
        tls->info->verified = true;
        os_tls_describe_peer(options, certificate, tls->info);
    }
    tls->state = OS_TLS_OPEN;
}

void os_tls_feed(struct os_tls *tls, const uint8_t *data, size_t size)
{
    tls->input = data;
    tls->input_size = size;
    if (!tls->begun && size > 0) {
        tls->begun = true;
        tls->speaks_amqp = size >= 4 && memcmp(data, "AMQP", 4) == 0;
    }
}

static void stopped(struct os_tls *tls, int rc)
{
    int error = SSL_get_error(tls->ssl, rc);
    if (error == SSL_ERROR_ZERO_RETURN) {
        tls->state = OS_TLS_ENDED;
    } else if (error != SSL_ERROR_WANT_READ) {
        fail_as_openssl_says(tls);
    }
}

size_t os_tls_read(struct os_tls *tls, uint8_t *data, size_t size)
{
    size_t total = 0;
    while (total < size && tls->state < OS_TLS_ENDED) {
        size_t n = 0;
        ERR_clear_error();
        int rc = tls->state == OS_TLS_HANDSHAKE
                     ? SSL_do_handshake(tls->ssl)
                     : SSL_read_ex(tls->ssl, data + total, size - total, &n);
        total += n;
        if (tls->renegotiates) {
            fail(tls, "it asked for a renegotiation");
        } else if (rc <= 0) {
            stopped(tls, rc);
            break;
        } else if (tls->state == OS_TLS_HANDSHAKE) {
            handshake_done(tls);
        }
    }
    return total;
}

/* --- writing ---------------------------------------------------------------------------------- */

bool os_tls_write(struct os_tls *tls, const uint8_t *data, size_t size)
{
    size_t n = 0;
    WR_ASSERT(tls->state == OS_TLS_OPEN);
    WR_ASSERT_OP(size, <=, OS_TLS_RECORD);
    ERR_clear_error();
    if (SSL_write_ex(tls->ssl, data, size, &n) <= 0 || n != size) {
        fail_as_openssl_says(tls);
        return false;
    }
    return true;
}

void os_tls_shutdown(struct os_tls *tls)
{
    if (tls->shut || (tls->state != OS_TLS_OPEN && tls->state != OS_TLS_ENDED)) {
        return;
    }
    tls->shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl); /* into memory: it cannot fail for want of room */
}
