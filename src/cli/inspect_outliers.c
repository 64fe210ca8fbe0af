/* inspect_outliers.c - crank inspect MODEL --outliers TEXT: one number a layer, as optim.scores of owlore reads them. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/inspect.h"
#include "cli/load.h"
#include "task/outliers.h"

static crank_status print_shares(cli_call *cli, const double *shares, int layers)
{
    if (!cli->common.json) {
        for (int l = 0; l < layers; l++) printf("%.9g\n", shares[l]);
        return CRANK_OK;
    }
    json_t *list = json_array();
    for (int l = 0; l < layers; l++) json_array_append_new(list, json_real(shares[l]));
    char *text = json_text(cli->context, list, 0);
    json_decref(list);
    if (!text) return CRANK_FAILED;
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

crank_status inspect_outliers(cli_call *cli, const char *model, const char *path, double threshold, int64_t tokens)
{
    loaded       l;
    size_t       length;
    crank_ids    ids = {0};
    int          layers = 0;
    char        *text = file_read(cli->context, path, &length);
    crank_status status = text ? load_model(cli, model, NULL, "f32", true, &l) : crank_last_status(cli->context);
    if (status != CRANK_OK) {
        crank_free(text);
        return status;
    }
    status = crank_encode(cli->context, l.tokenizer, text, length, NULL, 0, 0, &ids);
    int64_t count = (int64_t)ids.count < tokens ? (int64_t)ids.count : tokens;
    double *shares = status == CRANK_OK ? outliers_measure(cli->context, l.model, ids.ids, count, threshold, &layers) : NULL;
    if (status == CRANK_OK) status = shares ? print_shares(cli, shares, layers) : crank_last_status(cli->context);
    crank_free(shares), crank_free(text), crank_ids_free(&ids);
    load_free(&l);
    return status;
}
