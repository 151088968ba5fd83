/*
 * What: peek, copy, move, delete_messages of warrenctl: one page of a queue per request
 * (warren/broker_messages.h); the tool asks for the next with what this one answers.
 *
 * Answer: {"result": {"rows": [...], "page": {...}}}, or {"error", "code", "page"}: what was done
 * before it went wrong. Bodies of a page are bounded: messages that do not fit any more are left to
 * the next page. Threads: shard 0. Spec: docs/messages.md.
 */
#include <string.h>

#include "warren/wire_props.h"

#include "admin.h"
#include "admin_json.h"
#include "listing.h"

#define PAGE_MS        30000u
#define PAGE_BYTES_MAX (16u * 1024 * 1024)
#define BODY_SHOWN     256u /* bytes of a body, where the whole is not wanted */

/* --- a message -------------------------------------------------------------------------------- */

static void put_text(json_t *object, const char *name, struct bytes text)
{
    (void)json_object_set_new(object, name, admin_text_json(text));
}

static json_t *properties_json(const struct wire_props *p)
{
    json_t *out = json_object();
    const struct {
        uint16_t bit;
        const char *name;
        struct bytes value;
    } texts[] = {
        {WIRE_PROP_CONTENT_TYPE, "content_type", p->content_type},
        {WIRE_PROP_CONTENT_ENCODING, "content_encoding", p->content_encoding},
        {WIRE_PROP_CORRELATION_ID, "correlation_id", p->correlation_id},
        {WIRE_PROP_REPLY_TO, "reply_to", p->reply_to},
        {WIRE_PROP_EXPIRATION, "expiration", p->expiration},
        {WIRE_PROP_MESSAGE_ID, "message_id", p->message_id},
        {WIRE_PROP_TYPE, "type", p->type},
        {WIRE_PROP_USER_ID, "user_id", p->user_id},
        {WIRE_PROP_APP_ID, "app_id", p->app_id},
        {WIRE_PROP_CLUSTER_ID, "cluster_id", p->cluster_id},
    };
    const struct {
        uint16_t bit;
        const char *name;
        uint64_t value;
    } numbers[] = {
        {WIRE_PROP_DELIVERY_MODE, "delivery_mode", p->delivery_mode},
        {WIRE_PROP_PRIORITY, "priority", p->priority},
        {WIRE_PROP_TIMESTAMP, "timestamp", p->timestamp},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(texts); i++) {
        if ((p->flags & texts[i].bit) != 0) {
            put_text(out, texts[i].name, texts[i].value);
        }
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(numbers); i++) {
        if ((p->flags & numbers[i].bit) != 0) {
            (void)json_object_set_new(out, numbers[i].name,
                                      json_integer((json_int_t)numbers[i].value));
        }
    }
    return out;
}

static void put_body(json_t *row, struct bytes body, bool whole)
{
    if (!whole && body.size > BODY_SHOWN) {
        size_t size = BODY_SHOWN; /* not in the middle of a character */
        while (size > BODY_SHOWN - 4 && (body.data[size] & 0xc0) == 0x80) {
            size--;
        }
        body.size = size;
    }
    json_t *text =
        body.size == 0 ? json_string("") : json_stringn((const char *)body.data, body.size);
    (void)json_object_set_new(row, "body_encoding", json_string(text != NULL ? "text" : "base64"));
    (void)json_object_set_new(row, "body", text != NULL ? text : admin_base64(body));
}

static const char *place_name(enum queue_place place)
{
    return place == QUEUE_PLACE_READY ? "ready" : place == QUEUE_PLACE_DELAYED ? "delayed" : "dead";
}

static void on_message(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                       uint32_t delivery_count, const struct message *message)
{
    struct admin *admin = ctx;
    struct wire_props props = WIRE_PROPS_NONE;
    const struct bytes body = message_body(message);
    const uint64_t size = admin->page.bodies_whole ? body.size : BODY_SHOWN;
    if (admin->page.cut != 0 ||
        (admin->page.bytes > 0 && admin->page.bytes + size > PAGE_BYTES_MAX)) {
        admin->page.cut = admin->page.cut == 0 ? position : admin->page.cut;
        return;
    }
    admin->page.bytes += size + message_props_size(message) + 1;
    if (wire_props_decode(message_props(message), &props) != WIRE_OK) {
        props = WIRE_PROPS_NONE;
    }
    json_t *row = admin_row(admin);
    (void)json_object_set_new(row, "position", json_integer((json_int_t)position));
    (void)json_object_set_new(row, "place", json_string(place_name(place)));
    if (at_ms != UINT64_MAX) {
        (void)json_object_set_new(row,
                                  place == QUEUE_PLACE_READY     ? "expires_at"
                                  : place == QUEUE_PLACE_DELAYED ? "due_at"
                                                                 : "died_at",
                                  json_integer((json_int_t)at_ms));
    }
    (void)json_object_set_new(row, "delivery_count", json_integer(delivery_count));
    put_text(row, "exchange", message_exchange(message));
    put_text(row, "routing_key", message_key(message));
    (void)json_object_set_new(row, "size", json_integer((json_int_t)body.size));
    (void)json_object_set_new(row, "properties", properties_json(&props));
    (void)json_object_set_new(row, "headers", admin_table_json(props.headers));
    put_body(row, body, admin->page.bodies_whole);
}

/* --- a page ----------------------------------------------------------------------------------- */

static json_t *page_json(const struct admin *admin)
{
    const struct broker_page_result *r = &admin->page.result;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "next",
                     (json_int_t)(admin->page.cut != 0 ? admin->page.cut : r->next), "end",
                     (json_int_t)r->end, "total", (json_int_t)r->total, "seen", (json_int_t)r->seen,
                     "matched", (json_int_t)r->matched, "done", (json_int_t)r->done, "refused",
                     (json_int_t)r->refused);
}

static void on_done(void *ctx, const struct broker_fault *fault,
                    const struct broker_page_result *result)
{
    struct admin *admin = ctx;
    admin->page.result = *result;
    if (fault->code == 0) {
        admin_result(admin, json_pack("{s:O, s:o}", "rows", admin->rows, "page", page_json(admin)));
        return;
    }
    const int code = fault->code == 541 ? EXIT_UNAVAILABLE : EXIT_DATA;
    json_t *error = json_string(fault->text);
    control_job_answer(admin->job, json_pack("{s:o, s:i, s:o}", "error",
                                             error != NULL ? error : json_string("(not UTF-8)"),
                                             "code", code, "page", page_json(admin)));
}

static const struct broker_page_sink page_sink = {.on_message = on_message, .on_done = on_done};

/* A number of the options within [0, max]; false: something else. Absent: *ret stays. */
static bool number(const struct admin *admin, const char *name, uint64_t max, uint64_t *ret)
{
    json_t *value = json_object_get(admin->options, name);
    if (value == NULL) {
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static void run(struct admin *admin, enum broker_page_what what)
{
    const char *filter = admin_option(admin, "filter");
    uint64_t places = QUEUE_PLACE_READY;
    uint64_t count = BROKER_PAGE_MAX;
    struct broker_page_options o = {.what = what,
                                    .vhost = admin->vhost,
                                    .queue = admin->args[0],
                                    .target = admin->count > 1 ? admin->args[1] : BYTES_NONE,
                                    .filter = bytes_from_cstr(filter != NULL ? filter : ""),
                                    .limit = UINT64_MAX,
                                    .dry_run = admin_flag(admin, "dry-run"),
                                    .timeout_ms = PAGE_MS};
    const uint64_t any = INT64_MAX;
    if (!number(admin, "places", 7, &places) || places == 0 ||
        !number(admin, "page", BROKER_PAGE_MAX, &count) || count == 0 ||
        !number(admin, "from", any, &o.from) || !number(admin, "end", any, &o.end) ||
        !number(admin, "limit", any, &o.limit) || o.limit == 0 ||
        (what == BROKER_PAGE_MOVE && places != QUEUE_PLACE_READY)) {
        admin_refuse(admin, EXIT_USAGE, "%s: an option makes no sense", admin->command->name);
        return;
    }
    if (filter != NULL &&
        filter[0] == 0) { /* a variable that is not set must not mean all of them */
        admin_refuse(admin, EXIT_DATA, "bad filter: it is empty");
        return;
    }
    o.places = (uint8_t)places;
    o.count = (uint32_t)count;
    admin->page.bodies_whole = admin_flag(admin, "bodies");
    (void)broker_page_start(admin->shard->broker, &o, &page_sink, admin);
}

static void peek(struct admin *admin)
{
    run(admin, BROKER_PAGE_PEEK);
}

static void copy(struct admin *admin)
{
    run(admin, BROKER_PAGE_COPY);
}

static void move(struct admin *admin)
{
    run(admin, BROKER_PAGE_MOVE);
}

static void delete_messages(struct admin *admin)
{
    run(admin, BROKER_PAGE_DELETE);
}

const struct admin_command admin_message_commands[] = {
    {"peek", peek, 1, 1, 0, true},
    {"copy", copy, 2, 2, 0, false},
    {"move", move, 2, 2, 0, false},
    {"delete_messages", delete_messages, 1, 1, 0, false},
    {.name = NULL}};
