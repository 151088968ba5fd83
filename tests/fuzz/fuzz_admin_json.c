/*
 * What: fuzz target of the JSON of policies and parameters, of field tables as JSON, and of
 * base64. The first byte chooses: JSON to a table, which must be a sound one; a table to JSON, any
 * bytes; base64 there and back.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#include "admin_json.h"
#include "warren/catalog_settings.h"
#include "warren/mem.h"
#include "warren/wire_table.h"

static void from_json(struct bytes text)
{
    struct writer w;
    char why[300];
    json_t *value =
        json_loadb((const char *)text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL) {
        return;
    }
    writer_init(&w, 64);
    if (json_is_object(value) && admin_put_fields(&w, value)) {
        struct strbuf s;
        strbuf_init(&s, why, sizeof why);
        WR_ASSERT(wire_table_validate(writer_bytes(&w), NULL) == WIRE_OK);
        WR_ASSERT(policy_validate(writer_bytes(&w), false, &s) == (s.size == 0));
        strbuf_init(&s, why, sizeof why);
        WR_ASSERT(policy_validate(writer_bytes(&w), true, &s) == (s.size == 0));
        json_decref(admin_table_json(writer_bytes(&w)));
    }
    writer_deinit(&w);
    writer_init(&w, 64);
    if (admin_put_value(&w, value)) {
        json_t *quoted = admin_quoted_json(admin_value_json(writer_bytes(&w)));
        WR_ASSERT(json_is_string(quoted));
        json_decref(quoted);
    }
    writer_deinit(&w);
    json_decref(value);
}

static void to_json(struct bytes table)
{
    json_t *object = admin_table_json(table);
    WR_ASSERT(json_is_object(object));
    char *text = json_dumps(object, JSON_COMPACT);
    WR_ASSERT(text != NULL); /* it can always be sent */
    free(text);
    json_decref(object);
    json_decref(admin_value_json(table));
}

static void base64(struct bytes text)
{
    uint8_t out[128];
    size_t size = 0;
    if (admin_unbase64(text, out, sizeof out, &size)) {
        WR_ASSERT(size <= sizeof out);
    }
    uint8_t *back = wr_alloc(text.size + 1);
    json_t *encoded = admin_base64(text);
    const struct bytes again = bytes_make(json_string_value(encoded), json_string_length(encoded));
    WR_ASSERT(admin_unbase64(again, back, text.size + 1, &size));
    WR_ASSERT(size == text.size && (size == 0 || memcmp(back, text.data, size) == 0));
    json_decref(encoded);
    wr_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const struct bytes rest = bytes_make(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        from_json(rest);
        break;
    case 1:
        to_json(rest);
        break;
    default:
        base64(rest);
        break;
    }
    return 0;
}
