/* hub.h - models of a Hugging Face hub: the cache that all programs of a user share, and what fills it.
 *
 *     CACHE/models--ORG--NAME/refs/main                 the commit that "main" was when it was pulled
 *     CACHE/models--ORG--NAME/blobs/ETAG                contents, named by the server's etag (SHA-256 of large files)
 *     CACHE/models--ORG--NAME/snapshots/COMMIT/FILE     symbolic link to ../../blobs/ETAG
 *     CACHE/.locks/models--ORG--NAME/ETAG.lock          held (flock) by the one that writes the blob
 *
 * CACHE is HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. */
#ifndef CRANK_DATA_HUB_H
#define CRANK_DATA_HUB_H

#include "crank/base.h"

enum { HUB_COMMIT = 40 }; /* hexadecimal digits */

/* "ORG/NAME@REVISION" taken apart. */
typedef struct hub_name {
    char repository[256]; /* "ORG/NAME", or "NAME" */
    char revision[128];   /* "main" where none is given */
} hub_name;

/* False when `text` cannot be the name of a hub's model (a path, a forbidden character). */
bool hub_parse(const char *text, hub_name *name);
/* CACHE; crank_free. */
char *hub_cache(crank_context *context);
/* CACHE/models--ORG--NAME; crank_free. */
char *hub_repository_folder(crank_context *context, const hub_name *name);
/* HF_HUB_OFFLINE is 1, ON, YES or TRUE. */
bool hub_offline(void);
bool hub_is_commit(const char *text);

/* The folder that `path` means: a path that exists is itself; else ORG/NAME[@REVISION] is its snapshot in the cache. What cannot be a
 * model's name, or has no ORG and is not in the cache, comes back as it is for its reader to complain about; ORG/NAME that is not in
 * the cache is CRANK_USAGE and says `crank pull`. crank_free; NULL: message set. */
char *hub_resolve(crank_context *context, const char *path);

typedef struct hub_pulled {
    char   *folder;     /* the snapshot; crank_free */
    char    commit[HUB_COMMIT + 1];
    size_t  files;      /* of the snapshot */
    size_t  fetched;    /* of them, downloaded now */
    int64_t bytes;      /* received now */
} hub_pulled;

/* Brings configuration, tokenizer and safetensors weights of a model (or adapter) into the cache; what is there already is not fetched
 * again, a broken download goes on where it broke. Never fetches pickled files. HF_ENDPOINT, HF_TOKEN and the proxies of libcurl are
 * honoured; with HF_HUB_OFFLINE only the cache is looked at. `descriptor`: of the progress line, -1: none. */
crank_status hub_pull(crank_context *context, const hub_name *name, int descriptor, hub_pulled *out);
#endif
