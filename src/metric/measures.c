/* measures.c - the list of measures, in the order in which they are printed. */
#include <string.h>

#include "metric/metric.h"

extern const measure measure_runid, measure_num_q, measure_num_ret, measure_num_rel, measure_num_rel_ret, measure_map, measure_gm_map,
    measure_r_precision, measure_bpref, measure_recip_rank, measure_iprec_at_recall, measure_precision, measure_relstring, measure_recall,
    measure_inf_ap, measure_gm_bpref, measure_rprec_mult, measure_utility, measure_eleven_points, measure_bin_g, measure_g, measure_dcg,
    measure_ideal_dcg, measure_ndcg, measure_ndcg_rel, measure_r_ndcg, measure_ndcg_cut, measure_ndcg_p, measure_map_cut, measure_relative_p,
    measure_success, measure_set_p, measure_set_relative_p, measure_set_recall, measure_set_map, measure_set_f, measure_num_nonrel,
    measure_yaap, measure_rbp, measure_rbp_resid, measure_unjudged, measure_ndcg_exp, measure_ndcg_exp_cut, measure_err, measure_mrr_cut,
    measure_judged_cut;

const measure *const metric_measures[] = {
    &measure_runid,
    &measure_num_q,
    &measure_num_ret,
    &measure_num_rel,
    &measure_num_rel_ret,
    &measure_map,
    &measure_gm_map,
    &measure_r_precision,
    &measure_bpref,
    &measure_recip_rank,
    &measure_iprec_at_recall,
    &measure_precision,
    &measure_relstring,
    &measure_recall,
    &measure_inf_ap,
    &measure_gm_bpref,
    &measure_rprec_mult,
    &measure_utility,
    &measure_eleven_points,
    &measure_bin_g,
    &measure_g,
    &measure_dcg,
    &measure_ideal_dcg,
    &measure_ndcg,
    &measure_ndcg_rel,
    &measure_r_ndcg,
    &measure_ndcg_cut,
    &measure_ndcg_p,
    &measure_map_cut,
    &measure_relative_p,
    &measure_success,
    &measure_set_p,
    &measure_set_relative_p,
    &measure_set_recall,
    &measure_set_map,
    &measure_set_f,
    &measure_num_nonrel,
    &measure_yaap,
    &measure_rbp,
    &measure_rbp_resid,
    &measure_unjudged,
    &measure_ndcg_exp,
    &measure_ndcg_exp_cut,
    &measure_err,
    &measure_mrr_cut,
    &measure_judged_cut,
    NULL,
};

const measure *metric_measure_find(const char *name, size_t length)
{
    for (const measure *const *m = metric_measures; *m; m++)
        if (strlen((*m)->name) == length && !memcmp((*m)->name, name, length)) return *m;
    return NULL;
}
