#ifndef WR_OS_TLS_INTERNAL_H
#define WR_OS_TLS_INTERNAL_H
/* What the files of TLS share. */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "tls.h"

BIO_METHOD *os_tls_bio_new(void); /* tls.c; NULL when memory is out */

/* tls_context.c: reads certificate, key and authorities (blocking; any thread). WR_E_* with text in
 * errmsg[256]. */
int os_tls_context_new(const struct os_tls_options *options, SSL_CTX **ret_ctx, char *errmsg);
const char *os_tls_keyfile(const struct os_tls_options *options); /* the one that counts */

/* tls_server.c */
SSL_CTX *os_tls_server_ctx(struct os_tls_server *server); /* a reference of what is in use */
const BIO_METHOD *os_tls_server_bio(const struct os_tls_server *server);
const struct os_tls_options *os_tls_server_options(const struct os_tls_server *server);

/* tls_peer.c: whose certificate of ours it is, and for how long */
void os_tls_describe_own(const X509 *certificate, struct env_certificate *ret);

#endif
