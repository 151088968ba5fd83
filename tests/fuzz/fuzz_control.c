/*
 * What: fuzz target of warrenctl's requests, against a whole node of a cluster of one in the
 * simulator. Input: requests, one a line, as they come over a link (at most eight). Each gets one
 * answer, and every answer is JSON with a result or an error; the node lives on, and its catalog is
 * sound. It goes on with the next input as it is, for 500 inputs. A request to stop ends it while
 * the one before is being answered: what that one had begun goes with the node.
 */
#include <jansson.h>
#include <string.h>

#include "fuzz.h"

#include "node/control.h"
#include "replica/host_internal.h"
#include "sim.h"
#include "warren/str.h"

#define REQUESTS_MAX 8u
#define INPUTS_MAX   500u
#define ANSWER_NS    (400 * SIM_S) /* await_startup may wait for five minutes */

static struct sim *sim;
static uint64_t inputs;

static const char *on_ready(void *ctx, const struct link_identity *peer)
{
    (void)ctx;
    (void)peer;
    return NULL;
}

struct tool {
    struct link_session *session;
    struct outq out;
    uint32_t answers;
};

static void on_frame(void *ctx, uint8_t type, const struct slice *payload)
{
    struct tool *tool = ctx;
    if (tool == NULL || type != LINK_REPLY) {
        return;
    }
    json_t *reply =
        json_loadb((const char *)slice_data(payload), payload->size, JSON_ALLOW_NUL, NULL);
    WR_ASSERT(json_object_get(reply, "result") != NULL || json_object_get(reply, "error") != NULL);
    json_decref(reply);
    tool->answers++;
}

static struct link_session *session_of(bool initiator, struct outq *out, void *ctx)
{
    static const struct link_sink sink = {.on_ready = on_ready, .on_frame = on_frame};
    const struct link_identity own = {.node_id = {7, initiator}, .kind = LINK_KIND_NODE};
    const uint8_t nonce[32] = {initiator};
    outq_init(out);
    return link_session_new(initiator, bytes_from_cstr("cookie"), &own, nonce, out, &sink, ctx);
}

static void carry(struct outq *from, struct link_session *to)
{
    struct slice piece;
    while (outq_take(from, &piece, 1) == 1) {
        const int rc = link_session_feed(to, slice_data(&piece), piece.size);
        WR_ASSERT_OP(rc, ==, 0);
        slice_unref(&piece);
    }
}

static bool is_up(void)
{
    return sim != NULL && sim->hosts[0].running && !sim->hosts[0].stop_asked;
}

static void on_declared(void *ctx, int status, const struct catalog_result *result)
{
    WR_ASSERT_OP(status, ==, 0);
    WR_ASSERT_OP(result->status, ==, CATALOG_OK);
    *(bool *)ctx = true;
}

/* A queue on the other shard, which has to be asked. */
static void declare_queue(void)
{
    struct host *host = node_shard_host(sim->hosts[0].node, 0);
    struct catalog_command command = {.kind = CATALOG_DECLARE_QUEUE};
    struct catalog_queue_spec *spec = &command.u.queue;
    bool declared = false;
    spec->vhost = BYTES_LITERAL("/");
    spec->name = BYTES_LITERAL("q");
    spec->type = CATALOG_CLASSIC;
    spec->run = CATALOG_RUN_LOCAL;
    spec->local.node = host->options.node_id;
    spec->local.boot = host->boot;
    spec->local.shard = 1;
    host_catalog_propose(host, &command, 10000, on_declared, &declared);
    while (!declared) {
        sim_context_schedule(&sim->hosts[0].contexts[0], true);
        sim_run_until(sim, sim->now + 10 * SIM_MS);
    }
}

/* A node that has booted. */
static void start(void)
{
    struct sim_options options;
    if (sim != NULL) {
        sim_close(sim);
    }
    sim_options_draw(&options, 1);
    options.nodes = 1;
    options.shards = 2;
    options.late_nodes = options.queues = options.publishers = options.consumers = 0;
    options.getters = options.rivals = options.builders = options.autos = 0;
    options.numbered = options.historians = options.sleepers = options.seated = 0;
    options.moves = false;
    memset(options.faults, 0, sizeof options.faults);
    sim = sim_open(&options);
    inputs = 0;
    do {
        sim_run_until(sim, sim->now + 100 * SIM_MS);
    } while (!sim->hosts[0].running || node_shard_host(sim->hosts[0].node, 0)->boot == 0);
    declare_queue();
}

static bool asks_to_stop(struct bytes line)
{
    json_t *request = json_loadb((const char *)line.data, line.size, 0, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    const bool stops = command != NULL && strcmp(command, "stop") == 0;
    json_decref(request);
    return stops;
}

static void ask(struct shard *shard, struct link_conn *link, struct tool *tool, struct bytes line)
{
    const uint64_t until = sim->now + ANSWER_NS;
    const uint32_t before = tool->answers;
    control_request(shard, link, line);
    for (;;) {
        carry(&link->out, tool->session);
        if (tool->answers > before) {
            break;
        }
        WR_ASSERT(sim->now < until);
        sim_context_schedule(&sim->hosts[0].contexts[0], true);
        sim_run_until(sim, sim->now + 10 * SIM_MS);
        WR_ASSERT(is_up());
    }
    WR_ASSERT_OP(tool->answers, ==, before + 1);
}

/* Until some queue is asked for its row, or the answer is there: the moment at which most is under
 * way. */
static void ask_and_end(struct shard *shard, struct link_conn *link, struct tool *tool,
                        struct bytes line)
{
    const uint64_t until = sim->now + ANSWER_NS;
    const uint32_t before = tool->answers;
    control_request(shard, link, line);
    while (tool->answers == before && shard->host->reports.count == 0 && sim->now < until) {
        sim_context_schedule(&sim->hosts[0].contexts[0], true);
        sim_run_until(sim, sim->now + SIM_US);
        carry(&link->out, tool->session);
    }
    control_link_closed(shard, link);
    sim_close(sim);
    sim = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_make(data, size);
    struct tool tool = {0};
    if (!is_up() || ++inputs > INPUTS_MAX) {
        start();
    }
    struct shard *shard = node_shard(sim->hosts[0].node, 0);
    struct link_conn link = {.shard = shard};
    link.session = session_of(false, &link.out, NULL);
    tool.session = session_of(true, &tool.out, &tool);
    link_session_start(tool.session);
    for (int i = 0; i < 3; i++) {
        carry(&tool.out, link.session);
        carry(&link.out, tool.session);
    }
    WR_ASSERT(link_session_is_ready(link.session));
    bool more = size > 0;
    for (uint32_t i = 0; i < REQUESTS_MAX && more; i++) {
        struct bytes line;
        struct bytes next;
        struct bytes behind;
        more = str_split(rest, '\n', &line, &rest);
        (void)str_split(rest, '\n', &next, &behind);
        if (more && asks_to_stop(next)) {
            ask_and_end(shard, &link, &tool, line);
            break;
        }
        if (!asks_to_stop(line)) {
            ask(shard, &link, &tool, line);
        }
    }
    if (sim != NULL) {
        control_link_closed(shard, &link);
        catalog_check(shard->host->catalog);
    }
    link_session_free(link.session);
    link_session_free(tool.session);
    outq_deinit(&link.out);
    outq_deinit(&tool.out);
    return 0;
}
