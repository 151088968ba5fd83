/*
 * What: the real env under load from all its threads, for ThreadSanitizer (Criterion does not run
 * under it, so this is a plain program): three shards and the log context exchange mail, connect to
 * each other, move connections, use the store and files, all at once. Each context ticks off its
 * parts and tells shard 0; when all are done the node stops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "warren/err.h"
#include "warren/mem.h"

enum { SHARDS = 3, CONTEXTS = SHARDS + 1, LOG = SHARDS };
enum { LETTERS = 4000, LETTERS_PER_TURN = 50, CONNS = 4, KEYS = 60, RECORDS = 60, READS = 40 };
#define CONN_BYTES (256u * 1024)

enum letter_kind { LETTER_NUMBER = 1, LETTER_FILE_READY = 2, LETTER_DONE = 3 };

struct letter {
    struct mail mail;
    uint64_t number;
    struct slice shared; /* a buffer that every context holds references of */
};

struct stream { /* one connection, either side */
    struct actor *actor;
    struct env_conn *conn;
    bool client;
    bool counted; /* reported closed */
    uint64_t sent, received;
    struct stream *next;
};

struct actor {
    struct rig *rig;
    struct env *env;
    uint32_t number;
    bool started;
    struct slice shared;
    uint32_t posted[CONTEXTS], seen[CONTEXTS];
    uint32_t mail_done; /* senders all of whose letters are here */
    struct stream *streams;
    uint32_t clients_done;
    uint32_t kv_sent, kv_done;
    struct env_file *file;
    uint32_t file_done;
    bool told;
    uint32_t done_count; /* shard 0 */
};

static struct actor actors[CONTEXTS];
static uint16_t amqp_port, cluster_port; /* set before the threads start */

static void letter_destroy(struct mail *mail)
{
    struct letter *letter = (struct letter *)(void *)mail;
    slice_unref(&letter->shared);
    wr_free(letter);
}

static void post(struct actor *a, uint32_t to, uint32_t kind, uint64_t number)
{
    struct letter *letter = wr_calloc(1, sizeof(*letter));
    letter->mail.kind = kind;
    letter->mail.destroy = letter_destroy;
    letter->number = number;
    letter->shared = slice_ref(&a->shared);
    a->env->ops->post(a->env, to, &letter->mail);
}

/* --- connections ------------------------------------------------------------------------------ */

static struct stream *stream_new(struct actor *a, struct env_conn *conn, bool client)
{
    struct stream *s = wr_calloc(1, sizeof(*s));
    s->actor = a;
    s->conn = conn;
    s->client = client;
    s->next = a->streams;
    a->streams = s;
    return s;
}

/* Clients on even numbers go to the port whose connections are spread, others to the one whose are
 * moved. */
static void connect_all(struct actor *a)
{
    for (uint32_t i = 0; i < CONNS; i++) {
        struct stream *s = stream_new(a, NULL, true);
        struct net_addr addr = rig_addr("127.0.0.1", i % 2 == 0 ? amqp_port : cluster_port);
        s->conn = a->env->ops->connect(a->env, &addr, s);
    }
}

static void send_some(struct stream *s)
{
    const struct env_ops *ops = s->actor->env->ops;
    while (s->sent < CONN_BYTES && ops->conn_backlog(s->conn) < 64 * 1024) {
        struct slice piece = slice_ref(&s->actor->shared);
        s->sent += piece.size;
        ops->conn_send(s->conn, &piece, 1);
    }
}

static void on_connected(void *ctx, struct env_conn *conn, int error)
{
    struct actor *a = ctx;
    struct stream *s = a->env->ops->conn_user(conn);
    RIG_CHECK(error == 0 && s->conn == conn);
    a->env->ops->conn_set_watermarks(conn, 16 * 1024, 64 * 1024);
    send_some(s);
}

static void on_drained(void *ctx, struct env_conn *conn)
{
    struct actor *a = ctx;
    struct stream *s = a->env->ops->conn_user(conn);
    if (s->client) {
        send_some(s);
    }
}

static void on_accept(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local)
{
    struct actor *a = ctx;
    RIG_CHECK(peer->port != 0 && local->port != 0);
    if (kind == ENV_LISTEN_CLUSTER) {
        static uint32_t next; /* of shard 0 only, which accepts these */
        RIG_CHECK(a->number == 0);
        uint32_t to = next++ % SHARDS;
        if (to != 0) {
            a->env->ops->conn_move(conn, to, NULL);
            return;
        }
    }
    a->env->ops->conn_set_user(conn, stream_new(a, conn, false));
}

static void on_moved(void *ctx, struct env_conn *conn, void *user)
{
    struct actor *a = ctx;
    RIG_CHECK(user == NULL && a->number != 0);
    a->env->ops->conn_set_user(conn, stream_new(a, conn, false));
}

static void on_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct actor *a = ctx;
    struct stream *s = a->env->ops->conn_user(conn);
    RIG_CHECK(s->actor == a);
    s->received += size;
    if (!s->client) {
        struct slice copy = slice_copy(data, size);
        a->env->ops->conn_send(conn, &copy, 1);
        return;
    }
    send_some(s);
    if (s->sent >= CONN_BYTES && s->received == s->sent) {
        a->clients_done++;
        a->env->ops->conn_close(conn, true, 1000);
    }
}

static void on_closed(void *ctx, struct env_conn *conn, int error)
{
    struct actor *a = ctx;
    struct stream *s = a->env->ops->conn_user(conn);
    RIG_CHECK(error == 0 && !s->counted);
    s->counted = true;
    s->conn = NULL;
}

/* --- mail ------------------------------------------------------------------------------------- */

static void read_file(struct actor *a)
{
    char path[256];
    rig_path(a->rig, "records", path);
    RIG_CHECK(a->env->ops->file_open(a->env, path, ENV_OPEN_READ, &a->file) == 0);
    for (uint32_t i = 0; i < READS; i++) {
        a->env->ops->file_read(a->env, a->file, i * 512, 512, i);
    }
    a->env->ops->file_close(a->file);
}

static void on_mail(void *ctx, struct mail *mail)
{
    struct actor *a = ctx;
    struct letter *letter = (struct letter *)(void *)mail;
    RIG_CHECK(slice_data(&letter->shared)[0] == 0x5a);
    switch ((enum letter_kind)mail->kind) {
    case LETTER_NUMBER: /* in order, from each sender */
        RIG_CHECK(letter->number == a->seen[mail->from]);
        a->mail_done += ++a->seen[mail->from] == LETTERS;
        break;
    case LETTER_FILE_READY:
        read_file(a);
        break;
    case LETTER_DONE:
        RIG_CHECK(a->number == 0);
        a->done_count++;
        if (a->done_count == CONTEXTS) {
            rig_done(a->env, 0);
        }
        break;
    }
    letter_destroy(mail);
}

static bool post_some(struct actor *a)
{
    bool more = false;
    for (uint32_t to = 0; to < CONTEXTS; to++) {
        for (uint32_t i = 0; i < LETTERS_PER_TURN && a->posted[to] < LETTERS; i++) {
            post(a, to, LETTER_NUMBER, a->posted[to]++);
        }
        more = more || a->posted[to] < LETTERS;
    }
    return more;
}

/* --- store and files -------------------------------------------------------------------------- */

static struct slice key_of(const struct actor *a, uint32_t i)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%u/%04u", a->number, i);
    return slice_copy(text, (size_t)n);
}

/* Token 2i: the write of key i; 2i + 1: its reading. */
static void kv_next(struct actor *a)
{
    struct kv_op *op = wr_calloc(1, sizeof(*op));
    op->kind = KV_PUT;
    op->key = key_of(a, a->kv_sent);
    op->value = slice_ref(&a->shared);
    a->env->ops->kv_write(a->env, op, 1, 2 * a->kv_sent);
    if (a->kv_sent % 16 == 0) {
        a->env->ops->kv_flush(a->env, UINT64_MAX);
    }
    a->kv_sent++;
}

static void on_kv(void *ctx, uint64_t token, int result, void *reply)
{
    struct actor *a = ctx;
    RIG_CHECK(result == 0);
    if (token == UINT64_MAX) {
        return;
    }
    if (token % 2 == 0) {
        struct slice *key = wr_calloc(1, sizeof(*key));
        *key = key_of(a, (uint32_t)(token / 2));
        a->env->ops->kv_get(a->env, key, 1, token + 1);
        if (a->kv_sent < KEYS) {
            kv_next(a);
        }
        return;
    }
    const struct kv_reply *got = reply;
    RIG_CHECK(got->count == 1 && got->pairs[0].value.size == a->shared.size);
    kv_reply_free(reply);
    a->kv_done++;
}

static void write_records(struct actor *a)
{
    char path[256];
    rig_path(a->rig, "records", path);
    RIG_CHECK(a->env->ops->file_open(a->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &a->file) ==
              0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct slice record = slice_ref(&a->shared);
        a->env->ops->file_write(a->file, &record, 1, (uint64_t)i * a->shared.size, i);
    }
    a->env->ops->file_sync(a->file, RECORDS);
}

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    struct actor *a = ctx;
    a->file_done++;
    if (a->number == LOG) {
        RIG_CHECK(token == a->file_done - 1);
        RIG_CHECK(result == (token == RECORDS ? 0 : (int64_t)a->shared.size));
        for (uint32_t to = 0; token == RECORDS && to < SHARDS; to++) {
            post(a, to, LETTER_FILE_READY, 0);
        }
        return;
    }
    struct buf *got = a->env->ops->file_take(a->env, token);
    RIG_CHECK(result == 512 && got != NULL && got->size == 512);
    RIG_CHECK(got->data[511] == 0x5a);
    buf_unref(got);
}

/* --- a context -------------------------------------------------------------------------------- */

static bool is_done(const struct actor *a)
{
    bool common = a->mail_done == CONTEXTS && a->kv_done == KEYS;
    if (a->number == LOG) {
        return common && a->file_done == RECORDS + 1;
    }
    return common && a->file_done == READS && a->clients_done == CONNS;
}

static void turn(void *ctx)
{
    struct actor *a = ctx;
    if (!a->started) {
        a->started = true;
        for (uint32_t i = 0; i < 8; i++) {
            kv_next(a);
        }
        if (a->number == LOG) {
            write_records(a);
        } else {
            connect_all(a);
        }
    }
    if (post_some(a)) {
        a->env->ops->wake_at(a->env, a->env->ops->mono_ns(a->env));
    }
    if (!a->told && is_done(a)) {
        a->told = true;
        post(a, 0, LETTER_DONE, 0);
    }
}

static void actor_init(struct actor *a, struct rig *rig, uint32_t number)
{
    uint8_t bytes[1500];
    memset(bytes, 0x5a, sizeof(bytes));
    *a = (struct actor){.rig = rig, .env = rig_env(rig, number), .number = number};
    a->shared = slice_copy(bytes, sizeof(bytes));
}

static void actor_deinit(struct actor *a)
{
    while (a->streams != NULL) {
        struct stream *s = a->streams;
        a->streams = s->next;
        wr_free(s);
    }
    if (a->number == LOG) {
        a->env->ops->file_close(a->file);
    }
    slice_unref(&a->shared);
}

int main(void)
{
    struct rig rig;
    const struct env_sink sink = rig_sink((struct env_sink){.on_accept = on_accept,
                                                            .on_connected = on_connected,
                                                            .on_bytes = on_bytes,
                                                            .on_drained = on_drained,
                                                            .on_closed = on_closed,
                                                            .on_moved = on_moved,
                                                            .on_mail = on_mail,
                                                            .on_file = on_file,
                                                            .on_kv = on_kv,
                                                            .turn = turn});
    (void)alarm(240); /* a lost wake-up would hang here for ever */
    rig_init(&rig, SHARDS);
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        actor_init(&actors[i], &rig, i);
        rig_set(&rig, i, &sink, &actors[i]);
    }
    amqp_port = rig_listen(actors[0].env, ENV_LISTEN_AMQP);
    cluster_port = rig_listen(actors[0].env, ENV_LISTEN_CLUSTER);
    RIG_CHECK(rig_run(&rig) == 0);
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        actor_deinit(&actors[i]);
    }
    rig_deinit(&rig);
    (void)printf("ok\n");
    return 0;
}
