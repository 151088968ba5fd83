#ifndef WR_CTL_INVOCATION_H
#define WR_CTL_INVOCATION_H
/* A command line of warrenctl, and what all commands do with it. */
#include <jansson.h>

#include "commands.h"
#include "connect.h"
#include "output.h"

enum {
    EXIT_USAGE = 64,
    EXIT_DATA = 65,
    EXIT_UNAVAILABLE = 69,
    EXIT_SOFTWARE = 70,
    EXIT_IO = 74,
    EXIT_TEMPORARY = 75,
    EXIT_INTERRUPTED = 130,
    WORDS_MAX = 128
};

struct invocation {
    struct ctl_options ctl;
    struct output_options out;
    const char *vhost;
    char node[320];               /* when the name was given without a host */
    const char *invalid[2];       /* the first option that makes no sense, and its value */
    const char *words[WORDS_MAX]; /* the command and its arguments */
    int word_count;
    int timeout_s;  /* 0 = not given */
    int patience_s; /* how much longer than the node has for it an answer is waited for */
    bool no_time;   /* --timeout 0: it is over before anything is asked */
    bool formatted; /* a format was asked for */
    bool help;
    bool version; /* asked for as an option */
    bool given[O_ALL];
    const char *values[O_ALL]; /* of options that have one */
    int argc;
    char **argv;
};

void invocation_parse(struct invocation *v);
/* Ends the program when the command line is not one of this command. */
void invocation_check(const struct invocation *v, const struct command *c);
/* Says what is wrong with the command line, shows it and the usage. */
_Noreturn void invocation_refuse(const struct invocation *v, const struct command *c, int code,
                                 const char *what);
/* A number of an option of kind OPTION_COUNT, which is checked already. */
long long invocation_count(const struct invocation *v, enum option_id id, long long otherwise);

/* Each returns the exit code. `bare`: without the line "Error:". */
int ctl_fail(const struct invocation *v, int code, bool bare, const char *text);
int ctl_fail_interrupted(const struct invocation *v);
int ctl_fail_unreachable(const struct invocation *v, const char *why);
int ctl_fail_reply(const struct invocation *v, json_t *reply); /* it has "error" and "code" */
void ctl_warn_stale(json_t *reply);                            /* an answer without a leader */
void ctl_warn_missing(json_t *reply);                          /* one that is not complete */
void ctl_banner(const struct invocation *v, const struct command *c);
void ctl_say(const struct invocation *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* a banner that is made up */
void ctl_pause_ms(long ms);

/* How long the tool waits: for it, and for the node to answer with what it has by then. */
void ctl_put_timeout(struct invocation *v, json_t *request);
/* Sends it; the answer, or NULL with *ret_code set and the reason told. */
json_t *ctl_request(struct invocation *v, json_t *owned_request, int *ret_code);

int ctl_admin(struct invocation *v, const struct command *c); /* admin.c */
void ctl_admin_banner(const struct invocation *v, const struct command *c);
int ctl_close(struct invocation *v, const struct command *c);       /* close.c */
int ctl_messages(struct invocation *v, const struct command *c);    /* messages.c */
int ctl_check(struct invocation *v, const struct command *c);       /* checks.c */
int ctl_await_nodes(struct invocation *v, const struct command *c); /* checks_cluster.c */
int ctl_wait(struct invocation *v, const struct command *c);        /* wait.c */
int ctl_replicas(struct invocation *v, const struct command *c);    /* replicas.c */
int ctl_report(struct invocation *v, int (*run)(struct invocation *v, const struct command *c));

/* settings.c. Arguments of a command that sets something: ends the program when they are wrong. */
void ctl_check_setting(const struct invocation *v, const struct command *c);
/* False: it has the usual banner. */
bool ctl_setting_banner(const struct invocation *v, const struct command *c);
void ctl_print_environment(const struct invocation *v, json_t *applications);

#endif
