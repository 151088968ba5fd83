#ifndef WR_NODE_CONFIG_H
#define WR_NODE_CONFIG_H
/*
 * The node's configuration: typed values with limits, read from a file in rabbitmq.conf's format
 * (docs/configuration.md). Pure: the text is handed in, nothing is opened here.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/bytes.h"
#include "warren/env.h"
#include "warren/logger.h"

#define CONFIG_NOT_GIVEN     UINT64_MAX
#define CONFIG_LISTENERS_MAX 16
#define CONFIG_PEERS_MAX     64
#define CONFIG_LIST_MAX      48
#define CONFIG_VALUE_MAX     64

#define CONFIG_NAME_MAX                                                                            \
    64 /* of what stands for the '*' in listeners.tcp.*, classic_config.nodes.* */

struct config_peer {
    char key[CONFIG_NAME_MAX]; /* the line's own name: a later line with the same one replaces it */
    char name[256];            /* warren2@localhost */
    struct net_addr addr;      /* the name's host part and the cluster port */
};

struct config_listeners {
    struct net_addr addrs[CONFIG_LISTENERS_MAX];
    char keys[CONFIG_LISTENERS_MAX][CONFIG_NAME_MAX]; /* what stands for the '*' */
    uint32_t count;
};

/* Values of keys that end in '.N': a later line with the same N replaces the value. */
struct config_list {
    char keys[CONFIG_LIST_MAX][CONFIG_NAME_MAX], values[CONFIG_LIST_MAX][CONFIG_VALUE_MAX];
    uint32_t count;
};

enum config_login { CONFIG_LOGIN_DN, CONFIG_LOGIN_CN, CONFIG_LOGIN_SAN };
enum config_san {
    CONFIG_SAN_DNS,
    CONFIG_SAN_IP,
    CONFIG_SAN_EMAIL,
    CONFIG_SAN_URI,
    CONFIG_SAN_OTHER
};

struct config_tls { /* ssl_options.*, for all of listeners.ssl.* */
    char cacertfile[1024], certfile[1024], keyfile[1024]; /* "" = not given */
    char password[256];
    bool verify_peer, fail_if_no_peer_cert, honor_cipher_order;
    bool honor_ecc_order, ecc_order_given; /* only checked: it is one setting with the other */
    uint32_t depth;
    struct config_list versions, ciphers;                  /* none: all that are known to be good */
    bool tls12, tls13;                                     /* of versions */
    char cipher_names[CONFIG_LIST_MAX * CONFIG_VALUE_MAX]; /* of ciphers, ':' between */
    enum config_login login_from;
    enum config_san san_type;
    uint32_t san_index;
};

struct config {
    char nodename[256];
    struct config_listeners tcp, ssl;
    bool listeners_given; /* of tcp: otherwise there is one */
    struct config_tls tls;
    struct config_list auth_mechanisms; /* none: PLAIN and AMQPLAIN */
    struct net_addr cluster_listener;   /* host "" = every address */
    uint16_t cluster_port_max; /* 0 = not given; only checked: one port is used, the least */
    char cookie[256];
    char file[1024];                     /* where it was read; "" = nowhere */
    char data_dir[1024], log_file[1024]; /* log_file "" = stderr */
    bool log_console;                    /* to stderr as well as to log_file */
    enum log_level log_level;
    char cluster_name[256];
    struct config_peer peers[CONFIG_PEERS_MAX];
    uint32_t peer_count;
    uint32_t shards; /* 0 = one per core */
    uint32_t heartbeat_s, frame_max, channel_max, initial_frame_max, handshake_timeout_ms;
    uint64_t message_size_max;
    uint64_t consumer_timeout_ms; /* 0: none */
    uint32_t consumers_max;       /* of a channel; 0: no limit */
    bool guest_loopback_only;
    char default_user[256], default_pass[256], default_vhost[256];
    char product[64];
    uint32_t quorum_initial_size;
    bool log_sync;
    uint32_t segment_size, segments_max;
    uint64_t disk_free_limit;     /* bytes; publishers are held back below it */
    uint32_t memory_relative_ppm; /* vm_memory_high_watermark.relative, millionths of the memory */
    uint64_t memory_absolute;     /* .absolute; CONFIG_NOT_GIVEN: the relative one counts */
    uint64_t memory_total;        /* total_memory_available_override_value; 0 = ask the system */
    uint32_t memory_interval_ms;
    uint32_t liveness_timeout_ms; /* silence after which a node counts as down */
    uint32_t election_min_ms, election_max_ms;
    uint32_t compare_queue_every, compare_catalog_every; /* not in the file; 0 = default */
};

/* Fills in the defaults. */
void config_defaults(struct config *config);

/* Applies the text of one file. Errors name the line: "line 7: unknown key 'foo.bar'"; WR_E_INVALID
 * with text in errmsg[512]. ignored(line, key) is called for keys of RabbitMQ that are accepted and
 * have no effect in this version; may be NULL. */
WR_MUST_USE int config_parse(struct config *config, struct bytes text,
                             void (*ignored)(void *ctx, uint32_t line, const char *key), void *ctx,
                             char *errmsg);

/* Checks what only the whole can tell (peer list contains us, data_dir given ...) and completes
 * derived values. */
WR_MUST_USE int config_finish(struct config *config, char *errmsg);

#endif
