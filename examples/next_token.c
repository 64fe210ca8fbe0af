/* next_token.c - loads a model folder and, when given, a PEFT adapter folder through the public API, and prints the most likely
 * token behind three tokens.
 *
 *     gcc next_token.c $(pkg-config --cflags --libs crank) -o next_token      or: CMakeLists.txt beside this file
 *     ./next_token MODEL [ADAPTER] */
#include <crank/adapter.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    crank_context *context = crank_context_new();
    crank_device  *device = context ? crank_device_cpu(context, NULL) : NULL;
    crank_model   *model = device && argc > 1 ? crank_model_load(context, device, argv[1], NULL) : NULL;
    if (!model || (argc > 2 && !crank_adapter_load(context, model, argv[2], "default")))
        return fprintf(stderr, "next_token: %s\n", argc > 1 && context ? crank_message(context) : "usage: next_token MODEL [ADAPTER]"), 1;

    /* Recorded once; what changes between runs is an input. Tokens of all sequences stand in one row: here one of three. */
    const int64_t      n = 3, two = 2, vocab = crank_model_config_of(model)->vocab;
    crank_graph       *graph = crank_graph_new(context, device);
    crank_model_inputs inputs = {.ids = crank_input(graph, "ids", CRANK_I32, 1, &n), .positions = crank_input(graph, "positions", CRANK_I32, 1, &n),
                                 .segments = crank_input(graph, "segments", CRANK_I32, 1, &two)};
    crank_graph_set_training(graph, false);
    crank_tensor *last = crank_slice(crank_model_features(graph, model, &inputs), 0, n - 1, 1);
    crank_tensor *logits = crank_keep(crank_cast(crank_model_logits(graph, model, last), CRANK_F32)); /* [1, vocab] */

    float *values = calloc((size_t)vocab, sizeof *values);
    if (!values || crank_plan(graph, NULL, NULL) || crank_write(inputs.ids, (int32_t[]){5, 6, 7}) || crank_write(inputs.positions, (int32_t[]){0, 1, 2}) ||
        crank_write(inputs.segments, (int32_t[]){0, 3}) || crank_run(graph) || crank_read(logits, values))
        return fprintf(stderr, "next_token: %s\n", crank_message(context)), 1;
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++) best = values[i] > values[best] ? i : best;
    printf("%s with %zu attachments: token %lld, logit %.4f\n", crank_model_config_of(model)->architecture,
           crank_linears_attachments(crank_model_linears(model)), (long long)best, values[best]);
    free(values), crank_graph_free(graph), crank_model_free(model), device->close(device), crank_context_free(context);
    return 0;
}
