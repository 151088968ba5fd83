/*
 * What: command line of warren-perf: a table of options with PerfTest's names, and the checks that
 * need more than one option. `-x1`, `-x 1` and `--producers 1` are the same. URIs: uri.c.
 */
#include "options.h"
#include "uri.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "warren/str.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

/* X(id, short, long, has argument, help) */
#define OPTION_TABLE(X)                                                                            \
    X(OPT_URI, "-h", "--uri", true, "amqp://user:pass@host:port/vhost; may be repeated")           \
    X(OPT_URIS, "-H", "--uris", true, "several of them, separated by commas")                      \
    X(OPT_VHOST, "", "--vhost", true, "virtual host, instead of the URIs'")                        \
    X(OPT_ID, "-d", "--id", true, "name of the run in the output")                                 \
    X(OPT_PRODUCERS, "-x", "--producers", true, "producer connections (default 1)")                \
    X(OPT_CONSUMERS, "-y", "--consumers", true, "consumer connections (default 1)")                \
    X(OPT_PCHANNELS, "-X", "--producer-channel-count", true, "channels per producer")              \
    X(OPT_CCHANNELS, "-Y", "--consumer-channel-count", true, "channels per consumer")              \
    X(OPT_SIZE, "-s", "--size", true, "bytes of a message (default 0; 12 or more: latency)")       \
    X(OPT_RATE, "-r", "--rate", true, "messages per second and producer (may be a fraction)")      \
    X(OPT_CONFIRM, "-c", "--confirm", true, "publisher confirms, at most so many outstanding")     \
    X(OPT_QOS, "-q", "--qos", true, "prefetch count of consumers")                                 \
    X(OPT_AUTOACK, "-a", "--autoack", false, "consume without acknowledgements")                   \
    X(OPT_MULTI_ACK, "-A", "--multi-ack-every", true, "acknowledge every n-th with multiple")      \
    X(OPT_QUEUE, "-u", "--queue", true, "queue name (default: server-named ones)")                 \
    X(OPT_PATTERN, "-qp", "--queue-pattern", true, "names of queues, with %d for the number")      \
    X(OPT_FROM, "-qpf", "--queue-pattern-from", true, "first number of the pattern")               \
    X(OPT_TO, "-qpt", "--queue-pattern-to", true, "last number of the pattern")                    \
    X(OPT_QUEUE_ARGS, "-qa", "--queue-args", true, "arguments for queues: key=value,...")          \
    X(OPT_QUORUM, "-qq", "--quorum-queue", false, "quorum queues: durable, persistent messages")   \
    X(OPT_EXCLUSIVE, "-E", "--exclusive", false, "server-named queues are exclusive")              \
    X(OPT_AUTO_DELETE, "-ad", "--auto-delete", true, "true or false: queues are auto-delete")      \
    X(OPT_EXCHANGE, "-e", "--exchange", true, "exchange (default: amq.TYPE; \"\" is allowed)")     \
    X(OPT_TYPE, "-t", "--type", true, "exchange type (default direct)")                            \
    X(OPT_KEY, "-k", "--routing-key", true, "routing key (default: the queue's name)")             \
    X(OPT_PREDECLARED, "-p", "--predeclared", false, "queues, exchange, bindings exist already")   \
    X(OPT_FLAG, "-f", "--flag", true, "persistent or mandatory; may be repeated")                  \
    X(OPT_PROPS, "-mp", "--message-properties", true, "key=value,...: properties and headers")     \
    X(OPT_MIXED, "", "--mixed-priorities", true, "messages of so many priorities, from 0 on")      \
    X(OPT_KEYS, "", "--routing-keys", true, "%d in the routing key: numbers below this, mixed")    \
    X(OPT_TIME, "-z", "--time", true, "seconds to run")                                            \
    X(OPT_PMESSAGES, "-C", "--pmessages", true, "messages of each producer channel")               \
    X(OPT_CMESSAGES, "-D", "--cmessages", true, "messages of each consumer channel")               \
    X(OPT_INTERVAL, "-i", "--interval", true, "seconds between two lines (default 1)")             \
    X(OPT_JSON, "", "--json", true, "write a summary to this file")                                \
    X(OPT_JSON_SUMMARY, "", "--json-summary", false, "print the summary as the last line")         \
    X(OPT_QUIET, "", "--quiet", false, "no line per interval")                                     \
    X(OPT_HEARTBEAT, "-b", "--heartbeat", true, "seconds (default: the server's)")                 \
    X(OPT_FRAME_MAX, "-M", "--framemax", true, "largest frame to ask for")                         \
    X(OPT_RECONNECT, "", "--reconnect", false, "connect again, to the next URI, when cut off")     \
    X(OPT_GAP, "", "--gap-report", false, "longest gap without confirm or delivery; --reconnect")  \
    X(OPT_SILENCE, "", "--silence", true, "ms without an answer that count as cut off")            \
    X(OPT_CONNECT, "", "--connect-timeout", true, "ms for connecting (default 10000)")             \
    X(OPT_CA, "", "--cacert", true, "PEM file: verify brokers of amqps:// URIs by it")             \
    X(OPT_TRUST, "-udsc", "--use-default-ssl-context", false, "... by the system's authorities")   \
    X(OPT_CERT, "", "--cert", true, "PEM file: our certificate")                                   \
    X(OPT_CERT_KEY, "", "--key", true, "PEM file: its key (default: in the same file)")            \
    X(OPT_EXTERNAL, "-se", "--sasl-external", false, "log in by it (EXTERNAL)")                    \
    X(OPT_VERSION, "-v", "--version", false, "the version of warren-perf")                         \
    X(OPT_HELP, "-?", "--help", false, "this text")

enum option {
#define OPTION_ENUM(id, short_name, long_name, argument, help) id,
    OPTION_TABLE(OPTION_ENUM)
#undef OPTION_ENUM
        OPTION_COUNT,
};

static const struct {
    const char *short_name, *long_name, *help;
    bool has_argument;
} option_table[] = {
#define OPTION_ROW(id, short_name, long_name, argument, help)                                      \
    {short_name, long_name, help, argument},
    OPTION_TABLE(OPTION_ROW)
#undef OPTION_ROW
};

/* PerfTest's other options. They must not be taken for one of ours with a value in the same word
 * (-dcr is no run called "cr"): what tunes threads or switches off what is not there is taken and
 * does nothing, the rest is refused. */
static const struct {
    const char *short_name, *long_name;
    bool has_argument, ignored;
} foreign_options[] = {
    {"-dcr", "--disable-connection-recovery", false, true},
    {"-ctp", "--consumers-thread-pools", true, true},
    {"-hst", "--heartbeat-sender-threads", true, true},
    {"-niot", "--nio-threads", true, true},
    {"-niotp", "--nio-thread-pool", true, true},
    {"-pst", "--producer-scheduler-threads", true, true},
    {"-st", "--shutdown-timeout", true, true},
    {"-vth", "--virtual-threads", false, true},
    {"-B", "--body", true, false},
    {"-bc", "--body-count", true, false},
    {"-bfc", "--body-field-count", true, false},
    {"-ca", "--consumer-args", true, false},
    {"-cri", "--connection-recovery-interval", true, false},
    {"-ct", "--confirm-timeout", true, false},
    {"-env", "--environment-variables", false, false},
    {"-ew", "--exit-when", true, false},
    {"-jb", "--json-body", false, false},
    {"-K", "--random-routing-key", false, false},
    {"-l", "--legacy-metrics", false, false},
    {"-L", "--consumer-latency", true, false},
    {"-ll", "--leader-locator", true, false},
    {"-m", "--ptxsize", true, false},
    {"-mf", "--metrics-format", true, false},
    {"-mh", "--metrics-help", false, false},
    {"-ms", "--use-millis", false, false},
    {"-n", "--ctxsize", true, false},
    {"-na", "--nack", false, false},
    {"-o", "--output-file", true, false},
    {"-P", "--publishing-interval", true, false},
    {"-pi", "--polling-interval", true, false},
    {"-po", "--polling", false, false},
    {"-prsd", "--producer-random-start-delay", true, false},
    {"-Q", "--global-qos", true, false},
    {"-qf", "--queue-file", true, false},
    {"-R", "--consumer-rate", true, false},
    {"-re", "--requeue", true, false},
    {"-rkcs", "--routing-key-cache-size", true, false},
    {"-S", "--slow-start", false, false},
    {"-sb", "--skip-binding-queues", false, false},
    {"-so", "--stream-consumer-offset", true, false},
    {"-sq", "--stream-queue", false, false},
    {"-sst", "--servers-startup-timeout", true, false},
    {"-sul", "--servers-up-limit", true, false},
    {"-T", "--body-content-type", true, false},
    {"-vl", "--variable-latency", true, false},
    {"-vr", "--variable-rate", true, false},
    {"-vs", "--variable-size", true, false},
};

WR_NORETURN static void fail(const char *what, const char *value)
{
    fprintf(stderr, "warren-perf: %s: %s (--help shows the options)\n", what, value);
    exit(2);
}

WR_NORETURN static void help(void)
{
    printf("warren-perf: load generator for AMQP 0-9-1 brokers\n\n");
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        printf("  %-5s%-26s %s\n", option_table[i].short_name, option_table[i].long_name,
               option_table[i].help);
    }
    exit(0);
}

static uint64_t number(const char *text, uint64_t max)
{
    uint64_t value;
    if (str_parse_u64(bytes_from_cstr(text), max, &value) != 0) {
        fail("not a number that is allowed here", text);
    }
    return value;
}

static void resolve(struct uri *u, const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int err = getaddrinfo(host, port, &hints, &found);
    if (err != 0) {
        fail(gai_strerror(err), host);
    }
    memcpy(&u->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    snprintf(u->text, sizeof(u->text), "%s:%s", host, port);
}

static void add_uri(struct options *o, struct bytes text)
{
    struct uri_parts parts;
    if (o->uri_count == OPTIONS_URIS_MAX) {
        fail("too many", "URIs");
    }
    const char *why = uri_parse(text, &parts);
    if (why != NULL) {
        fail(why, bytes_strdup(text));
    }
    struct uri *u = &o->uris[o->uri_count++];
    *u = (struct uri){.user = ""};
    snprintf(u->user, sizeof(u->user), "%s", parts.user);
    snprintf(u->password, sizeof(u->password), "%s", parts.password);
    snprintf(u->vhost, sizeof(u->vhost), "%s", parts.vhost);
    snprintf(u->host, sizeof(u->host), "%s", parts.host);
    u->tls = parts.tls;
    resolve(u, parts.host, parts.port);
}

static void add_uris(struct options *o, const char *list)
{
    struct bytes rest = bytes_from_cstr(list);
    bool more = true;
    while (more) {
        struct bytes one;
        more = str_split(rest, ',', &one, &rest);
        add_uri(o, one);
    }
}

/* A value from the command line: an integer, a truth value, or else a string. */
static void put_value(struct writer *w, struct bytes value)
{
    int64_t integer;
    if (str_parse_i64(value, INT64_MIN, INT64_MAX, &integer) == 0) {
        wire_value_put_int64(w, integer);
    } else if (bytes_eq_cstr(value, "true") || bytes_eq_cstr(value, "false")) {
        wire_value_put_bool(w, value.data[0] == 't');
    } else {
        wire_value_put_longstr(w, value);
    }
}

/* Next "key=value" of a list; false at its end. */
static bool next_pair(struct bytes *list, struct bytes *ret_key, struct bytes *ret_value)
{
    if (list->size == 0) {
        return false;
    }
    struct bytes pair;
    (void)str_split(*list, ',', &pair, list);
    if (!str_split(pair, '=', ret_key, ret_value) || ret_key->size == 0 || ret_key->size > 255) {
        fail("not key=value", bytes_strdup(pair));
    }
    return true;
}

static void add_queue_args(struct options *o, const char *text)
{
    struct bytes list = bytes_from_cstr(text);
    struct bytes key;
    struct bytes value;
    while (next_pair(&list, &key, &value)) {
        wire_put_key(&o->queue_args, key);
        put_value(&o->queue_args, value);
        if (bytes_eq_cstr(key, "x-queue-type") && !bytes_eq_cstr(value, "classic")) {
            o->durable = true;
        }
    }
}

static uint64_t bytes_number(struct bytes value, uint64_t max)
{
    uint64_t result;
    if (str_parse_u64(value, max, &result) != 0) {
        fail("not a number that is allowed here", bytes_strdup(value));
    }
    return result;
}

/* PerfTest's names of the properties; every other key is a header. */
static void set_property(struct wire_props *p, struct writer *headers, struct bytes key,
                         struct bytes value)
{
    static const struct {
        const char *name;
        enum wire_prop prop;
        size_t offset;
    } strings[] = {
        {"contentType", WIRE_PROP_CONTENT_TYPE, offsetof(struct wire_props, content_type)},
        {"contentEncoding", WIRE_PROP_CONTENT_ENCODING,
         offsetof(struct wire_props, content_encoding)},
        {"correlationId", WIRE_PROP_CORRELATION_ID, offsetof(struct wire_props, correlation_id)},
        {"replyTo", WIRE_PROP_REPLY_TO, offsetof(struct wire_props, reply_to)},
        {"expiration", WIRE_PROP_EXPIRATION, offsetof(struct wire_props, expiration)},
        {"messageId", WIRE_PROP_MESSAGE_ID, offsetof(struct wire_props, message_id)},
        {"type", WIRE_PROP_TYPE, offsetof(struct wire_props, type)},
        {"userId", WIRE_PROP_USER_ID, offsetof(struct wire_props, user_id)},
        {"appId", WIRE_PROP_APP_ID, offsetof(struct wire_props, app_id)},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(strings); i++) {
        if (bytes_eq_cstr(key, strings[i].name)) {
            if (value.size > 255) {
                fail("too long", strings[i].name);
            }
            memcpy((char *)p + strings[i].offset, &value, sizeof(value));
            p->flags |= (uint16_t)strings[i].prop;
            return;
        }
    }
    if (bytes_eq_cstr(key, "deliveryMode")) {
        p->delivery_mode = (uint8_t)bytes_number(value, 255);
        p->flags |= WIRE_PROP_DELIVERY_MODE;
    } else if (bytes_eq_cstr(key, "priority")) {
        p->priority = (uint8_t)bytes_number(value, 255);
        p->flags |= WIRE_PROP_PRIORITY;
    } else if (bytes_eq_cstr(key, "timestamp")) {
        p->timestamp = bytes_number(value, UINT64_MAX);
        p->flags |= WIRE_PROP_TIMESTAMP;
    } else {
        wire_put_key(headers, key);
        put_value(headers, value);
        p->flags |= WIRE_PROP_HEADERS;
    }
}

/* With a priority below 0: that of the text, if any. */
static void build_props(const struct options *o, const char *text, int priority, struct writer *w)
{
    struct wire_props p = WIRE_PROPS_NONE;
    struct writer headers;
    writer_init(&headers, 256);
    struct bytes list = bytes_from_cstr(text);
    struct bytes key;
    struct bytes value;
    while (next_pair(&list, &key, &value)) {
        set_property(&p, &headers, key, value);
    }
    if (o->persistent && !wire_props_has(&p, WIRE_PROP_DELIVERY_MODE)) {
        p.delivery_mode = 2;
        p.flags |= WIRE_PROP_DELIVERY_MODE;
    }
    if (priority >= 0) {
        p.priority = (uint8_t)priority;
        p.flags |= WIRE_PROP_PRIORITY;
    }
    p.headers = writer_bytes(&headers);
    wire_props_put(w, &p);
    writer_deinit(&headers);
}

static void set_rate(struct options *o, const char *text)
{
    char *end;
    const double rate = strtod(text, &end);
    if (*end != '\0' || end == text || !(rate > 0.0001) || rate > 1e8) {
        fail("not a rate", text);
    }
    o->send_interval_ns = (uint64_t)(1e9 / rate);
}

static void set_flag(struct options *o, const char *text)
{
    if (strcmp(text, "persistent") == 0) {
        o->persistent = true;
        o->durable = true;
    } else if (strcmp(text, "mandatory") == 0) {
        o->mandatory = true;
    } else {
        fail("unknown flag", text);
    }
}

/* Options about what is declared and sent; false when it is none of them. */
static bool apply_model(struct options *o, enum option id, const char *value, const char **props)
{
    switch ((unsigned)id) {
    case OPT_QUEUE:
        o->queue = value;
        return true;
    case OPT_PATTERN:
        o->queue_pattern = value;
        return true;
    case OPT_FROM:
        o->queue_from = (unsigned)number(value, 1000000);
        return true;
    case OPT_TO:
        o->queue_to = (unsigned)number(value, 1000000);
        return true;
    case OPT_QUEUE_ARGS:
        add_queue_args(o, value);
        return true;
    case OPT_QUORUM:
        add_queue_args(o, "x-queue-type=quorum");
        o->persistent = true;
        return true;
    case OPT_EXCLUSIVE:
        o->exclusive = true;
        return true;
    case OPT_AUTO_DELETE:
        o->auto_delete = strcmp(value, "true") == 0;
        return true;
    case OPT_EXCHANGE:
        o->exchange = value;
        return true;
    case OPT_TYPE:
        o->type = value;
        return true;
    case OPT_KEY:
        o->key = value;
        return true;
    case OPT_PREDECLARED:
        o->predeclared = true;
        return true;
    case OPT_FLAG:
        set_flag(o, value);
        return true;
    case OPT_PROPS:
        *props = value;
        return true;
    case OPT_VHOST:
        o->vhost = value;
        return true;
    case OPT_MIXED:
        o->priorities = (unsigned)number(value, 256);
        return true;
    case OPT_KEYS:
        o->keys = (unsigned)number(value, 1u << 24);
        return true;
    default:
        return false;
    }
}

/* Options about the load. */
static bool apply_load(struct options *o, enum option id, const char *value)
{
    switch ((unsigned)id) {
    case OPT_PRODUCERS:
        o->producers = (unsigned)number(value, 100000);
        return true;
    case OPT_CONSUMERS:
        o->consumers = (unsigned)number(value, 100000);
        return true;
    case OPT_PCHANNELS:
        o->producer_channels = (unsigned)number(value, 2047);
        return true;
    case OPT_CCHANNELS:
        o->consumer_channels = (unsigned)number(value, 2047);
        return true;
    case OPT_SIZE:
        o->size = (uint32_t)number(value, 512u << 20);
        return true;
    case OPT_RATE:
        set_rate(o, value);
        return true;
    case OPT_CONFIRM:
        o->confirm_window = (uint32_t)number(value, 1u << 24);
        return true;
    case OPT_QOS:
        o->qos = (uint16_t)number(value, UINT16_MAX);
        return true;
    case OPT_AUTOACK:
        o->autoack = true;
        return true;
    case OPT_MULTI_ACK:
        o->multi_ack = (uint32_t)number(value, UINT32_MAX);
        return true;
    case OPT_TIME:
        o->seconds = number(value, 10000000);
        return true;
    case OPT_PMESSAGES:
        o->producer_messages = number(value, UINT64_MAX);
        return true;
    case OPT_CMESSAGES:
        o->consumer_messages = number(value, UINT64_MAX);
        return true;
    default:
        return false;
    }
}

/* Options about TLS. */
static bool apply_tls(struct options *o, enum option id, const char *value)
{
    switch ((unsigned)id) {
    case OPT_CA:
        o->ca_file = value;
        return true;
    case OPT_TRUST:
        o->default_trust = true;
        return true;
    case OPT_CERT:
        o->cert_file = value;
        return true;
    case OPT_CERT_KEY:
        o->key_file = value;
        return true;
    case OPT_EXTERNAL:
        o->external = true;
        return true;
    default:
        return false;
    }
}

/* All others. */
static void apply_other(struct options *o, enum option id, const char *value)
{
    switch ((unsigned)id) {
    case OPT_URI:
    case OPT_URIS:
        add_uris(o, value);
        break;
    case OPT_ID:
        snprintf(o->id, sizeof(o->id), "%s", value);
        break;
    case OPT_INTERVAL:
        o->interval_ms = number(value, 3600) * 1000;
        break;
    case OPT_JSON:
        o->json_file = value;
        break;
    case OPT_JSON_SUMMARY:
        o->json_summary = true;
        break;
    case OPT_QUIET:
        o->quiet = true;
        break;
    case OPT_HEARTBEAT:
        o->heartbeat = (uint16_t)number(value, UINT16_MAX - 1);
        break;
    case OPT_FRAME_MAX:
        o->frame_max = (uint32_t)number(value, UINT32_MAX);
        break;
    case OPT_RECONNECT:
        o->reconnect = true;
        break;
    case OPT_GAP:
        o->gap_report = true;
        o->reconnect = true;
        break;
    case OPT_SILENCE:
        o->silence_ms = number(value, 1000000);
        break;
    case OPT_CONNECT:
        o->connect_timeout_ms = number(value, 1000000);
        break;
    case OPT_VERSION:
        printf("warren-perf %s\n", WARREN_VERSION);
        exit(0);
    case OPT_HELP:
        help();
    default:
        WR_UNREACHABLE();
    }
}

/* Which option is this, and is its value in the same word (-x1, --size=16)? */
static enum option find_option(const char *word, const char **ret_value)
{
    *ret_value = NULL;
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(word, option_table[i].short_name) == 0 ||
            strcmp(word, option_table[i].long_name) == 0) {
            return (enum option)i;
        }
    }
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        const size_t size = strlen(option_table[i].long_name);
        if (option_table[i].has_argument && strncmp(word, option_table[i].long_name, size) == 0 &&
            word[size] == '=') {
            *ret_value = word + size + 1;
            return (enum option)i;
        }
    }
    /* Longest short name first, so that -qpf is not taken for -q. */
    for (size_t size = 4; size >= 2; size--) {
        for (unsigned i = 0; i < OPTION_COUNT; i++) {
            if (option_table[i].has_argument && strlen(option_table[i].short_name) == size &&
                strncmp(word, option_table[i].short_name, size) == 0) {
                *ret_value = word + size + (word[size] == '=');
                return (enum option)i;
            }
        }
    }
    return OPTION_COUNT;
}

/* True when the word is an option of PerfTest that does nothing here; *ret_value: and the next word
 * is its value. One that would do something ends the program. */
static bool is_ignored(const char *word, bool *ret_value)
{
    const size_t size = strcspn(word, "=");
    for (unsigned i = 0; i < WR_ARRAY_SIZE(foreign_options); i++) {
        const char *names[] = {foreign_options[i].short_name, foreign_options[i].long_name};
        for (unsigned k = 0; k < 2; k++) {
            if (strlen(names[k]) != size || strncmp(word, names[k], size) != 0) {
                continue;
            }
            if (!foreign_options[i].ignored) {
                fail("an option of PerfTest that warren-perf does not have", word);
            }
            *ret_value = foreign_options[i].has_argument && word[size] == '\0';
            return true;
        }
    }
    return false;
}

/* The one '%' of a pattern must be %d: it is given to a formatter of our own, not to printf. */
static bool is_pattern(const char *text)
{
    const char *at = strchr(text, '%');
    return at != NULL && at[1] == 'd' && strchr(at + 1, '%') == NULL && strlen(text) <= 200;
}

static void put_number(const char *pattern, unsigned value, char out[256])
{
    const char *at = strchr(pattern, '%');
    snprintf(out, 256, "%.*s%u%s", (int)(at - pattern), pattern, value, at + 2);
}

static void check_pattern(const struct options *o)
{
    if (!is_pattern(o->queue_pattern)) {
        fail("a queue pattern has one %d", o->queue_pattern);
    }
    if (o->queue_to < o->queue_from) {
        fail("--queue-pattern-to is missing or below --queue-pattern-from", o->queue_pattern);
    }
}

static void finish(struct options *o, const char *props)
{
    if (o->uri_count == 0) {
        add_uris(o, "amqp://guest:guest@127.0.0.1:5672/%2f");
    }
    if (o->producer_channels == 0 || o->consumer_channels == 0 || o->interval_ms == 0) {
        fail("must not be 0", "channel counts and the interval");
    }
    if (o->queue_pattern != NULL) {
        check_pattern(o);
    }
    if (o->exchange == NULL) {
        static char name[256];
        snprintf(name, sizeof(name), "amq.%.200s", o->type);
        o->exchange = o->predeclared && o->queue != NULL && o->key == NULL ? "" : name;
    }
    if (strlen(o->exchange) > 255 || (o->key != NULL && strlen(o->key) > 255) ||
        (o->queue != NULL && strlen(o->queue) > 255)) {
        fail("a name has at most 255 bytes", "names");
    }
    if (o->predeclared && o->consumers > 0 && options_queue_count(o) == 0) {
        fail("--predeclared needs --queue or --queue-pattern", "consumers");
    }
    if (o->gap_report && o->producers > 0 && o->confirm_window == 0) {
        fail("--gap-report needs --confirm", "producers");
    }
    snprintf(o->random_key, sizeof(o->random_key), "perf-%ld-%ld", (long)getpid(),
             (long)time(NULL));
    if (o->keys > 0 && (!o->predeclared || o->key == NULL || !is_pattern(o->key))) {
        fail("--routing-keys needs --predeclared and a --routing-key with one %d", "keys");
    }
    build_props(o, props, -1, &o->props);
    if (o->priorities > 0) {
        o->prio_props = wr_calloc(o->priorities, sizeof(*o->prio_props));
        for (unsigned i = 0; i < o->priorities; i++) {
            writer_init(&o->prio_props[i], 256);
            build_props(o, props, (int)i, &o->prio_props[i]);
        }
    }
}

void options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.producers = 1,
                          .consumers = 1,
                          .producer_channels = 1,
                          .consumer_channels = 1,
                          .queue_from = 1,
                          .type = "direct",
                          .interval_ms = 1000,
                          .heartbeat = UINT16_MAX,
                          .connect_timeout_ms = 10000,
                          .multi_ack = 1};
    snprintf(o->id, sizeof(o->id), "test-%ld", (long)getpid());
    writer_init(&o->queue_args, 256);
    writer_init(&o->props, 256);
    const char *props = "";
    for (int i = 1; i < argc; i++) {
        const char *value;
        bool skip_value = false;
        if (is_ignored(argv[i], &skip_value)) {
            i += skip_value && i + 1 < argc;
            continue;
        }
        const enum option id = find_option(argv[i], &value);
        if (id == OPTION_COUNT) {
            fail("unknown option", argv[i]);
        }
        if (option_table[id].has_argument && value == NULL) {
            if (i + 1 == argc) {
                fail("value missing", argv[i]);
            }
            value = argv[++i];
        }
        if (!apply_model(o, id, value, &props) && !apply_load(o, id, value) &&
            !apply_tls(o, id, value)) {
            apply_other(o, id, value);
        }
    }
    finish(o, props);
}

void options_deinit(struct options *o)
{
    writer_deinit(&o->queue_args);
    writer_deinit(&o->props);
    for (unsigned i = 0; i < o->priorities; i++) {
        writer_deinit(&o->prio_props[i]);
    }
    wr_free(o->prio_props);
}

unsigned options_queue_count(const struct options *o)
{
    if (o->queue_pattern != NULL) {
        return o->queue_to - o->queue_from + 1;
    }
    return o->queue != NULL ? 1 : 0;
}

void options_queue_name(const struct options *o, unsigned index, char out[256])
{
    WR_ASSERT(index < options_queue_count(o));
    if (o->queue_pattern == NULL) {
        snprintf(out, 256, "%s", o->queue);
        return;
    }
    put_number(o->queue_pattern, o->queue_from + index, out);
}

void options_routing_key(const struct options *o, unsigned index, char out[256])
{
    if (o->key != NULL && o->queue_pattern == NULL) {
        snprintf(out, 256, "%s", o->key);
    } else if (options_queue_count(o) == 0) {
        snprintf(out, 256, "%s", o->random_key);
    } else {
        options_queue_name(o, index, out);
    }
}

/* Enough that no cache of keys holds them all; few enough frames otherwise that the processor's
 * caches hold them. */
#define KEY_VARIANTS      4096
#define PRIORITY_VARIANTS 64

unsigned options_variant_count(const struct options *o)
{
    return o->keys > 0 ? KEY_VARIANTS : o->priorities > 0 ? PRIORITY_VARIANTS : 1;
}

void options_variant(const struct options *o, unsigned index, unsigned variant, char out_key[256],
                     struct bytes *ret_props)
{
    /* Without a regular stride, and the same in every run. */
    const uint32_t mixed = (uint32_t)((variant * UINT64_C(0x9e3779b97f4a7c15)) >> 33);
    if (o->keys > 0) {
        put_number(o->key, mixed % o->keys, out_key);
    } else {
        options_routing_key(o, index, out_key);
    }
    *ret_props =
        writer_bytes(o->priorities > 0 ? &o->prio_props[mixed % o->priorities] : &o->props);
}
