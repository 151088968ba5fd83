/*
 * What: pipes: bytes under way between two hosts, and what is received and not read (sim_pipe.h).
 * Failure modes: a route that is blocked, and a machine without power, make a direction stall until
 * sim_net_kick. Invariants: I2 bytes of a direction arrive in order and without gaps.
 */
#include "sim_pipe.h"

struct pipe *pipe_find(struct sim *sim, uint64_t id)
{
    return umap_get(&sim->net.pipes, id);
}

void pipe_dir_clear(struct pipe_dir *dir)
{
    struct list *link;
    while ((link = list_pop_front(&dir->segments)) != NULL) {
        wr_free(WR_CONTAINER_OF(link, struct segment, link));
    }
    dir->in_flight = 0;
}

struct pipe *pipe_new(struct sim *sim, struct sim_host *from, struct sim_host *to)
{
    struct pipe *pipe = wr_calloc(1, sizeof *pipe);
    pipe->id = ++sim->net.pipe_counter;
    pipe->ends[0].host = from;
    pipe->ends[1].host = to;
    list_init(&pipe->dirs[0].segments);
    list_init(&pipe->dirs[1].segments);
    (void)umap_put(&sim->net.pipes, pipe->id, pipe);
    return pipe;
}

void pipe_free(struct sim *sim, struct pipe *pipe)
{
    (void)umap_remove(&sim->net.pipes, pipe->id);
    for (uint32_t i = 0; i < 2; i++) {
        pipe_dir_clear(&pipe->dirs[i]);
        sim_frames_free(pipe->dirs[i].frames);
        wr_free(pipe->dirs[i].confirms);
        wr_free(pipe->ends[i].bytes);
    }
    wr_free(pipe);
}

bool pipe_drop_if_over(struct sim *sim, struct pipe *pipe)
{
    if (pipe->ends[0].gone && pipe->ends[1].gone) {
        pipe_free(sim, pipe);
        return true;
    }
    return false;
}

/* --- sending -------------------------------------------------------------- */

static void on_arrival(struct sim *sim, void *arg, uint64_t id, uint64_t side);

static void dir_schedule(struct sim *sim, struct pipe *pipe, uint32_t side)
{
    struct pipe_dir *dir = &pipe->dirs[side];
    struct list *first = list_first(&dir->segments);
    if (!dir->scheduled && first != NULL) {
        dir->scheduled = true;
        dir->stalled = false;
        sim_at(sim, WR_CONTAINER_OF(first, struct segment, link)->at, on_arrival, NULL, pipe->id,
               side);
    }
}

struct segment *pipe_segment(enum segment_kind kind, size_t size)
{
    struct segment *segment = wr_alloc(sizeof *segment + size);
    segment->kind = kind;
    segment->size = (uint32_t)size;
    return segment;
}

void pipe_send(struct sim *sim, struct pipe *pipe, uint32_t side, struct segment *segment)
{
    struct pipe_dir *dir = &pipe->dirs[side];
    if (dir->fin_sent) {
        wr_free(segment);
        return;
    }
    dir->fin_sent = segment->kind != SEGMENT_DATA;
    uint64_t at = sim->now + sim_net_latency(sim, pipe->ends[side].host->index,
                                             pipe->ends[1 - side].host->index);
    segment->posts = sim->posts;
    segment->at = at < dir->last_at ? dir->last_at : at;
    dir->last_at = segment->at;
    dir->in_flight += segment->size;
    list_push_back(&dir->segments, &segment->link);
    if (!dir->stalled) {
        dir_schedule(sim, pipe, side);
    }
}

/* The kernel's side of a close: no more reading; what was sent still travels, then `kind`. */
void pipe_end_close(struct sim *sim, struct pipe *pipe, uint32_t side, enum segment_kind kind)
{
    struct pipe_end *end = &pipe->ends[side];
    if (end->gone) {
        return;
    }
    end->conn = NULL;
    end->moving = false;
    end->gone = true;
    if (pipe->established) {
        pipe_send(sim, pipe, side, pipe_segment(end->tail > end->head ? SEGMENT_RESET : kind, 0));
    }
    (void)pipe_drop_if_over(sim, pipe);
}

/* --- receiving ------------------------------------------------------------ */

void pipe_push_readable(struct pipe *pipe, uint32_t side)
{
    struct env_conn *conn = pipe->ends[side].conn;
    if (conn != NULL && !conn->paused && !conn->connecting) {
        struct sim_item *item = sim_item_push(conn->context, SIM_ITEM_READABLE);
        item->pipe = pipe->id;
        item->side = side;
    }
}

void pipe_end_receive(struct pipe_end *end, const struct segment *segment)
{
    end->posts = segment->posts;
    if (segment->kind == SEGMENT_DATA) {
        if (end->capacity - end->tail < segment->size) {
            if (end->head > 0) {
                memmove(end->bytes, end->bytes + end->head, end->tail - end->head);
            }
            end->tail -= end->head;
            end->head = 0;
            if (end->capacity - end->tail < segment->size) {
                end->capacity = (end->tail + segment->size) * 2;
                end->bytes = wr_realloc(end->bytes, end->capacity);
            }
        }
        if (segment->size > 0) {
            memcpy(end->bytes + end->tail, segment->data, segment->size);
            end->tail += segment->size;
        }
    } else if (segment->kind == SEGMENT_FIN) {
        end->fin = true;
    } else {
        end->reset = true;
    }
}

/* A segment reached a host. False: the pipe is gone. */
static bool arrive(struct sim *sim, struct pipe *pipe, uint32_t side, struct segment *segment)
{
    struct pipe_end *to = &pipe->ends[1 - side];
    if (!to->gone) {
        pipe_end_receive(to, segment);
        if (segment->kind == SEGMENT_RESET) {
            /* What was received and not read is lost with it, now and then. */
            if (prng_ratio(&sim->net.prng, 1, 2)) {
                to->head = to->tail;
            }
        }
        pipe_push_readable(pipe, 1 - side);
        return true;
    }
    if (!pipe->ends[side].gone && segment->kind == SEGMENT_DATA) {
        pipe_send(sim, pipe, 1 - side, pipe_segment(SEGMENT_RESET, 0));
        return true;
    }
    return !pipe_drop_if_over(sim, pipe);
}

static void on_arrival(struct sim *sim, void *arg, uint64_t id, uint64_t side)
{
    struct pipe *pipe = pipe_find(sim, id);
    (void)arg;
    if (pipe == NULL) {
        return;
    }
    struct pipe_dir *dir = &pipe->dirs[side];
    struct pipe_end *to = &pipe->ends[1 - side];
    dir->scheduled = false;
    /* A machine without power answers nothing; the bytes are sent again until it is back. */
    if (sim_net_blocked(sim, pipe->ends[side].host->index, to->host->index) || !to->host->powered) {
        dir->stalled = true;
        return;
    }
    struct list *first = list_pop_front(&dir->segments);
    if (first == NULL) {
        return; /* what was scheduled for was thrown away */
    }
    struct segment *segment = WR_CONTAINER_OF(first, struct segment, link);
    dir->in_flight -= segment->size;
    bool lives = arrive(sim, pipe, (uint32_t)side, segment);
    wr_free(segment);
    if (lives) {
        dir_schedule(sim, pipe, (uint32_t)side);
        struct env_conn *sender = pipe->ends[side].conn;
        if (sender != NULL) {
            sim_conn_flush(sender);
        }
    }
}

void sim_net_kick(struct sim *sim)
{
    struct umap_iter it = umap_iterate(&sim->net.pipes);
    while (umap_next(&it)) {
        struct pipe *pipe = it.value;
        for (uint32_t side = 0; side < 2; side++) {
            struct pipe_dir *dir = &pipe->dirs[side];
            if (dir->stalled && !dir->scheduled && !list_is_empty(&dir->segments)) {
                /* When the next retransmission happens. */
                dir->scheduled = true;
                dir->stalled = false;
                sim_at(sim, sim->now + prng_below(&sim->net.prng, 400 * SIM_MS), on_arrival, NULL,
                       pipe->id, side);
            }
        }
    }
}
