#ifndef WR_NODE_CONFIG_INTERNAL_H
#define WR_NODE_CONFIG_INTERNAL_H
/* What the files of the configuration share: values, and setters of special keys. */
#include "config.h"

int config__invalid(char *why, const char *text); /* why[200]; WR_E_INVALID */
bool config__u64(struct bytes text, uint64_t *ret_value);
bool config__flag(struct bytes text, bool *ret_value);
/* Does key match the pattern? rest = what the '*' at its end stands for. */
bool config__key_matches(const char *pattern, struct bytes key, struct bytes *ret_rest);
bool config__text(char *out, size_t capacity, struct bytes text); /* false: too long */

/* config_tls.c: rest = what the '*' of the key stands for */
int config__tls_verify(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__tls_version(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__tls_cipher(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__tls_always_true(struct config *config, struct bytes rest, struct bytes value,
                            char *why);
int config__tls_always_false(struct config *config, struct bytes rest, struct bytes value,
                             char *why);
int config__tls_ecc_order(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__tls_login_from(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__tls_san_type(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__mechanism(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__auth_backend(struct config *config, struct bytes rest, struct bytes value, char *why);
int config__hashing(struct config *config, struct bytes rest, struct bytes value, char *why);
/* Why a key of RabbitMQ's is refused; NULL: it is not one of those. */
const char *config__tls_refused(struct bytes key);
int config__tls_finish(struct config *config, char *errmsg);

#endif
