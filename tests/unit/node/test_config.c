/*
 * The configuration: every key once with a good value (where it lands) and with bad ones (that the
 * line is named), the format's rules, and what only the whole can tell.
 */
#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "warren/err.h"

static uint32_t ignored_count, ignored_line;
static char ignored_key[256];

static void on_ignored(void *ctx, uint32_t line, const char *key)
{
    (void)ctx;
    ignored_count++;
    ignored_line = line;
    (void)snprintf(ignored_key, sizeof(ignored_key), "%s", key);
}

static int parse(struct config *c, const char *text, char *errmsg)
{
    config_defaults(c);
    ignored_count = 0;
    return config_parse(c, bytes_from_cstr(text), on_ignored, NULL, errmsg);
}

static struct config good(const char *text)
{
    struct config c;
    char errmsg[512] = "";
    cr_assert_eq(parse(&c, text, errmsg), 0, "%s", errmsg);
    return c;
}

static void bad(const char *text, const char *expected)
{
    struct config c;
    char errmsg[512] = "";
    cr_assert_eq(parse(&c, text, errmsg), WR_E_INVALID, "%s", text);
    cr_assert_str_eq(errmsg, expected);
}

enum kind { TEXT, U32, U64, FLAG, LEVEL };

struct row {
    const char *key, *good;
    enum kind kind;
    size_t offset;
    uint64_t number; /* expected, numbers */
    const char *bad, *why;
};

#define AT(field) offsetof(struct config, field)
#define WHOLE     "expected a whole number"
#define BOOLEAN   "expected true or false"
#define LEVELS    "expected debug, info, notice, warning, error, critical or none"
#define SIZE      "expected a size such as 1048576, 64MiB or 500MB"

static const struct row rows[] = {
    {"nodename", "w1@h", TEXT, AT(nodename), 0, NULL, NULL},
    {"erlang.cookie", "monster", TEXT, AT(cookie), 0, NULL, NULL},
    {"cluster.cookie", "monster", TEXT, AT(cookie), 0, NULL, NULL},
    {"data_dir", "/var/lib/w", TEXT, AT(data_dir), 0, NULL, NULL},
    {"log.file", "/var/log/w", TEXT, AT(log_file), 0, NULL, NULL},
    {"log.file.level", "debug", LEVEL, AT(log_level), LOG_LEVEL_DEBUG, "loud", LEVELS},
    {"log.default.level", "error", LEVEL, AT(log_level), LOG_LEVEL_ERROR, "", LEVELS},
    {"log.console.level", "none", LEVEL, AT(log_level), LOG_LEVEL_NONE, "1", LEVELS},
    {"log.console", "true", FLAG, AT(log_console), 1, "maybe", BOOLEAN},
    {"cluster_name", "c", TEXT, AT(cluster_name), 0, NULL, NULL},
    {"shards", "64", U32, AT(shards), 64, "65", "expected a value of 1 to 64"},
    {"shards", "1", U32, AT(shards), 1, "0", "expected a value of 1 to 64"},
    {"heartbeat", "0", U32, AT(heartbeat_s), 0, "-1", WHOLE},
    {"heartbeat", "65535", U32, AT(heartbeat_s), 65535, "65536", "expected a value of 0 to 65535"},
    {"frame_max", "0", U32, AT(frame_max), 0, "4095", "expected 0 or a size of 4096 to 16777216"},
    {"frame_max", "4KiB", U32, AT(frame_max), 4096, "16777217",
     "expected 0 or a size of 4096 to 16777216"},
    {"initial_frame_max", "8192", U32, AT(initial_frame_max), 8192, "10",
     "expected a value of 4096 to 1048576"},
    {"channel_max", "0", U32, AT(channel_max), 0, "70000", "expected a value of 0 to 65535"},
    {"handshake_timeout", "100", U32, AT(handshake_timeout_ms), 100, "99",
     "expected a value of 100 to 3600000"},
    {"max_message_size", "512MiB", U64, AT(message_size_max), 536870912, "513MiB",
     "expected a value of 1 to 536870912"},
    {"max_message_size", "16mb", U64, AT(message_size_max), 16000000, "16 apples", SIZE},
    {"loopback_users.guest", "false", FLAG, AT(guest_loopback_only), 0, "none", BOOLEAN},
    {"loopback_users", "none", FLAG, AT(guest_loopback_only), 0, "all", "expected none"},
    {"default_user", "admin", TEXT, AT(default_user), 0, NULL, NULL},
    {"default_pass", "pass", TEXT, AT(default_pass), 0, NULL, NULL},
    {"default_vhost", "/v", TEXT, AT(default_vhost), 0, NULL, NULL},
    {"product.name", "RabbitMQ", TEXT, AT(product), 0, NULL, NULL},
    {"quorum_queue.initial_cluster_size", "5", U32, AT(quorum_initial_size), 5, "0",
     "expected a value of 1 to 64"},
    {"log.sync", "off", FLAG, AT(log_sync), 0, "2", BOOLEAN},
    {"log.segment_size", "64KiB", U32, AT(segment_size), 65536, "65535",
     "expected a value of 65536 to 1073741824"},
    {"vm_memory_high_watermark.relative", "0.4", U32, AT(memory_relative_ppm), 400000, "1.01",
     "expected a number from 0 to 1, such as 0.6"},
    {"vm_memory_high_watermark.relative", "1", U32, AT(memory_relative_ppm), 1000000, "40%",
     "expected a number from 0 to 1, such as 0.6"},
    {"vm_memory_high_watermark.relative", ".1234567", U32, AT(memory_relative_ppm), 123456, ".",
     "expected a number from 0 to 1, such as 0.6"},
    {"vm_memory_high_watermark.absolute", "2GB", U64, AT(memory_absolute), 2000000000, "much",
     SIZE},
    {"vm_memory_high_watermark.absolute", "1TiB", U64, AT(memory_absolute), UINT64_C(1) << 40, "-1",
     SIZE},
    {"total_memory_available_override_value", "4GiB", U64, AT(memory_total), UINT64_C(4) << 30, "0",
     "expected a value of 1 to 9223372036854775807"},
    {"memory_monitor_interval", "100", U32, AT(memory_interval_ms), 100, "5",
     "expected a value of 10 to 3600000"},
    {"log.segments_max", "2", U32, AT(segments_max), 2, "1", "expected a value of 2 to 4096"},
    {"cluster.liveness_timeout", "100", U32, AT(liveness_timeout_ms), 100, "99",
     "expected a value of 100 to 600000"},
    {"raft.election_timeout.min", "5", U32, AT(election_min_ms), 5, "4",
     "expected a value of 5 to 60000"},
    {"raft.election_timeout.max", "60000", U32, AT(election_max_ms), 60000, "1e3", WHOLE},
};

static void expect_value(const struct row *row, const struct config *c)
{
    const char *field = (const char *)c + row->offset;
    uint32_t small;
    uint64_t large;
    enum log_level level;
    switch (row->kind) {
    case TEXT:
        cr_assert_str_eq(field, row->good, "%s", row->key);
        break;
    case U32:
        memcpy(&small, field, sizeof(small));
        cr_assert_eq(small, row->number, "%s", row->key);
        break;
    case U64:
        memcpy(&large, field, sizeof(large));
        cr_assert_eq(large, row->number, "%s", row->key);
        break;
    case FLAG:
        cr_assert_eq(*(const bool *)(const void *)field, row->number == 1, "%s", row->key);
        break;
    case LEVEL:
        memcpy(&level, field, sizeof(level));
        cr_assert_eq((uint64_t)level, row->number, "%s", row->key);
        break;
    }
}

Test(config, each_key_sets_its_value_and_refuses_others_naming_the_line)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        char text[512];
        char expected[512];
        (void)snprintf(text, sizeof(text), "# first\n%s = %s\n", rows[i].key, rows[i].good);
        struct config c = good(text);
        expect_value(&rows[i], &c);
        if (rows[i].bad != NULL) {
            (void)snprintf(text, sizeof(text), "\n\n%s = %s", rows[i].key, rows[i].bad);
            (void)snprintf(expected, sizeof(expected), "line 3: bad value for '%s': %s",
                           rows[i].key, rows[i].why);
            bad(text, expected);
        }
    }
}

Test(config, texts_have_their_limits)
{
    static const char *const keys[] = {"nodename",     "erlang.cookie", "cluster_name",
                                       "default_user", "default_pass",  "default_vhost",
                                       "product.name", "data_dir",      "log.file"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(keys); i++) {
        char text[1600];
        char expected[200];
        int n = snprintf(text, sizeof(text), "%s = ", keys[i]);
        memset(text + n, 'x', 1200);
        text[n + 1200] = 0;
        (void)snprintf(expected, sizeof(expected),
                       "line 1: bad value for '%s': the value is too long", keys[i]);
        bad(text, expected);
    }
}

Test(config, a_line_that_is_none_is_refused)
{
    bad("heartbeat 60", "line 1: expected key = value");
    bad("a = 1", "line 1: unknown key 'a'");
    bad("\n= 1", "line 2: unknown key ''");
    bad("heartbeats = 1", "line 1: unknown key 'heartbeats'");
    bad("ssl_options.certfiles = x", "line 1: unknown key 'ssl_options.certfiles'");
    char text[600];
    memset(text, 'k', sizeof(text));
    memcpy(text + 500, " = 1", 5);
    bad(text, "line 1: the key is too long");
}

Test(config, the_format_is_rabbitmqs)
{
    struct config c = good("  heartbeat=7  \r\n#heartbeat = 8\n\n   # heartbeat = 9\n"
                           "cluster_name = 'a b' \ndefault_user = \"x\"\ndefault_pass = 'o\"k\n"
                           "heartbeat =   10");
    cr_assert_eq(c.heartbeat_s, 10); /* the later one wins */
    cr_assert_str_eq(c.cluster_name, "a b");
    cr_assert_str_eq(c.default_user, "x");
    cr_assert_str_eq(c.default_pass, "'o\"k");
    c = good("\xef\xbb\xbfheartbeat = 11\r\n"); /* as some editors write it */
    cr_assert_eq(c.heartbeat_s, 11);
    c = good("log.file = false");
    cr_assert_str_eq(c.log_file, "");
}

Test(config, keys_without_effect_are_reported)
{
    struct config c = good("\nvm_memory_high_watermark_paging_ratio = 0.5\n");
    (void)c;
    cr_assert_eq(ignored_count, 1);
    cr_assert_eq(ignored_line, 2);
    cr_assert_str_eq(ignored_key, "vm_memory_high_watermark_paging_ratio");
    (void)good("disk_free_limit.relative = 1.0\nnum_acceptors.tcp = 10\nnet_ticktime = 60\n"
               "management.tcp.port = 15672\nlog.exchange = true\n"
               "cluster_formation.dns.hostname = h\nraft.segment_max_entries = 1\n");
    cr_assert_eq(ignored_count, 7);
}

Test(config, consumers)
{
    struct config c = good("");
    cr_assert_eq(c.consumer_timeout_ms, 1800000);
    cr_assert_eq(c.consumers_max, 0);
    c = good("consumer_timeout = 31622400000\nconsumer_max_per_channel = 16\n");
    cr_assert_eq(c.consumer_timeout_ms, 31622400000);
    cr_assert_eq(c.consumers_max, 16);
    c = good("consumer_timeout = 0\nconsumer_max_per_channel = infinity\n");
    cr_assert_eq(c.consumer_timeout_ms, 0);
    cr_assert_eq(c.consumers_max, 0);
    bad("consumer_timeout = never\n",
        "line 1: bad value for 'consumer_timeout': expected a whole number");
    bad("consumer_max_per_channel = 0\n",
        "line 1: bad value for 'consumer_max_per_channel': expected a whole number above 0, or "
        "infinity");
}

Test(config, disk_free_limit)
{
    struct config c = good("");
    cr_assert_eq(c.disk_free_limit, 50000000);
    c = good("disk_free_limit.absolute = 0\n"); /* never, as with RabbitMQ */
    cr_assert_eq(c.disk_free_limit, 0);
    c = good("disk_free_limit.absolute = 2GB\n");
    cr_assert_eq(c.disk_free_limit, 2000000000);
}

Test(config, listeners)
{
    struct config c = good("listeners.tcp.default = 5673\nlisteners.tcp.2 = 127.0.0.1:1\n"
                           "listeners.tcp.3 = [::1]:65535\nlisteners.tcp.4 = host.example:5672\n");
    cr_assert_eq(c.tcp.count, 4);
    cr_assert_str_eq(c.tcp.addrs[0].host, "");
    cr_assert_eq(c.tcp.addrs[0].port, 5673);
    cr_assert_str_eq(c.tcp.addrs[1].host, "127.0.0.1");
    cr_assert_str_eq(c.tcp.addrs[2].host, "::1");
    cr_assert_eq(c.tcp.addrs[2].port, 65535);
    cr_assert_str_eq(c.tcp.addrs[3].host, "host.example");
    c = good("listeners.tcp.1 = 1\nlisteners.tcp.2 = 2\nlisteners.tcp.1 = 3\n");
    cr_assert_eq(c.tcp.count, 2);
    cr_assert_eq(c.tcp.addrs[0].port, 3); /* the later one of the same name wins */
    c = good("listeners.tcp.1 = 1\nlisteners.tcp = none\n");
    cr_assert_eq(c.tcp.count, 0);
    cr_assert(c.listeners_given);
    bad("listeners.tcp = 5672", "line 1: bad value for 'listeners.tcp': expected none");
    static const char *const wrong[] = {"0",
                                        "65536",
                                        "",
                                        "h:",
                                        ":x",
                                        "127.0.0.1",
                                        "5672 "
                                        "x"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(wrong); i++) {
        char text[100];
        (void)snprintf(text, sizeof(text), "listeners.tcp.1 = %s", wrong[i]);
        bad(text, "line 1: bad value for 'listeners.tcp.1': expected a port or address:port");
    }
    char many[17 * 40] = "";
    for (int i = 0; i < 17; i++) {
        (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "listeners.tcp.l%d = %d\n",
                       i, 100 + i);
    }
    bad(many, "line 17: bad value for 'listeners.tcp.l16': too many listeners (at most 16)");
}

Test(config, the_cluster_port)
{
    struct config c = good("distribution.listener.port_range.max = 26000\n"
                           "distribution.listener.port_range.min = 25999\n"
                           "distribution.listener.interface = 10.0.0.1\n");
    char errmsg[512];
    cr_assert_eq(c.cluster_listener.port, 25999);
    cr_assert_str_eq(c.cluster_listener.host, "10.0.0.1");
    (void)snprintf(c.data_dir, sizeof(c.data_dir), "d");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    c.cluster_port_max = 25998;
    cr_assert_eq(config_finish(&c, errmsg), WR_E_INVALID);
    bad("distribution.listener.port_range.min = 0",
        "line 1: bad value for 'distribution.listener.port_range.min': expected a port, 1 to "
        "65535");
    bad("distribution.listener.port_range.max = x",
        "line 1: bad value for 'distribution.listener.port_range.max': expected a port, 1 to "
        "65535");
}

Test(config, peers)
{
#define PEER "cluster_formation.classic_config.nodes."
    struct config c = good("cluster_formation.peer_discovery_backend = classic_config\n" PEER
                           "1 = a@h1\n" PEER "2 = b@h2:99\n" PEER "1 = c@h3\n");
    cr_assert_eq(c.peer_count, 2);
    cr_assert_str_eq(c.peers[0].name, "c@h3");
    cr_assert_str_eq(c.peers[1].name, "b@h2");
    cr_assert_str_eq(c.peers[1].addr.host, "h2");
    cr_assert_eq(c.peers[1].addr.port, 99);
    static const char *const wrong[] = {"a", "@h", "a@", "a@h:", "a@h:0", "a@h:65536", "a@:1"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(wrong); i++) {
        char text[100];
        (void)snprintf(text, sizeof(text), PEER "1 = %s", wrong[i]);
        bad(text, "line 1: bad value for '" PEER
                  "1': expected name@host or name@host:port, with a port of 1 to 65535");
    }
    bad("cluster_formation.peer_discovery_backend = consul",
        "line 1: bad value for 'cluster_formation.peer_discovery_backend': only classic_config is "
        "supported in this version");
    bad("cluster_partition_handling = autoheal",
        "line 1: bad value for 'cluster_partition_handling': only ignore is supported in this "
        "version");
    (void)good("cluster_partition_handling = ignore");
}

/* Of some of RabbitMQ's keys one value is what is done here anyway. */
Test(config, keys_of_rabbitmq_that_say_what_is_so)
{
    (void)good("auth_backends.1 = internal\nauth_backends.2 = rabbit_auth_backend_internal\n"
               "auth_backends.3.authn = internal\nauth_backends.3.authz = internal\n"
               "proxy_protocol = false\n"
               "password_hashing_module = rabbit_password_hashing_sha256\n");
    cr_assert_eq(ignored_count, 0);
    bad("auth_backends.1 = ldap",
        "line 1: bad value for 'auth_backends.1': only internal is supported in this version");
    bad("auth_backends.1.authn = http", "line 1: bad value for 'auth_backends.1.authn': only "
                                        "internal is supported in this version");
    bad("proxy_protocol = true", "line 1: bad value for 'proxy_protocol': only false is supported");
    bad("password_hashing_module = rabbit_password_hashing_md5",
        "line 1: bad value for 'password_hashing_module': only rabbit_password_hashing_sha256 is "
        "supported in this version");
}

static void finish_fails(const char *text, const char *expected)
{
    struct config c = good(text);
    char errmsg[512] = "";
    cr_assert_eq(config_finish(&c, errmsg), WR_E_INVALID, "%s", text);
    cr_assert_str_eq(errmsg, expected);
}

#define TLS_FILES "ssl_options.certfile = c\nssl_options.keyfile = k\nssl_options.cacertfile = a\n"

Test(config, listeners_with_tls)
{
    char errmsg[512];
    struct config c = good("data_dir = d\nlisteners.ssl.default = 5671\nlisteners.ssl.2 = [::1]:1\n"
                           "listeners.ssl.default = 127.0.0.1:5673\n" TLS_FILES
                           "ssl_options.password = secret\nssl_options.verify = verify_peer\n"
                           "ssl_options.fail_if_no_peer_cert = true\nssl_options.depth = 2\n"
                           "ssl_options.honor_cipher_order = true\n"
                           "ssl_options.versions.1 = tlsv1.2\nssl_options.versions.1 = tlsv1.3\n"
                           "ssl_options.ciphers.1 = TLS_AES_256_GCM_SHA384\n"
                           "ssl_options.ciphers.2 = ECDHE-RSA-AES256-GCM-SHA384\n");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    cr_assert_eq(c.tcp.count, 1); /* the plain one is there until it is said to be none */
    cr_assert_eq(c.ssl.count, 2);
    cr_assert_str_eq(c.ssl.addrs[0].host, "127.0.0.1");
    cr_assert_eq(c.ssl.addrs[0].port, 5673);
    cr_assert_str_eq(c.tls.cacertfile, "a");
    cr_assert_str_eq(c.tls.certfile, "c");
    cr_assert_str_eq(c.tls.keyfile, "k");
    cr_assert_str_eq(c.tls.password, "secret");
    cr_assert(c.tls.verify_peer && c.tls.fail_if_no_peer_cert && c.tls.honor_cipher_order);
    cr_assert_eq(c.tls.depth, 2);
    cr_assert(!c.tls.tls12 && c.tls.tls13);
    cr_assert_str_eq(c.tls.cipher_names, "TLS_AES_256_GCM_SHA384:ECDHE-RSA-AES256-GCM-SHA384");
    c = good("data_dir = d\nlisteners.ssl.1 = 1\nlisteners.ssl = none\n");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    cr_assert_eq(c.ssl.count, 0);
    cr_assert(!c.tls.verify_peer && c.tls.tls12 && c.tls.tls13);
    cr_assert_eq(c.tls.depth, 10);
    bad("listeners.ssl = 5671", "line 1: bad value for 'listeners.ssl': expected none");
    bad("listeners.ssl.1 = x",
        "line 1: bad value for 'listeners.ssl.1': expected a port or address:port");
    bad("ssl_options.verify = peer",
        "line 1: bad value for 'ssl_options.verify': expected verify_peer or verify_none");
    bad("ssl_options.versions.1 = tlsv1.1",
        "line 1: bad value for 'ssl_options.versions.1': expected tlsv1.2 or tlsv1.3; older ones "
        "are not spoken");
    bad("ssl_options.ciphers.1 = A:B",
        "line 1: bad value for 'ssl_options.ciphers.1': expected the name of one cipher suite");
    bad("ssl_options.client_renegotiation = true",
        "line 1: bad value for 'ssl_options.client_renegotiation': only false is supported");
    bad("ssl_options.secure_renegotiate = false",
        "line 1: bad value for 'ssl_options.secure_renegotiate': only true is supported: without "
        "it TLS is not safe");
    (void)good("ssl_options.client_renegotiation = false\nssl_options.secure_renegotiate = true\n"
               "ssl_options.reuse_sessions = false\nssl_options.log_alert = true\n");
    cr_assert_eq(ignored_count, 1);
}

/* What RabbitMQ obeys and we do not is no start, so that nobody believes it is obeyed. */
Test(config, what_tls_does_not_have_is_refused)
{
    static const char wrong[] = "ssl_options.honor_ecc_order and ssl_options.honor_cipher_order "
                                "must be the same: there is one setting for both";
    char errmsg[512];
    bad("ssl_options.dhfile = /f", "line 1: 'ssl_options.dhfile' is not supported: only elliptic "
                                   "curves are used to agree on keys");
    bad("ssl_options.crl_check = peer", "line 1: 'ssl_options.crl_check' is not supported: "
                                        "revocation lists are not looked at");
    bad("ssl_options.key.RSAPrivateKey = x", "line 1: 'ssl_options.key.RSAPrivateKey' is not "
                                             "supported: give a file, ssl_options.keyfile");
    bad("ssl_options.sni = x", "line 1: 'ssl_options.sni' is not supported: there is one "
                               "certificate, for every name");
    bad("ssl_options.psk_identity = x", "line 1: 'ssl_options.psk_identity' is not supported: "
                                        "there are no pre-shared keys");
    bad("ssl_options.reuse_sessions = true",
        "line 1: bad value for 'ssl_options.reuse_sessions': only false is supported");
    bad("ssl_options.verfy = x", "line 1: unknown key 'ssl_options.verfy'");
    bad("ssl_options.honor_ecc_order = x",
        "line 1: bad value for 'ssl_options.honor_ecc_order': expected true or false");
    finish_fails("data_dir = d\nssl_options.honor_ecc_order = true\n", wrong);
    finish_fails("data_dir = d\nssl_options.honor_cipher_order = true\n"
                 "ssl_options.honor_ecc_order = false\n",
                 wrong);
    struct config c = good("data_dir = d\nssl_options.honor_cipher_order = true\n"
                           "ssl_options.honor_ecc_order = true\n");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    cr_assert(c.tls.honor_cipher_order);
}

Test(config, who_logs_in_and_how)
{
    struct config c = good("auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n"
                           "ssl_cert_login_from = subject_alternative_name\n"
                           "ssl_cert_login_san_type = email\nssl_cert_login_san_index = 3\n");
    cr_assert_eq(c.auth_mechanisms.count, 2);
    cr_assert_str_eq(c.auth_mechanisms.values[1], "EXTERNAL");
    cr_assert_eq(c.tls.login_from, CONFIG_LOGIN_SAN);
    cr_assert_eq(c.tls.san_type, CONFIG_SAN_EMAIL);
    cr_assert_eq(c.tls.san_index, 3);
    cr_assert_eq(good("ssl_cert_login_from = common_name").tls.login_from, CONFIG_LOGIN_CN);
    cr_assert_eq(good("").tls.login_from, CONFIG_LOGIN_DN);
    cr_assert_eq(good("ssl_cert_login_san_type = other_name").tls.san_type, CONFIG_SAN_OTHER);
    bad("auth_mechanisms.1 = ANONYMOUS",
        "line 1: bad value for 'auth_mechanisms.1': expected PLAIN, "
        "AMQPLAIN or EXTERNAL");
    bad("ssl_cert_login_from = cn", "line 1: bad value for 'ssl_cert_login_from': expected "
                                    "distinguished_name, common_name or subject_alternative_name");
    bad("ssl_cert_login_san_type = x", "line 1: bad value for 'ssl_cert_login_san_type': expected "
                                       "dns, ip, email, uri or other_name");
}

Test(config, what_only_the_whole_can_tell)
{
    char errmsg[512];
    struct config c = good("data_dir = d\nnodename = a@h\nerlang.cookie = x\n" PEER "1 = a@h\n" PEER
                           "2 = b@h\ndistribution.listener.port_range.min = 7\n");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    cr_assert_eq(c.peers[1].addr.port, 7); /* the same port as ours */
    cr_assert_eq(c.tcp.count, 1);
    cr_assert_eq(c.tcp.addrs[0].port, 5672);
    c = good("data_dir = d\nlisteners.tcp = none\n");
    cr_assert_eq(config_finish(&c, errmsg), 0);
    cr_assert_eq(c.tcp.count, 0);
    finish_fails("data_dir = d\nlisteners.ssl.1 = 1", "listeners.ssl needs ssl_options.certfile");
    finish_fails("data_dir = d\nlisteners.ssl.1 = 1\nssl_options.certfile = c\n"
                 "ssl_options.verify = verify_peer",
                 "ssl_options.verify = verify_peer needs ssl_options.cacertfile");
    finish_fails("data_dir = d\nssl_options.fail_if_no_peer_cert = true",
                 "ssl_options.fail_if_no_peer_cert needs ssl_options.verify = verify_peer");
    finish_fails("data_dir = d\nlisteners.ssl.1 = 1\n" TLS_FILES "auth_mechanisms.1 = EXTERNAL",
                 "auth_mechanisms: EXTERNAL needs listeners.ssl and ssl_options.verify = "
                 "verify_peer");
    finish_fails("", "no data directory: give data_dir in the file or --data DIR");
    finish_fails("data_dir = d\nnodename = a", "nodename 'a' is not of the form name@host");
    finish_fails("data_dir = d\nnodename = @h", "nodename '@h' is not of the form name@host");
    finish_fails("data_dir = d\nnodename = a@b@c", "nodename 'a@b@c' is not of the form name@host");
    finish_fails("data_dir = d\nnodename = a@", "nodename 'a@' is not of the form name@host");
    finish_fails("data_dir = d\n" PEER "1 = b@h",
                 "cluster_formation.classic_config.nodes does not contain this node, "
                 "warren@localhost");
    finish_fails("data_dir = d\nnodename = a@h\n" PEER "1 = a@h\n" PEER "2 = b@h",
                 "a cluster needs a cookie: set erlang.cookie to the same secret on every node");
    finish_fails("data_dir = d\nnodename = a@h\nerlang.cookie = x\n" PEER "1 = a@h\n" PEER
                 "2 = a@h",
                 "cluster_formation.classic_config.nodes names a@h twice");
    finish_fails("data_dir = d\nraft.election_timeout.min = 200",
                 "raft.election_timeout.min is greater than raft.election_timeout.max");
    finish_fails("data_dir = d\ndefault_user =", "default_user and default_vhost cannot be empty");
}

Test(config, a_nul_in_a_value_is_refused)
{
    static const char text[] = "nodename = a@\0h\n";
    struct config c;
    char errmsg[512];
    config_defaults(&c);
    cr_assert_eq(config_parse(&c, bytes_make(text, sizeof(text) - 1), NULL, NULL, errmsg),
                 WR_E_INVALID);
    cr_assert_eq(strncmp(errmsg, "line 1: ", 8), 0);
}
