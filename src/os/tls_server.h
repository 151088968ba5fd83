#ifndef WR_OS_TLS_SERVER_H
#define WR_OS_TLS_SERVER_H
/* What tls.c and tls_server.c share. */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "warren/os.h"

struct os_tls_server {
    SSL_CTX *ctx;
    BIO_METHOD *bio;
    struct os_tls_options options; /* the texts are not kept */
};

BIO_METHOD *os_tls_bio_new(void); /* tls.c; NULL when memory is out */

#endif
