/* Gradients: the recorded reverse of every operation is the derivative of its forward pass, for all kinds, broadcast
 * shapes, odd sizes, strided operands and missing optional operands. */
#include "graph/ops/op.h"

#include "graph/gradcases_elementwise.h"
#include "graph/gradcases_matmul.h"
#include "graph/gradcases_segment.h"
#include "graph/gradcases_shape.h"
#include "graph/gradcases_sparse.h"
#include "graph/gradcases_transformer.h"

typedef struct gradient_case {
    const char *op; /* whose gradient is checked: it must be in the graph */
    gradcheck_record *record;
    int kinds;
} gradient_case;

static const gradient_case cases[] = {
    {"reshape", reshape_case, 4},
    {"slice", slice_case, 6},
    {"transpose", transpose_case, 4},
    {"broadcast", broadcast_case, 3},
    {"copy", copy_case, 2},
    {"concat", concat_case, 3},
    {"pad", pad_case, 3},
    {"fill", fill_case, 4},
    {"binary", binary_case, OPERAND_PAIRS *(CRANK_POW + 1)},
    {"binary", square_case, CRANK_POW + 1},
    {"binary", zero_power_case, 2},
    {"binary", step_case, 4},
    {"where", where_case, OPERAND_PAIRS},
    {"affine", affine_case, 2},
    {"unary", unary_case, 2 * (CRANK_COS + 1)},
    {"reduce", reduce_case, 8 * (CRANK_SUM_SQUARES + 1)},
    {"reduce", reduce_view_case, CRANK_SUM_SQUARES + 1},
    {"softmax", softmax_case, 6},
    {"matmul", matmul_case, 4 * BATCHES * 3},
    {"matmul", matmul_view_case, 9},
    {"gather_rows", gather_rows_case, 3},
    {"scatter_rows", scatter_rows_case, 1},
    {"pick", pick_case, 2},
    {"unpick", unpick_case, 1},
    {"segment_pool", segment_pool_case, 6},
    {"segment_pool_backward", segment_pool_twice_case, 3},
    {"sparse_matmul", sparse_matmul_case, 4},
    {"sparse_sample", sparse_sample_case, 1},
    {"rmsnorm", rmsnorm_case, 5},
    {"layernorm", layernorm_case, 20},
    {"layernorm", residual_norm_case, 6},
    {"rope", rope_case, 8},
    {"attention", attention_case, 12},
    {"glu", glu_case, 4},
    {"scale_columns", scale_columns_case, 3},
    {"glu_scaled", glu_scaled_case, 3},
    {"head_logprob", head_logprob_case, HEADS},
    {"head_cross_entropy", head_cross_entropy_case, 4 * HEADS},
    {"dropout", dropout_case, 2},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Operations without a reverse: the reverse ones themselves, what changes state, and generation over a cache. */
static const char *const without_gradient[] = {
    "top_k",
    "dequantize",
    "quantize_rows", /* rounding: gradients pass as they are (test_quantized) */
    "scaled_matmul",
    "scale_columns_backward",
    "glu_scaled_backward",
    "matmul_augmented", /* made by the plan, behind all gradients */
    "eigh",
    "unary_backward",
    "softmax_backward",
    "rmsnorm_backward",
    "layernorm_backward",
    "attention_backward",
    "glu_backward",
    "head_logprob_backward",
    "attention_cached",
    "cache_write",
    "adamw",
    "adamw8bit",
    "sgd",
    "lion",
    "assign",
    "clip_scale",
    "check_finite", "group_sum", "group_broadcast", "group_wait", "group_settle",
};

typedef struct search {
    const char *op;
    bool found;
} search;

/* Rows of a product's operands are dense and do not overlap, whatever view came in. */
static void check_layout(const crank_node *node)
{
    for (int j = 0; !strcmp(node->op->name, "matmul") && j < 4; j++) {
        const crank_tensor *x = node->inputs[j];
        if (!x || x->rank < 2) continue;
        assert_int_equal(x->strides[x->rank - 1], 1);
        assert_true(x->dims[x->rank - 2] == 1 || x->strides[x->rank - 2] >= x->dims[x->rank - 1]);
    }
}

static void visit(const crank_graph *graph, void *user)
{
    search *wanted = user;
    for (int i = 0; i < graph->node_count; i++) {
        wanted->found |= !strcmp(graph->nodes[i]->op->name, wanted->op);
        check_layout(graph->nodes[i]);
    }
}

/* The head's cross-entropy without anything that is trained has no gradient to check. */
static bool all_frozen(const gradient_case *c, int kind)
{
    bool head = c->record == head_logprob_case || c->record == head_cross_entropy_case;
    return head && heads[kind % HEADS].x && heads[kind % HEADS].w &&
           (heads[kind % HEADS].bias || heads[kind % HEADS].missing);
}

static void check_cases(int first, int last)
{
    for (int i = first; i < last; i++) {
        search wanted = {cases[i].op, false};
        for (int kind = 0; kind < cases[i].kinds; kind++)
            if (!all_frozen(&cases[i], kind)) gradcheck_run(cases[i].op, cases[i].record, kind, visit, &wanted);
        if (!wanted.found) fail_msg("the case of %s records no such operation", cases[i].op);
    }
}

static int first_case(const char *op)
{
    int i = 0;
    while (i < CASES && strcmp(cases[i].op, op)) i++;
    return i;
}

static void views_and_copies(void **state)
{
    (void)state;
    check_cases(0, first_case("binary"));
}
static void elementwise(void **state)
{
    (void)state;
    check_cases(first_case("binary"), first_case("reduce"));
}
static void reductions_and_softmax(void **state)
{
    (void)state;
    check_cases(first_case("reduce"), first_case("matmul"));
}
static void products_and_gathers(void **state)
{
    (void)state;
    check_cases(first_case("matmul"), first_case("rmsnorm"));
}
static void norms(void **state)
{
    (void)state;
    check_cases(first_case("rmsnorm"), first_case("rope"));
}
static void transformer_pieces(void **state)
{
    (void)state;
    check_cases(first_case("rope"), first_case("head_logprob"));
}
static void heads_and_dropout(void **state)
{
    (void)state;
    check_cases(first_case("head_logprob"), CASES);
}

static void every_operation_has_a_gradient_test_or_none_to_test(void **state)
{
    (void)state;
    for (int i = 0; op_at(i); i++) {
        const char *name = op_at(i)->name;
        bool tested = first_case(name) < CASES, exempt = false;
        for (size_t k = 0; k < sizeof without_gradient / sizeof *without_gradient; k++)
            exempt |= !strcmp(without_gradient[k], name);
        if (tested == exempt)
            fail_msg("%s: %s", name,
                     tested ? "tested, and listed as having no gradient" : "its gradient is not tested");
        assert_ptr_equal(op_find(name), op_at(i));
        if (op_at(i)->state) assert_null(op_at(i)->gradient);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_and_copies),
        cmocka_unit_test(elementwise),
        cmocka_unit_test(reductions_and_softmax),
        cmocka_unit_test(products_and_gathers),
        cmocka_unit_test(norms),
        cmocka_unit_test(transformer_pieces),
        cmocka_unit_test(heads_and_dropout),
        cmocka_unit_test(every_operation_has_a_gradient_test_or_none_to_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
