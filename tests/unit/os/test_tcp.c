/* Connections of the real env over loopback: the promises of env.h that a simulator also keeps. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "warren/err.h"
#include "warren/mem.h"

#define MEGABYTE (1024u * 1024u)

enum mode { ECHO, CLOSE_WITH_REST, LINGER_RUNS_OUT, MOVE, CLOSE_AND_STOP };

struct net_test {
    struct rig rig;
    enum mode mode;
    struct env *env; /* shard 0 */
    uint16_t port;
    bool started;
    struct env_conn *client, *server;
    uint64_t total, received, echoed;
    uint32_t accepted, connected, closed, drained, moved;
    int client_error, server_error, connect_error;
    const char *host;
    bool over;
};

static struct slice pattern(uint64_t at, uint32_t size)
{
    struct buf *b = buf_new(size);
    for (uint32_t i = 0; i < size; i++) {
        b->data[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 8));
    }
    b->size = size;
    return slice_of_buf(b);
}

static void check_pattern(uint64_t at, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        RIG_CHECK(data[i] == (uint8_t)((at + i) * 31 + ((at + i) >> 8)));
    }
}

static void send_pattern(struct env *env, struct env_conn *conn, uint64_t total)
{
    for (uint64_t at = 0; at < total;) {
        uint32_t size = total - at > 70000 ? 70000 : (uint32_t)(total - at);
        struct slice s[2] = {pattern(at, size / 2), pattern(at + size / 2, size - size / 2)};
        env->ops->conn_send(conn, s, 2);
        at += size;
    }
}

static void accept_one(void *ctx, struct env_conn *conn, enum env_listener kind,
                       const struct net_addr *peer, const struct net_addr *local)
{
    struct net_test *t = ctx;
    RIG_CHECK(kind == ENV_LISTEN_CLUSTER);
    RIG_CHECK(strcmp(peer->host, "127.0.0.1") == 0 && peer->port != 0);
    RIG_CHECK(local->port == t->port);
    t->accepted++;
    t->server = conn;
    t->env->ops->conn_set_user(conn, &t->server);
    if (t->mode == CLOSE_WITH_REST || t->mode == LINGER_RUNS_OUT) {
        send_pattern(t->env, conn, t->total);
        t->env->ops->conn_close(conn, true, t->mode == CLOSE_WITH_REST ? 10000 : 50);
    } else if (t->mode == MOVE) {
        t->env->ops->conn_move(conn, 1, t);
    }
}

static void connected(void *ctx, struct env_conn *conn, int error)
{
    struct net_test *t = ctx;
    t->connected++;
    t->connect_error = error;
    if (error != 0) {
        t->over = true;
        return;
    }
    RIG_CHECK(conn == t->client);
    RIG_CHECK(t->env->ops->conn_user(conn) == &t->client);
    if (t->mode == CLOSE_AND_STOP) {
        t->env->ops->conn_close(conn, false, 0);
        t->over = true;
    } else if (t->mode == ECHO || t->mode == MOVE) {
        t->env->ops->conn_set_watermarks(conn, 1000, 100000);
        send_pattern(t->env, conn, t->total);
        RIG_CHECK(t->env->ops->conn_backlog(conn) == t->total);
    } else {
        struct slice junk = pattern(7, 100000); /* nobody reads it: it must not cost the answer */
        t->env->ops->conn_send(conn, &junk, 1);
        t->env->ops->conn_pause(conn, true);
    }
}

static void bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct net_test *t = ctx;
    if (conn == t->client) {
        check_pattern(t->received, data, size);
        t->received += size;
        if (t->mode == ECHO && t->received == t->total) {
            t->env->ops->conn_close(conn, true, 1000);
        }
        return;
    }
    RIG_CHECK(t->mode == ECHO); /* after a graceful close nothing is reported */
    struct slice s = slice_copy(data, size);
    t->echoed += size;
    t->env->ops->conn_send(conn, &s, 1);
}

static void drained(void *ctx, struct env_conn *conn)
{
    struct net_test *t = ctx;
    RIG_CHECK(t->env->ops->conn_backlog(conn) <= 1000 || conn == t->server);
    t->drained++;
}

static void closed(void *ctx, struct env_conn *conn, int error)
{
    struct net_test *t = ctx;
    t->closed++;
    if (conn == t->client) {
        t->client_error = error;
        t->client = NULL;
    } else {
        RIG_CHECK(conn == t->server);
        t->server_error = error;
        t->server = NULL;
    }
    t->over = t->closed == 2 || (t->mode == LINGER_RUNS_OUT && t->server == NULL);
}

static void turn(void *ctx)
{
    struct net_test *t = ctx;
    if (!t->started) {
        t->started = true;
        struct net_addr addr = rig_addr(t->host, t->port);
        t->client = t->env->ops->connect(t->env, &addr, &t->client);
    }
    if (t->mode == CLOSE_WITH_REST && t->accepted > 0 && t->connected > 0 && t->client != NULL) {
        t->env->ops->conn_pause(t->client, false); /* reads only now */
    }
    if (t->over) {
        rig_done(t->env, 7);
    }
}

static const struct env_sink partial = {.on_accept = accept_one,
                                        .on_connected = connected,
                                        .on_bytes = bytes,
                                        .on_drained = drained,
                                        .on_closed = closed,
                                        .turn = turn};

static void run(struct net_test *t, enum mode mode, uint64_t total, const char *host, bool listen)
{
    *t = (struct net_test){.mode = mode, .total = total, .host = host};
    rig_init(&t->rig, 1);
    struct env_sink sink = rig_sink(partial);
    t->env = rig_env(&t->rig, 0);
    t->port = rig_listen(t->env, ENV_LISTEN_CLUSTER);
    if (!listen) {
        t->env->ops->unlisten(t->env, ENV_LISTEN_CLUSTER);
    }
    rig_set(&t->rig, 0, &sink, t);
    cr_assert_eq(rig_run(&t->rig), 7);
    rig_deinit(&t->rig);
}

Test(tcp, bytes_go_both_ways_and_the_close_is_clean, .timeout = 60)
{
    struct net_test t;
    run(&t, ECHO, 5 * MEGABYTE + 3, "127.0.0.1", true);
    cr_assert_eq(t.received, t.total);
    cr_assert_eq(t.echoed, t.total);
    cr_assert_eq(t.closed, 2);
    cr_assert_eq(t.client_error, 0);
    cr_assert_eq(t.server_error, 0);
    cr_assert_geq(t.drained, 1);
}

/* A name may have addresses where nobody listens (::1 here): the next one is tried. */
Test(tcp, a_name_is_looked_up_and_its_addresses_are_tried, .timeout = 60)
{
    struct net_test t;
    run(&t, ECHO, 10, "localhost", true);
    cr_assert_eq(t.received, 10);
}

/* Turns come after it that would find a connection which is gone. */
Test(tcp, what_closes_while_the_node_stops_is_told, .timeout = 60)
{
    struct net_test t;
    run(&t, CLOSE_AND_STOP, 10, "127.0.0.1", true);
    cr_assert_null(t.client);
    cr_assert_geq(t.closed, 1);
}

Test(tcp, a_refused_connection_is_told_once_and_never_closed, .timeout = 60)
{
    struct net_test t;
    run(&t, ECHO, 10, "127.0.0.1", false);
    cr_assert_eq(t.connected, 1);
    cr_assert_eq(t.connect_error, WR_E_REFUSED);
    cr_assert_eq(t.closed, 0);
    run(&t, ECHO, 10, "localhost", false);
    cr_assert_eq(t.connect_error, WR_E_REFUSED);
}

/* The peer has sent what we never read: a plain close would reset the connection under the rest. */
Test(tcp, a_graceful_close_delivers_everything_first, .timeout = 60)
{
    struct net_test t;
    run(&t, CLOSE_WITH_REST, 8 * MEGABYTE, "127.0.0.1", true);
    cr_assert_eq(t.received, t.total);
    cr_assert_eq(t.client_error, 0);
    cr_assert_eq(t.server_error, 0);
}

Test(tcp, a_peer_that_does_not_read_is_cut_off_after_the_linger_time, .timeout = 60)
{
    struct net_test t;
    run(&t, LINGER_RUNS_OUT, 40 * MEGABYTE, "127.0.0.1", true);
    cr_assert_eq(t.server_error, WR_E_TIMEOUT);
}

/* --- what is left ----------------------------------------------------------------------------- */

#define HALF_TOTAL (32u * MEGABYTE)

struct half {
    struct rig rig;
    struct env *env;
    struct env_conn *client, *server;
    uint16_t port;
    uint64_t received;
    bool paused;
};

static void half_accepted(void *ctx, struct env_conn *conn, enum env_listener kind,
                          const struct net_addr *peer, const struct net_addr *local)
{
    struct half *h = ctx;
    (void)kind, (void)peer, (void)local;
    h->server = conn;
}

static void half_connected(void *ctx, struct env_conn *conn, int error)
{
    struct half *h = ctx;
    struct slice all = pattern(0, HALF_TOTAL);
    RIG_CHECK(error == 0);
    h->env->ops->conn_send(conn, &all, 1);
}

static void half_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct half *h = ctx;
    (void)data;
    RIG_CHECK(conn == h->server);
    h->received += size;
    if (h->received >= HALF_TOTAL / 2 && !h->paused) {
        h->env->ops->conn_pause(conn, true);
        h->paused = true;
    }
}

static void half_turn(void *ctx)
{
    struct half *h = ctx;
    if (h->client == NULL) {
        struct net_addr addr = rig_addr("127.0.0.1", h->port);
        h->client = h->env->ops->connect(h->env, &addr, &h->client);
    }
    if (h->paused) {
        const uint64_t left = h->env->ops->conn_backlog(h->client);
        RIG_CHECK(left > 0 && left <= HALF_TOTAL - h->received);
        RIG_CHECK(left + h->env->ops->conn_unacked(h->client) <=
                  HALF_TOTAL - h->received + MEGABYTE);
        rig_done(h->env, 7);
    }
}

/* Who waits for an answer behind a slice of many megabytes sees whether the peer still takes of it.
 */
Test(tcp, what_the_peer_has_of_a_slice_is_not_left, .timeout = 60)
{
    struct half h = {.port = 0};
    rig_init(&h.rig, 1);
    struct env_sink sink = rig_sink((struct env_sink){.on_accept = half_accepted,
                                                      .on_connected = half_connected,
                                                      .on_bytes = half_bytes,
                                                      .turn = half_turn});
    h.env = rig_env(&h.rig, 0);
    h.port = rig_listen(h.env, ENV_LISTEN_CLUSTER);
    rig_set(&h.rig, 0, &sink, &h);
    cr_assert_eq(rig_run(&h.rig), 7);
    rig_deinit(&h.rig);
}

/* --- two shards ------------------------------------------------------------------------------- */

struct side {
    struct env_sink sink;
    void *ctx;
    struct env **env; /* set before the node runs */
};

/* Shard 0 listens; the node runs until rig_done(7). */
static void run_two(struct rig *rig, enum env_listener kind, uint16_t *port,
                    const struct side *first, const struct side *second)
{
    rig_init(rig, 2);
    *first->env = rig_env(rig, 0);
    *second->env = rig_env(rig, 1);
    *port = rig_listen(*first->env, kind);
    rig_set(rig, 0, &first->sink, first->ctx);
    rig_set(rig, 1, &second->sink, second->ctx);
    cr_assert_eq(rig_run(rig), 7);
    rig_deinit(rig);
}

/* --- moving ----------------------------------------------------------------------------------- */

struct mover {
    struct net_test *test;
    struct env *env;
    struct env_conn *conn;
    uint64_t echoed;
};

static void moved_here(void *ctx, struct env_conn *conn, void *user)
{
    struct mover *m = ctx;
    RIG_CHECK(user == m->test);
    RIG_CHECK(m->env->ops->conn_user(conn) == user);
    m->conn = conn;
    __atomic_store_n(&m->test->moved, m->test->moved + 1, __ATOMIC_SEQ_CST);
}

static void moved_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct mover *m = ctx;
    RIG_CHECK(conn == m->conn);
    check_pattern(m->echoed, data, size);
    m->echoed += size;
    if (m->echoed == m->test->total) {
        rig_done(m->env, 7);
    }
}

static void run_mover(struct net_test *t, struct mover *m, struct env_sink sink)
{
    const struct side first = {.sink = sink, .ctx = t, .env = &t->env};
    const struct side second = {
        .sink = rig_sink((struct env_sink){.on_moved = moved_here, .on_bytes = moved_bytes}),
        .ctx = m,
        .env = &m->env};
    run_two(&t->rig, ENV_LISTEN_CLUSTER, &t->port, &first, &second);
    cr_assert_eq(t->moved, 1);
}

Test(tcp, a_connection_moves_to_another_shard_with_all_that_follows, .timeout = 60)
{
    struct net_test t = {.mode = MOVE, .total = 3 * MEGABYTE, .host = "127.0.0.1"};
    struct mover m = {.test = &t};
    run_mover(&t, &m, rig_sink(partial));
    cr_assert_eq(m.echoed, t.total);
}

static void move_and_stop(void *ctx, struct env_conn *conn, enum env_listener kind,
                          const struct net_addr *peer, const struct net_addr *local)
{
    struct net_test *t = ctx;
    (void)kind, (void)peer, (void)local;
    rig_done(t->env, 7);
    t->env->ops->conn_move(conn, 1, t);
}

/* The node stops while a connection is on its way: its user reaches the other side all the same. */
Test(tcp, a_connection_that_is_on_its_way_at_the_end_is_not_lost, .timeout = 60)
{
    for (int i = 0; i < 20; i++) {
        struct net_test t = {.mode = MOVE, .total = 1, .host = "127.0.0.1"};
        struct mover m = {.test = &t};
        struct env_sink sink = rig_sink(partial);
        sink.on_accept = move_and_stop;
        run_mover(&t, &m, sink);
    }
}

/* --- mail and bytes --------------------------------------------------------------------------- */

#define OVERTAKE_ROUNDS 300u

struct numbered {
    struct mail mail;
    uint64_t number;
};

/* Shard 0 posts a number to shard 1, then sends it there over a connection; when that has come
 * back, the next one. */
struct overtake {
    struct rig rig;
    struct env *env, *other;
    uint16_t port;
    bool started;
    uint64_t round;
    uint64_t posted; /* shard 1: the last number that came by mail */
};

static void overtake_on_mail(void *ctx, struct mail *mail)
{
    struct overtake *o = ctx;
    o->posted = ((struct numbered *)(void *)mail)->number;
    wr_free(mail);
}

static void overtake_accepted(void *ctx, struct env_conn *conn, enum env_listener kind,
                              const struct net_addr *peer, const struct net_addr *local)
{
    struct overtake *o = ctx;
    (void)kind, (void)peer, (void)local;
    struct slice hello = slice_copy("h", 1);
    o->other->ops->conn_send(conn, &hello, 1);
}

static void overtake_compares(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct overtake *o = ctx;
    RIG_CHECK(size == 1);
    RIG_CHECK(o->posted % 256 == *data);
    struct slice echo = slice_copy(data, 1);
    o->other->ops->conn_send(conn, &echo, 1);
}

static void overtake_next(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct overtake *o = ctx;
    (void)data;
    RIG_CHECK(size == 1);
    if (o->round == OVERTAKE_ROUNDS) {
        rig_done(o->env, 7);
        return;
    }
    struct numbered *n = wr_calloc(1, sizeof *n);
    const uint8_t octet = (uint8_t)++o->round;
    n->mail.kind = 1;
    n->number = o->round;
    o->env->ops->post(o->env, 1, &n->mail);
    struct slice bytes = slice_copy(&octet, 1);
    o->env->ops->conn_send(conn, &bytes, 1);
}

static void overtake_nothing(void *ctx, struct env_conn *conn, enum env_listener kind,
                             const struct net_addr *peer, const struct net_addr *local)
{
    (void)ctx, (void)conn, (void)kind, (void)peer, (void)local;
}

static void overtake_connected(void *ctx, struct env_conn *conn, int error)
{
    (void)ctx, (void)conn;
    RIG_CHECK(error == 0);
}

static void overtake_turn(void *ctx)
{
    struct overtake *o = ctx;
    struct net_addr addr = rig_addr("127.0.0.1", o->port);
    for (int i = 0; !o->started && i < 2; i++) { /* one of them is accepted by shard 1 */
        (void)o->env->ops->connect(o->env, &addr, NULL);
    }
    o->started = true;
}

/* Shard 1 reads both in one round of its loop, mostly the bytes before it looks at its mailbox. */
Test(tcp, bytes_do_not_overtake_mail, .timeout = 60)
{
    struct overtake o = {0};
    const struct side first = {.sink =
                                   rig_sink((struct env_sink){.on_accept = overtake_nothing,
                                                              .on_connected = overtake_connected,
                                                              .on_bytes = overtake_next,
                                                              .turn = overtake_turn}),
                               .ctx = &o,
                               .env = &o.env};
    const struct side second = {.sink = rig_sink((struct env_sink){.on_accept = overtake_accepted,
                                                                   .on_bytes = overtake_compares,
                                                                   .on_mail = overtake_on_mail}),
                                .ctx = &o,
                                .env = &o.other};
    run_two(&o.rig, ENV_LISTEN_AMQP, &o.port, &first, &second);
    cr_assert_eq(o.posted, OVERTAKE_ROUNDS);
}

/* --- listening -------------------------------------------------------------------------------- */

Test(tcp, a_port_is_taken_once_and_free_again_after_unlisten, .timeout = 60)
{
    struct rig rig;
    char errmsg[256] = "";
    rig_init(&rig, 1);
    struct env *env = rig_env(&rig, 0);
    struct net_addr addr = rig_addr("127.0.0.1", rig_listen(env, ENV_LISTEN_AMQP));
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_CLUSTER, &addr, errmsg), WR_E_INUSE);
    cr_assert(strstr(errmsg, "127.0.0.1") != NULL, "%s", errmsg);
    env->ops->unlisten(env, ENV_LISTEN_CLUSTER);
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_CLUSTER, &addr, errmsg), WR_E_INUSE);
    env->ops->unlisten(env, ENV_LISTEN_AMQP);
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_CLUSTER, &addr, errmsg), 0);
    addr = rig_addr("", addr.port); /* every address: taken, and not half taken either */
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_AMQP, &addr, errmsg), WR_E_INUSE);
    addr = rig_addr("127.0.0.1", 0);
    cr_assert_eq(env->ops->listen(env, ENV_LISTEN_AMQP, &addr, errmsg), WR_E_INVALID);
    rig_deinit(&rig);
}

struct starving {
    struct rig rig;
    struct env *env;
    uint32_t accepted, turns;
    int clients[16];
};

static void accept_and_close(void *ctx, struct env_conn *conn, enum env_listener kind,
                             const struct net_addr *peer, const struct net_addr *local)
{
    struct starving *s = ctx;
    (void)kind, (void)peer, (void)local;
    s->accepted++;
    s->env->ops->conn_close(conn, false, 0);
}

static void count_closed(void *ctx, struct env_conn *conn, int error)
{
    struct starving *s = ctx;
    (void)conn, (void)error;
    if (s->accepted == WR_ARRAY_SIZE(s->clients)) {
        rig_done(s->env, 7);
    }
}

static void count_turn(void *ctx)
{
    ((struct starving *)ctx)->turns++;
}

/* Out of descriptors the node rests instead of spinning, says so once, and takes everybody in the
 * end. */
Test(tcp, accepting_survives_a_lack_of_descriptors, .timeout = 60)
{
    struct starving s = {.accepted = 0};
    rig_init(&s.rig, 1);
    struct env_sink sink = rig_sink((struct env_sink){
        .on_accept = accept_and_close, .on_closed = count_closed, .turn = count_turn});
    s.env = rig_env(&s.rig, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons(rig_listen(s.env, ENV_LISTEN_CLUSTER));
    rig_set(&s.rig, 0, &sink, &s);
    for (size_t i = 0; i < WR_ARRAY_SIZE(s.clients); i++) {
        s.clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_geq(s.clients[i], 0);
        cr_assert_eq(connect(s.clients[i], (struct sockaddr *)(void *)&in, sizeof(in)), 0);
    }
    /* Four descriptors are left: three for the signal handlers of the loop, one to accept with. */
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(next, 0);
    (void)close(next);
    struct rlimit limit = {(rlim_t)next + 4, (rlim_t)next + 4};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(rig_run(&s.rig), 7);
    cr_assert_eq(s.accepted, WR_ARRAY_SIZE(s.clients));
    cr_assert_leq(s.rig.warnings, WR_ARRAY_SIZE(s.clients));
    for (size_t i = 0; i < WR_ARRAY_SIZE(s.clients); i++) {
        (void)close(s.clients[i]);
    }
    rig_deinit(&s.rig);
}
