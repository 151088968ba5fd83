#ifndef WR_CRYPTO_H
#define WR_CRYPTO_H
/*
 * The few cryptographic functions that upper layers need, implemented in src/os/crypto.c with
 * OpenSSL. Pure: equal inputs give equal outputs, so they may be used in simulation too. Any
 * thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void crypto_sha256(const void *data, size_t size, uint8_t out[32]);
void crypto_sha512(const void *data, size_t size, uint8_t out[64]);
/* Of old password hashes only. False: this installation has it no more. */
bool crypto_md5(const void *data, size_t size, uint8_t out[16]);
void crypto_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                        uint8_t out[32]);
/* Constant time in `size`. */
bool crypto_equal(const void *a, const void *b, size_t size);

#endif
