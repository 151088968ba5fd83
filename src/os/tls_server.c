/*
 * What: the TLS server of a node: the SSL_CTX that is in use, and its successor when the files of
 * it have changed (docs/tls.md, New certificates).
 *
 * Happy path: os_tls_server_look finds the files changed, and as the look before found them; they
 * are read, and the new SSL_CTX takes the old one's place. Sessions keep the one they began with.
 *
 * Failure modes: files that cannot be read, or do not belong together: the old ones stay in use,
 * and every look tries again. That is told once for each change of the files.
 *
 * Invariants: I1 what is in use is of one reading, during which no file has changed. I2 the stamp
 * of what is in use was taken before its files were read: what changes meanwhile is seen later.
 *
 * Threads: `lock` guards what sessions are made of and what is told of it. The stamps are of
 * whoever looks. All else is not changed once it is made.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "tls_internal.h"

enum { FILE_CERTIFICATE, FILE_KEY, FILE_AUTHORITIES, FILES };

/* Of a file, through links; only compared. All of one size, so that there are no gaps. */
struct file_stamp {
    int64_t error; /* errno; the rest is 0 then */
    uint64_t device, inode;
    int64_t size, modified_s, modified_ns, changed_s, changed_ns;
};

struct stamp {
    struct file_stamp files[FILES];
};

struct os_tls_server {
    struct os_tls_options options; /* with texts of our own */
    BIO_METHOD *bio;
    pthread_mutex_t lock;
    SSL_CTX *ctx;
    struct env_certificate certificate;
    struct stamp in_use, seen, told; /* of what is in use; at the last look; of the last refusal */
};

/* --- stamps ----------------------------------------------------------------------------------- */

static void stamp_file(struct file_stamp *ret, const char *path)
{
    struct stat st;
    *ret = (struct file_stamp){.error = 0};
    if (path == NULL || stat(path, &st) != 0) {
        ret->error = path == NULL ? ENOENT : errno;
        return;
    }
    ret->device = (uint64_t)st.st_dev;
    ret->inode = (uint64_t)st.st_ino;
    ret->size = (int64_t)st.st_size;
    ret->modified_s = (int64_t)st.st_mtim.tv_sec;
    ret->modified_ns = (int64_t)st.st_mtim.tv_nsec;
    ret->changed_s = (int64_t)st.st_ctim.tv_sec; /* also of rights and names */
    ret->changed_ns = (int64_t)st.st_ctim.tv_nsec;
}

static struct stamp stamp_now(const struct os_tls_options *options)
{
    struct stamp stamp = {.files = {{.error = 0}}};
    stamp_file(&stamp.files[FILE_CERTIFICATE], options->certfile);
    stamp_file(&stamp.files[FILE_KEY], os_tls_keyfile(options));
    if (options->verify_peer) { /* nobody reads it otherwise */
        stamp_file(&stamp.files[FILE_AUTHORITIES], options->cacertfile);
    }
    return stamp;
}

static bool same(const struct stamp *a, const struct stamp *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    return text == NULL ? NULL : wr_strdup(text);
}

static void free_text(const char *owned)
{
    wr_free((void *)(uintptr_t)owned);
}

int os_tls_server_new(const struct os_tls_options *options, struct os_tls_server **ret_server,
                      char *errmsg)
{
    struct stamp stamp = stamp_now(options);
    SSL_CTX *ctx = NULL;
    int rc = os_tls_context_new(options, &ctx, errmsg);
    if (rc != 0) {
        return rc;
    }
    struct os_tls_server *server = wr_calloc(1, sizeof *server);
    server->options = *options;
    server->options.cacertfile = copy(options->cacertfile);
    server->options.certfile = copy(options->certfile);
    server->options.keyfile = copy(options->keyfile);
    server->options.password = copy(options->password);
    server->options.ciphers = copy(options->ciphers);
    server->ctx = ctx;
    server->in_use = server->seen = stamp;
    (void)pthread_mutex_init(&server->lock, NULL);
    os_tls_describe_own(SSL_CTX_get0_certificate(ctx), &server->certificate);
    server->bio = os_tls_bio_new();
    if (server->bio == NULL) {
        (void)snprintf(errmsg, 256, "TLS: out of memory");
        os_tls_server_free(server);
        return WR_E_NOMEM;
    }
    *ret_server = server;
    return 0;
}

void os_tls_server_free(struct os_tls_server *server)
{
    if (server == NULL) {
        return;
    }
    free_text(server->options.cacertfile);
    free_text(server->options.certfile);
    free_text(server->options.keyfile);
    free_text(server->options.password);
    free_text(server->options.ciphers);
    SSL_CTX_free(server->ctx);
    BIO_meth_free(server->bio);
    (void)pthread_mutex_destroy(&server->lock);
    wr_free(server);
}

SSL_CTX *os_tls_server_ctx(struct os_tls_server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    SSL_CTX *ctx = server->ctx;
    int rc = SSL_CTX_up_ref(ctx);
    (void)pthread_mutex_unlock(&server->lock);
    WR_ASSERT(rc == 1); /* it only counts */
    return ctx;
}

const BIO_METHOD *os_tls_server_bio(const struct os_tls_server *server)
{
    return server->bio;
}

const struct os_tls_options *os_tls_server_options(const struct os_tls_server *server)
{
    return &server->options;
}

void os_tls_server_certificate(struct os_tls_server *server, struct env_certificate *ret)
{
    (void)pthread_mutex_lock(&server->lock);
    *ret = server->certificate;
    (void)pthread_mutex_unlock(&server->lock);
}

/* --- new files -------------------------------------------------------------------------------- */

static enum os_tls_look load(struct os_tls_server *server, const struct stamp *stamp)
{
    SSL_CTX *ctx = NULL;
    struct env_certificate certificate = {.problem = ""};
    char errmsg[256] = "";
    bool good = os_tls_context_new(&server->options, &ctx, errmsg) == 0;
    struct stamp after = stamp_now(&server->options);
    if (!same(&after, stamp)) { /* half of it may be old: the next looks wait for it to rest */
        SSL_CTX_free(ctx);
        return OS_TLS_LOOK_NOTHING;
    }
    if (good) {
        os_tls_describe_own(SSL_CTX_get0_certificate(ctx), &certificate);
        server->in_use = *stamp;
    }
    (void)pthread_mutex_lock(&server->lock);
    SSL_CTX *old = good ? server->ctx : NULL;
    if (good) {
        server->ctx = ctx;
        server->certificate = certificate;
    } else {
        memcpy(server->certificate.problem, errmsg, sizeof errmsg);
    }
    (void)pthread_mutex_unlock(&server->lock);
    SSL_CTX_free(old);
    if (good) {
        server->told = (struct stamp){.files = {{.error = 0}}};
        return OS_TLS_LOOK_LOADED;
    }
    if (same(stamp, &server->told)) {
        return OS_TLS_LOOK_NOTHING;
    }
    server->told = *stamp;
    return OS_TLS_LOOK_REFUSED;
}

enum os_tls_look os_tls_server_look(struct os_tls_server *server, char *errmsg)
{
    struct env_certificate certificate;
    struct stamp stamp = stamp_now(&server->options);
    bool rests = same(&stamp, &server->seen);
    server->seen = stamp;
    os_tls_server_certificate(server, &certificate);
    /* After a refusal the old files may be there again, untouched (a volume that was away). */
    if (!rests || (same(&stamp, &server->in_use) && certificate.problem[0] == 0)) {
        return OS_TLS_LOOK_NOTHING;
    }
    enum os_tls_look look = load(server, &stamp);
    os_tls_server_certificate(server, &certificate);
    memcpy(errmsg, certificate.problem, sizeof certificate.problem);
    return look;
}
