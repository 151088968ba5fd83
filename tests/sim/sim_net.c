/*
 * What: the network between hosts: routes, how long bytes take, and what a network does to
 * connections.
 * Failure modes: power failure tells nobody: the other end learns by a reset after the host is
 * back, or never. Invariants: all that is drawn comes from the network's own stream of random
 * numbers. Files beside it: sim_pipe.c, sim_conn.c.
 */
#include "sim_pipe.h"

struct sim_route *sim_net_route(struct sim *sim, uint32_t from, uint32_t to)
{
    return &sim->net.routes[from][to];
}

bool sim_net_blocked(const struct sim *sim, uint32_t from, uint32_t to)
{
    return sim->net.routes[from][to].blocked > 0;
}

uint64_t sim_net_latency(struct sim *sim, uint32_t from, uint32_t to)
{
    const struct sim_route *r = sim_net_route(sim, from, to);
    uint64_t spread = r->latency_spread;
    /* Mostly short, now and then much longer. */
    uint64_t ns = r->latency_min + prng_below(&sim->net.prng, spread / 4 + 1);
    if (prng_ratio(&sim->net.prng, 1, 20)) {
        ns += prng_below(&sim->net.prng, spread * 4 + 1);
    }
    if (r->clogged_until > sim->now) {
        ns += r->clogged_until - sim->now;
    }
    return ns;
}

/* --- faults --------------------------------------------------------------- */

void sim_net_block(struct sim *sim, uint32_t from, uint32_t to)
{
    sim_net_route(sim, from, to)->blocked++;
}

void sim_net_unblock(struct sim *sim, uint32_t from, uint32_t to)
{
    struct sim_route *r = sim_net_route(sim, from, to);
    WR_ASSERT_OP(r->blocked, >, 0);
    r->blocked--;
    if (r->blocked == 0) {
        sim_net_kick(sim);
    }
}

/* Both ends find the connection broken; of what was in flight a part may have arrived. */
static void pipe_reset(struct sim *sim, struct pipe *pipe)
{
    for (uint32_t side = 0; side < 2; side++) {
        struct pipe_dir *dir = &pipe->dirs[side];
        struct pipe_end *to = &pipe->ends[1 - side];
        struct list *link;
        while ((link = list_first(&dir->segments)) != NULL && !to->gone &&
               prng_ratio(&sim->net.prng, 2, 3)) {
            struct segment *segment = WR_CONTAINER_OF(link, struct segment, link);
            list_remove(link);
            pipe_end_receive(to, segment);
            wr_free(segment);
        }
        pipe_dir_clear(dir);
        dir->fin_sent = true;
        if (!to->gone) {
            to->reset = true;
            pipe_push_readable(pipe, 1 - side);
        }
    }
}

bool sim_net_reset_some(struct sim *sim, uint32_t host)
{
    VEC(struct pipe *) found = {0};
    struct umap_iter it = umap_iterate(&sim->net.pipes);
    while (umap_next(&it)) {
        struct pipe *pipe = it.value;
        if (pipe->established &&
            (pipe->ends[0].host->index == host || pipe->ends[1].host->index == host)) {
            vec_push(&found, pipe);
        }
    }
    const bool any = found.count > 0;
    if (any) {
        struct pipe *pipe = found.items[prng_below(&sim->fault_prng, found.count)];
        sim_trace(sim, "fault: reset of a connection between %u and %u", pipe->ends[0].host->index,
                  pipe->ends[1].host->index);
        sim->net.resets++;
        pipe_reset(sim, pipe);
    }
    vec_deinit(&found);
    return any;
}

void sim_net_reset_tampered(struct sim *sim, uint32_t from, uint32_t to)
{
    struct umap_iter it = umap_iterate(&sim->net.pipes);
    while (umap_next(&it)) {
        struct pipe *pipe = it.value;
        for (uint32_t side = 0; side < 2; side++) {
            if (pipe->ends[side].host->index == from && pipe->ends[1 - side].host->index == to &&
                sim_frames_tampered(pipe->dirs[side].frames)) {
                sim->net.resets++;
                pipe_reset(sim, pipe);
            }
        }
    }
}

/* The tail of what a dying process gave to its kernel may not leave it. */
static void drop_tail(struct sim *sim, struct pipe *pipe, uint32_t side, bool all)
{
    struct pipe_dir *dir = &pipe->dirs[side];
    uint32_t count = 0;
    LIST_FOREACH(link, &dir->segments) {
        count++;
    }
    uint32_t drop = count == 0 ? 0 : (uint32_t)prng_below(&sim->net.prng, count + 1);
    drop = all ? count : drop;
    while (drop-- > 0) {
        struct list *link = list_last(&dir->segments);
        struct segment *segment = WR_CONTAINER_OF(link, struct segment, link);
        list_remove(link);
        dir->in_flight -= segment->size;
        wr_free(segment);
    }
}

void sim_net_host_gone(struct sim *sim, struct sim_host *host, bool silent)
{
    VEC(struct pipe *) mine = {0};
    struct umap_iter it = umap_iterate(&sim->net.pipes);
    while (umap_next(&it)) {
        struct pipe *pipe = it.value;
        if (pipe->ends[0].host == host || pipe->ends[1].host == host) {
            vec_push(&mine, pipe);
        }
    }
    for (size_t i = 0; i < mine.count; i++) {
        struct pipe *pipe = mine.items[i];
        uint32_t side = pipe->ends[0].host == host && !pipe->ends[0].gone ? 0 : 1;
        struct pipe_end *end = &pipe->ends[side];
        if (end->host != host || end->gone) {
            continue;
        }
        if (!pipe->established) {
            if (side == 0) { /* its own connect; on_syn finds nobody */
                end->conn = NULL;
                end->gone = true;
                pipe->ends[1].gone = true;
                (void)pipe_drop_if_over(sim, pipe);
            }
            continue;
        }
        if (silent) {
            pipe_dir_clear(&pipe->dirs[side]);
            pipe->dirs[side].scheduled = false;
            end->conn = NULL;
            end->moving = false;
            end->gone = true;
            (void)pipe_drop_if_over(sim, pipe);
        } else {
            if (prng_ratio(&sim->net.prng, 1, 4)) {
                drop_tail(sim, pipe, side, false);
            }
            pipe_end_close(sim, pipe, side,
                           prng_ratio(&sim->net.prng, 1, 2) ? SEGMENT_FIN : SEGMENT_RESET);
        }
    }
    vec_deinit(&mine);
    for (uint32_t kind = 0; kind < SIM_LISTENERS; kind++) {
        host->listening[kind] = 0;
    }
}

/* --- life ----------------------------------------------------------------- */

void sim_net_init(struct sim *sim)
{
    struct sim_net *net = &sim->net;
    net->prng = prng_fork(&sim->prng, "net");
    net->frame_prng = prng_fork(&sim->prng, "frames");
    umap_init(&net->pipes, (struct hash_seed){1, 2});
    static const size_t windows[] = {4096, 16384, 65536, 262144};
    net->window = windows[prng_below(&net->prng, WR_ARRAY_SIZE(windows))];
    if (net->window < 65536 && sim->options.body_max > 10000) {
        net->window = 65536; /* a window of 4 KiB is a network of some 100 KiB/s: a backlog would
                                take minutes */
    }
    net->cut_percent = prng_ratio(&net->prng, 1, 2) ? (uint32_t)prng_below(&net->prng, 40) : 0;
    uint64_t least = 20 * SIM_US + prng_below(&net->prng, 2 * SIM_MS);
    uint64_t spread = 10 * SIM_US + prng_below(&net->prng, 5 * SIM_MS);
    for (uint32_t i = 0; i < SIM_HOSTS_MAX; i++) {
        for (uint32_t k = 0; k < SIM_HOSTS_MAX; k++) {
            net->routes[i][k] = (struct sim_route){.latency_min = least, .latency_spread = spread};
        }
    }
}

void sim_net_deinit(struct sim *sim)
{
    for (;;) {
        struct umap_iter it = umap_iterate(&sim->net.pipes);
        if (!umap_next(&it)) {
            break;
        }
        pipe_free(sim, it.value);
    }
    umap_deinit(&sim->net.pipes);
}
