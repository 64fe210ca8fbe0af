/* significance.c - paired tests over topics, d_i = b_i - a_i.
 *
 *     Student     t = mean(d) / (s / sqrt(n)), p = I_{v/(v+t^2)}(v/2, 1/2), v = n - 1 (incomplete beta by Lentz's continued fraction)
 *     Wilcoxon    W+ = sum of ranks of |d_i| with d_i > 0, zeros left out, ties share their mean rank; exact distribution for n <= 25
 *                 without ties, else the normal one with the tie correction and without a continuity correction
 *     Fisher      share of sign patterns with |sum of +-d_i| >= |sum of d_i|; all 2^n, or drawn ones: (1 + hits) / (1 + rounds) */
#include "metric/significance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/random.h"

static double continued_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double       c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m <= 10000; m++) {
        for (int odd = 0; odd < 2; odd++) {
            double term = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            h *= d * c;
        }
        if (fabs(d * c - 1) < 1e-15) break;
    }
    return h;
}

static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

static double incomplete_beta(double a, double b, double x)
{
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * continued_fraction(a, b, x) / a : 1 - front * continued_fraction(b, a, 1 - x) / b;
}

static void student(const double *d, int64_t n, paired_tests *r)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) mean += d[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) squares += (d[i] - mean) * (d[i] - mean);
    r->difference = mean;
    r->t = 0;
    r->student = 1;
    if (n < 2 || (squares == 0 && mean == 0)) return;
    double v = (double)(n - 1);
    r->t = mean / sqrt(squares / v / (double)n);
    r->student = isinf(r->t) ? 0 : incomplete_beta(v / 2, 0.5, v / (v + r->t * r->t));
}

static int by_size(const void *left, const void *right)
{
    double a = fabs(*(const double *)left), b = fabs(*(const double *)right);
    return (a > b) - (a < b);
}

/* P(W+ <= w) twice, from the number of subsets of 1..n with each sum. */
static double wilcoxon_exact(int64_t n, double w)
{
    double  ways[326] = { 1 }, below = 0, all = exp2((double)n);
    int64_t top = n * (n + 1) / 2;
    for (int64_t k = 1; k <= n; k++)
        for (int64_t s = top; s >= k; s--) ways[s] += ways[s - k];
    for (int64_t s = 0; s <= (int64_t)w; s++) below += ways[s];
    return fmin(1, 2 * below / all);
}

/* d is sorted by |d| in place. */
static double wilcoxon(double *d, int64_t n)
{
    int64_t zeros = 0, m;
    double  plus = 0, ties = 0;
    qsort(d, (size_t)n, sizeof *d, by_size);
    while (zeros < n && d[zeros] == 0) zeros++;
    d += zeros;
    m = n - zeros;
    if (!m) return 1;
    for (int64_t i = 0, j; i < m; i = j) {
        for (j = i + 1; j < m && fabs(d[j]) == fabs(d[i]);) j++;
        double same = (double)(j - i), rank = (double)(i + 1 + j) / 2;
        ties += same * same * same - same;
        for (int64_t k = i; k < j; k++) plus += d[k] > 0 ? rank : 0;
    }
    double count = (double)m, whole = count * (count + 1) / 2;
    if (m <= 25 && ties == 0) return wilcoxon_exact(m, fmin(plus, whole - plus));
    double variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48;
    return variance > 0 ? erfc(fabs(plus - whole / 2) / sqrt(variance) / sqrt(2)) : 1;
}

static double fisher(const double *d, int64_t n, int64_t rounds, uint64_t seed)
{
    double sum = 0, slack = 0;
    for (int64_t i = 0; i < n; i++) sum += d[i], slack += fabs(d[i]);
    double  threshold = fabs(sum) - 1e-12 * slack; /* sums in another order differ in their last bits */
    int64_t hits = 0;
    bool    all = n < 40 && (INT64_C(1) << n) <= rounds;
    int64_t count = all ? INT64_C(1) << n : rounds;
    for (int64_t k = 0; k < count; k++) {
        double       drawn = 0;
        crank_stream stream = crank_stream_make(seed, CRANK_RANDOM_DATA, (uint32_t)k);
        uint32_t     bits = 0;
        for (int64_t i = 0; i < n; i++) {
            if (!all && i % 32 == 0) bits = crank_draw_bits(stream, (uint64_t)(i / 32));
            bool minus = all ? k >> i & 1 : bits >> (i % 32) & 1;
            drawn += minus ? -d[i] : d[i];
        }
        hits += fabs(drawn) >= threshold;
    }
    return all ? (double)hits / (double)count : (double)(hits + 1) / (double)(count + 1);
}

crank_status paired_compare(crank_context *context, const double *a, const double *b, int64_t n, int64_t rounds, uint64_t seed, paired_tests *result)
{
    double *d = crank_alloc(context, (size_t)n + 1, sizeof *d, "differences of topics");
    if (!d) return CRANK_FAILED;
    for (int64_t i = 0; i < n; i++) d[i] = b[i] - a[i];
    student(d, n, result);
    result->fisher = n ? fisher(d, n, rounds, seed) : 1;
    result->wilcoxon = wilcoxon(d, n);
    crank_free(d);
    return CRANK_OK;
}

typedef struct place { double p; int64_t at; } place;

static int by_p(const void *left, const void *right)
{
    const place *a = left, *b = right;
    return a->p < b->p ? -1 : a->p > b->p ? 1 : a->at < b->at ? -1 : a->at > b->at;
}

crank_status holm(crank_context *context, double *p, int64_t n)
{
    place *places = crank_alloc(context, (size_t)n + 1, sizeof *places, "p-values");
    if (!places) return CRANK_FAILED;
    for (int64_t i = 0; i < n; i++) places[i] = (place){ p[i], i };
    qsort(places, (size_t)n, sizeof *places, by_p);
    double highest = 0;
    for (int64_t i = 0; i < n; i++) {
        highest = fmax(highest, fmin(1, (double)(n - i) * places[i].p));
        p[places[i].at] = highest;
    }
    crank_free(places);
    return CRANK_OK;
}
