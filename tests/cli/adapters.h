/* adapters.h - a tiny base model, adapters trained on it, and the loss of both as the program tells it. */
#ifndef CRANK_TESTS_CLI_ADAPTERS_H
#define CRANK_TESTS_CLI_ADAPTERS_H

#include "../task/runs.h"

/* `adapters`: words parted by spaces, each FOLDER or FOLDER:WEIGHT; "" for none. */
static inline double loss_with(const char *model, const char *adapters)
{
    run_words w = {.count = 0};
    words_add(&w, "%s", model);
    words_split(&w, "--compute f32 --json --threads 1 --text");
    words_add(&w, "%s", runs_path("text.txt"));
    for (const char *at = adapters; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        words_add(&w, "-a");
        words_add(&w, "%.*s", (int)n, at);
        at += n;
    }
    child_result r = child_run("eval", &w, 0);
    if (r.code) fail_msg("eval: %s", r.err);
    double loss = json_number_of(r.out, "loss");
    child_free(&r);
    return loss;
}

/* A model folder of a family of runs_setup: one step of full training at a rate of 0. */
static inline const char *base_of_family(const char *family)
{
    static char path[8][512];
    static int  next;
    char        name[64], model[80];
    snprintf(name, sizeof name, "base-%s", family);
    snprintf(model, sizeof model, "%s/model", name);
    char *out = path[next++ % 8];
    snprintf(out, sizeof path[0], "%s", runs_path(model));
    if (access(out, R_OK)) {
        run_words w = words_of(family, strstr(family, "bert") ? "labels.tsv" : "text.txt", name,
                               "lowrank.method=none train.steps=1 train.lr=0 train.batch=2 model.compute=f32");
        if (strstr(family, "bert")) words_split(&w, "model.labels=3 loss.objective=classification");
        runs_finish(&w);
    }
    return out;
}

static inline const char *base_model(void) { return base_of_family("llama"); }

/* Four steps of `method` on the base; the adapter is RUNS/`out`/adapter. */
static inline void train_on(const char *base, const char *method, const char *more, const char *out)
{
    run_words w = {.count = 0};
    words_add(&w, "model.path=%s", base);
    words_add(&w, "data.train=%s", runs_path("text.txt"));
    words_add(&w, "output.path=%s", runs_path(out));
    words_add(&w, "lowrank.method=%s", method);
    words_split(&w, "data.context=48 data.document=line output.tensorboard=false output.report=false train.steps=4 train.batch=2 train.lr=1e-2 model.compute=f32");
    words_split(&w, more);
    runs_remove(runs_path(out));
    runs_finish(&w);
}
#endif
