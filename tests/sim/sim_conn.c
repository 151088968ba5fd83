/*
 * What: an env's connections: connect, accept, send, read, close, move; over pipes (sim_pipe.h).
 * Failure modes: connect to a host without power or over a blocked route hears nothing, tries again
 * like TCP, and times out; to one without listener is refused. Invariants: I1 every env_conn gets
 * exactly one on_closed (or failed on_connected), unless it was moved or its process ended. I3 no
 * upcall from inside a call into the env: all go through items.
 */
#include <string.h>

#include "sim_pipe.h"

#include "warren/err.h"

#define SEGMENT_MAX   (64u * 1024u)
#define READ_MAX      (128u * 1024u)
#define SYN_TRIES_MAX 6u

struct move {
    void *user;
    uint64_t pipe;
    uint32_t side;
};

/* --- life ----------------------------------------------------------------- */

static struct env_conn *conn_new(struct sim_context *context, struct pipe *pipe, uint32_t side)
{
    struct env_conn *conn = wr_calloc(1, sizeof *conn);
    conn->context = context;
    conn->pipe = pipe->id;
    conn->side = side;
    conn->high = 1024 * 1024;
    conn->low = 256 * 1024;
    list_push_back(&context->conns, &conn->link);
    pipe->ends[side].conn = conn;
    return conn;
}

static void conn_free(struct env_conn *conn)
{
    for (size_t i = conn->queue_head; i < conn->queue.count; i++) {
        slice_unref(&conn->queue.items[i]);
    }
    vec_deinit(&conn->queue);
    list_remove(&conn->link);
    wr_free(conn);
}

static void conn_destroy(struct env_conn *conn, int error)
{
    if (!conn->closing) {
        struct sim *sim = conn->context->sim;
        struct pipe *pipe = pipe_find(sim, conn->pipe);
        conn->closing = true;
        conn->close_error = error;
        sim_item_push(conn->context, SIM_ITEM_CLOSED)->conn = conn;
        if (pipe != NULL) {
            pipe_end_close(sim, pipe, conn->side, SEGMENT_FIN);
        }
    }
}

void sim_conn_free_all(struct sim_context *context)
{
    struct list *link;
    while ((link = list_first(&context->conns)) != NULL) {
        conn_free(WR_CONTAINER_OF(link, struct env_conn, link));
    }
}

/* --- reading and writing -------------------------------------------------- */

static void item_readable(struct sim_context *context, struct sim_item *item)
{
    struct sim *sim = context->sim;
    struct pipe *pipe = pipe_find(sim, item->pipe);
    if (pipe == NULL) {
        return;
    }
    sim_mail_first(context, pipe->ends[item->side].posts);
    pipe = pipe_find(sim, item->pipe); /* what was in it may have closed the connection */
    if (pipe == NULL) {
        return;
    }
    struct pipe_end *end = &pipe->ends[item->side];
    struct env_conn *conn = end->conn;
    if (conn == NULL || conn->context != context || conn->paused || conn->closing) {
        return;
    }
    size_t size = end->tail - end->head;
    if (size == 0) {
        if (end->reset || end->fin) {
            conn_destroy(conn, end->reset ? WR_E_RESET : 0);
        }
        return;
    }
    size = size > READ_MAX ? READ_MAX : size;
    if (prng_ratio(&sim->net.prng, sim->net.cut_percent, 100)) {
        size = 1 + prng_below(&sim->net.prng, size);
    }
    /* A copy of exactly that size: reading past it is found by the sanitizer. */
    uint8_t *copy = wr_memdup(end->bytes + end->head, size);
    end->head += size;
    if (end->head == end->tail) {
        end->head = end->tail = 0;
    }
    sim->net.bytes += size;
    sim_mix_bytes(sim, copy, size);
    if (end->tail > end->head || end->fin || end->reset) {
        pipe_push_readable(pipe, item->side);
    }
    if (!conn->close_after_flush) {
        context->sink->on_bytes(context->sink_ctx, conn, copy, size);
    }
    wr_free(copy);
}

static void take_bytes(struct env_conn *conn, uint8_t *out, size_t size)
{
    conn->backlog -= size;
    while (size > 0) {
        struct slice *s = &conn->queue.items[conn->queue_head];
        size_t n = s->size < size ? s->size : size;
        memcpy(out, slice_data(s), n);
        out += n;
        size -= n;
        if (n < s->size) {
            s->offset += (uint32_t)n;
            s->size -= (uint32_t)n;
        } else {
            slice_unref(s);
            conn->queue_head++;
        }
    }
    if (conn->queue_head == conn->queue.count) {
        conn->queue_head = 0;
        conn->queue.count = 0;
    }
}

void sim_conn_flush(struct env_conn *conn)
{
    struct sim *sim = conn->context->sim;
    struct pipe *pipe = pipe_find(sim, conn->pipe);
    while (pipe != NULL && !conn->closing && !conn->connecting && conn->backlog > 0) {
        struct pipe_dir *dir = &pipe->dirs[conn->side];
        const struct pipe_end *to = &pipe->ends[1 - conn->side];
        size_t used = dir->in_flight + (to->tail - to->head);
        if (used >= sim->net.window) {
            break;
        }
        size_t size = sim->net.window - used;
        size = size > conn->backlog ? conn->backlog : size;
        size = size > SEGMENT_MAX ? SEGMENT_MAX : size;
        if (prng_ratio(&sim->net.prng, sim->net.cut_percent, 100)) {
            size = 1 + prng_below(&sim->net.prng, size);
        }
        struct segment *segment = pipe_segment(SEGMENT_DATA, size);
        take_bytes(conn, segment->data, size);
        pipe_send(sim, pipe, conn->side, segment);
    }
    if (conn->close_after_flush && conn->backlog == 0 && !conn->closing) {
        conn_destroy(conn, 0);
    }
    if (conn->above_high && conn->backlog <= conn->low && !conn->closing) {
        conn->above_high = false;
        sim_item_push(conn->context, SIM_ITEM_DRAINED)->conn = conn;
    }
}

void sim_net_flush(struct sim_context *context)
{
    LIST_FOREACH_SAFE(link, &context->conns) {
        sim_conn_flush(WR_CONTAINER_OF(link, struct env_conn, link));
    }
}

static void queue_slice(void *ctx, struct slice owned)
{
    struct env_conn *conn = ctx;
    vec_push(&conn->queue, owned);
    conn->backlog += owned.size;
}

void sim_conn_send(struct env_conn *conn, struct slice *owned, uint32_t count)
{
    if (conn->closing || conn->close_after_flush) {
        for (uint32_t i = 0; i < count; i++) {
            slice_unref(&owned[i]);
        }
        return;
    }
    struct pipe *pipe = pipe_find(conn->context->sim, conn->pipe);
    struct pipe_dir *dir = pipe == NULL ? NULL : &pipe->dirs[conn->side];
    for (uint32_t i = 0; i < count; i++) {
        if (owned[i].size == 0) {
            slice_unref(&owned[i]);
        } else if (dir != NULL && dir->frames != NULL) {
            const struct sim_frames_out out = {queue_slice, conn};
            sim_frames_feed(conn->context->sim, dir->frames,
                            &sim_net_route(conn->context->sim, pipe->ends[conn->side].host->index,
                                           pipe->ends[1 - conn->side].host->index)
                                 ->tamper,
                            &owned[i], &out);
        } else {
            if (dir != NULL && dir->confirms != NULL) {
                struct client *client = pipe->ends[0].host->client;
                sim_confirms_watch(conn->context->sim, dir->confirms, client,
                                   client->conn == pipe->ends[0].conn, &owned[i]);
            }
            queue_slice(conn, owned[i]);
        }
    }
    if (conn->backlog > conn->high) {
        conn->above_high = true;
    }
}

size_t sim_conn_backlog(const struct env_conn *conn)
{
    return conn->backlog;
}

size_t sim_conn_unacked(const struct env_conn *conn)
{
    (void)conn;
    return 0; /* what is on its way is the window's, and small */
}

void sim_conn_set_watermarks(struct env_conn *conn, size_t low, size_t high)
{
    conn->low = low;
    conn->high = high;
}

void sim_conn_pause(struct env_conn *conn, bool paused)
{
    if (conn->paused == paused || conn->closing) {
        return;
    }
    conn->paused = paused;
    struct pipe *pipe = pipe_find(conn->context->sim, conn->pipe);
    if (!paused && pipe != NULL) {
        pipe_push_readable(pipe, conn->side);
    }
}

static void on_linger(struct sim *sim, void *arg, uint64_t id, uint64_t side)
{
    struct pipe *pipe = pipe_find(sim, id);
    (void)arg;
    if (pipe != NULL && pipe->ends[side].conn != NULL) {
        conn_destroy(pipe->ends[side].conn, WR_E_TIMEOUT);
    }
}

void sim_conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms)
{
    if (conn->closing || conn->close_after_flush) {
        return;
    }
    if (!graceful || conn->connecting) {
        conn_destroy(conn, 0);
        return;
    }
    conn->close_after_flush = true;
    sim_at(conn->context->sim, conn->context->sim->now + linger_ms * SIM_MS, on_linger, NULL,
           conn->pipe, conn->side);
}

void *sim_conn_user(const struct env_conn *conn)
{
    return conn->user;
}

const struct env_tls *sim_conn_tls(const struct env_conn *conn)
{
    (void)conn;
    return NULL;
}

void sim_conn_set_user(struct env_conn *conn, void *user)
{
    conn->user = user;
}

/* --- connecting ----------------------------------------------------------- */

static void connect_failed(struct sim *sim, struct pipe *pipe, int error)
{
    struct env_conn *conn = pipe->ends[0].conn;
    pipe->ends[1].gone = true;
    if (conn != NULL) {
        conn_destroy(conn, error); /* connecting stays set: on_connected(error) follows */
    } else {
        (void)pipe_drop_if_over(sim, pipe);
    }
}

static void establish(struct sim *sim, struct pipe *pipe, enum env_listener kind)
{
    struct sim_host *host = pipe->ends[1].host;
    uint32_t shard = 0;
    if (kind != ENV_LISTEN_CLUSTER && host->context_count > 1) {
        shard = host->next_accept++ % (host->context_count - 1);
    }
    pipe->established = true;
    if (kind == ENV_LISTEN_CLUSTER) {
        pipe->dirs[0].frames = sim_frames_new();
        pipe->dirs[1].frames = sim_frames_new();
    } else {
        pipe->dirs[1].confirms = wr_calloc(1, sizeof *pipe->dirs[1].confirms);
    }
    sim->net.connections++;
    struct sim_item *accepted = sim_item_push(&host->contexts[shard], SIM_ITEM_ACCEPT);
    accepted->conn = conn_new(&host->contexts[shard], pipe, 1);
    accepted->listener = kind;
    sim_item_push(pipe->ends[0].conn->context, SIM_ITEM_CONNECTED)->conn = pipe->ends[0].conn;
}

static void on_syn(struct sim *sim, void *arg, uint64_t id, uint64_t b)
{
    struct pipe *pipe = pipe_find(sim, id);
    (void)arg;
    (void)b;
    if (pipe == NULL) {
        return;
    }
    if (pipe->ends[0].conn == NULL) { /* given up meanwhile */
        connect_failed(sim, pipe, WR_E_CANCELLED);
        return;
    }
    struct sim_host *from = pipe->ends[0].host;
    struct sim_host *to = pipe->ends[1].host;
    if (!to->powered || sim_net_blocked(sim, from->index, to->index) ||
        sim_net_blocked(sim, to->index, from->index)) {
        if (++pipe->tries > SYN_TRIES_MAX) {
            connect_failed(sim, pipe, WR_E_TIMEOUT);
        } else {
            sim_at(sim, sim->now + (SIM_S << (pipe->tries - 1)), on_syn, NULL, id, 0);
        }
        return;
    }
    for (uint32_t kind = 1; kind < SIM_LISTENERS; kind++) {
        if (to->running && to->listening[kind] == pipe->port) {
            establish(sim, pipe, (enum env_listener)kind);
            return;
        }
    }
    connect_failed(sim, pipe, WR_E_REFUSED);
}

/* Hosts are called "sim0", "sim1" ...; UINT32_MAX for another name. */
static uint32_t host_of_name(const struct sim *sim, const char *name)
{
    if (strncmp(name, "sim", 3) != 0 || name[3] == 0) {
        return UINT32_MAX;
    }
    uint32_t value = 0;
    for (const char *at = name + 3; *at != 0; at++) {
        if (*at < '0' || *at > '9' || value > 1000) {
            return UINT32_MAX;
        }
        value = value * 10 + (uint32_t)(*at - '0');
    }
    return value < sim->host_count ? value : UINT32_MAX;
}

struct env_conn *sim_connect(struct env *env, const struct net_addr *addr, void *user)
{
    struct sim_context *context = (struct sim_context *)(void *)env;
    struct sim *sim = context->sim;
    uint32_t to = host_of_name(sim, addr->host);
    struct pipe *pipe =
        pipe_new(sim, context->host, to == UINT32_MAX ? context->host : &sim->hosts[to]);
    struct env_conn *conn = conn_new(context, pipe, 0);
    conn->user = user;
    conn->connecting = true;
    if (to == UINT32_MAX) {
        connect_failed(sim, pipe, WR_E_UNREACHABLE);
        return conn;
    }
    pipe->port = addr->port;
    uint64_t delay = sim_net_latency(sim, context->host->index, to) +
                     sim_net_latency(sim, to, context->host->index);
    sim_at(sim, sim->now + delay, on_syn, NULL, pipe->id, 0);
    return conn;
}

/* --- listening, moving ---------------------------------------------------- */

int sim_listen(struct env *env, enum env_listener kind, const struct net_addr *addr, char *errmsg)
{
    struct sim_context *context = (struct sim_context *)(void *)env;
    WR_ASSERT_OP(env->context, ==, 0);
    (void)errmsg;
    context->host->listening[kind] = addr->port;
    return 0;
}

void sim_unlisten(struct env *env, enum env_listener kind)
{
    struct sim_context *context = (struct sim_context *)(void *)env;
    context->host->listening[kind] = 0;
}

static void on_move(struct sim *sim, void *arg, uint64_t host, uint64_t number)
{
    struct move *move = arg;
    struct sim_context *context = &sim->hosts[host].contexts[number];
    struct pipe *pipe = pipe_find(sim, move->pipe);
    WR_ASSERT(pipe != NULL); /* a moving end keeps it */
    struct env_conn *conn = conn_new(context, pipe, move->side);
    conn->user = move->user;
    pipe->ends[move->side].moving = false;
    sim_item_push(context, SIM_ITEM_MOVED)->conn = conn;
    pipe_push_readable(pipe, move->side);
    wr_free(move);
}

void sim_conn_move(struct env_conn *conn, uint32_t number, void *user)
{
    struct sim_context *context = conn->context;
    struct sim *sim = context->sim;
    struct pipe *pipe = pipe_find(sim, conn->pipe);
    WR_ASSERT_OP(number + 1, <, context->host->context_count);
    WR_ASSERT_OP(conn->backlog, ==, 0);
    WR_ASSERT(!conn->closing && !conn->connecting && pipe != NULL);
    struct move *move = wr_calloc(1, sizeof *move);
    move->user = user;
    move->pipe = conn->pipe;
    move->side = conn->side;
    pipe->ends[conn->side].conn = NULL;
    pipe->ends[conn->side].moving = true;
    LIST_FOREACH_SAFE(link, &context->items) {
        struct sim_item *item = WR_CONTAINER_OF(link, struct sim_item, link);
        if (item->conn == conn) {
            list_remove(link);
            wr_free(item);
        }
    }
    conn_free(conn);
    sim_at_host(sim, context->host, sim->now + prng_below(&sim->net.prng, 100 * SIM_US), on_move,
                move, context->host->index, number, wr_free);
}

/* --- upcalls -------------------------------------------------------------- */

static void addr_fill(struct net_addr *out, const struct sim_host *host, uint16_t port)
{
    (void)snprintf(out->host, sizeof out->host, "sim%u", host->index);
    out->port = port;
}

static void item_accept(struct sim_context *context, struct sim_item *item)
{
    struct pipe *pipe = pipe_find(context->sim, item->conn->pipe);
    struct net_addr peer = {.port = (uint16_t)(40000 + item->conn->pipe % 20000)};
    struct net_addr local;
    addr_fill(&local, context->host, context->host->listening[item->listener]);
    if (pipe != NULL) {
        addr_fill(&peer, pipe->ends[0].host, peer.port);
    }
    context->sink->on_accept(context->sink_ctx, item->conn, item->listener, &peer, &local);
}

static void item_connected(struct sim_context *context, struct sim_item *item)
{
    struct env_conn *conn = item->conn;
    struct pipe *pipe = pipe_find(context->sim, conn->pipe);
    if (conn->closing) {
        return; /* closed before it was told: the CLOSED item says so */
    }
    conn->connecting = false;
    context->sink->on_connected(context->sink_ctx, conn, 0);
    if (pipe != NULL) {
        pipe_push_readable(pipe, conn->side); /* what came meanwhile */
    }
}

static void item_closed(struct sim_context *context, struct sim_item *item)
{
    struct env_conn *conn = item->conn;
    if (conn->connecting) {
        context->sink->on_connected(context->sink_ctx, conn,
                                    conn->close_error != 0 ? conn->close_error : WR_E_CANCELLED);
    } else {
        context->sink->on_closed(context->sink_ctx, conn, conn->close_error);
    }
    conn_free(conn);
}

void sim_net_item(struct sim_context *context, struct sim_item *item)
{
    switch (item->kind) {
    case SIM_ITEM_ACCEPT:
        item_accept(context, item);
        break;
    case SIM_ITEM_CONNECTED:
        item_connected(context, item);
        break;
    case SIM_ITEM_READABLE:
        item_readable(context, item);
        break;
    case SIM_ITEM_DRAINED:
        if (!item->conn->closing) {
            context->sink->on_drained(context->sink_ctx, item->conn);
        }
        break;
    case SIM_ITEM_CLOSED:
        item_closed(context, item);
        break;
    case SIM_ITEM_MOVED:
        context->sink->on_moved(context->sink_ctx, item->conn, item->conn->user);
        break;
    case SIM_ITEM_MAIL:
    case SIM_ITEM_FILE:
    case SIM_ITEM_KV:
    case SIM_ITEM_EXEC:
        WR_UNREACHABLE();
    }
}
