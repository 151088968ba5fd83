#ifndef WR_OS_TLS_H
#define WR_OS_TLS_H
/*
 * TLS between a byte stream and its user, without sockets (docs/tls.md). Ciphertext goes in with
 * os_tls_feed and comes out in a send queue; plaintext comes out of os_tls_read and goes in with
 * os_tls_write. Nothing of a session blocks, calls back or logs. A server belongs to the node; what
 * it has of its files may be exchanged at any time, and a session keeps what it began with. A
 * session belongs to one context.
 */
#include "warren/env.h"
#include "warren/os.h"

#include "sendq.h"

#define OS_TLS_RECORD 16384u /* plaintext in one record, at most */

struct os_tls_server;
/* Reads certificate, key and authorities (blocking). WR_E_* with text in errmsg[256]. */
int os_tls_server_new(const struct os_tls_options *options, struct os_tls_server **ret_server,
                      char *errmsg);
void os_tls_server_free(struct os_tls_server *server); /* accepts NULL */
/* Looks whether the files have changed and are at rest, and reads them if so (blocking; one caller
 * at a time, of any thread). LOADED: sessions made from now on use what was read. REFUSED: nothing
 * of it is used, and errmsg[256] says why; it is returned once for each change of the files. */
enum os_tls_look { OS_TLS_LOOK_NOTHING, OS_TLS_LOOK_LOADED, OS_TLS_LOOK_REFUSED };
enum os_tls_look os_tls_server_look(struct os_tls_server *server, char *errmsg);
/* Our certificate that is in use. Any thread. */
void os_tls_server_certificate(struct os_tls_server *server, struct env_certificate *ret);

enum os_tls_state {
    OS_TLS_HANDSHAKE,
    OS_TLS_OPEN,
    OS_TLS_ENDED,  /* the peer's close_notify came: nothing more can be read */
    OS_TLS_FAILED, /* see os_tls_failure; an alert for the peer may be in the queue */
};

struct os_tls;
/* out: where ciphertext is put; borrowed for the session's life, as is the server. Any thread. */
struct os_tls *os_tls_new(struct os_tls_server *server, struct sendq *out);
void os_tls_free(struct os_tls *tls); /* accepts NULL */
enum os_tls_state os_tls_state(const struct os_tls *tls);
/* Ciphertext from the peer; borrowed until os_tls_read returns 0, which has then used all of it. */
void os_tls_feed(struct os_tls *tls, const uint8_t *data, size_t size);
/* Handshakes and decrypts; bytes of plaintext. 0: the input is used up, or the state tells. */
size_t os_tls_read(struct os_tls *tls, uint8_t *data, size_t size);
/* All of it, at most OS_TLS_RECORD, in OS_TLS_OPEN only; false: the session has failed. */
bool os_tls_write(struct os_tls *tls, const uint8_t *data, size_t size);
void os_tls_shutdown(struct os_tls *tls); /* puts close_notify into the queue, once */
/* What is wrong with a failed session; for the event log. */
const char *os_tls_failure(const struct os_tls *tls);
/* What was negotiated, and who the peer is; NULL before OS_TLS_OPEN. */
const struct env_tls *os_tls_info(const struct os_tls *tls);

/* tls_peer.c */
struct x509_st;
struct ssl_cipher_st;
/* Distinguished names, validity and the user's name from a verified certificate. */
void os_tls_describe_peer(const struct os_tls_options *options, const struct x509_st *certificate,
                          struct env_tls *info);
/* Erlang's words for a cipher suite, as RabbitMQ's listings have them. */
void os_tls_describe_cipher(const struct ssl_cipher_st *cipher, struct env_tls *info);

#endif
