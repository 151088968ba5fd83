/*
 * What: the parts of warren-perf: the run, its connections (clients), their channels.
 * Threads: one loop, one thread; nothing is shared.
 */
#ifndef WR_PERF_H
#define WR_PERF_H

#include <uv.h>

#include "warren/heap.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"

#include "hist.h"
#include "options.h"

enum role { ROLE_SETUP, ROLE_PRODUCER, ROLE_CONSUMER };

/* A message sent and not confirmed yet. */
struct pending {
    uint64_t sequence;
    uint64_t intended_ns; /* 0 = confirmed (or nacked) */
};

/* Messages a producer must send again after its connection was lost, in order. */
struct resend {
    struct pending *items;
    size_t first, count;
};

/* The frames of a message, with its number and time to be filled in. */
struct template
{
    size_t at; /* in the channel's frames */
    size_t frames_size;
    size_t stamp_at; /* from there; 0 when the message is too small */
};

/* State of a channel that sends. */
struct producer {
    struct heap_node due_node; /* in perf.due while it waits for its time */
    uint64_t due_ns;           /* intended time of the next message, with a rate */
    uint64_t sent;             /* new messages, without repetitions */
    struct pending *ring;      /* of ring_size, by delivery tag */
    uint64_t ring_size;        /* a power of two; 0 without confirms */
    uint64_t tag_first;        /* oldest tag that is not confirmed */
    uint64_t tag_next;
    uint64_t outstanding;
    struct resend resend;
    struct template
        *templates; /* template_count, a power of two: the n-th message is of n & mask */
    unsigned template_count;
    uint8_t *frames;
    unsigned queue_index;
};

/* State of a channel that receives. */
struct consumer {
    uint64_t received;
    uint64_t tag;       /* of the message under way */
    uint64_t body_left; /* bytes of its body still to come */
    bool wants_header;
    bool wants_stamp; /* the first body frame is still to come */
    uint32_t unacked;
    unsigned queue_index;
};

/* Longest time without an event. */
struct gap {
    uint64_t last_ns; /* 0: nothing yet */
    uint64_t longest_ns;
    uint64_t longest_at_ns; /* when the longest one began */
};

struct channel {
    struct client *client;
    uint16_t number;
    unsigned expected; /* replies to the methods that open it */
    bool ready;
    bool finished; /* reached its number of messages */
    struct gap gap;
    union {
        struct producer p;
        struct consumer c;
    };
};

/* Bytes to be written. */
struct out {
    uint8_t *data;
    size_t size, capacity;
};

/* tls.c: texts say what is wrong and live for ever; NULL = nothing */
struct tls;
struct ssl_ctx_st;
struct ssl_ctx_st *tls_context_new(const struct options *o); /* exits when a file is no good */
void tls_context_free(struct ssl_ctx_st *ctx);
struct tls *tls_new(struct ssl_ctx_st *ctx, const char *host);
void tls_free(struct tls *t);
/* What came, also nothing: goes on with the handshake. */
const char *tls_receive(struct tls *t, const void *data, size_t size, bool *ret_opened);
const char *tls_read(struct tls *t, void *data, size_t size, size_t *ret_size); /* 0: no more */
size_t tls_pending(const struct tls *t);
void tls_seal(struct tls *t, struct out *o); /* what is in it becomes ciphertext */

enum client_state { CLIENT_DOWN, CLIENT_CONNECTING, CLIENT_OPEN, CLIENT_CLOSING };

struct client {
    struct perf *perf;
    enum role role;
    unsigned index;
    unsigned uri; /* index of the one in use or tried next */
    enum client_state state;
    bool handle_active; /* tcp is initialised and not closed yet */
    bool writing;       /* `flight` is being written */
    bool was_ready;
    unsigned failures; /* since it was ready */
    struct tls *tls;   /* NULL: plain */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct out fill, flight;
    struct wire_frame_reader reader;
    uint32_t frame_max;
    uint16_t heartbeat;
    uint64_t received_ns, sent_ns, begun_ns, retry_ns;
    struct channel *channels;
    unsigned channel_count;
    unsigned ready_count;
};

struct counters {
    uint64_t sent, confirmed, nacked, returned, received, repeated;
};

enum phase { PHASE_SETUP, PHASE_CONSUMERS, PHASE_PRODUCERS, PHASE_RUN, PHASE_CLOSING };

struct perf {
    struct options *options;
    uv_loop_t loop;
    uv_timer_t tick;   /* line of output */
    uv_timer_t keeper; /* heartbeats, silence, reconnects, idle end */
    uv_timer_t end;
    uv_poll_t due_poll;
    uv_signal_t interrupt, terminate;
    int due_fd; /* timerfd; -1 without a rate */
    struct heap due;
    enum phase phase;
    struct client *clients; /* the setup client, consumers, producers */
    unsigned client_count;
    unsigned ready_clients; /* of the kind that the phase waits for */
    unsigned channels_finished, channels_total;
    uint64_t begin_ns, end_ns, tick_ns, idle_since_ns, setup_ns;
    struct counters interval, total;
    struct hist consumer_interval, consumer_total, confirm_interval, confirm_total;
    struct gap confirm_gap, delivery_gap;
    uint64_t reconnects;
    int exit_code;
    uint8_t *read_buffer;
    uint8_t *plain_buffer; /* what was read over TLS, decrypted */
    struct ssl_ctx_st *tls;
};

#define READ_BUFFER_SIZE (256u * 1024)
#define FILL_MAX         (128u * 1024)

uint64_t now_ns(void);

/* An event at `now`: the time since the one before is a gap. */
void gap_event(struct gap *g, uint64_t now);

/* -- client.c: connections -- */

void client_start(struct client *c);
/* Room for `size` bytes at the end of what is to be written; out_commit makes them count. */
uint8_t *client_reserve(struct client *c, size_t size);
static inline void client_commit(struct client *c, size_t size)
{
    c->fill.size += size;
}
void client_send(struct client *c, uint16_t channel, const struct wire_method *method);
/* Write what there is, unless a write is under way. */
void client_flush(struct client *c);
/* The connection is of no use any more: try the next one, or end the run. */
void client_fail(struct client *c, const char *fmt, ...) WR_PRINTF(2, 3);
/* Close politely and for good. */
void client_close(struct client *c);
/* Heartbeats, silence, reconnects. Called every few milliseconds. */
void client_keep(struct client *c, uint64_t now);

/* -- roles -- */

void setup_open(struct client *c);
void consumer_open(struct channel *ch);
void consumer_frame(struct channel *ch, const struct wire_frame *frame, uint64_t now);
void consumer_read_done(struct client *c);
void producer_init(struct channel *ch);
void producer_open(struct channel *ch);
void producer_method(struct channel *ch, const struct wire_method *m, uint64_t now);
void producer_lost(struct channel *ch);
void producer_deinit(struct channel *ch);
/* Send what may be sent on all channels, up to a full buffer, and flush. */
void producer_fill(struct client *c);
/* First message of a channel when the run begins. */
void producer_begin(struct channel *ch, unsigned index, unsigned count);
/* The timer of messages that wait for their time. */
void producer_due(uv_poll_t *poll, int status, int events);

/* -- run.c -- */

void run_client_ready(struct client *c);
void run_channel_finished(struct channel *ch);
void run_fatal(struct perf *perf, const char *text);
void run_finish(struct perf *perf);

/* -- report.c -- */

void report_line(struct perf *perf, uint64_t now);
void report_end(struct perf *perf);

#endif
