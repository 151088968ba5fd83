/*
 * What: writing msgpack: msgpack-c's packer over a growing buffer. It chooses the shortest form of
 * every integer, size and count, which is the canonical form that pack_reader.c insists on.
 * Failure modes: none; memory exhaustion aborts in buf_reserve. Callers bound what they write.
 * Threads: none involved. Spec: docs/catalog.md, "Encoding".
 */
#include "warren/pack.h"

#include <msgpack/pack.h>

static int append(void *ctx, const char *data, size_t size)
{
    buf_append((struct buf **)ctx, data, size);
    return 0;
}

static msgpack_packer packer(struct pack_writer *w)
{
    return (msgpack_packer){w->out, append};
}

void pack_put_nil(struct pack_writer *w)
{
    msgpack_packer p = packer(w);
    (void)msgpack_pack_nil(&p);
}

void pack_put_bool(struct pack_writer *w, bool value)
{
    msgpack_packer p = packer(w);
    (void)(value ? msgpack_pack_true(&p) : msgpack_pack_false(&p));
}

void pack_put_uint(struct pack_writer *w, uint64_t value)
{
    msgpack_packer p = packer(w);
    (void)msgpack_pack_uint64(&p, value);
}

void pack_put_int(struct pack_writer *w, int64_t value)
{
    msgpack_packer p = packer(w);
    (void)msgpack_pack_int64(&p, value);
}

void pack_put_bin(struct pack_writer *w, struct bytes value)
{
    WR_ASSERT_OP(value.size, <=, UINT32_MAX);
    msgpack_packer p = packer(w);
    (void)msgpack_pack_bin(&p, value.size);
    buf_append(w->out, value.data, value.size);
}

void pack_put_str(struct pack_writer *w, struct bytes value)
{
    WR_ASSERT_OP(value.size, <=, UINT32_MAX);
    msgpack_packer p = packer(w);
    (void)msgpack_pack_str(&p, value.size);
    buf_append(w->out, value.data, value.size);
}

void pack_put_uid(struct pack_writer *w, struct uid value)
{
    uint8_t raw[UID_SIZE];
    bytes_store_be64(raw, value.hi);
    bytes_store_be64(raw + 8, value.lo);
    pack_put_bin(w, bytes_make(raw, sizeof(raw)));
}

void pack_put_array(struct pack_writer *w, uint32_t count)
{
    msgpack_packer p = packer(w);
    (void)msgpack_pack_array(&p, count);
}

void pack_put_map(struct pack_writer *w, uint32_t count)
{
    msgpack_packer p = packer(w);
    (void)msgpack_pack_map(&p, count);
}
