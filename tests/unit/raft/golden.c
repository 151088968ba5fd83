/*
 * golden [--write] FILE...: runs each script and compares what the members say with what the file
 * says.
 *
 * A script is text: "# comment", "> command", and after each command the lines it must produce.
 * With --write the lines are rewritten: look at the difference before committing it. Commands: see
 * run_command.
 */
#include "cluster.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void change_command(struct sim *s, uint64_t id, const char *what, uint64_t member)
{
    static const struct {
        const char *name;
        enum raft_change_type type;
    } names[] = {{"add", RAFT_CHANGE_ADD_LEARNER},
                 {"promote", RAFT_CHANGE_PROMOTE},
                 {"demote", RAFT_CHANGE_DEMOTE},
                 {"remove", RAFT_CHANGE_REMOVE}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(what, names[i].name) == 0) {
            (void)sim_change(s, id, names[i].type, member);
            return;
        }
    }
    sim_fail(s, "known change");
}

static void print_states(struct sim *s, FILE *out)
{
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        if (s->nodes[i].alive) {
            char text[1024];
            raft_describe_state(s->nodes[i].raft, text, sizeof text);
            fprintf(out, "%s\n", text);
        }
    }
}

static void event_command(struct sim *s, uint64_t id, enum raft_event_type type, uint64_t value)
{
    struct raft_event ev = {.type = type};
    if (type == RAFT_EVENT_TRANSFER) {
        ev.u.peer = sim_id(value);
    } else if (type == RAFT_EVENT_READ_INDEX) {
        ev.u.context = value;
    } else {
        ev.u.index = value;
    }
    (void)sim_step(s, id, ev);
}

/* a, b: the command's numbers; 0 if not given. */
static bool run_on_member(struct sim *s, const char *name, const char *text, uint64_t a, uint64_t b)
{
    if (strcmp(name, "propose") == 0) {
        (void)sim_propose(s, a, text);
    } else if (strcmp(name, "disk") == 0) {
        sim_disk(s, a, b == 0 ? 100 : (uint32_t)b, false);
    } else if (strcmp(name, "up") == 0) {
        sim_peer(s, a, b, true);
    } else if (strcmp(name, "down") == 0) {
        sim_peer(s, a, b, false);
    } else if (strcmp(name, "crash") == 0) {
        sim_crash(s, a, (uint32_t)b);
    } else if (strcmp(name, "restart") == 0) {
        sim_restart(s, a);
    } else if (strcmp(name, "join") == 0) {
        sim_create(s, a, NULL, 0);
    } else if (strcmp(name, "tick") == 0) {
        uint64_t at = raft_deadline(s->nodes[a].raft);
        s->now_ms = at != UINT64_MAX && at > s->now_ms ? at : s->now_ms;
        (void)sim_tick(s, a);
    } else if (strcmp(name, "compact") == 0) {
        sim_compact(s, a, b, s->nodes[a].machine_index);
    } else if (strcmp(name, "install") == 0) {
        sim_install_done(s, a);
    } else if (strcmp(name, "trim") == 0) {
        event_command(s, a, RAFT_EVENT_TRIM, b);
    } else if (strcmp(name, "transfer") == 0) {
        event_command(s, a, RAFT_EVENT_TRANSFER, b);
    } else if (strcmp(name, "read") == 0) {
        event_command(s, a, RAFT_EVENT_READ_INDEX, b);
    } else if (strcmp(name, "force-sole") == 0) {
        event_command(s, a, RAFT_EVENT_FORCE_SOLE, 0);
    } else if (strcmp(name, "abstain") == 0) {
        event_command(s, a, RAFT_EVENT_ABSTAIN, 0);
    } else {
        return false;
    }
    return true;
}

static void run_command(struct sim *s, const char *line, FILE *out)
{
    char name[32] = "";
    char text[64] = "";
    uint64_t a = 0;
    uint64_t b = 0;
    if (sscanf(line, "%31s %" SCNu64 " %" SCNu64, name, &a, &b) < 3) {
        (void)sscanf(line, "%31s %" SCNu64 " %63s %" SCNu64, name, &a, text, &b);
    }
    if (strcmp(name, "voters") == 0) {
        sim_create_voters(s, (uint32_t)a);
    } else if (strcmp(name, "all-up") == 0) {
        sim_all_up(s);
    } else if (strcmp(name, "quiet") == 0) {
        s->trace = NULL;
    } else if (strcmp(name, "trace") == 0) {
        s->trace = out;
    } else if (strcmp(name, "deliver") == 0) {
        while (sim_deliver_one(s, a, b)) {
        }
    } else if (strcmp(name, "deliver-one") == 0) {
        SIM_CHECK(s, sim_deliver_one(s, a, b));
    } else if (strcmp(name, "drop") == 0) {
        sim_drop_all(s, a, b);
    } else if (strcmp(name, "settle") == 0) {
        sim_settle(s, a);
    } else if (strcmp(name, "states") == 0) {
        print_states(s, out);
    } else if (strcmp(name, "change") == 0) {
        change_command(s, a, text, b);
    } else if (!run_on_member(s, name, text, a, b)) {
        fprintf(stderr, "unknown command: %s\n", line);
        exit(2);
    }
}

/* The script with its outputs as they are now. */
static char *run_script(char *script, size_t *ret_size)
{
    char *result = NULL;
    FILE *out = open_memstream(&result, ret_size);
    struct sim *s = sim_new(7);
    s->chunk_bytes = 8;
    s->trace = out;
    bool last_was_comment = false;
    for (char *line = strsep(&script, "\n"); line != NULL; line = strsep(&script, "\n")) {
        if (line[0] == 0) {
            continue;
        }
        if (line[0] == '#') {
            fprintf(out, "%s%s\n", last_was_comment || ftell(out) == 0 ? "" : "\n", line);
        } else if (line[0] == '>') {
            fprintf(out, "%s\n", line);
            run_command(s, line + 2, out);
        }
        last_was_comment = line[0] == '#';
    }
    fclose(out);
    sim_free(s);
    return result;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    char *text = calloc(1, 1 << 20);
    size_t size = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    text[size] = '\0';
    return text;
}

static bool compare(const char *path, const char *wanted, const char *got)
{
    uint32_t line = 1;
    while (*wanted != '\0' && *wanted == *got) {
        line += *wanted == '\n' ? 1 : 0;
        wanted++;
        got++;
    }
    if (*wanted == *got) {
        return true;
    }
    fprintf(stderr, "%s:%u: differs\n  wanted ...%.*s\n  got    ...%.*s\n", path, line,
            (int)strcspn(wanted, "\n"), wanted, (int)strcspn(got, "\n"), got);
    return false;
}

int main(int argc, char **argv)
{
    bool write = argc > 1 && strcmp(argv[1], "--write") == 0;
    bool ok = argc > (write ? 2 : 1);
    for (int i = write ? 2 : 1; i < argc; i++) {
        char *wanted = read_file(argv[i]);
        char *script = strdup(wanted);
        size_t size = 0;
        char *got = run_script(script, &size);
        if (write) {
            FILE *f = fopen(argv[i], "wb");
            ok = f != NULL && fwrite(got, 1, size, f) == size && ok;
            if (f != NULL) {
                fclose(f);
            }
        } else {
            ok = compare(argv[i], wanted, got) && ok;
        }
        free(wanted);
        free(script);
        free(got);
    }
    return ok ? 0 : 1;
}
