/*
 * What: text form of 128-bit identities.
 */
#include "warren/uid.h"

#include "warren/err.h"
#include "warren/str.h"

char *uid_format(struct uid id, char text[static UID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 16; i++) {
        text[i] = digits[(id.hi >> (60 - 4 * i)) & 15];
        text[16 + i] = digits[(id.lo >> (60 - 4 * i)) & 15];
    }
    text[UID_TEXT_SIZE - 1] = '\0';
    return text;
}

int uid_parse(struct bytes text, struct uid *ret_id)
{
    uint8_t raw[UID_SIZE];
    const int err = str_parse_hex(text, raw, sizeof(raw));
    if (err != 0) {
        return err;
    }
    *ret_id = (struct uid){bytes_load_be64(raw), bytes_load_be64(raw + 8)};
    return 0;
}
