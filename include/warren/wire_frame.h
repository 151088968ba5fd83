/*
 * What: AMQP 0-9-1 frames: protocol header, incremental frame reader, frame writers.
 *
 *      0      1         3             7                  size+7
 *      +------+---------+-------------+  +------------+  +-----------+
 *      | type | channel |    size     |  |  payload   |  |    0xCE   |
 *      +------+---------+-------------+  +------------+  +-----------+
 *
 * Threads: a reader belongs to its connection; everything else is pure. Spec: docs/amqp-0-9-1.md.
 */
#ifndef WR_WIRE_FRAME_H
#define WR_WIRE_FRAME_H

#include "warren/outq.h"
#include "warren/wire.h"

#define WIRE_FRAME_OVERHEAD    8u
#define WIRE_FRAME_HEADER_SIZE 7u
#define WIRE_FRAME_END         0xCEu

/* Limit for the payload when no frame-max is negotiated: what a body may have at most, and some. */
#define WIRE_FRAME_SIZE_MAX (UINT32_C(512) * 1024 * 1024 + 4096)

enum wire_frame_type {
    WIRE_FRAME_METHOD = 1,
    WIRE_FRAME_HEADER = 2,
    WIRE_FRAME_BODY = 3,
    WIRE_FRAME_HEARTBEAT = 8,
};

struct wire_frame {
    uint8_t type; /* enum wire_frame_type, always one of them when it comes from the reader. */
    uint16_t channel;
    struct bytes payload;
};

/* -- Protocol header ------------------------------------------------------------------------- */

enum wire_protocol {
    WIRE_PROTOCOL_INCOMPLETE,    /* Fewer than 8 bytes so far: wait. */
    WIRE_PROTOCOL_AMQP,          /* Go on with connection.start of the version given. */
    WIRE_PROTOCOL_AMQP_1_0,      /* "AMQP" 0 1 0 0: needs the SASL layer first. */
    WIRE_PROTOCOL_AMQP_1_0_TLS,  /* "AMQP" 2 1 0 0 */
    WIRE_PROTOCOL_AMQP_1_0_SASL, /* "AMQP" 3 1 0 0 */
    WIRE_PROTOCOL_TLS,           /* A TLS ClientHello on a plain port. */
    WIRE_PROTOCOL_HTTP,          /* An HTTP request line. */
    WIRE_PROTOCOL_BAD,           /* Anything else. Answer WIRE_PROTOCOL_HEADER and close. */
};

#define WIRE_PROTOCOL_HEADER_SIZE 8u

/* "AMQP" 0 0 9 1: what clients send first and what a server answers to anything it cannot speak. */
extern const uint8_t wire_protocol_header[WIRE_PROTOCOL_HEADER_SIZE];

/*
 * Look at the first bytes of a connection; consumes nothing (for WIRE_PROTOCOL_AMQP the header is
 * the first 8 bytes). *ret_major and *ret_minor are set for WIRE_PROTOCOL_AMQP only: the version
 * for connection.start (0-9, or 8-0 for the old headers that RabbitMQ answers so).
 */
enum wire_protocol wire_protocol_parse(struct bytes input, uint8_t *ret_major, uint8_t *ret_minor);

/* -- Reader ---------------------------------------------------------------------------------- */

/*
 * Incremental reader. A frame that lies whole in the input is returned as a view into it; one that
 * does not is collected in `partial`, which grows with what arrives, not with what is announced,
 * and holds no memory between frames. After a fault nothing more is read.
 */
struct wire_frame_reader {
    uint32_t frame_max;    /* As negotiated; 0 = no limit. */
    enum wire_fault fault; /* WIRE_OK until the peer made a mistake. */
    struct buf *partial;   /* Bytes of the frame under way, or NULL. */
    bool partial_shown;    /* partial holds a frame that was returned by the last call. */
    uint8_t fault_type;    /* Of the faulty frame. */
    uint8_t fault_end;     /* The octet where 0xCE should have been. */
    uint32_t fault_size;
};

enum wire_read {
    WIRE_READ_MORE,  /* The input is used up; feed more when it has come. */
    WIRE_READ_FRAME, /* One frame. */
    WIRE_READ_FAULT, /* reader->fault says which; no further input is looked at. */
};

/* frame_max: limit before tuning, such as 8192. */
void wire_frame_reader_init(struct wire_frame_reader *reader, uint32_t frame_max);
void wire_frame_reader_deinit(struct wire_frame_reader *reader);

/* After tune-ok. A payload may have up to frame_max bytes (8 more than the strict rule, as with
 * RabbitMQ). Takes effect for the next frame header. */
void wire_frame_reader_set_max(struct wire_frame_reader *reader, uint32_t frame_max);

/*
 * Take the next frame out of *input, which is moved forward over what was used (the caller may stop
 * in the middle and go on later with the same rest). ret_frame->payload is valid until the next
 * call or until the input's memory is changed, whichever comes first.
 * Loop: feed a chunk, call until WIRE_READ_MORE (input is then empty).
 */
enum wire_read wire_frame_next(struct wire_frame_reader *reader, struct bytes *input,
                               struct wire_frame *ret_frame);

/* Text of the reader's fault in RabbitMQ's shape, without the reply name:
 * "type 3, all octets = <<>>: {frame_too_large,N,MAX}". */
void wire_frame_reader_describe_fault(const struct wire_frame_reader *reader, struct strbuf *s);

/* -- Writing to memory ------------------------------------------------------------------------ */

/* Frame header: 7 bytes. Returns the end. */
static inline uint8_t *wire_frame_begin(uint8_t *out, uint8_t type, uint16_t channel,
                                        uint32_t payload_size)
{
    out[0] = type;
    bytes_store_be16(out + 1, channel);
    bytes_store_be32(out + 3, payload_size);
    return out + WIRE_FRAME_HEADER_SIZE;
}

/* Whole method frame: bytes it takes, and writing it (returns the end). */
static inline size_t wire_method_frame_size(const struct wire_method *method)
{
    return wire_method_size(method) + WIRE_FRAME_OVERHEAD;
}
uint8_t *wire_method_frame_write(uint8_t *out, uint16_t channel, const struct wire_method *method);

/* Content header frame for class basic (60), weight 0. props: flags and properties, as
 * wire_header.props and struct message keep them. */
static inline size_t wire_header_frame_size(size_t props_size)
{
    return WIRE_FRAME_OVERHEAD + 12 + props_size;
}
uint8_t *wire_header_frame_write(uint8_t *out, uint16_t channel, uint64_t body_size,
                                 struct bytes props);

/* Bytes of all body frames of a body: its bytes plus 8 for each frame (none when it is empty).
 * frame_max as negotiated, 0 = one frame. Asserts frame_max > 8 otherwise. */
uint64_t wire_body_frames_size(uint64_t body_size, uint32_t frame_max);
uint8_t *wire_body_frames_write(uint8_t *out, uint16_t channel, struct bytes body,
                                uint32_t frame_max);

/* Heartbeat frame: 8 bytes. Returns the end. */
uint8_t *wire_heartbeat_write(uint8_t *out);

/* basic.ack / basic.nack frame, 21 bytes each. Returns the end. */
#define WIRE_ACK_FRAME_SIZE 21u
uint8_t *wire_ack_frame_write(uint8_t *out, uint16_t channel, uint64_t delivery_tag, bool multiple);
uint8_t *wire_nack_frame_write(uint8_t *out, uint16_t channel, uint64_t delivery_tag, bool multiple,
                               bool requeue);

/* -- Writing to a connection's output queue ------------------------------------------------------
 */

void wire_send_method(struct outq *q, uint16_t channel, const struct wire_method *method);
void wire_send_heartbeat(struct outq *q);
void wire_send_ack(struct outq *q, uint16_t channel, uint64_t delivery_tag, bool multiple);
void wire_send_nack(struct outq *q, uint16_t channel, uint64_t delivery_tag, bool multiple,
                    bool requeue);

/* What is sent with a method that has content. */
struct wire_content {
    struct bytes props;       /* Property flags and properties, verbatim. */
    const struct slice *body; /* Borrowed; large bodies are referenced, small ones copied. Never
                                 NULL; SLICE_NONE for an empty body. */
    uint32_t frame_max;       /* As negotiated; 0 = no limit. */
};

/* Method (one with content), header and body frames. For basic.return, basic.get-ok. */
void wire_send_content(struct outq *q, uint16_t channel, const struct wire_method *method,
                       const struct wire_content *content);

/*
 * The same for basic.deliver, specialised: one reservation and straight stores when the body is
 * small. The strings must fit in 255 bytes each (asserted).
 */
void wire_send_deliver(struct outq *q, uint16_t channel, const struct wire_basic_deliver *deliver,
                       const struct wire_content *content);

/* basic.publish for clients (perf tool, simulator, shovels): whole frames straight into memory. */
size_t wire_publish_size(const struct wire_basic_publish *publish, size_t props_size,
                         uint64_t body_size, uint32_t frame_max);
uint8_t *wire_publish_write(uint8_t *out, uint16_t channel,
                            const struct wire_basic_publish *publish, struct bytes props,
                            struct bytes body, uint32_t frame_max);

#endif
