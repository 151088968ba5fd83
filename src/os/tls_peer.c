/*
 * What: what a TLS connection is called: cipher suites in Erlang's words, distinguished names and
 * validity of certificates in RabbitMQ's form, the user's name from a certificate. Pure.
 *
 * Failure modes: a name that cannot be read is left out; a user's name is whole or none.
 */
#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tls_internal.h"

struct word {
    int nid;
    const char *text;
};

static const char *word_of(const struct word *words, size_t count, int nid)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].nid == nid) {
            return words[i].text;
        }
    }
    return "unknown";
}

#define WORD(words, nid) word_of(words, WR_ARRAY_SIZE(words), nid)

void os_tls_describe_cipher(const struct ssl_cipher_st *cipher, struct env_tls *info)
{
    static const struct word ciphers[] = {{NID_aes_128_gcm, "aes_128_gcm"},
                                          {NID_aes_256_gcm, "aes_256_gcm"},
                                          {NID_aes_128_ccm, "aes_128_ccm"},
                                          {NID_aes_256_ccm, "aes_256_ccm"},
                                          {NID_aes_128_cbc, "aes_128_cbc"},
                                          {NID_aes_256_cbc, "aes_256_cbc"},
                                          {NID_chacha20_poly1305, "chacha20_poly1305"}};
    static const struct word exchanges[] = {
        {NID_kx_any, "any"}, {NID_kx_rsa, "rsa"}, {NID_kx_ecdhe, "ecdhe"}, {NID_kx_dhe, "dhe"}};
    static const struct word proofs[] = {
        {NID_auth_rsa, "_rsa"}, {NID_auth_ecdsa, "_ecdsa"}, {NID_auth_dss, "_dss"}};
    static const struct word hashes[] = {
        {NID_undef, "aead"}, {NID_sha1, "sha"}, {NID_sha256, "sha256"}, {NID_sha384, "sha384"}};
    int exchange = SSL_CIPHER_get_kx_nid(cipher);
    const char *proof = exchange == NID_kx_any || exchange == NID_kx_rsa
                            ? ""
                            : WORD(proofs, SSL_CIPHER_get_auth_nid(cipher));
    (void)snprintf(info->cipher, sizeof info->cipher, "%s",
                   WORD(ciphers, SSL_CIPHER_get_cipher_nid(cipher)));
    (void)snprintf(info->key_exchange, sizeof info->key_exchange, "%s%s", WORD(exchanges, exchange),
                   proof);
    (void)snprintf(info->hash, sizeof info->hash, "%s",
                   WORD(hashes, SSL_CIPHER_get_digest_nid(cipher)));
}

/* --- distinguished names ---------------------------------------------------------------------- */

static const struct word attributes[] = {{NID_surname, "SN"},
                                         {NID_givenName, "GIVENNAME"},
                                         {NID_initials, "INITIALS"},
                                         {NID_generationQualifier, "GENERATIONQUALIFIER"},
                                         {NID_commonName, "CN"},
                                         {NID_localityName, "L"},
                                         {NID_stateOrProvinceName, "ST"},
                                         {NID_organizationName, "O"},
                                         {NID_organizationalUnitName, "OU"},
                                         {NID_title, "TITLE"},
                                         {NID_countryName, "C"},
                                         {NID_serialNumber, "SERIALNUMBER"},
                                         {NID_pseudonym, "PSEUDONYM"},
                                         {NID_domainComponent, "DC"},
                                         {NID_pkcs9_emailAddress, "EMAILADDRESS"},
                                         {NID_streetAddress, "STREET"},
                                         {NID_userId, "UID"}};

static void add_text(struct buf **out, const char *text)
{
    buf_append(out, text, strlen(text));
}

static void add_type(struct buf **out, const ASN1_OBJECT *object)
{
    int nid = OBJ_obj2nid(object);
    char numbers[128];
    for (size_t i = 0; i < WR_ARRAY_SIZE(attributes); i++) {
        if (attributes[i].nid == nid) {
            add_text(out, attributes[i].text);
            return;
        }
    }
    (void)OBJ_obj2txt(numbers, sizeof numbers, object, 1);
    add_text(out, numbers);
}

/* RFC 4514 §2.4, and all that does not print as its hexadecimal number. */
static void add_escaped(struct buf **out, const unsigned char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = text[i];
        bool edge = (i == 0 && (c == ' ' || c == '#')) || (i + 1 == size && c == ' ');
        char piece[4];
        if (edge || (c != 0 && strchr("\"+,;<>\\", c) != NULL)) {
            (void)snprintf(piece, sizeof piece, "\\%c", c);
        } else if (c < 32 || c >= 126) {
            (void)snprintf(piece, sizeof piece, "\\%02X", c);
        } else {
            (void)snprintf(piece, sizeof piece, "%c", c);
        }
        add_text(out, piece);
    }
}

static struct slice distinguished_name(const X509_NAME *name)
{
    struct buf *out = buf_new(128);
    int first = X509_NAME_entry_count(name); /* of the part being written */
    while (first > 0) {
        int end = first;
        int set = X509_NAME_ENTRY_set(X509_NAME_get_entry(name, end - 1));
        do {
            first--;
        } while (first > 0 && X509_NAME_ENTRY_set(X509_NAME_get_entry(name, first - 1)) == set);
        for (int i = first; i < end; i++) {
            const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
            unsigned char *text = NULL;
            int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
            add_text(&out, i > first ? "+" : out->size > 0 ? "," : "");
            add_type(&out, X509_NAME_ENTRY_get_object(entry));
            add_text(&out, "=");
            if (size > 0) {
                add_escaped(&out, text, (size_t)size);
            }
            OPENSSL_free(text);
        }
    }
    return slice_of_buf(out);
}

/* --- the user's name -------------------------------------------------------------------------- */

static struct slice common_names(const X509_NAME *name)
{
    struct buf *out = buf_new(64);
    int at = -1;
    while ((at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0) {
        unsigned char *text = NULL;
        int size =
            ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        if (size >= 0) {
            add_text(&out, out->size > 0 ? "," : "");
            buf_append(&out, text, (size_t)size);
        }
        OPENSSL_free(text);
    }
    return slice_of_buf(out);
}

static int type_of_name(enum os_tls_san type)
{
    switch (type) {
    case OS_TLS_SAN_DNS:
        return GEN_DNS;
    case OS_TLS_SAN_IP:
        return GEN_IPADD;
    case OS_TLS_SAN_EMAIL:
        return GEN_EMAIL;
    case OS_TLS_SAN_URI:
        return GEN_URI;
    case OS_TLS_SAN_OTHER:
        return GEN_OTHERNAME;
    }
    WR_UNREACHABLE();
}

static struct slice text_of_string(const ASN1_STRING *string)
{
    unsigned char *text = NULL;
    int size = ASN1_STRING_to_UTF8(&text, string);
    struct slice out = size > 0 ? slice_copy(text, (size_t)size) : SLICE_NONE;
    OPENSSL_free(text);
    return out;
}

/* RabbitMQ takes an address as its bytes, which no user can be called by: here it is a text. */
static struct slice text_of_address(const ASN1_OCTET_STRING *address)
{
    char text[INET6_ADDRSTRLEN];
    int size = ASN1_STRING_length(address);
    int family = size == 4 ? AF_INET : AF_INET6;
    if ((size != 4 && size != 16) ||
        inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text) == NULL) {
        return SLICE_NONE;
    }
    return slice_copy(text, strlen(text));
}

static struct slice text_of_other(const OTHERNAME *other)
{
    const ASN1_TYPE *value = other->value;
    bool is_text = value->type == V_ASN1_UTF8STRING || value->type == V_ASN1_IA5STRING ||
                   value->type == V_ASN1_PRINTABLESTRING;
    return is_text ? text_of_string(value->value.asn1_string) : SLICE_NONE;
}

static struct slice alternative_name(const X509 *certificate, const struct os_tls_options *options)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    struct slice found = SLICE_NONE;
    uint32_t left = options->san_index;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = 0;
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const void *value = GENERAL_NAME_get0_value(name, &type);
        if (type != type_of_name(options->san_type) || left-- > 0) {
            continue;
        }
        found = type == GEN_IPADD       ? text_of_address(value)
                : type == GEN_OTHERNAME ? text_of_other(value)
                                        : text_of_string(value);
        break;
    }
    GENERAL_NAMES_free(names);
    return found;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void format_time(char *out, size_t capacity, const struct tm *tm)
{
    (void)snprintf(out, capacity, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm->tm_year + 1900,
                   tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min, tm->tm_sec);
}

static void add_time(struct buf **out, const ASN1_TIME *time)
{
    struct tm tm = {.tm_mday = 1};
    char text[80];
    if (ASN1_TIME_to_tm(time, &tm) == 1) {
        format_time(text, sizeof text, &tm);
        add_text(out, text);
    }
}

static void put_name(char *out, size_t capacity, const X509_NAME *name)
{
    struct slice text = distinguished_name(name);
    size_t n = text.size < capacity ? text.size : capacity - 1;
    memcpy(out, slice_data(&text), n);
    out[n] = 0;
    slice_unref(&text);
}

static int64_t put_time(char out[24], const ASN1_TIME *time)
{
    struct tm tm = {.tm_mday = 1};
    if (ASN1_TIME_to_tm(time, &tm) != 1) {
        return 0;
    }
    char text[80];
    format_time(text, sizeof text, &tm);
    (void)snprintf(out, 24, "%.23s", text);
    return (int64_t)timegm(&tm);
}

void os_tls_describe_own(const X509 *certificate, struct env_certificate *ret)
{
    *ret = (struct env_certificate){.problem = ""};
    put_name(ret->subject, sizeof ret->subject, X509_get_subject_name(certificate));
    put_name(ret->issuer, sizeof ret->issuer, X509_get_issuer_name(certificate));
    ret->from_s = put_time(ret->valid_from, X509_get0_notBefore(certificate));
    ret->until_s = put_time(ret->valid_until, X509_get0_notAfter(certificate));
}

void os_tls_describe_peer(const struct os_tls_options *options, const struct x509_st *certificate,
                          struct env_tls *info)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    struct buf *validity = buf_new(64);
    add_time(&validity, X509_get0_notBefore(certificate));
    add_text(&validity, " - ");
    add_time(&validity, X509_get0_notAfter(certificate));
    info->validity = slice_of_buf(validity);
    info->subject = distinguished_name(subject);
    info->issuer = distinguished_name(X509_get_issuer_name(certificate));
    switch (options->login_from) {
    case OS_TLS_LOGIN_DN:
        info->login = slice_ref(&info->subject);
        break;
    case OS_TLS_LOGIN_CN:
        info->login = common_names(subject);
        break;
    case OS_TLS_LOGIN_SAN:
        info->login = alternative_name(certificate, options);
        break;
    }
}
