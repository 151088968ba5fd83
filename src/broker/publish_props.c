/*
 * What: the properties of a message that is published: what RabbitMQ checks of them, what they say
 * about the way (CC, BCC, x-delay, publishers' numbers, reply-to), and the message rebuilt with
 * other ones.
 * Failure modes: faults as RabbitMQ's, in its order of checks; a header of a wrong type is one.
 * Ownership: the results of rebuilding are the caller's. Spec: docs/broker.md, amqp-0-9-1 §9.
 */
#include "publish_internal.h"

#define TTL_MAX_MS UINT64_C(315360000000)

#define DELAY_MAX_MS UINT64_C(315360000000) /* ten years */

/* --- checks ----------------------------------------------------------------------------------- */

/* The digits from `at` on as a number is written. */
static struct bytes without_zeros(struct bytes text, size_t at)
{
    while (at + 1 < text.size && text.data[at] == '0') {
        at++;
    }
    return (struct bytes){text.data + at, text.size - at};
}

static bool check_expiration(struct bytes text, struct broker_fault *fault)
{
    uint64_t value = 0;
    size_t digits = 0;
    bool negative = text.size > 0 && text.data[0] == '-';
    size_t at = negative || (text.size > 0 && text.data[0] == '+') ? 1 : 0;
    for (;
         at + digits < text.size && text.data[at + digits] >= '0' && text.data[at + digits] <= '9';
         digits++) {
        if (value <= TTL_MAX_MS) { /* longer ones are too large, whatever follows */
            value = value * 10 + (uint64_t)(text.data[at + digits] - '0');
        }
    }
    if (digits == 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': no_integer", FMT(text));
    } else if (at + digits < text.size) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {leftover_string,\"%.*s\"}",
                  FMT(text), (int)(text.size - at - digits), (const char *)text.data + at + digits);
    } else if (negative && value > 0) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_negative,-%.*s}", FMT(text),
                  FMT(without_zeros(text, at)));
    } else if (value > TTL_MAX_MS) {
        fault_set(fault, 406, false, "invalid expiration '%.*s': {value_too_large,%.*s}", FMT(text),
                  FMT(without_zeros(text, at)));
    } else {
        return true;
    }
    return false;
}

bool publish_check_expiration(struct bytes raw, struct broker_fault *fault)
{
    struct bytes value;
    return !wire_props_get(raw, WIRE_PROP_EXPIRATION, &value) || check_expiration(value, fault);
}

/* Digits, which were checked when the message came. */
uint64_t publish_expiration_ms(struct bytes text)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.size && value <= TTL_MAX_MS; i++) {
        if (text.data[i] >= '0' && text.data[i] <= '9') {
            value = value * 10 + (uint64_t)(text.data[i] - '0');
        }
    }
    return value;
}

static bool check_user(const struct broker_session *session, struct bytes user_id,
                       struct broker_fault *fault)
{
    if (bytes_eq_cstr(user_id, session->user)) {
        return true;
    }
    const struct catalog_user *user = catalog_user(session->broker->view, session_user(session));
    for (uint32_t i = 0; user != NULL && i < user->tags.count; i++) {
        if (bytes_eq_cstr(user->tags.items[i], "impersonator")) {
            return true;
        }
    }
    fault_set(fault, 406, false, "user_id property set to '%.*s' but authenticated user was '%s'",
              FMT(user_id), session->user);
    return false;
}

static bool bad_header(const char *name, uint8_t type, struct broker_fault *fault)
{
    fault_set(fault, 406, false, "invalid message: {unacceptable_type_in_header,\"%s\",%s}", name,
              wire_field_name(type));
    return false;
}

static bool add_keys(struct broker *broker, const struct wire_value *v, const char *name,
                     struct broker_fault *fault)
{
    struct bytes none;
    if (v->type != WIRE_FIELD_ARRAY) {
        return bad_header(name, v->type, fault);
    }
    struct wire_table_iter it;
    struct wire_value item;
    wire_array_iter_init(&it, v->bytes);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_LONGSTR && item.bytes.size <= NAME_MAX_SIZE) {
            vec_push(&broker->extra_keys, item.bytes);
        }
    }
    return true;
}

void publish_add_keys(struct broker *broker, struct bytes headers, const char *name)
{
    struct wire_value v;
    struct broker_fault ignored;
    if (wire_table_find(headers, name, &v)) {
        (void)add_keys(broker, &v, name, &ignored);
    }
}

/* A number as a string has it, to DELAY_MAX_MS; 0: none that is positive. */
static uint64_t delay_in_digits(struct bytes text)
{
    uint64_t value = 0;
    size_t at = text.size > 0 && text.data[0] == '+' ? 1 : 0;
    for (; at < text.size && value <= DELAY_MAX_MS; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return 0;
        }
        value = value * 10 + (uint64_t)(text.data[at] - '0');
    }
    return value <= DELAY_MAX_MS ? value : 0;
}

/* How long the value of an x-delay header says; 0: not at all. As the plugin: strings of digits
 * count, and fractions are cut off. */
static uint64_t delay_of(const struct wire_value *v)
{
    if (wire_value_is_integer(v)) {
        return v->integer > 0 && v->integer <= (int64_t)DELAY_MAX_MS ? (uint64_t)v->integer : 0;
    }
    switch (v->type) {
    case WIRE_FIELD_LONGSTR:
        return delay_in_digits(v->bytes);
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        return v->real >= 1 && v->real <= (double)DELAY_MAX_MS ? (uint64_t)v->real : 0;
    default:
        return 0;
    }
}

uint64_t publish_delay_ms(struct bytes headers)
{
    struct wire_value v;
    return wire_table_find(headers, "x-delay", &v) ? delay_of(&v) : 0;
}

/* The headers that RabbitMQ looks at: the first of a name counts. */
struct headers_seen {
    bool cc, bcc, delay, publisher, number;
    struct wire_value cc_value, bcc_value; /* looked at in this order */
};

/* One header; x-delay and the publisher's numbering. */
static bool check_header(struct bytes key, const struct wire_value *v, struct headers_seen *seen,
                         struct routing *routing, struct broker_fault *fault)
{
    if (bytes_eq_cstr(key, "CC") && !seen->cc) {
        seen->cc = true;
        seen->cc_value = *v;
    } else if (bytes_eq_cstr(key, "BCC") && !seen->bcc) {
        seen->bcc = true;
        seen->bcc_value = *v;
    } else if (bytes_eq_cstr(key, "x-delay") && !seen->delay) {
        seen->delay = true;
        routing->more.delay_ms = delay_of(v);
    } else if (bytes_eq_cstr(key, "x-publisher-id") && !seen->publisher) {
        seen->publisher = true;
        if (v->type != WIRE_FIELD_LONGSTR) {
            return bad_header("x-publisher-id", v->type, fault);
        }
        if (v->bytes.size == 0 || v->bytes.size > NAME_MAX_SIZE) {
            fault_set(fault, 406, false,
                      "invalid message: header x-publisher-id must have 1 to %u bytes",
                      NAME_MAX_SIZE);
            return false;
        }
        routing->more.publisher = v->bytes;
    } else if (bytes_eq_cstr(key, "x-publish-seq") && !seen->number) {
        seen->number = true;
        if (!wire_value_is_integer(v)) {
            return bad_header("x-publish-seq", v->type, fault);
        }
        if (v->integer <= 0) {
            fault_set(fault, 406, false,
                      "invalid message: header x-publish-seq must be positive, not %lld",
                      (long long)v->integer);
            return false;
        }
        routing->more.publish_seq = (uint64_t)v->integer;
    }
    return true;
}

static bool check_headers(const struct broker_session *session, struct bytes headers,
                          struct routing *routing, struct broker_fault *fault)
{
    struct headers_seen seen = {0};
    struct broker *broker = session->broker;
    struct wire_table_iter it;
    struct wire_value v;
    struct bytes key;
    vec_clear(&broker->extra_keys);
    wire_table_iter_init(&it, headers);
    while (wire_table_iter_next(&it, &key, &v)) {
        if (!check_header(key, &v, &seen, routing, fault)) {
            return false;
        }
    }
    routing->has_bcc = seen.bcc;
    if ((seen.cc && !add_keys(broker, &seen.cc_value, "CC", fault)) ||
        (seen.bcc && !add_keys(broker, &seen.bcc_value, "BCC", fault))) {
        return false;
    }
    routing->extra_count = (uint32_t)broker->extra_keys.count;
    if (routing->more.publish_seq == 0) {
        routing->more.publisher = BYTES_NONE; /* a name alone says nothing */
    } else if (routing->more.publisher.size == 0) {
        routing->more.publisher = session->publisher;
        if (routing->more.publisher.size == 0) {
            fault_set(
                fault, 406, false,
                "invalid message: x-publish-seq without x-publisher-id, which may be a header "
                "or a client property");
            return false;
        }
    }
    return true;
}

static bool check_reply_to(const struct broker_channel *ch, struct bytes raw,
                           struct routing *routing, struct broker_fault *fault)
{
    struct bytes value;
    routing->reply_here =
        wire_props_get(raw, WIRE_PROP_REPLY_TO, &value) && bytes_eq_cstr(value, REPLY_QUEUE);
    if (routing->reply_here && ch->reply == NULL) {
        fault_set(fault, 406, false, "fast reply consumer does not exist");
        return false;
    }
    return true;
}

bool publish_check_props(const struct broker_channel *ch, struct bytes raw, struct routing *routing,
                         struct broker_fault *fault)
{
    const struct broker_session *session = ch->session;
    struct bytes value;
    uint16_t flags = raw.size >= 2 ? bytes_load_be16(raw.data) : 0;
    *routing = (struct routing){0};
    if (WR_LIKELY((flags & (CHECKED_PROPS | WIRE_PROP_MESSAGE_ID)) == 0)) {
        return true;
    }
    if (!check_reply_to(ch, raw, routing, fault) ||
        (wire_props_get(raw, WIRE_PROP_USER_ID, &value) && !check_user(session, value, fault)) ||
        !publish_check_expiration(raw, fault)) {
        return false;
    }
    (void)wire_props_get(raw, WIRE_PROP_MESSAGE_ID, &routing->more.id);
    struct bytes headers = wire_props_headers(raw);
    return headers.size == 0 || check_headers(session, headers, routing, fault);
}

/* --- rebuilding ------------------------------------------------------------------------------- */

/* The message with other properties, another time to live, other keys of BCC. Borrows it; the
 * caller owns the result. */
static struct message with_parts(struct message message, struct bytes props, uint64_t ttl_ms,
                                 struct bytes bcc)
{
    struct message_parts parts = {.exchange = message_exchange(&message),
                                  .key = message_key(&message),
                                  .props = props,
                                  .bcc = bcc,
                                  .ttl_ms = ttl_ms,
                                  .flags = message_flags(&message),
                                  .priority = message_priority(&message)};
    struct bytes body = message_body(&message);
    uint32_t size = (uint32_t)message_record_size(&parts, body.size);
    struct buf *record = buf_new(size);
    uint8_t *at = message_write(record->data, &parts, (uint32_t)body.size);
    if (body.size > 0) {
        memcpy(at, body.data, body.size);
    }
    record->size = size;
    return (struct message){.record = slice_of_buf(record)};
}

struct message publish_with_parts(struct message message, struct bytes props, uint64_t ttl_ms)
{
    return with_parts(message, props, ttl_ms, message_bcc(&message));
}

static struct message with_props(struct message message, const struct wire_props *props,
                                 struct bytes bcc)
{
    struct writer raw;
    writer_init(&raw, wire_props_size(props));
    wire_props_put(&raw, props);
    struct message result = with_parts(message, writer_bytes(&raw), message_ttl_ms(&message), bcc);
    writer_deinit(&raw);
    return result;
}

/* The keys of a BCC header as a record has them; they route the message again when it is dead. */
static void put_bcc(struct writer *out, struct bytes headers)
{
    struct wire_value v;
    struct wire_value item;
    struct wire_table_iter it;
    struct bytes none;
    if (!wire_table_find(headers, "BCC", &v) || v.type != WIRE_FIELD_ARRAY) {
        return;
    }
    wire_array_iter_init(&it, v.bytes);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_LONGSTR && item.bytes.size <= NAME_MAX_SIZE) {
            put_u8(out, (uint8_t)item.bytes.size);
            put_bytes(out, item.bytes.data, item.bytes.size);
        }
    }
}

/* The same message as its queues are to have it: without its BCC header, and with a name in its
 * reply-to. A reference for the caller. */
struct message publish_rebuild(const struct broker_channel *ch, struct message message,
                               bool without_bcc, bool reply_here)
{
    struct wire_props props;
    struct writer headers;
    struct writer bcc;
    uint8_t name[REPLY_NAME_SIZE];
    if ((!without_bcc && !reply_here) ||
        wire_props_decode(message_props(&message), &props) != WIRE_OK) {
        message_ref(message); /* the latter was checked before: cannot be */
        return message;
    }
    writer_init(&headers, props.headers.size + 16);
    writer_init(&bcc, 64);
    if (without_bcc) {
        put_bcc(&bcc, props.headers);
        wire_table_put_without(&headers, props.headers, bytes_from_cstr("BCC"));
        props.headers = writer_bytes(&headers);
    }
    if (reply_here) {
        props.reply_to = reply_name(ch, name);
    }
    struct message result = with_props(message, &props, writer_bytes(&bcc));
    writer_deinit(&bcc);
    writer_deinit(&headers);
    return result;
}

/* What a consumer sees of a delay that is over: the number, negative. */
struct message publish_with_delay_over(struct message message)
{
    struct wire_props props;
    struct wire_table_iter it;
    struct wire_value v;
    struct bytes key;
    struct writer headers;
    if (wire_props_decode(message_props(&message), &props) != WIRE_OK) {
        message_ref(message); /* checked before: cannot be */
        return message;
    }
    writer_init(&headers, props.headers.size + 16);
    wire_table_iter_init(&it, props.headers);
    while (wire_table_iter_next(&it, &key, &v)) {
        wire_put_key(&headers, key);
        const uint64_t delay_ms = bytes_eq_cstr(key, "x-delay") ? delay_of(&v) : 0;
        if (delay_ms == 0) {
            wire_value_put(&headers, &v);
        } else if (delay_ms <= INT32_MAX) {
            wire_value_put_int32(&headers, -(int32_t)delay_ms);
        } else {
            wire_value_put_int64(&headers, -(int64_t)delay_ms);
        }
    }
    props.headers = writer_bytes(&headers);
    struct message result = with_props(message, &props, message_bcc(&message));
    writer_deinit(&headers);
    return result;
}

struct message broker_returned(const struct broker_channel *ch, struct message owned)
{
    struct wire_value v;
    struct bytes value;
    const struct bytes props = message_props(&owned);
    const struct bytes headers = wire_props_headers(props);
    const bool has_bcc = headers.size > 0 && wire_table_find(headers, "BCC", &v);
    const bool reply_here = ch->reply != NULL &&
                            wire_props_get(props, WIRE_PROP_REPLY_TO, &value) &&
                            bytes_eq_cstr(value, REPLY_QUEUE);
    struct message result = publish_rebuild(ch, owned, has_bcc, reply_here);
    message_unref(owned);
    return result;
}
