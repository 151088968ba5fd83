/* CRC-32C against the vectors of RFC 3720 B.4, and hardware against table. */
#include <criterion/criterion.h>

#include "warren/crc32c.h"
#include "warren/prng.h"

Test(crc32c, rfc_3720_vectors)
{
    uint8_t data[32] = {0};
    cr_assert_eq(crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    cr_assert_eq(crc32c(0, data, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++) {
        data[i] = (uint8_t)i;
    }
    cr_assert_eq(crc32c(0, data, 32), 0x46dd794e);
    for (unsigned i = 0; i < 32; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    cr_assert_eq(crc32c(0, data, 32), 0x113fdb5c);
    cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283);
    cr_assert_eq(crc32c(0, data, 0), 0);
}

Test(crc32c, hardware_and_table_agree_and_pieces_add_up)
{
    static uint8_t data[3000];
    struct prng p;
    prng_init(&p, 9);
    prng_fill(&p, data, sizeof(data));
    for (int i = 0; i < 3000; i++) {
        const size_t begin = prng_below(&p, sizeof(data));
        const size_t size = prng_below(&p, sizeof(data) - begin);
        const size_t middle = prng_below(&p, size + 1);
        const uint32_t whole = crc32c(0, data + begin, size);
        cr_assert_eq(whole, crc32c_portable(0, data + begin, size));
        const uint32_t first = crc32c(0, data + begin, middle);
        cr_assert_eq(whole, crc32c(first, data + begin + middle, size - middle));
        cr_assert_eq(whole, crc32c_portable(first, data + begin + middle, size - middle));
    }
}
