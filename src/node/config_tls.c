/*
 * What: configuration of TLS and of how clients say who they are. Failure modes: as in config.c;
 * what only makes sense together is checked at the end. Files are not opened here.
 */
#include <stdio.h>
#include <string.h>

#include "warren/err.h"

#include "config_internal.h"

static int put_in_list(struct config_list *list, struct bytes rest, struct bytes value, char *why)
{
    char key[CONFIG_NAME_MAX];
    uint32_t i = 0;
    if (!config__text(key, sizeof key, rest)) {
        return config__invalid(why, "the line's name is too long");
    }
    while (i < list->count && strcmp(list->keys[i], key) != 0) {
        i++;
    }
    if (i == CONFIG_LIST_MAX) {
        return config__invalid(why, "too many values (at most 48)");
    }
    if (!config__text(list->values[i], sizeof list->values[i], value)) {
        return config__invalid(why, "the value is too long");
    }
    memcpy(list->keys[i], key, sizeof key);
    list->count += i == list->count;
    return 0;
}

/* The number of the word that value is; -1: none of them. */
static int word_of(struct bytes value, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (bytes_eq_cstr(value, words[i])) {
            return i;
        }
    }
    return -1;
}

int config__tls_verify(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"verify_none", "verify_peer"};
    int word = word_of(value, words, 2);
    (void)rest;
    if (word < 0) {
        return config__invalid(why, "expected verify_peer or verify_none");
    }
    config->tls.verify_peer = word == 1;
    return 0;
}

int config__tls_version(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"tlsv1.2", "tlsv1.3"};
    return word_of(value, words, 2) < 0
               ? config__invalid(why, "expected tlsv1.2 or tlsv1.3; older ones are not spoken")
               : put_in_list(&config->tls.versions, rest, value, why);
}

int config__tls_cipher(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    if (value.size == 0 || memchr(value.data, ':', value.size) != NULL) {
        return config__invalid(why, "expected the name of one cipher suite");
    }
    return put_in_list(&config->tls.ciphers, rest, value, why);
}

static int only(struct bytes value, bool wanted, char *why)
{
    bool flag = false;
    return config__flag(value, &flag) && flag == wanted
               ? 0
               : config__invalid(why, wanted ? "only true is supported: without it TLS is not safe"
                                             : "only false is supported");
}

int config__tls_always_true(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)config, (void)rest;
    return only(value, true, why);
}

int config__tls_always_false(struct config *config, struct bytes rest, struct bytes value,
                             char *why)
{
    (void)config, (void)rest;
    return only(value, false, why);
}

int config__tls_ecc_order(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)rest;
    config->tls.ecc_order_given = true;
    return config__flag(value, &config->tls.honor_ecc_order)
               ? 0
               : config__invalid(why, "expected true or false");
}

/* What would be weaker, or otherwise, than whoever wrote it believes is no start, not a line that
 * is overlooked. */
const char *config__tls_refused(struct bytes key)
{
    static const struct {
        const char *pattern, *why;
    } refused[] = {
        {"ssl_options.dh", "only elliptic curves are used to agree on keys"},
        {"ssl_options.dhfile", "only elliptic curves are used to agree on keys"},
        {"ssl_options.cacerts.*", "give a file, ssl_options.cacertfile"},
        {"ssl_options.cert", "give a file, ssl_options.certfile"},
        {"ssl_options.key.*", "give a file, ssl_options.keyfile"},
        {"ssl_options.crl_*", "revocation lists are not looked at"},
        {"ssl_options.psk_identity", "there are no pre-shared keys"},
        {"ssl_options.sni", "there is one certificate, for every name"},
        {"ssl_options.sni.*", "there is one certificate, for every name"},
        {"ssl_options.signature_algs.*", "they are OpenSSL's"},
        {"ssl_options.eccs.*", "they are OpenSSL's"},
        {"ssl_options.supported_groups.*", "they are OpenSSL's"},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(refused); i++) {
        struct bytes rest;
        if (config__key_matches(refused[i].pattern, key, &rest)) {
            return refused[i].why;
        }
    }
    return NULL;
}

int config__tls_login_from(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"distinguished_name", "common_name",
                                        "subject_alternative_name"};
    int word = word_of(value, words, 3);
    (void)rest;
    if (word < 0) {
        return config__invalid(
            why, "expected distinguished_name, common_name or subject_alternative_name");
    }
    config->tls.login_from = (enum config_login)word;
    return 0;
}

int config__tls_san_type(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"dns", "ip", "email", "uri", "other_name"};
    int word = word_of(value, words, 5);
    (void)rest;
    if (word < 0) {
        return config__invalid(why, "expected dns, ip, email, uri or other_name");
    }
    config->tls.san_type = (enum config_san)word;
    return 0;
}

int config__mechanism(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"PLAIN", "AMQPLAIN", "EXTERNAL"};
    return word_of(value, words, 3) < 0
               ? config__invalid(why, "expected PLAIN, AMQPLAIN or EXTERNAL")
               : put_in_list(&config->auth_mechanisms, rest, value, why);
}

/* Who is who is known here alone; a file that says so is right. */
int config__auth_backend(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    static const char *const words[] = {"internal", "rabbit_auth_backend_internal"};
    (void)config;
    (void)rest;
    return word_of(value, words, 2) < 0
               ? config__invalid(why, "only internal is supported in this version")
               : 0;
}

int config__hashing(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)config;
    (void)rest;
    return bytes_eq_cstr(value, "rabbit_password_hashing_sha256")
               ? 0
               : config__invalid(why, "only rabbit_password_hashing_sha256 is supported in this "
                                      "version");
}

static bool has(const struct config_list *list, const char *value)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->values[i], value) == 0) {
            return true;
        }
    }
    return false;
}

/* The certificate of whoever logs in by it must have been verified: what was meant as a lock must
 * not be an open door. */
static const char *what_is_wrong(const struct config *config)
{
    const struct config_tls *tls = &config->tls;
    if (tls->fail_if_no_peer_cert && !tls->verify_peer) {
        return "ssl_options.fail_if_no_peer_cert needs ssl_options.verify = verify_peer";
    }
    if (tls->ecc_order_given && tls->honor_ecc_order != tls->honor_cipher_order) {
        return "ssl_options.honor_ecc_order and ssl_options.honor_cipher_order must be the same: "
               "there is one setting for both";
    }
    if (config->ssl.count > 0 && tls->certfile[0] == 0) {
        return "listeners.ssl needs ssl_options.certfile";
    }
    if (config->ssl.count > 0 && tls->verify_peer && tls->cacertfile[0] == 0) {
        return "ssl_options.verify = verify_peer needs ssl_options.cacertfile";
    }
    if (has(&config->auth_mechanisms, "EXTERNAL") &&
        (config->ssl.count == 0 || !tls->verify_peer)) {
        return "auth_mechanisms: EXTERNAL needs listeners.ssl and ssl_options.verify = verify_peer";
    }
    return NULL;
}

int config__tls_finish(struct config *config, char *errmsg)
{
    struct config_tls *tls = &config->tls;
    size_t at = 0;
    tls->tls12 = tls->versions.count == 0 || has(&tls->versions, "tlsv1.2");
    tls->tls13 = tls->versions.count == 0 || has(&tls->versions, "tlsv1.3");
    tls->cipher_names[0] = 0;
    for (uint32_t i = 0; i < tls->ciphers.count; i++) {
        int n = snprintf(tls->cipher_names + at, sizeof tls->cipher_names - at, "%s%s",
                         i > 0 ? ":" : "", tls->ciphers.values[i]);
        at += (size_t)n;
    }
    const char *wrong = what_is_wrong(config);
    if (wrong != NULL) {
        (void)snprintf(errmsg, 512, "%s", wrong);
        return WR_E_INVALID;
    }
    return 0;
}
