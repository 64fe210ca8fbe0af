/* hub_http.c - requests to a hub over libcurl, and what their failures mean to a user.
 *
 * libcurl is loaded by the first request: it brings thirty libraries along, which take a program that downloads nothing longer to start than
 * a small evaluation to run. */
#include "data/hub_http.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

static const char public_hub[] = "https://huggingface.co";
enum { CONNECT_SECONDS = 20, STALL_SECONDS = 30, REDIRECTS = 10 };

struct hub_http {
    crank_context     *context;
    CURL              *curl;
    struct curl_slist *headers; /* the token, or NULL */
    char               endpoint[512];
    char               error[CURL_ERROR_SIZE];
};

/* One request in the air. */
typedef struct request {
    hub_http   *http;
    hub_take   *take;
    void       *user;
    hub_answer *answer;
    bool        refused; /* take said no */
} request;

/* What is used of the library; set once, before the first request. */
#undef curl_easy_setopt
static struct {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *curl);
    void (*easy_reset)(CURL *curl);
    CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
    CURLcode (*easy_perform)(CURL *curl);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
    char missing[256]; /* why it is not there; empty: it is */
} library;
static pthread_once_t started = PTHREAD_ONCE_INIT;

static bool find(void *object, const char *name, void *function)
{
    void *found = dlsym(object, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static void start(void)
{
    void *o = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    bool  all = o && find(o, "curl_global_init", &library.global_init) && find(o, "curl_easy_init", &library.easy_init) && find(o, "curl_easy_cleanup", &library.easy_cleanup) &&
               find(o, "curl_easy_reset", &library.easy_reset) && find(o, "curl_easy_setopt", &library.easy_setopt) && find(o, "curl_easy_perform", &library.easy_perform) &&
               find(o, "curl_easy_strerror", &library.easy_strerror) && find(o, "curl_slist_append", &library.slist_append) && find(o, "curl_slist_free_all", &library.slist_free_all);
    if (!all) snprintf(library.missing, sizeof library.missing, "%s", dlerror());
    else library.global_init(CURL_GLOBAL_DEFAULT);
}

hub_http *hub_http_open(crank_context *context)
{
    const char *endpoint = getenv("HF_ENDPOINT"), *token = getenv("HF_TOKEN");
    if (!endpoint || !*endpoint) endpoint = public_hub;
    pthread_once(&started, start);
    if (library.missing[0]) return crank_fail(context, CRANK_FAILED, "downloads need libcurl (%s): install libcurl4", library.missing), NULL;
    hub_http *http = crank_alloc(context, 1, sizeof *http, "a connection");
    if (!http) return NULL;
    http->context = context;
    http->curl = library.easy_init();
    size_t length = strlen(endpoint);
    while (length && endpoint[length - 1] == '/') length--;
    if (length >= sizeof http->endpoint || (strncmp(endpoint, "http://", 7) && strncmp(endpoint, "https://", 8)))
        crank_fail(context, CRANK_USAGE, "HF_ENDPOINT is %s: wanted http:// or https:// and a host", endpoint);
    else if (!http->curl)
        crank_fail(context, CRANK_FAILED, "libcurl does not start");
    else {
        snprintf(http->endpoint, sizeof http->endpoint, "%.*s", (int)length, endpoint);
        if (!token || !*token || strpbrk(token, "\r\n")) return http;
        char *line = crank_format(context, "Authorization: Bearer %s", token);
        http->headers = line ? library.slist_append(NULL, line) : NULL;
        crank_free(line);
        if (http->headers) return http;
        crank_fail(context, CRANK_FAILED, "out of memory: the headers of a request");
    }
    hub_http_close(http);
    return NULL;
}

void hub_http_close(hub_http *http)
{
    if (!http) return;
    if (http->curl) library.easy_cleanup(http->curl);
    if (http->headers) library.slist_free_all(http->headers);
    crank_free(http);
}

const char *hub_http_endpoint(const hub_http *http) { return http->endpoint; }

char *hub_http_escape(hub_http *http, const char *part)
{
    text_buffer text = {0};
    for (; *part; part++) {
        unsigned char c = (unsigned char)*part;
        bool          plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~/", c);
        if (plain) text_putc(&text, (char)c);
        else text_printf(&text, "%%%02X", c);
    }
    return text_take(http->context, &text, "a URL");
}

/* ---- headers ---- */

static bool header_is(const char *line, const char *name, const char **value)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) || line[length] != ':') return false;
    *value = line + length + 1 + strspn(line + length + 1, " \t");
    return true;
}

/* W/"abc" or "abc" -> abc */
static void take_etag(const char *value, char *out, size_t size)
{
    if (!strncmp(value, "W/", 2)) value += 2;
    value += *value == '"';
    size_t length = strcspn(value, "\" \r\n");
    snprintf(out, size, "%.*s", (int)length, value);
}

static int64_t number_at(const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return end == text || errno || value < 0 ? -1 : (int64_t)value;
}

static size_t on_header(char *bytes, size_t one, size_t length, void *user)
{
    hub_answer *answer = ((request *)user)->answer;
    char        line[2304];
    const char *value;
    (void)one;
    snprintf(line, sizeof line, "%.*s", (int)length, bytes);
    if (!strncmp(line, "HTTP/", 5)) { /* the next answer of a chain of redirects: what the hub said of the file stays */
        answer->location[0] = 0;
        answer->range_first = -1;
        const char *space = strchr(line, ' ');
        answer->code = space ? (long)number_at(space + 1) : 0;
        if (!answer->linked) answer->etag[0] = 0, answer->size = -1;
    } else if (header_is(line, "x-linked-etag", &value)) {
        take_etag(value, answer->etag, sizeof answer->etag);
        answer->linked = true;
    } else if (header_is(line, "x-linked-size", &value)) {
        answer->size = number_at(value);
    } else if (!answer->linked && header_is(line, "etag", &value)) {
        take_etag(value, answer->etag, sizeof answer->etag);
    } else if (answer->size < 0 && !answer->linked && header_is(line, "content-length", &value)) {
        answer->size = number_at(value);
    } else if (header_is(line, "content-range", &value) && !strncmp(value, "bytes ", 6)) {
        answer->range_first = number_at(value + 6);
    } else if (header_is(line, "location", &value)) {
        snprintf(answer->location, sizeof answer->location, "%.*s", (int)strcspn(value, "\r\n"), value);
    }
    return length;
}

static size_t on_body(char *bytes, size_t one, size_t length, void *user)
{
    request *r = user;
    (void)one;
    if (r->answer->code != 200 && r->answer->code != 206) return length; /* an error page */
    if (!r->take || r->take(r->user, r->answer, bytes, length)) return length;
    r->refused = true;
    return 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return crank_stop_requested(((request *)user)->http->context);
}

/* ---- requests ---- */

static void prepare(hub_http *http, request *r, const char *url)
{
    CURL *curl = http->curl;
    library.easy_reset(curl);
    http->error[0] = 0;
    /* A hub reached over https may not lead to plain http. libcurl sends the token to the first host only. */
    const char *protocols = strncmp(http->endpoint, "https:", 6) ? "http,https" : "https";
    library.easy_setopt(curl, CURLOPT_URL, url);
    library.easy_setopt(curl, CURLOPT_PROTOCOLS_STR, protocols);
    library.easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    library.easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    library.easy_setopt(curl, CURLOPT_USERAGENT, "crank");
    library.easy_setopt(curl, CURLOPT_HTTPHEADER, http->headers);
    library.easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    library.easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    library.easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    library.easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    library.easy_setopt(curl, CURLOPT_ERRORBUFFER, http->error);
    library.easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    library.easy_setopt(curl, CURLOPT_HEADERDATA, r);
    library.easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    library.easy_setopt(curl, CURLOPT_WRITEDATA, r);
    library.easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    library.easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    library.easy_setopt(curl, CURLOPT_XFERINFODATA, r);
}

/* Performs it; *broken: trying again may help. */
static crank_status perform(hub_http *http, request *r, bool *broken)
{
    *r->answer = (hub_answer){.size = -1, .range_first = -1};
    *broken = false;
    CURLcode code = library.easy_perform(http->curl);
    if (code == CURLE_OK) return CRANK_OK;
    if (r->refused) return crank_last_status(http->context);
    if (code == CURLE_ABORTED_BY_CALLBACK) return crank_fail(http->context, CRANK_STOPPED, "stopped; the same command goes on where it was");
    *broken = code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING ||
              code == CURLE_SEND_ERROR || code == CURLE_HTTP2_STREAM || code == CURLE_HTTP2;
    const char *why = http->error[0] ? http->error : library.easy_strerror(code);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_PROXY)
        return crank_fail(http->context, CRANK_FAILED,
                          "%s cannot be reached (%s): check the network, HF_ENDPOINT, and the proxy variables (https_proxy, no_proxy)", http->endpoint, why);
    return crank_fail(http->context, CRANK_FAILED, "the request to %s failed: %s", http->endpoint, why);
}

crank_status hub_http_head(hub_http *http, const char *url, hub_answer *answer)
{
    request r = {.http = http, .answer = answer};
    char   *next = crank_strdup(http->context, url);
    bool    broken;
    for (int hop = 0; next && hop < REDIRECTS; hop++) {
        prepare(http, &r, next);
        library.easy_setopt(http->curl, CURLOPT_NOBODY, 1L);
        crank_status status = perform(http, &r, &broken);
        crank_free(next);
        if (status != CRANK_OK) return status;
        /* A place within the hub (a renamed model) is gone to; a place elsewhere is where the bytes are, and the hub has told their name. */
        size_t length = strlen(http->endpoint);
        bool   relative = answer->location[0] == '/' && answer->location[1] != '/';
        bool   inside = relative || (!strncmp(answer->location, http->endpoint, length) && answer->location[length] == '/');
        if (answer->code < 300 || answer->code >= 400 || answer->linked || !inside) return CRANK_OK;
        next = crank_format(http->context, "%s%s", relative ? http->endpoint : "", answer->location);
    }
    crank_status status = next ? crank_fail(http->context, CRANK_FAILED, "%s redirects in a circle", url) : CRANK_FAILED;
    crank_free(next);
    return status;
}

crank_status hub_http_get(hub_http *http, const char *url, int64_t first, hub_take *take, void *user, hub_answer *answer, bool *broken)
{
    request r = {.http = http, .take = take, .user = user, .answer = answer};
    char    range[32];
    bool    again;
    prepare(http, &r, url);
    snprintf(range, sizeof range, "%lld-", (long long)first);
    library.easy_setopt(http->curl, CURLOPT_FOLLOWLOCATION, 1L);
    if (first > 0) library.easy_setopt(http->curl, CURLOPT_RANGE, range);
    crank_status status = perform(http, &r, &again);
    if (status == CRANK_OK && answer->code != 200 && answer->code != 206) {
        again = answer->code == 429 || answer->code >= 500;
        status = hub_http_refused(http, answer, url);
    }
    if (broken) *broken = again;
    return status;
}

crank_status hub_http_refused(hub_http *http, const hub_answer *answer, const char *what)
{
    const char *token = getenv("HF_TOKEN");
    bool        given = token && *token;
    if (answer->code == 401)
        return crank_fail(http->context, CRANK_USAGE, "%s: 401, %s", what,
                          given ? "the hub does not take the token in HF_TOKEN" : "no such model, or it is private: check the name, or set HF_TOKEN to a token that may read it");
    if (answer->code == 403)
        return crank_fail(http->context, CRANK_USAGE, "%s: 403, access is not granted: accept the model's terms on its page at %s%s", what, http->endpoint,
                          given ? ", and give the token in HF_TOKEN the right to read it" : ", and set HF_TOKEN");
    if (answer->code == 404) return crank_fail(http->context, CRANK_USAGE, "%s: 404, the hub at %s has no such model or revision", what, http->endpoint);
    if (answer->code == 429) return crank_fail(http->context, CRANK_FAILED, "%s: 429, the hub takes no more requests now: try again later", what);
    return crank_fail(http->context, CRANK_FAILED, "%s: the hub at %s answers %ld", what, http->endpoint, answer->code);
}
