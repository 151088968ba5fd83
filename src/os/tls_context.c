/*
 * What: the TLS server's certificate, key, authorities and rules, as an SSL_CTX.
 *
 * Failure modes: a file that is missing, unreadable or wrong, a key that does not belong to the
 * certificate, a cipher that nobody knows: a text that names the setting and the file.
 *
 * Sessions are not resumed: a ticket would outlive the verification of the client's certificate,
 * and clients of a broker keep their connections. Compression and renegotiation are off.
 *
 * Ownership: the caller owns the SSL_CTX. Threads: any; blocking.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "warren/err.h"

#include "tls_internal.h"

#define CIPHERS_MAX 4096u

static int wrong_file(char *errmsg, const char *setting, const char *path, const char *why)
{
    (void)snprintf(errmsg, 256, "ssl_options.%s: %.120s: %.80s", setting, path, why);
    return WR_E_INVALID;
}

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    return reason != NULL ? reason : "not what it should be";
}

/* OpenSSL's own words for a file that is not there are none for people. */
static int check_readable(const char *setting, const char *path, char *errmsg)
{
    if (path == NULL || path[0] == 0) {
        (void)snprintf(errmsg, 256, "ssl_options.%s is not given", setting);
        return WR_E_INVALID;
    }
    FILE *file = fopen(path, "re");
    char byte;
    size_t n = file != NULL ? fread(&byte, 1, 1, file) : 0;
    int error = errno;
    if (file == NULL || ferror(file)) {
        if (file != NULL) {
            (void)fclose(file);
        }
        return wrong_file(errmsg, setting, path, strerror(error));
    }
    (void)fclose(file);
    return n == 1 ? 0 : wrong_file(errmsg, setting, path, "it is empty");
}

/* Without this OpenSSL would ask on the terminal. */
static int on_password(char *out, int size, int writing, void *user)
{
    const char *password = user;
    size_t n = password == NULL ? 0 : strlen(password);
    (void)writing;
    if (n == 0 || n > (size_t)size) {
        return -1;
    }
    memcpy(out, password, n);
    return (int)n;
}

const char *os_tls_keyfile(const struct os_tls_options *options)
{
    return options->keyfile != NULL && options->keyfile[0] != 0 ? options->keyfile
                                                                : options->certfile;
}

static int load_identity(SSL_CTX *ctx, const struct os_tls_options *options, char *errmsg)
{
    const char *key = os_tls_keyfile(options);
    int rc = check_readable("certfile", options->certfile, errmsg);
    rc = rc != 0 ? rc : check_readable("keyfile", key, errmsg);
    if (rc != 0) {
        return rc;
    }
    SSL_CTX_set_default_passwd_cb(ctx, on_password);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, (void *)(uintptr_t)options->password);
    if (SSL_CTX_use_certificate_chain_file(ctx, options->certfile) != 1) {
        return wrong_file(errmsg, "certfile", options->certfile, openssl_reason());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        return wrong_file(errmsg, "keyfile", key, openssl_reason());
    }
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    return SSL_CTX_check_private_key(ctx) == 1
               ? 0
               : wrong_file(errmsg, "keyfile", key, "it does not belong to the certificate");
}

static int load_authorities(SSL_CTX *ctx, const struct os_tls_options *options, char *errmsg)
{
    int mode = SSL_VERIFY_PEER;
    if (!options->verify_peer) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    int rc = check_readable("cacertfile", options->cacertfile, errmsg);
    if (rc != 0) {
        return rc;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->cacertfile);
    if (names == NULL || SSL_CTX_load_verify_file(ctx, options->cacertfile) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return wrong_file(errmsg, "cacertfile", options->cacertfile, openssl_reason());
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    if (options->fail_if_no_peer_cert) {
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ctx, mode, NULL);
    SSL_CTX_set_verify_depth(ctx, (int)options->depth);
    return 0;
}

struct cipher_lists {
    char old[CIPHERS_MAX], new[CIPHERS_MAX]; /* up to TLS 1.2, and of TLS 1.3; ':' between */
};

static bool is_suite_of_13(const char *name)
{
    return strncmp(name, "TLS_", 4) == 0 && strstr(name, "_WITH_") == NULL;
}

static bool add_name(char *list, const char *name)
{
    size_t used = strlen(list);
    int n = snprintf(list + used, CIPHERS_MAX - used, "%s%s", used > 0 ? ":" : "", name);
    return n > 0 && (size_t)n < CIPHERS_MAX - used;
}

static int sort_ciphers(SSL_CTX *ctx, const char *names, struct cipher_lists *lists, char *errmsg)
{
    while (*names != 0) {
        char name[128];
        size_t n = strcspn(names, ":");
        bool known = n > 0 && n < sizeof name;
        if (known) {
            memcpy(name, names, n);
            name[n] = 0;
            if (is_suite_of_13(name)) {
                known = SSL_CTX_set_ciphersuites(ctx, name) == 1 && add_name(lists->new, name);
            } else {
                const char *own = OPENSSL_cipher_name(name); /* of the standard's name */
                const char *used = strncmp(name, "TLS_", 4) == 0 ? own : name;
                known = SSL_CTX_set_cipher_list(ctx, used) == 1 && add_name(lists->old, used);
            }
        }
        if (!known) {
            (void)snprintf(errmsg, 256, "ssl_options.ciphers: '%.*s' is no cipher suite known here",
                           (int)(n < 100 ? n : 100), names);
            return WR_E_INVALID;
        }
        names += n;
        names += *names == ':';
    }
    return 0;
}

/* What is not listed is not offered: without a suite of its own a version is none, either. */
static int set_ciphers(SSL_CTX *ctx, const struct os_tls_options *options, char *errmsg)
{
    struct cipher_lists lists = {.old = ""};
    bool v12 = options->tls12;
    bool v13 = options->tls13;
    if (options->ciphers != NULL && options->ciphers[0] != 0) {
        int rc = sort_ciphers(ctx, options->ciphers, &lists, errmsg);
        if (rc != 0) {
            return rc;
        }
        v12 = v12 && lists.old[0] != 0;
        v13 = v13 && lists.new[0] != 0;
        if ((v12 && SSL_CTX_set_cipher_list(ctx, lists.old) != 1) ||
            (v13 && SSL_CTX_set_ciphersuites(ctx, lists.new) != 1)) {
            (void)snprintf(errmsg, 256, "ssl_options.ciphers: %.100s", openssl_reason());
            return WR_E_INVALID;
        }
    }
    if (!v12 && !v13) {
        (void)snprintf(errmsg, 256, "ssl_options.ciphers has none for ssl_options.versions");
        return WR_E_INVALID;
    }
    (void)SSL_CTX_set_min_proto_version(ctx, v12 ? TLS1_2_VERSION : TLS1_3_VERSION);
    (void)SSL_CTX_set_max_proto_version(ctx, v13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    return 0;
}

static void set_rules(SSL_CTX *ctx, const struct os_tls_options *options)
{
    uint64_t rules =
        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_NO_SSLv3;
    if (options->honor_cipher_order) {
        rules |= SSL_OP_CIPHER_SERVER_PREFERENCE;
    }
    (void)SSL_CTX_set_options(ctx, rules);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
}

int os_tls_context_new(const struct os_tls_options *options, SSL_CTX **ret_ctx, char *errmsg)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL) {
        (void)snprintf(errmsg, 256, "TLS: out of memory");
        return WR_E_NOMEM;
    }
    set_rules(ctx, options);
    int rc = set_ciphers(ctx, options, errmsg);
    rc = rc != 0 ? rc : load_identity(ctx, options, errmsg);
    rc = rc != 0 ? rc : load_authorities(ctx, options, errmsg);
    ERR_clear_error();
    if (rc != 0) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *ret_ctx = ctx;
    return 0;
}
