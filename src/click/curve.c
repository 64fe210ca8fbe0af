/* curve.c - examination curves: their file, clicks of randomised sessions, and relevance from weighted clicks. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "click/click.h"

click_curve *click_curve_new(crank_context *context, int64_t contexts, int64_t places)
{
    click_curve *curve = crank_alloc(context, 1, sizeof *curve, "an examination curve");
    if (!curve) return NULL;
    *curve = (click_curve){contexts, places, crank_alloc(context, (size_t)(contexts * places) + 1, sizeof *curve->value, "an examination curve")};
    if (curve->value) return curve;
    crank_free(curve);
    return NULL;
}

void click_curve_free(click_curve *curve)
{
    if (!curve) return;
    crank_free(curve->value);
    crank_free(curve);
}

double click_curve_at(const click_curve *curve, int64_t group, int64_t place)
{
    if (group >= curve->contexts) group = 0;
    if (place >= curve->places) place = curve->places - 1;
    return fmax(curve->value[group * curve->places + place], 1e-6);
}

char *click_curve_text(crank_context *context, const click_curve *curve)
{
    json_t *root = json_object(), *all = json_array();
    for (int64_t g = 0; root && all && g < curve->contexts; g++) {
        json_t *one = json_array();
        for (int64_t i = 0; one && i < curve->places; i++) json_array_append_new(one, json_real(curve->value[g * curve->places + i]));
        json_array_append_new(all, one);
    }
    if (root) json_object_set_new(root, "propensity", all);
    char *text = root ? json_text(context, root, 0) : NULL;
    json_decref(root);
    return text;
}

crank_status click_curve_write(crank_context *context, const char *path, const click_curve *curve)
{
    char        *text = click_curve_text(context, curve);
    crank_status status = text ? file_write_text(context, path, text) : CRANK_FAILED;
    crank_free(text);
    return status;
}

static click_curve *read_lists(crank_context *context, const char *path, const json_t *root)
{
    const json_t *all = json_object_get(root, "propensity"), *first = json_array_get(all, 0);
    bool          nested = json_is_array(first);
    int64_t       contexts = nested ? (int64_t)json_array_size(all) : 1, places = (int64_t)json_array_size(nested ? first : all);
    if (!json_is_array(all) || contexts < 1 || contexts > CLICK_MOST_CONTEXTS || places < 1 || places > CLICK_MOST_PLACES) {
        crank_fail(context, CRANK_BAD_DATA, "%s: \"propensity\" is a list of 1 to %d numbers, or a list of such lists, at most %d", path, CLICK_MOST_PLACES, CLICK_MOST_CONTEXTS);
        return NULL;
    }
    click_curve *curve = click_curve_new(context, contexts, places);
    for (int64_t g = 0; curve && g < contexts; g++)
        for (int64_t i = 0; curve && i < places; i++) {
            const json_t *one = nested ? json_array_get(all, (size_t)g) : all, *value = json_array_get(one, (size_t)i);
            double        p = json_number_value(value);
            if (json_is_array(one) && (int64_t)json_array_size(one) == places && json_is_number(value) && p > 0 && isfinite(p)) {
                curve->value[g * places + i] = p;
                continue;
            }
            crank_fail(context, CRANK_BAD_DATA, "%s: curve %lld, place %lld: a propensity is a number above 0, and all curves are of one length", path, (long long)g + 1, (long long)i + 1);
            click_curve_free(curve);
            curve = NULL;
        }
    return curve;
}

click_curve *click_curve_read(crank_context *context, const char *path)
{
    json_t      *root = json_read(context, path);
    click_curve *curve = root ? read_lists(context, path, root) : NULL;
    json_decref(root);
    return curve;
}

click_curve *click_curve_of_random(crank_context *context, const click_log *log)
{
    click_curve *curve = click_curve_new(context, log->contexts, log->places);
    double      *shown = crank_alloc(context, (size_t)(log->contexts * log->places) + 1, sizeof *shown, "counts");
    for (int64_t s = 0; curve && shown && s < log->sessions; s++)
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            int64_t k = log->context[s] * log->places + log->place[i];
            shown[k]++;
            curve->value[k] += log->click[i];
        }
    for (int64_t g = 0; curve && shown && g < log->contexts; g++) {
        double *v = curve->value + g * log->places, first = shown[g * log->places] > 0 ? v[0] / shown[g * log->places] : 0;
        for (int64_t i = 0; i < log->places; i++) {
            double rate = shown[g * log->places + i] > 0 ? v[i] / shown[g * log->places + i] : 0;
            v[i] = first > 0 ? fmax(rate / first, 1e-6) : 1;
        }
    }
    crank_free(shown);
    return curve;
}

crank_status click_rates(crank_context *context, const click_log *log, const click_curve *curve, double most, float *relevance)
{
    double *sums = crank_alloc(context, 2 * (size_t)log->items + 1, sizeof *sums, "sums of clicks"), *shown = sums ? sums + log->items : NULL;
    if (!sums) return CRANK_FAILED;
    for (int64_t s = 0; s < log->sessions; s++)
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            double weight = curve ? click_curve_at(curve, log->context[s], 0) / click_curve_at(curve, log->context[s], log->place[i]) : 1;
            if (most > 0 && weight > most) weight = most;
            shown[log->item[i]]++;
            if (log->click[i]) sums[log->item[i]] += weight;
        }
    for (int64_t k = 0; k < log->items; k++) relevance[k] = shown[k] > 0 ? (float)(sums[k] / shown[k]) : 0;
    crank_free(sums);
    return CRANK_OK;
}
