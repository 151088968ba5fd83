/*
 * What: finding a node and talking to it. A running node leaves a note in $HOME/.warren/nodes/NAME
 * (host, port, cookie, identity; readable by its owner only); a configuration file given with
 * --config serves as well; the cookie may come from RABBITMQ_ERLANG_COOKIE.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "warren/link.h"
#include "warren/mem.h"

#include "connect.h"

enum { INTERRUPTED_MS = 2000, LOOK_MS = 100 };

struct target {
    char name[256]; /* of a configuration: who is meant, if nobody else was named */
    char host[256], port[16], cookie[256];
    struct uid node_id; /* zero: not known */
};

struct asking {
    struct ctl_options *options;
    const struct target *target;
    struct link_session *session;
    struct outq out;
    int fd;
    int64_t deadline_ms;
    int64_t interrupted_ms; /* when it was first seen; 0: not */
    bool ready;
    char *answer;
    char refusal[640];
};

static void trim(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ' || text[n - 1] == '\r' ||
                     text[n - 1] == '\t')) {
        text[--n] = 0;
    }
}

/* As the node reads it: 'value' and "value" are value. */
static void unquote(char *text)
{
    size_t n = strlen(text);
    if (n >= 2 && (text[0] == '\'' || text[0] == '"') && text[n - 1] == text[0]) {
        memmove(text, text + 1, n - 2);
        text[n - 2] = 0;
    }
}

/* Lines "key = value" of a configuration or of a node's note. */
static bool read_target(const char *path, struct target *t)
{
    FILE *file = fopen(path, "r");
    char line[1024];
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        char key[256];
        char value[256];
        trim(line);
        if (sscanf(line, " %255[^ =] = %255[^\n]", key, value) != 2) {
            continue;
        }
        unquote(value);
        if (strcmp(key, "distribution.listener.port_range.min") == 0) {
            (void)snprintf(t->port, sizeof t->port, "%.15s", value);
        } else if (strcmp(key, "distribution.listener.interface") == 0) {
            (void)snprintf(t->host, sizeof t->host, "%s", value);
        } else if (strcmp(key, "erlang.cookie") == 0 || strcmp(key, "cluster.cookie") == 0) {
            (void)snprintf(t->cookie, sizeof t->cookie, "%s", value);
        } else if (strcmp(key, "nodename") == 0 && strchr(value, '@') != NULL) {
            (void)snprintf(t->name, sizeof t->name, "%s", value);
        } else if (strcmp(key, "node.id") == 0 &&
                   uid_parse(bytes_from_cstr(value), &t->node_id) != 0) {
            t->node_id = (struct uid){0, 0};
        }
    }
    (void)fclose(file);
    return true;
}

static bool find_target(struct ctl_options *o, struct target *t, char *errmsg)
{
    const char *at = strchr(o->node, '@');
    const char *environment = getenv("RABBITMQ_ERLANG_COOKIE");
    const char *home = getenv("HOME");
    char path[1024];
    (void)snprintf(t->host, sizeof t->host, "%s", at != NULL ? at + 1 : "localhost");
    (void)snprintf(t->port, sizeof t->port, "25672");
    if (o->config != NULL) {
        if (!read_target(o->config, t)) {
            (void)snprintf(errmsg, 512, "cannot read %s: %s", o->config, strerror(errno));
            return false;
        }
        if (o->any_node && t->name[0] != 0) { /* until the node there has said who it is */
            (void)snprintf(o->found, sizeof o->found, "%s", t->name);
            o->node = o->found;
        }
    } else if (home != NULL && strchr(o->node, '/') == NULL) {
        (void)snprintf(path, sizeof path, "%s/.warren/nodes/%s", home, o->node);
        (void)read_target(path, t);
    }
    if (t->host[0] == 0 || strcmp(t->host, "0.0.0.0") == 0 || strcmp(t->host, "::") == 0) {
        (void)snprintf(t->host, sizeof t->host, "localhost");
    }
    if (o->cookie != NULL) {
        (void)snprintf(t->cookie, sizeof t->cookie, "%s", o->cookie);
    } else if (t->cookie[0] == 0 && environment != NULL) {
        (void)snprintf(t->cookie, sizeof t->cookie, "%s", environment);
    }
    return true;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A signal does not restart a connect that has a time limit: it goes on by itself, and how it ended
 * is asked. */
static bool connect_to(int fd, const struct addrinfo *ai, int timeout_s)
{
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0) {
        return true;
    }
    if (errno != EINTR) {
        return false;
    }
    const int64_t deadline_ms = now_ms() + (int64_t)timeout_s * 1000;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int rc = 0;
    do {
        const int64_t left_ms = deadline_ms - now_ms();
        rc = poll(&wait, 1, left_ms > 0 ? (int)left_ms : 0);
    } while (rc < 0 && errno == EINTR);
    int error = 0;
    socklen_t size = sizeof error;
    return rc > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

static int dial(const struct target *t, int timeout_s)
{
    const struct timeval limit = {.tv_sec = timeout_s}; /* of connect and send */
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    if (getaddrinfo(t->host, t->port, &hints, &found) != 0) {
        return -1;
    }
    for (struct addrinfo *ai = found; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        }
        if (fd >= 0 && !connect_to(fd, ai, timeout_s)) {
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

bool ctl_connects(const char *node, const char *interface, int port, int timeout_s)
{
    struct target t = {.port = ""};
    const char *at = strchr(node, '@');
    const bool any = strcmp(interface, "[::]") == 0 || strcmp(interface, "::") == 0 ||
                     strcmp(interface, "0.0.0.0") == 0;
    (void)snprintf(t.host, sizeof t.host, "%s", any && at != NULL ? at + 1 : interface);
    (void)snprintf(t.port, sizeof t.port, "%d", port);
    const int fd = dial(&t, timeout_s);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static const char *on_ready(void *ctx, const struct link_identity *peer)
{
    struct asking *a = ctx;
    if (a->options->any_node) {
        (void)snprintf(a->options->found, sizeof a->options->found, "%s", peer->name);
        a->options->node = a->options->found;
    } else if (strcmp(peer->name, a->options->node) != 0) {
        /* it must not be another node that is stopped because this one's note is gone */
        (void)snprintf(a->refusal, sizeof a->refusal, "the node there is '%s', not '%s'",
                       peer->name, a->options->node);
        return a->refusal;
    } else if (!uid_is_zero(a->target->node_id) && !uid_eq(peer->node_id, a->target->node_id)) {
        /* nor one of the same name, of another cluster, that has its port now */
        (void)snprintf(a->refusal, sizeof a->refusal,
                       "the node there is another '%s' than the one whose note is in "
                       "~/.warren/nodes: its data directory is another. Give --config, or remove "
                       "the note",
                       a->options->node);
        return a->refusal;
    }
    a->ready = true;
    return NULL;
}

static void on_frame(void *ctx, uint8_t type, const struct slice *payload)
{
    struct asking *a = ctx;
    if (type == LINK_REPLY && a->answer == NULL) {
        a->answer = malloc(payload->size + 1u);
        if (a->answer != NULL) {
            memcpy(a->answer, slice_data(payload), payload->size);
            a->answer[payload->size] = 0;
        }
    }
}

static bool flush(struct asking *a)
{
    struct slice piece;
    while (outq_take(&a->out, &piece, 1) == 1) {
        size_t done = 0;
        while (done < piece.size) {
            ssize_t n = send(a->fd, slice_data(&piece) + done, piece.size - done, MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR) {
                continue;
            }
            if (n <= 0) {
                slice_unref(&piece);
                return false;
            }
            done += (size_t)n;
        }
        slice_unref(&piece);
    }
    return true;
}

static bool is_interrupted(struct asking *a)
{
    const int asked = a->options->interrupts == NULL ? 0 : (int)*a->options->interrupts;
    if (asked == 0) {
        return false;
    }
    a->interrupted_ms = a->interrupted_ms == 0 ? now_ms() : a->interrupted_ms;
    return asked > 1 || now_ms() - a->interrupted_ms >= INTERRUPTED_MS;
}

/* As poll, until the deadline or an interruption: < 0 = failed, 0 = there is nothing. The flag is
 * looked at now and then, for a signal that comes before the call does not end it. */
static int wait_for_bytes(struct asking *a)
{
    struct pollfd fd = {.fd = a->fd, .events = POLLIN};
    int rc = 0;
    do {
        const int64_t left_ms = a->deadline_ms - now_ms();
        if (left_ms <= 0 || (a->options->interrupted = is_interrupted(a))) {
            return 0;
        }
        const bool looks = a->options->interrupts != NULL && left_ms > LOOK_MS;
        rc = poll(&fd, 1, looks ? LOOK_MS : (int)left_ms);
    } while (rc == 0 || (rc < 0 && errno == EINTR));
    return rc;
}

/* One read; 0 = closed, < 0 = error or time-out, > 0 = something was fed. */
static int pump(struct asking *a, char *errmsg)
{
    static uint8_t bytes[65536];
    if (wait_for_bytes(a) <= 0) {
        a->options->timed_out = !a->options->interrupted;
        (void)snprintf(errmsg, 512, "no answer within %d s", a->options->timeout_s);
        return -1;
    }
    ssize_t n = recv(a->fd, bytes, sizeof bytes, 0);
    if (n <= 0) {
        (void)snprintf(errmsg, 512, "the node closed the connection%s%s",
                       link_session_error(a->session)[0] != 0 ? ": " : "",
                       link_session_error(a->session));
        return 0;
    }
    if (link_session_feed(a->session, bytes, (size_t)n) != 0) {
        (void)snprintf(errmsg, 512, "%s", link_session_error(a->session));
        return -1;
    }
    if (!flush(a)) {
        (void)snprintf(errmsg, 512, "the connection broke");
        return -1;
    }
    return 1;
}

static char *converse(struct asking *a, const char *json, bool until_closed, char *errmsg)
{
    link_session_start(a->session);
    if (!flush(a)) {
        (void)snprintf(errmsg, 512, "the connection broke");
        return NULL;
    }
    while (!a->ready) {
        if (pump(a, errmsg) <= 0) {
            return NULL;
        }
    }
    link_session_send_bytes(a->session, LINK_REQUEST, bytes_from_cstr(json));
    if (!flush(a)) {
        (void)snprintf(errmsg, 512, "the connection broke");
        return NULL;
    }
    while (a->answer == NULL) {
        if (pump(a, errmsg) <= 0) {
            return NULL;
        }
    }
    while (until_closed && pump(a, errmsg) > 0) {
    }
    return a->answer;
}

char *ctl_ask(struct ctl_options *o, const char *json, bool until_closed, char *errmsg)
{
    static const struct link_sink sink = {.on_ready = on_ready, .on_frame = on_frame};
    struct target t = {.cookie = ""};
    struct asking a = {.options = o, .target = &t, .fd = -1};
    struct link_identity own = {.kind = LINK_KIND_TOOL, .name = "warrenctl"};
    uint8_t nonce[32];
    if (!find_target(o, &t, errmsg)) {
        return NULL;
    }
    o->timed_out = false;
    o->interrupted = false;
    a.deadline_ms = now_ms() + (int64_t)o->timeout_s * 1000;
    a.fd = dial(&t, o->timeout_s);
    if (a.fd < 0) {
        (void)snprintf(
            errmsg, 512,
            "cannot connect to %s:%s. Is it running? (its note in ~/.warren/nodes, or --config, "
            "tells where it listens)",
            t.host, t.port);
        return NULL;
    }
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce) {
        (void)close(a.fd);
        (void)snprintf(errmsg, 512, "no random numbers to be had");
        return NULL;
    }
    outq_init(&a.out);
    a.session = link_session_new(true, bytes_from_cstr(t.cookie), &own, nonce, &a.out, &sink, &a);
    char *answer = converse(&a, json, until_closed, errmsg);
    link_session_free(a.session);
    outq_deinit(&a.out);
    (void)close(a.fd);
    return answer;
}
