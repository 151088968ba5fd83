#ifndef WR_SIM_PIPE_H
#define WR_SIM_PIPE_H
/*
 * Connections between hosts, as sim_pipe.c (bytes under way), sim_conn.c (an env's connections) and
 * sim_net.c (routes and faults) share them.
 *
 * A connection is a pipe with two ends. An end is either held by an env_conn of a process, or
 * moving between two contexts, or gone. Each direction has bytes in flight as segments, in order,
 * each with a time of arrival; a direction whose route is blocked stalls (TCP would retransmit)
 * until the route opens or somebody closes. Bytes are never lost from the middle: a process that
 * dies loses the tail of what it sent, and whoever sends to an end that is gone gets a reset, if
 * the reset can travel.
 */
#include "sim_client.h"

#include "warren/mem.h"

enum segment_kind { SEGMENT_DATA, SEGMENT_FIN, SEGMENT_RESET };

struct segment {
    struct list link;
    enum segment_kind kind;
    uint64_t at;
    uint64_t posts; /* sim->posts when it was sent */
    uint32_t size;
    uint8_t data[];
};

struct pipe_end {
    struct sim_host *host;
    struct env_conn *conn; /* NULL: moving or gone */
    bool moving, gone;
    bool silent;    /* gone with its machine's power: not even a reset comes back */
    uint8_t *bytes; /* received and not read: [head, tail) */
    size_t head, tail, capacity;
    uint64_t posts; /* the most of any segment received */
    bool fin, reset;
};

struct pipe_dir { /* from end i to end 1 - i */
    struct list segments;
    size_t in_flight;
    uint64_t last_at;
    bool scheduled, stalled, fin_sent;
    struct sim_frames *frames;     /* between nodes */
    struct sim_confirms *confirms; /* from a node to a client */
};

struct pipe {
    uint64_t id;
    struct pipe_end ends[2];
    struct pipe_dir dirs[2];
    uint16_t port;
    uint32_t tries;
    bool established;
};

struct env_conn {
    struct list link;
    struct sim_context *context;
    uint64_t pipe;
    uint32_t side;
    void *user;
    VEC(struct slice) queue;
    size_t queue_head, backlog, low, high;
    bool above_high, connecting, closing, paused, close_after_flush;
    int close_error;
};

/* sim_net.c */
struct sim_route *sim_net_route(struct sim *sim, uint32_t from, uint32_t to);
uint64_t sim_net_latency(struct sim *sim, uint32_t from, uint32_t to);
/* sim_pipe.c */
struct pipe *pipe_find(struct sim *sim, uint64_t id);
struct pipe *pipe_new(struct sim *sim, struct sim_host *from, struct sim_host *to);
void pipe_free(struct sim *sim, struct pipe *pipe);
bool pipe_drop_if_over(struct sim *sim, struct pipe *pipe);
void pipe_dir_clear(struct pipe_dir *dir);
struct segment *pipe_segment(enum segment_kind kind, size_t size);
void pipe_send(struct sim *sim, struct pipe *pipe, uint32_t side, struct segment *segment);
void pipe_end_close(struct sim *sim, struct pipe *pipe, uint32_t side, enum segment_kind kind);
void pipe_end_receive(struct pipe_end *end, const struct segment *segment);
void pipe_push_readable(struct pipe *pipe, uint32_t side);
/* sim_conn.c */
void sim_conn_flush(struct env_conn *conn);
#endif
