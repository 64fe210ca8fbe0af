/* test_rope.c - tables of rotary angles equal transformers' at positions up to 131071. */
#include "nn/nn.h"
#include "testing.h"

static const struct {
    const char *name;
    nn_rope rope;
} settings[] = {
    {"default_64", {NN_ROPE_DEFAULT, 64, 10000, 0, 0, 0, 0}},
    {"default_96", {NN_ROPE_DEFAULT, 96, 10000, 0, 0, 0, 0}},
    {"theta_128", {NN_ROPE_DEFAULT, 128, 1000000, 0, 0, 0, 0}},
    {"linear_128", {NN_ROPE_LINEAR, 128, 10000, 4, 0, 0, 0}},
    {"llama3_64", {NN_ROPE_LLAMA3, 64, 500000, 32, 1, 4, 8192}},
    {"llama3_128", {NN_ROPE_LLAMA3, 128, 500000, 8, 1, 4, 8192}},
};

/* A last bit of a frequency w moves the angle p w by p 2^-24: beyond that nothing may differ. */
static void tables_equal_transformers(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_safetensors *file = crank_safetensors_open(context, golden("rope.safetensors"));
    if (!file) fail_msg("%s", crank_message(context));
    crank_view positions, view;
    assert_true(crank_safetensors_find(file, "positions", &positions));
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        int64_t dims = settings[s].rope.dims, rows = 131072;
        float *table = malloc((size_t)(rows * dims) * sizeof *table);
        nn_rope_fill(&settings[s].rope, rows, table);
        assert_true(crank_safetensors_find(file, settings[s].name, &view));
        for (int64_t i = 0; i < positions.dims[0]; i++) {
            int64_t p = ((const int32_t *)positions.data)[i];
            const float *theirs = (const float *)view.data + i * dims;
            for (int64_t k = 0; k < dims; k++) {
                double off = fabs((double)table[p * dims + k] - theirs[k]);
                if (!(off <= 2e-7 + (double)p * 0x1p-24))
                    fail_msg("%s: position %d, %d: %.9g, %.9g there", settings[s].name, (int)p, (int)k,
                             table[p * dims + k], theirs[k]);
            }
        }
        free(table);
    }
    crank_safetensors_close(file);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables_equal_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
