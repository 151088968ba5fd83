/* What: see tls_rig.h. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "tls_rig.h"

#define VALID_S (60L * 86400) /* no warning is due */

static EVP_PKEY *new_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    RIG_CHECK(key != NULL);
    return key;
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    RIG_CHECK(extension != NULL && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void add_name(X509_NAME *name, const char *type, const char *value, int set)
{
    RIG_CHECK(X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8, (const unsigned char *)value,
                                         -1, -1, set) == 1);
}

/* issuer NULL: of itself. Valid from a day ago until `seconds` from now. */
static X509 *new_cert(EVP_PKEY *key, const char *cn, X509 *issuer, EVP_PKEY *issuer_key,
                      long seconds)
{
    static long serial = 1;
    X509 *cert = X509_new();
    RIG_CHECK(cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    (void)X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
    (void)X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    add_name(name, "O", "Acme, \"Ltd\"", 0);
    add_name(name, "OU", " #1", 0);
    add_name(name, "CN", cn, 0);
    add_name(name, "UID", "u+1", -1); /* part of the one before */
    add_name(name, "2.5.4.45", "odd", 0);
    (void)X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer : cert));
    if (issuer == NULL) {
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
    } else {
        add_extension(cert, issuer, NID_subject_alt_name,
                      "DNS:a.example,IP:127.0.0.1,DNS:b.example,IP:::1,email:e@x,URI:urn:x,"
                      "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:upn@x");
    }
    RIG_CHECK(X509_sign(cert, issuer != NULL ? issuer_key : key, EVP_sha256()) > 0);
    return cert;
}

static FILE *create(char path[160], const char *dir, const char *name)
{
    (void)snprintf(path, 160, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    RIG_CHECK(file != NULL);
    return file;
}

static void write_cert(char path[160], const char *dir, const char *name, X509 *cert)
{
    FILE *file = create(path, dir, name);
    RIG_CHECK(PEM_write_X509(file, cert) == 1 && fclose(file) == 0);
}

static void write_key(char path[160], const char *dir, const char *name, EVP_PKEY *key,
                      const char *password)
{
    FILE *file = create(path, dir, name);
    const EVP_CIPHER *cipher = password != NULL ? EVP_aes_128_cbc() : NULL;
    int size = password != NULL ? (int)strlen(password) : 0;
    RIG_CHECK(PEM_write_PKCS8PrivateKey(file, key, cipher, password, size, NULL, NULL) == 1 &&
              fclose(file) == 0);
}

void pki_init(struct pki *pki)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(pki->dir, sizeof pki->dir, "%s/warren-tls-XXXXXX", base != NULL ? base : "/tmp");
    RIG_CHECK(mkdtemp(pki->dir) != NULL);
    EVP_PKEY *ca_key = new_key();
    EVP_PKEY *key = new_key();
    EVP_PKEY *client_key = new_key();
    X509 *ca = new_cert(ca_key, "ca", NULL, NULL, VALID_S);
    X509 *other_ca = new_cert(ca_key, "other", NULL, NULL, VALID_S);
    X509 *cert = new_cert(key, "localhost", ca, ca_key, VALID_S);
    X509 *client = new_cert(client_key, "j\xc3\xbcrgen ", ca, ca_key, VALID_S);
    X509 *expired = new_cert(client_key, "late", ca, ca_key, -3600);
    X509 *other = new_cert(client_key, "stranger", other_ca, ca_key, VALID_S);
    write_cert(pki->ca, pki->dir, "ca.pem", ca);
    write_cert(pki->cert, pki->dir, "cert.pem", cert);
    write_key(pki->key, pki->dir, "key.pem", key, NULL);
    write_key(pki->locked_key, pki->dir, "locked.pem", key, "secret");
    write_cert(pki->client_cert, pki->dir, "client.pem", client);
    write_key(pki->client_key, pki->dir, "client-key.pem", client_key, NULL);
    write_cert(pki->expired_cert, pki->dir, "expired.pem", expired);
    write_cert(pki->other_ca, pki->dir, "other-ca.pem", other_ca);
    write_cert(pki->other_cert, pki->dir, "other.pem", other);
    FILE *file = create(pki->broken, pki->dir, "broken.pem");
    RIG_CHECK(fputs("no PEM\n", file) >= 0 && fclose(file) == 0);
    (void)snprintf(pki->none, sizeof pki->none, "%s/none.pem", pki->dir);
    X509_free(ca), X509_free(other_ca), X509_free(cert), X509_free(client), X509_free(expired);
    X509_free(other), EVP_PKEY_free(ca_key), EVP_PKEY_free(key), EVP_PKEY_free(client_key);
}

void pki_deinit(struct pki *pki)
{
    const char *const files[] = {
        pki->ca,         pki->cert,     pki->key,          pki->locked_key, pki->client_cert,
        pki->client_key, pki->other_ca, pki->expired_cert, pki->other_cert, pki->broken};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        RIG_CHECK(unlink(files[i]) == 0);
    }
    RIG_CHECK(rmdir(pki->dir) == 0);
}

SSL_CTX *pki_client(const struct pki *pki, const char *cert, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    RIG_CHECK(ctx != NULL && SSL_CTX_load_verify_file(ctx, pki->ca) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (cert != NULL) {
        RIG_CHECK(SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM) == 1 &&
                  SSL_CTX_use_PrivateKey_file(ctx, pki->client_key, SSL_FILETYPE_PEM) == 1);
    }
    if (version != 0) {
        (void)SSL_CTX_set_min_proto_version(ctx, version);
        (void)SSL_CTX_set_max_proto_version(ctx, version);
    }
    return ctx;
}

void tls_client_init(struct tls_client *c, const struct pki *pki, const char *cert, int version)
{
    c->ctx = pki_client(pki, cert, version);
    c->ssl = SSL_new(c->ctx);
    c->in = BIO_new(BIO_s_mem());
    c->out = BIO_new(BIO_s_mem());
    RIG_CHECK(c->ssl != NULL && c->in != NULL && c->out != NULL);
    SSL_set_bio(c->ssl, c->in, c->out);
    SSL_set_connect_state(c->ssl);
}

void tls_client_deinit(struct tls_client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
}
