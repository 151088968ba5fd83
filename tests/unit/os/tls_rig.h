#ifndef WR_TEST_OS_TLS_RIG_H
#define WR_TEST_OS_TLS_RIG_H
/* Certificates made on the spot, in a temporary directory, and a TLS client that talks to memory.
 */
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pki {
    char dir[128];
    char ca[160], cert[160], key[160]; /* the server's */
    char client_cert[160], client_key[160];
    char expired_cert[160];                       /* the client's, with its key, no longer valid */
    char other_ca[160], other_cert[160];          /* of somebody else; the client's key */
    char locked_key[160], broken[160], none[160]; /* password "secret"; no PEM; no such file */
};
void pki_init(struct pki *pki);
void pki_deinit(struct pki *pki);
/* A context for clients: cert NULL = none; version 0 = any. */
SSL_CTX *pki_client(const struct pki *pki, const char *cert, int version);

/* A client session over two memory BIOs. */
struct tls_client {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};
void tls_client_init(struct tls_client *c, const struct pki *pki, const char *cert, int version);
void tls_client_deinit(struct tls_client *c);

#endif
