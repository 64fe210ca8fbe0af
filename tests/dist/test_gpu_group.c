/* Collectives of the operation table over two processes equal the sums that the host makes, on two GPUs through NCCL: plain, captured and
 * replayed, of every float type, odd sizes and strides, to all and to one, in place and beside; broadcasts give the owner's values.
 *
 * Started alone the program starts two of itself under mpirun, and skips where there is no mpirun or fewer than two cards; with
 * CRANK_TEST_DEVICE=cpu the same tests run over MPI. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/dist.h"
#include "graph/graph.h"

#include "crank/ops.h"

#include "testing.h"

enum { TENSORS = 5, RUNS = 5 };

static crank_context *context;
static dist_group     processes;
static crank_group    group;
static crank_device  *device;

static void good(crank_status status)
{
    if (status != CRANK_OK) fail_msg("%s", crank_message(context));
}

/* Element i of tensor k of process `rank` in a run: small numbers that every type and their sum hold exactly. */
static double value_of(int rank, int run, int k, int64_t i) { return (double)((rank * 7 + run * 5 + k * 3 + i) % 17 - 8) / 4; }

typedef struct sum_case {
    crank_dtype dtype;
    int         rank, root;
    int64_t     dims[2];
} sum_case;

static const sum_case cases[TENSORS] = {
    {CRANK_F32, 2, -1, {33, 1001}}, {CRANK_BF16, 1, -1, {4097}}, {CRANK_F32, 0, -1, {0}}, {CRANK_F64, 1, 1, {3}}, {CRANK_F32, 1, 0, {1 << 20}},
};

static int64_t count_of(const sum_case *c)
{
    int64_t n = 1;
    for (int i = 0; i < c->rank; i++) n *= c->dims[i];
    return n;
}

static void write_values(crank_tensor *tensor, int run, int k)
{
    int64_t n = count_of(&cases[k]);
    double *wide = malloc((size_t)n * sizeof *wide);
    void   *own = malloc((size_t)n * 8);
    assert_non_null(wide), assert_non_null(own);
    for (int64_t i = 0; i < n; i++) wide[i] = value_of(processes.rank, run, k, i);
    crank_convert(own, cases[k].dtype, wide, CRANK_F64, (size_t)n);
    good(crank_write(tensor, own));
    free(wide), free(own);
}

static void check_sum(const crank_tensor *tensor, int run, int k, double scale)
{
    int64_t n = count_of(&cases[k]);
    double *wide = malloc((size_t)n * sizeof *wide);
    void   *own = malloc((size_t)n * 8);
    assert_non_null(wide), assert_non_null(own);
    good(crank_read(tensor, own));
    crank_convert(wide, CRANK_F64, own, cases[k].dtype, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        double want = 0;
        for (int rank = 0; rank < processes.size; rank++) want += scale * value_of(rank, run, k, i);
        if (wide[i] != want) fail_msg("process %d, run %d, tensor %d, element %lld: %g instead of %g", processes.rank, run, k, (long long)i, wide[i], want);
    }
    free(wide), free(own);
}

/* Sums of what the graph makes (in place) and of its inputs (beside), with work between their beginning and the wait. */
static void sums_equal_those_of_the_host_in_every_run(void **state)
{
    (void)state;
    for (int in_place = 0; in_place < 2; in_place++) {
        crank_graph  *graph = crank_graph_new(context, device);
        crank_tensor *inputs[TENSORS], *sums[TENSORS], *order = crank_group_order(graph), *begun;
        int           roots[TENSORS];
        double        scale = in_place ? 2 : 1;
        for (int k = 0; k < TENSORS; k++) {
            inputs[k] = crank_input(graph, "x", cases[k].dtype, cases[k].rank, cases[k].dims);
            sums[k] = in_place ? crank_scale(inputs[k], 2) : inputs[k];
            roots[k] = cases[k].root;
        }
        crank_group_sum(sums, 3, roots, 0, NULL, &order);
        crank_group_sum(sums + 3, TENSORS - 3, roots + 3, 1, NULL, &order);
        crank_tensor *between = crank_keep(crank_reduce(CRANK_SUM, inputs[0], 3, false));
        begun = order;
        crank_group_wait(sums, 3, 0, between, &order);
        crank_group_wait(sums + 3, TENSORS - 3, 1, begun, &order);
        for (int k = 0; k < TENSORS; k++) crank_keep(sums[k]);
        crank_tensor *scalars = crank_step_scalars(graph);
        crank_group_settle(&scalars, 1, 1, NULL, &order);
        good(crank_plan(graph, NULL, NULL));
        for (int run = 0; run < RUNS; run++) {
            for (int k = 0; k < TENSORS; k++) write_values(inputs[k], run, k);
            good(crank_run(graph));
            for (int k = 0; k < TENSORS; k++)
                if (cases[k].root < 0 || cases[k].root == processes.rank) check_sum(sums[k], run, k, scale);
        }
        crank_graph_free(graph);
    }
}

/* Each process writes its own parameter and takes the other's: an all-gather. */
static void broadcasts_gather_what_each_owns(void **state)
{
    (void)state;
    crank_params *params = crank_params_new(context, device);
    crank_graph  *graph = crank_graph_new(context, device);
    crank_tensor *targets[2], *order = crank_group_order(graph), *x = crank_input(graph, "x", CRANK_F32, 1, (int64_t[]){5003});
    crank_param  *owned[2];
    int           roots[2] = {0, 1};
    float        *values = malloc(5003 * sizeof *values);
    for (int k = 0; k < 2; k++) {
        owned[k] = crank_params_add(params, k ? "second" : "first", CRANK_ROLE_WEIGHT, CRANK_F32, 1, (int64_t[]){5003});
        assert_non_null(owned[k]);
        targets[k] = crank_use(graph, owned[k]);
    }
    crank_assign(targets[processes.rank % 2], x, false);
    crank_group_broadcast(targets, 2, roots, 0, &order);
    crank_group_settle(targets, 2, 0, NULL, &order);
    good(crank_plan(graph, NULL, NULL));
    for (int run = 0; run < RUNS; run++) {
        for (int64_t i = 0; i < 5003; i++) values[i] = (float)value_of(processes.rank, run, 0, i);
        good(crank_write(x, values));
        good(crank_run(graph));
        for (int k = 0; k < 2; k++) {
            good(crank_param_read(context, owned[k], values, CRANK_F32));
            for (int64_t i = 0; i < 5003; i++)
                if (values[i] != (float)value_of(k, run, 0, i)) fail_msg("process %d, run %d, parameter %d, element %lld: %g", processes.rank, run, k, (long long)i, (double)values[i]);
        }
    }
    free(values);
    crank_graph_free(graph);
    crank_params_free(params);
}

/* The plugins lie beside the folder of this program. */
static void name_plugin(const char *variable, const char *file)
{
    char    path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
    if (length <= 0) return;
    path[length] = '\0';
    for (int up = 0; up < 2; up++)
        if (strrchr(path, '/')) *strrchr(path, '/') = '\0';
    snprintf(path + strlen(path), 64, "/%s", file);
    if (access(path, R_OK) == 0) setenv(variable, path, 0);
}

static int start_two(const char *name, bool cpu)
{
    char text[512];
    if (!cpu && (!crank_device_describe(0, text, sizeof text) || !crank_device_describe(1, text, sizeof text))) {
        printf("skipped: two cards are needed\n");
        return 77;
    }
    if (!getenv("CRANK_MPI_PLUGIN")) {
        printf("skipped: crank was built without MPI\n");
        return 77;
    }
    execlp("mpirun", "mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", name, (char *)NULL);
    printf("skipped: no mpirun\n");
    return 77;
}

int main(int argc, char **argv)
{
    (void)argc;
    const char *wanted = getenv("CRANK_TEST_DEVICE");
    bool        cpu = wanted && !strcmp(wanted, "cpu");
    char        name[32];
    name_plugin("CRANK_MPI_PLUGIN", "libcrank-mpi.so");
    name_plugin("CRANK_CUDA_PLUGIN", "libcrank-cuda.so");
    if (!getenv("OMPI_COMM_WORLD_SIZE")) return start_two(argv[0], cpu);
    context = crank_context_new();
    if (!context || dist_open(context, &processes) != CRANK_OK) {
        fprintf(stderr, "%s\n", context ? crank_message(context) : "no context");
        return 1;
    }
    snprintf(name, sizeof name, "cuda:%d", processes.local_rank);
    group = dist_device_group(&processes, 60);
    device = crank_device_open(context, &(crank_device_options){.name = cpu ? "cpu" : name});
    if (!device || device->join(context, device, &group) != CRANK_OK) {
        fprintf(stderr, "%s\n", crank_message(context));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_those_of_the_host_in_every_run),
        cmocka_unit_test(broadcasts_gather_what_each_owns),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device->close(device);
    if (!failed && dist_close(context, &processes) != CRANK_OK) return 1;
    crank_context_free(context);
    return failed;
}
