/* What: the command line of warren-perf (docs/warren-perf.md), parsed and checked. */
#ifndef WR_PERF_OPTIONS_H
#define WR_PERF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/socket.h>

#include "warren/bytes.h"

#define OPTIONS_URIS_MAX 64

struct uri {
    char user[256];
    char password[256];
    char vhost[256];
    char text[600]; /* host:port, for messages */
    char host[256];
    bool tls;
    struct sockaddr_storage address;
};

struct options {
    char id[128];
    struct uri uris[OPTIONS_URIS_MAX];
    unsigned uri_count;
    const char *vhost; /* overrides those of the URIs, or NULL */

    unsigned producers, consumers; /* connections of each kind */
    unsigned producer_channels, consumer_channels;
    uint32_t size;
    uint64_t send_interval_ns; /* between two messages of a producer channel; 0 = as fast as can */
    uint32_t confirm_window;   /* 0 = no confirms */
    uint32_t multi_ack;
    uint16_t qos;
    bool autoack;

    const char *queue;         /* NULL: a server-named queue for each consumer */
    const char *queue_pattern; /* with %d, or NULL */
    unsigned queue_from, queue_to;
    struct writer queue_args; /* table */
    const char *exchange;
    const char *type;
    const char *key; /* NULL: the queue's name */
    char random_key[64];
    bool durable, persistent, mandatory, predeclared, auto_delete, exclusive;
    struct writer props;       /* raw properties of every message */
    unsigned priorities;       /* messages have priorities below that, mixed; 0 = all have props */
    struct writer *prio_props; /* priorities of them: props with each priority; or NULL */
    unsigned keys;             /* numbers below that in the key, mixed; 0 = one key */

    uint64_t seconds; /* 0 = until interrupted, or until the message counts are reached */
    uint64_t producer_messages, consumer_messages; /* per channel; 0 = no limit */
    uint64_t interval_ms;
    const char *json_file;
    bool json_summary, quiet;

    uint16_t heartbeat;
    uint32_t frame_max;
    bool reconnect, gap_report;
    uint64_t silence_ms; /* 0 = off */
    uint64_t connect_timeout_ms;

    const char *ca_file, *cert_file, *key_file; /* PEM, or NULL */
    bool default_trust, external;
};

/* Fill from the command line; prints what is wrong (or the help) and exits the process. */
void options_parse(struct options *o, int argc, char **argv);
void options_deinit(struct options *o);

/* Number of named queues (0 when server-named), and the name of the i-th. */
unsigned options_queue_count(const struct options *o);
void options_queue_name(const struct options *o, unsigned index, char out[256]);

/* Key of messages for, and binding of, the i-th named queue. */
void options_routing_key(const struct options *o, unsigned index, char out[256]);

/*
 * Messages of a channel differ in key and priority: the n-th is of kind n modulo this (a power of
 * two, 1 when they do not differ).
 */
unsigned options_variant_count(const struct options *o);

/* Key and properties of a kind of message for the i-th named queue; the properties are ours. */
void options_variant(const struct options *o, unsigned index, unsigned variant, char out_key[256],
                     struct bytes *ret_props);

#endif
