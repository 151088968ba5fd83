/*
 * What: output of warren-perf: a line per interval in PerfTest's manner, the lines at the end, and
 * the JSON summary (docs/warren-perf.md).
 */
#include "perf.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

static void add_counters(struct counters *into, const struct counters *from)
{
    into->sent += from->sent;
    into->confirmed += from->confirmed;
    into->nacked += from->nacked;
    into->returned += from->returned;
    into->received += from->received;
    into->repeated += from->repeated;
}

static uint64_t per_second(uint64_t count, uint64_t ns)
{
    return ns == 0 ? 0 : (uint64_t)((double)count * 1e9 / (double)ns + 0.5);
}

static uint64_t us(uint64_t ns)
{
    return (ns + 500) / 1000;
}

static void print_latency(const char *name, const struct hist *h)
{
    if (h->count > 0) {
        printf(", min/median/75th/95th/99th %s latency: %" PRIu64 "/%" PRIu64 "/%" PRIu64
               "/%" PRIu64 "/%" PRIu64 " µs",
               name, us(h->min), us(hist_quantile(h, 50, 100)), us(hist_quantile(h, 75, 100)),
               us(hist_quantile(h, 95, 100)), us(hist_quantile(h, 99, 100)));
    }
}

static void print_rate(const char *name, uint64_t count, uint64_t ns, bool shown)
{
    if (shown) {
        printf(", %s: %" PRIu64 " msg/s", name, per_second(count, ns));
    }
}

void report_line(struct perf *perf, uint64_t now)
{
    const struct options *o = perf->options;
    const struct counters *n = &perf->interval;
    const uint64_t ns = now - perf->tick_ns;
    /* The last one, when the run ends between two ticks, would say nothing. */
    if (!o->quiet && ns * 4 >= o->interval_ms * 1000000) {
        printf("id: %s, time %.3f s", o->id, (double)(now - perf->begin_ns) / 1e9);
        print_rate("sent", n->sent, ns, o->producers > 0);
        print_rate("returned", n->returned, ns, o->mandatory);
        print_rate("confirmed", n->confirmed, ns, o->confirm_window > 0);
        print_rate("nacked", n->nacked, ns, n->nacked > 0);
        print_rate("received", n->received, ns, o->consumers > 0);
        print_latency("consumer", &perf->consumer_interval);
        print_latency("confirm", &perf->confirm_interval);
        printf("\n");
    }
    add_counters(&perf->total, n);
    hist_merge(&perf->consumer_total, &perf->consumer_interval);
    hist_merge(&perf->confirm_total, &perf->confirm_interval);
    hist_clear(&perf->consumer_interval);
    hist_clear(&perf->confirm_interval);
    perf->interval = (struct counters){0};
    perf->tick_ns = now;
}

static void json_latency(struct writer *w, const char *name, const struct hist *h)
{
    put_printf(
        w,
        "\"%s_latency_us\":{\"count\":%" PRIu64 ",\"min\":%.1f,\"mean\":%.1f,\"median\":%.1f,"
        "\"p75\":%.1f,\"p95\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}",
        name, h->count, h->count == 0 ? 0.0 : (double)h->min / 1e3, (double)hist_mean(h) / 1e3,
        (double)hist_quantile(h, 50, 100) / 1e3, (double)hist_quantile(h, 75, 100) / 1e3,
        (double)hist_quantile(h, 95, 100) / 1e3, (double)hist_quantile(h, 99, 100) / 1e3,
        (double)hist_quantile(h, 999, 1000) / 1e3, (double)h->max / 1e3);
}

/* The longest gap of all channels of a kind, those that are open at the end included. */
static struct gap worst_gap(const struct perf *perf, enum role role)
{
    struct gap worst = {0};
    for (unsigned i = 0; i < perf->client_count; i++) {
        const struct client *c = &perf->clients[i];
        for (unsigned j = 0; j < c->channel_count && c->role == role; j++) {
            struct gap g = c->channels[j].gap;
            if (!c->channels[j].finished) {
                gap_event(&g, perf->end_ns);
            }
            if (g.longest_ns > worst.longest_ns) {
                worst = g;
            }
        }
    }
    return worst;
}

static void json_gap(struct writer *w, const struct perf *perf, const char *name,
                     const struct gap *g)
{
    const uint64_t at = g->longest_at_ns > perf->begin_ns ? g->longest_at_ns - perf->begin_ns : 0;
    put_printf(w, "\"%s\":{\"ms\":%.3f,\"at_s\":%.3f}", name, (double)g->longest_ns / 1e6,
               (double)at / 1e9);
}

static void json_gaps(struct writer *w, const struct perf *perf)
{
    const struct gap confirm = worst_gap(perf, ROLE_PRODUCER);
    const struct gap delivery = worst_gap(perf, ROLE_CONSUMER);
    put_cstr(w, ",\"gaps\":{");
    json_gap(w, perf, "confirm_all", &perf->confirm_gap);
    put_cstr(w, ",");
    json_gap(w, perf, "confirm_worst_producer", &confirm);
    put_cstr(w, ",");
    json_gap(w, perf, "delivery_all", &perf->delivery_gap);
    put_cstr(w, ",");
    json_gap(w, perf, "delivery_worst_consumer", &delivery);
    put_cstr(w, "}");
}

static void build_json(struct writer *w, const struct perf *perf)
{
    const struct options *o = perf->options;
    const struct counters *n = &perf->total;
    const uint64_t ns = perf->end_ns - perf->begin_ns;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    put_cstr(w, "{\"id\":");
    put_json_string(w, bytes_from_cstr(o->id));
    put_printf(w,
               ",\"ok\":%s,\"duration_s\":%.3f,\"producers\":%u,\"consumers\":%u,\"size\":%u,"
               "\"sent\":%" PRIu64 ",\"confirmed\":%" PRIu64 ",\"nacked\":%" PRIu64
               ",\"returned\":%" PRIu64 ",\"received\":%" PRIu64 ",\"repeated\":%" PRIu64
               ",\"reconnects\":%" PRIu64,
               perf->exit_code == 0 ? "true" : "false", (double)ns / 1e9,
               o->producers * o->producer_channels, o->consumers * o->consumer_channels, o->size,
               n->sent, n->confirmed, n->nacked, n->returned, n->received, n->repeated,
               perf->reconnects);
    put_printf(w,
               ",\"sending_rate\":%" PRIu64 ",\"confirm_rate\":%" PRIu64
               ",\"receiving_rate\":%" PRIu64 ",\"client_cpu_s\":%.3f,",
               per_second(n->sent, ns), per_second(n->confirmed, ns), per_second(n->received, ns),
               (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    json_latency(w, "consumer", &perf->consumer_total);
    put_cstr(w, ",");
    json_latency(w, "confirm", &perf->confirm_total);
    if (o->gap_report) {
        json_gaps(w, perf);
    }
    put_cstr(w, "}\n");
}

static void print_total_latency(const char *id, const char *name, const struct hist *h)
{
    if (h->count > 0) {
        printf("id: %s, %s latency min/median/75th/95th/99th/99.9th/max %" PRIu64 "/%" PRIu64
               "/%" PRIu64 "/%" PRIu64 "/%" PRIu64 "/%" PRIu64 "/%" PRIu64 " µs\n",
               id, name, us(h->min), us(hist_quantile(h, 50, 100)), us(hist_quantile(h, 75, 100)),
               us(hist_quantile(h, 95, 100)), us(hist_quantile(h, 99, 100)),
               us(hist_quantile(h, 999, 1000)), us(h->max));
    }
}

static void print_gap(const struct perf *perf, const char *name, const struct gap *g)
{
    const uint64_t at = g->longest_at_ns > perf->begin_ns ? g->longest_at_ns - perf->begin_ns : 0;
    printf("id: %s, longest gap without a %s: %.1f ms, from %.3f s on\n", perf->options->id, name,
           (double)g->longest_ns / 1e6, (double)at / 1e9);
}

static void write_json_file(struct perf *perf, const char *path, struct bytes text)
{
    FILE *file = fopen(path, "w");
    bool ok = file != NULL && fwrite(text.data, 1, text.size, file) == text.size;
    if (file != NULL) {
        ok = fclose(file) == 0 && ok;
    }
    if (!ok) {
        fprintf(stderr, "warren-perf: cannot write %s\n", path);
        perf->exit_code = 1;
    }
}

void report_end(struct perf *perf)
{
    const struct options *o = perf->options;
    const uint64_t ns = perf->end_ns - perf->begin_ns;
    if (o->producers > 0) {
        printf("id: %s, sending rate avg: %" PRIu64 " msg/s\n", o->id,
               per_second(perf->total.sent, ns));
    }
    if (o->confirm_window > 0) {
        printf("id: %s, confirmed rate avg: %" PRIu64 " msg/s\n", o->id,
               per_second(perf->total.confirmed, ns));
        /* What is still open counts as a gap too, unless all is done. */
        if (perf->channels_finished < perf->channels_total && o->producer_messages == 0) {
            gap_event(&perf->confirm_gap, perf->end_ns);
        }
    }
    if (o->consumers > 0) {
        printf("id: %s, receiving rate avg: %" PRIu64 " msg/s\n", o->id,
               per_second(perf->total.received, ns));
        if (o->consumer_messages == 0 && o->producer_messages == 0) {
            gap_event(&perf->delivery_gap, perf->end_ns);
        }
    }
    print_total_latency(o->id, "consumer", &perf->consumer_total);
    print_total_latency(o->id, "confirm", &perf->confirm_total);
    if (o->gap_report) {
        print_gap(perf, "confirm", &perf->confirm_gap);
        print_gap(perf, "delivery", &perf->delivery_gap);
    }
    struct writer w;
    writer_init(&w, 2048);
    build_json(&w, perf);
    if (o->json_file != NULL) {
        write_json_file(perf, o->json_file, writer_bytes(&w));
    }
    if (o->json_summary) {
        fwrite(writer_bytes(&w).data, 1, writer_size(&w), stdout);
    }
    writer_deinit(&w);
}
