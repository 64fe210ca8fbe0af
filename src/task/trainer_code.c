/* trainer_code.c - what the graphs of a trainer take on a host beside their values: nodes, views and slots, and the code that distinct products
 * are compiled to. The plan counts it; measured over optimisers that record few nodes (adamw) and many (galore, fira). */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "graph/ops/op.h"
#include "task/trainer_graph.h"

enum { NODE = 1600, PRODUCT = 560 << 10, USUAL_PRODUCTS = 12 /* those of a model trained by AdamW are in the program's own share (session.c) */ };

/* Products that share compiled code. */
typedef struct product {
    int64_t m, n, k;
    int64_t flags;
    double  alpha;
} product;

static product product_of(const crank_node *node)
{
    const crank_matmul_attributes *a = &((const matmul_attributes *)node->attributes)->matmul;
    const crank_tensor            *x = node->inputs[0], *y = node->inputs[1], *out = node->outputs[0];
    product                        p;
    memset(&p, 0, sizeof p); /* compared as bytes */
    p.m = out->rank > 1 ? out->dims[out->rank - 2] : 1, p.n = out->dims[out->rank - 1];
    p.k = x->rank > 1 ? x->dims[a->trans_a ? x->rank - 2 : x->rank - 1] : 1;
    p.flags = a->trans_a + 2 * a->trans_b + 4 * (node->inputs[2] != NULL) + 8 * (node->inputs[3] != NULL) + 16 * (int)x->dtype + 256 * (int)y->dtype + 4096 * (int)out->dtype;
    p.alpha = a->alpha;
    return p;
}

static int by_bytes(const void *a, const void *b) { return memcmp(a, b, sizeof(product)); }

size_t trainer_code(const task_trainer *trainer)
{
    size_t nodes = 0, products = 0, distinct = 0;
    for (const shaped *shape = trainer->graphs; shape; shape = shape->next) nodes += (size_t)shape->graph->node_count;
    product *all = malloc((nodes + 1) * sizeof *all);
    if (!all) return nodes * NODE;
    for (const shaped *shape = trainer->graphs; shape; shape = shape->next)
        for (int i = 0; i < shape->graph->node_count; i++) {
            const crank_node *node = shape->graph->nodes[i];
            if (node->op == &op_matmul && node->outputs[0] && node->outputs[0]->rank) all[products++] = product_of(node);
        }
    qsort(all, products, sizeof *all, by_bytes);
    for (size_t i = 0; i < products; i++) distinct += i == 0 || by_bytes(&all[i - 1], &all[i]) != 0;
    free(all);
    return nodes * NODE + (distinct > USUAL_PRODUCTS ? (distinct - USUAL_PRODUCTS) * PRODUCT : 0);
}

size_t trainer_observed(const task_trainer *trainer)
{
    size_t most = 0;
    for (int i = 0; i < trainer->unit_count; i++) {
        const crank_unit *unit = &trainer->units[i];
        size_t            count = unit->optimizer->observe && unit->probe ? (size_t)crank_view_count(&unit->param->view) : 0;
        most = count > most ? count : most;
    }
    return most * (2 * sizeof(float) + 4 * sizeof(double));
}
