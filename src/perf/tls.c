/*
 * What: TLS of the load generator's connections, over two memory BIOs.
 *
 * Happy path: tls_start puts the first flight into the output; what is read goes through
 * tls_receive, which also goes on with the handshake; what is to be written is sealed in place.
 * Failure modes: a text, which ends the connection. Ownership: a client owns its session. Without
 * an authority nothing is verified, as in PerfTest: this is a tool for loads, not for secrets.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "perf.h"

struct tls {
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    bool open;
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text != NULL ? text : "TLS failed";
}

WR_NORETURN static void cannot(const char *what, const char *file)
{
    fprintf(stderr, "warren-perf: %s %s: %s\n", what, file, reason());
    exit(2);
}

struct ssl_ctx_st *tls_context_new(const struct options *o)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        cannot("cannot use", "OpenSSL");
    }
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    if (o->ca_file != NULL && SSL_CTX_load_verify_file(ctx, o->ca_file) != 1) {
        cannot("--cacert", o->ca_file);
    }
    if (o->default_trust && SSL_CTX_set_default_verify_paths(ctx) != 1) {
        cannot("--use-default-ssl-context", "");
    }
    if (o->ca_file != NULL || o->default_trust) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    const char *key = o->key_file != NULL ? o->key_file : o->cert_file;
    if (o->cert_file != NULL && SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1) {
        cannot("--cert", o->cert_file);
    }
    if (key != NULL && SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        cannot("--key", key);
    }
    return ctx;
}

void tls_context_free(struct ssl_ctx_st *ctx)
{
    SSL_CTX_free(ctx);
}

struct tls *tls_new(struct ssl_ctx_st *ctx, const char *host)
{
    struct tls *t = wr_calloc(1, sizeof *t);
    t->ssl = SSL_new(ctx);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    WR_ASSERT(t->ssl != NULL && t->in != NULL && t->out != NULL);
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_connect_state(t->ssl);
    /* A name or an address: OpenSSL keeps them apart. */
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) != 1) {
        (void)SSL_set1_host(t->ssl, host);
        (void)SSL_set_tlsext_host_name(t->ssl, host);
    }
    ERR_clear_error();
    return t;
}

void tls_free(struct tls *t)
{
    if (t != NULL) {
        SSL_free(t->ssl);
        wr_free(t);
    }
}

static const char *why(struct tls *t, int rc)
{
    const int error = SSL_get_error(t->ssl, rc);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_ZERO_RETURN) {
        return NULL; /* the end of the stream follows by itself */
    }
    const long verified = SSL_get_verify_result(t->ssl);
    return verified != X509_V_OK ? X509_verify_cert_error_string(verified) : reason();
}

const char *tls_receive(struct tls *t, const void *data, size_t size, bool *ret_opened)
{
    *ret_opened = false;
    ERR_clear_error();
    if (size > 0 && BIO_write(t->in, data, (int)size) != (int)size) {
        return "out of memory";
    }
    if (!t->open) {
        const int rc = SSL_do_handshake(t->ssl);
        if (rc != 1) {
            return why(t, rc);
        }
        t->open = *ret_opened = true;
    }
    return NULL;
}

const char *tls_read(struct tls *t, void *data, size_t size, size_t *ret_size)
{
    *ret_size = 0;
    if (!t->open) {
        return NULL;
    }
    ERR_clear_error();
    const int rc = SSL_read_ex(t->ssl, data, size, ret_size);
    return rc == 1 ? NULL : why(t, rc);
}

size_t tls_pending(const struct tls *t)
{
    return (size_t)BIO_ctrl_pending(t->out);
}

void tls_seal(struct tls *t, struct out *o)
{
    size_t n = 0;
    ERR_clear_error();
    if (o->size > 0) {
        WR_ASSERT(t->open);
        if (SSL_write_ex(t->ssl, o->data, o->size, &n) != 1) {
            o->size = 0; /* the peer broke it off, and reading tells */
            return;
        }
    }
    o->size = 0;
    const size_t size = tls_pending(t);
    if (o->capacity < size) {
        o->data = wr_realloc(o->data, size);
        o->capacity = size;
    }
    const int got = BIO_read(t->out, o->data, (int)size);
    o->size = got > 0 ? (size_t)got : 0;
}
