/*
 * What: the phases of a run: a set-up connection declares what is shared; then all consumers open,
 * then all producers, then the clock starts. It ends by time, by message counts, by a signal or by
 * an error. Invariant: phases only go forward. Ownership: the run owns the clients and channels.
 */
#include "perf.h"

#include <signal.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define KEEPER_MS        5
#define SETUP_TIMEOUT_NS UINT64_C(30000000000)
#define CLOSE_TIMEOUT_MS 1000
/* With -C but without -D and -z: the run ends when this long after the last confirm nothing came.
 */
#define IDLE_END_NS UINT64_C(2000000000)

/* ---- set-up of what is shared ---- */

static void declare_queue(struct client *c, unsigned index)
{
    const struct options *o = c->perf->options;
    struct channel *ch = &c->channels[0];
    char name[256];
    char key[256];
    options_queue_name(o, index, name);
    options_routing_key(o, index, key);
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE,
                            .queue_declare = {.queue = bytes_from_cstr(name),
                                              .durable = o->durable,
                                              .auto_delete = o->auto_delete,
                                              .arguments = writer_bytes(&o->queue_args)}};
    client_send(c, 1, &m);
    ch->expected++;
    if (o->exchange[0] != '\0') {
        m = (struct wire_method){.id = WIRE_QUEUE_BIND,
                                 .queue_bind = {.queue = bytes_from_cstr(name),
                                                .exchange = bytes_from_cstr(o->exchange),
                                                .routing_key = bytes_from_cstr(key)}};
        client_send(c, 1, &m);
        ch->expected++;
    }
}

void setup_open(struct client *c)
{
    const struct options *o = c->perf->options;
    if (o->predeclared) {
        return;
    }
    if (o->exchange[0] != '\0' && strncmp(o->exchange, "amq.", 4) != 0) {
        const struct wire_method declare = {
            .id = WIRE_EXCHANGE_DECLARE,
            .exchange_declare = {.exchange = bytes_from_cstr(o->exchange),
                                 .type = bytes_from_cstr(o->type),
                                 .durable = o->durable}};
        client_send(c, 1, &declare);
        c->channels[0].expected++;
    }
    for (unsigned i = 0; i < options_queue_count(o); i++) {
        declare_queue(c, i);
    }
}

/* ---- phases ---- */

static unsigned clients_of(const struct perf *perf, enum role role)
{
    return role == ROLE_SETUP      ? 1
           : role == ROLE_CONSUMER ? perf->options->consumers
                                   : perf->options->producers;
}

static void start_clients(struct perf *perf, enum role role)
{
    perf->ready_clients = 0;
    for (unsigned i = 0; i < perf->client_count; i++) {
        if (perf->clients[i].role == role) {
            client_start(&perf->clients[i]);
        }
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct perf *perf = timer->data;
    report_line(perf, now_ns());
}

static void on_end(uv_timer_t *timer)
{
    run_finish(timer->data);
}

static void begin_run(struct perf *perf)
{
    const struct options *o = perf->options;
    perf->phase = PHASE_RUN;
    perf->begin_ns = now_ns();
    perf->tick_ns = perf->begin_ns;
    perf->idle_since_ns = perf->begin_ns;
    uv_timer_start(&perf->tick, on_tick, o->interval_ms, o->interval_ms);
    if (o->seconds > 0) {
        uv_timer_start(&perf->end, on_end, o->seconds * 1000, 0);
    }
    const unsigned channels = o->producers * o->producer_channels;
    unsigned index = 0;
    for (unsigned i = 0; i < perf->client_count; i++) {
        struct client *c = &perf->clients[i];
        for (unsigned j = 0; j < c->channel_count && c->role != ROLE_SETUP; j++) {
            c->channels[j].gap.last_ns = perf->begin_ns;
            if (c->role == ROLE_PRODUCER) {
                producer_begin(&c->channels[j], index++, channels);
            }
        }
    }
    perf->confirm_gap.last_ns = perf->begin_ns;
    perf->delivery_gap.last_ns = perf->begin_ns;
    for (unsigned i = 0; i < perf->client_count; i++) {
        if (perf->clients[i].role == ROLE_PRODUCER && perf->clients[i].state == CLIENT_OPEN) {
            producer_fill(&perf->clients[i]);
        }
    }
}

void run_client_ready(struct client *c)
{
    struct perf *perf = c->perf;
    if (c->was_ready) {
        /* It is back. */
        if (c->role == ROLE_PRODUCER && perf->phase == PHASE_RUN && !c->writing) {
            producer_fill(c);
        }
        return;
    }
    c->was_ready = true;
    if (++perf->ready_clients < clients_of(perf, c->role)) {
        return;
    }
    if (perf->phase == PHASE_SETUP) {
        client_close(&perf->clients[0]);
        perf->phase = PHASE_CONSUMERS;
        if (perf->options->consumers > 0) {
            start_clients(perf, ROLE_CONSUMER);
            return;
        }
    }
    if (perf->phase == PHASE_CONSUMERS) {
        perf->phase = PHASE_PRODUCERS;
        if (perf->options->producers > 0) {
            start_clients(perf, ROLE_PRODUCER);
            return;
        }
    }
    if (perf->phase == PHASE_PRODUCERS) {
        begin_run(perf);
    }
}

void run_fatal(struct perf *perf, const char *text)
{
    fprintf(stderr, "warren-perf: %s\n", text);
    perf->exit_code = 1;
    run_finish(perf);
}

static void on_close_timeout(uv_timer_t *timer)
{
    struct perf *perf = timer->data;
    uv_stop(&perf->loop);
}

/* The run ends; what is measured ended at `end_ns`. */
static void finish_at(struct perf *perf, uint64_t end_ns)
{
    if (perf->phase == PHASE_CLOSING) {
        return;
    }
    const bool ran = perf->phase == PHASE_RUN;
    perf->end_ns = end_ns;
    if (ran) {
        report_line(perf, end_ns > perf->tick_ns ? end_ns : perf->tick_ns);
    }
    perf->phase = PHASE_CLOSING;
    if (ran) {
        report_end(perf);
    }
    uv_timer_stop(&perf->tick);
    for (unsigned i = 0; i < perf->client_count; i++) {
        client_close(&perf->clients[i]);
    }
    uv_timer_start(&perf->end, on_close_timeout, CLOSE_TIMEOUT_MS, 0);
}

void run_finish(struct perf *perf)
{
    finish_at(perf, now_ns());
}

void run_channel_finished(struct channel *ch)
{
    struct perf *perf = ch->client->perf;
    perf->channels_finished++;
    perf->idle_since_ns = now_ns();
    if (perf->channels_finished == perf->channels_total) {
        /* From the loop, not from inside the connection that is being read. */
        uv_timer_start(&perf->end, on_end, 0, 0);
    }
}

/* ---- time ---- */

/* All producers are done, and consumers have no count of their own and nothing to do. */
static void check_idle_end(struct perf *perf, uint64_t now)
{
    const struct options *o = perf->options;
    if (o->producer_messages == 0 || o->consumer_messages > 0 || o->seconds > 0 ||
        perf->channels_finished < o->producers * o->producer_channels) {
        return;
    }
    const uint64_t last = perf->delivery_gap.last_ns > perf->idle_since_ns
                              ? perf->delivery_gap.last_ns
                              : perf->idle_since_ns;
    if (now - last > IDLE_END_NS) {
        finish_at(perf, last);
    }
}

static void on_keeper(uv_timer_t *timer)
{
    struct perf *perf = timer->data;
    const uint64_t now = now_ns();
    bool active = false;
    for (unsigned i = 0; i < perf->client_count; i++) {
        client_keep(&perf->clients[i], now);
        active = active || perf->clients[i].handle_active;
    }
    if (perf->phase == PHASE_CLOSING) {
        if (!active) {
            uv_stop(&perf->loop);
        }
    } else if (perf->phase != PHASE_RUN) {
        if (now - perf->setup_ns > SETUP_TIMEOUT_NS) {
            run_fatal(perf, "the connections did not get ready in time");
        }
    } else {
        check_idle_end(perf, now);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    run_finish(signal->data);
}

/* ---- building and tearing down ---- */

static void client_init(struct perf *perf, unsigned at, enum role role, unsigned index)
{
    const struct options *o = perf->options;
    struct client *c = &perf->clients[at];
    c->perf = perf;
    c->role = role;
    c->index = index;
    c->uri = index % o->uri_count;
    c->channel_count = role == ROLE_SETUP      ? 1
                       : role == ROLE_CONSUMER ? o->consumer_channels
                                               : o->producer_channels;
    c->channels = wr_calloc(c->channel_count, sizeof(*c->channels));
    const unsigned queues = options_queue_count(o);
    for (unsigned i = 0; i < c->channel_count; i++) {
        struct channel *ch = &c->channels[i];
        ch->client = c;
        ch->number = (uint16_t)(i + 1);
        const unsigned queue = queues == 0 ? 0 : (index * c->channel_count + i) % queues;
        if (role == ROLE_PRODUCER) {
            ch->p.queue_index = queue;
            producer_init(ch);
        } else if (role == ROLE_CONSUMER) {
            ch->c.queue_index = queue;
        }
    }
}

static bool producer_less(const struct heap_node *a, const struct heap_node *b)
{
    return WR_CONTAINER_OF_CONST(a, struct producer, due_node)->due_ns <
           WR_CONTAINER_OF_CONST(b, struct producer, due_node)->due_ns;
}

static void perf_init(struct perf *perf, struct options *o)
{
    *perf = (struct perf){.options = o, .due_fd = -1};
    perf->client_count = 1 + o->consumers + o->producers;
    perf->clients = wr_calloc(perf->client_count, sizeof(*perf->clients));
    perf->read_buffer = wr_alloc(READ_BUFFER_SIZE);
    for (unsigned i = 0; i < perf->options->uri_count && perf->tls == NULL; i++) {
        if (perf->options->uris[i].tls) {
            perf->tls = tls_context_new(perf->options);
            perf->plain_buffer = wr_alloc(READ_BUFFER_SIZE);
        }
    }
    hist_clear(&perf->consumer_interval);
    hist_clear(&perf->consumer_total);
    hist_clear(&perf->confirm_interval);
    hist_clear(&perf->confirm_total);
    heap_init(&perf->due, producer_less);
    uv_loop_init(&perf->loop);
    client_init(perf, 0, ROLE_SETUP, 0);
    for (unsigned i = 0; i < o->consumers; i++) {
        client_init(perf, 1 + i, ROLE_CONSUMER, i);
    }
    for (unsigned i = 0; i < o->producers; i++) {
        client_init(perf, 1 + o->consumers + i, ROLE_PRODUCER, i);
    }
    perf->channels_total = (o->producer_messages > 0 ? o->producers * o->producer_channels : 0) +
                           (o->consumer_messages > 0 ? o->consumers * o->consumer_channels : 0);
    if ((o->producer_messages == 0 && o->producers > 0) ||
        (o->consumer_messages == 0 && o->consumers > 0)) {
        perf->channels_total = UINT32_MAX; /* the counts alone do not end it */
    }
    uv_timer_init(&perf->loop, &perf->tick);
    uv_timer_init(&perf->loop, &perf->keeper);
    uv_timer_init(&perf->loop, &perf->end);
    perf->tick.data = perf->keeper.data = perf->end.data = perf;
    uv_timer_start(&perf->keeper, on_keeper, KEEPER_MS, KEEPER_MS);
    uv_signal_init(&perf->loop, &perf->interrupt);
    uv_signal_init(&perf->loop, &perf->terminate);
    perf->interrupt.data = perf->terminate.data = perf;
    uv_signal_start(&perf->interrupt, on_signal, SIGINT);
    uv_signal_start(&perf->terminate, on_signal, SIGTERM);
    if (o->send_interval_ns > 0) {
        perf->due_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        WR_ASSERT(perf->due_fd >= 0);
        uv_poll_init(&perf->loop, &perf->due_poll, perf->due_fd);
        perf->due_poll.data = perf;
        uv_poll_start(&perf->due_poll, UV_READABLE, producer_due);
    }
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void perf_deinit(struct perf *perf)
{
    uv_walk(&perf->loop, close_handle, NULL);
    uv_run(&perf->loop, UV_RUN_DEFAULT);
    uv_loop_close(&perf->loop);
    if (perf->due_fd >= 0) {
        close(perf->due_fd);
    }
    heap_deinit(&perf->due);
    for (unsigned i = 0; i < perf->client_count; i++) {
        struct client *c = &perf->clients[i];
        for (unsigned j = 0; j < c->channel_count && c->role == ROLE_PRODUCER; j++) {
            producer_deinit(&c->channels[j]);
        }
        wire_frame_reader_deinit(&c->reader);
        wr_free(c->channels);
        wr_free(c->fill.data);
        wr_free(c->flight.data);
    }
    wr_free(perf->clients);
    wr_free(perf->read_buffer);
    wr_free(perf->plain_buffer);
    tls_context_free(perf->tls);
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct perf perf;
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* A broker that dies while we write to it is what --reconnect is for. */
    (void)signal(SIGPIPE, SIG_IGN);
    options_parse(&options, argc, argv);
    perf_init(&perf, &options);
    perf.setup_ns = now_ns();
    client_start(&perf.clients[0]);
    uv_run(&perf.loop, UV_RUN_DEFAULT);
    const int exit_code = perf.exit_code;
    perf_deinit(&perf);
    options_deinit(&options);
    return exit_code;
}
