#ifndef WR_LINK_H
#define WR_LINK_H
/*
 * One end of a connection between two nodes, or between a tool and a node: handshake and frames;
 * bytes in, bytes out (DESIGN §8, docs/links.md). It knows nothing of sockets: the owner feeds what
 * arrived and sends what gathers in the outq.
 *
 * Both ends prove that they know the cluster cookie without sending it, each with a value that only
 * its role can produce: initiator -> HELLO      version, kind, identity, 32-byte nonce acceptor  ->
 * CHALLENGE  version, identity, nonce, HMAC(cookie, "warren link acceptor" | hello | challenge)
 *   initiator -> PROOF      HMAC(cookie, "warren link initiator" | hello | challenge)
 *   acceptor  -> WELCOME, or REFUSED with a text
 * so that a value can be neither reflected nor replayed: both nonces and both identities, cluster
 * ids included, are under the MAC.
 *
 * Frame: u32 size of what follows the checksum, u32 CRC-32C of it, u8 type, payload
 * (little-endian).
 *
 * Invariants
 * I1  Before the handshake is over a frame is at most LINK_HANDSHAKE_MAX bytes and nothing is
 * delivered. I2  Memory for a frame grows with what has arrived, not with what is announced. I3
 * After an error nothing more is delivered.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/buf.h"
#include "warren/bytes.h"
#include "warren/outq.h"
#include "warren/uid.h"

#define LINK_VERSION       1u
#define LINK_HANDSHAKE_MAX 4096u
#define LINK_FRAME_MAX     (600u * 1024 * 1024)
#define LINK_COOKIE_MAX    255u

enum link_kind { LINK_KIND_NODE = 1, LINK_KIND_TOOL = 2 };

enum link_frame { /* frozen; >= 16 belong to the users of links */
                  LINK_HELLO = 1,
                  LINK_CHALLENGE = 2,
                  LINK_PROOF = 3,
                  LINK_WELCOME = 4,
                  LINK_REFUSED = 5,
                  LINK_PING = 16, /* u64, given back in the PONG */
                  LINK_PONG = 17,
                  LINK_PARCEL = 18,  /* src/node/links.c */
                  LINK_CONTROL = 19, /* formation and membership, msgpack */
                  LINK_REQUEST = 20, /* tool -> node, JSON */
                  LINK_REPLY = 21,   /* node -> tool, JSON */
};

struct link_identity {
    struct uid node_id,
        cluster_id; /* zero when unknown: a tool, or a node that is in no cluster yet */
    char name[256]; /* "warren1@localhost" */
    char host[256]; /* where others reach it */
    uint16_t cluster_port, amqp_port;
    uint8_t kind;                /* enum link_kind */
    uint32_t shard, shard_count; /* of the sender of the identity */
};

struct link_session;
struct link_sink {
    /* The handshake is over. peer is borrowed. A non-NULL return refuses the peer with that text
     * (acceptor only). */
    const char *(*on_ready)(void *ctx, const struct link_identity *peer);
    void (*on_frame)(void *ctx, uint8_t type,
                     const struct slice *payload); /* payload borrowed: slice_ref to keep */
};

/* own: copied. nonce: 32 fresh secret bytes. out: where the session writes; borrowed for its life.
 */
struct link_session *link_session_new(bool initiator, struct bytes cookie,
                                      const struct link_identity *own, const uint8_t nonce[32],
                                      struct outq *out, const struct link_sink *sink, void *ctx);
void link_session_free(struct link_session *session);
void link_session_start(struct link_session *session); /* the initiator speaks first */
/* Consumes bytes. 0, or WR_E_AUTH, WR_E_REFUSED, WR_E_VERSION, WR_E_CORRUPT, WR_E_TOOBIG: close the
 * connection; link_session_error() says why, for the log. May be freed by its owner only after it
 * returned. */
int link_session_feed(struct link_session *session, const uint8_t *data, size_t size);
const char *link_session_error(const struct link_session *session);
bool link_session_is_ready(const struct link_session *session);
const struct link_identity *
link_session_peer(const struct link_session *session); /* NULL before the identity is known */
/* Writes a frame of the given pieces to the outq (large pieces by reference). */
void link_session_send(struct link_session *session, uint8_t type, const struct slice *pieces,
                       uint32_t count);
void link_session_send_bytes(struct link_session *session, uint8_t type, struct bytes payload);

#endif
