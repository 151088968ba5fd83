/*
 * What: evaluates message filters; filter_parse.c makes them.
 * Happy path: the tree is walked from the root; properties are decoded once per message, when the
 * first one is asked for.
 * Invariants: three-valued: every node gives a value, and VALUE_NULL stands for SQL's unknown.
 */
#include "filter_internal.h"

#include "warren/wire_props.h"
#include "warren/wire_table.h"

struct subject {
    const struct message *message;
    uint32_t delivery_count;
    bool decoded;
    struct wire_props props;
};

static struct value null_value(void)
{
    return (struct value){.kind = VALUE_NULL};
}

static struct value text_value(struct bytes text)
{
    return (struct value){.kind = VALUE_TEXT, .text = text};
}

static struct value number_value(double number)
{
    return (struct value){.kind = VALUE_NUMBER, .number = number};
}

static struct value integer_value(int64_t integer)
{
    return (struct value){
        .kind = VALUE_NUMBER, .whole = true, .integer = integer, .number = (double)integer};
}

static struct value unsigned_value(uint64_t number)
{
    return number <= INT64_MAX ? integer_value((int64_t)number) : number_value((double)number);
}

static struct value bool_value(bool truth)
{
    return (struct value){.kind = VALUE_BOOL, .truth = truth};
}

/* --- names ------------------------------------------------------------------------------------ */

static const struct wire_props *props_of(struct subject *s)
{
    if (!s->decoded) {
        s->decoded = true;
        if (wire_props_decode(message_props(s->message), &s->props) != WIRE_OK) {
            s->props = WIRE_PROPS_NONE;
        }
    }
    return &s->props;
}

static struct value header_value(struct subject *s, struct bytes name)
{
    struct wire_value v;
    if (!wire_table_find_bytes(props_of(s)->headers, name, &v)) {
        return null_value();
    }
    if (wire_value_is_integer(&v)) {
        return integer_value(v.integer);
    }
    switch (v.type) {
    case WIRE_FIELD_BOOL:
        return bool_value(v.boolean);
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        return text_value(v.bytes);
    case WIRE_FIELD_TIMESTAMP:
        return unsigned_value(v.timestamp);
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        return number_value(v.real);
    case WIRE_FIELD_VOID:
        return null_value();
    default:
        return (struct value){.kind = VALUE_OTHER};
    }
}

static struct value prop_text(struct subject *s, enum wire_prop prop, struct bytes text)
{
    return wire_props_has(props_of(s), prop) ? text_value(text) : null_value();
}

static struct value prop_number(struct subject *s, enum wire_prop prop, uint64_t number)
{
    return wire_props_has(props_of(s), prop) ? unsigned_value(number) : null_value();
}

static struct value name_value(struct subject *s, const struct node *node)
{
    const struct wire_props *p = props_of(s);
    switch (node->name) {
    case NAME_HEADER:
        return header_value(s, node->text);
    case NAME_EXCHANGE:
        return text_value(message_exchange(s->message));
    case NAME_ROUTING_KEY:
        return text_value(message_key(s->message));
    case NAME_SIZE:
        return unsigned_value(message_body_size(s->message));
    case NAME_DELIVERY_COUNT:
        return unsigned_value(s->delivery_count);
    case NAME_CONTENT_TYPE:
        return prop_text(s, WIRE_PROP_CONTENT_TYPE, p->content_type);
    case NAME_CONTENT_ENCODING:
        return prop_text(s, WIRE_PROP_CONTENT_ENCODING, p->content_encoding);
    case NAME_DELIVERY_MODE:
        return prop_number(s, WIRE_PROP_DELIVERY_MODE, p->delivery_mode);
    case NAME_PRIORITY:
        return prop_number(s, WIRE_PROP_PRIORITY, p->priority);
    case NAME_CORRELATION_ID:
        return prop_text(s, WIRE_PROP_CORRELATION_ID, p->correlation_id);
    case NAME_REPLY_TO:
        return prop_text(s, WIRE_PROP_REPLY_TO, p->reply_to);
    case NAME_EXPIRATION:
        return prop_text(s, WIRE_PROP_EXPIRATION, p->expiration);
    case NAME_MESSAGE_ID:
        return prop_text(s, WIRE_PROP_MESSAGE_ID, p->message_id);
    case NAME_TIMESTAMP:
        return prop_number(s, WIRE_PROP_TIMESTAMP, p->timestamp);
    case NAME_TYPE:
        return prop_text(s, WIRE_PROP_TYPE, p->type);
    case NAME_USER_ID:
        return prop_text(s, WIRE_PROP_USER_ID, p->user_id);
    case NAME_APP_ID:
        return prop_text(s, WIRE_PROP_APP_ID, p->app_id);
    case NAME_CLUSTER_ID:
        return prop_text(s, WIRE_PROP_CLUSTER_ID, p->cluster_id);
    }
    WR_UNREACHABLE();
}

/* --- comparing -------------------------------------------------------------------------------- */

/* False: the two cannot be compared. */
static bool compare(const struct value *a, const struct value *b, int *ret_order)
{
    if (a->kind != b->kind || a->kind == VALUE_NULL || a->kind == VALUE_OTHER) {
        return false;
    }
    if (a->kind == VALUE_NUMBER && a->whole && b->whole) {
        *ret_order = a->integer < b->integer ? -1 : a->integer > b->integer;
        return true;
    }
    if (a->kind == VALUE_NUMBER) {
        *ret_order = a->number < b->number ? -1 : a->number > b->number;
        return a->number == a->number && b->number == b->number; /* not a number */
    }
    if (a->kind == VALUE_BOOL) {
        *ret_order = (int)a->truth - (int)b->truth;
        return true;
    }
    const size_t shorter = a->text.size < b->text.size ? a->text.size : b->text.size;
    int order = shorter == 0 ? 0 : memcmp(a->text.data, b->text.data, shorter);
    if (order == 0) {
        order = a->text.size < b->text.size ? -1 : a->text.size > b->text.size;
    }
    *ret_order = order;
    return true;
}

static struct value comparison(enum node_kind kind, const struct value *a, const struct value *b)
{
    int order;
    if (!compare(a, b, &order)) {
        return null_value();
    }
    return bool_value(kind == NODE_EQ   ? order == 0
                      : kind == NODE_NE ? order != 0
                      : kind == NODE_LT ? order < 0
                      : kind == NODE_LE ? order <= 0
                      : kind == NODE_GT ? order > 0
                                        : order >= 0);
}

/* LIKE: % any bytes, _ one. In time of the product of the sizes, without recursion. */
static bool like(struct bytes pattern, struct bytes text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX;
    size_t mark = 0;
    while (t < text.size) {
        if (p < pattern.size && pattern.data[p] == '%') {
            star = p++;
            mark = t;
        } else if (p < pattern.size &&
                   (pattern.data[p] == '_' || pattern.data[p] == text.data[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '%') {
        p++;
    }
    return p == pattern.size;
}

static struct value arithmetic(enum node_kind kind, const struct value *a, const struct value *b)
{
    if (a->kind != VALUE_NUMBER || b->kind != VALUE_NUMBER) {
        return null_value();
    }
    if (kind == NODE_DIV && b->number == 0) {
        return null_value();
    }
    int64_t whole;
    if (a->whole && b->whole && kind != NODE_DIV &&
        !(kind == NODE_ADD   ? __builtin_add_overflow(a->integer, b->integer, &whole)
          : kind == NODE_SUB ? __builtin_sub_overflow(a->integer, b->integer, &whole)
                             : __builtin_mul_overflow(a->integer, b->integer, &whole))) {
        return integer_value(whole);
    }
    return number_value(kind == NODE_ADD   ? a->number + b->number
                        : kind == NODE_SUB ? a->number - b->number
                        : kind == NODE_MUL ? a->number * b->number
                                           : a->number / b->number);
}

/* --- evaluating ------------------------------------------------------------------------------- */

static struct value eval(const struct filter *f, uint32_t at, struct subject *s);

/* AND is decided by a false one, OR by a true one, whatever the other is. */
static struct value junction(const struct filter *f, const struct node *node, struct subject *s)
{
    const bool decides = node->kind == NODE_OR;
    const struct value a = eval(f, node->left, s);
    if (a.kind == VALUE_BOOL && a.truth == decides) {
        return a;
    }
    const struct value b = eval(f, node->right, s);
    if (b.kind == VALUE_BOOL && b.truth == decides) {
        return b;
    }
    return a.kind == VALUE_BOOL && b.kind == VALUE_BOOL ? bool_value(!decides) : null_value();
}

/* One that cannot be compared with it may be it or not. */
static struct value membership(const struct filter *f, const struct node *node, struct subject *s)
{
    const struct value a = eval(f, node->left, s);
    const bool unknown = a.kind == VALUE_NULL;
    bool odd = false;
    for (uint32_t at = node->right; at != NODE_NONE && !unknown; at = f->nodes.items[at].next) {
        const struct value b = eval(f, at, s);
        int order;
        if (!compare(&a, &b, &order)) {
            odd = true;
        } else if (order == 0) {
            return bool_value(true);
        }
    }
    return unknown || odd ? null_value() : bool_value(false);
}

static struct value eval(const struct filter *f, uint32_t at, struct subject *s)
{
    const struct node *node = &f->nodes.items[at];
    struct value a;
    struct value b;
    switch (node->kind) {
    case NODE_VALUE:
        return node->value;
    case NODE_NAME:
        return name_value(s, node);
    case NODE_AND:
    case NODE_OR:
        return junction(f, node, s);
    case NODE_NOT:
        a = eval(f, node->left, s);
        return a.kind == VALUE_BOOL ? bool_value(!a.truth) : null_value();
    case NODE_IS_NULL:
        a = eval(f, node->left, s);
        return bool_value(a.kind == VALUE_NULL);
    case NODE_IN:
        return membership(f, node, s);
    case NODE_LIKE:
        a = eval(f, node->left, s);
        return a.kind == VALUE_TEXT ? bool_value(like(node->text, a.text)) : null_value();
    case NODE_REGEX:
        a = eval(f, node->left, s);
        return a.kind == VALUE_TEXT ? bool_value(pattern_matches(node->pattern, a.text))
                                    : null_value();
    case NODE_ADD:
    case NODE_SUB:
    case NODE_MUL:
    case NODE_DIV:
        a = eval(f, node->left, s);
        b = eval(f, node->right, s);
        return arithmetic(node->kind, &a, &b);
    case NODE_EQ:
    case NODE_NE:
    case NODE_LT:
    case NODE_LE:
    case NODE_GT:
    case NODE_GE:
        a = eval(f, node->left, s);
        b = eval(f, node->right, s);
        return comparison(node->kind, &a, &b);
    }
    WR_UNREACHABLE();
}

bool filter_matches(const struct filter *filter, const struct message *message,
                    uint32_t delivery_count)
{
    struct subject s = {.message = message, .delivery_count = delivery_count};
    const struct value v = eval(filter, filter->root, &s);
    return v.kind == VALUE_BOOL && v.truth;
}

void filter_free(struct filter *owned_filter)
{
    if (owned_filter == NULL) {
        return;
    }
    for (size_t i = 0; i < owned_filter->nodes.count; i++) {
        pattern_unref(owned_filter->nodes.items[i].pattern);
    }
    vec_deinit(&owned_filter->nodes);
    wr_free(owned_filter->storage);
    wr_free(owned_filter);
}
