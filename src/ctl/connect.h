#ifndef WR_CTL_CONNECT_H
#define WR_CTL_CONNECT_H
/* A blocking connection of a tool to a node's cluster port: find it, prove the cookie, ask, get the
 * answer. */
#include <signal.h>
#include <stdbool.h>

struct ctl_options {
    const char *node;   /* name@host */
    const char *config; /* the node's configuration file, or NULL */
    const char *cookie; /* or NULL: from the configuration, the environment or the registry */
    int timeout_s;      /* for all of it */
    bool timed_out;     /* that is why there was no answer */
    /* How often the user has asked to stop, or NULL. An answer that is on its way is waited for, as
     * it says what was done; but not long, and not when it is asked a second time. */
    const volatile sig_atomic_t *interrupts;
    bool interrupted; /* that is why there was no answer */
    bool any_node;    /* whoever is at the address that `config` gives; then `node` is set */
    char found[256];  /* the name for that */
};

/* Sends a JSON text and returns the answer (caller frees with free()). NULL with text in
 * errmsg[512]: node down, another node than the one asked for, wrong cookie, time-out. With
 * until_closed it then waits for the node to close the connection (stop). */
char *ctl_ask(struct ctl_options *options, const char *json, bool until_closed, char *errmsg);

/* Whether a listener of the node can be connected to. One of every address ("[::]") is tried where
 * the node's name says that it is. */
bool ctl_connects(const char *node, const char *interface, int port, int timeout_s);

#endif
