/*
 * What: protocol header recognition and the incremental frame reader.
 * Happy path: the input holds whole frames; each is checked and returned as a view, nothing is
 * copied. A frame cut by the end of the input is collected in `partial` until it is whole. Failure
 * modes: wrong type and too large a size are seen as soon as the 7 header bytes are there (so
 * nothing is collected for them), a wrong end octet when the frame is whole. After that the reader
 * is dead: a stream that lost its place cannot be trusted again. Invariants: I1 partial holds a
 * prefix of exactly one frame, and never more than its size. I2 between frames partial is NULL, so
 * an idle connection costs no buffer. Ownership: the reader owns partial. Spec: AMQP 0-9-1
 * section 4.2.3.
 */
#include "warren/wire_frame.h"

const uint8_t wire_protocol_header[WIRE_PROTOCOL_HEADER_SIZE] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

static bool looks_like_http(struct bytes input)
{
    static const char *const methods[] = {"GET ",    "HEAD ",    "POST ",  "PUT ",
                                          "DELETE ", "OPTIONS ", "PATCH ", "CONNECT "};
    for (size_t i = 0; i < WR_ARRAY_SIZE(methods); i++) {
        if (bytes_starts_with(input, bytes_from_cstr(methods[i]))) {
            return true;
        }
    }
    return false;
}

enum wire_protocol wire_protocol_parse(struct bytes input, uint8_t *ret_major, uint8_t *ret_minor)
{
    /* What RabbitMQ answers to each of the headers in use; 8-0 is how AMQP 0-8 names itself. */
    static const struct {
        uint8_t header[4];
        enum wire_protocol protocol;
        uint8_t major, minor;
    } known[] = {
        {{0, 0, 9, 1}, WIRE_PROTOCOL_AMQP, 0, 9},
        {{1, 1, 0, 9}, WIRE_PROTOCOL_AMQP, 0, 9},
        {{1, 1, 8, 0}, WIRE_PROTOCOL_AMQP, 8, 0},
        {{1, 1, 9, 1}, WIRE_PROTOCOL_AMQP, 8, 0},
        {{0, 1, 0, 0}, WIRE_PROTOCOL_AMQP_1_0, 0, 0},
        {{2, 1, 0, 0}, WIRE_PROTOCOL_AMQP_1_0_TLS, 0, 0},
        {{3, 1, 0, 0}, WIRE_PROTOCOL_AMQP_1_0_SASL, 0, 0},
    };
    if (input.size < WIRE_PROTOCOL_HEADER_SIZE) {
        return WIRE_PROTOCOL_INCOMPLETE;
    }
    if (memcmp(input.data, "AMQP", 4) != 0) {
        if (input.data[0] == 0x16 && input.data[1] == 0x03) {
            return WIRE_PROTOCOL_TLS;
        }
        return looks_like_http(input) ? WIRE_PROTOCOL_HTTP : WIRE_PROTOCOL_BAD;
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(known); i++) {
        if (memcmp(input.data + 4, known[i].header, 4) == 0) {
            if (known[i].protocol == WIRE_PROTOCOL_AMQP) {
                *ret_major = known[i].major;
                *ret_minor = known[i].minor;
            }
            return known[i].protocol;
        }
    }
    return WIRE_PROTOCOL_BAD;
}

void wire_frame_reader_init(struct wire_frame_reader *reader, uint32_t frame_max)
{
    *reader = (struct wire_frame_reader){.frame_max = frame_max};
}

void wire_frame_reader_deinit(struct wire_frame_reader *reader)
{
    buf_unref(reader->partial);
    reader->partial = NULL;
}

void wire_frame_reader_set_max(struct wire_frame_reader *reader, uint32_t frame_max)
{
    reader->frame_max = frame_max;
}

static bool frame_type_is_known(uint8_t type)
{
    return type == WIRE_FRAME_METHOD || type == WIRE_FRAME_HEADER || type == WIRE_FRAME_BODY ||
           type == WIRE_FRAME_HEARTBEAT;
}

static enum wire_read fail(struct wire_frame_reader *reader, enum wire_fault fault,
                           const uint8_t *header)
{
    reader->fault = fault;
    reader->fault_type = header[0];
    reader->fault_size = bytes_load_be32(header + 3);
    buf_unref(reader->partial);
    reader->partial = NULL;
    return WIRE_READ_FAULT;
}

/* Check the 7 header bytes at `header`: as RabbitMQ does, the size before the type. */
static enum wire_fault check_header(const struct wire_frame_reader *reader, const uint8_t *header)
{
    const uint32_t size = bytes_load_be32(header + 3);
    const uint32_t max = reader->frame_max == 0 ? WIRE_FRAME_SIZE_MAX : reader->frame_max;
    if (WR_UNLIKELY(size > max)) {
        return WIRE_FAULT_FRAME_SIZE;
    }
    return WR_UNLIKELY(!frame_type_is_known(header[0])) ? WIRE_FAULT_FRAME_TYPE : WIRE_OK;
}

/* A whole frame at `data`, its header checked: check the end, fill in the result. */
static enum wire_read finish(struct wire_frame_reader *reader, const uint8_t *data,
                             struct wire_frame *ret_frame)
{
    const uint32_t size = bytes_load_be32(data + 3);
    const uint8_t end = data[WIRE_FRAME_HEADER_SIZE + size];
    if (WR_UNLIKELY(end != WIRE_FRAME_END)) {
        reader->fault_end = end;
        return fail(reader, WIRE_FAULT_FRAME_END, data);
    }
    ret_frame->type = data[0];
    ret_frame->channel = bytes_load_be16(data + 1);
    ret_frame->payload = bytes_make(data + WIRE_FRAME_HEADER_SIZE, size);
    return WIRE_READ_FRAME;
}

/* Move bytes from the input to partial until it holds `target`; false when the input ran out. */
static bool collect(struct wire_frame_reader *reader, struct bytes *input, size_t target)
{
    WR_ASSERT_OP(reader->partial->size, <=, target);
    const size_t wanted = target - reader->partial->size;
    const size_t size = input->size < wanted ? input->size : wanted;
    buf_append(&reader->partial, input->data, size);
    if (size > 0) {
        input->data += size;
        input->size -= size;
    }
    return size == wanted;
}

/* Go on with the frame in partial. */
static enum wire_read next_partial(struct wire_frame_reader *reader, struct bytes *input,
                                   struct wire_frame *ret_frame)
{
    if (reader->partial->size < WIRE_FRAME_HEADER_SIZE) {
        if (!collect(reader, input, WIRE_FRAME_HEADER_SIZE)) {
            return WIRE_READ_MORE;
        }
        const enum wire_fault fault = check_header(reader, reader->partial->data);
        if (fault != WIRE_OK) {
            return fail(reader, fault, reader->partial->data);
        }
    }
    const size_t whole = (size_t)bytes_load_be32(reader->partial->data + 3) + WIRE_FRAME_OVERHEAD;
    if (!collect(reader, input, whole)) {
        return WIRE_READ_MORE;
    }
    reader->partial_shown = true;
    return finish(reader, reader->partial->data, ret_frame);
}

enum wire_read wire_frame_next(struct wire_frame_reader *reader, struct bytes *input,
                               struct wire_frame *ret_frame)
{
    if (WR_UNLIKELY(reader->fault != WIRE_OK)) {
        return WIRE_READ_FAULT;
    }
    if (reader->partial_shown) {
        buf_unref(reader->partial);
        reader->partial = NULL;
        reader->partial_shown = false;
    }
    if (reader->partial != NULL) {
        return next_partial(reader, input, ret_frame);
    }
    size_t whole = WIRE_FRAME_HEADER_SIZE;
    if (WR_LIKELY(input->size >= WIRE_FRAME_HEADER_SIZE)) {
        const uint8_t *data = input->data;
        const enum wire_fault fault = check_header(reader, data);
        if (WR_UNLIKELY(fault != WIRE_OK)) {
            return fail(reader, fault, data);
        }
        whole = (size_t)bytes_load_be32(data + 3) + WIRE_FRAME_OVERHEAD;
        if (WR_LIKELY(input->size >= whole)) {
            input->data += whole;
            input->size -= whole;
            return finish(reader, data, ret_frame);
        }
    } else if (input->size == 0) {
        return WIRE_READ_MORE;
    }
    /* Keep what there is: room for that, growing by doubling as more arrives. */
    reader->partial = buf_new(input->size < 64 ? 64 : input->size);
    const bool complete = collect(reader, input, whole);
    WR_ASSERT(!complete);
    return WIRE_READ_MORE;
}

void wire_frame_reader_describe_fault(const struct wire_frame_reader *reader, struct strbuf *s)
{
    strbuf_printf(s, "type %u, all octets = <<>>: ", (unsigned)reader->fault_type);
    switch (reader->fault) {
    case WIRE_FAULT_FRAME_SIZE: {
        /* RabbitMQ names the strict limit, though it lets 8 more bytes pass. */
        const uint32_t max = reader->frame_max == 0 ? WIRE_FRAME_SIZE_MAX : reader->frame_max;
        strbuf_printf(s, "{frame_too_large,%u,%u}", (unsigned)reader->fault_size,
                      (unsigned)(max < WIRE_FRAME_OVERHEAD ? 0 : max - WIRE_FRAME_OVERHEAD));
        return;
    }
    case WIRE_FAULT_FRAME_END:
        strbuf_printf(s, "{invalid_frame_end_marker,%u}", (unsigned)reader->fault_end);
        return;
    case WIRE_OK:
    case WIRE_FAULT_TRUNCATED:
    case WIRE_FAULT_TRAILING:
    case WIRE_FAULT_UTF8:
    case WIRE_FAULT_UNKNOWN_METHOD:
    case WIRE_FAULT_FRAME_TYPE:
    case WIRE_FAULT_PROPERTY_FLAGS:
    case WIRE_FAULT_TABLE_TRUNCATED:
    case WIRE_FAULT_TABLE_TYPE:
    case WIRE_FAULT_TABLE_DEPTH:
    case WIRE_FAULT_TABLE_ITEMS:
    case WIRE_FAULT_TABLE_SIZE:
        strbuf_add_cstr(s, "unknown_frame");
        return;
    }
}
