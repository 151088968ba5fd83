/*
 * What: SHA-2, HMAC and constant-time comparison with OpenSSL (include/warren/crypto.h). A failure
 * inside OpenSSL here means a broken installation: it aborts.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "warren/assert.h"
#include "warren/crypto.h"

static void digest(const EVP_MD *md, const void *data, size_t size, uint8_t *out)
{
    unsigned int out_size = 0;
    int ok = EVP_Digest(data, size, out, &out_size, md, NULL);
    WR_ASSERT(ok == 1);
}

void crypto_sha256(const void *data, size_t size, uint8_t out[32])
{
    digest(EVP_sha256(), data, size, out);
}

void crypto_sha512(const void *data, size_t size, uint8_t out[64])
{
    digest(EVP_sha512(), data, size, out);
}

bool crypto_md5(const void *data, size_t size, uint8_t out[16])
{
    unsigned int out_size = 0;
    return EVP_Digest(data, size, out, &out_size, EVP_md5(), NULL) == 1 && out_size == 16;
}

void crypto_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                        uint8_t out[32])
{
    unsigned int out_size = 0;
    WR_ASSERT_OP(key_size, <=, INT32_MAX);
    unsigned char *done = HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &out_size);
    WR_ASSERT(done != NULL && out_size == 32);
}

bool crypto_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}
