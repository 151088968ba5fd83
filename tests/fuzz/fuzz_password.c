/*
 * What: fuzz target of passwords against whatever an administrator imported. Input: hashing, size
 * of the hash, hash (salt and digest, of any size), password. Only a password whose digest the hash
 * holds is taken, never an empty one, and none against a hash of another size.
 */
#include <string.h>

#include "fuzz.h"
#include "fuzz_catalog.h"

#include "broker_internal.h"

#define SALT_SIZE 4u

static size_t size_of(uint8_t hashing)
{
    return hashing == CATALOG_HASHING_SHA256   ? 32
           : hashing == CATALOG_HASHING_SHA512 ? 64
           : hashing == CATALOG_HASHING_MD5    ? 16
                                               : 0;
}

static bool is_right(uint8_t hashing, struct bytes hash, struct bytes password)
{
    uint8_t digest[64] = {0};
    const size_t size = size_of(hashing);
    return size > 0 && password.size > 0 && hash.size == SALT_SIZE + size &&
           auth_digest(hashing, hash.data, password, digest) &&
           memcmp(digest, hash.data + SALT_SIZE, size) == 0;
}

/* Any bytes are a salt: with the digest of it and the password behind, that password is right. */
static void check_made(uint8_t hashing, struct bytes hash, struct bytes password)
{
    uint8_t made[SALT_SIZE + 64] = {0};
    const size_t size = size_of(hashing);
    if (size == 0 || password.size == 0) {
        return;
    }
    memcpy(made, hash.data, hash.size < SALT_SIZE ? hash.size : SALT_SIZE);
    if (auth_digest(hashing, made, password, made + SALT_SIZE)) {
        WR_ASSERT(is_right(hashing, bytes_make(made, SALT_SIZE + size), password));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct broker broker;
    struct reader r = reader_make(data, size);
    const uint8_t hashing = rd_u8(&r) % 5;
    const struct bytes hash = rd_bytes(&r, rd_u8(&r));
    const struct bytes password = rd_bytes(&r, rd_left(&r));
    if (r.failed) {
        return 0;
    }
    struct catalog *catalog = fuzz_catalog_new();
    struct catalog_command put = {.kind = CATALOG_PUT_USER};
    put.u.user.name = BYTES_LITERAL("u");
    put.u.user.password_hash = hash;
    put.u.user.hashing = hashing;
    put.u.user.parts = CATALOG_USER_PASSWORD | CATALOG_USER_CREATE;
    fuzz_catalog_apply(catalog, &put);
    broker = (struct broker){.view = catalog_view_take(catalog)};
    const struct catalog_user *user = catalog_user(broker.view, BYTES_LITERAL("u"));
    const bool taken = auth_password(&broker, BYTES_LITERAL("u"), password);
    WR_ASSERT(taken == (user != NULL && is_right(user->hashing, user->password_hash, password)));
    WR_ASSERT(!auth_password(&broker, BYTES_LITERAL("nobody"), password));
    check_made(hashing, hash, password);
    catalog_view_unref(broker.view);
    catalog_free(catalog);
    return 0;
}
