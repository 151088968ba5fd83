#ifndef WR_AMQP_H
#define WR_AMQP_H
/*
 * The AMQP 0-9-1 front end of one shard: bytes in, bytes out, no sockets (docs/amqp-connection.md).
 * It speaks to clients with src/wire and to the rest of the node only through warren/broker.h.
 *
 * The user pointer of each of its connections begins with the u32 tag ENV_LISTEN_AMQP. Threads: the
 * shard's.
 */
#include <stdint.h>

#include "warren/broker.h"
#include "warren/env.h"
#include "warren/logger.h"

struct amqp_server;

/* What clients may log in with. EXTERNAL: the certificate they have shown, where they have. */
enum amqp_mechanism {
    AMQP_MECHANISM_PLAIN = 1,
    AMQP_MECHANISM_AMQPLAIN = 2,
    AMQP_MECHANISM_EXTERNAL = 4
};

struct amqp_options {
    uint32_t handshake_timeout_ms; /* 10000 */
    uint32_t heartbeat_s;          /* offered in tune; 60 */
    uint32_t frame_max;            /* offered in tune; 131072; 0 = unlimited */
    uint32_t initial_frame_max;    /* before tune-ok; 8192 */
    uint32_t channel_max;          /* 2047; 0 = 65535 */
    uint64_t message_size_max;     /* 16 MiB */
    bool guest_loopback_only;
    uint32_t mechanisms; /* enum amqp_mechanism; 0 = PLAIN and AMQPLAIN */
    const char *product, *version, *platform, *cluster_name,
        *node_name; /* borrowed for the server's life */
    const struct logger *logger;
    uint64_t seed;
};
struct amqp_server *amqp_server_new(struct env *env, struct broker *broker,
                                    const struct amqp_options *options);
void amqp_server_free(struct amqp_server *server); /* drops what is still open */
void amqp_accept(struct amqp_server *server, struct env_conn *conn, const struct net_addr *peer,
                 const struct net_addr *local);
void amqp_on_bytes(struct amqp_server *server, void *user, const uint8_t *data, size_t size);
void amqp_on_drained(struct amqp_server *server, void *user);
void amqp_on_closed(struct amqp_server *server, void *user, int error);
/* Runs timers and sends what gathered. */
void amqp_turn(struct amqp_server *server);
uint64_t amqp_deadline_ns(const struct amqp_server *server);
/* 320 CONNECTION_FORCED to everybody; amqp_connections tells when they are gone. */
void amqp_close_all(struct amqp_server *server, const char *reason);
uint32_t amqp_connections(const struct amqp_server *server);

#endif
