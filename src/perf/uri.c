/*
 * What: AMQP URIs taken apart (https://www.rabbitmq.com/docs/uri-spec): the authority ends at the
 * first slash, what is before its last @ is user and password, a host with colons is in brackets.
 * Failure modes: a text that is no URI of ours, or has a part that is too long or holds a zero
 * byte.
 */
#include "uri.h"

#include <string.h>

#include "warren/str.h"

/* Copy with %XX decoded. False: it does not fit, or C's strings cannot hold it. */
static bool decode(struct bytes text, char out[URI_PART_SIZE])
{
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '%' && i + 2 < text.size &&
            str_parse_hex(bytes_make(text.data + i + 1, 2), &byte, 1) == 0) {
            i += 2;
        }
        if (size == URI_PART_SIZE - 1 || byte == 0) {
            return false;
        }
        out[size++] = (char)byte;
    }
    out[size] = 0;
    return true;
}

/* The last of a character in the text, or SIZE_MAX. */
static size_t find_last(struct bytes text, char c)
{
    for (size_t i = text.size; i-- > 0;) {
        if (text.data[i] == (uint8_t)c) {
            return i;
        }
    }
    return SIZE_MAX;
}

static struct bytes after(struct bytes text, size_t at)
{
    return bytes_make(text.data + at, text.size - at);
}

static bool parse_host(struct bytes authority, struct uri_parts *parts, const char **ret_why)
{
    struct bytes name = authority;
    struct bytes port = BYTES_NONE;
    if (authority.size > 0 && authority.data[0] == '[') {
        const size_t end = find_last(authority, ']');
        if (end == SIZE_MAX || (end + 1 < authority.size && authority.data[end + 1] != ':')) {
            *ret_why = "not a host";
            return false;
        }
        name = bytes_make(authority.data + 1, end - 1);
        port = end + 1 < authority.size ? after(authority, end + 2) : BYTES_NONE;
    } else {
        (void)str_split(authority, ':', &name, &port);
    }
    *ret_why = "a part of the URI is too long, or holds a zero byte";
    return (name.size == 0 || decode(name, parts->host)) &&
           (port.size == 0 || decode(port, parts->port));
}

const char *uri_parse(struct bytes text, struct uri_parts *ret_parts)
{
    const char *why = "a part of the URI is too long, or holds a zero byte";
    struct uri_parts parts = {
        .user = "guest", .password = "guest", .vhost = "/", .host = "127.0.0.1", .port = "5672"};
    struct bytes authority;
    struct bytes path;
    parts.tls = bytes_starts_with(text, BYTES_LITERAL("amqps://"));
    if (parts.tls) {
        memcpy(parts.port, "5671", 5);
    } else if (!bytes_starts_with(text, BYTES_LITERAL("amqp://"))) {
        return "not an amqp:// or amqps:// URI";
    }
    (void)str_split(after(text, parts.tls ? 8 : 7), '/', &authority, &path);
    if (path.size > 0 && !decode(path, parts.vhost)) {
        return why;
    }
    const size_t at = find_last(authority, '@');
    if (at != SIZE_MAX) {
        struct bytes user;
        struct bytes password;
        const bool has_password = str_split(bytes_make(authority.data, at), ':', &user, &password);
        if (!decode(user, parts.user) || (has_password && !decode(password, parts.password))) {
            return why;
        }
        authority = after(authority, at + 1);
    }
    if (!parse_host(authority, &parts, &why)) {
        return why;
    }
    *ret_parts = parts;
    return NULL;
}
