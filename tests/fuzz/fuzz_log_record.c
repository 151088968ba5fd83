/*
 * What: feeds arbitrary bytes to recovery as the node's only segment. The first byte chooses how
 * much is made valid first, so that the parts behind the checksums are reached:
 *   bit 0: a valid segment header is put in front; bit 1: the CRCs of round headers at 512-byte
 *   places are repaired, and those of the records behind them; bit 2: a second, empty segment.
 * Recovery must end with a verdict, never crash, and after success take and return a batch.
 */
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "format.h"

#include "warren/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SALT UINT64_C(0x1122334455667788)

struct run {
    struct fake_env fake;
    struct log *log;
};

static void on_mail(void *ctx, struct mail *mail)
{
    log_on_mail(((struct run *)ctx)->log, mail);
}

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    log_on_file(((struct run *)ctx)->log, token, result);
}

static void on_turn(void *ctx)
{
    log_turn(((struct run *)ctx)->log);
}

static void on_record(void *ctx, const struct log_item *item)
{
    uint64_t *sum = ctx;
    *sum += item->group + item->index;
    for (uint32_t i = 0; i < item->payload.size; i++) {
        *sum += slice_data(&item->payload)[i];
    }
}

static void on_line(void *ctx, const char *line)
{
    (void)ctx;
    if (strlen(line) == 0) {
        abort();
    }
}

/* Makes what looks like a round's beginning one, as far as the CRCs go. */
static void repair(uint8_t *file, size_t size)
{
    for (size_t at = SEGMENT_HEADER_SIZE; at + ROUND_HEADER_SIZE <= size; at += SEGMENT_ALIGN) {
        struct round_header round = {
            .salt = SALT,
            .number = bytes_load_le64(file + at + 16) & UINT64_C(0xff000000ff),
            .offset = (uint32_t)at,
            .size = bytes_load_le32(file + at + 28) & 0xfff,
            .count = bytes_load_le32(file + at + 32) & 0x1f,
            .durable = bytes_load_le32(file + at + 36) & 0x7fff,
            .nonce = 1,
            .flags = file[at + 44] & 1u,
        };
        round_header_encode(&round, file + at);
        size_t record = at + ROUND_HEADER_SIZE;
        for (uint32_t i = 0; i < round.count && record + RECORD_HEADER_SIZE <= size; i++) {
            const uint32_t payload = bytes_load_le32(file + record + 4) & 0xff;
            if (payload > size - record - RECORD_HEADER_SIZE) {
                break;
            }
            bytes_store_le32(file + record + 4, payload);
            bytes_store_le32(file + record + 8, round.crc);
            file[record + 12] = (uint8_t)(file[record + 12] % 8);
            bytes_store_le32(file + record,
                             record_crc(file + record, file + record + RECORD_HEADER_SIZE, payload,
                                        record_seed(SALT)));
            record += RECORD_HEADER_SIZE + payload;
        }
    }
}

static void put_segment(struct sim_disk *disk, uint32_t number, const uint8_t *bytes, size_t size)
{
    char path[64], name[SEGMENT_NAME_SIZE];
    (void)segment_name(name, SEGMENT_PREFIX, number);
    sim_disk_put(disk, segment_path(path, sizeof(path), "/n/log", name), bytes, size);
}

static void use_log(struct run *run)
{
    static const struct env_sink sink = {.on_mail = on_mail, .on_file = on_file, .turn = on_turn};
    struct log_batch *batch = log_batch_new();
    log_batch_add(batch, &(struct log_item){.kind = LOG_ENTRY, .payload = slice_copy("x", 1)});
    fake_env_set_sink(&run->fake, &sink, run);
    fake_env_deliver(&run->fake, 0, &batch->mail);
    fake_env_run(&run->fake, 1000);
    struct mail *mail = fake_env_take_mail(&run->fake, 0);
    if (mail == NULL || mail->kind != LOG_MAIL_DONE) {
        abort();
    }
    mail->destroy(mail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct log_options options = {.segment_size = 8192,
                                        .segments_max = 4,
                                        .recycle_max = 1,
                                        .shard_count = 1,
                                        .sync = true,
                                        .node_id = {1, 2}};
    if (size < 1 || size > (1u << 16)) {
        return 0;
    }
    const uint8_t mode = data[0];
    const size_t header = (mode & 1) != 0 ? SEGMENT_HEADER_SIZE : 0;
    const size_t file_size = header + size - 1;
    uint8_t *file = wr_alloc(file_size + 1);
    uint8_t second[8192] = {0};
    if (header > 0) {
        segment_header_encode(&(struct segment_header){{1, 2}, 1, SALT}, file);
    }
    memcpy(file + header, data + 1, size - 1);
    if ((mode & 2) != 0 && header > 0) {
        repair(file, file_size);
    }
    struct run run = {0};
    fake_env_init(&run.fake, 1, 1, 2, NULL, NULL);
    (void)sim_dir_make(run.fake.disk, "/n/log");
    put_segment(run.fake.disk, 1, file, file_size);
    if ((mode & 4) != 0) {
        segment_header_encode(&(struct segment_header){{1, 2}, 2, SALT + 1}, second);
        put_segment(run.fake.disk, 2, second, sizeof(second));
    }
    const int ignored = log_inspect(bytes_make(file, file_size), on_line, NULL);
    (void)ignored;
    uint64_t sum = 0;
    char errmsg[256];
    const struct log_recovery_sink sink = {.record = on_record, .ctx = &sum};
    if (log_open(&run.fake.env, "/n", &options, &sink, &run.log, errmsg) == 0) {
        use_log(&run);
        log_close(run.log);
    }
    fake_env_deinit(&run.fake);
    wr_free(file);
    return 0;
}
