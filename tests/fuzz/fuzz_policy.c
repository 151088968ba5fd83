/*
 * What: fuzz target of policy definitions: any bytes get an answer, with a reason when it is no;
 * and whatever the machine takes leaves a sound state with a queue under it. Input: flags (1 an
 * operator policy, 2 a quorum queue), size of the definition, definition, arguments of the queue.
 */
#include "fuzz.h"
#include "fuzz_catalog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_make(data, size);
    const uint8_t flags = rd_u8(&r);
    const struct bytes definition = rd_bytes(&r, rd_u8(&r));
    const struct bytes arguments = rd_bytes(&r, rd_left(&r));
    if (r.failed) {
        return 0;
    }
    char text[300];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    const bool ok = policy_validate(definition, (flags & 1) != 0, &s);
    WR_ASSERT(ok == (s.size == 0));
    struct catalog *c = fuzz_catalog_new();
    struct catalog_member member = {{5, 5}, {1, 1}, false};
    const struct catalog_command put = {.kind = CATALOG_PUT_POLICY,
                                        .u.policy = {.vhost = BYTES_LITERAL("/"),
                                                     .name = BYTES_LITERAL("p"),
                                                     .definition = definition,
                                                     .operator_policy = (flags & 1) != 0}};
    struct catalog_command declare = {.kind = CATALOG_DECLARE_QUEUE};
    declare.u.queue.vhost = BYTES_LITERAL("/");
    declare.u.queue.name = BYTES_LITERAL("q");
    declare.u.queue.arguments = arguments;
    declare.u.queue.type = (flags & 2) != 0 ? CATALOG_QUORUM : CATALOG_CLASSIC;
    declare.u.queue.run = CATALOG_RUN_GROUP;
    declare.u.queue.durable = true;
    declare.u.queue.group.members = &member;
    declare.u.queue.group.member_count = 1;
    fuzz_catalog_apply(c, &declare);
    fuzz_catalog_apply(c, &put);
    catalog_check(c);
    catalog_free(c);
    return 0;
}
