/* profile.c - what a graph costs: the roofline table by operation, and the listing of every node. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

typedef struct row {
    char        name[48]; /* of the operation; products by their shape: "matmul 512x1536x384+" is m x n x k, added to another tensor */
    const char *body;
    int         nodes;
    int64_t     calls;
    double      flops, bytes, seconds;
} row;

void crank_graph_profile(crank_graph *graph, bool on)
{
    graph->profile = on;
    for (int i = 0; i < graph->step_count; i++) graph->steps[i].seconds = 0, graph->steps[i].calls = 0, graph->steps[i].warm = false;
}

/* Bytes that one run of a node moves at least: every operand and result once. */
static double node_bytes(const crank_node *node)
{
    double bytes = 0;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]) bytes += (double)tensor_bytes(node->inputs[i]);
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) bytes += (double)tensor_bytes(node->outputs[i]);
    return bytes;
}

static int by_seconds(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static void name_row(const crank_node *node, char name[48])
{
    const crank_tensor *a = node->inputs[0], *c = node->outputs[0];
    if (strcmp(node->op->name, "matmul") || c->rank < 2) {
        snprintf(name, 48, "%s", node->op->name);
        return;
    }
    int64_t k = a->dims[a->rank - (((const crank_matmul_attributes *)node->attributes)->trans_a ? 2 : 1)];
    snprintf(name, 48, "matmul %lldx%lldx%lld%s", (long long)c->dims[c->rank - 2], (long long)c->dims[c->rank - 1], (long long)k,
             node->input_count > 3 && node->inputs[3] ? "+" : "");
}

static int collect(const crank_graph *graph, row *rows)
{
    int count = 0;
    for (int i = 0; i < graph->step_count; i++) {
        const graph_step *step = &graph->steps[i];
        int               k = 0;
        char              name[48];
        name_row(step->node, name);
        while (k < count && (strcmp(rows[k].name, name) || strcmp(rows[k].body, step->body.name))) k++;
        if (k == count) {
            rows[count] = (row){.body = step->body.name};
            memcpy(rows[count++].name, name, sizeof name);
        }
        int64_t runs = step->calls ? step->calls : 1;
        rows[k].nodes++;
        rows[k].calls += step->calls;
        rows[k].flops += (double)runs * (step->node->op->flops ? step->node->op->flops(step->node) : 0);
        rows[k].bytes += (double)runs * node_bytes(step->node);
        rows[k].seconds += step->seconds;
    }
    qsort(rows, (size_t)count, sizeof *rows, by_seconds);
    return count;
}

char *crank_graph_table(crank_graph *graph, double flop_rate, double byte_rate)
{
    row   *rows = calloc((size_t)graph->step_count + 1, sizeof *rows);
    char  *text = NULL;
    size_t length = 0;
    FILE  *out = rows ? open_memstream(&text, &length) : NULL;
    if (!out) {
        free(rows);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: a profile");
        return NULL;
    }
    int    count = collect(graph, rows);
    double total = 0, floor_total = 0;
    for (int i = 0; i < count; i++) total += rows[i].seconds;
    fprintf(out, "%-28s %-11s %6s %9s %9s %9s %6s %9s %8s %7s\n", "operation", "body", "nodes", "GFLOP", "GB", "ms", "share", "GFLOP/s",
            "GB/s", "roof");
    for (int i = 0; i < count; i++) {
        const row *r = &rows[i];
        double     by_flops = flop_rate > 0 ? r->flops / flop_rate : 0, by_bytes = byte_rate > 0 ? r->bytes / byte_rate : 0;
        double     least = by_flops > by_bytes ? by_flops : by_bytes;
        floor_total += least;
        fprintf(out, "%-28s %-11s %6d %9.3f %9.3f %9.3f %5.1f%% %9.1f %8.1f", r->name, r->body, r->nodes, r->flops * 1e-9, r->bytes * 1e-9,
                r->seconds * 1e3, total > 0 ? 100 * r->seconds / total : 0, r->seconds > 0 ? r->flops / r->seconds * 1e-9 : 0,
                r->seconds > 0 ? r->bytes / r->seconds * 1e-9 : 0);
        if (least > 0 && r->seconds > 0)
            fprintf(out, " %6.1f%%\n", 100 * least / r->seconds);
        else
            fprintf(out, " %7s\n", "-");
    }
    fprintf(out, "%-28s %-11s %6d %9s %9s %9.3f", "total", "", graph->step_count, "", "", total * 1e3);
    if (floor_total > 0 && total > 0) fprintf(out, " 100.0%% %9s %8s %6.1f%%", "", "", 100 * floor_total / total);
    fprintf(out, "\n");
    fclose(out);
    free(rows);
    return text;
}

static void print_operand(FILE *out, const crank_tensor *tensor)
{
    if (!tensor) {
        fprintf(out, " -");
        return;
    }
    fprintf(out, " %%%d:%s[", tensor->id, crank_dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++) fprintf(out, "%s%lld", i ? "," : "", (long long)tensor->dims[i]);
    fprintf(out, "]");
    const tensor_record *root = RECORD(tensor_root(tensor));
    if (root->public.name) fprintf(out, "=%s", root->public.name);
    if (root->home == HOME_ARENA && root->place >= 0) fprintf(out, "@%lld", (long long)root->place);
}

char *crank_graph_listing(crank_graph *graph)
{
    char  *text = NULL;
    size_t length = 0;
    FILE  *out = open_memstream(&text, &length);
    if (!out) {
        crank_fail(graph->context, CRANK_FAILED, "out of memory: a listing");
        return NULL;
    }
    for (int i = 0; i < graph->step_count; i++) {
        const crank_node *node = graph->steps[i].node;
        fprintf(out, "%4d %c%d %-22s %-10s", i, node->backward ? 'b' : 'f', node->block, node->op->name, graph->steps[i].body.name);
        for (int j = 0; j < node->input_count; j++) print_operand(out, node->inputs[j]);
        fprintf(out, " ->");
        for (int j = 0; j < node->output_count; j++) print_operand(out, node->outputs[j]);
        fprintf(out, "\n");
    }
    fclose(out);
    return text;
}
