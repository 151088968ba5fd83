/* Builder, escaping, UTF-8, numbers. */
#include <criterion/criterion.h>

#include "warren/err.h"
#include "warren/str.h"

Test(strbuf, fills_to_the_last_byte_and_truncates)
{
    char array[8];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    strbuf_printf(&s, "%d-%d", 12, 34);
    strbuf_add_cstr(&s, "ab");
    cr_assert_str_eq(array, "12-34ab");
    cr_assert_not(s.truncated);
    strbuf_add_char(&s, 'c');
    cr_assert(s.truncated);
    cr_assert_str_eq(array, "12-34ab");
    strbuf_init(&s, array, sizeof(array));
    strbuf_printf(&s, "%s", "123456789");
    cr_assert(s.truncated);
    cr_assert_str_eq(array, "1234567");
    cr_assert_eq(strbuf_bytes(&s).size, 7);
    strbuf_printf(&s, "x");
    cr_assert_eq(s.size, 7);
    strbuf_init(&s, array, 1);
    strbuf_add_cstr(&s, "a");
    cr_assert_str_eq(array, "");
}

Test(strbuf, escapes_what_would_break_a_line)
{
    char array[64];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    strbuf_add_escaped(&s, BYTES_LITERAL("a\n\r\t\\\"\x01\x7f\xff\xc3\xa9z"));
    cr_assert_str_eq(array, "a\\n\\r\\t\\\\\\\"\\x01\\x7f\\xff\xc3\xa9z");
    strbuf_init(&s, array, sizeof(array));
    strbuf_add_line(&s, BYTES_LITERAL("\"q\" \\ \n"));
    cr_assert_str_eq(array, "\"q\" \\ \\n");
    /* An escape does not fit into the last byte: it is left out whole, and so is what follows. */
    strbuf_init(&s, array, 3);
    strbuf_add_escaped(&s, BYTES_LITERAL("a\nb"));
    cr_assert_str_eq(array, "a");
    cr_assert(s.truncated);
}

Test(str, writer_printf_grows)
{
    struct writer w;
    writer_init(&w, 4);
    put_printf(&w, "%s:%d", "a long enough text", 7);
    put_printf(&w, "%s", "");
    put_cstr(&w, "!");
    cr_assert(bytes_eq_cstr(writer_bytes(&w), "a long enough text:7!"));
    writer_deinit(&w);
}

Test(str, json_strings)
{
    struct writer w;
    writer_init(&w, 0);
    put_json_string(&w, BYTES_LITERAL("a\"\\\n\x02\xe2\x82\xac\xff"));
    cr_assert(bytes_eq_cstr(writer_bytes(&w), "\"a\\\"\\\\\\n\\u0002\xe2\x82\xac\xef\xbf\xbd\""));
    writer_deinit(&w);
}

Test(str, utf8_accepts_only_what_rfc_3629_allows)
{
    static const struct bytes good[] = {
        BYTES_INIT(""),
        BYTES_INIT("plain"),
        BYTES_INIT("\xc2\x80\xdf\xbf"),
        BYTES_INIT("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"),
        BYTES_INIT("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
    };
    static const struct bytes bad[] = {
        BYTES_INIT("\x80"),
        BYTES_INIT("\xc0\x80"),
        BYTES_INIT("\xc1\xbf"),
        BYTES_INIT("\xe0\x9f\xbf"),
        BYTES_INIT("\xed\xa0\x80"),
        BYTES_INIT("\xf0\x8f\xbf\xbf"),
        BYTES_INIT("\xf4\x90\x80\x80"),
        BYTES_INIT("\xf5\x80\x80\x80"),
        BYTES_INIT("\xe2\x82"),
        BYTES_INIT("\xc3("),
        BYTES_INIT("\xf0\x90\x80("),
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(good); i++) {
        cr_assert(str_is_utf8(good[i]), "good %zu", i);
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        cr_assert_not(str_is_utf8(bad[i]), "bad %zu", i);
    }
}

Test(str, unsigned_numbers_are_strict)
{
    uint64_t v = 99;
    cr_assert_eq(str_parse_u64(BYTES_LITERAL("0"), UINT64_MAX, &v), 0);
    cr_assert_eq(v, 0);
    cr_assert_eq(str_parse_u64(BYTES_LITERAL("18446744073709551615"), UINT64_MAX, &v), 0);
    cr_assert_eq(v, UINT64_MAX);
    static const struct bytes bad[] = {
        BYTES_INIT("18446744073709551616"),
        BYTES_INIT(""),
        BYTES_INIT("-1"),
        BYTES_INIT("+1"),
        BYTES_INIT(" 1"),
        BYTES_INIT("1 "),
        BYTES_INIT("0x1"),
        BYTES_INIT("1.0"),
        BYTES_INIT("1\0"),
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(bad); i++) {
        cr_assert_eq(str_parse_u64(bad[i], UINT64_MAX, &v), WR_E_INVALID);
    }
    cr_assert_eq(str_parse_u64(BYTES_LITERAL("256"), 255, &v), WR_E_INVALID);
    cr_assert_eq(str_parse_u64(BYTES_LITERAL("255"), 255, &v), 0);
}

Test(str, signed_numbers_cover_the_whole_range)
{
    int64_t v;
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("-9223372036854775808"), INT64_MIN, INT64_MAX, &v), 0);
    cr_assert_eq(v, INT64_MIN);
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("+9223372036854775807"), INT64_MIN, INT64_MAX, &v), 0);
    cr_assert_eq(v, INT64_MAX);
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("9223372036854775808"), INT64_MIN, INT64_MAX, &v),
                 WR_E_INVALID);
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("-5"), -4, 4, &v), WR_E_INVALID);
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("-"), -4, 4, &v), WR_E_INVALID);
    cr_assert_eq(str_parse_i64(BYTES_LITERAL("-0"), -4, 4, &v), 0);
    cr_assert_eq(v, 0);
}

Test(str, sizes_and_parts)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"0", 0},
                 {"1073741824", 1073741824},
                 {"1k", 1024},
                 {"1kB", 1000},
                 {"3 MiB", 3145728},
                 {"5gb", 5000000000},
                 {"2T", 2199023255552},
                 {"9999999999999999999", 9999999999999999999u}};
    static const char *const no_sizes[] = {
        "", "x", "5XB", "-5", "1.5GB", "MB", "99999999999999999999", "99999999999G"};
    static const char *const no_parts[] = {
        "", ".", "x", "0.5x", "-1", "1.000001", "99999999999999"};
    uint64_t bytes;
    uint32_t part;
    for (size_t i = 0; i < WR_ARRAY_SIZE(sizes); i++) {
        cr_assert_eq(str_parse_size(bytes_from_cstr(sizes[i].text), &bytes), 0, "%s",
                     sizes[i].text);
        cr_assert_eq(bytes, sizes[i].bytes, "%s", sizes[i].text);
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(no_sizes); i++) {
        cr_assert_eq(str_parse_size(bytes_from_cstr(no_sizes[i]), &bytes), WR_E_INVALID, "%s",
                     no_sizes[i]);
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(no_parts); i++) {
        cr_assert_eq(str_parse_millionths(bytes_from_cstr(no_parts[i]), 1000000, &part),
                     WR_E_INVALID, "%s", no_parts[i]);
    }
    cr_assert_eq(str_parse_millionths(BYTES_LITERAL("0.4000009"), 1000000, &part), 0);
    cr_assert_eq(part, 400000);
    cr_assert_eq(str_parse_millionths(BYTES_LITERAL(".5"), 1000000, &part), 0);
    cr_assert_eq(part, 500000);
    cr_assert_eq(str_parse_millionths(BYTES_LITERAL("4294.5"), UINT32_MAX, &part), 0);
    cr_assert_eq(part, 4294500000u);
}

Test(str, trim_split_case)
{
    cr_assert(bytes_eq_cstr(str_trim(BYTES_LITERAL(" \ta b\r\n")), "a b"));
    cr_assert_eq(str_trim(BYTES_LITERAL("  ")).size, 0);
    struct bytes head;
    struct bytes tail;
    cr_assert(str_split(BYTES_LITERAL("a=b=c"), '=', &head, &tail));
    cr_assert(bytes_eq_cstr(head, "a"));
    cr_assert(bytes_eq_cstr(tail, "b=c"));
    cr_assert_not(str_split(BYTES_LITERAL("abc"), '=', &head, &tail));
    cr_assert(bytes_eq_cstr(head, "abc"));
    cr_assert_eq(tail.size, 0);
    cr_assert(str_eq_nocase(BYTES_LITERAL("PLAIN"), BYTES_LITERAL("plain")));
    cr_assert_not(str_eq_nocase(BYTES_LITERAL("@"), BYTES_LITERAL("`")));
    uint8_t raw[2];
    cr_assert_eq(str_parse_hex(BYTES_LITERAL("fFa0"), raw, 2), 0);
    cr_assert(raw[0] == 0xff && raw[1] == 0xa0);
    cr_assert_eq(str_parse_hex(BYTES_LITERAL("fFa"), raw, 2), WR_E_INVALID);
    cr_assert_eq(str_parse_hex(BYTES_LITERAL("fFag"), raw, 2), WR_E_INVALID);
}
