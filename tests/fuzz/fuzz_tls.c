/*
 * What: fuzz target of TLS sessions (src/os/tls.c). The input is a short program: the first two
 * bytes choose server and client (versions, certificates, OpenSSL's client in memory), the rest
 * what they do: handshake, data both ways, key updates, renegotiation, closing; and what the
 * network does: bytes out of nowhere, damaged, doubled and lost ones, pieces of every size.
 *
 * Whatever the network does, what comes out is the beginning of what the other side put in, and
 * nobody is in, or has a name, who has not shown what he must show.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* a source of chance that is the same in every run */
#include "fuzz.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"
#include "tls_rig.h"
#include "warren/mem.h"
#include "warren/prng.h"

void rig_fail(const char *what, const char *file, int line); /* tls_rig.c wants it */

void rig_fail(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

enum {
    SERVERS = 4,
    VERSIONS = 3,
    CERTIFICATES = 4,
    STEPS_MAX = 120,
    PIECE_MAX = 20000,
    PIECES_MAX = 4000,
    ROOM_MAX = 5000
};
enum shown { SHOWN_NONE, SHOWN_GOOD, SHOWN_EXPIRED, SHOWN_OTHER };

static struct os_tls_server *servers[SERVERS]; /* bit 0: verify_peer, bit 1: and none is refused */
static SSL_CTX *clients[VERSIONS][CERTIFICATES];
static struct prng chance;

struct world {
    const uint8_t *data;
    size_t left;
    struct os_tls *tls;
    struct sendq out;
    SSL *client;
    BIO *in, *sent; /* to and from the client */
    enum os_tls_state last;
    enum shown shown;
    uint8_t server;
    bool touched;    /* the network has done something to the bytes */
    bool forgets;    /* as tcp.c: what is not used of the input is taken back */
    uint32_t pieces; /* so far: when it is enough, they are large ones */
    uint64_t client_said, server_heard, server_said, client_heard;
};

/* --- once ------------------------------------------------------------------------------------- */

static int random_bytes(unsigned char *out, int size)
{
    for (int i = 0; i < size; i++) {
        out[i] = (unsigned char)prng_u64(&chance);
    }
    return 1;
}

static int random_is_there(void)
{
    return 1;
}

static const RAND_METHOD random_method = {
    .bytes = random_bytes, .pseudorand = random_bytes, .status = random_is_there};

static void make_everything(void)
{
    static const int versions[VERSIONS] = {0, TLS1_2_VERSION, TLS1_3_VERSION};
    struct pki pki;
    char errmsg[256] = "";
    prng_init(&chance, 1);
    WR_ASSERT(RAND_set_rand_method(&random_method) == 1);
    pki_init(&pki);
    for (size_t i = 0; i < SERVERS; i++) {
        const struct os_tls_options options = {.cacertfile = pki.ca,
                                               .certfile = pki.cert,
                                               .keyfile = pki.key,
                                               .verify_peer = (i & 1) != 0,
                                               .fail_if_no_peer_cert = i == 3,
                                               .depth = 10,
                                               .tls12 = true,
                                               .tls13 = i != 2,
                                               .login_from = OS_TLS_LOGIN_SAN,
                                               .san_type = OS_TLS_SAN_OTHER};
        WR_ASSERT(os_tls_server_new(&options, &servers[i], errmsg) == 0);
    }
    const char *const certificates[CERTIFICATES] = {NULL, pki.client_cert, pki.expired_cert,
                                                    pki.other_cert};
    for (size_t v = 0; v < VERSIONS; v++) {
        for (size_t c = 0; c < CERTIFICATES; c++) {
            clients[v][c] = pki_client(&pki, certificates[c], versions[v]);
        }
    }
    pki_deinit(&pki);
}

/* --- the program ------------------------------------------------------------------------------ */

static uint8_t next(struct world *w)
{
    if (w->left == 0) {
        return 0;
    }
    w->left--;
    return *w->data++;
}

/* 0 to 65535, mostly small. */
static size_t next_size(struct world *w)
{
    size_t size = next(w);
    return size < 192 ? size : (size - 192) * 1024 + next(w);
}

static uint8_t letter(uint64_t at)
{
    return (uint8_t)(at * 131 + (at >> 7));
}

/* --- the server's side ------------------------------------------------------------------------ */

static void check_state(struct world *w)
{
    enum os_tls_state state = os_tls_state(w->tls);
    const struct env_tls *info = os_tls_info(w->tls);
    WR_ASSERT(state >= w->last && (w->last != OS_TLS_ENDED || state == OS_TLS_ENDED));
    WR_ASSERT((os_tls_failure(w->tls)[0] != 0) == (state == OS_TLS_FAILED));
    WR_ASSERT(state != OS_TLS_HANDSHAKE || info == NULL);
    if (state == OS_TLS_OPEN || info != NULL) {
        bool good = w->shown == SHOWN_GOOD;
        bool asked = (w->server & 1) != 0;
        WR_ASSERT(info != NULL && info->protocol[0] != 0);
        WR_ASSERT(info->verified == (asked && good));
        WR_ASSERT((info->login.size > 0) == (asked && good));
        WR_ASSERT(!asked || good || (w->server != 3 && w->shown == SHOWN_NONE));
    }
    w->last = state;
}

static void server_hears(struct world *w, const uint8_t *plain, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        WR_ASSERT(plain[i] == letter(w->server_heard + i));
    }
    w->server_heard += size;
    WR_ASSERT(w->server_heard <= w->client_said);
}

/* In memory of its own, which is gone afterwards: nothing of it may be needed any more. */
static void feed(struct world *w, const uint8_t *data, size_t size, size_t room)
{
    room = room < ROOM_MAX ? room : ROOM_MAX;
    uint8_t *copy = wr_memdup(data, size);
    uint8_t *plain = wr_alloc(room);
    size_t n;
    os_tls_feed(w->tls, copy, size);
    while ((n = os_tls_read(w->tls, plain, room)) > 0) {
        WR_ASSERT(n <= room);
        server_hears(w, plain, n);
        check_state(w);
    }
    check_state(w);
    if (w->forgets || os_tls_state(w->tls) >= OS_TLS_ENDED) {
        os_tls_feed(w->tls, NULL, 0);
    }
    wr_free(plain);
    wr_free(copy);
}

static void server_says(struct world *w, size_t size)
{
    uint8_t data[OS_TLS_RECORD];
    size = size < sizeof data ? size : sizeof data;
    if (os_tls_state(w->tls) != OS_TLS_OPEN || size == 0) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = letter(w->server_said + i);
    }
    w->server_said += size;
    (void)os_tls_write(w->tls, data, size);
    check_state(w);
}

/* --- the client's side ------------------------------------------------------------------------ */

static void client_hears(struct world *w)
{
    uint8_t data[4096];
    int n;
    while (SSL_is_init_finished(w->client) &&
           (n = SSL_read(w->client, data, (int)sizeof data)) > 0) {
        for (int i = 0; i < n; i++) {
            WR_ASSERT(data[i] == letter(w->client_heard + (uint64_t)i));
        }
        w->client_heard += (uint64_t)n;
        WR_ASSERT(w->client_heard <= w->server_said);
    }
}

static void client_says(struct world *w, size_t size)
{
    uint8_t data[PIECE_MAX];
    size_t taken = 0;
    size = size < sizeof data ? size : sizeof data;
    if (!SSL_is_init_finished(w->client) || size == 0) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = letter(w->client_said + i);
    }
    if (SSL_write_ex(w->client, data, size, &taken) == 1) {
        w->client_said += taken;
    }
}

/* What the server has for the client, or its first bytes only. */
static void to_client(struct world *w, size_t most)
{
    while (w->out.size > 0 && most > 0) {
        const struct slice *s = &w->out.slices.items[w->out.head];
        size_t n = s->size < most ? s->size : most;
        WR_ASSERT(BIO_write(w->in, slice_data(s), (int)n) == (int)n);
        sendq_consume(&w->out, n);
        most -= n;
    }
    (void)SSL_do_handshake(w->client);
    client_hears(w);
}

/* --- the network ------------------------------------------------------------------------------ */

struct damage {
    size_t at;    /* of the byte that is changed; beyond the end: none */
    uint8_t mask; /* 0: none */
    bool twice;
    size_t lost; /* of the end */
};

static void to_server(struct world *w, size_t piece, size_t room, struct damage damage)
{
    uint8_t *data = NULL;
    long pending = BIO_get_mem_data(w->sent, &data);
    size_t size = pending > 0 ? (size_t)pending : 0;
    uint8_t *copy = wr_memdup(data, size);
    (void)BIO_reset(w->sent);
    if (damage.at < size && damage.mask != 0) {
        copy[damage.at] ^= damage.mask;
        w->touched = true;
    }
    if (damage.lost > 0 && size > 0) {
        size -= damage.lost < size ? damage.lost : size;
        w->touched = true;
    }
    for (int i = 0; i < 1 + (damage.twice && size > 0); i++) {
        for (size_t at = 0; at < size;) {
            size_t most = w->pieces++ < PIECES_MAX ? piece : PIECE_MAX;
            size_t n = most < size - at ? most : size - at;
            feed(w, copy + at, n, room);
            at += n;
        }
        w->touched = w->touched || i > 0;
    }
    wr_free(copy);
}

static void out_of_nowhere(struct world *w)
{
    size_t size = next_size(w);
    size_t piece = (size_t)next(w) + 1;
    size = size < w->left ? size : w->left;
    for (size_t at = 0; at < size; at += piece) {
        feed(w, w->data + at, piece < size - at ? piece : size - at, 64);
    }
    w->touched = w->touched || size > 0;
    w->data += size;
    w->left -= size;
}

static void step(struct world *w)
{
    struct damage damage = {.at = SIZE_MAX};
    size_t piece = 0;
    switch (next(w) % 12) {
    case 0: /* there and back */
        piece = next_size(w) + 1;
        (void)SSL_do_handshake(w->client);
        to_server(w, piece, next_size(w) + 1, damage);
        to_client(w, SIZE_MAX);
        break;
    case 1:
        piece = next_size(w) + 1;
        to_server(w, piece, next_size(w) + 1, damage);
        break;
    case 2:
        to_client(w, next_size(w));
        break;
    case 3:
        client_says(w, next_size(w));
        break;
    case 4:
        server_says(w, next_size(w));
        break;
    case 5:
        out_of_nowhere(w);
        break;
    case 6:
        damage.at = next_size(w);
        damage.mask = next(w);
        to_server(w, 1000, 1000, damage);
        break;
    case 7:
        damage.twice = (next(w) & 1) != 0;
        damage.lost = damage.twice ? 0 : next_size(w);
        to_server(w, 1000, 1000, damage);
        break;
    case 8:
        (void)SSL_key_update(w->client, (next(w) & 1) != 0 ? SSL_KEY_UPDATE_REQUESTED
                                                           : SSL_KEY_UPDATE_NOT_REQUESTED);
        (void)SSL_do_handshake(w->client);
        break;
    case 9: /* TLS 1.2 only */
        if (SSL_is_init_finished(w->client) && SSL_renegotiate(w->client) == 1) {
            (void)SSL_do_handshake(w->client);
            w->touched = true;
        }
        break;
    case 10:
        (void)SSL_shutdown(w->client);
        break;
    default:
        os_tls_shutdown(w->tls);
        check_state(w);
        break;
    }
}

static void begin(struct world *w, const uint8_t *data, size_t size)
{
    *w = (struct world){.data = data, .left = size};
    w->server = next(w) % SERVERS;
    uint8_t choice = next(w);
    w->shown = (enum shown)(choice % CERTIFICATES);
    w->forgets = choice >= 128;
    prng_init(&chance, 2);
    w->tls = os_tls_new(servers[w->server], &w->out);
    w->client = SSL_new(clients[choice / CERTIFICATES % VERSIONS][w->shown]);
    w->in = BIO_new(BIO_s_mem());
    w->sent = BIO_new(BIO_s_mem());
    WR_ASSERT(w->client != NULL && w->in != NULL && w->sent != NULL);
    SSL_set_bio(w->client, w->in, w->sent);
    SSL_set_connect_state(w->client);
    w->last = os_tls_state(w->tls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w;
    if (servers[0] == NULL) {
        make_everything();
    }
    begin(&w, data, size);
    for (int i = 0; i < STEPS_MAX && w.left > 0; i++) {
        step(&w);
    }
    /* What was left alone has arrived, if both ends are still there. */
    if (!w.touched && os_tls_state(w.tls) == OS_TLS_OPEN) {
        to_server(&w, PIECE_MAX, 1000, (struct damage){.at = SIZE_MAX});
        WR_ASSERT(os_tls_state(w.tls) == OS_TLS_ENDED || w.server_heard == w.client_said);
    }
    SSL_free(w.client);
    os_tls_free(w.tls);
    sendq_deinit(&w.out);
    return 0;
}
