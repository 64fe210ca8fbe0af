/* hub_http.h - requests to a hub over libcurl. */
#ifndef CRANK_DATA_HUB_HTTP_H
#define CRANK_DATA_HUB_HTTP_H

#include "crank/base.h"

typedef struct hub_http hub_http; /* one connection pool; one thread at a time */

/* HF_ENDPOINT or the public hub, HF_TOKEN, proxies from the environment. */
hub_http   *hub_http_open(crank_context *context);
void        hub_http_close(hub_http *http);
const char *hub_http_endpoint(const hub_http *http);
/* One part of a URL, escaped; slashes stay. crank_free. */
char *hub_http_escape(hub_http *http, const char *part);

/* What a server answered. */
typedef struct hub_answer {
    long    code;
    char    etag[160];        /* without quotes and "W/"; X-Linked-Etag where there is one */
    int64_t size;             /* X-Linked-Size, else Content-Length; -1: unknown */
    int64_t range_first;      /* of Content-Range; -1: none */
    char    location[2048];
    bool    linked;           /* X-Linked-Etag was there: a large file, its etag is a SHA-256 */
} hub_answer;

/* Takes bytes of a body; false stops the request (message set). `answer` is complete but for what follows. */
typedef bool hub_take(void *user, const hub_answer *answer, const void *bytes, size_t length);

/* HEAD without following redirects to other hosts (those within the hub are followed). */
crank_status hub_http_head(hub_http *http, const char *url, hub_answer *answer);
/* GET from byte `first`, redirects followed. CRANK_OK for 200 and 206. `broken` (may be NULL) is set when trying again may help: the
 * connection broke, timed out, or the server is overloaded. */
crank_status hub_http_get(hub_http *http, const char *url, int64_t first, hub_take *take, void *user, hub_answer *answer, bool *broken);
/* The message of an answer that is no success, for `what`. */
crank_status hub_http_refused(hub_http *http, const hub_answer *answer, const char *what);
#endif
