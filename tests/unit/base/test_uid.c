/* Identities: order, text, bytes. */
#include <criterion/criterion.h>

#include "warren/err.h"
#include "warren/uid.h"

Test(uid, text_round_trips)
{
    const struct uid id = {UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)};
    char text[UID_TEXT_SIZE];
    cr_assert_str_eq(uid_format(id, text), "0123456789abcdeffedcba9876543210");
    struct uid back;
    cr_assert_eq(uid_parse(bytes_from_cstr(text), &back), 0);
    cr_assert(uid_eq(id, back));
    cr_assert_eq(uid_parse(BYTES_LITERAL("0123456789ABCDEFFEDCBA9876543210"), &back), 0);
    cr_assert(uid_eq(id, back));
}

Test(uid, malformed_text_is_refused)
{
    struct uid id = UID_NONE;
    cr_assert_eq(uid_parse(BYTES_LITERAL("0123456789abcdeffedcba987654321"), &id), WR_E_INVALID);
    cr_assert_eq(uid_parse(BYTES_LITERAL("0123456789abcdeffedcba98765432101"), &id), WR_E_INVALID);
    cr_assert_eq(uid_parse(BYTES_LITERAL("g123456789abcdeffedcba9876543210"), &id), WR_E_INVALID);
    cr_assert_eq(uid_parse(BYTES_NONE, &id), WR_E_INVALID);
    cr_assert(uid_is_zero(id));
}

Test(uid, byte_order_is_uid_order)
{
    const struct uid a = {1, UINT64_MAX};
    const struct uid b = {2, 0};
    cr_assert_lt(uid_cmp(a, b), 0);
    cr_assert_gt(uid_cmp(b, a), 0);
    cr_assert_eq(uid_cmp(a, a), 0);
    cr_assert_lt(uid_cmp((struct uid){1, 1}, (struct uid){1, 2}), 0);
    struct writer w;
    writer_init(&w, 0);
    put_uid(&w, a);
    put_uid(&w, b);
    cr_assert_lt(memcmp(w.buf->data, w.buf->data + UID_SIZE, UID_SIZE), 0);
    struct reader r = reader_from(writer_bytes(&w));
    cr_assert(uid_eq(rd_uid(&r), a));
    cr_assert(uid_eq(rd_uid(&r), b));
    cr_assert(rd_done(&r));
    writer_deinit(&w);
}
