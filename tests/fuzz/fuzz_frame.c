/*
 * What: fuzz target of the frame reader and of all that is decoded behind it. The first byte
 * chooses the size of the pieces in which the rest is fed; the frames must not depend on it, so
 * each input is read twice, in pieces and at once, and what came out is compared.
 */
#include "fuzz.h"

#include "warren/crc32c.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"

struct outcome {
    uint64_t frames;
    uint32_t digest;
    enum wire_fault fault;
};

static void read_frame(struct outcome *o, const struct wire_frame *frame)
{
    o->frames++;
    o->digest = crc32c(o->digest, &frame->type, 1);
    o->digest = crc32c(o->digest, &frame->channel, 2);
    o->digest = crc32c(o->digest, frame->payload.data, frame->payload.size);
    struct wire_method method;
    struct wire_header header;
    struct wire_props props;
    if (frame->type == WIRE_FRAME_METHOD) {
        o->digest += wire_method_decode(frame->payload, &method);
    } else if (frame->type == WIRE_FRAME_HEADER &&
               wire_header_decode(frame->payload, &header) == WIRE_OK) {
        o->digest += wire_props_validate(header.props, NULL, &props);
    }
}

static struct outcome read_all(struct bytes data, size_t piece)
{
    struct outcome o = {0};
    struct wire_frame_reader reader;
    wire_frame_reader_init(&reader, 4096);
    for (size_t at = 0; at < data.size; at += piece) {
        const size_t size = data.size - at < piece ? data.size - at : piece;
        /* A copy of its own: a view kept too long, or a read past the end, is seen. */
        uint8_t *copy = wr_memdup(data.data + at, size);
        struct bytes input = bytes_make(copy, size);
        struct wire_frame frame;
        while (wire_frame_next(&reader, &input, &frame) == WIRE_READ_FRAME) {
            read_frame(&o, &frame);
        }
        WR_ASSERT(reader.fault != WIRE_OK || input.size == 0);
        wr_free(copy);
    }
    o.fault = reader.fault;
    if (o.fault != WIRE_OK) {
        char array[256];
        struct strbuf s;
        strbuf_init(&s, array, sizeof(array));
        wire_frame_reader_describe_fault(&reader, &s);
    }
    wire_frame_reader_deinit(&reader);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t major;
    uint8_t minor;
    (void)wire_protocol_parse(bytes_make(data, size), &major, &minor);
    const struct bytes rest = bytes_make(data + 1, size - 1);
    const struct outcome pieces = read_all(rest, (size_t)data[0] + 1);
    const struct outcome whole = read_all(rest, rest.size + 1);
    WR_ASSERT(pieces.frames == whole.frames && pieces.digest == whole.digest &&
              pieces.fault == whole.fault);
    return 0;
}
