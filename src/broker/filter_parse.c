/*
 * What: makes a message filter from its text: recursive descent, one function per level of binding.
 * Happy path: filter_parse -> or_level -> ... -> operand. Failure modes: the first mistake is kept
 * with its place in the text; everything above it gives up. Invariants: depth <= FILTER_DEPTH_MAX;
 * height of the tree <= FILTER_HEIGHT_MAX, which bounds the walk; texts lie in filter->storage.
 */
#include <errno.h>
#include <stdlib.h>

#include "filter_internal.h"

struct parser {
    struct filter *filter;
    uint8_t *text;
    size_t size, at;
    uint32_t depth;
    bool failed;
    struct strbuf *why;
};

static uint32_t or_level(struct parser *p);

static uint32_t fail(struct parser *p, const char *what)
{
    if (!p->failed) {
        p->failed = true;
        strbuf_printf(p->why, "%s at %zu", what, p->at + 1);
    }
    return NODE_NONE;
}

/* --- tokens ----------------------------------------------------------------------------------- */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static uint8_t peek(struct parser *p)
{
    while (p->at < p->size && is_space(p->text[p->at])) {
        p->at++;
    }
    return p->at < p->size ? p->text[p->at] : 0;
}

/* Consumes the sign if it comes next. */
static bool sign(struct parser *p, const char *text)
{
    const size_t size = strlen(text);
    (void)peek(p);
    if (p->size - p->at < size || memcmp(p->text + p->at, text, size) != 0) {
        return false;
    }
    p->at += size;
    return true;
}

static struct bytes word_ahead(struct parser *p)
{
    (void)peek(p);
    size_t end = p->at;
    while (end < p->size && (is_letter(p->text[end]) || (end > p->at && is_digit(p->text[end])))) {
        end++;
    }
    return bytes_make(p->text + p->at, end - p->at);
}

static bool equals_ignoring_case(struct bytes word, const char *text)
{
    if (word.size != strlen(text)) {
        return false;
    }
    for (size_t i = 0; i < word.size; i++) {
        const uint8_t c = word.data[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != text[i]) {
            return false;
        }
    }
    return true;
}

static bool keyword(struct parser *p, const char *text)
{
    const struct bytes word = word_ahead(p);
    if (!equals_ignoring_case(word, text)) {
        return false;
    }
    p->at += word.size;
    return true;
}

/* A text in quotes, undoubled in place. */
static bool quoted(struct parser *p, struct bytes *ret_text)
{
    if (peek(p) != '\'') {
        (void)fail(p, "expected a text in single quotes");
        return false;
    }
    uint8_t *begin = p->text + ++p->at;
    uint8_t *to = begin;
    while (p->at < p->size) {
        const uint8_t c = p->text[p->at++];
        if (c == '\'' && (p->at == p->size || p->text[p->at] != '\'')) {
            *ret_text = bytes_make(begin, (size_t)(to - begin));
            return true;
        }
        p->at += c == '\'';
        *to++ = c;
    }
    (void)fail(p, "a text without its closing quote");
    return false;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static uint32_t height_of(const struct parser *p, uint32_t node)
{
    return node == NODE_NONE ? 0 : p->filter->nodes.items[node].height;
}

/* left and right are NODE_NONE where there is none. */
static uint32_t add(struct parser *p, struct node node)
{
    const uint32_t a = height_of(p, node.left);
    const uint32_t b = height_of(p, node.right);
    node.height = (a > b ? a : b) + 1;
    node.next = NODE_NONE;
    if (node.height > FILTER_HEIGHT_MAX) {
        pattern_unref(node.pattern);
        return fail(p, "too long a chain");
    }
    vec_push(&p->filter->nodes, node);
    return (uint32_t)p->filter->nodes.count - 1;
}

static uint32_t binary(struct parser *p, enum node_kind kind, uint32_t left, uint32_t right)
{
    return left == NODE_NONE || right == NODE_NONE
               ? NODE_NONE
               : add(p, (struct node){.kind = kind, .left = left, .right = right});
}

static uint32_t negated(struct parser *p, bool negate, uint32_t node)
{
    return !negate || node == NODE_NONE
               ? node
               : add(p, (struct node){.kind = NODE_NOT, .left = node, .right = NODE_NONE});
}

static uint32_t constant(struct parser *p, struct value value)
{
    return add(p, (struct node){
                      .kind = NODE_VALUE, .left = NODE_NONE, .right = NODE_NONE, .value = value});
}

static uint32_t number(struct parser *p)
{
    char digits[64];
    size_t n = 0;
    while (p->at < p->size && n + 1 < sizeof digits &&
           (is_digit(p->text[p->at]) || p->text[p->at] == '.' || p->text[p->at] == 'e' ||
            p->text[p->at] == 'E' ||
            ((p->text[p->at] == '-' || p->text[p->at] == '+') && n > 0 &&
             (digits[n - 1] == 'e' || digits[n - 1] == 'E')))) {
        digits[n++] = (char)p->text[p->at++];
    }
    digits[n] = 0;
    char *end = NULL;
    const double value = strtod(digits, &end);
    if (end != digits + n || (p->at < p->size && is_letter(p->text[p->at]))) {
        return fail(p, "not a number");
    }
    struct value v = {.kind = VALUE_NUMBER, .number = value};
    v.whole = str_parse_i64(bytes_make(digits, n), 0, INT64_MAX, &v.integer) == 0;
    return constant(p, v);
}

static uint32_t header(struct parser *p)
{
    struct bytes name = BYTES_NONE;
    if (sign(p, ".")) {
        name = word_ahead(p);
        size_t end = p->at + name.size;
        while (end < p->size && (is_letter(p->text[end]) || is_digit(p->text[end]) ||
                                 p->text[end] == '-' || p->text[end] == '.')) {
            end++; /* as header names are: x-retry-count */
        }
        name = bytes_make(p->text + p->at, end - p->at);
        p->at = end;
    } else if (!sign(p, "[") || !quoted(p, &name) || !sign(p, "]")) {
        return fail(p, "expected headers.NAME or headers['NAME']");
    }
    if (name.size == 0) {
        return fail(p, "expected the name of a header");
    }
    return add(p, (struct node){.kind = NODE_NAME,
                                .left = NODE_NONE,
                                .right = NODE_NONE,
                                .name = NAME_HEADER,
                                .text = name});
}

static uint32_t name_or_constant(struct parser *p)
{
    static const struct {
        enum filter_name name;
        const char *spelling;
    } names[] = {
#define FILTER_NAME_ROW(name, spelling) {NAME_##name, spelling},
        FILTER_NAMES(FILTER_NAME_ROW)
#undef FILTER_NAME_ROW
    };
    if (keyword(p, "true") || keyword(p, "false")) {
        const bool truth = p->text[p->at - 2] == 'u' || p->text[p->at - 2] == 'U';
        return constant(p, (struct value){.kind = VALUE_BOOL, .truth = truth});
    }
    if (keyword(p, "headers")) {
        return header(p);
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(names); i++) {
        if (keyword(p, names[i].spelling)) {
            return add(p, (struct node){.kind = NODE_NAME,
                                        .left = NODE_NONE,
                                        .right = NODE_NONE,
                                        .name = names[i].name});
        }
    }
    return fail(p, "no such property (a header is headers.NAME)");
}

/* --- levels, from what binds most ------------------------------------------------------------- */

static uint32_t operand(struct parser *p)
{
    struct bytes text;
    const uint8_t c = peek(p);
    if (c == '(') {
        p->at++;
        const uint32_t inner = or_level(p);
        return inner == NODE_NONE || sign(p, ")") ? inner : fail(p, "expected )");
    }
    if (c == '\'') {
        return quoted(p, &text) ? constant(p, (struct value){.kind = VALUE_TEXT, .text = text})
                                : NODE_NONE;
    }
    if (c == '-') {
        p->at++;
        if (++p->depth > FILTER_DEPTH_MAX) {
            return fail(p, "nested too deeply");
        }
        const uint32_t zero = constant(p, (struct value){.kind = VALUE_NUMBER, .whole = true});
        const uint32_t node = binary(p, NODE_SUB, zero, operand(p));
        p->depth--;
        return node;
    }
    if (is_digit(c) || c == '.') {
        return number(p);
    }
    return is_letter(c) ? name_or_constant(p) : fail(p, "expected an operand");
}

static uint32_t product(struct parser *p)
{
    uint32_t left = operand(p);
    while (left != NODE_NONE && (peek(p) == '*' || peek(p) == '/')) {
        const enum node_kind kind = p->text[p->at++] == '*' ? NODE_MUL : NODE_DIV;
        left = binary(p, kind, left, operand(p));
    }
    return left;
}

static uint32_t sum(struct parser *p)
{
    uint32_t left = product(p);
    while (left != NODE_NONE && (peek(p) == '+' || peek(p) == '-')) {
        const enum node_kind kind = p->text[p->at++] == '+' ? NODE_ADD : NODE_SUB;
        left = binary(p, kind, left, product(p));
    }
    return left;
}

static uint32_t in_list(struct parser *p, uint32_t left)
{
    uint32_t first = NODE_NONE;
    uint32_t last = NODE_NONE;
    if (!sign(p, "(")) {
        return fail(p, "expected (");
    }
    do {
        const uint32_t item = sum(p);
        if (item == NODE_NONE) {
            return NODE_NONE;
        }
        if (first == NODE_NONE) {
            first = item;
        } else {
            p->filter->nodes.items[last].next = item;
        }
        last = item;
    } while (sign(p, ","));
    return sign(p, ")") ? binary(p, NODE_IN, left, first) : fail(p, "expected )");
}

static uint32_t text_test(struct parser *p, enum node_kind kind, uint32_t left)
{
    struct bytes text;
    if (!quoted(p, &text)) {
        return NODE_NONE;
    }
    struct node node = {.kind = kind, .left = left, .right = NODE_NONE, .text = text};
    if (kind == NODE_REGEX) {
        if (!pattern_check(text, NULL)) {
            return fail(p, "a regular expression that does not compile, before");
        }
        node.pattern = pattern_new(text);
    }
    return add(p, node);
}

static uint32_t between(struct parser *p, uint32_t left)
{
    const uint32_t low = binary(p, NODE_GE, left, sum(p));
    if (low == NODE_NONE || !keyword(p, "and")) {
        return fail(p, "expected between A and B");
    }
    return binary(p, NODE_AND, low, binary(p, NODE_LE, left, sum(p)));
}

static uint32_t comparison(struct parser *p)
{
    static const struct {
        const char *sign;
        enum node_kind kind;
    } signs[] = {{"<>", NODE_NE}, {"!=", NODE_NE}, {"<=", NODE_LE}, {">=", NODE_GE},
                 {"==", NODE_EQ}, {"=", NODE_EQ},  {"<", NODE_LT},  {">", NODE_GT}};
    const uint32_t left = sum(p);
    if (left == NODE_NONE) {
        return NODE_NONE;
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(signs); i++) {
        if (sign(p, signs[i].sign)) {
            return binary(p, signs[i].kind, left, sum(p));
        }
    }
    if (sign(p, "~")) {
        return text_test(p, NODE_REGEX, left);
    }
    if (keyword(p, "is")) {
        const bool negate = keyword(p, "not");
        if (!keyword(p, "null")) {
            return fail(p, "expected null");
        }
        return negated(
            p, negate,
            add(p, (struct node){.kind = NODE_IS_NULL, .left = left, .right = NODE_NONE}));
    }
    const bool negate = keyword(p, "not");
    if (keyword(p, "in")) {
        return negated(p, negate, in_list(p, left));
    }
    if (keyword(p, "like")) {
        return negated(p, negate, text_test(p, NODE_LIKE, left));
    }
    if (keyword(p, "between")) {
        return negated(p, negate, between(p, left));
    }
    return negate ? fail(p, "expected in, like or between") : left;
}

static uint32_t not_level(struct parser *p)
{
    uint32_t node;
    if (++p->depth > FILTER_DEPTH_MAX) {
        return fail(p, "nested too deeply");
    }
    if (keyword(p, "not")) {
        node = negated(p, true, not_level(p));
    } else {
        node = comparison(p);
    }
    p->depth--;
    return node;
}

static uint32_t and_level(struct parser *p)
{
    uint32_t left = not_level(p);
    while (left != NODE_NONE && keyword(p, "and")) {
        left = binary(p, NODE_AND, left, not_level(p));
    }
    return left;
}

static uint32_t or_level(struct parser *p)
{
    uint32_t left = and_level(p);
    while (left != NODE_NONE && keyword(p, "or")) {
        left = binary(p, NODE_OR, left, and_level(p));
    }
    return left;
}

struct filter *filter_parse(struct bytes text, struct strbuf *why)
{
    if (text.size > FILTER_SIZE_MAX) {
        strbuf_printf(why, "longer than %u bytes", FILTER_SIZE_MAX);
        return NULL;
    }
    struct filter *filter = wr_calloc(1, sizeof *filter);
    filter->storage =
        wr_alloc(text.size + 1); /* of an empty text too there is an end to point to */
    if (text.size > 0) {
        memcpy(filter->storage, text.data, text.size);
    }
    struct parser p = {.filter = filter, .text = filter->storage, .size = text.size, .why = why};
    filter->root = or_level(&p);
    (void)peek(&p);
    if (!p.failed && p.at < p.size) {
        (void)fail(&p, "expected the end");
    }
    if (p.failed) {
        filter_free(filter);
        return NULL;
    }
    return filter;
}
