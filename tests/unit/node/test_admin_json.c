/* JSON to field tables and back (src/node/admin_json.c). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "admin_json.h"

#include "warren/mem.h"
#include "warren/prng.h"
#include "warren/wire_table.h"

static json_t *load(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    cr_assert_not_null(value, "%s", text);
    return value;
}

/* What comes back of a value, as JSON with sorted keys. */
static void check_value(const char *text, const char *wanted)
{
    struct writer w;
    writer_init(&w, 16);
    json_t *value = load(text);
    cr_assert(admin_put_value(&w, value), "%s", text);
    json_t *back = admin_quoted_json(admin_value_json(writer_bytes(&w)));
    cr_assert_str_eq(json_string_value(back), wanted);
    json_decref(back);
    json_decref(value);
    writer_deinit(&w);
}

Test(admin_json, values_come_back)
{
    check_value("{\"b\":1,\"a\":[true,false,null,1.5,\"x\",{}]}",
                "{\"a\":[true,false,null,1.5,\"x\",{}],\"b\":1}");
    check_value("-9223372036854775808", "-9223372036854775808");
    check_value("\"\"", "\"\"");
    check_value("\"a\\u0000b\"", "\"a\\u0000b\"");
    check_value("[[[1]],[]]", "[[[1]],[]]");
}

Test(admin_json, fields_go_by_name_and_have_the_types_of_the_docs)
{
    struct writer w;
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    char letters[8] = "";
    char keys[8] = "";
    writer_init(&w, 16);
    json_t *object = load("{\"g\":{},\"f\":[],\"e\":null,\"d\":1.0,\"c\":true,\"b\":1,\"a\":\"\"}");
    cr_assert(admin_put_fields(&w, object));
    wire_table_iter_init(&it, writer_bytes(&w));
    for (size_t i = 0; wire_table_iter_next(&it, &key, &value); i++) {
        keys[i] = (char)key.data[0];
        letters[i] = (char)value.type;
    }
    cr_assert_eq(it.fault, WIRE_OK);
    cr_assert_str_eq(keys, "abcdefg");
    cr_assert_str_eq(letters, "SltdVAF");
    json_decref(object);
    writer_deinit(&w);
}

Test(admin_json, what_no_table_can_hold_is_refused)
{
    char text[400] = "";
    struct writer w;
    for (int depth = 14; depth <= 18; depth++) {
        (void)memset(text, '[', (size_t)depth);
        (void)memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = 0;
        writer_init(&w, 16);
        json_t *value = load(text);
        const bool good = admin_put_value(&w, value);
        cr_assert_eq(good, depth < WIRE_TABLE_DEPTH_MAX, "%d", depth);
        json_decref(value);
        writer_deinit(&w);
    }
    for (size_t size = 255; size <= 256; size++) {
        char key[300];
        (void)memset(key, 'k', size);
        key[size] = 0;
        json_t *object = json_pack("{s:i}", key, 1);
        writer_init(&w, 16);
        cr_assert_eq(admin_put_fields(&w, object), size == 255);
        json_decref(object);
        writer_deinit(&w);
    }
}

Test(admin_json, what_is_not_utf8_is_shown_all_the_same)
{
    json_t *value = admin_text_json(BYTES_LITERAL("\xff\x01"));
    cr_assert_str_eq(json_string_value(json_object_get(value, "base64")), "/wE=");
    json_decref(value);
    struct writer w;
    writer_init(&w, 16);
    wire_put_key(&w, BYTES_LITERAL("\xfe"));
    wire_value_put_bool(&w, true);
    value = admin_table_json(writer_bytes(&w));
    cr_assert_eq(json_object_size(value), 1);
    json_decref(value);
    writer_deinit(&w);
}

Test(admin_json, base64_of_any_bytes)
{
    struct prng prng;
    uint8_t data[64];
    uint8_t back[64];
    size_t size;
    prng_init(&prng, 1);
    for (size_t n = 0; n <= sizeof data; n++) {
        for (size_t i = 0; i < n; i++) {
            data[i] = (uint8_t)prng_u64(&prng);
        }
        json_t *text = admin_base64(bytes_make(data, n));
        const struct bytes encoded = bytes_from_cstr(json_string_value(text));
        cr_assert_eq(encoded.size, (n + 2) / 3 * 4);
        cr_assert(admin_unbase64(encoded, back, sizeof back, &size), "%zu", n);
        cr_assert_eq(size, n);
        cr_assert(n == 0 || memcmp(data, back, n) == 0);
        cr_assert(n == 0 || !admin_unbase64(encoded, back, n - 1, &size));
        json_decref(text);
    }
}

Test(admin_json, what_is_not_base64_is_refused)
{
    static const char *const bad[] = {"A",    "AA",   "AAA",     "=",     "====",     "A===",
                                      "AA=A", "AA A", "A\xff==", "AAAAA", "AAAA====", "-_-_"};
    uint8_t data[16];
    size_t size;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(!admin_unbase64(bytes_from_cstr(bad[i]), data, sizeof data, &size), "%s", bad[i]);
    }
}
