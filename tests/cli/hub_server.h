/* hub_server.h - a hub of one repository on 127.0.0.1, for tests: answers as a Hugging Face hub does, and breaks on demand. */
#ifndef CRANK_TESTS_HUB_SERVER_H
#define CRANK_TESTS_HUB_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HUB_COMMIT_A "0123456789abcdef0123456789abcdef01234567"

typedef struct hub_file {
    const char *name, *etag;
    bool        large; /* kept by sha256 on another host: HEAD and GET redirect there */
    const char *bytes;
    size_t      length;
} hub_file;

typedef struct hub_server {
    int       listener, port;
    pthread_t thread;
    hub_file  files[16];
    size_t    file_count;
    /* what it does */
    int  refuse;       /* status code of every answer; 0: none */
    long break_after;  /* the next body of a large file ends after so many bytes; 0: never */
    bool no_ranges;    /* Range is not understood */
    /* what it saw */
    char log[16384];   /* "GET /path range\n" */
    bool token_at_hub, token_elsewhere;
} hub_server;

static void hub_say(int socket, const char *format, ...)
{
    char    text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int sent = 0; sent < length;) {
        ssize_t n = send(socket, text + sent, (size_t)(length - sent), MSG_NOSIGNAL);
        if (n <= 0) return;
        sent += (int)n;
    }
}

static void hub_send_list(hub_server *s, int socket)
{
    char body[4096];
    int  n = snprintf(body, sizeof body, "{\"sha\": \"%s\", \"siblings\": [", HUB_COMMIT_A);
    for (size_t i = 0; i < s->file_count; i++) n += snprintf(body + n, sizeof body - (size_t)n, "%s{\"rfilename\": \"%s\"}", i ? ", " : "", s->files[i].name);
    n += snprintf(body + n, sizeof body - (size_t)n, "]}");
    hub_say(socket, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", n, body);
}

static void hub_send_bytes(hub_server *s, int socket, const hub_file *file, bool head, long first)
{
    size_t length = file->length - (size_t)first, give = length;
    bool   part = first > 0;
    if (part) hub_say(socket, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %ld-%zu/%zu\r\n", first, file->length - 1, file->length);
    else hub_say(socket, "HTTP/1.1 200 OK\r\n");
    hub_say(socket, "ETag: W/\"%s\"\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", file->etag, length);
    if (head) return;
    if (file->large && s->break_after && (size_t)s->break_after < give) give = (size_t)s->break_after, s->break_after = 0;
    for (size_t sent = 0; sent < give;) {
        ssize_t n = send(socket, file->bytes + first + sent, give - sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        sent += (size_t)n;
    }
}

static const hub_file *hub_find(const hub_server *s, const char *name)
{
    for (size_t i = 0; i < s->file_count; i++)
        if (!strcmp(s->files[i].name, name)) return &s->files[i];
    return NULL;
}

static void hub_answer_request(hub_server *s, int socket, char *request)
{
    static const char resolve[] = "/org/tiny/resolve/" HUB_COMMIT_A "/";
    char              method[8] = "", path[512] = "";
    const char       *range = strstr(request, "Range: bytes="), *token = strstr(request, "Authorization: Bearer secret");
    if (sscanf(request, "%7s %511s", method, path) != 2) return;
    long   first = range && !s->no_ranges ? strtol(range + 13, NULL, 10) : 0;
    size_t used = strlen(s->log);
    snprintf(s->log + used, sizeof s->log - used, "%s %s %ld\n", method, path, range ? strtol(range + 13, NULL, 10) : 0);
    bool head = !strcmp(method, "HEAD"), elsewhere = !strncmp(path, "/store/", 7);
    if (token) *(elsewhere ? &s->token_elsewhere : &s->token_at_hub) = true;
    const hub_file *file = elsewhere ? hub_find(s, path + 7) : !strncmp(path, resolve, strlen(resolve)) ? hub_find(s, path + strlen(resolve)) : NULL;
    if (s->refuse) hub_say(socket, "HTTP/1.1 %d No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", s->refuse);
    else if (!strncmp(path, "/api/models/old/tiny", 20)) hub_say(socket, "HTTP/1.1 307 Moved\r\nLocation: /api/models/org/tiny%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", path + 20);
    else if (!strncmp(path, "/old/tiny", 9)) hub_say(socket, "HTTP/1.1 307 Moved\r\nLocation: /org/tiny%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", path + 9);
    else if (!strcmp(path, "/api/models/org/tiny/revision/main") || !strcmp(path, "/api/models/org/tiny/revision/refs%2Fpr%2F1")) hub_send_list(s, socket);
    else if (file && file->large && !elsewhere)
        hub_say(socket,
                "HTTP/1.1 302 Found\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\nETag: \"other\"\r\nLocation: http://localhost:%d/store/%s\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n",
                file->etag, file->length, s->port, file->name);
    else if (file) hub_send_bytes(s, socket, file, head, first);
    else hub_say(socket, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static void *hub_serve(void *user)
{
    hub_server *s = user;
    for (;;) {
        char   request[8192];
        size_t length = 0;
        int    socket = accept(s->listener, NULL, NULL);
        if (socket < 0) return NULL;
        request[0] = 0;
        while (length + 1 < sizeof request && !strstr(request, "\r\n\r\n")) {
            ssize_t n = recv(socket, request + length, sizeof request - 1 - length, 0);
            if (n <= 0) break;
            request[length += (size_t)n] = 0;
        }
        hub_answer_request(s, socket, request);
        shutdown(socket, SHUT_WR);
        close(socket);
    }
}

static bool hub_server_start(hub_server *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t          size = sizeof address;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof address) || listen(s->listener, 16)) return false;
    getsockname(s->listener, (struct sockaddr *)&address, &size);
    s->port = ntohs(address.sin_port);
    return pthread_create(&s->thread, NULL, hub_serve, s) == 0;
}

static void hub_server_stop(hub_server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
}
#endif
