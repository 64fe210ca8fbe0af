/* pull.c - crank pull ORG/NAME: a model from a hub into the cache that all programs of a user share. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "data/hub.h"

static crank_status print_json(cli_call *cli, const hub_pulled *pulled)
{
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:I}", "result", pulled->folder, "commit", pulled->commit, "files", (json_int_t)pulled->files, "fetched",
                             (json_int_t)pulled->fetched, "bytes", (json_int_t)pulled->bytes);
    char *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status run(cli_call *cli)
{
    hub_name   name;
    hub_pulled pulled;
    if (!hub_parse(cli->words[0], &name))
        return crank_fail(cli->context, CRANK_USAGE, "`%s` is no name of a model: wanted ORG/NAME or ORG/NAME@REVISION (letters, digits, '-', '_', '.')", cli->words[0]);
    crank_status status = hub_pull(cli->context, &name, cli->common.quiet ? -1 : 2, &pulled);
    if (status == CRANK_OK && cli->common.json) status = print_json(cli, &pulled);
    else if (status == CRANK_OK) printf("%s\n", pulled.folder);
    if (status == CRANK_OK && !cli->common.json)
        crank_log(cli->context, CRANK_INFO, "%zu of %zu files fetched, %.1f MiB; `%s` now names this folder", pulled.fetched, pulled.files,
                  (double)pulled.bytes / 1048576.0, cli->words[0]);
    crank_free(pulled.folder);
    return status;
}

const cli_verb verb_pull = {
    .name = "pull",
    .usage = "ORG/NAME[@REVISION]",
    .summary = "fetch a model from a hub into the cache; ORG/NAME then stands for its folder everywhere",
    .details = "Configuration, tokenizer and safetensors weights are fetched, pickled files never. Files that are there are not fetched again, and a\n"
               "broken download goes on where it broke. Prints the folder. HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the\n"
               "proxy variables are honoured.",
    .words_low = 1,
    .words_high = 1,
    .run = run,
};
