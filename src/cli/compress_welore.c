/* compress_welore.c - crank compress MODEL -o OUT --rule welore: a rank for each matrix from one threshold (WeLore, arXiv:2407.11239).
 *
 * OUT is a model folder as any other, with A B written in the place of each factored weight; OUT/factors holds A and B as an adapter of it,
 * which trains alone: crank train model.path=OUT lowrank.adapter=OUT/factors lowrank.method=welore. */
#include "cli/compress.h"

#include <stdio.h>

#include "base/file.h"

static crank_attachment *factor(cli_call *cli, const loaded *l, const compress_welore_options *how)
{
    const struct {
        const char *key;
        char        value[32];
    } settings[] = {{"target", ""}, {"gate", ""}, {"measure", ""}, {"choice", ""}, {"train", "low"}};
    const crank_map  *map = crank_map_find("welore");
    void             *options = crank_options_new(cli->context, map->options, map->options_size);
    crank_attachment *made = NULL;
    crank_status      status = options ? CRANK_OK : CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < 5; i++) {
        char value[32];
        snprintf(value, sizeof value, "%s", settings[i].value);
        if (i < 2) snprintf(value, sizeof value, "%.17g", i ? how->gate : how->target);
        if (i == 2 || i == 3) snprintf(value, sizeof value, "%s", i == 2 ? how->measure : how->choice);
        status = crank_options_set(cli->context, map->options, options, settings[i].key, value, "compress");
    }
    if (status == CRANK_OK) made = crank_attachment_new(cli->context, crank_model_linears(l->model), map, options, &(crank_attach_options){.targets = "all-linear"});
    if (made && crank_attachment_finish(cli->context, made) != CRANK_OK) made = NULL;
    crank_options_free(options);
    return made;
}

/* Matrices and parameters, before and after. */
typedef struct sizes {
    int     all, low;
    int64_t before, after;
} sizes;

static sizes count(const loaded *l, crank_attachment *factors)
{
    const crank_params *params = crank_model_params(l->model);
    int                 sites;
    crank_site         *site = crank_attachment_sites(factors, &sites);
    sizes               s = {.all = sites};
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role == CRANK_ROLE_WEIGHT) s.before += crank_view_count(&param->view);
        if (param->role == CRANK_ROLE_METHOD) s.after += crank_view_count(&param->view);
    }
    s.after += s.before;
    for (int i = 0; i < sites; i++) {
        char name[1024];
        snprintf(name, sizeof name, "%s.welore.A", site[i].linear->name);
        if (!crank_params_find(params, name)) continue;
        s.low++;
        s.after -= site[i].linear->in * site[i].linear->out;
    }
    return s;
}

/* The model with A B in the place of the weights. */
static crank_status write_plain(cli_call *cli, const char *out, crank_dtype dtype, const compress_welore_options *how)
{
    loaded       l;
    crank_status status = load_model(cli, cli->words[0], NULL, "f32", true, &l);
    if (status != CRANK_OK) return status;
    crank_attachment *factors = factor(cli, &l, how);
    status = factors ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && !count(&l, factors).low)
        status = crank_fail(cli->context, CRANK_USAGE, "no matrix loses more than %g of its rank at a target of %g: lower --gate, or raise --ratio", how->gate, how->target);
    if (status == CRANK_OK) status = crank_linears_merge(cli->context, crank_model_linears(l.model), true, false);
    if (status == CRANK_OK) status = crank_model_save(cli->context, l.model, out, dtype);
    if (status == CRANK_OK) status = crank_tokenizer_save(cli->context, l.tokenizer, out);
    load_free(&l);
    return status;
}

/* Its factors, from the folder that was written: they belong to those weights. */
static crank_status write_factors(cli_call *cli, const char *out, const compress_welore_options *how)
{
    loaded       l;
    crank_status status = load_model(cli, out, NULL, "f32", true, &l);
    if (status != CRANK_OK) return status;
    crank_attachment *factors = factor(cli, &l, how);
    char             *folder = file_join(cli->context, out, "factors");
    status = factors && folder ? crank_adapter_save(cli->context, l.model, factors, folder, out) : crank_last_status(cli->context);
    sizes s = status == CRANK_OK ? count(&l, factors) : (sizes){0};
    if (status == CRANK_OK && cli->common.json)
        printf("{\"result\": \"%s\", \"factors\": \"%s\", \"matrices\": %d, \"factored\": %d, \"parameters\": %lld, \"parameters_before\": %lld}\n", out, folder, s.all, s.low, (long long)s.after, (long long)s.before);
    else if (status == CRANK_OK)
        printf("model: %s\nfactors: %s\n%d of %d matrices are factored: %lld of %lld parameters\n", out, folder, s.low, s.all, (long long)s.after, (long long)s.before);
    crank_free(folder);
    load_free(&l);
    return status;
}

crank_status compress_welore(cli_call *cli, const char *out, crank_dtype dtype, const compress_welore_options *how)
{
    crank_status status = write_plain(cli, out, dtype, how);
    return status == CRANK_OK ? write_factors(cli, out, how) : status;
}
